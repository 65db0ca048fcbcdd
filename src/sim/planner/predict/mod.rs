//! Predictions of the next interval's load from the intervals so far.
//!
//! | file | idea |
//! |---|---|
//! | `kalman` | a level and a trend, followed by a Kalman filter |
//! | `arima` | autoregressive integrated moving average of automatic order |
//! | `likelihood` | how well such a model explains a series |
//! | `prophet` | a piecewise linear trend |
//! | `load` | the three predictors of requests, prompt and output lengths |

mod arima;
mod kalman;
mod likelihood;
mod load;
mod prophet;

use crate::scenario::{PredictorConfig, PredictorKind};

use arima::Arima;
use kalman::Kalman;
use prophet::Prophet;

pub use load::{LoadPredictors, Prediction};

/// Points before anything but the last one is predicted.
const FEW: usize = 5;

/// Predicts the next value of a series.
#[derive(Debug, Clone)]
pub struct Predictor {
    method: Method,
    /// Whether anything but 0 was seen since the start or the end of a warm-up: zeros before that do not count.
    awake: bool,
}

#[derive(Debug, Clone)]
enum Method {
    Constant(f64),
    Kalman(Kalman),
    Arima(Box<Arima>),
    Prophet(Prophet),
}

impl Predictor {
    /// A predictor that saw nothing. `interval_s`: seconds between two values.
    pub fn new(config: &PredictorConfig, interval_s: f64) -> Self {
        let method = match config.kind {
            PredictorKind::Constant => Method::Constant(0.0),
            PredictorKind::Kalman => Method::Kalman(Kalman::new(config)),
            PredictorKind::Arima => Method::Arima(Box::new(Arima::new(config.log1p))),
            PredictorKind::Prophet => Method::Prophet(Prophet::new(config, interval_s)),
        };
        Self { method, awake: false }
    }

    /// Takes the next value; what is no number counts as 0.
    pub fn add(&mut self, value: f64) {
        let value = if value.is_nan() { 0.0 } else { value };
        if value == 0.0 && !self.awake {
            return;
        }
        self.awake |= value != 0.0;
        match &mut self.method {
            Method::Constant(last) => *last = value,
            Method::Kalman(kalman) => kalman.add(value),
            Method::Arima(arima) => arima.add(value),
            Method::Prophet(prophet) => prophet.add(value),
        }
    }

    /// The value to come; 0 before the first.
    pub fn predict(&mut self) -> f64 {
        match &mut self.method {
            Method::Constant(last) => *last,
            Method::Kalman(kalman) => kalman.predict(),
            Method::Arima(arima) => arima.predict(),
            Method::Prophet(prophet) => prophet.predict(),
        }
    }

    /// Lets zeros not count again until something else is seen.
    pub fn sleep(&mut self) {
        self.awake = false;
    }
}

/// `ln(1 + value)` of what is not negative.
fn log1p(value: f64) -> f64 {
    value.max(0.0).ln_1p()
}

/// Undoes [`log1p`]; not below 0.
fn expm1(value: f64) -> f64 {
    value.exp_m1().max(0.0)
}
