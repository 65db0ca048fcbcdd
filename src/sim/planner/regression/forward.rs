//! Time of a forward pass from what it computes.

use crate::scenario::RegressionConfig;
use crate::time::SimDuration;

use super::fit::Fit;
use super::samples::{Sample, SampleStore};

/// What a pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassLoad {
    /// Requests whose prompts are computed.
    pub prefills: u64,
    /// Their tokens in this pass.
    pub prefill_tokens: u64,
    /// Requests that decode.
    pub decodes: u64,
    /// Sum of their contexts, tokens.
    pub decode_kv_tokens: u64,
}

/// The kinds of passes, each learnt by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prefill,
    Decode,
    Mixed,
}

impl PassLoad {
    /// Kind and features; nothing if the pass is empty.
    fn features(&self) -> Option<(Kind, [f64; 2])> {
        let decodes = self.decodes > 0 || self.decode_kv_tokens > 0;
        let (tokens, kv) = (self.prefill_tokens as f64, self.decode_kv_tokens as f64);
        match (self.prefill_tokens > 0, decodes) {
            (true, false) => Some((Kind::Prefill, [tokens, 0.0])),
            (false, true) => Some((Kind::Decode, [self.decodes as f64, kv])),
            (true, true) => Some((Kind::Mixed, [tokens, kv])),
            (false, false) => None,
        }
    }

    /// Whether tokens and requests go together.
    fn is_sound(&self) -> bool {
        (self.prefill_tokens == 0 || self.prefills > 0) && (self.decode_kv_tokens == 0 || self.decodes > 0)
    }
}

#[derive(Debug, Clone)]
struct Learnt {
    features: usize,
    samples: SampleStore,
    fit: Option<Fit>,
}

impl Learnt {
    fn new(features: usize, config: RegressionConfig) -> Self {
        let samples = SampleStore::new(features, config.buckets, config.max_samples);
        Self { features, samples, fit: None }
    }
}

/// A regression per kind of pass.
#[derive(Debug, Clone)]
pub struct ForwardModel {
    config: RegressionConfig,
    positive_intercept: bool,
    prefill: Learnt,
    decode: Learnt,
    mixed: Learnt,
}

impl ForwardModel {
    /// A model that knows nothing. `positive_intercept`: no work takes no less than no time.
    pub fn new(config: RegressionConfig, positive_intercept: bool) -> Self {
        Self {
            config,
            positive_intercept,
            prefill: Learnt::new(1, config),
            decode: Learnt::new(2, config),
            mixed: Learnt::new(2, config),
        }
    }

    /// Learns from a pass that took `wall_s` seconds; empty ones, and loads that cannot be, teach nothing.
    pub fn tune(&mut self, load: &PassLoad, wall_s: f64) {
        let Some((kind, x)) = load.features() else { return };
        if !load.is_sound() || wall_s.is_nan() || wall_s <= 0.0 {
            return;
        }
        let learnt = match kind {
            Kind::Prefill => &mut self.prefill,
            Kind::Decode => &mut self.decode,
            Kind::Mixed => &mut self.mixed,
        };
        learnt.samples.add(Sample { x, ms: wall_s * 1000.0 });
        let samples: Vec<Sample> = learnt.samples.iter().copied().collect();
        learnt.fit = Fit::to(&samples, learnt.features, self.config.min_observations, self.positive_intercept);
    }

    /// How long a pass takes; `None` if its kind is not known yet or the load cannot be.
    pub fn estimate(&self, load: &PassLoad) -> Option<SimDuration> {
        if !load.is_sound() {
            return None;
        }
        let Some((kind, x)) = load.features() else { return Some(SimDuration::ZERO) };
        let fit = match kind {
            Kind::Prefill => self.prefill.fit,
            Kind::Decode => self.decode.fit,
            Kind::Mixed => self.mixed.fit,
        }?;
        SimDuration::from_ms(fit.at(x)).ok()
    }

    /// Whether any kind is known, even if it is not the one that will be asked for.
    pub fn is_ready(&self) -> bool {
        [&self.prefill, &self.decode, &self.mixed].iter().any(|learnt| learnt.fit.is_some())
    }

    /// Passes remembered.
    pub fn observations(&self) -> usize {
        self.prefill.samples.len() + self.decode.samples.len() + self.mixed.samples.len()
    }
}
