//! Measurements: per-request timelines, gap distributions, worker-seconds, snapshots.

mod outcome;
mod sketch;

pub use outcome::{
    FinalStatus, HandoffRecord, Outcome, PoolTime, RequestRecord, ScalingEvent, Snapshot, TierRecord, TierTotals,
    WorkerSnapshot, WorkerState,
};
pub use sketch::{Distribution, bound_of, key_of};
