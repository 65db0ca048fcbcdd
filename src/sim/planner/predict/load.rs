//! The three predictors: requests, prompt lengths, output lengths.

use crate::scenario::PlannerConfig;

use super::super::observe::TrafficObservation;
use super::Predictor;

/// What is expected of the next interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Requests.
    pub num_req: f64,
    /// Prompt tokens of a request.
    pub isl: f64,
    /// Output tokens of a request.
    pub osl: f64,
    /// Share of prompt blocks found in the cache, as last seen.
    pub kv_hit_rate: Option<f64>,
    /// Output tokens per request and decode pass, as last seen.
    pub accept_length: f64,
}

/// Predictors of requests, prompt and output lengths, and what is only remembered.
#[derive(Debug, Clone)]
pub struct LoadPredictors {
    num_req: Predictor,
    isl: Predictor,
    osl: Predictor,
    last_isl: Option<f64>,
    last_osl: Option<f64>,
    /// Whether requests arrived since the warm-up.
    live: bool,
    kv_hit_rate: Option<f64>,
    accept_length: f64,
}

impl LoadPredictors {
    /// Predictors that saw nothing.
    pub fn new(config: &PlannerConfig) -> Self {
        let predictor = Predictor::new(&config.predictor, config.throughput_interval_s);
        Self {
            num_req: predictor.clone(),
            isl: predictor.clone(),
            osl: predictor,
            last_isl: None,
            last_osl: None,
            live: false,
            kv_hit_rate: None,
            accept_length: 1.0,
        }
    }

    /// Learns from intervals before the run.
    pub fn warm(&mut self, intervals: &[TrafficObservation]) {
        for interval in intervals {
            self.observe_load(interval);
        }
        for predictor in [&mut self.num_req, &mut self.isl, &mut self.osl] {
            predictor.sleep();
        }
        self.live = false;
    }

    /// Learns from an interval. `clamp` puts the accept length into its range.
    pub fn observe(&mut self, traffic: &TrafficObservation, clamp: impl Fn(f64) -> f64) {
        self.observe_load(traffic);
        if let Some(rate) = traffic.kv_hit_rate.filter(|rate| !rate.is_nan()) {
            self.kv_hit_rate = Some(rate);
        }
        if let Some(length) = traffic.accept_length.filter(|length| length.is_finite()) {
            self.accept_length = clamp(length);
        }
    }

    fn observe_load(&mut self, traffic: &TrafficObservation) {
        self.num_req.add(traffic.num_req);
        let (mut isl, mut osl) = (traffic.isl, traffic.osl);
        if traffic.num_req > 0.0 {
            self.live = true;
            if isl.is_finite() {
                self.last_isl = Some(isl);
            }
            if osl.is_finite() {
                self.last_osl = Some(osl);
            }
        } else if traffic.num_req == 0.0 && self.live {
            // Lengths mean nothing without requests: the last ones go on.
            isl = self.last_isl.unwrap_or(0.0);
            osl = self.last_osl.unwrap_or(0.0);
        }
        if isl.is_finite() {
            self.isl.add(isl);
        }
        if osl.is_finite() {
            self.osl.add(osl);
        }
    }

    /// What is expected next.
    pub fn predict(&mut self) -> Prediction {
        Prediction {
            num_req: self.num_req.predict(),
            isl: self.isl.predict(),
            osl: self.osl.predict(),
            kv_hit_rate: self.kv_hit_rate,
            accept_length: self.accept_length,
        }
    }
}
