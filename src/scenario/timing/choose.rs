//! Which timing model the arguments of an engine ask for.

use std::fs;
use std::sync::Arc;

use crate::perf::{
    Backend, ForwardPassTable, MemoryParts, NpzProfile, PerfError, Precision, Roofline, RooflineSetup, TableKey,
    Timing, TimingModel, estimate,
};

use super::super::args::Args;
use super::super::error::ScenarioError;
use super::super::run::OnMissing;
use super::files::{Files, file_name, short};
use super::{DEFAULT_BATCHED_TOKENS, MODEL, MODEL_DETAILS, TimingContext};

/// A timing model and what came with it.
pub(super) struct Chosen {
    pub model: TimingModel,
    pub provenance: String,
    pub memory: Option<(MemoryParts, Backend)>,
    pub tp_size: Option<u32>,
}

impl TimingContext {
    /// A table by key or by model and system, planner arrays, a roofline, or the polynomial: the first that is asked for.
    pub(super) fn choose(
        &self,
        args: &Args,
        settings: &Args,
        files: Files,
        warnings: &mut Vec<String>,
    ) -> Result<Chosen, ScenarioError> {
        let roofline = settings.get("roofline").is_some();
        let asked = [
            (settings.key("table"), settings.get("table").is_some()),
            (args.key("aic_model_path"), MODEL.iter().any(|name| args.get(name).is_some())),
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
        // The argument behind a setting of the estimate; whatever else is wrong is missing from the GPU's description.
        let fault = |error: PerfError| {
            let key = match &error {
                PerfError::Setting { field, .. } => args.key(&format!("aic_{field}_size")),
                _ => gpu_args.key(gpu_key),
            };
            ScenarioError::perf(key, error)
        };
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
