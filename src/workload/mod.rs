//! Where requests come from: trace files and generators, reduced to what the simulation needs. No ECS in here.
//!
//! | file | holds |
//! |---|---|
//! | `model` | the result: requests, sessions, how they are released |
//! | `content` | which prompts begin alike |
//! | `trie` | builds the tree of equal beginnings |
//! | `mooncake` | reads Mooncake JSON Lines traces, whole prompts or deltas |
//! | `row` | one line of such a trace |
//! | `scan` | the same, fast, for lines in the usual form |
//! | `intern` | renumbers hash ids |
//! | `grouping` | collects rows into sessions |
//! | `hints` | what requests ask of a router's queue |
//! | `synthetic` | the reference's synthetic loads |
//! | `agent` | the agent-session generator |
//! | `error` | what can go wrong, where, and what to do about it |

mod agent;
pub mod content;
mod error;
mod grouping;
mod hints;
mod intern;
mod model;
mod mooncake;
mod row;
mod scan;
mod synthetic;
mod trie;

pub use error::WorkloadError;
pub use hints::{Hint, RouterHints};
pub use model::{MAX_TOKENS, Release, RequestSpec, Session, Workload};

use crate::scenario::{Preset, Run, TrafficSource};

/// Reads or generates the requests of a run.
///
/// # Errors
/// When the trace cannot be read or breaks a rule of its format, or a generator's settings cannot be met.
pub fn load(run: &Run) -> Result<Workload, WorkloadError> {
    match &run.traffic.source {
        TrafficSource::Trace { path, format, block_size } => {
            mooncake::load(path, *format, *block_size, run.traffic.concurrency, run.traffic.arrival_speedup)
        }
        TrafficSource::Synthetic(load) => synthetic::generate(load, run),
        TrafficSource::Preset(Preset::Agent(preset)) => agent::generate(preset, run),
    }
}
