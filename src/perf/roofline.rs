//! Pass times from a GPU's data sheet and a model's shape, for models without a measured table.
//!
//! Every kernel takes as long as its arithmetic or its memory traffic, whichever is longer, at efficiencies below 1 and
//! with a constant per kernel. The constants were fitted to the vLLM tables of H100, H200 and B200 (those with FP8 weights in
//! blocks aside), at points other than the ones compared: the median error is about 10 % for prefill and 7 % for decode,
//! and one point in ten is off by more than 27 % and 21 %. On models left out of the fit these become 12 %, 8 %, 35 % and
//! 24 % at worst. A run that uses it is an estimate and says so.

use super::gpu::GpuSpec;
use super::setup::Shard;
use super::{FusedPass, ModelShape, PerfError, Precision, PromptAttention, RooflineSetup};

/// Fraction of the peak rate that a matrix multiplication reaches, by number format.
const GEMM_COMPUTE_BF16: f64 = 0.891;
const GEMM_COMPUTE_FP8: f64 = 0.699;
/// Fraction of the memory bandwidth that a matrix multiplication reaches.
const GEMM_MEMORY: f64 = 0.840;
/// Seconds that a matrix multiplication takes at least.
const GEMM_SECONDS: f64 = 8.54e-6;
/// The same for element-wise kernels; the low efficiency covers the quantisation of activations.
const ELEMENTWISE_MEMORY: f64 = 0.187;
const ELEMENTWISE_SECONDS: f64 = 2.04e-6;
/// The same for attention over prompts.
const PREFILL_ATTENTION_COMPUTE: f64 = 0.663;
const PREFILL_ATTENTION_SECONDS: f64 = 26.0e-6;
/// The same for attention of decoding requests, and memory efficiency of both.
const ATTENTION_MEMORY: f64 = 0.799;
const DECODE_ATTENTION_SECONDS: f64 = 4.09e-6;
/// The same for an all-reduce.
const ALL_REDUCE_LINK: f64 = 0.878;
const ALL_REDUCE_SECONDS: f64 = 5.7e-6;
/// Further seconds per layer of experts: routing and permutation.
const EXPERT_LAYER_SECONDS: f64 = 9.5e-6;

const MS: f64 = 1000.0;

/// Matrix multiplications of m rows: arithmetic and traffic are linear in m.
#[derive(Debug, Clone, Copy)]
struct Gemm {
    /// Seconds of arithmetic per row.
    compute: f64,
    /// Seconds to read the weights.
    weights: f64,
    /// Seconds to read and write a row.
    row: f64,
}

impl Gemm {
    /// Multiplication by an `n` by `k` matrix in format `precision`.
    fn new(gpu: &GpuSpec, precision: Precision, n: f64, k: f64) -> Self {
        let flops = match (precision, gpu.fp8_flops) {
            (Precision::Fp8, Some(fp8)) => fp8 * GEMM_COMPUTE_FP8,
            _ => gpu.bf16_flops * GEMM_COMPUTE_BF16,
        };
        let bytes = precision.bytes() as f64;
        let bandwidth = gpu.memory_bytes_per_s * GEMM_MEMORY;
        Self {
            compute: 2.0 * n * k / flops,
            weights: bytes * n * k / bandwidth,
            row: (bytes * k + 2.0 * n) / bandwidth,
        }
    }

    /// Seconds for `rows` rows when `share` times the weights are read.
    fn seconds(&self, rows: f64, share: f64) -> f64 {
        (rows * self.compute).max(share * self.weights + rows * self.row) + GEMM_SECONDS
    }
}

/// Tokens and time, of kernels whose time is linear in tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// Seconds per token.
    slope: f64,
    /// Seconds whatever the tokens.
    constant: f64,
}

impl Line {
    fn plus(self, other: Self) -> Self {
        Self { slope: self.slope + other.slope, constant: self.constant + other.constant }
    }
}

/// How the tokens of one GPU's requests meet its experts.
#[derive(Debug, Clone, Copy)]
struct Dispatch {
    /// Rows that its experts compute, per token.
    rows_per_token: f64,
    /// Experts it holds.
    local: f64,
}

