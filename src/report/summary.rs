//! The summary report: which requests count, what each key means.
//!
//! Keys of the reference keep its names and definitions. The *population* are the requests that completed; all others
//! are counted by how they ended and appear in no statistic. Rates are over `duration_ms`, the time from the start of
//! the run to the last completion.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::perf::TimingModel;
use crate::scenario::{EngineConfig, Role, Router, RouterMode, Run, Semantics, Sla, Topology};
use crate::sim::metrics::{Distribution, FinalStatus, Outcome, RequestRecord, ScalingEvent};
use crate::time::SimTime;

use super::requests::SessionNames;
use super::stats::{PERCENTILES, Summary};

/// Dead ends quoted in full; more of them say the same of other requests.
const QUOTED_DEAD_ENDS: usize = 20;

/// Figures that every report has.
const ESSENTIAL: [&str; 5] =
    ["num_requests", "completed_requests", "duration_ms", "request_throughput_rps", "output_throughput_tok_s"];

/// A text that is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is no JSON object; what the parser said.
    #[error("is no report: {0}")]
    Json(String),
    /// A figure is missing or no number.
    #[error("`{0}`: is missing or no number")]
    Missing(&'static str),
}

/// The figures of a finished run, by key.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Sorted, because the JSON lists keys in order.
    keys: BTreeMap<String, Value>,
}

impl Report {
    /// Computes all figures. `notes` are remarks of the workload loader, `wall` is the real time the simulation took.
    pub fn build(run: &Run, outcome: &Outcome, sessions: &SessionNames, notes: &[String], wall: Duration) -> Self {
        let population = || outcome.records.iter().filter(|r| counts(r));
        let mut report = Self { keys: BTreeMap::new() };
        let totals = Totals::of(population());
        report.totals(outcome, &totals, wall);
        report.cost(&run.topology, outcome);
        if let Some(cost) = &run.cost {
            report.set("cost_estimate", super::cost::cost_estimate(cost, outcome));
        }
        if !outcome.tiers.is_empty() {
            report.set("kv_tiers", super::tiers::tiers(outcome));
        }
        report.latencies(outcome, &Latencies::of(population()));
        if run.sla.is_given() {
            let good = Totals::of(population().filter(|r| is_good(r, &run.sla)));
            report.set("goodput_completed_requests", good.requests);
            report.set("goodput_request_throughput_rps", good.requests as f64 / totals.duration_s());
            report.set("goodput_output_throughput_tok_s", good.output_tokens as f64 / totals.duration_s());
        }
        report.provenance(run, outcome, sessions, notes);
        report
    }

