//! What an engine's pass times come from, chosen once per engine.

use std::sync::Arc;

use super::{ForwardPassTable, KvCapacity, NpzProfile, PromptAttention, Roofline};

/// Shortest decode step, milliseconds, unless a configuration lowers it. It keeps two token-emitting steps from sharing a
/// time stamp, as in the reference.
pub const DECODE_FLOOR_MS: f64 = 1.0;

/// The model that gives milliseconds.
#[derive(Debug, Clone, Default)]
pub enum TimingModel {
    /// The reference's default: a quadratic in prefill tokens and one in KV occupancy.
    #[default]
    Polynomial,
    /// Planner profile arrays.
    Profile(Arc<NpzProfile>),
    /// Sampled kernel measurements.
    Table(Arc<ForwardPassTable>),
    /// An estimate from data-sheet figures.
    Roofline(Arc<Roofline>),
}

/// How a pass over prompts and decodes adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Composition {
    /// Prefill time plus decode time, as the reference does.
    #[default]
    Sum,
    /// As one pass that reads the weights once; tables and rooflines only.
    Fused(PromptAttention),
}

/// What a calibration against measurements changes. The default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// Factor on prefill times.
    pub prefill_scale: f64,
    /// Factor on decode times.
    pub decode_scale: f64,
    /// Host time of every pass that computes anything, milliseconds: scheduling, sampling, launch.
    pub per_pass_overhead_ms: f64,
}

impl Default for Correction {
    fn default() -> Self {
        Self { prefill_scale: 1.0, decode_scale: 1.0, per_pass_overhead_ms: 0.0 }
    }
}

/// Pass timing of an engine: the model and everything that shapes its answers.
#[derive(Debug, Clone)]
pub struct Timing {
    /// The model.
    pub model: TimingModel,
    /// Where it comes from, in words for reports.
    pub provenance: String,
    /// How a mixed pass adds up.
    pub composition: Composition,
    /// Shortest decode step, milliseconds, zero or more.
    pub decode_floor_ms: f64,
    /// Corrections from a calibration or by hand.
    pub correction: Correction,
    /// Whether a pass is put together while the one before it still runs, as vLLM does by default since version 0.14. The
    /// host then costs less, but a request that arrives meanwhile joins one pass later, and the places of requests that
    /// finish are free one pass later.
    pub async_scheduling: bool,
    /// KV capacity estimated for the model; `None` when the number of blocks was given or nothing is known.
    pub capacity: Option<KvCapacity>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            model: TimingModel::default(),
            provenance: "polynomial (DynoSim default, Dynamo 1.4.2)".to_owned(),
            composition: Composition::default(),
            decode_floor_ms: DECODE_FLOOR_MS,
            correction: Correction::default(),
            async_scheduling: false,
            capacity: None,
        }
    }
}

/// Equal when they were described alike: the provenance names the model and its file.
impl PartialEq for Timing {
    fn eq(&self, other: &Self) -> bool {
        let shape = |t: &Self| (t.composition, t.decode_floor_ms, t.correction, t.async_scheduling);
        self.provenance == other.provenance && shape(self) == shape(other) && self.capacity == other.capacity
    }
}

impl TimingModel {
    /// Layers of the language model, where the timing model knows them.
    pub fn layers(&self) -> Option<u64> {
        match self {
            Self::Polynomial | Self::Profile(_) => None,
            Self::Table(table) => Some(table.model.layers),
            Self::Roofline(roofline) => Some(roofline.layers()),
        }
    }

    /// Whether prefill and decode can be priced as one pass.
    pub fn can_fuse(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Roofline(_))
    }
}
