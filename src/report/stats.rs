//! Mean, deviation and percentiles of a set of values, independent of the order in which they came.

/// Statistics the report gives of a latency, in the order of the reference's documentation.
pub(super) const PERCENTILES: [(&str, u8); 5] = [("median", 50), ("p75", 75), ("p90", 90), ("p95", 95), ("p99", 99)];

/// A sorted sample in milliseconds with its mean and population standard deviation.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Summary {
    sorted: Vec<f64>,
    mean: f64,
    std: f64,
}

impl Summary {
    /// Of whole nanoseconds: the mean comes from an exact sum.
    pub fn of_nanos(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let total: u128 = values.iter().map(|v| u128::from(*v)).sum();
        let mean = total as f64 / values.len().max(1) as f64 / 1e6;
        Self::of_sorted(values.iter().map(|v| *v as f64 / 1e6).collect(), mean)
    }

    /// Of milliseconds that are no whole nanoseconds.
    pub fn of_ms(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self::of_sorted(values, mean)
    }

    fn of_sorted(sorted: Vec<f64>, mean: f64) -> Self {
        // Two passes: squares of long latencies would swallow the spread of short ones.
        let squares: f64 = sorted.iter().map(|v| (v - mean) * (v - mean)).sum();
        let std = (squares / sorted.len().max(1) as f64).sqrt();
        Self { sorted, mean, std }
    }

    /// Whether there is nothing to summarise; every statistic is 0 then.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Population standard deviation.
    pub fn std(&self) -> f64 {
        self.std
    }

    /// Smallest value.
    pub fn min(&self) -> f64 {
        self.sorted.first().copied().unwrap_or(0.0)
    }

    /// Largest value.
    pub fn max(&self) -> f64 {
        self.sorted.last().copied().unwrap_or(0.0)
    }

    /// Percentile `p` by the nearest-rank rule: the element at `round((n - 1) p / 100)`, halves up, no interpolation.
    pub fn percentile(&self, p: u8) -> f64 {
        let Some(last) = self.sorted.len().checked_sub(1) else {
            return 0.0;
        };
        let rank = (last as u128 * u128::from(p) + 50) / 100;
        self.sorted[(rank as usize).min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_elements_at_the_nearest_rank_halves_up() {
        let s = Summary::of_nanos(vec![3_000_000, 1_000_000, 2_000_000]);
        // Ranks 1, 1.5, 1.8, 1.9 and 1.98 of 0..=2.
        let got: Vec<f64> = PERCENTILES.iter().map(|(_, p)| s.percentile(*p)).collect();
        assert_eq!(got, [2.0, 3.0, 3.0, 3.0, 3.0]);
        assert_eq!(Summary::of_nanos(vec![1_000_000, 2_000_000]).percentile(50), 2.0);
    }

    #[test]
    fn nothing_gives_zeros() {
        let s = Summary::of_ms(Vec::new());
        assert_eq!((s.mean(), s.std(), s.min(), s.max(), s.percentile(99)), (0.0, 0.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn order_of_values_does_not_change_a_bit() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i * 7919 % 1000) * 0.1 + 1e-9).collect();
        let mut reversed = values.clone();
        reversed.reverse();
        assert_eq!(Summary::of_ms(values), Summary::of_ms(reversed));
    }

    #[test]
    fn deviation_is_that_of_the_population() {
        let s = Summary::of_nanos(vec![2_000_000, 4_000_000]);
        assert_eq!((s.mean(), s.std()), (3.0, 1.0));
    }
}
