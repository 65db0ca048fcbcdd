//! Everything there is to draw of a run at one instant.
//!
//! A frame is read from a [`Simulation`](crate::sim::Simulation) that stands at that instant; it holds no reference to it,
//! so that drawing and simulating can go on side by side. Workers are named by role and number, requests by their index in
//! the workload; both stay the same from frame to frame.

use crate::scenario::Role;
use crate::sim::metrics::WorkerState;
use crate::time::{SimDuration, SimTime};

/// A worker's name: its role and its number within the pool, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName {
    /// Part it plays.
    pub role: Role,
    /// Number within its pool.
    pub id: u32,
}

/// A run at one instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrameModel {
    /// The instant.
    pub at: SimTime,
    /// Where requests come from.
    pub traffic: Traffic,
    /// Where they are sent from.
    pub router: RouterFrame,
    /// The aggregated pool alone, or prefill first and decode second.
    pub pools: Vec<PoolFrame>,
    /// KV on its way from prefill to decode.
    pub transfers: Vec<TransferFrame>,
    /// What was decided in the last seconds, oldest first.
    pub notes: Vec<Note>,
    /// Figures of the run so far.
    pub headline: Headline,
}

/// The source of requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Traffic {
    /// Requests that arrived so far.
    pub arrived: u32,
    /// Requests that ended so far, however.
    pub ended: u32,
    /// Requests of the workload.
    pub total: u32,
    /// Arrivals within the last simulated second, requests per second.
    pub rate: f64,
    /// The last arrivals, newest first, at most [`RECENT_ARRIVALS`].
    pub recent: Vec<Arrival>,
}

/// Most arrivals a frame tells of.
pub const RECENT_ARRIVALS: usize = 64;

/// A request that arrived a short time ago.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// Index of the request.
    pub request: u32,
    /// When.
    pub at: SimTime,
    /// Where it was sent first, unless it still waits at the router.
    pub placed: Option<WorkerName>,
}

/// The router.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouterFrame {
    /// Its mode, as the flag `--router-mode` spells it.
    pub mode: String,
    /// Requests that wait at it, in the order in which they arrived.
    pub waiting: Vec<RequestDot>,
}

/// A request that waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestDot {
    /// Index of the request.
    pub request: u32,
    /// Prompt length, tokens.
    pub input_tokens: u32,
    /// How long it has waited in this place.
    pub waited: SimDuration,
}

/// Workers of one role.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolFrame {
    /// Part they play.
    pub role: Role,
    /// Workers asked for last.
    pub requested: u32,
    /// GPUs that one of them occupies.
    pub gpus_per_worker: u32,
    /// All of them, by ascending number.
    pub workers: Vec<WorkerFrame>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerFrame {
    /// Its name.
    pub name: WorkerName,
    /// Starting, active or draining.
    pub state: WorkerState,
    /// When a starting worker will be ready.
    pub ready_at: Option<SimTime>,
    /// The forward pass in progress.
    pub pass: Option<PassFrame>,
    /// The running batch, in the order in which requests were admitted; over all ranks.
    pub running: Vec<Tile>,
    /// Requests that wait, first in line first; over all ranks.
    pub waiting: Vec<RequestDot>,
    /// KV blocks, over all ranks.
    pub kv: KvFrame,
    /// Requests that gave way to others so far.
    pub preemptions: u64,
    /// Blocks evicted so far.
    pub evicted: u64,
}

/// A forward pass in progress.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassFrame {
    /// When it started.
    pub start: SimTime,
    /// When it ends.
    pub end: SimTime,
    /// Prompt tokens it computes.
    pub prefill_tokens: u64,
    /// Requests that compute prompt tokens in it.
    pub prefill_requests: u32,
    /// Requests that decode in it.
    pub decode_requests: u32,
}

/// What a request of the running batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TilePhase {
    /// Its prompt is being computed.
    Prefill,
    /// It emits tokens.
    Decode,
    /// Finished here; its blocks are held for the hand-off.
    Held,
    /// Announced by a prefill worker; blocks are reserved for it.
    Reserved,
    /// It waits for blocks from a lower KV tier.
    BringingUp,
}

/// A request in a running batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tile {
    /// Index of the request.
    pub request: u32,
    /// What it does.
    pub phase: TilePhase,
    /// Share of the prompt (prefill) or of the output (decode) that is done, 0 to 1.
    pub progress: f32,
    /// Prompt length, tokens.
    pub input_tokens: u32,
    /// Output tokens asked for.
    pub output_tokens: u32,
    /// Session it belongs to, if any.
    pub session: Option<u32>,
    /// Whether its TTFT, or its mean inter-token latency so far, is over the target.
    pub misses_sla: bool,
}

/// KV blocks of a worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KvFrame {
    /// All blocks.
    pub total: u64,
    /// Owned by requests.
    pub active: u64,
    /// Promised to hand-offs.
    pub reserved: u64,
    /// Kept for reuse only.
    pub cached: u64,
    /// Neither.
    pub free: u64,
    /// Groups of blocks in a stable order: active first, then cached from the most to the least recently used.
    pub groups: Vec<KvGroup>,
}

/// What a group of KV blocks is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvUse {
    /// Owned by one or several requests.
    Active,
    /// Promised to a hand-off.
    Reserved,
    /// Kept for reuse only.
    Cached,
}

/// KV blocks that belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvGroup {
    /// What they are kept for.
    pub usage: KvUse,
    /// How many.
    pub blocks: u32,
    /// Requests that own them.
    pub owners: u32,
    /// A request that owns them, where that is known.
    pub request: Option<u32>,
    /// What they hold: equal where they hold parts of one prefix. `None` for blocks nobody else can use.
    pub prefix: Option<u32>,
}

/// KV on its way to a decode worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransferFrame {
    /// Index of the request.
    pub request: u32,
    /// Prefill worker.
    pub from: WorkerName,
    /// Decode worker.
    pub to: WorkerName,
    /// When it started.
    pub start: SimTime,
    /// When it ends, as far as can be told now.
    pub end: SimTime,
    /// Share that is there, 0 to 1.
    pub progress: f32,
    /// Bytes in all.
    pub bytes: u64,
}

/// Something that was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// When.
    pub at: SimTime,
    /// Pool it concerns.
    pub role: Role,
    /// In one sentence.
    pub text: String,
    /// Replicas before and after, if that changed.
    pub change: Option<(u32, u32)>,
}

/// Figures of the run so far, over the requests that completed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Headline {
    /// Requests that completed.
    pub completed: u32,
    /// Median time to first token, milliseconds.
    pub ttft_p50_ms: Option<f64>,
    /// 90th percentile of time to first token, milliseconds.
    pub ttft_p90_ms: Option<f64>,
    /// Mean inter-token latency per request, median over requests, milliseconds.
    pub itl_p50_ms: Option<f64>,
    /// Share of completed requests that met the SLA, 0 to 1, where there is one.
    pub sla_attainment: Option<f64>,
    /// GPUs provisioned now.
    pub gpus: u32,
    /// GPU-hours provisioned so far.
    pub gpu_hours: f64,
    /// Output tokens so far.
    pub output_tokens: u64,
}
