//! The HTML file. It holds its data as JSON, uPlot to draw with, and a script that puts the two together, so that it opens
//! anywhere without a network.

use serde_json::{Map, Value, json};

use crate::report::html::{SHARED, embedded, fill, number, rounded};
use crate::report::summary::Report;
use crate::scenario::{EngineConfig, PlannerConfig, Role, Topology};
use crate::sim::metrics::ScalingEvent;
use crate::sim::planner::{
    Check, Decision, EngineId, ForwardPassMetrics, LoadReason, Opinion, PoolCounts, Sight, Sizing, ThroughputReason,
    WhatIf, pool_name,
};

use super::snapshot::clock;

const HTML: &str = include_str!("../../../assets/report/planner.html");
const STYLE: &str = include_str!("../../../assets/report/planner.css");
const SCRIPT: &str = include_str!("../../../assets/report/planner.js");

/// What a report is made from.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub planner: &'a PlannerConfig,
    pub topology: &'a Topology,
    /// Noted ticks, at least one.
    pub ticks: Vec<(&'a Decision, &'a Sight)>,
    pub events: &'a [ScalingEvent],
    pub report: &'a Report,
}

impl Page<'_> {
    /// The simulated second of the last tick.
    pub fn last_at_s(&self) -> f64 {
        self.ticks.last().map_or(0.0, |(decision, _)| decision.tick.at_s)
    }

    /// How often the number of ready workers of a pool changed from one noted tick to the next.
    fn transitions(&self) -> usize {
        let changed = |of: &dyn Fn(&Decision) -> Option<i64>| {
            let counts: Vec<i64> = self.ticks.iter().filter_map(|(decision, _)| of(decision)).collect();
            counts.windows(2).filter(|pair| pair[0] != pair[1]).count()
        };
        changed(&|decision| decision.workers.prefill.map(|counts| counts.ready))
            + changed(&|decision| Some(decision.workers.decode.ready))
    }

    /// The lines under the heading, in the reference's words.
    pub fn summary(&self) -> [String; 3] {
        let first = self.ticks.first().map_or(0.0, |(decision, _)| decision.tick.at_s);
        let ((day, time), (last_day, last_time)) = (clock(first), clock(self.last_at_s()));
        let gpu_hours = self.ticks.last().map_or(0.0, |(_, sight)| sight.gpu_hours);
        let (ttft, itl) = (self.planner.ttft_ms, self.planner.itl_ms);
        [
            format!("Time range: {day} {time} UTC — {last_day} {last_time} UTC ({} ticks)", self.ticks.len()),
            format!("Replica transitions: {} | GPU hours: {gpu_hours:.2}", self.transitions()),
            format!("SLA targets: TTFT={ttft:.0}ms, ITL={itl:.0}ms"),
        ]
    }

    /// The HTML text.
    pub fn html(&self) -> String {
        let lines: String = self.summary().iter().map(|line| format!("<p>{line}</p>\n")).collect();
        let data = embedded(&self.data());
        let own = [
            ("{{summary}}", lines.as_str()),
            ("{{style}}", STYLE),
            ("{{script}}", SCRIPT),
            ("{{data}}", data.as_str()),
        ];
        fill(HTML, &[&SHARED[..], &own].concat())
    }

    fn series(&self, value: impl Fn(&Decision, &Sight) -> Option<f64>) -> Value {
        self.ticks.iter().map(|(decision, sight)| rounded(value(decision, sight))).collect()
    }

    fn data(&self) -> Value {
        let planner = self.planner;
        json!({
            "mode": planner.mode.name(),
            "target": planner.target.name(),
            "ttft_ms": planner.ttft_ms,
            "itl_ms": planner.itl_ms,
            "is_sla": !planner.target.is_easy(),
            "config": planner.given,
            "kv_tokens": self.engines().iter().map(|(_, e)| kv_tokens(e)).collect::<Vec<_>>(),
            "figures": self.figures(),
            "t": self.ticks.iter().map(|(decision, _)| number(Some(decision.tick.at_s))).collect::<Value>(),
            "pools": self.pools(),
            "rate": [
                self.series(|_, s| (s.window.duration_s > 0.0).then(|| s.window.num_req / s.window.duration_s)),
                self.series(|d, _| {
                    let seconds = d.traffic.map(|traffic| traffic.duration_s).filter(|seconds| *seconds > 0.0)?;
                    d.prediction.map(|p| p.num_req / seconds)
                }),
            ],
            "isl": [
                self.series(|_, s| (s.window.shape_count > 0.0).then_some(s.window.avg_isl)),
                self.series(|d, _| d.prediction.map(|p| p.isl)),
            ],
            "osl": [
                self.series(|_, s| (s.window.shape_count > 0.0).then_some(s.window.avg_osl)),
                self.series(|d, _| d.prediction.map(|p| p.osl)),
            ],
            "ttft": [
                self.series(|_, s| (s.window.ttft_count > 0.0).then_some(s.window.avg_ttft_ms)),
                self.series(|d, _| d.load.estimated_ttft_ms),
            ],
            "itl": [
                self.series(|_, s| (s.window.itl_count > 0.0).then_some(s.window.avg_itl_ms)),
                self.series(|d, _| d.load.estimated_itl_ms),
            ],
            "capacity": [self.series(|d, _| d.engine_rps().0), self.series(|d, _| d.engine_rps().1)],
            "gpu_hours": self.series(|_, s| Some(s.gpu_hours)),
            "ticks": self.ticks.iter().map(|(decision, _)| tick(decision)).collect::<Value>(),
            "events": self.events.iter().map(event).collect::<Value>(),
        })
    }

    fn engines(&self) -> Vec<(Role, &EngineConfig)> {
        match self.topology {
            Topology::Aggregated { engine, .. } => vec![(Role::Aggregated, engine)],
            Topology::Disaggregated { prefill, decode, .. } => vec![(Role::Prefill, prefill), (Role::Decode, decode)],
        }
    }

    /// Figures of the whole run, from the ordinary report.
    fn figures(&self) -> Value {
        let keys = [
            ("Requests completed", "completed_requests"),
            ("Mean TTFT, ms", "mean_ttft_ms"),
            ("p90 TTFT, ms", "p90_ttft_ms"),
            ("Mean ITL, ms", "mean_itl_ms"),
            ("p90 ITL, ms", "p90_itl_ms"),
            ("Output tokens per second", "output_throughput_tok_s"),
            ("GPU-hours provisioned", "gpu_hours"),
        ];
        let cost = self.report.get("cost_estimate");
        let estimates = [("Cost (estimate), USD", "estimated_usd"), ("Energy (estimate), kWh", "estimated_kwh")];
        let estimates = estimates.iter().filter_map(|(name, key)| Some((*name, cost?.get(*key)?.as_f64())));
        let figures = keys.iter().map(|(name, key)| (*name, self.report.number(key)));
        figures.chain(estimates).map(|(name, value)| json!([name, rounded(value)])).collect()
    }

    fn pools(&self) -> Value {
        type Of = fn(&Decision) -> (PoolCounts, Option<i64>, i64, &[(EngineId, ForwardPassMetrics)]);
        let prefill: Of = |d| {
            let (counts, asked) = (d.workers.prefill.unwrap_or_default(), d.scale_to.and_then(|t| t.prefill));
            (counts, asked, d.lower_bounds.0, &d.prefill_passes)
        };
        let decode: Of = |d| (d.workers.decode, d.scale_to.and_then(|t| t.decode), d.lower_bounds.1, &d.decode_passes);
        let pool = |(role, _): &(Role, &EngineConfig)| {
            let of = if *role == Role::Prefill { prefill } else { decode };
            let reasons = |load: bool| -> Value {
                self.ticks.iter().map(|(decision, _)| json!(reason(decision, *role, load))).collect()
            };
            json!({
                "name": pool_name(*role),
                "ready": self.series(|d, _| Some(of(d).0.ready as f64)),
                "starting": self.series(|d, _| Some((of(d).0.expected - of(d).0.ready) as f64)),
                "draining": self.series(|d, _| Some(of(d).0.draining as f64)),
                "asked": self.series(|d, _| of(d).1.map(|asked| asked as f64)),
                "bound": self.series(|d, _| Some(of(d).2 as f64)),
                "engines": self.ticks.iter().map(|(d, _)| engines(of(d).3)).collect::<Value>(),
                "load": reasons(true),
                "throughput": reasons(false),
            })
        };
        self.engines().iter().map(pool).collect()
    }
}

