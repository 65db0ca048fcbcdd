//! Which timing model an engine gets, and the KV capacity that follows from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::perf::{
    Backend, Composition, Correction, DECODE_FLOOR_MS, ForwardPassTable, GpuSpec, KvCapacity, MemoryParts, ModelConfig,
    NpzProfile, PerfError, Precision, PromptAttention, Roofline, RooflineSetup, TableKey, TableLibrary, Timing,
    TimingModel, estimate, kv_capacity,
};

use super::args::Args;
use super::document::Scenario;
use super::error::ScenarioError;
use super::run::{OnMissing, TimingOptions};
use super::values::{CorrectionDocument, Document, typed};

/// KV blocks of a scheduler when nothing is known.
const DEFAULT_BLOCKS: u32 = 16_384;
/// Pass budget that capacity is estimated for when passes are unlimited.
const DEFAULT_BATCHED_TOKENS: u32 = 8_192;

/// Arguments that choose the timing model and the capacity that goes with it.
const TIMING_ARGS: [&str; 16] = [
    "aic_backend",
    "aic_system",
    "aic_model_path",
    "aic_backend_version",
    "aic_moe_tp_size",
    "aic_moe_ep_size",
    "aic_gemm_dtype",
    "aic_moe_dtype",
    "aic_fmha_dtype",
    "aic_kv_cache_dtype",
    "aic_comm_dtype",
    "planner_profile_data",
    "timing",
    "gpu_memory_utilization",
    "mem_fraction_static",
    "free_gpu_memory_fraction",
];

/// Arguments that matter only together with a model from a table.
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

/// A timing model and what came with it.
struct Chosen {
    model: TimingModel,
    provenance: String,
    memory: Option<(MemoryParts, Backend)>,
    tp_size: Option<u32>,
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

    fn correction(
        &self,
        base: &Path,
    ) -> Result<(CorrectionDocument, Option<Map<String, Value>>, String), ScenarioError> {
        let key = "timing-correction";
        let Some(document) = &self.timing_correction else { return Ok(Default::default()) };
        let loaded = document.object(key, base)?;
        let read = || {
            let correction: CorrectionDocument = typed(loaded.map.clone(), key)?;
            for (name, factor) in
                [("prefill_scale", correction.prefill_scale), ("decode_scale", correction.decode_scale)]
            {
                if factor.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
                    let cause = format!("is {}", factor.unwrap_or_default());
                    return Err(ScenarioError::new(format!("{key}.{name}"), cause, "give a number above zero"));
                }
            }
            if let Some(ms) = correction.per_pass_overhead_ms.filter(|ms| !ms.is_finite() || *ms < 0.0) {
                let cure = "give milliseconds of zero or more";
                return Err(ScenarioError::new(format!("{key}.per_pass_overhead_ms"), format!("is {ms}"), cure));
            }
            if correction.num_gpu_blocks == Some(0) {
                return Err(ScenarioError::new(format!("{key}.num_gpu_blocks"), "is 0", "give at least 1"));
            }
            if let Some(word) = correction.composition.as_deref().filter(|word| !["sum", "fused"].contains(word)) {
                let cause = format!("is \"{word}\"");
                return Err(ScenarioError::new(format!("{key}.composition"), cause, "use sum or fused"));
            }
            Ok(correction)
        };
        let correction = read().map_err(|error| loaded.blame(error))?;
        let source = document
            .text()
            .and_then(|path| Path::new(path).file_name())
            .map_or_else(|| "the scenario".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok((correction, Some(loaded.map), source))
    }
}