impl Dispatch {
    /// Rows, and how many experts they touch on average if every row picks one at random.
    fn rows(&self, tokens: f64) -> (f64, f64) {
        let rows = tokens * self.rows_per_token;
        (rows, self.local * (1.0 - (-rows / self.local).exp()))
    }
}

/// Times of one model on one kind of GPU; what does not depend on the pass is computed once.
///
/// All times are unclamped milliseconds: an empty pass still costs the constants of its kernels.
#[derive(Debug, Clone)]
pub struct Roofline {
    layers: f64,
    /// Projections before and after attention.
    projections: [Gemm; 2],
    /// Matrices of the MLP or of one expert.
    mlp: [Gemm; 2],
    experts: Option<Dispatch>,
    /// Element-wise kernels, communication and constants of a layer.
    rest: Line,
    logits: Gemm,
    /// Seconds of prefill attention per query and key, in one layer.
    pair: f64,
    /// Seconds of attention per query token, to read it and write its result, in one layer.
    query: f64,
    /// Seconds of attention per token in the KV cache, in one layer.
    key_value: f64,
}

impl Roofline {
    /// The times of `shape` on `gpu`, spread and quantised as `setup` says.
    ///
    /// FP8 weights on a GPU without FP8 units are multiplied at its bf16 rate, at one byte of traffic each.
    ///
    /// # Errors
    /// When `setup` does not divide `shape` into equal shares, or several GPUs have no link between them.
    pub fn new(gpu: &GpuSpec, shape: &ModelShape, setup: &RooflineSetup) -> Result<Self, PerfError> {
        let shard = Shard::new(shape, setup)?;
        let [hidden, head_dim, vocab] = [shape.hidden, shape.head_dim, shape.vocab].map(|n| n as f64);
        let [tp, attention_dp, ep] = [shard.tp, shard.attention_dp, shard.moe_ep].map(|n| n as f64);
        let queries = shard.heads as f64 * head_dim;
        let keys = shard.kv_heads as f64 * head_dim;
        let kv_bytes = 2.0 * setup.kv_cache.bytes() as f64;
        let attention_bandwidth = gpu.memory_bytes_per_s * ATTENTION_MEMORY;

        let stream = elementwise(gpu, 8.0 * hidden);
        let mut rest = stream.plus(stream).plus(all_reduce(gpu, tp, 2.0 * hidden)?);
        let (inner, experts) = match shape.experts {
            None => {
                let inner = shard.intermediate as f64;
                rest = rest.plus(elementwise(gpu, 6.0 * inner)).plus(all_reduce(gpu, tp, 2.0 * hidden)?);
                (inner, None)
            }
            Some(experts) => {
                // Gathering the tokens of all groups and scattering the results moves what an all-reduce of them would.
                rest = rest.plus(all_reduce(gpu, tp * attention_dp, 2.0 * hidden * attention_dp)?);
                rest.constant += EXPERT_LAYER_SECONDS;
                let rows_per_token = attention_dp * experts.per_token as f64 / ep;
                let local = experts.count as f64 / ep;
                (shard.moe_intermediate as f64, Some(Dispatch { rows_per_token, local }))
            }
        };
        let layer = |n: f64, k: f64| Gemm::new(gpu, setup.weights, n, k);
        Ok(Self {
            layers: shape.layers as f64,
            projections: [layer(queries + 2.0 * keys, hidden), layer(hidden, queries)],
            mlp: [layer(2.0 * inner, hidden), layer(hidden, inner)],
            experts,
            rest,
            logits: Gemm::new(gpu, Precision::Bf16, vocab / tp, hidden),
            pair: 2.0 * queries / (gpu.bf16_flops * PREFILL_ATTENTION_COMPUTE),
            query: 4.0 * queries / attention_bandwidth,
            key_value: kv_bytes * keys / attention_bandwidth,
        })
    }

    /// Layers of the model.
    pub fn layers(&self) -> u64 {
        self.layers as u64
    }

