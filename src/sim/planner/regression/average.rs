//! A mean over the last values.

use std::collections::VecDeque;

/// Mean of the last values, from the first one above zero on.
#[derive(Debug, Clone)]
pub struct MovingAverage {
    window: usize,
    values: VecDeque<f64>,
    sum: f64,
}

impl MovingAverage {
    /// A mean over `window` values.
    pub fn new(window: usize) -> Self {
        Self { window: window.max(1), values: VecDeque::new(), sum: 0.0 }
    }

    /// Adds a value; zeros before the first other one do not count.
    pub fn add(&mut self, value: f64) {
        if self.values.is_empty() && value <= 0.0 {
            return;
        }
        let value = value.max(0.0);
        self.values.push_back(value);
        self.sum += value;
        if self.values.len() > self.window
            && let Some(oldest) = self.values.pop_front()
        {
            self.sum -= oldest;
        }
    }

    /// The mean, 0 of nothing.
    pub fn mean(&self) -> f64 {
        if self.values.is_empty() { 0.0 } else { self.sum / self.values.len() as f64 }
    }
}
