//! What the planner asks about an engine: how long the next prompt waits, how fast tokens come.

use crate::scenario::{PlannerSemantics, RegressionConfig, Role};
use crate::time::SimDuration;

use super::super::observe::{Capabilities, EngineId, ForwardPassMetrics};
use super::average::MovingAverage;
use super::forward::{ForwardModel, PassLoad};

/// Most of a prompt that a prefix cache is trusted to save.
const MOST_REUSE: f64 = 0.95;

/// Bounds of an engine's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of a forward pass.
    pub batched_tokens: u64,
    /// Requests of a forward pass.
    pub seqs: u64,
    /// KV tokens.
    pub kv_tokens: u64,
}

impl From<&Capabilities> for Limits {
    fn from(engine: &Capabilities) -> Self {
        Self {
            batched_tokens: engine.max_num_batched_tokens.unwrap_or(8_192),
            seqs: engine.max_num_seqs.unwrap_or(512),
            kv_tokens: engine.max_kv_tokens.unwrap_or(2_000_000),
        }
    }
}

/// How a question about waiting prompts differs from what was reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrefillQuery {
    /// Share of prompt blocks found in the cache.
    pub kv_hit_rate: Option<f64>,
    /// Factor on the queue.
    pub queue_scale: f64,
    /// Factor on decoding requests.
    pub decode_scale: f64,
    /// Whether requests that wait to decode count as decoding.
    pub with_queued_decodes: bool,
}

impl PrefillQuery {
    /// As it was reported.
    pub fn now(kv_hit_rate: Option<f64>) -> Self {
        Self { kv_hit_rate, queue_scale: 1.0, decode_scale: 1.0, with_queued_decodes: false }
    }
}

/// How a question about decoding requests differs from what was reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeQuery {
    /// Factor on decoding requests.
    pub scale: f64,
    /// Whether waiting prompts count as contexts.
    pub with_queued_prompts: bool,
}

/// What is known about the engines of a pool.
#[derive(Debug, Clone)]
pub struct EngineModel {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) forward: ForwardModel,
    quirks: PlannerSemantics,
    /// Prompt tokens of the next request: by the reference's measure, tokens per chunk, thinned by passes without any.
    next_prompt: MovingAverage,
    /// Context of the next decoding request, tokens.
    next_context: MovingAverage,
    /// Prompt tokens of an aggregated pass.
    pass_tokens: MovingAverage,
    /// Requests that prefill in an aggregated pass.
    pass_prefills: MovingAverage,
}

impl EngineModel {
    /// A model that knows nothing.
    pub fn new(role: Role, config: RegressionConfig, engine: &Capabilities, quirks: PlannerSemantics) -> Self {
        let average = || MovingAverage::new(config.max_samples);
        Self {
            role,
            limits: Limits::from(engine),
            forward: ForwardModel::new(config, quirks.positive_intercept),
            quirks,
            next_prompt: average(),
            next_context: average(),
            pass_tokens: average(),
            pass_prefills: average(),
        }
    }

    /// Learns from the last passes of a pool. The regression sees workers in the order of their numbers as texts, as the
    /// reference does.
    pub fn observe(&mut self, records: &[(EngineId, ForwardPassMetrics)]) {
        for (_, record) in records {
            self.note_lengths(record);
        }
        let mut ordered: Vec<_> = records.iter().collect();
        ordered.sort_by_cached_key(|(engine, _)| (engine.worker.to_string(), engine.rank));
        for (_, record) in ordered {
            self.tune(record);
        }
    }

    /// Learns from points that were measured or calculated before the run.
    pub fn learn(&mut self, points: &[ForwardPassMetrics]) {
        for point in points {
            self.note_lengths(point);
        }
        for point in points {
            self.tune(point);
        }
    }

    fn note_lengths(&mut self, record: &ForwardPassMetrics) {
        if record.prefills > 0 {
            self.next_prompt.add(record.prefill_tokens as f64 / record.prefills as f64);
        } else if !self.quirks.whole_prompts {
            self.next_prompt.add(0.0);
        }
        if record.decodes > 0 {
            self.next_context.add(record.decode_kv_tokens as f64 / record.decodes as f64);
        }
    }

    fn tune(&mut self, record: &ForwardPassMetrics) {
        let load = PassLoad {
            prefills: record.prefills,
            prefill_tokens: record.prefill_tokens,
            decodes: record.decodes,
            decode_kv_tokens: record.decode_kv_tokens,
        };
        self.pass_tokens.add(record.prefill_tokens as f64);
        self.pass_prefills.add(record.prefills as f64);
        self.forward.tune(&load, record.wall_s);
    }

