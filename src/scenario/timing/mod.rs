//! Which timing model an engine gets, and the KV capacity that follows from it.
//!
//! | file | holds |
//! |---|---|
//! | `choose` | the model that the arguments ask for |
//! | `capacity` | KV blocks that fit beside it |
//! | `correction` | corrections that a calibration wrote |
//! | `files` | files that arguments name |

mod capacity;
mod choose;
mod correction;
mod files;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::perf::{Composition, Correction, DECODE_FLOOR_MS, PromptAttention, TableLibrary, Timing, TimingModel};

use super::args::Args;
use super::document::Scenario;
use super::error::ScenarioError;
use super::run::{OnMissing, TimingOptions};
use super::values::CorrectionDocument;
pub(super) use files::Files;
use files::recorded;

/// KV blocks of a scheduler when nothing is known.
const DEFAULT_BLOCKS: u32 = 16_384;
/// Pass budget that capacity is estimated for when passes are unlimited.
const DEFAULT_BATCHED_TOKENS: u32 = 8_192;

/// Arguments that name a model, a GPU and an engine.
const MODEL: [&str; 3] = ["aic_backend", "aic_system", "aic_model_path"];
/// Arguments that matter only together with these.
const MODEL_DETAILS: [&str; 8] = [
    "aic_backend_version",
    "aic_moe_tp_size",
    "aic_moe_ep_size",
    "aic_gemm_dtype",
    "aic_moe_dtype",
    "aic_fmha_dtype",
    "aic_kv_cache_dtype",
    "aic_comm_dtype",
];
/// Arguments that name other sources of pass times.
const OTHERS: [&str; 2] = ["planner_profile_data", "timing"];
/// Shares of GPU memory, by backend.
const FRACTIONS: [&str; 3] = ["gpu_memory_utilization", "mem_fraction_static", "free_gpu_memory_fraction"];

/// What holds for every engine of a run.
pub(super) struct TimingContext {
    library: Library,
    on_missing: OnMissing,
    correction: CorrectionDocument,
    /// Where the corrections come from, in words.
    correction_source: String,
}

enum Library {
    Embedded,
    Extended(TableLibrary),
}

/// What timing settles for an engine.
pub(super) struct Settled {
    pub timing: Timing,
    pub num_gpu_blocks: u32,
    pub kv_bytes_per_token: Option<u64>,
    pub tp_size: u32,
    pub args: Map<String, Value>,
}

impl Scenario {
    /// The options that hold for every engine, checked.
    pub(super) fn timing_options(&self, base: &Path) -> Result<(TimingOptions, TimingContext), ScenarioError> {
        let tables: Vec<PathBuf> = self.perf_tables.iter().map(|folder| base.join(folder)).collect();
        let library = if tables.is_empty() {
            Library::Embedded
        } else {
            Library::Extended(TableLibrary::with_folders(&tables).map_err(|e| ScenarioError::perf("perf-tables", e))?)
        };
        let on_missing = match self.on_missing_timing.as_deref() {
            None | Some("error") => OnMissing::Error,
            Some("roofline") => OnMissing::Roofline,
            Some(other) => {
                let cause = format!("is \"{other}\"");
                return Err(ScenarioError::new("on-missing-timing", cause, "use error or roofline"));
            }
        };
        let (correction, map, correction_source) = self.correction(base)?;
        let options = TimingOptions { tables, on_missing, correction: map };
        Ok((options, TimingContext { library, on_missing, correction, correction_source }))
    }
}

impl TimingContext {
    fn library(&self) -> &TableLibrary {
        match &self.library {
            Library::Embedded => TableLibrary::embedded(),
            Library::Extended(library) => library,
        }
    }

