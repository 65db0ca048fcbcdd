//! The validated run: every value in its final unit, every default filled in, nothing left to check.
//!
//! [`Scenario`](super::Scenario) is what a user writes; [`Run`] is what the simulation takes.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::perf::{TimerSetup, Timing};
use crate::time::{SimDuration, SimTime};
use crate::workload::generate::Spec;

use super::cost::CostConfig;
use super::planner::PlannerConfig;
use super::router::{QueuePolicy, Router};
use super::trace::TraceSource;

/// Everything that determines a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Where requests come from and when.
    pub traffic: Traffic,
    /// Which workers serve them.
    pub topology: Topology,
    /// What holds for the timing of every engine.
    pub timing: TimingOptions,
    /// How requests find a worker.
    pub router: Router,
    /// Which of the reference's quirks are kept.
    pub semantics: Semantics,
    /// Bounds that define goodput.
    pub sla: Sla,
    /// No event later than this is processed; `None` runs to completion.
    pub max_sim_time: Option<SimTime>,
    /// Scripted replica targets.
    pub scaling: Option<ScalingScript>,
    /// What sets replica targets while the run goes on.
    pub planner: Option<PlannerConfig>,
    /// What GPUs are taken to cost, when an estimate is wanted; no result but the estimate depends on it.
    pub cost: Option<CostConfig>,
    /// Seed of our own random streams.
    pub seed: u64,
    /// Things the user should know that do not stop the run, one sentence each.
    pub warnings: Vec<String>,
}

/// The source of requests and the rule that releases them.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Where prompts and lengths come from.
    pub source: TrafficSource,
    /// `Some(k)`: closed loop with at most `k` active sessions; recorded arrival times are ignored.
    pub concurrency: Option<u32>,
    /// Divides recorded arrivals and think times; finite, above zero; no effect in a closed loop.
    pub arrival_speedup: f64,
}

/// Where prompts and lengths come from.
#[derive(Debug, Clone, PartialEq)]
pub enum TrafficSource {
    /// A recorded trace.
    Trace(TraceSource),
    /// The reference's synthetic load.
    Synthetic(SyntheticLoad),
    /// A generator of our own.
    Preset(Preset),
}

/// `--input-tokens`, `--output-tokens`, `--request-count` and their companions.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticLoad {
    /// Prompt tokens of every turn, at least 1.
    pub input_tokens: u32,
    /// Output tokens of every turn, at least 1.
    pub output_tokens: u32,
    /// Requests, or sessions when `turns_per_session` exceeds 1; at least 1.
    pub request_count: u32,
    /// How first turns arrive; `None` in a closed loop.
    pub arrivals: Option<SyntheticArrivals>,
    /// Seed of the arrival process.
    pub arrival_seed: u64,
    /// Turns of every session, at least 1.
    pub turns_per_session: u32,
    /// Share of a prompt that belongs to the session's prefix group, 0 to 1.
    pub shared_prefix_ratio: f64,
    /// Number of prefix groups; 0 shares nothing.
    pub num_prefix_groups: u32,
    /// Think time between turns, milliseconds.
    pub inter_turn_delay_ms: f64,
}

/// Open-loop arrival processes of the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SyntheticArrivals {
    /// Exponential gaps with this many arrivals a second.
    Poisson {
        /// Requests per second, above zero.
        rate_per_s: f64,
    },
    /// Equal gaps of this many milliseconds.
    Interval {
        /// Gap, zero or more.
        gap_ms: f64,
    },
}

/// Generators of our own, seeded by [`Run::seed`].
#[derive(Debug, Clone, PartialEq)]
pub enum Preset {
    /// Agent sessions: shared system prompts, turns that extend each other, tool waits, bursts.
    Agent(AgentPreset),
    /// Sessions of any kind, as a generator's document says.
    Generate(Box<Spec>),
}

