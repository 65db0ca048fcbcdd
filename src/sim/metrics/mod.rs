//! Measurements: per-request timelines, gap distributions, worker-seconds, snapshots.

mod outcome;
mod sketch;

pub use outcome::{
    FinalStatus, HandoffRecord, Outcome, RequestRecord, ScalingEvent, Snapshot, TierRecord, TierTotals, WorkerSnapshot,
    WorkerState,
};
pub use sketch::{Distribution, bound_of, key_of};
