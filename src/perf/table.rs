//! Forward-pass tables: measured pass times of one model on one kind of GPU.
//!
//! A table splits a pass into parts that depend on different things: everything linear in tokens (projections, MLP or
//! experts, all-reduce), the output projection of the rows that are sampled, prompt attention and decode attention. Each
//! part is sampled on its own axes, so that a few thousand figures answer for any batch, length and prefix.
//!
//! The shipped tables come from kernel measurements of NVIDIA AIConfigurator. They hold no scheduler, tokeniser, sampling
//! or host time. What lies outside an axis is extrapolated; [`ForwardPassTable::covers_prefill`] and
//! [`ForwardPassTable::covers_decode`] tell.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::grid::{Curve, Grid, RowWalk, mix};
use super::{FusedPass, MemoryParts, ModelShape, PerfError, PromptAttention, table_file};

/// What a table describes and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMeta {
    /// Hugging Face id of the model, which also says how its weights are quantised.
    pub model: String,
    /// Short name of model and precision, such as `llama-3.1-8b-fp8`.
    pub slug: String,
    /// GPU, such as `h200_sxm`.
    pub system: String,
    /// Serving engine: `vllm`, `sglang` or `trtllm`.
    pub backend: String,
    /// Version of the serving engine.
    pub backend_version: String,
    /// Tensor-parallel size, in GPUs.
    pub tp: u32,
    /// Pipeline-parallel size, in GPUs.
    pub pp: u32,
    /// Attention data-parallel size, in GPUs.
    pub attention_dp: u32,
    /// Tensor-parallel size of the experts; none without experts.
    pub moe_tp: Option<u32>,
    /// Expert-parallel size; none without experts.
    pub moe_ep: Option<u32>,
    /// Number formats.
    pub quant: TableQuant,
    /// Always `ms`.
    pub time_unit: String,
    /// Where the figures come from.
    pub source: TableSource,
}

/// Number formats of a table, by the names of AIConfigurator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableQuant {
    /// Weights and activations of matrix products: `bfloat16`, `fp8_static`, `fp8_block` ...
    pub gemm: String,
    /// KV cache: `bfloat16` or `fp8`.
    pub kv_cache: String,
    /// Attention kernels.
    pub attention: String,
    /// All-reduce.
    pub comm: String,
    /// Experts; none without experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moe: Option<String>,
}

/// Where the figures of a table come from and on what terms; kept when a table is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSource {
    /// Program or person the figures come from.
    pub package: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Licence of the figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Who holds the copyright.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copyright: Option<String>,
    /// What was changed on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
}

impl TableMeta {
    /// The name a table goes by, such as `llama-3.1-8b-fp8__h200_sxm__vllm__tp1`.
    pub fn key(&self) -> String {
        format!("{}__{}__{}__tp{}", self.slug, self.system, self.backend, self.tp)
    }

    /// Model, GPU, engine and parallelism in words, such as `llama-3.1-8b-fp8 / h200_sxm / vllm 0.24.0 / tp1`.
    pub fn describe(&self) -> String {
        let Self { slug, system, backend, backend_version, tp, .. } = self;
        let mut text = format!("{slug} / {system} / {backend} {backend_version} / tp{tp}");
        if self.pp != 1 {
            text += &format!(" pp{}", self.pp);
        }
        if self.attention_dp != 1 {
            text += &format!(" dp{}", self.attention_dp);
        }
        if let (Some(moe_tp), Some(moe_ep)) = (self.moe_tp, self.moe_ep) {
            text += &format!(" (experts tp{moe_tp} ep{moe_ep})");
        }
        text
    }
}

impl TableSource {
    /// The source in words, such as `AIConfigurator 0.12.0`.
    pub fn describe(&self) -> String {
        let package = if self.package == "aiconfigurator-core" { "AIConfigurator" } else { &self.package };
        match &self.version {
            Some(version) => format!("{package} {version}"),
            None => package.to_owned(),
        }
    }
}