/// Parameters of `workload: {"preset":"agent"}`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct AgentPreset {
    /// Number of sessions.
    pub sessions: u32,
    /// Mean sessions started per second outside bursts.
    pub sessions_per_s: f64,
    /// Every this many seconds a burst begins; 0 means never.
    pub burst_every_s: f64,
    /// Length of a burst in seconds.
    pub burst_length_s: f64,
    /// Factor on the session rate within a burst.
    pub burst_factor: f64,
    /// Number of distinct system prompts, chosen with Zipf-like weights.
    pub system_prompts: u32,
    /// Tokens of a system prompt with its tool descriptions.
    pub system_tokens: u32,
    /// Mean turns per session (geometric, at least one).
    pub mean_turns: f64,
    /// Median tokens a turn adds before the model answers (user text or tool result; log-normal).
    pub turn_tokens: u32,
    /// Spread (sigma of the logarithm) of `turn_tokens`.
    pub turn_sigma: f64,
    /// Median output tokens per turn (log-normal).
    pub output_tokens: u32,
    /// Spread (sigma of the logarithm) of `output_tokens`.
    pub output_sigma: f64,
    /// Mean wait for a tool between turns, milliseconds (exponential).
    pub tool_wait_ms: f64,
    /// Longest context of a session in tokens; the session ends before it is exceeded.
    pub max_context_tokens: u32,
    /// Tokens per shareable prompt block.
    pub block_size: u32,
}

impl Default for AgentPreset {
    fn default() -> Self {
        Self {
            sessions: 200,
            sessions_per_s: 0.5,
            burst_every_s: 120.0,
            burst_length_s: 15.0,
            burst_factor: 4.0,
            system_prompts: 4,
            system_tokens: 3_072,
            mean_turns: 6.0,
            turn_tokens: 700,
            turn_sigma: 0.9,
            output_tokens: 160,
            output_sigma: 0.7,
            tool_wait_ms: 2_500.0,
            max_context_tokens: 65_536,
            block_size: 64,
        }
    }
}

/// Which workers serve the load.
#[derive(Debug, Clone, PartialEq)]
// A run has one.
#[allow(clippy::large_enum_variant)]
pub enum Topology {
    /// Every worker prefills and decodes.
    Aggregated {
        /// Workers at the start, at least 1.
        workers: u32,
        /// Engine of every worker.
        engine: EngineConfig,
    },
    /// Prefill workers hand requests over to decode workers.
    Disaggregated {
        /// Prefill workers at the start, at least 1.
        prefill_workers: u32,
        /// Decode workers at the start, at least 1.
        decode_workers: u32,
        /// Engine of every prefill worker.
        prefill: EngineConfig,
        /// Engine of every decode worker; same block size as `prefill`.
        decode: EngineConfig,
    },
}

/// What a worker's engine does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Prefill and decode.
    Aggregated,
    /// Prefill only; hands requests over.
    Prefill,
    /// Decode only; receives requests.
    Decode,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Aggregated => "aggregated",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        })
    }
}

/// Which running request gives way when KV blocks run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreemptionMode {
    /// The one admitted last.
    Lifo,
    /// The one admitted first.
    Fifo,
}

/// What a KV transfer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferTiming {
    /// Every prompt token.
    FullPrompt,
    /// The blocks the destination lacks.
    DestinationMissing,
}

/// What happens to transfers that are under way at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferContention {
    /// Each has the whole bandwidth, as in the reference.
    Independent,
    /// Those that leave one prefill worker share its bandwidth equally.
    Shared,
}

/// KV tiers below the GPU (G1) of every scheduler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierConfig {
    /// Blocks of host memory (G2) per scheduler, at least 1.
    pub host_blocks: u64,
    /// Blocks of disk (G3) per scheduler; 0 is none.
    pub disk_blocks: u64,
    /// Whether the workers of a pool share an object store (G4) without bounds.
    pub object_store: bool,
    /// Blocks copied from G1 to G2 together, at least 1.
    pub batch: u32,
    /// Bytes of a block, at least 1.
    pub block_bytes: u64,
    /// How fast the tiers are.
    pub bandwidth: TierBandwidth,
}

/// Bandwidths between tiers in GB/s (1e9 bytes); 0 has no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierBandwidth {
    /// GPU to host memory, per scheduler.
    pub g1_to_g2: f64,
    /// Host memory to GPU, per scheduler.
    pub g2_to_g1: f64,
    /// Host memory to disk, shared by the workers of a pool, as are those below.
    pub g2_to_g3: f64,
    /// Disk to host memory.
    pub g3_to_g2: f64,
    /// Host memory to object store.
    pub g2_to_g4: f64,
    /// Object store to host memory.
    pub g4_to_g2: f64,
}

/// Speculative decoding: drafts of `accept_rates.len()` tokens, accepted one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Speculation {
    /// Acceptance probability of each draft position (1 to 5 of them), each 0 to 1.
    pub accept_rates: Vec<f64>,
    /// Base seed of the samplers; each scheduler adds its rank index.
    pub seed: u64,
}

