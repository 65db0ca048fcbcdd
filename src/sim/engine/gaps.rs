//! Gaps between tokens, counted per pass with the size of the batch.
//!
//! With the polynomial most gaps are the duration of a decode step at some KV occupancy and are counted by occupancy. With
//! models that know the context nearly every pass has a duration of its own; those of a steady stretch lie close together
//! and are summed up within narrow ranges once there are many. All sums are of whole numbers, so that the order of
//! counting, and with it the way a run is cut into ticks, makes no difference.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::perf::PassTimer;
use crate::sim::metrics::{Distribution, key_of};

/// Distinct gaps of steady stretches that are counted one by one before ranges take over.
const SINGLE_GAPS: usize = 1 << 15;

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
    /// Gaps of steady stretches, once there are many.
    current: Range,
    ranges: BTreeMap<u64, Range>,
    /// Shortest and longest gap of requests that completed; kept only where ranges are.
    extremes: Option<(u64, u64)>,
}

/// Gaps that no bucket of either distribution separates.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// Shortest gap that belongs here, nanoseconds.
    first: u64,
    /// Longest gap that belongs here.
    last: u64,
    count: u64,
    /// Sum of the distances from `first`.
    sum: u128,
    /// Sum of their squares.
    squares: u128,
}

impl Default for Range {
    /// Holds nothing and never will.
    fn default() -> Self {
        Self { first: 1, last: 0, count: 0, sum: 0, squares: 0 }
    }
}

impl Range {
    /// The empty range around a gap.
    fn around(ns: u64) -> Self {
        let key = |ns: u64| (key_of(ms(ns)), key_of(1000.0 / ms(ns)));
        let here = key(ns);
        // Buckets are 0.2 % wide.
        let reach = ns / 256 + 2;
        let (mut below, mut first) = (ns.saturating_sub(reach).max(1) - 1, ns);
        while below + 1 < first {
            let middle = below + (first - below) / 2;
            if key(middle) == here { first = middle } else { below = middle }
        }
        let (mut last, mut above) = (ns, ns.saturating_add(reach));
        while last + 1 < above {
            let middle = last + (above - last) / 2;
            if key(middle) == here { last = middle } else { above = middle }
        }
        Self { first, last, ..Self::default() }
    }

    fn holds(&self, ns: u64) -> bool {
        (self.first..=self.last).contains(&ns)
    }

    #[inline]
    fn add(&mut self, ns: u64, count: u64) {
        let distance = ns - self.first;
        self.count += count;
        self.sum += u128::from(distance) * u128::from(count);
        self.squares += u128::from(distance) * u128::from(distance) * u128::from(count);
    }

