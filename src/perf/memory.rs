//! How much GPU memory is left for the KV cache, and how many blocks that makes.
//!
//! Everything is per GPU and already divided by the tensor-parallel size. The formulas are those of NVIDIA
//! AIConfigurator 0.12.0 (Apache-2.0), whose figures the shipped tables carry; they reproduce these to the byte. Memory of
//! a draft model is left out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::setup::Shard;
use super::{GpuSpec, ModelShape, PerfError, RooflineSetup};

/// CUDA context, graphs and libraries, in bytes.
const RUNTIME_OVERHEAD: u64 = 3_758_096_384;
/// Communication buffers of two GPUs, and of more, in bytes.
const COMM_OVERHEAD: [u64; 2] = [358_612_992, 411_041_792];
const MIB: u64 = 1 << 20;

/// A serving engine, for its memory rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// TensorRT-LLM.
    Trtllm,
}

impl Backend {
    /// The name of the setting that says how much memory to use.
    pub fn fraction_name(self) -> &'static str {
        match self {
            Self::Vllm => "gpu_memory_utilization",
            Self::Sglang => "mem_fraction_static",
            Self::Trtllm => "free_gpu_memory_fraction",
        }
    }

    /// That setting's default.
    pub fn default_fraction(self) -> f64 {
        match self {
            Self::Vllm | Self::Trtllm => 0.9,
            Self::Sglang => 0.88,
        }
    }

    /// What that setting is a fraction of.
    pub fn fraction_kind(self) -> FractionKind {
        match self {
            Self::Vllm | Self::Sglang => FractionKind::OfTotal,
            Self::Trtllm => FractionKind::OfFree,
        }
    }

    /// Activation bytes per token and per column of all query heads, for 1, 2, and 4 or more GPUs.
    fn activation_bytes(self, experts: bool) -> [u64; 3] {
        match (self, experts) {
            (Self::Vllm | Self::Trtllm, false) => [22, 13, 10],
            (Self::Vllm | Self::Trtllm, true) => [44, 26, 20],
            (Self::Sglang, false) => [28, 17, 13],
            (Self::Sglang, true) => [56, 34, 26],
        }
    }

    /// Least activation memory, in bytes, before SGLang's factor.
    fn activation_floor(self) -> u64 {
        match self {
            Self::Vllm | Self::Trtllm => 70 * MIB,
            Self::Sglang => 90 * MIB,
        }
    }

    /// Activation memory of `tokens` tokens at `per_token` bytes each, before the backend's factor.
    fn activations(self, per_token: u64, tokens: u64) -> u64 {
        per_token.saturating_mul(tokens).max(self.activation_floor())
    }

    /// Factors on activations and on runtime overhead.
    fn factors(self) -> [f64; 2] {
        match self {
            Self::Vllm | Self::Trtllm => [1.0, 1.0],
            Self::Sglang => [1.15, 1.2],
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Trtllm => "trtllm",
        })
    }
}

impl FromStr for Backend {
    type Err = PerfError;

    /// The backend called `name`, in capitals or not.
    fn from_str(name: &str) -> Result<Self, PerfError> {
        match name.to_ascii_lowercase().as_str() {
            "vllm" => Ok(Self::Vllm),
            "sglang" => Ok(Self::Sglang),
            "trtllm" | "trt-llm" | "tensorrt-llm" | "tensorrt_llm" => Ok(Self::Trtllm),
            _ => Err(PerfError::setting("backend", format!("is \"{name}\""), "give vllm, sglang or trtllm")),
        }
    }
}

/// What a memory fraction is a fraction of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FractionKind {
    /// Of all memory of the GPU, weights and the rest included (vLLM, SGLang).
    OfTotal,
    /// Of what weights and the rest leave free (TensorRT-LLM).
    OfFree,
}

/// Where the memory of one GPU goes, as the `memory` block of a table says it. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryParts {
    /// Memory of the GPU.
    pub gpu_capacity_bytes: u64,
    /// What `fraction` is a fraction of.
    pub fraction_kind: FractionKind,
    /// Fraction the engine uses unless told otherwise, 0 to 1.
    pub fraction: f64,
    /// Tokens of a pass that `activations_bytes` was computed for.
    pub max_num_batched_tokens: u64,
    /// Model weights.
    pub weights_bytes: u64,
    /// Intermediate results of the largest pass.
    pub activations_bytes: u64,
    /// CUDA context, graphs and libraries.
    pub runtime_overhead_bytes: u64,
    /// Communication buffers.
    pub comm_overhead_bytes: u64,
    /// Keys and values of one token, in all layers.
    pub kv_bytes_per_token: u64,
}

