//! What a calibration found: as text, as JSON, as a correction file.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tabled::builder::Builder;
use tabled::settings::object::{Columns, Object};
use tabled::settings::{Alignment, Style};

use crate::perf::Composition;
use crate::scenario::{Semantics, Topology};

use super::fit::Fit;
use super::measured::{Clock, Measurements};
use super::parameter::Parameter;
use super::score::{Comparison, Figures, Latencies, Metric, compare};
use super::settings::Settings;

/// A parameter that may be a tenth larger or smaller at the cost of this little is hardly determined.
const BLUNT: f64 = 0.01;

/// A finished calibration.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// What was compared with.
    pub settings: Settings,
    /// What was found.
    pub fit: Fit,
    /// First half, before and after.
    pub fitted: [[Comparison; 3]; 2],
    /// Second half, before and after: what the fit has not seen.
    pub held_out: [[Comparison; 3]; 2],
    source: String,
    requests: usize,
    clock: Clock,
}

impl Calibration {
    pub(super) fn new(
        measured: &Measurements,
        settings: Settings,
        fit: Fit,
        before: &[Latencies],
        after: &[Latencies],
    ) -> Self {
        let half = measured.fitted();
        let (first, second) = measured.requests.split_at(half);
        Self {
            settings,
            fit,
            fitted: [before, after].map(|latencies| compare(first, &latencies[..half])),
            held_out: [before, after].map(|latencies| compare(second, &latencies[half..])),
            source: measured.source(),
            requests: measured.requests.len(),
            clock: measured.clock,
        }
    }

    /// What to know before trusting the figures, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.settings.run.warnings.clone();
        for parameter in &self.fit.unidentified {
            let name = parameter.name();
            warnings.push(format!("`{name}` was not fitted: the requests of the first half do not depend on it."));
        }
        for fitted in self.fit.parameters.iter().filter(|fitted| fitted.sharpness < BLUNT) {
            let name = fitted.parameter.name();
            let off = if fitted.parameter == Parameter::PerPassOverhead { "a millisecond" } else { "a tenth" };
            warnings.push(format!(
                "`{name}` is hardly determined by these measurements: {off} more or less changes the fit by less than 1 %."
            ));
        }
        let lost = self.held_out[1][Metric::E2e as usize].missing + self.fitted[1][Metric::E2e as usize].missing;
        if lost > 0 {
            warnings.push(format!("{lost} of {} requests did not complete in the simulation.", self.requests));
        }
        warnings
    }

    /// The corrections, without how they were found.
    fn corrections(&self) -> Map<String, Value> {
        let best = &self.fit.best;
        let engine = match &self.settings.run.topology {
            Topology::Aggregated { engine, .. } | Topology::Disaggregated { decode: engine, .. } => engine,
        };
        let mut map = Map::new();
        map.insert("prefill_scale".to_owned(), json!(best.correction.prefill_scale));
        map.insert("decode_scale".to_owned(), json!(best.correction.decode_scale));
        if !self.settings.overhead_given {
            map.insert("per_pass_overhead_ms".to_owned(), json!(best.correction.per_pass_overhead_ms));
        }
        if let Some(blocks) = best.num_gpu_blocks {
            map.insert("num_gpu_blocks".to_owned(), json!(blocks));
        }
        let word = match engine.timing.composition {
            Composition::Sum => "sum",
            Composition::Fused(_) => "fused",
        };
        map.insert("composition".to_owned(), json!(word));
        map.insert("async_scheduling".to_owned(), json!(engine.timing.async_scheduling));
        map
    }

    /// The content of a correction file: what `timing-correction` takes, with how it was found under `fit`.
    pub fn document(&self) -> String {
        let mut map = self.corrections();
        let mut fit = json!({
            "source": self.source,
            "requests": self.requests,
            "timing": self.settings.timing(),
            "semantics": semantics(&self.settings.run.semantics),
        });
        if let Some(fit) = fit.as_object_mut() {
            if !self.settings.engine_args.is_empty() {
                fit.insert("engine_args".to_owned(), Value::Object(self.settings.engine_args.clone()));
            }
            fit.extend(self.figures());
        }
        map.insert("fit".to_owned(), fit);
        format!("{:#}\n", Value::Object(map))
    }

    /// Everything, as one JSON object.
    pub fn to_json(&self) -> String {
        let settings: Vec<Value> = self
            .settings
            .added
            .iter()
            .map(|setting| json!({"name": setting.name, "value": setting.value, "from": setting.from}))
            .collect();
        let clock = match self.clock {
            Clock::Same => json!("same"),
            Clock::Apart { offset_s, median_lag_ms } => json!({"offset_s": offset_s, "median_lag_ms": median_lag_ms}),
        };
        let mut map = Map::new();
        map.insert("source".to_owned(), json!(self.source));
        map.insert("requests".to_owned(), json!(self.requests));
        map.insert("clock".to_owned(), clock);
        map.insert("timing".to_owned(), json!(self.settings.timing()));
        map.insert("settings".to_owned(), json!(settings));
        map.insert("corrections".to_owned(), Value::Object(self.corrections()));
        map.extend(self.figures());
        map.insert("warnings".to_owned(), json!(self.warnings()));
        format!("{:#}\n", Value::Object(map))
    }

    fn figures(&self) -> Map<String, Value> {
        let fitted: Map<String, Value> = self
            .fit
            .parameters
            .iter()
            .map(|fitted| {
                let from = fitted.parameter.value(&self.fit.start);
                let to = fitted.parameter.value(&self.fit.best);
                let about = json!({"from": from, "to": to, "sharpness": digits(fitted.sharpness)});
                (fitted.parameter.name().to_owned(), about)
            })
            .collect();
        let halves = |[before, after]: &[[Comparison; 3]; 2]| json!({"before": errors(before), "after": errors(after)});
        let disagreement = [self.fit.disagreement_before, self.fit.disagreement_after].map(digits);
        let mut map = Map::new();
        map.insert("fitted".to_owned(), Value::Object(fitted));
        map.insert("simulations".to_owned(), json!(self.fit.simulations));
        map.insert("disagreement".to_owned(), json!({"before": disagreement[0], "after": disagreement[1]}));
        map.insert("held_out_half".to_owned(), halves(&self.held_out));
        map.insert("fitted_half".to_owned(), halves(&self.fitted));
        map
    }

    /// The report for people, each line ended by a newline.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        line(format!("Measured: {} ({} requests)", self.source, self.requests));
        match self.clock {
            Clock::Same => line("Clocks: arrivals and tokens share one".to_owned()),
            Clock::Apart { offset_s, median_lag_ms } => line(format!(
                "Clocks: arrivals and tokens have one each, {offset_s:.6} s apart by the quickest request \
                 (half of them took {median_lag_ms:.1} ms longer to the queue)"
            )),
        }
        line(format!("Timing: {}", self.settings.timing()));
        if !self.settings.added.is_empty() {
            line("Not in the scenario, so taken from elsewhere:".to_owned());
            for setting in &self.settings.added {
                line(format!("  {} = {} ({})", setting.name, setting.value, setting.from));
            }
        }
        line(String::new());
        let half = self.requests / 2;
        line(if self.fit.parameters.is_empty() {
            "Corrections, none of them fitted:".to_owned()
        } else {
            format!("Corrections after {} simulations, fitted to the first {half} requests:", self.fit.simulations)
        });
        for (name, value) in self.corrections() {
            let found = self.fit.parameters.iter().find(|fitted| fitted.parameter.name() == name);
            let from = found.and_then(|fitted| fitted.parameter.value(&self.fit.start));
            match (found, from) {
                (Some(_), Some(from)) => line(format!("  {name} = {value} (fitted, from {from})")),
                (Some(_), None) => line(format!("  {name} = {value} (fitted)")),
                (None, _) => line(format!("  {name} = {value}")),
            }
        }
        line(String::new());
        line(format!("Errors on the {} requests that the fit has not seen:", self.requests - half));
        line(self.table().to_string());
        text
    }

    fn table(&self) -> tabled::Table {
        let mut rows = Builder::default();
        let head = ["", ""].into_iter().chain(Figures::NAMES).chain(["per request", "r"]);
        rows.push_record(head);
        for (index, metric) in Metric::ALL.into_iter().enumerate() {
            let [before, after] = self.held_out.map(|half| half[index]);
            let measured = before.measured.values().map(duration).into_iter();
            let row = [metric.name().to_owned(), "measured".to_owned()].into_iter().chain(measured);
            rows.push_record(row.chain([String::new(), String::new()]));
            let mut lines = vec![("before", before)];
            if self.fit.best != self.fit.start {
                lines.push(("after", after));
            }
            for (name, comparison) in lines {
                let errors = comparison.errors().map(percent).into_iter();
                let each = format!("{:.1} %", comparison.per_request * 100.0);
                let r = comparison.pearson.map_or_else(|| "-".to_owned(), |r| format!("{r:.4}"));
                let row = [String::new(), name.to_owned()].into_iter().chain(errors);
                rows.push_record(row.chain([each, r]));
            }
        }
        let mut table = rows.build();
        table.with(Style::blank()).modify(Columns::new(..2).inverse(), Alignment::right());
        table
    }
}

