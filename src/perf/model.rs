//! Models by name and from a Hugging Face `config.json`.

use super::{ModelShape, PerfError, Precision};

/// What a `config.json` says that matters for timing and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Sizes.
    pub shape: ModelShape,
    /// Format of the weights.
    pub weights: Precision,
    /// Format of the KV cache.
    pub kv_cache: Precision,
}
