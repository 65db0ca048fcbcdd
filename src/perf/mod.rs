//! How long a forward pass takes.
//!
//! Models give milliseconds; a [`PassTimer`] turns them into whole nanoseconds exactly as the reference does (two
//! roundings, speed-up in between) and remembers what it can.

mod polynomial;

use std::sync::Arc;
use std::time::Duration;

use crate::scenario::{EngineConfig, SchedulerKind};
use crate::time::SimDuration;

pub use polynomial::{decode_ms, prefill_ms};

/// Pools up to this many blocks get their decode durations computed beforehand.
const TABLE_LIMIT: u32 = 1 << 17;

/// Pass durations of one engine.
#[derive(Debug, Clone)]
pub struct PassTimer {
    speedup: f64,
    decode_speedup: f64,
    /// Tokens in one unit of KV occupancy: a block, or a single token for SGLang, which counts contexts.
    unit_tokens: u64,
    total_units: u64,
    /// Decode duration by active blocks; the polynomial depends on nothing else.
    by_active: Arc<[u64]>,
}

/// Below this many nanoseconds (over two hours) a product of doubles is off by less than a thousandth of one.
const EXACT_ENOUGH: f64 = (1_u64 << 43) as f64;

/// `ms` milliseconds as nanoseconds, divided by `ratio` unless that is 0: each step rounded to nearest, ties to even.
fn scaled(ms: f64, ratio: f64) -> SimDuration {
    let unscaled = nanos(ms / 1000.0);
    // Short spans divided by 1 are the same again.
    let same = ratio <= 0.0 || (ratio == 1.0 && (unscaled as f64) < EXACT_ENOUGH) || unscaled == 0;
    SimDuration::from_nanos(if same { unscaled } else { nanos(Duration::from_nanos(unscaled).as_secs_f64() / ratio) })
}

/// Seconds as nanoseconds: the exact value of the double, rounded to nearest, ties to even; at most what 64 bits hold.
fn nanos(seconds: f64) -> u64 {
    let product = seconds * 1e9;
    if (0.0..EXACT_ENOUGH).contains(&product) {
        let whole = product as u64;
        let rest = product - whole as f64;
        // Away from a tie the rounding of the product cannot matter.
        if (rest - 0.5).abs() > 0.01 {
            return whole + u64::from(rest > 0.5);
        }
    }
    let exact = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    u64::try_from(exact.as_nanos()).unwrap_or(u64::MAX)
}

impl PassTimer {
    /// The timer of an engine.
    pub fn new(engine: &EngineConfig) -> Self {
        let (block_size, blocks) = (u64::from(engine.block_size), u64::from(engine.num_gpu_blocks));
        let by_token = matches!(engine.scheduler, SchedulerKind::Sglang(_));
        let mut timer = Self {
            speedup: engine.speedup_ratio,
            decode_speedup: engine.speedup_ratio * engine.decode_speedup_ratio,
            unit_tokens: if by_token { 1 } else { block_size },
            total_units: if by_token { blocks * block_size } else { blocks },
            by_active: Arc::new([]),
        };
        if !by_token && engine.num_gpu_blocks <= TABLE_LIMIT {
            timer.by_active = (0..=blocks).map(|active| timer.compute_decode(active).as_nanos()).collect();
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

    /// Decode part of a pass over at least one request while `active` units of KV are in use.
    pub fn decode(&self, active: u32) -> SimDuration {
        match self.by_active.get(active as usize) {
            Some(ns) => SimDuration::from_nanos(*ns),
            None => self.compute_decode(u64::from(active)),
        }
    }

    /// Decode part of a pass over at least one request while `active` tokens of KV are in use; where a unit is a token.
    pub fn decode_tokens(&self, active: u64) -> SimDuration {
        self.compute_decode(active)
    }

    fn compute_decode(&self, active: u64) -> SimDuration {
        scaled(decode_ms(active * self.unit_tokens, self.total_units * self.unit_tokens), self.decode_speedup)
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

    #[test]
    fn the_short_way_to_nanoseconds_gives_what_the_exact_one_does() {
        let exact = |seconds: f64| Duration::from_secs_f64(seconds).as_nanos() as u64;
        for n in 0..200_000_u64 {
            // Random-looking spans up to an hour, and spans next to ties.
            let seconds = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 * 2.1e-4;
            let tie = (n as f64 + 0.5) * 1e-9;
            for seconds in [seconds, tie, tie.next_up(), tie.next_down()] {
                assert_eq!(nanos(seconds), exact(seconds), "{seconds}");
                let again = Duration::from_nanos(nanos(seconds)).as_secs_f64();
                assert_eq!(exact(again), nanos(seconds), "{seconds}");
            }
        }
        assert_eq!(nanos(f64::NAN), u64::MAX);
        assert_eq!(nanos(1e300), u64::MAX);
    }
}
