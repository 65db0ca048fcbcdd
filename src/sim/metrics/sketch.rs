//! Distribution of token gaps: exact count, sum and extremes, percentiles from a DDSketch.
//!
//! The sketch (Masson, Rim and Lee, "DDSketch", VLDB 2019) keeps logarithmic buckets of relative accuracy 0.1 %, the
//! same as the reference's, so percentiles agree to the bucket. Values enter with a multiplicity, because a forward pass
//! gives the same gap to every request of its batch.

/// Relative accuracy of a bucket's representative value.
const ACCURACY: f64 = 0.001;
/// Keys span the positive doubles.
const MAX_KEY: i32 = 400_000;

/// Mean, extremes, deviation and percentiles of a set of values (unit given by the holder), fed with multiplicities.
#[derive(Debug, Clone)]
pub struct Distribution {
    zero: u64,
    count: u64,
    mean: f64,
    /// Sum of squared differences from the mean.
    spread: f64,
    min: f64,
    max: f64,
    /// Counts of the buckets `first_key..`.
    buckets: Vec<u64>,
    first_key: i32,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            zero: 0,
            count: 0,
            mean: 0.0,
            spread: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            buckets: Vec::new(),
            first_key: 0,
        }
    }
}

/// Logarithm of the ratio between neighbouring bucket bounds.
fn log_gamma() -> f64 {
    (2.0 * ACCURACY / (1.0 - ACCURACY)).ln_1p()
}

/// Bucket of a positive value.
pub fn key_of(value: f64) -> i32 {
    let key = (value.ln() / log_gamma()).ceil();
    // Positive doubles lie within -372,600..=355,000.
    (key as i32).clamp(-MAX_KEY, MAX_KEY)
}

/// Largest value of a bucket, but for rounding.
pub fn bound_of(key: i32) -> f64 {
    (f64::from(key) * log_gamma()).exp()
}

impl Distribution {
    /// Adds `count` samples of `value` (finite, zero or more).
    pub fn add(&mut self, value: f64, count: u64) {
        if value > 0.0 {
            self.add_keyed(value, key_of(value), count);
        } else {
            self.zero += count;
            self.count_in(0.0, count);
        }
    }

    /// [`Self::add`] for a positive value whose [`key_of`] is known already.
    pub fn add_keyed(&mut self, value: f64, key: i32, count: u64) {
        if count == 0 {
            return;
        }
        self.count_in(value, count);
        if self.buckets.is_empty() {
            self.first_key = key;
        } else if key < self.first_key {
            // Room to spare, so that a falling series does not shift the buckets again and again.
            let grow = (self.first_key - key) as usize + 64;
            self.buckets.splice(0..0, std::iter::repeat_n(0, grow));
            self.first_key -= grow as i32;
        }
        let index = (key - self.first_key) as usize;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += count;
    }

    /// Adds `count` samples of one bucket, given their mean, the sum of their squared differences from it, and the
    /// [`key_of`] of any of them. Extremes are the caller's ([`Self::widen`]).
    pub fn add_group(&mut self, mean: f64, spread: f64, key: i32, count: u64) {
        if count == 0 {
            return;
        }
        let (min, max) = (self.min, self.max);
        self.add_keyed(mean, key, count);
        self.spread += spread;
        (self.min, self.max) = (min, max);
    }

    /// Makes the extremes reach `min` and `max`, samples that were added already.
    pub fn widen(&mut self, min: f64, max: f64) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
    }

    fn count_in(&mut self, value: f64, count: u64) {
        if count == 0 {
            return;
        }
        // Welford's update with a weight: no cancellation where all values are nearly equal.
        self.count += count;
        let weight = count as f64;
        let before = value - self.mean;
        self.mean += before * (weight / self.count as f64);
        self.spread += weight * before * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds all samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let total = (self.count + other.count) as f64;
        let apart = other.mean - self.mean;
        let share = other.count as f64 / total;
        self.mean += apart * share;
        self.spread += other.spread + apart * apart * self.count as f64 * share;
        self.zero += other.zero;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.buckets.is_empty() {
            return;
        }
        if self.buckets.is_empty() {
            self.first_key = other.first_key;
            self.buckets.clone_from(&other.buckets);
            return;
        }
        let first = self.first_key.min(other.first_key);
        let last = (self.first_key as i64 + self.buckets.len() as i64)
            .max(other.first_key as i64 + other.buckets.len() as i64);
        let mut merged = vec![0; (last - i64::from(first)) as usize];
        for (start, buckets) in [(self.first_key, &self.buckets), (other.first_key, &other.buckets)] {
            for (slot, n) in merged[(start - first) as usize..].iter_mut().zip(buckets) {
                *slot += n;
            }
        }
        self.first_key = first;
        self.buckets = merged;
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Arithmetic mean; 0 without samples.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Population standard deviation; 0 without samples.
    pub fn std(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.spread / self.count as f64).max(0.0).sqrt() }
    }

    /// Smallest sample; 0 without samples.
    pub fn min(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.min }
    }

    /// Largest sample; 0 without samples.
    pub fn max(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.max }
    }

    /// Percentile `p` (0 to 100): the representative of the bucket that holds rank `round((n - 1) p / 100)`; exact with
    /// one sample, 0 without samples.
    pub fn percentile(&self, p: f64) -> f64 {
        if self.count <= 1 {
            return self.min();
        }
        let rank = ((self.count - 1) as f64 * p / 100.0).round() as u64;
        let mut below = self.zero;
        if rank < below {
            return 0.0;
        }
        for (index, n) in self.buckets.iter().enumerate() {
            below += n;
            if rank < below {
                let key = f64::from(self.first_key) + index as f64;
                let gamma = 1.0 + 2.0 * ACCURACY / (1.0 - ACCURACY);
                return (key * log_gamma()).exp() * 2.0 / (1.0 + gamma);
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_the_promised_accuracy() {
        let mut d = Distribution::default();
        for i in 1..=10_000u32 {
            d.add(f64::from(i) * 0.37, 1);
        }
        for p in [50.0, 75.0, 90.0, 95.0, 99.0] {
            let exact = (9_999.0 * p / 100.0 + 1.0) * 0.37;
            assert!((d.percentile(p) / exact - 1.0).abs() < 0.001_1, "p{p}");
        }
    }

    #[test]
    fn the_reference_bucket_midpoint_is_reproduced() {
        let mut d = Distribution::default();
        d.add(5.792_720, 3);
        assert!((d.percentile(50.0) - 5.795_026_708_492_48).abs() < 1e-12);
        assert!((d.mean() - 5.792_720).abs() < 1e-12);
    }

    #[test]
    fn merging_equals_adding_everything_to_one() {
        let (mut a, mut b, mut all) = (Distribution::default(), Distribution::default(), Distribution::default());
        for i in 0..500u32 {
            let v = f64::from(i * i % 97);
            if i % 3 == 0 {
                a.add(v, 2)
            } else {
                b.add(v, 2)
            }
            all.add(v, 2);
        }
        a.merge(&b);
        assert_eq!(a.count(), all.count());
        assert_eq!(a.percentile(90.0), all.percentile(90.0));
        assert!((a.std() - all.std()).abs() < 1e-9);
    }
}
