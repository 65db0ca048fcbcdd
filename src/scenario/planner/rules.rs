//! The rules between fields.

use std::path::Path;

use serde_json::{Map, Value};

use crate::workload::{Interval, intervals};

use super::config::{
    DiagnosticsConfig, PlannerConfig, PlannerMode, PredictorConfig, PredictorKind, RegressionConfig, Target, Thresholds,
};
use super::fields::{Fields, Mode, PREDICTORS};
use super::read::Reader;
use crate::text::nearest;

/// Defaults that a target without bounds is warned about when they were changed.
const DEFAULT_BOUNDS_MS: (f64, f64) = (500.0, 50.0);

/// Checks what was read; nothing when a field the result needs was faulty. Faults are noted with `r`.
pub(super) fn check(
    f: Fields,
    given: &Map<String, Value>,
    base: &Path,
    r: &mut Reader,
    warnings: &mut Vec<String>,
) -> Option<PlannerConfig> {
    let target = f.target;
    let easy = target.is_some_and(Target::is_easy);
    let throughput = if easy { Some(false) } else { f.throughput_scaling };
    let load = if easy { Some(true) } else { f.load_scaling };

    let mode = mode(&f, r);
    let (queue_tokens, kv_share) = thresholds(&f, r);
    environment(&f, r);
    let regression = regression(&f, r);
    let predictor = predictor(&f, throughput, base, r);
    let tick_s = tick_s(&f, throughput, load, r);
    if let (Some(bounds), true) = (f.ttft_ms.zip(f.itl_ms), easy)
        && bounds != DEFAULT_BOUNDS_MS
    {
        let name = target.map_or("", Target::name);
        warnings.push(format!(
            "optimization_target \"{name}\" does not look at `ttft_ms` and `itl_ms`; \"sla\" would keep them."
        ));
    }
    Some(PlannerConfig {
        mode: mode?,
        target: target?,
        throughput_scaling: throughput?,
        load_scaling: load?,
        throughput_interval_s: f.throughput_interval? as f64,
        load_interval_s: f.load_interval? as f64,
        tick_s: tick_s?,
        ttft_ms: f.ttft_ms?,
        itl_ms: f.itl_ms?,
        max_gpus: f.max_gpus?,
        min_gpus: f.min_gpus?,
        min_endpoint: f.min_endpoint?,
        prefill_gpus: f.prefill_gpus?.unwrap_or(0),
        decode_gpus: f.decode_gpus?.unwrap_or(0),
        down_sensitivity: f.sensitivity?,
        benchmark_granularity: 8,
        queue_tokens,
        kv_share,
        speculative_nextn: u32::try_from(f.nextn?).unwrap_or(u32::MAX),
        predictor: predictor?,
        regression: regression?,
        diagnostics: DiagnosticsConfig {
            enabled: f.report_hours?.is_some() || f.dashboard_port? != 0,
            folder: f.report_dir?.into(),
            file: f.report_file?,
            log: f.report_log?,
        },
        given: given.clone(),
    })
}

fn mode(f: &Fields, r: &mut Reader) -> Option<PlannerMode> {
    match f.mode? {
        Mode::Agg => Some(PlannerMode::Aggregated),
        Mode::Disagg => Some(PlannerMode::Disaggregated),
        mode => {
            let word = if mode == Mode::Prefill { "prefill" } else { "decode" };
            r.fault("mode", format!("is \"{word}\", a single pool of a larger deployment"), "use agg or disagg");
            None
        }
    }
}

/// Thresholds of target `load`, each pair there and in order where its pool exists.
fn thresholds(f: &Fields, r: &mut Reader) -> (Option<Thresholds>, Option<Thresholds>) {
    let (Some(Target::Load), Some(mode)) = (f.target, f.mode) else { return (None, None) };
    let mut pair = |needed: bool, names: [&str; 2], up: Option<Option<f64>>, down: Option<Option<f64>>| {
        if !needed {
            return None;
        }
        let (up, down) = (up?, down?);
        for (name, value) in names.iter().zip([up, down]) {
            if value.is_none() {
                r.fault(name, "is missing", "give it; optimization_target \"load\" decides by it");
            }
        }
        let (up, down) = (up?, down?);
        if up <= down {
            r.fault(names[0], format!("is {up}, not above `{}` {down}", names[1]), "give a higher one");
            return None;
        }
        Some(Thresholds { up, down })
    };
    let tokens = |value: Option<Option<i64>>| value.map(|value| value.map(|n| n as f64));
    let queue = pair(
        mode.has_prefill(),
        ["prefill_scale_up_queue_tokens", "prefill_scale_down_queue_tokens"],
        tokens(f.queue_up),
        tokens(f.queue_down),
    );
    let kv = pair(mode.has_decode(), ["decode_scale_up_kv_rate", "decode_scale_down_kv_rate"], f.kv_up, f.kv_down);
    (queue, kv.map(|percent| Thresholds { up: percent.up / 100.0, down: percent.down / 100.0 }))
}