    /// Milliseconds to prefill `count` prompts, each `new` tokens behind `prefix` tokens that are there already.
    pub fn prefill_ms(&self, count: u64, new: u64, prefix: u64) -> f64 {
        let [b, new, prefix] = [count, new, prefix].map(|n| n as f64);
        MS * (self.linear(b * new) + self.logits.seconds(b, 1.0) + self.prefill_attention(b, new, prefix))
    }

    /// Milliseconds of a decode step of `count` requests whose mean sequence length is `context`, the new token aside.
    pub fn decode_ms(&self, count: u64, context: u64) -> f64 {
        let [b, context] = [count, context].map(|n| n as f64);
        MS * (self.linear(b) + self.logits.seconds(b, 1.0) + self.decode_attention(b, context))
    }

    /// Milliseconds of a pass over prompts and decodes together, which reads the weights once for both.
    pub fn fused_ms(&self, pass: &FusedPass<'_>) -> f64 {
        let mut seconds = self.linear(pass.tokens() as f64) + self.logits.seconds(pass.logits_rows() as f64, 1.0);
        if !pass.prefills.is_empty() {
            seconds += match pass.attention {
                PromptAttention::Mean => {
                    let (new, prefix) = pass.mean_chunk();
                    self.prefill_attention(pass.prefills.len() as f64, new as f64, prefix as f64)
                }
                PromptAttention::PerRequest => pass
                    .prefills
                    .iter()
                    .map(|chunk| self.prefill_attention(1.0, chunk.new as f64, chunk.prefix as f64))
                    .sum(),
            };
        }
        if pass.decodes > 0 {
            seconds += self.decode_attention(pass.decode_tokens() as f64, pass.context as f64);
        }
        MS * seconds
    }

    /// Seconds of everything that is proportional to tokens, in all layers.
    fn linear(&self, tokens: f64) -> f64 {
        let (rows, share) = match &self.experts {
            None => (tokens, 1.0),
            Some(dispatch) => dispatch.rows(tokens),
        };
        let projections = self.projections[0].seconds(tokens, 1.0) + self.projections[1].seconds(tokens, 1.0);
        let mlp = self.mlp[0].seconds(rows, share) + self.mlp[1].seconds(rows, share);
        self.layers * (projections + mlp + tokens * self.rest.slope + self.rest.constant)
    }

    /// Seconds of prompt attention in all layers: every new token meets the prefix and, on average, half the new ones.
    fn prefill_attention(&self, b: f64, new: f64, prefix: f64) -> f64 {
        let full = new + prefix;
        let compute = b * new * (full + prefix) * self.pair;
        let memory = b * (new * self.query + full * self.key_value);
        self.layers * (compute.max(memory) + PREFILL_ATTENTION_SECONDS)
    }

    /// Seconds of decode attention in all layers: it reads the KV cache.
    fn decode_attention(&self, b: f64, context: f64) -> f64 {
        self.layers * (b * (self.query + context * self.key_value) + DECODE_ATTENTION_SECONDS)
    }
}

/// An element-wise kernel that moves `bytes` per token.
fn elementwise(gpu: &GpuSpec, bytes: f64) -> Line {
    Line { slope: bytes / (gpu.memory_bytes_per_s * ELEMENTWISE_MEMORY), constant: ELEMENTWISE_SECONDS }
}

/// A ring all-reduce of `bytes` per token over `gpus` GPUs of a node.
fn all_reduce(gpu: &GpuSpec, gpus: f64, bytes: f64) -> Result<Line, PerfError> {
    if gpus <= 1.0 {
        return Ok(Line::default());
    }
    let Some(link) = gpu.peer_bytes_per_s() else {
        let cause = format!("is missing, but {gpus} GPUs must talk to each other");
        let cure = "add it or `pcie_bytes_per_s` to the description of the GPU";
        return Err(PerfError::data(&gpu.name, "intra_node_bytes_per_s", cause, cure));
    };
    let slope = 2.0 * (gpus - 1.0) / gpus * bytes / (link * ALL_REDUCE_LINK);
    Ok(Line { slope, constant: ALL_REDUCE_SECONDS })
}