    fn absorb(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn remove(&mut self, ns: u64, count: u64) {
        let distance = ns.saturating_sub(self.first);
        self.count = self.count.saturating_sub(count);
        self.sum = self.sum.saturating_sub(u128::from(distance) * u128::from(count));
        self.squares = self.squares.saturating_sub(u128::from(distance) * u128::from(distance) * u128::from(count));
    }

    /// Mean in milliseconds, and sum of squared differences from it.
    fn moments(&self) -> (f64, f64) {
        let (n, sum) = (self.count as f64, self.sum as f64);
        // Distances are small numbers, so nothing cancels that matters.
        let spread = (u128::from(self.count) * self.squares).saturating_sub(self.sum * self.sum) as f64 / n;
        ((self.first as f64 + sum / n) / 1e6, spread / 1e12)
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
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

    /// `count` gaps of `ns` nanoseconds that are likely to be near the ones added before in this way.
    #[inline]
    pub fn add_near(&mut self, ns: u64, count: u64) {
        if self.current.holds(ns) {
            self.current.add(ns, count);
        } else {
            self.add_elsewhere(ns, count);
        }
    }

    fn add_elsewhere(&mut self, ns: u64, count: u64) {
        if ns == 0 || (self.ranges.is_empty() && self.current.count == 0 && self.other.len() < SINGLE_GAPS) {
            self.add(ns, count);
            return;
        }
        let known = self.ranges.range(..=ns).next_back().map(|(first, range)| (*first, range.holds(ns)));
        let next = match known {
            Some((first, true)) => self.ranges.remove(&first).unwrap_or_else(|| Range::around(ns)),
            _ => Range::around(ns),
        };
        let previous = std::mem::replace(&mut self.current, next);
        if previous.count > 0 {
            self.ranges.insert(previous.first, previous);
        }
        self.current.add(ns, count);
    }

    /// Notes the shortest and longest gap of a request that completed.
    pub fn note_extremes(&mut self, low: u64, high: u64) {
        self.extremes = Some(self.extremes.map_or((low, high), |(l, h)| (l.min(low), h.max(high))));
    }

    /// All gaps without those of `removed`.
    pub fn collect(all: &[(&Self, &PassTimer)], removed: &[(u64, u64)]) -> Gaps {
        let mut gaps: Vec<(u64, i64)> = removed.iter().map(|(ns, n)| (*ns, -(*n as i64))).collect();
        let mut ranges: BTreeMap<u64, Range> = BTreeMap::new();
        let mut extremes: Option<(u64, u64)> = None;
        for (counts, timer) in all {
            gaps.extend(counts.other.iter().map(|(ns, n)| (*ns, *n as i64)));
            for (active, n) in (0..).zip(&counts.by_active) {
                if *n > 0 {
                    gaps.push((timer.at_occupancy(active).as_nanos(), *n as i64));
                }
            }
            for range in counts.ranges.values().chain([&counts.current]).filter(|range| range.count > 0) {
                ranges.entry(range.first).and_modify(|sum| sum.absorb(range)).or_insert(*range);
            }
            if let Some((low, high)) = counts.extremes {
                extremes = Some(extremes.map_or((low, high), |(l, h)| (l.min(low), h.max(high))));
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
        // What was removed and is not among the single gaps was counted in a range.
        for (ns, n) in merged.iter().filter(|(_, n)| *n < 0) {
            if let Some((_, range)) = ranges.range_mut(..=*ns).next_back() {
                range.remove(*ns, n.unsigned_abs());
            }
        }
        Gaps {
            single: merged.into_iter().filter(|(_, n)| *n > 0).map(|(ns, n)| (ns, n as u64)).collect(),
            extremes: extremes.filter(|_| !ranges.is_empty()),
            ranges: ranges.into_values().filter(|range| range.count > 0).collect(),
        }
    }
}

/// All gaps of a run.
#[derive(Debug, Clone)]
pub struct Gaps {
    /// Nanoseconds and counts, ascending.
    single: Vec<(u64, u64)>,
    ranges: Vec<Range>,
    extremes: Option<(u64, u64)>,
}

impl Gaps {
    /// Distributions of the gaps in milliseconds and of `1000 / gap`, tokens per second as one user sees them.
    pub fn distributions(&self) -> (Distribution, Distribution) {
        let (mut itl, mut user) = (Distribution::default(), Distribution::default());
        for &(ns, n) in &self.single {
            itl.add(ms(ns), n);
            if ns > 0 {
                user.add(1000.0 / ms(ns), n);
            }
        }
        for range in &self.ranges {
            let (mean, spread) = range.moments();
            let of_range = ms(range.first);
            itl.add_group(mean, spread, key_of(of_range), range.count);
            // To second order in the width of a range, which is 0.2 %: the mean is good to 1e-9.
            let scatter = spread / range.count as f64 / (mean * mean);
            let (rate, rate_spread) = (1000.0 / mean * (1.0 + scatter), 1e6 * spread / mean.powi(4));
            user.add_group(rate, rate_spread, key_of(1000.0 / of_range), range.count);
        }
        if let Some((low, high)) = self.extremes {
            itl.widen(ms(low), ms(high));
            let slowest = 1000.0 / ms(high);
            user.widen(slowest, if low > 0 { 1000.0 / ms(low) } else { slowest });
        }
        (itl, user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaps of many stretches whose durations creep upwards, with multiplicities.
    fn creeping() -> Vec<(u64, u64)> {
        (0..200u64)
            .flat_map(|stretch| {
                (0..1_000u64).map(move |step| (4_000_000 + stretch * 31_337 + step * 977, 1 + (stretch + step) % 7))
            })
            .collect()
    }

    #[test]
    fn ranges_give_the_distribution_of_the_single_gaps() {
        let mut counts = GapCounts::default();
        let (mut itl, mut user) = (Distribution::default(), Distribution::default());
        for (ns, n) in creeping() {
            counts.add_near(ns, n);
            itl.add(ms(ns), n);
            user.add(1000.0 / ms(ns), n);
        }
        let low = creeping().iter().map(|gap| gap.0).min().unwrap_or(0);
        let high = creeping().iter().map(|gap| gap.0).max().unwrap_or(0);
        counts.note_extremes(low, high);
        assert!(!counts.ranges.is_empty());
        let timer = PassTimer::new(&Default::default(), Default::default());
        let (a, b) = GapCounts::collect(&[(&counts, &timer)], &[]).distributions();
        for (got, expected) in [(a, itl), (b, user)] {
            assert_eq!(got.count(), expected.count());
            assert!((got.mean() / expected.mean() - 1.0).abs() < 1e-9);
            assert!((got.std() / expected.std() - 1.0).abs() < 1e-8);
            assert_eq!((got.min(), got.max()), (expected.min(), expected.max()));
            for p in [1.0, 50.0, 90.0, 99.0] {
                assert_eq!(got.percentile(p), expected.percentile(p));
            }
        }
    }

    #[test]
    fn removed_gaps_leave_nothing_behind() {
        let mut counts = GapCounts::default();
        let gaps = creeping();
        for (ns, n) in &gaps {
            counts.add_near(*ns, *n);
        }
        let timer = PassTimer::new(&Default::default(), Default::default());
        let left = GapCounts::collect(&[(&counts, &timer)], &gaps[1..]);
        assert_eq!((left.single.as_slice(), left.ranges.len()), (&gaps[..1], 0));
    }
}