/// KV tokens of a replica.
fn kv_tokens(engine: &EngineConfig) -> u64 {
    u64::from(engine.num_gpu_blocks) * u64::from(engine.block_size) * u64::from(engine.dp_size)
}

/// Why a loop did what it did to a pool.
fn reason(decision: &Decision, role: Role, load: bool) -> Option<&'static str> {
    let (l, t) = (&decision.load, &decision.throughput);
    match (role, load) {
        (Role::Prefill, true) => l.reason_prefill.map(LoadReason::name),
        (Role::Decode, true) => l.reason_decode.map(LoadReason::name),
        (Role::Aggregated, true) => l.reason.map(LoadReason::name),
        (Role::Prefill, false) => t.reason_prefill.or(t.reason).map(ThroughputReason::name),
        (Role::Decode, false) => t.reason_decode.or(t.reason).map(ThroughputReason::name),
        (Role::Aggregated, false) => t.reason.map(ThroughputReason::name),
    }
}

/// Worker, rank, queued prompt tokens, KV tokens in use and waited for.
fn engines(passes: &[(EngineId, ForwardPassMetrics)]) -> Value {
    passes
        .iter()
        .map(|(id, pass)| {
            let kv = pass.decode_kv_tokens + pass.queued_decode_kv_tokens;
            json!([id.worker, id.rank, pass.queued_prefill_tokens, kv])
        })
        .collect()
}