    /// Reads a report that was written as JSON, by this program or by the reference.
    ///
    /// # Errors
    /// When the text is no JSON object, or lacks a figure that every report has.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        let keys: BTreeMap<String, Value> = serde_json::from_str(crate::text::without_mark(text))
            .map_err(|e| ReportError::Json(crate::text::shorten(e.to_string())))?;
        let report = Self { keys };
        match ESSENTIAL.iter().find(|key| report.number(key).is_none()) {
            Some(key) => Err(ReportError::Missing(key)),
            None => Ok(report),
        }
    }

    /// Whether a JSON object is a report rather than a scenario.
    pub fn is_like(object: &serde_json::Map<String, Value>) -> bool {
        ESSENTIAL.iter().any(|key| object.contains_key(*key))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// The value of a key that holds a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_f64)
    }

    /// All keys with their values, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.keys.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// One JSON object: sorted keys, two spaces of indent, a newline at the end.
    pub fn to_json(&self) -> String {
        // The alternate form of a value is the indented one; a map of strings to values cannot fail to print.
        let object: serde_json::Map<String, Value> = self.keys.clone().into_iter().collect();
        format!("{:#}\n", Value::Object(object))
    }

    fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.keys.insert(key.into(), value.into());
    }

    fn totals(&mut self, outcome: &Outcome, totals: &Totals, wall: Duration) {
        let processed = totals.input_tokens + totals.output_tokens;
        let (duration_s, wall_s) = (totals.duration_s(), wall.as_secs_f64());
        let per_wall_second = |tokens: u64| if wall_s > 0.0 { tokens as f64 / wall_s } else { 0.0 };
        let share =
            |reused: u64| if totals.input_tokens > 0 { reused as f64 / totals.input_tokens as f64 } else { 0.0 };
        self.set("num_requests", outcome.records.len());
        self.set("completed_requests", totals.requests);
        self.set("total_input_tokens", totals.input_tokens);
        self.set("total_output_tokens", totals.output_tokens);
        self.set("duration_ms", totals.end.as_ms());
        self.set("request_throughput_rps", totals.requests as f64 / duration_s);
        self.set("input_throughput_tok_s", totals.input_tokens as f64 / duration_s);
        self.set("output_throughput_tok_s", totals.output_tokens as f64 / duration_s);
        self.set("total_throughput_tok_s", processed as f64 / duration_s);
        self.set("prefix_cache_reused_ratio", share(totals.reused_tokens));
        self.set("first_admission_prefix_cache_reused_ratio", share(totals.first_reused_tokens));
        self.set("processed_tokens", processed);
        self.set("wall_time_ms", wall_s * 1e3);
        self.set("processed_tokens_per_s", per_wall_second(processed));
        self.set("processed_output_tokens_per_s", per_wall_second(totals.output_tokens));
    }

    fn cost(&mut self, topology: &Topology, outcome: &Outcome) {
        let (prefill_gpus, decode_gpus) = match topology {
            Topology::Aggregated { engine, .. } => (0, engine.gpus_per_worker()),
            Topology::Disaggregated { prefill, decode, .. } => (prefill.gpus_per_worker(), decode.gpus_per_worker()),
        };
        let gpu_seconds =
            outcome.prefill_worker_seconds * prefill_gpus as f64 + outcome.decode_worker_seconds * decode_gpus as f64;
        self.set("prefill_worker_seconds", outcome.prefill_worker_seconds);
        self.set("decode_worker_seconds", outcome.decode_worker_seconds);
        self.set("prefill_gpus_per_worker", prefill_gpus);
        self.set("decode_gpus_per_worker", decode_gpus);
        self.set("gpu_hours", gpu_seconds / 3600.0);
    }

    fn latencies(&mut self, outcome: &Outcome, latencies: &Latencies) {
        for (name, summary) in [
            ("ttft_ms", &latencies.ttft),
            ("ttst_ms", &latencies.ttst),
            ("tpot_ms", &latencies.tpot),
            ("e2e_latency_ms", &latencies.e2e),
        ] {
            self.set(format!("mean_{name}"), summary.mean());
            self.set(format!("min_{name}"), summary.min());
            self.set(format!("max_{name}"), summary.max());
            self.set(format!("std_{name}"), summary.std());
            for (label, p) in PERCENTILES {
                self.set(format!("{label}_{name}"), summary.percentile(p));
            }
        }
        self.distribution("itl_ms", &outcome.itl);
        self.distribution("output_token_throughput_per_user", &outcome.user_throughput);
    }

    fn distribution(&mut self, name: &str, values: &Distribution) {
        self.set(format!("mean_{name}"), values.mean());
        self.set(format!("min_{name}"), values.min());
        self.set(format!("max_{name}"), values.max());
        self.set(format!("std_{name}"), values.std());
        for (label, p) in PERCENTILES {
            self.set(format!("{label}_{name}"), values.percentile(f64::from(p)));
        }
    }

    /// Where pass durations come from, and what the memory of the GPUs is used for where that was worked out.
    fn timing(&mut self, topology: &Topology, outcome: &Outcome) {
        let engines: Vec<&EngineConfig> = match topology {
            Topology::Aggregated { engine, .. } => vec![engine],
            Topology::Disaggregated { prefill, decode, .. } => vec![prefill, decode],
        };
        let sources: Vec<&str> = engines.iter().map(|engine| engine.timing.provenance.as_str()).collect();
        match sources.as_slice() {
            [prefill, decode] if prefill != decode => {
                self.set("timing", format!("prefill: {prefill}; decode: {decode}"))
            }
            [source, ..] => self.set("timing", *source),
            [] => {}
        }
        if engines.iter().any(|engine| matches!(engine.timing.model, TimingModel::Table(_))) {
            self.set("extrapolated_passes", outcome.extrapolated_passes);
        }
        let capacities: serde_json::Map<String, Value> = engines
            .iter()
            .filter_map(|engine| Some((engine.role.to_string(), json!(engine.timing.capacity.as_ref()?))))
            .collect();
        if !capacities.is_empty() {
            self.set("kv_capacity", capacities);
        }
    }

    fn provenance(&mut self, run: &Run, outcome: &Outcome, sessions: &SessionNames, notes: &[String]) {
        let ended = |status| outcome.records.iter().filter(move |r| r.status == status);
        self.set("rejected_requests", ended(FinalStatus::Rejected).count());
        self.set("failed_requests", ended(FinalStatus::Failed).count());
        self.set("unfinished_requests", ended(FinalStatus::Unfinished).count());
        self.set("preemptions", outcome.preemptions);
        self.set("forward_passes", outcome.passes);
        let semantics = &run.semantics;
        let mut switches = json!({
            "base": base_name(semantics),
            "charge_recompute": semantics.charge_recompute,
            "fail_infeasible": semantics.fail_infeasible,
            "handoff_after_first_token": semantics.handoff_after_first_token,
            "honest_reuse": semantics.honest_reuse,
        });
        for (name, on) in run.planner.iter().flat_map(|_| semantics.planner.named()) {
            switches[name] = json!(on);
        }
        self.set("semantics", switches);
        self.timing(&run.topology, outcome);
        self.set("router", router(&run.router));
        if let Some(planner) = &outcome.planner {
            self.set("planner_ticks", planner.ticks);
        }
        if run.scaling.is_some() || run.planner.is_some() {
            self.set("scaling_events", outcome.scaling_events.iter().map(scaling_event).collect::<Vec<_>>());
        }
        let extrapolated = outcome.extrapolated_passes;
        let mut warnings: Vec<String> = run.warnings.iter().chain(notes).cloned().collect();
        let reasons = [
            (FinalStatus::Rejected, "rejected: no engine they were sent to can ever hold them"),
            (FinalStatus::Failed, "failed: nothing could take them any further"),
            (FinalStatus::Unfinished, "unfinished when the run stopped"),
        ];
        for (status, reason) in reasons {
            let mut lost = ended(status);
            if let Some(first) = lost.next() {
                let count = 1 + lost.count();
                let verb = if count == 1 { "request was" } else { "requests were" };
                warnings.push(format!("{count} {verb} {reason} (first: {})", sessions.describe(first)));
            }
        }
        if extrapolated > 0 {
            let passes = outcome.passes;
            warnings.push(format!(
                "{extrapolated} of {passes} passes lie outside what their timing table was measured for; their times are extrapolated"
            ));
        }
        warnings.extend(outcome.dead_ends.iter().take(QUOTED_DEAD_ENDS).cloned());
        if let Some(more) = outcome.dead_ends.len().checked_sub(QUOTED_DEAD_ENDS).filter(|more| *more > 0) {
            warnings.push(format!("{more} more dead ends like these"));
        }
        self.set("warnings", warnings);
    }
}

