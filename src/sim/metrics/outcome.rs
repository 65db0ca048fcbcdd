//! What a finished run leaves behind, and what can be read while it runs.

use crate::scenario::Role;
use crate::sim::planner::PlannerLog;
use crate::time::{SimDuration, SimTime};

use super::sketch::Distribution;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinalStatus {
    /// All tokens produced.
    Completed,
    /// Refused by an engine: it can never hold the prompt.
    Rejected,
    /// Could not proceed: a hand-off that no decode worker can hold, or a dead end.
    Failed,
    /// Arrived, but the run stopped before it ended.
    Unfinished,
}

/// Stamps of a request on its way through prefill, hand-off and decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandoffRecord {
    /// First admission by the prefill worker (start of that pass).
    pub prefill_admit: Option<SimTime>,
    /// Prefill finished; blocks are held for transfer.
    pub source_held: Option<SimTime>,
    /// Decode worker reserved blocks.
    pub destination_reserved: Option<SimTime>,
    /// Transfer over and decode worker ready to run the request.
    pub destination_activated: Option<SimTime>,
    /// First admission by the decode worker.
    pub decode_admit: Option<SimTime>,
    /// Prefill worker gave its blocks back.
    pub source_released: Option<SimTime>,
    /// Tokens reused at admission on the decode worker, the most over all admissions.
    pub decode_reused_tokens: Option<u32>,
    /// Prompt tokens that the router took for cached on the prefill worker.
    pub prefill_route_overlap_tokens: u32,
    /// The same on the decode worker.
    pub decode_route_overlap_tokens: u32,
}

/// One request that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRecord {
    /// Index in the workload; the request's identity.
    pub request: u32,
    /// Session and turn (both zero-based) when the session driver released it.
    pub session_turn: Option<(u32, u32)>,
    /// Recorded arrival.
    pub arrival: SimTime,
    /// When it was given to a worker: the aggregated or the prefill one.
    pub routed: Option<SimTime>,
    /// Start of the pass of its first admission.
    pub first_admit: Option<SimTime>,
    /// End of the pass that ended it; `None` while unfinished.
    pub terminal: Option<SimTime>,
    /// First token.
    pub first_token: Option<SimTime>,
    /// Second token.
    pub second_token: Option<SimTime>,
    /// Last token.
    pub last_token: Option<SimTime>,
    /// Prompt tokens (cumulative in delta sessions).
    pub input_tokens: u32,
    /// Output tokens asked for.
    pub requested_output_tokens: u32,
    /// Output tokens produced.
    pub output_tokens: u32,
    /// Most prompt tokens found in the prefix cache over all admissions (on the prefill worker when there is one).
    pub reused_tokens: u32,
    /// The same at the first admission.
    pub first_reused_tokens: u32,
    /// Prefill worker, in disaggregated runs.
    pub prefill_worker: Option<u32>,
    /// Decode worker, or the global scheduler index in aggregated runs; `None` in single-worker runs.
    pub decode_worker: Option<u32>,
    /// Hand-off stamps, in disaggregated runs.
    pub handoff: Option<HandoffRecord>,
    /// What lower KV tiers gave it, in runs that have any.
    pub tiers: Option<TierRecord>,
    /// How it ended.
    pub status: FinalStatus,
}

/// What a request got from the KV tiers below the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierRecord {
    /// Tokens from host memory (G2), disk (G3) and object store (G4), over all times it was brought up.
    pub tokens: [u64; 3],
    /// Time it waited for them.
    pub wait: SimDuration,
}

/// KV tiers below the GPUs of a pool, over the whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct TierTotals {
    /// Pool.
    pub role: Role,
    /// Bytes that arrived and mean share of time in which a link was busy: G1 to G2 and back, summed and averaged over
    /// schedulers; G2 to G3 and back, G2 to G4 and back. Links of unlimited bandwidth are never busy.
    pub links: [(u128, f64); 6],
    /// Blocks in G2, G3 and G4 at the end, over all workers.
    pub blocks: [u64; 3],
    /// Evicted blocks that G2 had already, and those it had no place for.
    pub not_copied: [u64; 2],
}

/// Everything a report is made from.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// One record per arrived request, in arrival order (ties in release order).
    pub records: Vec<RequestRecord>,
    /// Gaps between consecutive tokens of completed requests, milliseconds.
    pub itl: Distribution,
    /// `1000 / gap` for every gap above zero: tokens per second as one user sees them.
    pub user_throughput: Distribution,
    /// Provisioned time (starting and draining included) of the prefill pool, worker-seconds.
    pub prefill_worker_seconds: f64,
    /// The same of the decode or aggregated pool.
    pub decode_worker_seconds: f64,
    /// How long the workers of every pool were there and computed, prefill first.
    pub pools: Vec<PoolTime>,
    /// Last instant at which anything happened.
    pub end: SimTime,
    /// Requests that a dead end stopped, with what blocked what; empty in a healthy run.
    pub dead_ends: Vec<String>,
    /// Scaling actions in order.
    pub scaling_events: Vec<ScalingEvent>,
    /// What the planner did, if there was one.
    pub planner: Option<PlannerLog>,
    /// Forward passes executed over all workers.
    pub passes: u64,
    /// Running requests that gave way to others.
    pub preemptions: u64,
    /// Passes outside the measured region of their timing table.
    pub extrapolated_passes: u64,
    /// KV tiers below the GPUs, one entry per pool that has any.
    pub tiers: Vec<TierTotals>,
}

/// Time of the workers of a pool, from the start of the run to its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolTime {
    /// Pool.
    pub role: Role,
    /// Time in which a forward pass was in progress, worker-nanoseconds; a worker's ranks count as one. At most
    /// `provisioned`.
    pub busy: u128,
    /// Time from start to removal, starting and draining included, worker-nanoseconds.
    pub provisioned: u128,
}

/// One change of a replica target that did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingEvent {
    /// When.
    pub at: SimTime,
    /// Which pool.
    pub role: Role,
    /// Active plus starting workers before.
    pub from: u32,
    /// Active plus starting workers after.
    pub to: u32,
}

/// Life cycle of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// Provisioned, not yet ready.
    Starting,
    /// Takes requests.
    Active,
    /// Takes no more requests, finishes what it has.
    Draining,
}

/// A worker at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerSnapshot {
    /// Stable id within its pool.
    pub id: u32,
    /// Part it plays.
    pub role: Role,
    /// Life cycle.
    pub state: WorkerState,
    /// Requests waiting, over all ranks.
    pub waiting: u32,
    /// Requests running, over all ranks.
    pub running: u32,
    /// KV blocks owned by requests or reserved for them, over all ranks.
    pub kv_active: u64,
    /// KV blocks kept for reuse only.
    pub kv_cached: u64,
    /// KV blocks never used or given back.
    pub kv_free: u64,
    /// End of the forward pass in progress.
    pub busy_until: Option<SimTime>,
}

/// The fleet at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The instant.
    pub at: SimTime,
    /// Workers, prefill pool first, by ascending id.
    pub workers: Vec<WorkerSnapshot>,
    /// Requests arrived so far.
    pub arrived: u32,
    /// Requests ended so far.
    pub finished: u32,
    /// Requests between prefill and decode (held, reserved or in transfer).
    pub in_handoff: u32,
    /// Output tokens emitted so far to clients.
    pub output_tokens: u64,
}
