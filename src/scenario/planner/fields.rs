//! Names, types and defaults of the fields.

use serde_json::{Map, Value};

use super::config::{PredictorKind, Target};
use super::read::Reader;

/// Modes of the live planner; a replay has the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Agg,
    Disagg,
    Prefill,
    Decode,
}

impl Mode {
    pub fn has_prefill(self) -> bool {
        matches!(self, Self::Disagg | Self::Prefill)
    }

    pub fn has_decode(self) -> bool {
        self != Self::Prefill
    }
}

/// Load predictors by name.
pub(super) const PREDICTORS: [(&str, PredictorKind); 4] = [
    ("constant", PredictorKind::Constant),
    ("arima", PredictorKind::Arima),
    ("kalman", PredictorKind::Kalman),
    ("prophet", PredictorKind::Prophet),
];

const PARALLEL: [&str; 5] = ["tp", "pp", "dp", "moe_tp", "moe_ep"];
const BACKENDS: [(&str, ()); 3] = [("trtllm", ()), ("vllm", ()), ("sglang", ())];
const THROUGHPUT_INTERVAL: [&str; 2] = ["throughput_adjustment_interval_seconds", "throughput_adjustment_interval"];
const LOAD_INTERVAL: [&str; 2] = ["load_adjustment_interval_seconds", "load_adjustment_interval"];

/// Every field name, aliases included.
pub(super) const KNOWN: &[&str] = &[
    "mode",
    "optimization_target",
    "enable_throughput_scaling",
    "enable_load_scaling",
    "throughput_adjustment_interval_seconds",
    "throughput_adjustment_interval",
    "load_adjustment_interval_seconds",
    "load_adjustment_interval",
    "ttft_ms",
    "ttft",
    "itl_ms",
    "itl",
    "max_gpu_budget",
    "min_gpu_budget",
    "min_endpoint",
    "prefill_engine_num_gpu",
    "decode_engine_num_gpu",
    "load_predictor",
    "load_predictor_log1p",
    "prophet_window_size",
    "load_predictor_warmup_trace",
    "kalman_q_level",
    "kalman_q_trend",
    "kalman_r",
    "kalman_min_points",
    "max_num_fpm_samples",
    "fpm_sample_bucket_size",
    "load_min_observations",
    "load_scaling_down_sensitivity",
    "prefill_scale_up_queue_tokens",
    "prefill_scale_down_queue_tokens",
    "decode_scale_up_kv_rate",
    "decode_scale_down_kv_rate",
    "speculative_nextn",
    "pre_deployment_sweeping_mode",
    "aic_perf_model",
    "aic_interpolation",
    "report_interval_hours",
    "report_output_dir",
    "report_filename",
    "report_write_gzip_log",
    "live_dashboard_port",
    "scheduling",
    "plugin_registration",
    "environment",
    "namespace",
    "backend",
    "log_dir",
    "profile_results_dir",
    "model_name",
    "global_planner_namespace",
    "metric_pulling_prometheus_endpoint",
    "metric_pulling_prometheus_token",
    "metric_pulling_prometheus_token_file",
    "metric_pulling_prometheus_ssl_verify",
    "metric_pulling_prometheus_extra_query_params",
    "metric_pulling_prometheus_ca_bundle",
    "metric_reporting_prometheus_port",
    "throughput_metrics_source",
    "advisory",
];

/// What was read; a field that was wrong is `None`, and its fault is noted.
pub(super) struct Fields {
    pub mode: Option<Mode>,
    pub target: Option<Target>,
    pub throughput_scaling: Option<bool>,
    pub load_scaling: Option<bool>,
    pub throughput_interval: Option<i64>,
    pub load_interval: Option<i64>,
    /// Seconds between ticks where the configuration says so.
    pub tick: Option<Option<f64>>,
    pub ttft_ms: Option<f64>,
    pub itl_ms: Option<f64>,
    pub max_gpus: Option<i64>,
    pub min_gpus: Option<i64>,
    pub min_endpoint: Option<i64>,
    pub prefill_gpus: Option<Option<i64>>,
    pub decode_gpus: Option<Option<i64>>,
    pub predictor: Option<String>,
    pub log1p: Option<bool>,
    pub prophet_window: Option<i64>,
    pub warmup_trace: Option<Option<String>>,
    pub kalman: Option<[f64; 3]>,
    pub max_samples: Option<i64>,
    pub buckets: Option<i64>,
    pub min_observations: Option<i64>,
    pub sensitivity: Option<i64>,
    pub queue_up: Option<Option<i64>>,
    pub queue_down: Option<Option<i64>>,
    pub kv_up: Option<Option<f64>>,
    pub kv_down: Option<Option<f64>>,
    pub nextn: Option<i64>,
    pub report_hours: Option<Option<f64>>,
    pub report_dir: Option<String>,
    pub report_file: Option<Option<String>>,
    pub report_log: Option<bool>,
    pub dashboard_port: Option<i64>,
    pub perf_model: Option<PerfModel>,
    pub global: bool,
    pub global_namespace: Option<Option<String>>,
}

