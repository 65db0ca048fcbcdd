//! How long a forward pass takes.
//!
//! Models give milliseconds; a [`PassTimer`] turns them into whole nanoseconds exactly as the reference does (two
//! roundings, speed-up in between) and remembers what it can.

mod error;
mod fused;
mod polynomial;

use std::sync::Arc;
use std::time::Duration;

use crate::scenario::EngineConfig;
use crate::time::SimDuration;

pub use error::PerfError;
pub use fused::{FusedPass, PrefillChunk, PromptAttention};
pub use polynomial::{decode_ms, prefill_ms};

/// Pools up to this many blocks get their decode durations computed beforehand.
const TABLE_LIMIT: u32 = 1 << 17;

/// Pass durations of one engine.
#[derive(Debug, Clone)]
pub struct PassTimer {
    speedup: f64,
    decode_speedup: f64,
    block_size: u64,
    total_blocks: u64,
    /// Decode duration by active blocks; the polynomial depends on nothing else.
    by_active: Arc<[u64]>,
}

/// `ms` milliseconds as nanoseconds, divided by `ratio` unless that is 0: each step rounded to nearest, ties to even.
fn scaled(ms: f64, ratio: f64) -> SimDuration {
    let unscaled = Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX);
    let scaled = if ratio > 0.0 && !unscaled.is_zero() {
        Duration::try_from_secs_f64(unscaled.as_secs_f64() / ratio).unwrap_or(Duration::MAX)
    } else {
        unscaled
    };
    SimDuration::from_nanos(u64::try_from(scaled.as_nanos()).unwrap_or(u64::MAX))
}

impl PassTimer {
    /// The timer of an engine.
    pub fn new(engine: &EngineConfig) -> Self {
        let mut timer = Self {
            speedup: engine.speedup_ratio,
            decode_speedup: engine.speedup_ratio * engine.decode_speedup_ratio,
            block_size: u64::from(engine.block_size),
            total_blocks: u64::from(engine.num_gpu_blocks),
            by_active: Arc::new([]),
        };
        if engine.num_gpu_blocks <= TABLE_LIMIT {
            timer.by_active = (0..=engine.num_gpu_blocks).map(|a| timer.compute_decode(a).as_nanos()).collect();
        }
        timer
    }

    /// Prefill part of a pass over `count` prompts with `sum_isl` tokens up to the end of their chunks, of which
    /// `sum_prefix` were there before. Means are truncated.
    pub fn prefill(&self, count: u64, sum_isl: u64, sum_prefix: u64) -> SimDuration {
        if count == 0 {
            return SimDuration::ZERO;
        }
        scaled(prefill_ms(count, sum_isl / count, sum_prefix / count), self.speedup)
    }

    /// Decode part of a pass over at least one request while `active` KV blocks are in use.
    pub fn decode(&self, active: u32) -> SimDuration {
        match self.by_active.get(active as usize) {
            Some(ns) => SimDuration::from_nanos(*ns),
            None => self.compute_decode(active),
        }
    }

    fn compute_decode(&self, active: u32) -> SimDuration {
        let ms = decode_ms(u64::from(active) * self.block_size, self.total_blocks * self.block_size);
        scaled(ms, self.decode_speedup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_nanoseconds_and_zero_speedup_means_unscaled() {
        assert_eq!(scaled(32.105_859, 0.0).as_nanos(), 32_105_859);
        assert_eq!(scaled(32.105_859, 3.0).as_nanos(), 10_701_953);
        assert_eq!(scaled(0.0, 2.0), SimDuration::ZERO);
    }
}
