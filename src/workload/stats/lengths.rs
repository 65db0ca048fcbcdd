//! Summary of a set of values: mean, percentiles, histogram.

use serde::Serialize;

/// What a set of values looks like. All zero when it is empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Distribution {
    /// Number of values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Median, by the nearest-rank rule as all percentiles: the value at `round((count - 1) p / 100)`.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest value.
    pub max: f64,
    /// Counts by size.
    pub histogram: Vec<Bin>,
}

/// Values from `from` (included) to `to` (excluded).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower edge.
    pub from: f64,
    /// Upper edge.
    pub to: f64,
    /// Values within.
    pub count: u64,
}

/// Bins per factor of ten: fine enough to see two humps, few enough for a line of text.
const BINS_PER_DECADE: f64 = 8.0;
/// Values below this share the first bin; anything smaller is rare and means "none".
const LEAST: f64 = 1.0;

impl Distribution {
    /// Of finite values that are not negative.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let Some((min, max)) = values.first().copied().zip(values.last().copied()) else {
            return Self::default();
        };
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
        let percentile = |p: usize| {
            let rank = ((n as u128 - 1) * p as u128 + 50) / 100;
            values.get(rank as usize).copied().unwrap_or(max)
        };
        Self {
            count: n as u64,
            mean,
            std: variance.sqrt(),
            min,
            p50: percentile(50),
            p90: percentile(90),
            p99: percentile(99),
            max,
            histogram: histogram(&values),
        }
    }

    /// Standard deviation over mean; 0 when the mean is 0.
    pub fn cv(&self) -> f64 {
        if self.mean > 0.0 { self.std / self.mean } else { 0.0 }
    }
}

/// Sorted values in bins whose edges grow by the same factor, empty bins in between included.
fn histogram(sorted: &[f64]) -> Vec<Bin> {
    let edge = |index: i32| if index < 0 { 0.0 } else { LEAST * 10_f64.powf(f64::from(index) / BINS_PER_DECADE) };
    // One below for everything that is less than the first edge.
    let index = |value: f64| {
        let mut index = if value < LEAST { -1 } else { ((value / LEAST).log10() * BINS_PER_DECADE).floor() as i32 };
        // The logarithm may be off by a rounding at an edge.
        while value >= edge(index + 1) {
            index += 1;
        }
        while index >= 0 && value < edge(index) {
            index -= 1;
        }
        index
    };
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let (low, high) = (index(*first), index(*last));
    let mut bins: Vec<Bin> = (low..=high).map(|i| Bin { from: edge(i), to: edge(i + 1), count: 0 }).collect();
    let mut from = 0;
    for bin in &mut bins {
        let to = sorted.partition_point(|v| *v < bin.to);
        bin.count = (to - from) as u64;
        from = to;
    }
    bins
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_values_at_the_nearest_rank() {
        let d = Distribution::of(vec![3.0, 1.0, 2.0, 4.0]);
        assert_eq!((d.min, d.p50, d.p90, d.p99, d.max), (1.0, 3.0, 4.0, 4.0, 4.0));
        assert_eq!((d.mean, d.std), (2.5, 1.25_f64.sqrt()));
    }

    proptest! {
        #[test]
        fn every_value_is_in_the_bin_that_covers_it(
            values in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), Just(10.0), Just(1e3), 0.0..1e7], 1..50),
        ) {
            let d = Distribution::of(values.clone());
            for bin in &d.histogram {
                let inside = values.iter().filter(|v| (bin.from..bin.to).contains(v)).count();
                prop_assert_eq!(inside as u64, bin.count);
            }
            prop_assert_eq!(d.histogram.iter().map(|b| b.count).sum::<u64>(), values.len() as u64);
            prop_assert!(d.histogram.windows(2).all(|w| w[0].to == w[1].from));
        }
    }
}