fn base_name(semantics: &Semantics) -> &'static str {
    if *semantics == Semantics::dynamo() {
        "dynamo"
    } else if *semantics == Semantics::corrected() {
        "corrected"
    } else {
        "custom"
    }
}

/// How requests found a worker; settings that have no effect in a mode are left out.
fn router(router: &Router) -> Value {
    let mut value = json!({"mode": router.mode.word()});
    if router.mode != RouterMode::RoundRobin {
        value["seed"] = json!(router.seed);
        value["ties"] = json!(router.ties.word());
        value["kv_event_delay_ms"] = json!(router.kv_event_delay.as_ms());
        value["load_delay_ms"] = json!(router.load_delay.as_ms());
    }
    value
}

fn scaling_event(event: &ScalingEvent) -> Value {
    let pool = match event.role {
        Role::Aggregated => "aggregated",
        Role::Prefill => "prefill",
        Role::Decode => "decode",
    };
    json!({"at_ms": event.at.as_ms(), "from": event.from, "pool": pool, "to": event.to})
}

/// Whether a request belongs to the population of the statistics.
pub fn counts(record: &RequestRecord) -> bool {
    record.status == FinalStatus::Completed && record.first_admit.is_some()
}

/// First and last token, if there are any.
pub fn token_span(record: &RequestRecord) -> Option<(SimTime, SimTime)> {
    record.first_token.zip(record.last_token).filter(|_| record.output_tokens > 0)
}

