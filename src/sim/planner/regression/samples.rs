//! Observations to fit, spread evenly over their range: the fullest bucket gives way first.

use std::collections::{BTreeMap, VecDeque};

/// A point of up to two features and the milliseconds it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Features; the second is 0 where there is one only.
    pub x: [f64; 2],
    /// Milliseconds.
    pub ms: f64,
}

/// A bounded store of samples.
#[derive(Debug, Clone)]
pub struct SampleStore {
    features: usize,
    per_axis: usize,
    limit: usize,
    /// Samples by bucket. The reference keeps them by hash, so that ties are broken at random there; here the lowest
    /// bucket gives way.
    buckets: BTreeMap<[usize; 2], VecDeque<Sample>>,
    low: [f64; 2],
    high: [f64; 2],
    len: usize,
}

impl SampleStore {
    /// A store for samples of `features` features (1 or 2) in `buckets` buckets, a square number.
    pub fn new(features: usize, buckets: usize, limit: usize) -> Self {
        let per_axis = if features == 1 { buckets } else { buckets.isqrt() };
        Self {
            features,
            per_axis,
            limit,
            buckets: BTreeMap::new(),
            low: [f64::INFINITY; 2],
            high: [f64::NEG_INFINITY; 2],
            len: 0,
        }
    }

    fn bucket(&self, sample: &Sample) -> [usize; 2] {
        let mut key = [0; 2];
        for (axis, index) in key.iter_mut().enumerate().take(self.features) {
            let (low, high) = (self.low[axis], self.high[axis]);
            if high > low {
                // A float to integer conversion saturates, so a negative one is 0.
                let share = (sample.x[axis] - low) / (high - low) * self.per_axis as f64;
                *index = (share as usize).min(self.per_axis - 1);
            }
        }
        key
    }

    /// Adds a sample; beyond the limit the oldest one of the fullest bucket goes.
    pub fn add(&mut self, sample: Sample) {
        let mut moved = false;
        for axis in 0..self.features {
            let x = sample.x[axis];
            moved |= x < self.low[axis] || x > self.high[axis];
            self.low[axis] = self.low[axis].min(x);
            self.high[axis] = self.high[axis].max(x);
        }
        if moved {
            let old = std::mem::take(&mut self.buckets);
            for sample in old.into_values().flatten() {
                let key = self.bucket(&sample);
                self.buckets.entry(key).or_default().push_back(sample);
            }
        }
        let key = self.bucket(&sample);
        self.buckets.entry(key).or_default().push_back(sample);
        self.len += 1;
        if self.len > self.limit {
            self.retire();
        }
    }

    fn retire(&mut self) {
        let mut fullest: Option<([usize; 2], usize)> = None;
        for (key, bucket) in &self.buckets {
            if fullest.is_none_or(|(_, most)| bucket.len() > most) {
                fullest = Some((*key, bucket.len()));
            }
        }
        let Some((key, most)) = fullest else { return };
        if most <= 1 {
            self.buckets.remove(&key);
        } else if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.pop_front();
        }
        self.len -= 1;
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The samples, bucket by bucket.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.buckets.values().flatten()
    }
}
