//! How a trace is opened.

use crate::scenario::TraceReading;

/// How a trace is opened: what its files mean, and the rule that releases its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// How the files are read.
    pub reading: TraceReading,
    /// `Some(k)`: closed loop with at most `k` active sessions; recorded arrivals are dropped.
    pub concurrency: Option<u32>,
    /// Divides recorded arrivals and think times, finite and above zero; no effect in a closed loop.
    pub speedup: f64,
    /// Seed of whatever a format leaves to chance.
    pub seed: u64,
}

impl Default for TraceOptions {
    /// Everything as the trace says, at its own pace.
    fn default() -> Self {
        Self { reading: TraceReading::default(), concurrency: None, speedup: 1.0, seed: 42 }
    }
}

impl TraceOptions {
    /// Tokens per hash id, where the files do not say.
    pub(super) fn block_size(&self) -> u32 {
        self.reading.block_size.unwrap_or(DEFAULT_BLOCK_SIZE).max(1)
    }

    /// What think times are divided by.
    pub(super) fn think_speedup(&self) -> f64 {
        if self.concurrency.is_none() { self.speedup } else { 1.0 }
    }
}

/// Tokens per hash id of Mooncake traces, as in the reference.
pub(super) const DEFAULT_BLOCK_SIZE: u32 = 512;