/// How an engine decides which requests take part in a forward pass, and how it keeps their KV.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SchedulerKind {
    /// vLLM: requests join as long as their known tokens fit; somebody gives way when blocks run out.
    Vllm,
    /// TensorRT-LLM with `guaranteed_no_evict`: requests join when their whole output fits too, and nobody gives way.
    TrtLlm,
    /// SGLang: a radix cache of pages, prompts in chunks, an estimate of the output still to come.
    Sglang(SglangSettings),
}

/// Settings of the SGLang scheduler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SglangSettings {
    /// Order of the waiting queue.
    pub policy: SglangPolicy,
    /// Prompt tokens one pass may compute, at least 1.
    pub max_prefill_tokens: u32,
    /// Longest piece of a prompt, at least 1.
    pub chunked_prefill_size: u32,
    /// Bound on the output that is reckoned with for one request.
    pub clip_max_new_tokens: u32,
    /// 0 to 1: scales the share of the output still to come that is kept free when requests join.
    pub schedule_conservativeness: f64,
}

/// Order in which SGLang considers waiting requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SglangPolicy {
    /// First come, first served.
    Fifo,
    /// Longest resident prefix first.
    LongestPrefix,
}

/// One engine, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Part it plays.
    pub role: Role,
    /// Its scheduler.
    pub scheduler: SchedulerKind,
    /// Usable KV blocks per scheduler (rank), at least 1.
    pub num_gpu_blocks: u32,
    /// Tokens per KV block (page), at least 1; at least 2 for vLLM and TensorRT-LLM.
    pub block_size: u32,
    /// Limit of prompt plus output tokens; vLLM only.
    pub max_model_len: Option<u32>,
    /// Most running requests; `None` is unlimited.
    pub max_num_seqs: Option<u32>,
    /// Tokens one pass may compute; `None` is unlimited. With SGLang, only the measure of a router's queue.
    pub max_num_batched_tokens: Option<u32>,
    /// Whether computed blocks can be found by later requests. Not used by SGLang, which always caches.
    pub enable_prefix_caching: bool,
    /// Whether a prompt may be computed in pieces. Not used by SGLang, where a size says so.
    pub enable_chunked_prefill: bool,
    /// Divides pass durations; 0 leaves them unscaled.
    pub speedup_ratio: f64,
    /// Divides decode durations further; 0 leaves them unscaled.
    pub decode_speedup_ratio: f64,
    /// Data-parallel ranks, each a scheduler with its own KV pool; at least 1.
    pub dp_size: u32,
    /// Delay between scale-up and readiness.
    pub startup_time: SimDuration,
    /// Speculative decoding, if any.
    pub speculation: Option<Speculation>,
    /// Bytes of KV per token.
    pub kv_bytes_per_token: Option<u64>,
    /// Link speed for hand-off in GB/s (1e9 bytes); `None` or 0 transfers at once.
    pub kv_transfer_bandwidth: Option<f64>,
    /// What the transfer carries.
    pub kv_transfer_timing: TransferTiming,
    /// Whether transfers share that link; read from the prefill engine.
    pub kv_transfer_contention: TransferContention,
    /// KV tiers below the GPU, if any; not with SGLang.
    pub tiers: Option<TierConfig>,
    /// Who gives way, in vLLM.
    pub preemption_mode: PreemptionMode,
    /// Tensor-parallel size, for GPU accounting; at least 1.
    pub tp_size: u32,
    /// How long its forward passes take.
    pub timing: Timing,
    /// The arguments that chose `timing`, paths resolved: what [`Scenario::describe`](super::Scenario::describe) writes.
    pub timing_args: Map<String, Value>,
    /// Order of the router's queue; outranks the router's own setting.
    pub router_queue_policy: Option<QueuePolicy>,
}

impl EngineConfig {
    /// GPUs one worker occupies: tensor-parallel size times data-parallel ranks.
    pub fn gpus_per_worker(&self) -> u64 {
        u64::from(self.tp_size) * u64::from(self.dp_size.max(1))
    }

    /// What shapes the pass durations besides [`Self::timing`].
    pub fn timer_setup(&self) -> TimerSetup {
        TimerSetup {
            speedup_ratio: self.speedup_ratio,
            decode_speedup_ratio: self.decode_speedup_ratio,
            block_size: self.block_size,
            num_gpu_blocks: self.num_gpu_blocks,
            occupancy_unit: match self.scheduler {
                SchedulerKind::Vllm | SchedulerKind::TrtLlm => self.block_size,
                SchedulerKind::Sglang(_) => 1,
            },
            drafts: self.speculation.as_ref().map_or(0, |s| s.accept_rates.len() as u32),
        }
    }
}