/// Mean gap between tokens in milliseconds, for at least two of them.
pub fn tpot_ms(record: &RequestRecord) -> Option<f64> {
    let (first, last) = token_span(record).filter(|_| record.output_tokens > 1)?;
    Some(last.since(first).as_ms() / f64::from(record.output_tokens - 1))
}

/// Gap between the first two tokens in nanoseconds, for at least two of them.
pub(super) fn ttst_nanos(record: &RequestRecord) -> Option<u64> {
    let (first, _) = token_span(record).filter(|_| record.output_tokens > 1)?;
    record.second_token.map(|second| second.since(first).as_nanos())
}

/// Whether a completed request meets every bound.
pub fn is_good(record: &RequestRecord, sla: &Sla) -> bool {
    let within = |value: f64, bound: Option<f64>| bound.is_none_or(|bound| value <= bound);
    match token_span(record) {
        Some((first, last)) => {
            within(first.since(record.arrival).as_ms(), sla.ttft_ms)
                && within(last.since(record.arrival).as_ms(), sla.e2e_ms)
                && tpot_ms(record).is_none_or(|tpot| within(tpot, sla.itl_ms))
        }
        // No token, so nothing to hold against a bound on tokens: only a pure end-to-end bound can be met.
        None => {
            let only_e2e = sla.ttft_ms.is_none() && sla.itl_ms.is_none();
            let e2e = record.terminal.map(|end| end.since(record.arrival).as_ms());
            only_e2e && e2e.is_some_and(|e2e| within(e2e, sla.e2e_ms))
        }
    }
}

/// Sums over a set of completed requests.
#[derive(Default)]
struct Totals {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    reused_tokens: u64,
    first_reused_tokens: u64,
    /// Last completion.
    end: SimTime,
}

impl Totals {
    fn of<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Self {
        records.fold(Self::default(), |mut sum, record| {
            sum.requests += 1;
            sum.input_tokens += u64::from(record.input_tokens);
            sum.output_tokens += u64::from(record.output_tokens);
            // The ratio counts the most a request reused anywhere, also when a decode worker took it back in.
            let on_decode = record.handoff.and_then(|h| h.decode_reused_tokens).unwrap_or(0);
            sum.reused_tokens += u64::from(record.reused_tokens.max(on_decode));
            sum.first_reused_tokens += u64::from(record.first_reused_tokens);
            sum.end = sum.end.max(record.terminal.unwrap_or_default());
            sum
        })
    }

    /// Never zero, so that rates of an instant run stay finite.
    fn duration_s(&self) -> f64 {
        self.end.as_secs().max(1e-9)
    }
}

/// Latencies of the population; requests without the tokens in question give no sample.
pub(super) struct Latencies {
    /// Arrival to first token.
    pub ttft: Summary,
    /// First to second token.
    pub ttst: Summary,
    /// Mean gap of a request.
    pub tpot: Summary,
    /// Arrival to last token.
    pub e2e: Summary,
}

impl Latencies {
    /// Of the given completed requests.
    pub fn of<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Self {
        let (mut ttft, mut ttst, mut tpot, mut e2e) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for record in records {
            if let Some((first, last)) = token_span(record) {
                ttft.push(first.since(record.arrival).as_nanos());
                e2e.push(last.since(record.arrival).as_nanos());
            }
            ttst.extend(ttst_nanos(record));
            tpot.extend(tpot_ms(record));
        }
        Self {
            ttft: Summary::of_nanos(ttft),
            ttst: Summary::of_nanos(ttst),
            tpot: Summary::of_ms(tpot),
            e2e: Summary::of_nanos(e2e),
        }
    }
}
