//! The engine of a worker: a vLLM-style scheduler and its KV pool.
//!
//! | file | idea |
//! |---|---|
//! | `scheduler` | what a scheduler holds; requests come, finish, give way |
//! | `pass` | one forward pass: running requests, then waiting ones, then tokens |
//! | `schedule` | giving one request its tokens and blocks |
//! | `steady` | many decode passes at once while nothing changes |
//! | `batch` | the decoding requests, ordered by the pass in which they finish |
//! | `speculative` | bursts of accepted draft tokens |
//! | `transfer` | both ends of a hand-off: held sources, pending and reserved destinations |
//! | `tokens` | when tokens were emitted, without storing each |

mod batch;
mod pass;
mod schedule;
mod scheduler;
mod speculative;
mod steady;
mod tokens;
mod transfer;

pub use pass::Formed;
pub use scheduler::{Ended, EngineEvent, FirstTokens, Job, Scheduler};
pub use tokens::{GapCounts, TokenSpan};
pub use transfer::Reservation;