/// Which picks of `aic_perf_model` are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct PerfModel {
    pub prefill: bool,
    pub decode: bool,
}

/// Reads every field, with its default where it is not given.
pub(super) fn read(r: &mut Reader) -> Fields {
    use PredictorKind::Arima;
    let modes = [("disagg", Mode::Disagg), ("prefill", Mode::Prefill), ("decode", Mode::Decode), ("agg", Mode::Agg)];
    let targets = [Target::Throughput, Target::Latency, Target::Load, Target::Sla].map(|t| (t.name(), t));
    let percent = |n: f64| (0.0..=100.0).contains(&n);
    let percent_words = "a number from 0 to 100, or null";
    irrelevant(r);
    let perf_model = perf_model(r);
    let environments = [("kubernetes", false), ("virtual", false), ("global-planner", true)];
    Fields {
        mode: r.choice("mode", Mode::Disagg, &modes),
        target: r.choice("optimization_target", Target::Throughput, &targets),
        throughput_scaling: r.flag(&["enable_throughput_scaling"], true),
        load_scaling: r.flag(&["enable_load_scaling"], false),
        throughput_interval: r.whole(&THROUGHPUT_INTERVAL, 180),
        load_interval: r.whole_from(&LOAD_INTERVAL, 5, 1),
        tick: scheduling(r),
        ttft_ms: r.positive(&["ttft_ms", "ttft"], 500.0),
        itl_ms: r.number(&["itl_ms", "itl"], 50.0),
        max_gpus: r.whole(&["max_gpu_budget"], 8),
        min_gpus: r.whole(&["min_gpu_budget"], -1),
        min_endpoint: r.whole(&["min_endpoint"], 1),
        prefill_gpus: r.whole_or_null(&["prefill_engine_num_gpu"], i64::MIN),
        decode_gpus: r.whole_or_null(&["decode_engine_num_gpu"], i64::MIN),
        predictor: r.text(&["load_predictor"], Arima.name()),
        log1p: r.flag(&["load_predictor_log1p"], false),
        prophet_window: r.whole(&["prophet_window_size"], 50),
        warmup_trace: r.text_or_null(&["load_predictor_warmup_trace"]),
        kalman: kalman(r),
        max_samples: r.whole(&["max_num_fpm_samples"], 64),
        buckets: r.whole(&["fpm_sample_bucket_size"], 16),
        min_observations: r.whole(&["load_min_observations"], 5),
        sensitivity: r.whole(&["load_scaling_down_sensitivity"], 80),
        queue_up: r.whole_or_null(&["prefill_scale_up_queue_tokens"], 0),
        queue_down: r.whole_or_null(&["prefill_scale_down_queue_tokens"], 0),
        kv_up: r.number_or_null(&["decode_scale_up_kv_rate"], None, percent_words, percent),
        kv_down: r.number_or_null(&["decode_scale_down_kv_rate"], None, percent_words, percent),
        nextn: r.whole_from(&["speculative_nextn"], 0, 0),
        report_hours: r
            .number_or_null(&["report_interval_hours"], Some(24.0), "hours above zero, or null", |n| n > 0.0),
        report_dir: r.text(&["report_output_dir"], "./planner_reports"),
        report_file: r.text_or_null(&["report_filename"]),
        report_log: r.flag(&["report_write_gzip_log"], true),
        dashboard_port: r.whole(&["live_dashboard_port"], 8080),
        perf_model,
        global: r.choice("environment", false, &environments).unwrap_or(false),
        global_namespace: r.text_or_null(&["global_planner_namespace"]),
    }
}

fn kalman(r: &mut Reader) -> Option<[f64; 3]> {
    let level = r.number(&["kalman_q_level"], 1.0);
    let trend = r.number(&["kalman_q_trend"], 0.1);
    let noise = r.number(&["kalman_r"], 10.0);
    r.whole(&["kalman_min_points"], 5);
    Some([level?, trend?, noise?])
}