fn event(event: &ScalingEvent) -> Value {
    json!([event.at.as_secs(), pool_name(event.role), event.from, event.to])
}

/// What a tick came to and from what.
fn tick(decision: &Decision) -> Value {
    let sentences = decision.sentences().into_iter().map(|(role, sentence)| json!([pool_name(role), sentence]));
    let mut map = Map::from_iter([("text".to_owned(), sentences.collect())]);
    if !decision.load.opinions.is_empty() {
        map.insert("load".to_owned(), decision.load.opinions.iter().map(opinion).collect());
    }
    if !decision.throughput.sizings.is_empty() {
        map.insert("sizing".to_owned(), decision.throughput.sizings.iter().map(Sizing::to_json).collect());
    }
    let limits: Vec<&String> =
        decision.load.limits.iter().chain(&decision.throughput.limits).chain(&decision.limits).collect();
    if !limits.is_empty() {
        map.insert("limits".to_owned(), json!(limits));
    }
    Value::Object(map)
}

fn opinion(opinion: &Opinion) -> Value {
    let check = |c: &Check| {
        json!([
            c.engine.worker,
            c.engine.rank,
            c.quantity,
            rounded(Some(c.value)),
            c.relation.sign(),
            rounded(Some(c.bound)),
            c.unit,
            u8::from(c.holds()),
        ])
    };
    let option = |o: &WhatIf| json!([o.replicas, o.quantity, rounded(o.value), o.unit]);
    json!({
        "pool": pool_name(opinion.role),
        "wanted": opinion.wanted,
        "reason": opinion.reason.map(LoadReason::name),
        "because": opinion.because,
        "checks": opinion.checks.iter().map(check).collect::<Value>(),
        "options": opinion.options.iter().map(option).collect::<Value>(),
    })
}
