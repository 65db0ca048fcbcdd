//! A level and a trend, followed by a Kalman filter: the local linear trend model.

use crate::scenario::PredictorConfig;

use super::{expm1, log1p};

/// Uncertainty of level and trend before anything was measured.
const INITIAL_VARIANCE: f64 = 1_000.0;

/// The filter.
#[derive(Debug, Clone)]
pub struct Kalman {
    log1p: bool,
    /// Variance of a measurement.
    noise: f64,
    /// Variance that level and trend gain per interval.
    drift: [f64; 2],
    /// Level and trend, once anything was measured.
    state: Option<[f64; 2]>,
    covariance: [[f64; 2]; 2],
    /// The level predicted since the last measurement, so that asking twice moves nothing.
    ahead: Option<f64>,
}

impl Kalman {
    /// A filter that measured nothing.
    pub fn new(config: &PredictorConfig) -> Self {
        Self {
            log1p: config.log1p,
            noise: config.kalman_r.max(1e-9),
            drift: [config.kalman_q_level.max(1e-12), config.kalman_q_trend.max(1e-12)],
            state: None,
            covariance: [[INITIAL_VARIANCE, 0.0], [0.0, INITIAL_VARIANCE]],
            ahead: None,
        }
    }

    /// Measures a value. The first one sets the level.
    pub fn add(&mut self, value: f64) {
        let measured = if self.log1p { log1p(value) } else { value };
        if self.state.is_none() {
            self.state = Some([measured, 0.0]);
        } else {
            if self.ahead.is_none() {
                self.step();
            }
            self.correct(measured);
        }
        self.ahead = None;
    }

    /// The level of the next interval, which may be negative unless logarithms are modelled; 0 before the first value.
    pub fn predict(&mut self) -> f64 {
        if self.state.is_none() {
            return 0.0;
        }
        let level = match self.ahead {
            Some(level) => level,
            None => {
                self.step();
                let level = self.state.map_or(0.0, |[level, _]| level);
                self.ahead = Some(level);
                level
            }
        };
        if self.log1p { expm1(level) } else { level }
    }

    /// Time goes on by an interval.
    fn step(&mut self) {
        let Some([level, trend]) = &mut self.state else { return };
        *level += *trend;
        let [[a, b], [c, d]] = self.covariance;
        let [q_level, q_trend] = self.drift;
        self.covariance = [[(a + c) + (b + d) + q_level, b + d], [c + d, d + q_trend]];
    }

    fn correct(&mut self, measured: f64) {
        let Some([level, trend]) = &mut self.state else { return };
        let [[a, b], [c, d]] = self.covariance;
        let spread = a + self.noise;
        let gain = [a / spread, c / spread];
        let surprise = measured - *level;
        *level += gain[0] * surprise;
        *trend += gain[1] * surprise;
        // Joseph's form keeps the covariance positive: (I - KH) P (I - KH)' + K R K'.
        let kept = 1.0 - gain[0];
        let (top, bottom) = ([kept * a, kept * b], [c - gain[1] * a, d - gain[1] * b]);
        let r = self.noise;
        self.covariance = [
            [top[0] * kept + gain[0] * r * gain[0], top[1] - top[0] * gain[1] + gain[0] * r * gain[1]],
            [bottom[0] * kept + gain[1] * r * gain[0], bottom[1] - bottom[0] * gain[1] + gain[1] * r * gain[1]],
        ];
    }
}
