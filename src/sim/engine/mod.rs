//! The engine of a worker: schedulers, each with its KV pool.
//!
//! | file | idea |
//! |---|---|
//! | `rank` | a scheduler of either kind behind one interface |
//! | `scheduler` | vLLM and TensorRT-LLM: what a scheduler holds; requests come, finish, give way |
//! | `pass` | one forward pass of theirs: running requests, then waiting ones, then tokens |
//! | `schedule` | giving one request its tokens and blocks |
//! | `guarantee` | room for whole outputs, as TensorRT-LLM wants it |
//! | `steady` | many decode passes at once while nothing changes |
//! | `batch` | the decoding requests, ordered by the pass in which they finish |
//! | `speculative` | bursts of accepted draft tokens |
//! | `transfer` | both ends of a hand-off: held sources, pending and reserved destinations |
//! | `watch` | what somebody outside sees of passes |
//! | `closeup` | what a scheduler looks like at an instant |
//! | `bring_up` | requests that wait for KV from lower tiers |
//! | `sglang` | SGLang: its scheduler on a radix cache |
//! | `gaps` | how often each gap between tokens occurred |
//! | `tokens` | when tokens were emitted, without storing each |

mod batch;
mod bring_up;
mod closeup;
mod gaps;
mod guarantee;
mod pass;
mod rank;
mod schedule;
mod scheduler;
mod sglang;
mod speculative;
mod steady;
mod tokens;
mod transfer;
mod watch;

pub use closeup::{Blocks, Doing, Look, Member, RankCloseUp, Waiter};
pub use gaps::GapCounts;
pub use pass::Formed;
pub use rank::{KvUse, Scheduler};
pub use scheduler::{Ended, EngineEvent, FirstTokens, Job, VllmScheduler};
pub use sglang::SglangScheduler;
pub use tokens::TokensSoFar;
pub use transfer::Reservation;
pub use watch::{PassRecord, PassWatch, Queued};