/// Types of what a replay has no use for.
fn irrelevant(r: &mut Reader) {
    for name in ["namespace", "profile_results_dir", "metric_pulling_prometheus_endpoint"] {
        r.text(&[name], "");
    }
    for name in ["log_dir", "model_name", "metric_pulling_prometheus_token", "metric_pulling_prometheus_token_file"] {
        r.text_or_null(&[name]);
    }
    for name in ["advisory", "metric_pulling_prometheus_ssl_verify"] {
        r.flag(&[name], false);
    }
    r.whole(&["metric_reporting_prometheus_port"], 0);
    r.choice("backend", (), &[("vllm", ()), ("sglang", ()), ("trtllm", ()), ("mocker", ())]);
    r.choice("throughput_metrics_source", (), &[("frontend", ()), ("router", ())]);
    if let Some(value) = r.object("aic_interpolation").filter(|map| !map.is_empty()) {
        interpolation(r, &value);
    }
    // A word or null; it changes nothing here.
    let modes = ["none", "rapid", "thorough"];
    if let Some(Some(mode)) = r.text_or_null(&["pre_deployment_sweeping_mode"])
        && !modes.contains(&mode.as_str())
    {
        r.fault("pre_deployment_sweeping_mode", format!("is \"{mode}\""), "give none or rapid or thorough");
    }
}

fn interpolation(r: &mut Reader, map: &Map<String, Value>) {
    let mut inner = Reader::new(map, &r.key("aic_interpolation"));
    required(&mut inner, map, &["hf_id", "system"]);
    inner.choice("backend", (), &BACKENDS);
    for name in [
        "isl",
        "osl",
        "sweep_max_context_length",
        "prefill_interpolation_granularity",
        "decode_interpolation_granularity",
    ] {
        // A default below the least value stands for a field that must be given.
        if map.contains_key(name) {
            inner.whole_from(&[name], 1, 1);
        } else {
            inner.fault(name, "is missing", "give a whole number of at least 1");
        }
    }
    r.faults.append(&mut inner.faults);
}

fn required(r: &mut Reader, map: &Map<String, Value>, names: &[&str]) {
    for name in names {
        if map.contains_key(*name) {
            r.text(&[name], "");
        } else {
            r.fault(name, "is missing", "give a string");
        }
    }
}

/// `aic_perf_model`: identity of an analytical model.
fn perf_model(r: &mut Reader) -> Option<PerfModel> {
    let map = r.value_object("aic_perf_model")?;
    let mut inner = Reader::new(&map, &r.key("aic_perf_model"));
    required(&mut inner, &map, &["hf_id", "system", "backend"]);
    inner.choice("backend", (), &BACKENDS);
    for name in ["backend_version", "model_arch", "weight_dtype", "moe_dtype", "activation_dtype", "kv_cache_dtype"] {
        inner.text_or_null(&[name]);
    }
    let mut picks = [false; 2];
    for (pick, name) in picks.iter_mut().zip(["prefill_pick", "decode_pick"]) {
        let Some(sizes) = inner.value_object(name) else { continue };
        *pick = true;
        let mut sizes_reader = Reader::new(&sizes, &inner.key(name));
        for size in PARALLEL {
            sizes_reader.whole(&[size], 1);
        }
        inner.faults.append(&mut sizes_reader.faults);
    }
    r.faults.append(&mut inner.faults);
    Some(PerfModel { prefill: picks[0], decode: picks[1] })
}

/// `scheduling`: nothing but its own fields may be in it.
fn scheduling(r: &mut Reader) -> Option<Option<f64>> {
    let map = r.object("scheduling")?;
    let known = ["scale_interval_seconds", "tick_max_duration_seconds", "external_plugins", "gateway"];
    let path = r.key("scheduling");
    let mut inner = Reader::new(&map, &path);
    for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
        inner.fault(name, "unknown key", format!("use {}", known.join(", ")));
    }
    let tick = if map.contains_key(known[0]) { inner.positive(&[known[0]], 5.0).map(Some) } else { Some(None) };
    inner.positive(&[known[1]], 30.0);
    for name in ["external_plugins", "gateway"] {
        let given = map.get(name).is_some_and(|value| match value {
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => map.get("enabled").is_some_and(|on| on == &Value::Bool(true)),
            _ => true,
        });
        if given {
            inner.fault(name, "asks for extensions, which a replay does not have", "leave it out");
        }
    }
    r.faults.append(&mut inner.faults);
    tick
}