/// Room for KV blocks on one GPU, and how it came about. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KvCapacity {
    /// Memory of the GPU.
    pub gpu_capacity_bytes: u64,
    /// What `fraction` is a fraction of.
    pub fraction_kind: FractionKind,
    /// Fraction of memory the engine uses.
    pub fraction: f64,
    /// Most tokens of a pass.
    pub max_num_batched_tokens: u64,
    /// Model weights.
    pub weights_bytes: u64,
    /// Intermediate results of the largest pass.
    pub activations_bytes: u64,
    /// CUDA context, graphs and libraries.
    pub runtime_overhead_bytes: u64,
    /// Communication buffers.
    pub comm_overhead_bytes: u64,
    /// What is left for the KV cache.
    pub kv_budget_bytes: u64,
    /// Keys and values of one token, in all layers.
    pub kv_bytes_per_token: u64,
    /// Tokens that fit.
    pub kv_tokens: u64,
    /// Tokens of a block.
    pub block_size: u64,
    /// Whole blocks that fit. vLLM's null block is not taken off.
    pub num_gpu_blocks: u64,
}

/// Memory of one GPU that runs its share of `shape` under `backend`, with passes of up to `max_num_batched_tokens` tokens.
///
/// # Errors
/// When `setup` does not divide `shape` into equal shares.
pub fn estimate(
    gpu: &GpuSpec,
    shape: &ModelShape,
    setup: &RooflineSetup,
    backend: Backend,
    max_num_batched_tokens: u64,
) -> Result<MemoryParts, PerfError> {
    let shard = Shard::new(shape, setup)?;
    let size_class = match shard.tp {
        1 => 0,
        2 | 3 => 1,
        _ => 2,
    };
    let per_column = backend.activation_bytes(shape.experts.is_some())[size_class];
    let per_token = per_column.saturating_mul(shape.heads).saturating_mul(shape.head_dim);
    let [activations, overhead] = backend.factors();
    Ok(MemoryParts {
        gpu_capacity_bytes: gpu.memory_bytes,
        fraction_kind: backend.fraction_kind(),
        fraction: backend.default_fraction(),
        max_num_batched_tokens,
        weights_bytes: weights(shape, &shard, setup.weights.bytes()),
        activations_bytes: scaled(backend.activations(per_token, max_num_batched_tokens), activations),
        runtime_overhead_bytes: scaled(RUNTIME_OVERHEAD, overhead),
        comm_overhead_bytes: match shard.tp * shard.attention_dp {
            1 => 0,
            2 => COMM_OVERHEAD[0],
            _ => COMM_OVERHEAD[1],
        },
        kv_bytes_per_token: saturated(
            [shape.layers, 2, shard.kv_heads, shape.head_dim, setup.kv_cache.bytes()].iter().map(|n| u128::from(*n)),
        ),
    })
}

/// Bytes of one GPU's weights, `bytes` of them per number in the layers.
fn weights(shape: &ModelShape, shard: &Shard, bytes: u64) -> u64 {
    let wide = u128::from;
    let (hidden, head_dim, tp) = (wide(shape.hidden), wide(shape.head_dim), wide(shard.tp));
    let embedding = 2 * hidden * wide(shape.vocab) / tp;
    let (heads, kv_heads, bytes) = (wide(shard.heads), wide(shard.kv_heads), wide(bytes));
    let attention = (heads * head_dim + 2 * kv_heads * head_dim) * hidden + hidden * heads * head_dim;
    let total = match shape.experts {
        // The output projection counts even where it is tied to the embedding.
        None => {
            let layer = bytes * (attention + 3 * hidden * wide(shard.intermediate));
            2 * embedding + wide(shape.layers) * layer
        }
        // AIConfigurator counts no output projection for a mixture of experts.
        Some(experts) => {
            let local = wide(experts.count / shard.moe_ep);
            let router = 2 * wide(experts.count) * hidden;
            let layer = bytes * (attention + 3 * hidden * wide(shard.moe_intermediate) * local) + router;
            embedding + wide(shape.layers) * layer
        }
    };
    u64::try_from(total).unwrap_or(u64::MAX)
}

fn saturated(factors: impl Iterator<Item = u128>) -> u64 {
    u64::try_from(factors.fold(1u128, u128::saturating_mul)).unwrap_or(u64::MAX)
}

/// `bytes` times a factor of at least 1, in whole bytes.
fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
}

/// The bytes that `scaled` made `bytes` of.
fn unscaled(bytes: u64, factor: f64) -> u64 {
    // What was cut off is less than a byte; the allowance is for the rounding of the division.
    (bytes as f64 / factor - 1e-6).ceil().max(0.0) as u64
}

impl MemoryParts {
    /// Memory that is not for the KV cache, in bytes.
    pub fn non_kv_bytes(&self) -> u64 {
        [self.activations_bytes, self.runtime_overhead_bytes, self.comm_overhead_bytes]
            .iter()
            .fold(self.weights_bytes, |sum, part| sum.saturating_add(*part))
    }