/// Pass times of one model on one kind of GPU. Immutable; all answers are raw milliseconds, unclamped.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardPassTable {
    /// What the table describes.
    pub meta: TableMeta,
    /// Sizes of the model.
    pub model: ModelShape,
    /// Where the memory of one GPU goes.
    pub memory: MemoryParts,
    /// File the table was read from; none for a table of the program.
    pub(super) file: Option<String>,
    pub(super) linear: Curve,
    pub(super) logits: Curve,
    /// Whether a prompt pass is charged the output projection.
    pub(super) logits_in_prefill: bool,
    pub(super) prefill_base_ms: f64,
    /// By length, then batch.
    pub(super) prefill_attention: Grid,
    /// By batch, then length.
    pub(super) decode_attention: Grid,
}

impl ForwardPassTable {
    /// Reads a table in the format `forward-pass-table/1`; `source` is its file name, for errors.
    ///
    /// # Errors
    /// When the text is not JSON, has another schema, lacks a field, has an axis that does not strictly increase or has
    /// fewer than two knots, rows of unequal length, or a value that is negative or not finite. Names `source` and field.
    pub fn parse(text: &str, source: &str) -> Result<Self, PerfError> {
        table_file::parse(text, source)
    }

    /// The same table, as part of the program.
    pub(super) fn embedded(self) -> Self {
        Self { file: None, ..self }
    }

    /// The table and where it comes from in words, such as `table llama-3.1-8b-fp8 / h200_sxm / vllm 0.24.0 / tp1, from
    /// AIConfigurator 0.12.0`; a user's table names its file too.
    pub fn provenance(&self) -> String {
        let (table, source) = (self.meta.describe(), self.meta.source.describe());
        match &self.file {
            Some(file) => format!("table {table}, from {file} ({source})"),
            None => format!("table {table}, from {source}"),
        }
    }

    /// Transformer layers of the model; draft layers of speculative decoding add to their number.
    pub fn layers(&self) -> u64 {
        self.model.layers
    }

    /// Milliseconds to compute `new` tokens of each of `count` prompts after `prefix` tokens of each; 0 for no tokens.
    pub fn prefill_ms(&self, count: u64, new: u64, prefix: u64) -> f64 {
        if count == 0 || new == 0 {
            return 0.0;
        }
        let logits = if self.logits_in_prefill { self.logits.at(count as f64) } else { 0.0 };
        self.linear.at(count.saturating_mul(new) as f64)
            + logits
            + self.prompt_attention(count, new, prefix)
            + self.prefill_base_ms
    }

    /// Milliseconds to produce one token for each of `count` requests whose mean length is `context` tokens before it; 0
    /// for no requests.
    pub fn decode_ms(&self, count: u64, context: u64) -> f64 {
        if count == 0 {
            return 0.0;
        }
        let batch = count as f64;
        self.linear.at(batch) + self.logits.at(batch) + self.decode_attention.at(batch, query_length(context))
    }