fn errors(comparisons: &[Comparison; 3]) -> Value {
    let each = Metric::ALL.into_iter().zip(comparisons).map(|(metric, comparison)| {
        let figures = |figures: &Figures| {
            let pairs = Figures::NAMES.into_iter().zip(figures.values());
            Value::Object(pairs.map(|(name, value)| (name.to_owned(), json!(digits(value)))).collect())
        };
        let errors = Figures::NAMES.into_iter().zip(comparison.errors());
        let errors: Map<String, Value> = errors.map(|(name, value)| (name.to_owned(), json!(digits(value)))).collect();
        let about = json!({
            "requests": comparison.count,
            "missing": comparison.missing,
            "measured": figures(&comparison.measured),
            "simulated": figures(&comparison.simulated),
            "error": errors,
            "per_request_error": digits(comparison.per_request),
            "pearson_r": comparison.pearson.map(digits),
        });
        (metric.key().to_owned(), about)
    });
    Value::Object(each.collect())
}

fn semantics(semantics: &Semantics) -> Value {
    if *semantics == Semantics::corrected() {
        return json!("corrected");
    }
    if *semantics == Semantics::dynamo() {
        return json!("dynamo");
    }
    json!({
        "handoff_after_first_token": semantics.handoff_after_first_token,
        "fail_infeasible": semantics.fail_infeasible,
        "charge_recompute": semantics.charge_recompute,
        "honest_reuse": semantics.honest_reuse,
    })
}

/// Six digits: more would only be noise, and would differ between machines.
fn digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 10f64.powi(5 - value.abs().log10().floor() as i32);
    (value * unit).round() / unit
}

/// A relative error as people read it; one that rounds to nothing has no sign.
fn percent(error: f64) -> String {
    let tenths = (error * 1_000.0).round() / 10.0;
    if tenths == 0.0 { "0.0 %".to_owned() } else { format!("{tenths:+.1} %") }
}

/// Milliseconds as people read them.
fn duration(ms: f64) -> String {
    if ms < 1_000.0 { format!("{ms:.1} ms") } else { format!("{:.2} s", ms / 1e3) }
}
