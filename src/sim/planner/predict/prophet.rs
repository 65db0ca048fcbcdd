//! Prophet's additive model. On windows as short as a planner's it has no seasons, only a piecewise linear trend.
//!
//! Data preparation, changepoints and forecast are those of the `augurs-prophet` crate. The most likely parameters are
//! found exactly, by coordinate descent, where the original stops Stan's optimiser near them: forecasts agree in kind,
//! not in digits.

use augurs_prophet::optimizer::{Data, InitialParams, OptimizeOpts, OptimizedParams, Optimizer};
use augurs_prophet::{PositiveFloat, PredictionData, Prophet as Forecaster, ProphetOptions, TrainingData};

use crate::scenario::PredictorConfig;

use super::{FEW, expm1, log1p};

/// Where the reference's time axis starts, seconds since 1970.
const START: i64 = 1_704_067_200;
/// Standard deviation of the priors of growth and offset.
const PRIOR: f64 = 5.0;
/// Standard deviation of the prior of the observation noise.
const NOISE_PRIOR: f64 = 0.5;
/// Rounds of the descent.
const ROUNDS: usize = 2_000;

/// The predictor.
#[derive(Debug, Clone)]
pub struct Prophet {
    log1p: bool,
    window: usize,
    interval_s: i64,
    /// Step and value, the oldest first.
    points: Vec<(i64, f64)>,
    steps: i64,
}

impl Prophet {
    /// A predictor that saw nothing. `interval_s`: seconds between two values.
    pub fn new(config: &PredictorConfig, interval_s: f64) -> Self {
        let (log1p, window) = (config.log1p, config.prophet_window);
        Self { log1p, window, interval_s: interval_s as i64, points: Vec::new(), steps: 0 }
    }

    /// Takes a value; the oldest one beyond the window goes.
    pub fn add(&mut self, value: f64) {
        self.points.push((self.steps, if self.log1p { log1p(value) } else { value }));
        self.steps += 1;
        if self.points.len() > self.window {
            self.points.remove(0);
        }
    }

    /// The value to come, not below 0; the last one while there are few.
    pub fn predict(&self) -> f64 {
        let Some((_, last)) = self.points.last() else { return 0.0 };
        let value = match self.points.len() {
            0..FEW => *last,
            _ => self.forecast().filter(|value| value.is_finite()).map_or(*last, |value| value.max(0.0)),
        };
        if self.log1p { expm1(value) } else { value }
    }

    fn forecast(&self) -> Option<f64> {
        let at = |step: i64| START + step * self.interval_s;
        let (times, values) = self.points.iter().map(|(step, value)| (at(*step), *value)).unzip();
        let mut model =
            Forecaster::new(ProphetOptions { uncertainty_samples: 0, ..ProphetOptions::default() }, Descent);
        model.fit(TrainingData::new(times, values).ok()?, OptimizeOpts::default()).ok()?;
        model.predict(PredictionData::new(vec![at(self.steps)])).ok()?.yhat.point.first().copied()
    }
}

/// Finds the most likely trend: growth, offset and sparse changes of growth.
#[derive(Debug, Clone, Copy)]
struct Descent;

impl Optimizer for Descent {
    fn optimize(
        &self,
        init: &InitialParams,
        data: &Data,
        _: &OptimizeOpts,
    ) -> Result<OptimizedParams, augurs_prophet::optimizer::Error> {
        let n = data.y.len();
        // Columns: growth, offset, then what each change of growth adds from its time on.
        let mut columns = vec![data.t.clone(), vec![1.0; n]];
        columns.extend(data.t_change.iter().map(|change| data.t.iter().map(|t| (t - change).max(0.0)).collect()));
        let squares: Vec<f64> = columns.iter().map(|column| column.iter().map(|x| x * x).sum()).collect();
        let mut weights: Vec<f64> = [init.k, init.m].into_iter().chain(init.delta.iter().copied()).collect();
        let mut rest = data.y.clone();
        for (column, weight) in columns.iter().zip(&weights) {
            rest.iter_mut().zip(column).for_each(|(rest, x)| *rest -= weight * x);
        }
        let tau = f64::from(data.tau);
        let mut variance = 1.0_f64;
        for _ in 0..ROUNDS {
            let mut moved = 0.0_f64;
            for (index, column) in columns.iter().enumerate() {
                let old = weights[index];
                let pull: f64 = rest.iter().zip(column).map(|(rest, x)| rest * x).sum::<f64>() + old * squares[index];
                let new = if index < 2 {
                    pull / (squares[index] + variance / (PRIOR * PRIOR))
                } else if squares[index] == 0.0 {
                    0.0
                } else {
                    // The Laplace prior pulls small changes to zero.
                    (pull.abs() - variance / tau).max(0.0).copysign(pull) / squares[index]
                };
                if new != old {
                    rest.iter_mut().zip(column).for_each(|(rest, x)| *rest -= (new - old) * x);
                    weights[index] = new;
                    moved = moved.max((new - old).abs());
                }
            }
            let missed: f64 = rest.iter().map(|rest| rest * rest).sum();
            let (count, prior) = (n as f64, NOISE_PRIOR * NOISE_PRIOR);
            // Where the likelihood of the noise, with its half-normal prior, is greatest.
            let next = 2.0 * missed / (count + (count * count + 4.0 * missed / prior).sqrt());
            moved = moved.max((next - variance).abs());
            variance = next.max(1e-12);
            if moved < 1e-10 {
                break;
            }
        }
        let sigma_obs = PositiveFloat::try_new(variance.sqrt()).unwrap_or(init.sigma_obs);
        let trend = data.y.iter().zip(&rest).map(|(y, rest)| y - rest).collect();
        let (k, m) = (weights[0], weights[1]);
        Ok(OptimizedParams { k, m, sigma_obs, delta: weights.split_off(2), beta: vec![0.0; init.beta.len()], trend })
    }
}