impl Document {
    /// Makes relative paths within engine arguments start at `base`; names of models, GPUs and tables stay.
    pub(super) fn rebase_timing(&mut self, base: &Path) {
        let Some(args) = self.inline_mut() else { return };
        let always = |value: &mut Value| {
            if let Some(path) = value.as_str() {
                *value = Value::String(base.join(path).to_string_lossy().into_owned());
            }
        };
        let if_there = |value: &mut Value| {
            if value.as_str().is_some_and(|path| base.join(path).exists()) {
                always(value);
            }
        };
        args.get_mut("planner_profile_data").into_iter().for_each(always);
        args.get_mut("aic_model_path").into_iter().for_each(if_there);
        if let Some(timing) = args.get_mut("timing") {
            timing.get_mut("npz").into_iter().for_each(always);
            timing.get_mut("table").into_iter().for_each(if_there);
            for name in ["model", "gpu"] {
                timing.get_mut("roofline").and_then(|r| r.get_mut(name)).into_iter().for_each(if_there);
            }
        }
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
        let files = Files { bases };
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

    /// A table by key or by model and system, planner arrays, a roofline, or the polynomial: the first that is asked for.
    fn choose(
        &self,
        args: &Args,
        settings: &Args,
        files: Files,
        warnings: &mut Vec<String>,
    ) -> Result<Chosen, ScenarioError> {
        let roofline = settings.get("roofline").is_some();
        let asked = [
            (settings.key("table"), settings.get("table").is_some()),
            (
                args.key("aic_model_path"),
                ["aic_backend", "aic_system", "aic_model_path"].iter().any(|name| args.get(name).is_some()),
            ),
            (settings.key("npz"), settings.get("npz").is_some()),
            (args.key("planner_profile_data"), args.get("planner_profile_data").is_some()),
            (settings.key("roofline"), roofline),
        ];
        let asked: Vec<&String> = asked.iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        if let [first, others @ ..] = asked.as_slice() {
            for other in others {
                warnings.push(format!("`{other}` has no effect: `{first}` already says how long passes take."));
            }
        }
        if !asked.iter().any(|key| key.ends_with("aic_model_path")) && !roofline {
            for name in MODEL_DETAILS {
                if args.get(name).is_some() {
                    let key = args.key(name);
                    warnings.push(format!("`{key}` has no effect without a timing model (`aic_backend`)."));
                }
            }
        }
        if let Some(key) = settings.text("table") {
            return self.table(key, settings, files);
        }
        if asked.first().is_some_and(|key| key.ends_with("aic_model_path")) {
            return self.aic(args, files, warnings);
        }
        for (owner, name) in [(settings, "npz"), (args, "planner_profile_data")] {
            let Some(path) = owner.text(name) else { continue };
            let path = files.find(path);
            match NpzProfile::open(&path) {
                Ok(profile) => {
                    let provenance = format!("planner profile {}", file_name(&path));
                    return Ok(Chosen {
                        model: TimingModel::Profile(Arc::new(profile)),
                        provenance,
                        memory: None,
                        tp_size: None,
                    });
                }
                Err(error) if args.says("on_bad_npz", "polynomial") => {
                    warnings.push(format!("`{}`: {error}. Passes take polynomial times.", owner.key(name)));
                    return Ok(Chosen::polynomial());
                }
                Err(error) => return Err(ScenarioError::perf(owner.key(name), error)),
            }
        }
        if roofline {
            let fields = settings.fields("roofline");
            let [Some(model), Some(gpu)] = ["model", "gpu"].map(|name| fields.text(name)) else {
                let missing = if fields.text("model").is_some() { "gpu" } else { "model" };
                return Err(fields.error(missing, "is missing", "a roofline needs a model and a GPU"));
            };
            let backend = fields.text("backend").or(args.text("aic_backend")).unwrap_or("vllm");
            return self.roofline(args, files, (&fields, "model", model), (&fields, "gpu", gpu), backend);
        }
        Ok(Chosen::polynomial())
    }

    fn table(&self, key: &str, settings: &Args, files: Files) -> Result<Chosen, ScenarioError> {
        let fault = |e| ScenarioError::perf(settings.key("table"), e);
        let path = files.find(key);
        let table = if path.is_file() || key.ends_with(".json") {
            let text = fs::read_to_string(&path).map_err(|e| fault(PerfError::read(&path, &e)))?;
            Arc::new(ForwardPassTable::parse(&text, &path.to_string_lossy()).map_err(fault)?)
        } else {
            self.library().by_slug(key).map_err(fault)?
        };
        Ok(Chosen::table(table))
    }

    /// The table of `aic_*` arguments; a roofline where there is none and the run allows it.
    fn aic(&self, args: &Args, files: Files, warnings: &mut Vec<String>) -> Result<Chosen, ScenarioError> {
        let [Some(system), Some(model)] = ["aic_system", "aic_model_path"].map(|name| args.text(name)) else {
            let missing = if args.text("aic_system").is_some() { "aic_model_path" } else { "aic_system" };
            let cure = "give `aic_system` and `aic_model_path` together; `dynosim perf list` shows what there is";
            return Err(args.error(missing, "is missing", cure));
        };
        let backend = args.text("aic_backend").or(args.text("engine_type")).unwrap_or("vllm").to_ascii_lowercase();
        let key = TableKey {
            model: model.to_owned(),
            system: system.to_owned(),
            backend: backend.clone(),
            backend_version: args.text("aic_backend_version").map(str::to_owned),
            tp: args.count("aic_tp_size").unwrap_or(1),
            moe_tp: args.count("aic_moe_tp_size"),
            moe_ep: args.count("aic_moe_ep_size"),
            gemm: args.text("aic_gemm_dtype").map(str::to_owned),
            moe: args.text("aic_moe_dtype").map(str::to_owned),
            attention: args.text("aic_fmha_dtype").map(str::to_owned),
            kv_cache: args.text("aic_kv_cache_dtype").map(str::to_owned),
            comm: args.text("aic_comm_dtype").map(str::to_owned),
        };
        match self.library().resolve(&key) {
            Ok((table, remarks)) => {
                let groups = args.count("aic_attention_dp_size").unwrap_or(1);
                if table.model.experts.is_some() && table.meta.attention_dp != groups {
                    let cause = format!(
                        "is {groups}, but the table of this mixture of experts was measured with {}",
                        table.meta.attention_dp
                    );
                    let cure = "give that size, add a table, or estimate with `\"timing\": {\"roofline\": ...}`";
                    return Err(args.error("aic_attention_dp_size", cause, cure));
                }
                warnings.extend(remarks.into_iter().map(|text| format!("`{}`: {text}", args.path)));
                Ok(Chosen::table(table))
            }
            Err(error @ PerfError::NoMatch { .. }) if self.on_missing == OnMissing::Roofline => {
                let PerfError::NoMatch { cause, .. } = &error else { return Ok(Chosen::polynomial()) };
                warnings.push(format!("`{}`: {cause}; passes take estimated times (roofline).", args.path));
                self.roofline(args, files, (args, "aic_model_path", model), (args, "aic_system", system), &backend)
            }
            Err(error) => Err(ScenarioError::perf(args.key("aic_model_path"), error)),
        }
    }

    /// A roofline of the model and GPU found under their keys.
    fn roofline(
        &self,
        args: &Args,
        files: Files,
        (model_args, model_key, model): (&Args, &str, &str),
        (gpu_args, gpu_key, gpu): (&Args, &str, &str),
        backend: &str,
    ) -> Result<Chosen, ScenarioError> {
        let backend: Backend = backend.parse().map_err(|e| ScenarioError::perf(args.key("aic_backend"), e))?;
        let config = files.model(model).map_err(|e| ScenarioError::perf(model_args.key(model_key), e))?;
        let spec = files.gpu(gpu).map_err(|e| ScenarioError::perf(gpu_args.key(gpu_key), e))?;
        let precision = |name: &str, default: Precision| match args.text(name) {
            None => Ok(default),
            Some(word) => {
                Precision::named(word).ok_or_else(|| args.error(name, format!("is \"{word}\""), "give bfloat16 or fp8"))
            }
        };
        let weights = precision("aic_gemm_dtype", config.weights)?;
        let tp = args.count("aic_tp_size").unwrap_or(1);
        let setup = RooflineSetup {
            moe_tp: args.whole("aic_moe_tp_size"),
            moe_ep: args.whole("aic_moe_ep_size"),
            attention_dp: args.whole("aic_attention_dp_size").unwrap_or(1),
            ..RooflineSetup::new(u64::from(tp), weights, precision("aic_kv_cache_dtype", config.kv_cache)?)
        };
        let fault = |e| ScenarioError::perf(args.key("aic_tp_size"), e);
        let roofline = Roofline::new(&spec, &config.shape, &setup).map_err(fault)?;
        let tokens = args.limit("max_num_batched_tokens", DEFAULT_BATCHED_TOKENS).unwrap_or(DEFAULT_BATCHED_TOKENS);
        let parts = estimate(&spec, &config.shape, &setup, backend, u64::from(tokens)).map_err(fault)?;
        let provenance = format!(
            "roofline estimate of {} / {} / tp{tp}, weights {}, KV cache {}",
            short(model),
            spec.name,
            setup.weights,
            setup.kv_cache
        );
        Ok(Chosen {
            model: TimingModel::Roofline(Arc::new(roofline)),
            provenance,
            memory: Some((parts, backend)),
            tp_size: None,
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

    /// KV blocks that fit beside the model, when their number is not given.
    fn capacity(
        &self,
        args: &Args,
        chosen: &Chosen,
        block_size: u32,
        max_num_batched_tokens: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<KvCapacity>, ScenarioError> {
        let used = chosen
            .memory
            .as_ref()
            .filter(|_| args.count("num_gpu_blocks").is_none() && self.correction.num_gpu_blocks.is_none());
        let fraction_name = used.map(|(_, backend)| backend.fraction_name());
        for name in ["gpu_memory_utilization", "mem_fraction_static", "free_gpu_memory_fraction"] {
            if args.get(name).is_some() && fraction_name != Some(name) {
                let why = match fraction_name {
                    Some(other) => format!("the backend goes by `{other}`"),
                    None => "the number of KV blocks is not estimated".to_owned(),
                };
                warnings.push(format!("`{}` has no effect: {why}.", args.key(name)));
            }
        }
        let Some((parts, backend)) = used else { return Ok(None) };
        let tokens = max_num_batched_tokens.unwrap_or(DEFAULT_BATCHED_TOKENS);
        let fraction = args.number(backend.fraction_name());
        kv_capacity(parts, *backend, fraction, u64::from(block_size), Some(u64::from(tokens)))
            .map(Some)
            .map_err(|e| ScenarioError::perf(args.key("num_gpu_blocks"), e))
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

impl Chosen {
    fn polynomial() -> Self {
        let Timing { model, provenance, .. } = Timing::default();
        Self { model, provenance, memory: None, tp_size: None }
    }

    fn table(table: Arc<ForwardPassTable>) -> Self {
        // A table of a backend we have no memory rules for still times passes.
        let backend = table.meta.backend.parse().ok();
        Self {
            provenance: format!("table {}, from {}", table.meta.describe(), table.meta.source.describe()),
            memory: backend.map(|backend| (table.memory.clone(), backend)),
            tp_size: Some(table.meta.tp),
            model: TimingModel::Table(table),
        }
    }
}

/// Where relative paths of engine arguments may start.
#[derive(Clone, Copy)]
struct Files<'a> {
    bases: &'a [&'a Path],
}

impl Files<'_> {
    /// The file, where it exists; otherwise where it should.
    fn find(self, path: &str) -> PathBuf {
        let places = self.bases.iter().map(|base| base.join(path));
        places.clone().find(|place| place.exists()).or_else(|| places.into_iter().next()).unwrap_or_else(|| path.into())
    }

    /// A shipped model, or one read from `config.json` or the folder that holds it.
    fn model(self, name: &str) -> Result<ModelConfig, PerfError> {
        let mut path = self.find(name);
        if path.is_dir() {
            path.push("config.json");
        } else if !path.is_file() && !name.ends_with(".json") {
            return ModelConfig::known(name);
        }
        let text = fs::read_to_string(&path).map_err(|e| PerfError::read(&path, &e))?;
        ModelConfig::parse(&text, &path.to_string_lossy())
    }

    /// A shipped GPU, or one read from a description.
    fn gpu(self, name: &str) -> Result<GpuSpec, PerfError> {
        let path = self.find(name);
        if !path.is_file() && !name.ends_with(".json") {
            return GpuSpec::known(name);
        }
        let text = fs::read_to_string(&path).map_err(|e| PerfError::read(&path, &e))?;
        GpuSpec::parse(&text, &path.to_string_lossy())
    }
}

/// The arguments that led to the choice, with paths that work from anywhere the run does.
fn recorded(args: &Args, files: Files) -> Map<String, Value> {
    let mut map = Map::new();
    for name in TIMING_ARGS {
        if let Some(value) = args.get(name) {
            map.insert(name.to_owned(), value.clone());
        }
    }
    let fix = |value: &mut Value| {
        if let Some(path) = value.as_str().map(|text| files.find(text)).filter(|path| path.exists()) {
            *value = Value::String(path.to_string_lossy().into_owned());
        }
    };
    map.get_mut("planner_profile_data").into_iter().for_each(fix);
    map.get_mut("aic_model_path").into_iter().for_each(fix);
    if let Some(timing) = map.get_mut("timing") {
        for name in ["npz", "table"] {
            timing.get_mut(name).into_iter().for_each(fix);
        }
        for name in ["model", "gpu"] {
            timing.get_mut("roofline").and_then(|r| r.get_mut(name)).into_iter().for_each(fix);
        }
    }
    map
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The last part of a model's path or id.
fn short(model: &str) -> &str {
    let model = model.trim_end_matches('/').trim_end_matches("/config.json");
    model.rsplit('/').next().unwrap_or(model)
}
