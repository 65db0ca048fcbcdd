//! A tick's outcome, as a sentence and as JSON.

use serde_json::{Map, Value, json};

use crate::scenario::Role;

use super::cadence::Tick;
use super::explain::{Opinion, Sizing, figure, finite, pool_name};
use super::load::LoadOutcome;
use super::observe::{EngineId, ForwardPassMetrics, PoolCounts, TrafficObservation, WorkerCounts};
use super::predict::Prediction;
use super::reason::{LoadReason, ThroughputReason};
use super::throughput::ThroughputOutcome;
use super::{Targets, TickInput};

/// Everything that happened at a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The tick.
    pub tick: Tick,
    /// Workers it was shown.
    pub workers: WorkerCounts,
    /// Traffic it was shown.
    pub traffic: Option<TrafficObservation>,
    /// Forward passes of the prefill pool it was shown.
    pub prefill_passes: Vec<(EngineId, ForwardPassMetrics)>,
    /// Forward passes of the decode or aggregated pool it was shown.
    pub decode_passes: Vec<(EngineId, ForwardPassMetrics)>,
    /// Load expected.
    pub prediction: Option<Prediction>,
    /// The slow loop.
    pub throughput: ThroughputOutcome,
    /// The fast loop.
    pub load: LoadOutcome,
    /// Fewest replicas of prefill and decode for the predicted load, after this tick.
    pub lower_bounds: (i64, i64),
    /// Replicas there should be, if that is a change.
    pub scale_to: Option<Targets>,
    /// What the last look at the budget did, in words.
    pub limits: Vec<String>,
}

impl Decision {
    pub(super) fn new(tick: &Tick, input: &TickInput) -> Self {
        let passes = |fpm: Option<&[_]>| fpm.map_or_else(Vec::new, <[_]>::to_vec);
        Self {
            tick: *tick,
            workers: input.workers,
            traffic: input.traffic,
            prefill_passes: passes(input.fpm.as_ref().map(|fpm| fpm.prefill.records())),
            decode_passes: passes(input.fpm.as_ref().map(|fpm| fpm.decode.records())),
            prediction: None,
            throughput: ThroughputOutcome::default(),
            load: LoadOutcome::default(),
            lower_bounds: (1, 1),
            scale_to: None,
            limits: Vec::new(),
        }
    }

    /// Whether anything was due or decided.
    pub fn is_worth_noting(&self) -> bool {
        self.tick.run_load || self.tick.run_throughput || self.scale_to.is_some()
    }

    /// Requests per second that one replica of each pool sustains, by the slow loop's estimate. A single pool is both.
    pub fn engine_rps(&self) -> (Option<f64>, Option<f64>) {
        let rps = |wanted: Role| {
            let found = self.throughput.sizings.iter().find(|s| s.role == wanted || s.role == Role::Aggregated);
            found.map(|sizing| sizing.engine_rps)
        };
        (rps(Role::Prefill), rps(Role::Decode))
    }

    /// The pools, with counts, targets and the reason of the fast loop.
    fn pools(&self) -> Vec<(Role, PoolCounts, Option<i64>, Option<LoadReason>)> {
        let targets = self.scale_to.unwrap_or_default();
        match self.workers.prefill {
            Some(prefill) => vec![
                (Role::Prefill, prefill, targets.prefill, self.load.reason_prefill),
                (Role::Decode, self.workers.decode, targets.decode, self.load.reason_decode),
            ],
            None => vec![(Role::Aggregated, self.workers.decode, targets.decode, self.load.reason)],
        }
    }

    /// All sentences as one.
    pub fn text(&self) -> String {
        let sentences: Vec<String> = self.sentences().into_iter().map(|(_, sentence)| sentence).collect();
        sentences.join("; ")
    }

    /// One sentence per pool.
    pub fn sentences(&self) -> Vec<(Role, String)> {
        let sentence = |(role, counts, target, reason): (Role, PoolCounts, Option<i64>, Option<LoadReason>)| {
            let (name, from) = (pool_name(role), counts.ready);
            let action = match target {
                Some(to) if to != from => format!("scaled {name} {from} to {to}"),
                _ => format!("kept {name} at {from}"),
            };
            let direction = target.unwrap_or(from).cmp(&from);
            (role, format!("{action}: {}", self.because(role, direction, reason)))
        };
        self.pools().into_iter().map(sentence).collect()
    }