    /// Whether anything can be estimated.
    pub fn is_ready(&self) -> bool {
        self.forward.is_ready()
    }

    /// Passes remembered.
    pub fn observations(&self) -> usize {
        self.forward.observations()
    }

    /// Prompt tokens of the next request, as far as known.
    pub fn next_prompt(&self) -> f64 {
        self.next_prompt.mean()
    }

    /// Context tokens of the next decoding request, as far as known.
    pub fn next_context(&self) -> f64 {
        self.next_context.mean()
    }

    /// How long a pass takes.
    pub fn pass(&self, load: &PassLoad) -> Option<SimDuration> {
        self.forward.estimate(load)
    }

    /// Seconds until the queue and one more prompt are computed; `None` where a pass of it has no estimate.
    pub fn queued_prefill_s(&self, record: &ForwardPassMetrics, query: PrefillQuery) -> Option<f64> {
        let mut tokens = record.queued_prefill_tokens as f64 * query.queue_scale;
        let mut requests = record.queued_prefills as f64 * query.queue_scale;
        if self.next_prompt() > 0.0 {
            tokens += self.next_prompt();
            requests += 1.0;
        }
        tokens *= kept_share(query.kv_hit_rate);
        let (mut kv, mut decodes) = (record.decode_kv_tokens as f64, record.decodes as f64);
        if query.with_queued_decodes {
            kv += record.queued_decode_kv_tokens as f64;
            decodes += record.queued_decodes as f64;
        }
        let (decodes, kv) = if self.role == Role::Aggregated {
            (up(decodes * query.decode_scale), up(kv * query.decode_scale))
        } else {
            (0, 0)
        };
        self.chunked(up(tokens), up(requests), decodes, kv).map(seconds)
    }

    /// Time of `tokens` prompt tokens of `requests`, as many in a pass as fit, each with the same decodes.
    pub(super) fn chunked(&self, tokens: u64, requests: u64, decodes: u64, kv: u64) -> Option<SimDuration> {
        if tokens == 0 {
            return Some(SimDuration::ZERO);
        }
        let pass = |tokens: u64| {
            let load = PassLoad { prefills: requests.max(1), prefill_tokens: tokens, decodes, decode_kv_tokens: kv };
            self.forward.estimate(&load)
        };
        let (full, rest) = (tokens / self.limits.batched_tokens, tokens % self.limits.batched_tokens);
        let mut nanos = 0;
        if full > 0 {
            nanos += u128::from(pass(self.limits.batched_tokens)?.as_nanos()) * u128::from(full);
        }
        if rest > 0 {
            nanos += u128::from(pass(rest)?.as_nanos());
        }
        Some(SimDuration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Seconds of a decode pass with one request more.
    pub fn decode_pass_s(&self, record: &ForwardPassMetrics, query: DecodeQuery) -> Option<f64> {
        let mut kv = record.decode_kv_tokens as f64 + record.queued_decode_kv_tokens as f64;
        let mut decodes = record.decodes as f64 + record.queued_decodes as f64;
        if query.with_queued_prompts {
            kv += record.queued_prefill_tokens as f64;
            decodes += record.queued_prefills as f64;
        }
        kv *= query.scale;
        decodes *= query.scale;
        if self.next_context() > 0.0 {
            kv += self.next_context();
            decodes += 1.0;
        }
        let mut load = PassLoad { decodes: up(decodes), decode_kv_tokens: up(kv), ..PassLoad::default() };
        if self.role == Role::Aggregated {
            if self.quirks.own_prefill {
                (load.prefill_tokens, load.prefills) = (record.prefill_tokens, record.prefills);
            } else {
                load.prefill_tokens = up(self.pass_tokens.mean());
                load.prefills = up(self.pass_prefills.mean()).max(u64::from(load.prefill_tokens > 0));
            }
        }
        self.forward.estimate(&load).map(seconds)
    }
}

/// Share of a prompt that must be computed.
pub(super) fn kept_share(kv_hit_rate: Option<f64>) -> f64 {
    match kv_hit_rate {
        Some(rate) if !rate.is_nan() => 1.0 - rate.clamp(0.0, MOST_REUSE),
        _ => 1.0,
    }
}

/// Rounded up, at least 0.
pub(super) fn up(value: f64) -> u64 {
    if value > 0.0 { value.ceil() as u64 } else { 0 }
}

pub(super) fn seconds(span: SimDuration) -> f64 {
    std::time::Duration::from_nanos(span.as_nanos()).as_secs_f64()
}