fn environment(f: &Fields, r: &mut Reader) {
    let named = f.global_namespace.as_ref().is_none_or(|name| name.as_ref().is_some_and(|text| !text.is_empty()));
    if f.global && !named {
        r.fault("global_planner_namespace", "is missing", "give it, or another `environment`");
    }
    if let (Some(perf), Some(mode)) = (f.perf_model, f.mode) {
        for (needed, there, name) in
            [(mode.has_prefill(), perf.prefill, "prefill_pick"), (mode.has_decode(), perf.decode, "decode_pick")]
        {
            if needed && !there {
                r.fault(&format!("aic_perf_model.{name}"), "is missing", "give its parallel sizes");
            }
        }
    }
}

fn regression(f: &Fields, r: &mut Reader) -> Option<RegressionConfig> {
    let buckets = f.buckets.and_then(|n| match usize::try_from(n) {
        Ok(size) if size > 0 && size.isqrt().pow(2) == size => Some(size),
        _ => {
            r.fault("fpm_sample_bucket_size", format!("is {n}"), "give a square number, such as 16");
            None
        }
    });
    let (samples, least) = (f.max_samples?, f.min_observations?);
    let mut count = |name: &str, n: i64| match usize::try_from(n) {
        Ok(n) if n > 0 => Some(n),
        _ => {
            r.fault(name, format!("is {n}"), "give at least 1");
            None
        }
    };
    let (max_samples, min_observations) =
        (count("max_num_fpm_samples", samples), count("load_min_observations", least));
    let (max_samples, min_observations) = (max_samples?, min_observations?);
    if max_samples < min_observations {
        let cause = format!("is {max_samples}, fewer than `load_min_observations` {min_observations}");
        r.fault("max_num_fpm_samples", cause, "give more, or nothing can ever be fitted");
        return None;
    }
    Some(RegressionConfig { max_samples, buckets: buckets?, min_observations })
}

fn predictor(f: &Fields, throughput: Option<bool>, base: &Path, r: &mut Reader) -> Option<PredictorConfig> {
    let name = f.predictor.as_ref()?;
    let known = PREDICTORS.iter().find(|(word, _)| word == name).map(|(_, kind)| *kind);
    if known.is_none() && throughput == Some(true) {
        let words = PREDICTORS.map(|(word, _)| word);
        let cure = match nearest(name, words) {
            Some(word) => format!("did you mean {word}?"),
            None => format!("use {}", words.join(" or ")),
        };
        r.fault("load_predictor", format!("is \"{name}\""), cure);
    }
    let warmup = match (f.warmup_trace.as_ref()?, f.throughput_interval) {
        (Some(path), Some(seconds)) if seconds > 0 => warmup(&base.join(path), seconds as f64, r),
        _ => Vec::new(),
    };
    let [kalman_q_level, kalman_q_trend, kalman_r] = f.kalman?;
    let window = f.prophet_window?;
    let prophet_window = usize::try_from(window).unwrap_or(0);
    if prophet_window == 0 {
        r.fault("prophet_window_size", format!("is {window}"), "give at least 1");
    }
    Some(PredictorConfig {
        // One that the loop which would ask it does not run is never asked.
        kind: known.unwrap_or(PredictorKind::Constant),
        log1p: f.log1p?,
        prophet_window,
        kalman_q_level,
        kalman_q_trend,
        kalman_r,
        warmup,
    })
}

/// The intervals of the trace at `path`, read even if no loop will use them, as the live planner does.
fn warmup(path: &Path, seconds: f64, r: &mut Reader) -> Vec<Interval> {
    intervals(path, seconds).unwrap_or_else(|error| {
        let (text, cure) = (error.to_string(), error.cure());
        let cause = text.strip_suffix(cure).map_or(text.as_str(), |text| text.trim_end_matches("; "));
        r.fault("load_predictor_warmup_trace", cause, cure);
        Vec::new()
    })
}

/// Seconds between ticks, once the periods of the loops fit together.
fn tick_s(f: &Fields, throughput: Option<bool>, load: Option<bool>, r: &mut Reader) -> Option<f64> {
    let (throughput, load) = (throughput?, load?);
    if !throughput && !load {
        r.fault("enable_load_scaling", "is false, and so is `enable_throughput_scaling`", "switch on at least one");
    }
    let (slow, fast) = (f.throughput_interval, f.load_interval?);
    let mut periods = vec![fast];
    if throughput {
        let slow = slow?;
        if slow <= 0 {
            r.fault("throughput_adjustment_interval_seconds", format!("is {slow}"), "give seconds above zero");
            return None;
        }
        if load && fast >= slow {
            let cause = format!("is {fast}, not shorter than `throughput_adjustment_interval_seconds` {slow}");
            r.fault("load_adjustment_interval_seconds", cause, "let the reacting loop be the faster one");
        }
        periods.push(slow);
    }
    let tick = f.tick?.unwrap_or_else(|| periods.iter().fold(0, |a, b| gcd(a, *b)) as f64);
    if let Some(period) = periods.into_iter().find(|period| !divides(tick, *period as f64)) {
        let cause = format!("is {tick}, which does not divide the adjustment interval of {period} s");
        r.fault("scheduling.scale_interval_seconds", cause, "give a divisor, or leave it out");
        return None;
    }
    Some(tick)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether `whole` is a multiple of `part`, but for rounding.
fn divides(part: f64, whole: f64) -> bool {
    const CLOSE: f64 = 1e-9;
    let ratio = whole / part;
    let off = (ratio - ratio.round_ties_even()).abs();
    off <= (CLOSE * ratio.abs().max(ratio.round_ties_even().abs())).max(CLOSE)
}
