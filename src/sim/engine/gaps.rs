//! Gaps between tokens, counted per pass with the size of the batch.
//!
//! With the polynomial most gaps are the duration of a decode step at some KV occupancy and are counted by occupancy. With
//! models that know the context nearly every pass has a duration of its own; those of a steady stretch lie close together
//! and are summed up within narrow ranges once there are many. All sums are of whole numbers, so that the order of
//! counting, and with it the way a run is cut into ticks, makes no difference.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::perf::PassTimer;
use crate::sim::metrics::{Distribution, bound_of, key_of};

/// Distinct gaps that are counted one by one before ranges take over.
const SINGLE_GAPS: usize = 1 << 11;
/// Gaps of a run are summed up in 64 bits while their range is narrower than this, nanoseconds ...
const NARROW: u64 = 1 << 26;
/// ... and this many at a time.
const LONGEST: usize = 1 << 11;
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
    /// In the order in which they came up; used once there are many different gaps.
    ranges: Vec<Range>,
    /// Longest gap of every range, ascending. Apart from the ranges, because there are thousands and each comes in between.
    lasts: Vec<u64>,
    /// Where the ranges of `lasts` are.
    places: Vec<u32>,
    /// Index, among `lasts`, of the range that was used last.
    recent: usize,
    /// Whether ranges may be used at all.
    ranging: bool,
    /// Shortest and longest gap of requests that completed; kept only where ranges are.
    extremes: Option<(u64, u64)>,
    /// Shortest and longest gap of all requests.
    counted: Option<(u64, u64)>,
}

/// The wider of two pairs of extremes.
fn wider(a: Option<(u64, u64)>, b: (u64, u64)) -> Option<(u64, u64)> {
    Some(a.map_or(b, |a| (a.0.min(b.0), a.1.max(b.1))))
}