    /// Why a pool changed in a direction, in words.
    fn because(&self, role: Role, direction: std::cmp::Ordering, reason: Option<LoadReason>) -> String {
        let mut parts = Vec::new();
        let of_pool = |opinion: &&Opinion| opinion.role == role;
        let opinions: Vec<&Opinion> = self.load.opinions.iter().filter(of_pool).collect();
        // The side that wanted what happened speaks; where nobody did, all do.
        let ready = if role == Role::Prefill {
            self.workers.prefill.unwrap_or_default().ready
        } else {
            self.workers.decode.ready
        };
        let agrees = |opinion: &&Opinion| opinion.wanted.unwrap_or(ready).cmp(&ready) == direction;
        let mut speaking: Vec<&Opinion> = opinions.iter().copied().filter(agrees).collect();
        if speaking.is_empty() {
            speaking = opinions;
        }
        parts.extend(speaking.iter().map(|opinion| opinion.because.clone()));
        if parts.is_empty()
            && let Some(reason) = reason.filter(|reason| *reason != LoadReason::Disabled)
        {
            parts.push(reason.words().to_owned());
        }
        let sizing = self.throughput.sizings.iter().find(|sizing| sizing.role == role);
        match (sizing, self.throughput.reason) {
            (Some(sizing), Some(ThroughputReason::Scale | ThroughputReason::SetLowerBound)) => {
                parts.push(sized(sizing, self.throughput.reason));
            }
            (_, Some(ThroughputReason::ModelNotReady | ThroughputReason::PartnerNotReady)) => {
                parts.push("too few forward passes were observed to size the pool for the predicted load".to_owned());
            }
            (_, Some(ThroughputReason::NoTrafficData)) => parts.push("no traffic was observed".to_owned()),
            (_, Some(ThroughputReason::PredictFailed)) => parts.push("the load could not be predicted".to_owned()),
            _ => {}
        }
        parts.extend(self.load.limits.iter().chain(&self.throughput.limits).chain(&self.limits).cloned());
        if parts.is_empty() {
            parts.push("no loop was due".to_owned());
        }
        parts.join("; ")
    }

    /// The decision as one object of the decision log.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        put("kind", json!("plan"));
        put("at_ms", finite(self.tick.at_s * 1000.0));
        put("text", json!(self.text()));
        put("run_load", json!(self.tick.run_load));
        put("run_throughput", json!(self.tick.run_throughput));
        let counts = |counts: PoolCounts| json!({"ready": counts.ready, "expected": counts.expected, "draining": counts.draining});
        put("prefill_workers", self.workers.prefill.map_or(Value::Null, counts));
        put("decode_workers", counts(self.workers.decode));
        put("traffic", self.traffic.map_or(Value::Null, |traffic| traffic_json(&traffic)));
        put("prefill_engines", self.prefill_passes.iter().map(engine_json).collect());
        put("decode_engines", self.decode_passes.iter().map(engine_json).collect());
        put("prediction", self.prediction.map_or(Value::Null, |prediction| prediction_json(&prediction)));
        put(
            "load",
            json!({
                "reason": self.load.reason.map(LoadReason::name),
                "reason_prefill": self.load.reason_prefill.map(LoadReason::name),
                "reason_decode": self.load.reason_decode.map(LoadReason::name),
                "estimated_ttft_ms": self.load.estimated_ttft_ms.map_or(Value::Null, finite),
                "estimated_itl_ms": self.load.estimated_itl_ms.map_or(Value::Null, finite),
                "opinions": self.load.opinions.iter().map(Opinion::to_json).collect::<Vec<_>>(),
                "limits": self.load.limits,
            }),
        );
        put(
            "throughput",
            json!({
                "reason": self.throughput.reason.map(ThroughputReason::name),
                "reason_prefill": self.throughput.reason_prefill.map(ThroughputReason::name),
                "reason_decode": self.throughput.reason_decode.map(ThroughputReason::name),
                "sizings": self.throughput.sizings.iter().map(Sizing::to_json).collect::<Vec<_>>(),
                "limits": self.throughput.limits,
            }),
        );
        put("lower_bound_prefill", json!(self.lower_bounds.0));
        put("lower_bound_decode", json!(self.lower_bounds.1));
        let targets = self.scale_to.map(|targets| json!({"prefill": targets.prefill, "decode": targets.decode}));
        put("scale_to", targets.unwrap_or(Value::Null));
        Value::Object(map)
    }
}

fn sized(sizing: &Sizing, reason: Option<ThroughputReason>) -> String {
    let least = if reason == Some(ThroughputReason::SetLowerBound) { "at least " } else { "" };
    let beside = if sizing.eligible { "" } else { ", though beyond the bounds" };
    format!(
        "the predicted {} requests/s need {least}{} at {} requests/s each{beside}",
        figure(sizing.demand_rps),
        sizing.replicas,
        figure(sizing.engine_rps)
    )
}

fn traffic_json(traffic: &TrafficObservation) -> Value {
    json!({
        "duration_s": finite(traffic.duration_s),
        "num_req": finite(traffic.num_req),
        "isl": finite(traffic.isl),
        "osl": finite(traffic.osl),
        "kv_hit_rate": traffic.kv_hit_rate.map_or(Value::Null, finite),
        "accept_length": traffic.accept_length.map_or(Value::Null, finite),
    })
}

fn prediction_json(prediction: &Prediction) -> Value {
    json!({
        "num_req": finite(prediction.num_req),
        "isl": finite(prediction.isl),
        "osl": finite(prediction.osl),
        "kv_hit_rate": prediction.kv_hit_rate.map_or(Value::Null, finite),
        "accept_length": finite(prediction.accept_length),
    })
}

fn engine_json((engine, pass): &(EngineId, ForwardPassMetrics)) -> Value {
    json!({
        "worker": engine.worker,
        "rank": engine.rank,
        "wall_ms": finite(pass.wall_s * 1000.0),
        "prefills": pass.prefills,
        "prefill_tokens": pass.prefill_tokens,
        "prefix_tokens": pass.prefix_tokens,
        "decodes": pass.decodes,
        "decode_kv_tokens": pass.decode_kv_tokens,
        "queued_prefills": pass.queued_prefills,
        "queued_prefill_tokens": pass.queued_prefill_tokens,
        "queued_decodes": pass.queued_decodes,
        "queued_decode_kv_tokens": pass.queued_decode_kv_tokens,
    })
}
