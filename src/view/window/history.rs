//! The last minute of every worker, sampled as frames come, for sparklines.

use std::collections::{HashMap, VecDeque};

use crate::time::{SimDuration, SimTime};
use crate::view::frame::{FrameModel, WorkerName};

/// How far back samples are kept.
pub const SPAN: SimDuration = SimDuration::from_nanos(60_000_000_000);
/// Samples in that span, at most.
const SAMPLES: u64 = 120;

/// A worker's load at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When.
    pub at: SimTime,
    /// Share of its KV blocks in use, 0 to 1.
    pub kv: f32,
}

/// Samples of all workers.
#[derive(Debug, Clone, Default)]
pub struct History {
    workers: HashMap<WorkerName, VecDeque<Sample>>,
    last: SimTime,
}

impl History {
    /// Takes a sample when the last one is old enough. Going back in time forgets what lies ahead.
    pub fn update(&mut self, frame: &FrameModel) {
        if frame.at < self.last {
            for samples in self.workers.values_mut() {
                samples.retain(|s| s.at <= frame.at);
            }
        } else if frame.at.since(self.last) < SimDuration::from_nanos(SPAN.as_nanos() / SAMPLES)
            && !self.workers.is_empty()
        {
            return;
        }
        self.last = frame.at;
        for worker in frame.pools.iter().flat_map(|p| &p.workers) {
            let samples = self.workers.entry(worker.name).or_default();
            samples
                .push_back(Sample { at: frame.at, kv: kv_use(worker.kv.active + worker.kv.reserved, worker.kv.total) });
        }
        self.workers.retain(|_, samples| {
            while samples.front().is_some_and(|s| frame.at.since(s.at) > SPAN) {
                samples.pop_front();
            }
            !samples.is_empty()
        });
    }

    /// Samples of a worker, oldest first.
    pub fn of(&self, name: WorkerName) -> impl Iterator<Item = &Sample> {
        self.workers.get(&name).into_iter().flatten()
    }
}

/// Share of blocks in use.
pub fn kv_use(used: u64, total: u64) -> f32 {
    if total == 0 { 0.0 } else { used as f32 / total as f32 }
}