    /// The same, in the fractions of bytes that AIConfigurator calculates with.
    fn non_kv(&self, backend: Backend) -> f64 {
        let [activations, overhead] = backend.factors();
        self.weights_bytes as f64
            + unscaled(self.activations_bytes, activations) as f64 * activations
            + unscaled(self.runtime_overhead_bytes, overhead) as f64 * overhead
            + self.comm_overhead_bytes as f64
    }

    /// The same memory with passes of up to `tokens` tokens.
    ///
    /// Activations grow in proportion down to a floor. Parts that are at the floor do not tell the slope; the steepest
    /// possible one is taken, so that capacity is not overestimated.
    #[must_use]
    pub fn with_max_num_batched_tokens(mut self, backend: Backend, tokens: u64) -> Self {
        if tokens != self.max_num_batched_tokens {
            let [factor, _] = backend.factors();
            let per_token = unscaled(self.activations_bytes, factor).div_ceil(self.max_num_batched_tokens.max(1));
            self.activations_bytes = scaled(backend.activations(per_token, tokens), factor);
            self.max_num_batched_tokens = tokens;
        }
        self
    }
}

/// KV blocks of `block_size` tokens that fit beside everything else.
///
/// `fraction` is the one setting that belongs to `backend` ([`Backend::fraction_name`]); without it the default that came
/// with `parts` holds. `max_num_batched_tokens` replaces the one `parts` was made for.
///
/// # Errors
/// When `fraction` is outside 0 to 1, `block_size` is 0, or no block fits; the error then states capacity, fraction and
/// what the rest takes.
pub fn kv_capacity(
    parts: &MemoryParts,
    backend: Backend,
    fraction: Option<f64>,
    block_size: u64,
    max_num_batched_tokens: Option<u64>,
) -> Result<KvCapacity, PerfError> {
    let fraction = fraction.unwrap_or(parts.fraction);
    if !(0.0..=1.0).contains(&fraction) {
        return Err(PerfError::setting(backend.fraction_name(), format!("is {fraction}"), "give a number from 0 to 1"));
    }
    if block_size == 0 {
        return Err(PerfError::setting("block_size", "is 0", "give a whole number of tokens, at least 1"));
    }
    let parts = match max_num_batched_tokens {
        Some(tokens) => parts.clone().with_max_num_batched_tokens(backend, tokens),
        None => parts.clone(),
    };
    let (capacity, non_kv) = (parts.gpu_capacity_bytes as f64, parts.non_kv(backend));
    let budget = match parts.fraction_kind {
        FractionKind::OfTotal => capacity * fraction - non_kv,
        FractionKind::OfFree => (capacity - non_kv) * fraction,
    };
    // Negative room becomes 0 here and an error below.
    let budget_bytes = budget as u64;
    let tokens = budget_bytes.checked_div(parts.kv_bytes_per_token).unwrap_or(0);
    let blocks = tokens / block_size;
    if blocks == 0 {
        return Err(no_room(&parts, backend, fraction, budget, block_size));
    }
    Ok(KvCapacity {
        gpu_capacity_bytes: parts.gpu_capacity_bytes,
        fraction_kind: parts.fraction_kind,
        fraction,
        max_num_batched_tokens: parts.max_num_batched_tokens,
        weights_bytes: parts.weights_bytes,
        activations_bytes: parts.activations_bytes,
        runtime_overhead_bytes: parts.runtime_overhead_bytes,
        comm_overhead_bytes: parts.comm_overhead_bytes,
        kv_budget_bytes: budget_bytes,
        kv_bytes_per_token: parts.kv_bytes_per_token,
        kv_tokens: tokens,
        block_size,
        num_gpu_blocks: blocks,
    })
}

fn no_room(parts: &MemoryParts, backend: Backend, fraction: f64, budget: f64, block_size: u64) -> PerfError {
    let gib = |bytes: f64| format!("{:.2} GiB", bytes / f64::from(1u32 << 30));
    let of = match parts.fraction_kind {
        FractionKind::OfTotal => "of all memory",
        FractionKind::OfFree => "of free memory",
    };
    let room = if budget > 0.0 {
        format!("{} bytes, less than a block of {block_size} tokens", budget as u64)
    } else {
        format!("{:.0} bytes", budget.floor())
    };
    let cause = format!(
        "{fraction} {of} leaves no room for the KV cache: the GPU has {} bytes ({}); weights, activations and overhead \
         take {} bytes ({}); what is left is {room}",
        parts.gpu_capacity_bytes,
        gib(parts.gpu_capacity_bytes as f64),
        parts.non_kv_bytes(),
        gib(parts.non_kv_bytes() as f64),
    );
    let cure = "use more GPUs (tp), a GPU with more memory, FP8 weights, or a larger fraction";
    PerfError::setting(backend.fraction_name(), cause, cure)
}
