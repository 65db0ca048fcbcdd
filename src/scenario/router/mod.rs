//! How requests find a worker: modes, the KV router's settings, queue policies.
//!
//! | file | holds |
//! |---|---|
//! | `fields` | the keys of `router-config`: names, types, ranges |
//! | `config` | keys to settings, the rules between them, and back |
//! | `policy` | the YAML file of policy classes |

mod config;
mod fields;
mod policy;

use std::path::PathBuf;

use crate::time::SimDuration;

pub(super) use config::describe;
pub(super) use fields::ROUTER;

/// How requests find a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    /// The rule that chooses.
    pub mode: RouterMode,
    /// Seed of the router's random streams.
    pub seed: u64,
    /// Which of several equally good workers is taken.
    pub ties: Ties,
    /// How much later than in the reference the router sees which blocks a worker holds.
    pub kv_event_delay: SimDuration,
    /// How much later than in the reference the router sees that a prefill is over or a request has ended.
    pub load_delay: SimDuration,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            mode: RouterMode::RoundRobin,
            seed: 42,
            ties: Ties::Random,
            kv_event_delay: SimDuration::ZERO,
            load_delay: SimDuration::ZERO,
        }
    }
}

/// The rule that chooses a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum RouterMode {
    /// In turn.
    RoundRobin,
    /// By the cost of cached prefixes and load, with a queue.
    Kv(Box<KvRouter>),
    /// Any worker, each equally likely.
    Random,
    /// The worker with the fewest requests in flight.
    LeastLoaded,
    /// Of two drawn at random, the one with fewer requests in flight.
    PowerOfTwo,
    /// All turns of a session on one worker.
    SessionAffinity,
}

impl Ties {
    /// The word of `router-ties`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::LowestId => "lowest-id",
        }
    }
}

impl RouterMode {
    /// The word of `router-mode`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Kv(_) => "kv_router",
            Self::Random => "random",
            Self::LeastLoaded => "least_loaded",
            Self::PowerOfTwo => "power_of_two",
            Self::SessionAffinity => "session_affinity",
        }
    }
}

/// Which of several equally good workers is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// Any of them, drawn from a stream seeded by [`Router::seed`].
    Random,
    /// The one with the lowest number.
    LowestId,
}

/// Settings of the KV router that have an effect here.
#[derive(Debug, Clone, PartialEq)]
pub struct KvRouter {
    /// Blocks of prefill that a cached block is worth; finite, zero or more.
    pub overlap_score_credit: f64,
    /// How much the credit falls with a worker's prefill load; zero or more.
    pub overlap_score_credit_decay: f64,
    /// Weight of prefill against decode blocks; zero or more.
    pub prefill_load_scale: f64,
    /// Blocks that an active request counts as; finite, zero or more.
    pub decode_active_request_weight: f64,
    /// 0 takes the lowest cost; above, the choice is drawn with weights that fall with the cost.
    pub temperature: f64,
    /// Whether blocks of active requests count.
    pub track_active_blocks: bool,
    /// Whether active requests with a common prefix count its blocks once.
    pub assume_kv_reuse: bool,
    /// Whether prompt tokens that are not computed yet count.
    pub track_prefill_tokens: bool,
    /// Share of `max_num_batched_tokens` of prompt tokens from which on a worker is busy; `None` never queues.
    pub queue_threshold: Option<f64>,
    /// Order of the queue.
    pub queue_policy: QueuePolicy,
    /// Policy classes in place of the one queue.
    pub policy: Option<PolicyProfile>,
    /// The file that holds policy classes, as it was given.
    pub policy_file: Option<PathBuf>,
    /// The model whose policy profile is asked for.
    pub model_name: Option<String>,
}

impl Default for KvRouter {
    fn default() -> Self {
        Self {
            overlap_score_credit: 1.0,
            overlap_score_credit_decay: 0.0,
            prefill_load_scale: 1.0,
            decode_active_request_weight: 0.0,
            temperature: 0.0,
            track_active_blocks: true,
            assume_kv_reuse: true,
            track_prefill_tokens: true,
            queue_threshold: None,
            queue_policy: QueuePolicy::Fcfs,
            policy: None,
            policy_file: None,
            model_name: None,
        }
    }
}

/// Order of a queue, among requests of equal strict priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePolicy {
    /// First come, first served; a unit of priority counts as a second of waiting.
    Fcfs,
    /// Last come, first served; a unit of priority counts as a second of lateness.
    Lcfs,
    /// Weighted shortest processing time: priority over uncached prompt tokens.
    Wspt,
}

impl QueuePolicy {
    /// All of them, with their words.
    pub(super) const WORDS: [(&'static str, Self); 3] =
        [("fcfs", Self::Fcfs), ("lcfs", Self::Lcfs), ("wspt", Self::Wspt)];

    /// The policy of a word.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, policy)| policy)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fcfs => "fcfs",
            Self::Lcfs => "lcfs",
            Self::Wspt => "wspt",
        }
    }
}

/// Policy classes of one model: who waits in which queue, and how the queues share.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyProfile {
    /// Families; a request that names one goes to its class for the bucket of the request's uncached tokens.
    pub families: Vec<Family>,
    /// Index of the family of everybody else.
    pub default_family: usize,
    /// Least uncached prompt tokens of each bucket, ascending from 0.
    pub buckets: Vec<u64>,
    /// All classes, in the order of the file.
    pub classes: Vec<PolicyClass>,
}

/// A family of policy classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Name.
    pub name: String,
    /// Its class for each bucket.
    pub classes: Vec<usize>,
}

/// One queue of the router.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyClass {
    /// Name.
    pub name: String,
    /// Whether requests get here by this name, not by family and bucket.
    pub explicit: bool,
    /// Order.
    pub queue_policy: QueuePolicy,
    /// Uncached prompt tokens it may release per round of all queues, at least 1.
    pub quantum: u64,
    /// A worker with more uncached prompt tokens than this is busy.
    pub busy_above_tokens: Option<u64>,
    /// The same as a share of `max_num_batched_tokens`.
    pub busy_above_share: Option<f64>,
    /// Most requests that wait, per worker.
    pub request_limit: Option<u64>,
    /// Most prompt tokens that wait, per worker.
    pub token_limit: Option<u64>,
    /// Most cached prompt tokens that wait, per worker.
    pub cached_token_limit: Option<u64>,
}