    /// [`Self::decode_ms`] and [`Self::covers_decode`] of `count` requests at growing contexts from `context` on.
    pub fn decode_row(&self, count: u64, context: u64) -> DecodeRow<'_> {
        let batch = count as f64;
        DecodeRow {
            rest: self.linear.at(batch) + self.logits.at(batch),
            attention: self.decode_attention.walk(batch, query_length(context)),
            covered: [self.linear.axis(), self.logits.axis(), self.decode_attention.rows()]
                .iter()
                .all(|axis| axis.covers(batch)),
            lengths: self.decode_attention.columns().ends(),
        }
    }

    /// Milliseconds of a pass over prompts and decodes together. Layers of a draft model are not in it.
    pub fn fused_ms(&self, pass: &FusedPass<'_>) -> f64 {
        let tokens = pass.tokens();
        if tokens == 0 {
            return 0.0;
        }
        let mut ms = self.linear.at(tokens as f64);
        let rows = pass.logits_rows();
        if rows > 0 {
            ms += self.logits.at(rows as f64);
        }
        if !pass.prefills.is_empty() {
            ms += self.prefill_base_ms;
            ms += match pass.attention {
                PromptAttention::Mean => {
                    let (new, prefix) = pass.mean_chunk();
                    self.prompt_attention(pass.prefills.len() as u64, new, prefix)
                }
                PromptAttention::PerRequest => {
                    pass.prefills.iter().map(|chunk| self.prompt_attention(1, chunk.new, chunk.prefix)).sum()
                }
            };
        }
        let decodes = pass.decode_tokens();
        if decodes > 0 {
            ms += self.decode_attention.at(decodes as f64, query_length(pass.context));
        }
        ms
    }

    /// Whether a prefill lies within all axes it is read from.
    pub fn covers_prefill(&self, count: u64, new: u64, prefix: u64) -> bool {
        if count == 0 || new == 0 {
            return true;
        }
        let batch = count as f64;
        self.linear.axis().covers(count.saturating_mul(new) as f64)
            && (!self.logits_in_prefill || self.logits.axis().covers(batch))
            && self.prefill_attention.columns().covers(batch)
            && self.prefill_attention.rows().covers(new.saturating_add(prefix) as f64)
    }

    /// Whether a decode lies within all axes it is read from.
    pub fn covers_decode(&self, count: u64, context: u64) -> bool {
        if count == 0 {
            return true;
        }
        let batch = count as f64;
        self.linear.axis().covers(batch)
            && self.logits.axis().covers(batch)
            && self.decode_attention.rows().covers(batch)
            && self.decode_attention.columns().covers(query_length(context))
    }

    /// Attention of `count` prompts that compute `new` tokens after `prefix`, without the constant part.
    ///
    /// The table holds whole prompts. The share of a chunk is the area of its part of the triangle of attended pairs.
    /// Between lengths the square root is linear, which is exact where attention is quadratic in length.
    #[inline]
    fn prompt_attention(&self, count: u64, new: u64, prefix: u64) -> f64 {
        let length = new.saturating_add(prefix);
        if length == 0 {
            return 0.0;
        }
        let length = length as f64;
        let (below, above, part) = self.prefill_attention.around(length, count as f64);
        // Far beyond the largest batch a noisy last segment may lead below zero.
        let root = mix(below.max(0.0).sqrt(), above.max(0.0).sqrt(), part).max(0.0);
        let cached = prefix as f64 / length;
        root * root * (1.0 - cached * cached)
    }
}

/// Decode times of one batch size at growing contexts.
#[derive(Debug, Clone)]
pub struct DecodeRow<'a> {
    /// Everything that does not depend on the context.
    rest: f64,
    attention: RowWalk<'a>,
    /// Whether the batch size lies within all axes.
    covered: bool,
    /// First and last length that was measured.
    lengths: (f64, f64),
}

impl DecodeRow<'_> {
    /// Milliseconds at `context`, which is not below the one before.
    #[inline]
    pub fn next(&mut self, context: u64) -> f64 {
        self.rest + self.attention.at(query_length(context))
    }

    /// Milliseconds at `context`, which is not below the one before, and at those after it, each passed through `f`: as
    /// many as `out` takes, or fewer. Returns how many there are.
    #[inline]
    pub fn run<T>(&mut self, context: u64, out: &mut [T], mut f: impl FnMut(f64) -> T) -> usize {
        let rest = self.rest;
        self.attention.run(query_length(context), out, |attention| f(rest + attention))
    }

    /// How many of `contexts` do not lie within all axes.
    pub fn outside(&self, contexts: Range<u64>) -> u64 {
        if !self.covered {
            return contexts.end - contexts.start;
        }
        let (first, last) = self.lengths;
        // Lengths are one above contexts: covered are those from `first - 1` to `last - 1`.
        let (from, to) = (((first - 1.0).max(0.0)).ceil() as u64, last.floor() as u64);
        contexts.end - contexts.start - contexts.end.min(to).saturating_sub(contexts.start.max(from))
    }
}

/// Length the decode attention kernel sees: the context and the query itself.
fn query_length(context: u64) -> f64 {
    context.saturating_add(1) as f64
}
