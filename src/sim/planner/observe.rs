//! What the planner sees: forward passes, traffic, workers.

/// A data-parallel rank of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId {
    /// Number of the worker within its pool.
    pub worker: u32,
    /// Rank within the worker.
    pub rank: u32,
}

/// One forward pass of an engine, and what it left waiting.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ForwardPassMetrics {
    /// Duration, seconds; 0 for an idle engine.
    pub wall_s: f64,
    /// Requests that computed prompt tokens.
    pub prefills: u64,
    /// Prompt tokens computed.
    pub prefill_tokens: u64,
    /// Prompt tokens of those requests that were there before.
    pub prefix_tokens: u64,
    /// Requests that decoded.
    pub decodes: u64,
    /// Sum of their contexts, tokens.
    pub decode_kv_tokens: u64,
    /// Requests that wait and were never scheduled.
    pub queued_prefills: u64,
    /// Their whole prompts, tokens.
    pub queued_prefill_tokens: u64,
    /// Requests that wait to decode: preempted, or with a hand-off on the way.
    pub queued_decodes: u64,
    /// Their contexts, tokens.
    pub queued_decode_kv_tokens: u64,
}

/// The last record of every engine of a pool, in the order in which engines first reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FpmCache(Vec<(EngineId, ForwardPassMetrics)>);

impl FpmCache {
    /// Takes over `records`, then forgets engines of workers that `is_active` does not know.
    pub fn update(
        &mut self,
        records: impl IntoIterator<Item = (EngineId, ForwardPassMetrics)>,
        is_active: impl Fn(u32) -> bool,
    ) {
        for (engine, record) in records {
            match self.0.iter_mut().find(|(known, _)| *known == engine) {
                Some((_, latest)) => *latest = record,
                None => self.0.push((engine, record)),
            }
        }
        self.0.retain(|(engine, _)| is_active(engine.worker));
    }

    /// The records.
    pub fn records(&self) -> &[(EngineId, ForwardPassMetrics)] {
        &self.0
    }
}

/// Requests of a stretch of time. Means are 0 where nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TrafficWindow {
    /// Length, seconds.
    pub duration_s: f64,
    /// Requests that arrived.
    pub num_req: f64,
    /// Mean prompt tokens of completed requests.
    pub avg_isl: f64,
    /// Mean output tokens of completed requests.
    pub avg_osl: f64,
    /// Requests behind those two.
    pub shape_count: f64,
    /// Mean TTFT of completed requests, milliseconds.
    pub avg_ttft_ms: f64,
    /// Requests behind it.
    pub ttft_count: f64,
    /// Mean over completed requests of their mean ITL, milliseconds.
    pub avg_itl_ms: f64,
    /// Requests behind it.
    pub itl_count: f64,
    /// Mean over router admissions of the share of prompt blocks found in the cache.
    pub avg_kv_hit_rate: f64,
    /// Admissions behind it.
    pub hit_rate_count: f64,
    /// Output tokens per request and decode pass.
    pub avg_accept_length: Option<f64>,
    /// Request-passes behind it.
    pub forward_count: f64,
}

/// `(a * wa + b * wb) / (wa + wb)`, 0 without weight.
fn weighted(a: f64, wa: f64, b: f64, wb: f64) -> f64 {
    let weight = wa + wb;
    if weight <= 0.0 { 0.0 } else { (a * wa + b * wb) / weight }
}

impl TrafficWindow {
    /// Two windows as one.
    pub fn merge(&self, next: &Self) -> Self {
        let (a, b) = (self, next);
        let avg_accept_length = match (a.avg_accept_length, b.avg_accept_length) {
            (Some(x), Some(y)) => {
                let passes = a.forward_count + b.forward_count;
                (passes > 0.0).then(|| weighted(x, a.forward_count, y, b.forward_count))
            }
            (x, y) => x.or(y),
        };
        Self {
            duration_s: a.duration_s + b.duration_s,
            num_req: a.num_req + b.num_req,
            avg_isl: weighted(a.avg_isl, a.shape_count, b.avg_isl, b.shape_count),
            avg_osl: weighted(a.avg_osl, a.shape_count, b.avg_osl, b.shape_count),
            shape_count: a.shape_count + b.shape_count,
            avg_ttft_ms: weighted(a.avg_ttft_ms, a.ttft_count, b.avg_ttft_ms, b.ttft_count),
            ttft_count: a.ttft_count + b.ttft_count,
            avg_itl_ms: weighted(a.avg_itl_ms, a.itl_count, b.avg_itl_ms, b.itl_count),
            itl_count: a.itl_count + b.itl_count,
            avg_kv_hit_rate: weighted(a.avg_kv_hit_rate, a.hit_rate_count, b.avg_kv_hit_rate, b.hit_rate_count),
            hit_rate_count: a.hit_rate_count + b.hit_rate_count,
            avg_accept_length,
            forward_count: a.forward_count + b.forward_count,
        }
    }

    /// What the planner is told of it.
    pub fn observation(&self) -> TrafficObservation {
        TrafficObservation {
            duration_s: self.duration_s,
            num_req: self.num_req,
            isl: self.avg_isl,
            osl: self.avg_osl,
            kv_hit_rate: Some(self.avg_kv_hit_rate),
            accept_length: self.avg_accept_length,
        }
    }
}

/// Traffic as the planner is told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TrafficObservation {
    /// Seconds observed.
    pub duration_s: f64,
    /// Requests that arrived.
    pub num_req: f64,
    /// Mean prompt tokens.
    pub isl: f64,
    /// Mean output tokens.
    pub osl: f64,
    /// Mean share of prompt blocks found in the cache.
    pub kv_hit_rate: Option<f64>,
    /// Output tokens per request and decode pass.
    pub accept_length: Option<f64>,
}

/// Workers of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolCounts {
    /// Those that take requests.
    pub ready: i64,
    /// Those and the ones that are starting.
    pub expected: i64,
    /// Those that finish what they have; the planner does not look at them.
    pub draining: i64,
}

impl PoolCounts {
    /// Whether workers are starting.
    pub fn in_progress(self) -> bool {
        self.expected != self.ready
    }
}

/// Workers of both pools; an aggregated pool stands in the place of decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerCounts {
    /// Prefill pool, if there is one.
    pub prefill: Option<PoolCounts>,
    /// Decode or aggregated pool.
    pub decode: PoolCounts,
}

/// What an engine can hold; `None` where that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// GPUs of a replica.
    pub gpus: i64,
    /// Tokens of a forward pass.
    pub max_num_batched_tokens: Option<u64>,
    /// Requests of a forward pass.
    pub max_num_seqs: Option<u64>,
    /// Tokens of prompt and output together.
    pub context_length: Option<u64>,
    /// KV tokens of a replica, all ranks together.
    pub max_kv_tokens: Option<u64>,
    /// Draft tokens of speculative decoding.
    pub speculative_nextn: Option<u32>,
}