/// Gaps that no bucket of either distribution separates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Range {
    /// The empty range around a gap: where both distributions keep it in the same bucket.
    fn around(ns: u64) -> Self {
        let keys = |ns: u64| (key_of(ms(ns)), key_of(1000.0 / ms(ns)));
        let here = keys(ns);
        let nanos = |ms: f64| (ms * 1e6) as u64;
        // Bounds of the buckets, then the exact ones beside them.
        let mut first = nanos(bound_of(here.0 - 1)).max(nanos(1000.0 / bound_of(here.1))).clamp(1, ns);
        let mut last = nanos(bound_of(here.0)).min(nanos(1000.0 / bound_of(here.1 - 1))).max(ns);
        while keys(first) != here {
            first += 1;
        }
        while first > 1 && keys(first - 1) == here {
            first -= 1;
        }
        while keys(last) != here {
            last -= 1;
        }
        while keys(last + 1) == here {
            last += 1;
        }
        Self { first, last, count: 0, sum: 0, squares: 0 }
    }

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
    /// No gaps yet. `ranging`: gaps are so varied that they may be summed up in ranges; the shortest and the longest one
    /// must then be told ([`Self::note_extremes`]).
    pub fn new(ranging: bool) -> Self {
        Self { ranging, ..Self::default() }
    }

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
        if count == 0 {
            return;
        }
        if self.ranging {
            self.counted = wider(self.counted, (ns, ns));
        }
        if self.uses_ranges(ns) {
            self.range(ns).add(ns, count);
        } else {
            *self.other.entry(ns).or_insert(0) += count;
        }
    }

    /// `count` gaps from each of `ends` to the next one.
    pub fn add_run(&mut self, ends: &[u64], count: u64) {
        let mut ends = ends;
        while let [before, end, ..] = *ends {
            let gap = end - before;
            let taken = if self.uses_ranges(gap) { self.add_to_range(ends, count) } else { 0 };
            if taken == 0 {
                self.add(gap, count);
            }
            ends = &ends[taken.max(1)..];
        }
    }

    /// `count` of each gap between `ends` as long as they belong to the range of the first one; returns how many were
    /// counted, which is none where the range is wide.
    fn add_to_range(&mut self, ends: &[u64], count: u64) -> usize {
        let counted = self.counted;
        let range = self.range(ends[1] - ends[0]);
        let (first, last, width) = (range.first, range.last, range.last - range.first);
        if width >= NARROW {
            return 0;
        }
        let (mut taken, mut sum, mut squares) = (0, 0u64, 0u64);
        let mut before = ends[0];
        for end in ends[1..].iter().take(LONGEST) {
            // Wraps where the gap is too short, and is then too large as well.
            let distance = end.wrapping_sub(before).wrapping_sub(first);
            if distance > width {
                break;
            }
            before = *end;
            taken += 1;
            sum += distance;
            squares += distance * distance;
        }
        range.count += taken as u64 * count;
        range.sum += u128::from(sum) * u128::from(count);
        range.squares += u128::from(squares) * u128::from(count);
        if counted.is_none_or(|(low, high)| first < low || high < last) {
            for pair in ends[..=taken].windows(2) {
                self.counted = wider(self.counted, (pair[1] - pair[0], pair[1] - pair[0]));
            }
        }
        taken
    }

    fn uses_ranges(&self, ns: u64) -> bool {
        self.ranging && ns > 0 && self.other.len() >= SINGLE_GAPS
    }

    fn range(&mut self, ns: u64) -> &mut Range {
        let is_next = |index: usize| {
            let before = index.checked_sub(1).and_then(|index| self.lasts.get(index));
            before.is_none_or(|last| *last < ns) && self.lasts.get(index).is_some_and(|last| ns <= *last)
        };
        // Gaps creep upwards.
        let near = [self.recent, self.recent + 1].into_iter().find(|index| is_next(*index));
        let index = near.unwrap_or_else(|| self.lasts.partition_point(|last| *last < ns));
        let place = self.places.get(index).map(|place| *place as usize);
        let place = place.filter(|place| self.ranges[*place].first <= ns).unwrap_or_else(|| {
            let (range, place) = (Range::around(ns), self.ranges.len());
            self.lasts.insert(index, range.last);
            self.places.insert(index, place as u32);
            self.ranges.push(range);
            place
        });
        self.recent = index;
        &mut self.ranges[place]
    }

    /// Whether no gap counted so far is shorter or longer than what completed requests had, or extremes do not matter.
    pub fn extremes_are_final(&self) -> bool {
        !self.ranging || self.extremes == self.counted
    }

    /// Notes the shortest and longest gap of a request that completed.
    pub fn note_extremes(&mut self, low: u64, high: u64) {
        self.extremes = wider(self.extremes, (low, high));
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
            for range in &counts.ranges {
                ranges.entry(range.first).and_modify(|sum| sum.absorb(range)).or_insert(*range);
            }
            if let Some(of_rank) = counts.extremes {
                extremes = wider(extremes, of_rank);
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
        let mut counts = GapCounts::new(true);
        let (mut itl, mut user) = (Distribution::default(), Distribution::default());
        for (ns, n) in creeping() {
            counts.add(ns, n);
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
    fn a_stretch_counts_like_its_gaps() {
        let (mut single, mut run) = (GapCounts::new(true), GapCounts::new(true));
        let mut ends = vec![7];
        for (ns, _) in creeping() {
            single.add(ns, 3);
            ends.push(ends[ends.len() - 1] + ns);
        }
        run.add_run(&ends, 3);
        assert_eq!(single.counted, run.counted);
        let timer = PassTimer::new(&Default::default(), Default::default());
        let [a, b] = [single, run].map(|counts| GapCounts::collect(&[(&counts, &timer)], &[]));
        assert_eq!((a.single, a.ranges), (b.single, b.ranges));
    }

    #[test]
    fn removed_gaps_leave_nothing_behind() {
        let mut counts = GapCounts::new(true);
        let gaps = creeping();
        for (ns, n) in &gaps {
            counts.add(*ns, *n);
        }
        let timer = PassTimer::new(&Default::default(), Default::default());
        let left = GapCounts::collect(&[(&counts, &timer)], &gaps[1..]);
        assert_eq!((left.single.as_slice(), left.ranges.len()), (&gaps[..1], 0));
    }
}