/// What holds for the timing of every engine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimingOptions {
    /// Folders with timing tables besides the shipped ones.
    pub tables: Vec<PathBuf>,
    /// What to do when no table fits an engine.
    pub on_missing: OnMissing,
    /// Corrections found by a calibration, as they were given.
    pub correction: Option<Map<String, Value>>,
}

/// What to do when no timing table fits an engine's model, GPU and backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissing {
    /// Refuse, and list the nearest tables.
    #[default]
    Error,
    /// Estimate, and say so.
    Roofline,
}

/// Which quirks of the reference are kept. [`Semantics::dynamo`] keeps all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Semantics {
    /// A prefill worker hands over when the first token exists; that token counts as produced there.
    pub handoff_after_first_token: bool,
    /// A request that can never fit ends as failed instead of blocking its queue.
    pub fail_infeasible: bool,
    /// Recomputed tokens cost prefill time.
    pub charge_recompute: bool,
    /// SGLang chunk continuations are not reported as reuse.
    pub honest_reuse: bool,
    /// Corrections of the planner.
    pub planner: PlannerSemantics,
}

/// Which quirks of the reference's planner are corrected; by default none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlannerSemantics {
    /// The next prompt is as long as those seen; in the reference passes without prompts count as prompts of length 0.
    pub whole_prompts: bool,
    /// The ITL of an aggregated engine is estimated with the prompt tokens of its own pass; in the reference with those of
    /// an average pass, which lets idle engines look busy.
    pub own_prefill: bool,
    /// No pass takes less than no time when extrapolated; in the reference a fit may, which gives absurd capacities.
    pub positive_intercept: bool,
    /// The last hit rate stays where nobody was admitted; in the reference it falls to 0.
    pub keep_hit_rate: bool,
    /// A decision is compared with ready and starting workers; in the reference with ready ones, so that a decision to
    /// keep them leaves starting ones alone.
    pub count_starting: bool,
    /// A worker without a record yet does not void a decision; in the reference it does.
    pub partial_reports: bool,
}

impl PlannerSemantics {
    /// Every switch with its value, by the name it has in a scenario.
    pub const fn named(self) -> [(&'static str, bool); 6] {
        [
            ("planner_whole_prompts", self.whole_prompts),
            ("planner_own_prefill", self.own_prefill),
            ("planner_positive_intercept", self.positive_intercept),
            ("planner_keep_hit_rate", self.keep_hit_rate),
            ("planner_count_starting", self.count_starting),
            ("planner_partial_reports", self.partial_reports),
        ]
    }

    /// Every switch set alike.
    pub const fn all(on: bool) -> Self {
        Self {
            whole_prompts: on,
            own_prefill: on,
            positive_intercept: on,
            keep_hit_rate: on,
            count_starting: on,
            partial_reports: on,
        }
    }
}

impl Semantics {
    /// The reference's behaviour, quirks included.
    pub const fn dynamo() -> Self {
        Self {
            handoff_after_first_token: false,
            fail_infeasible: false,
            charge_recompute: false,
            honest_reuse: false,
            planner: PlannerSemantics::all(false),
        }
    }

    /// Every correction on.
    pub const fn corrected() -> Self {
        Self {
            handoff_after_first_token: true,
            fail_infeasible: true,
            charge_recompute: true,
            honest_reuse: true,
            planner: PlannerSemantics::all(true),
        }
    }
}

/// Bounds a request must meet to count as goodput, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sla {
    /// Bound on TTFT.
    pub ttft_ms: Option<f64>,
    /// Bound on the request's mean ITL.
    pub itl_ms: Option<f64>,
    /// Bound on end-to-end latency.
    pub e2e_ms: Option<f64>,
}

impl Sla {
    /// Whether any bound is given.
    pub fn is_given(&self) -> bool {
        self.ttft_ms.is_some() || self.itl_ms.is_some() || self.e2e_ms.is_some()
    }
}

/// Replica targets over time: at each tick the last step at or before it gives the targets.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingScript {
    /// First tick.
    pub first_tick: SimTime,
    /// Time between ticks, above zero.
    pub interval: SimDuration,
    /// Steps in ascending time.
    pub steps: Vec<ScalingStep>,
}

/// One step of a [`ScalingScript`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingStep {
    /// In force from this time on.
    pub from: SimTime,
    /// Active plus starting prefill workers; `None` leaves the pool alone.
    pub prefill: Option<u32>,
    /// Active plus starting decode (or aggregated) workers; `None` leaves the pool alone.
    pub decode: Option<u32>,
}