    /// Chooses the timing model of an engine. `bases`: folders that relative paths may start at, the likeliest first.
    pub(super) fn settle(
        &self,
        args: &Args,
        bases: &[&Path],
        block_size: u32,
        max_num_batched_tokens: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> Result<Settled, ScenarioError> {
        let settings = args.fields("timing");
        let files = Files::at(bases);
        let chosen = self.choose(args, &settings, files, warnings)?;
        let composition = self.composition(&settings, &chosen.model)?;
        let decode_speedup = args.number("decode_speedup_ratio").unwrap_or(1.0);
        if matches!(composition, Composition::Fused(_)) && decode_speedup != 1.0 {
            let cause = format!("is {decode_speedup}, but a fused pass has no decode part of its own");
            return Err(args.error("decode_speedup_ratio", cause, "give 1, or the composition `sum`"));
        }
        let overhead = settings.number("per_pass_overhead_ms");
        let correction = Correction {
            prefill_scale: self.correction.prefill_scale.unwrap_or(1.0),
            decode_scale: self.correction.decode_scale.unwrap_or(1.0),
            per_pass_overhead_ms: overhead.or(self.correction.per_pass_overhead_ms).unwrap_or(0.0),
        };
        let async_scheduling = settings.flag("async_scheduling").or(self.correction.async_scheduling).unwrap_or(false);
        let capacity = self.capacity(args, &chosen, block_size, max_num_batched_tokens, warnings)?;
        let estimated = capacity.as_ref().map(|capacity| u32::try_from(capacity.num_gpu_blocks).unwrap_or(u32::MAX));
        let tp_size = match (args.count("aic_tp_size"), chosen.tp_size) {
            (Some(given), Some(table)) if given != table => {
                let cause = format!("is {given}, but the timing table was measured with {table}");
                return Err(args.error("aic_tp_size", cause, "leave it out, or choose another table"));
            }
            (given, table) => given.or(table).unwrap_or(1),
        };
        let known_bytes = chosen.memory.as_ref().map(|(parts, _)| parts.kv_bytes_per_token);
        let timing = Timing {
            provenance: self.provenance(chosen.provenance, composition, async_scheduling, correction),
            model: chosen.model,
            composition,
            decode_floor_ms: settings.number("decode_floor_ms").unwrap_or(DECODE_FLOOR_MS),
            correction,
            async_scheduling,
            capacity,
        };
        Ok(Settled {
            timing,
            num_gpu_blocks: args
                .count("num_gpu_blocks")
                .or(self.correction.num_gpu_blocks)
                .or(estimated)
                .unwrap_or(DEFAULT_BLOCKS),
            kv_bytes_per_token: args.whole("kv_bytes_per_token").or(known_bytes),
            tp_size,
            args: recorded(args, files),
        })
    }

    fn composition(&self, settings: &Args, model: &TimingModel) -> Result<Composition, ScenarioError> {
        let given = settings.text("composition");
        let attention = if settings.says("prompt_attention", "per_request") {
            PromptAttention::PerRequest
        } else {
            PromptAttention::Mean
        };
        if given.or(self.correction.composition.as_deref()) != Some("fused") {
            return Ok(Composition::Sum);
        }
        if !model.can_fuse() {
            let cause = "is fused, which needs a table or a roofline";
            let key =
                if given.is_some() { settings.key("composition") } else { "timing-correction.composition".into() };
            return Err(ScenarioError::new(key, cause, "use sum, or name a model and a GPU"));
        }
        Ok(Composition::Fused(attention))
    }

    /// The whole story in words.
    fn provenance(
        &self,
        model: String,
        composition: Composition,
        async_scheduling: bool,
        correction: Correction,
    ) -> String {
        let mut text = model;
        match composition {
            Composition::Sum => {}
            Composition::Fused(PromptAttention::Mean) => text.push_str(", fused passes"),
            Composition::Fused(PromptAttention::PerRequest) => text.push_str(", fused passes (prompts one by one)"),
        }
        if async_scheduling {
            text.push_str(", scheduled one pass ahead");
        }
        let neutral = Correction { per_pass_overhead_ms: correction.per_pass_overhead_ms, ..Correction::default() };
        if correction != neutral {
            let (prefill, decode) = (correction.prefill_scale, correction.decode_scale);
            text.push_str(&format!(", prefill x{prefill}, decode x{decode}"));
        }
        if correction.per_pass_overhead_ms > 0.0 {
            text.push_str(&format!(", {} ms more per pass", correction.per_pass_overhead_ms));
        }
        if self.correction != CorrectionDocument::default() {
            text.push_str(&format!(" (corrected by {})", self.correction_source));
        }
        text
    }
}
