//! Token times without storing tokens.
//!
//! A scheduler logs the end of every pass that emitted tokens. A request that takes part in consecutive passes needs only
//! the indices of the first and the last of them. Gaps between tokens are counted per pass with the size of the batch;
//! since most gaps are the duration of a decode step at some KV occupancy, those are counted by occupancy.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::perf::PassTimer;
use crate::sim::metrics::Distribution;

/// Multiplicative hashing of nanosecond counts; iteration order never matters because results are sorted.
#[derive(Debug, Default, Clone)]
pub struct NanosHasher(u64);

impl Hasher for NanosHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// How often each gap between two consecutive tokens of a request occurred.
#[derive(Debug, Clone, Default)]
pub struct GapCounts {
    /// By KV occupancy of a decode step that began right after the previous one.
    by_active: Vec<u64>,
    /// Everything else, by nanoseconds.
    other: HashMap<u64, u64, BuildHasherDefault<NanosHasher>>,
}

impl GapCounts {
    /// `count` gaps of one decode step at `active` blocks.
    pub fn add_step(&mut self, active: u32, count: u64) {
        let active = active as usize;
        if active >= self.by_active.len() {
            self.by_active.resize(active + 1, 0);
        }
        self.by_active[active] += count;
    }

    /// `count` gaps of `ns` nanoseconds.
    pub fn add(&mut self, ns: u64, count: u64) {
        if count > 0 {
            *self.other.entry(ns).or_insert(0) += count;
        }
    }

    /// All gaps in ascending order with their counts, without those of `removed`.
    pub fn collect(all: &[(&Self, &PassTimer)], removed: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut gaps: Vec<(u64, i64)> = removed.iter().map(|(ns, n)| (*ns, -(*n as i64))).collect();
        for (counts, timer) in all {
            gaps.extend(counts.other.iter().map(|(ns, n)| (*ns, *n as i64)));
            for (active, n) in (0..).zip(&counts.by_active) {
                if *n > 0 {
                    gaps.push((timer.at_occupancy(active).as_nanos(), *n as i64));
                }
            }
        }
        gaps.sort_unstable();
        let mut merged: Vec<(u64, i64)> = Vec::new();
        for (ns, n) in gaps {
            match merged.last_mut() {
                Some((last, count)) if *last == ns => *count += n,
                _ => merged.push((ns, n)),
            }
        }
        merged.into_iter().filter(|(_, n)| *n > 0).map(|(ns, n)| (ns, n as u64)).collect()
    }

    /// Distributions of the gaps in milliseconds and of `1000 / gap`, tokens per second as one user sees them.
    pub fn distributions(gaps: &[(u64, u64)]) -> (Distribution, Distribution) {
        let (mut itl, mut user) = (Distribution::default(), Distribution::default());
        for &(ns, n) in gaps {
            let ms = ns as f64 / 1e6;
            itl.add(ms, n);
            if ns > 0 {
                user.add(1000.0 / ms, n);
            }
        }
        (itl, user)
    }
}

/// A stretch of consecutive logged passes in which a request emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpan {
    /// Log index of its first pass.
    pub first: u64,
    /// Log index of its last pass.
    pub last: u64,
}

/// End times of the passes that emitted tokens.
#[derive(Debug, Clone, Default)]
pub struct PassLog {
    ends: VecDeque<u64>,
    /// Log index of the first end kept.
    base: u64,
}

impl PassLog {
    /// Adds a pass that ends at `ns`; returns its index.
    pub fn push(&mut self, ns: u64) -> u64 {
        self.ends.push_back(ns);
        self.base + self.ends.len() as u64 - 1
    }

    /// End of pass `index`.
    pub fn end(&self, index: u64) -> u64 {
        self.ends.get((index - self.base) as usize).copied().unwrap_or_default()
    }

    /// Number of ends kept.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets passes before `index`.
    pub fn forget_before(&mut self, index: u64) {
        let n = (index.saturating_sub(self.base) as usize).min(self.ends.len());
        self.ends.drain(..n);
        self.base += n as u64;
    }

    /// The gaps of a request that emitted in `spans`.
    pub fn gaps(&self, spans: &[TokenSpan], out: &mut Vec<(u64, u64)>) {
        let mut previous = None;
        for span in spans {
            for index in span.first..=span.last {
                let end = self.end(index);
                if let Some(before) = previous {
                    out.push((end - before, 1));
                }
                previous = Some(end);
            }
        }
    }
}
