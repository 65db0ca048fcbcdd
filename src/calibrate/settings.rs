//! The run that the measurements are compared with: the scenario's, completed by what is known about the measured engine.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::scenario::{Document, Run, Scenario, Topology};
use crate::text::without_mark;

use super::error::CalibrateError;
use super::measured::Measurements;
use super::meta::Meta;

const ENGINE: &str = "extra-engine-args";
const POOLS: [&str; 2] = ["prefill-engine-args", "decode-engine-args"];
const CORRECTION: &str = "timing-correction";

/// Keys about requests: those of a calibration are the measured ones.
const TRAFFIC: [&str; 19] = [
    "trace",
    "trace-format",
    "trace-block-size",
    "trace-shared-prefix-ratio",
    "trace-num-prefix-groups",
    "input-tokens",
    "output-tokens",
    "request-count",
    "request-rate",
    "arrival-interval-ms",
    "arrival-seed",
    "turns-per-session",
    "shared-prefix-ratio",
    "num-prefix-groups",
    "inter-turn-delay-ms",
    "workload",
    "replay-concurrency",
    "arrival-speedup-ratio",
    "max-sim-time-seconds",
];

/// Engine arguments that say what passes cost, or which model and GPU are meant.
const COSTS: [&str; 4] = ["aic_backend", "aic_system", "aic_model_path", "planner_profile_data"];

/// Something that the scenario does not say and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Key of the scenario, or engine argument.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// Where it comes from, in words.
    pub from: String,
}

/// A run to compare measurements with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The run; its traffic is a placeholder.
    pub run: Run,
    /// The engine arguments of workers that both prefill and decode, complete but for KV blocks that the scenario does not
    /// give; empty for separate pools.
    pub engine_args: Map<String, Value>,
    /// What the scenario does not say.
    pub added: Vec<Setting>,
    /// Whether engine arguments of the scenario give the KV blocks, which outranks a correction file.
    pub blocks_given: bool,
    /// The same of the host time of a pass.
    pub overhead_given: bool,
    /// KV blocks of a scheduler, where a correction gives them or the measured engine is known to have had them.
    pub known_blocks: Option<u32>,
}

impl Settings {
    /// Completes `scenario`, whose relative paths start at `base`, by the `meta.json` beside the measurements.
    ///
    /// Where neither says it: passes are priced as one (`fused`) where the timing model can do that, and recomputed tokens
    /// cost time (`corrected` semantics), as in a real engine.
    ///
    /// # Errors
    /// When `meta.json` breaks a rule, or the completed scenario cannot be run.
    pub fn complete(scenario: &Scenario, base: &Path, measured: &Measurements) -> Result<Self, CalibrateError> {
        let meta = Meta::load(&measured.path)?;
        let mut map = scenario.to_map();
        let mut added = Vec::new();
        for key in TRAFFIC {
            map.remove(key);
        }
        // The rules between keys want some traffic.
        map.extend(
            [("input-tokens", 1), ("output-tokens", 1), ("request-count", 1)].map(|(k, v)| (k.to_owned(), json!(v))),
        );
        map.insert("arrival-interval-ms".to_owned(), json!(1));
        if !map.contains_key("semantics") {
            add(&mut map, &mut added, "semantics", json!("corrected"), "a real engine pays for recomputed tokens");
        }
        let split = POOLS.iter().any(|key| map.contains_key(*key));
        let mut engine = Map::new();
        if !split {
            engine = inline(&mut map, ENGINE, base)?;
        }
        let mut given = vec![engine.clone()];
        for key in POOLS {
            given.push(inline(&mut map.clone(), key, base)?);
        }
        let blocks_given = given.iter().any(|args| args.get("num_gpu_blocks").is_some_and(|blocks| !blocks.is_null()));
        let overhead_given = given.iter().any(|args| timing(args, "per_pass_overhead_ms").is_some());
        let corrected = inline(&mut map.clone(), CORRECTION, base)?;
        let corrected_blocks =
            corrected.get("num_gpu_blocks").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let mut known_blocks = corrected_blocks.filter(|_| !blocks_given);
        if !split {
            if let Some((workers, from)) = &meta.workers
                && !map.contains_key("num-workers")
                && !engine.contains_key("dp_size")
            {
                add(&mut map, &mut added, "num-workers", json!(workers), from);
            }
            complete_engine(&mut engine, &meta, &corrected, &mut added)?;
            let mut complete = engine.clone();
            if let Some((blocks, from)) = &meta.blocks
                && !blocks_given
                && known_blocks.is_none()
            {
                // Kept apart from the other arguments: in a correction file it stands by itself.
                add(&mut complete, &mut added, "num_gpu_blocks", json!(blocks), from);
                known_blocks = Some(*blocks);
            }
            map.insert(ENGINE.to_owned(), Value::Object(complete));
        }
        let scenario = Scenario::from_json(&Value::Object(map).to_string())?;
        let run = scenario.resolve(base)?;
        Ok(Self { run, engine_args: engine, added, blocks_given, overhead_given, known_blocks })
    }

    /// Where pass times come from, in words.
    pub fn timing(&self) -> String {
        let engines = match &self.run.topology {
            Topology::Aggregated { engine, .. } => vec![engine],
            Topology::Disaggregated { prefill, decode, .. } => vec![prefill, decode],
        };
        let mut sources: Vec<&str> = engines.iter().map(|engine| engine.timing.provenance.as_str()).collect();
        sources.dedup();
        sources.join("; ")
    }
}

fn complete_engine(
    engine: &mut Map<String, Value>,
    meta: &Meta,
    corrected: &Map<String, Value>,
    added: &mut Vec<Setting>,
) -> Result<(), CalibrateError> {
    let priced = COSTS.iter().any(|name| engine.contains_key(*name))
        || ["table", "npz", "roofline"].iter().any(|name| timing(engine, name).is_some());
    for (name, value, from) in &meta.args {
        // What belongs to the model is of no use, or wrong, for passes that are priced some other way.
        let settled = match *name {
            "aic_gemm_dtype" | "aic_kv_cache_dtype" | "aic_moe_ep_size" => priced,
            "aic_attention_dp_size" => engine.contains_key("dp_size"),
            "gpu_memory_utilization" => engine.contains_key("num_gpu_blocks"),
            _ => false,
        };
        if !settled && !engine.contains_key(*name) {
            add(engine, added, name, value.clone(), from);
        }
    }
    if !priced {
        let [Some((model, model_from)), Some((gpu, gpu_from))] = [&meta.model, &meta.gpu] else {
            let what = if meta.model.is_none() { "model" } else { "GPU" };
            let cause = format!("is missing, and the measurements do not say which {what} they are from");
            let cure = "say it: {\"timing\": {\"roofline\": {\"model\": \"llama-3.1-8b\", \"gpu\": \"h100_sxm\"}}}, or name a table";
            return Err(CalibrateError::setting("extra-engine-args", cause, cure));
        };
        let from = format!("model from {model_from}, GPU from {gpu_from}");
        add_timing(engine, added, "roofline", json!({"model": model, "gpu": gpu}), &from);
    }
    let can_fuse = engine.get("planner_profile_data").is_none() && timing(engine, "npz").is_none();
    if timing(engine, "composition").is_none() && can_fuse && !corrected.contains_key("composition") {
        add_timing(engine, added, "composition", json!("fused"), "a real engine reads the weights once per pass");
    }
    if let Some((on, from)) = &meta.async_scheduling
        && timing(engine, "async_scheduling").is_none()
        && !corrected.contains_key("async_scheduling")
    {
        add_timing(engine, added, "async_scheduling", json!(on), from);
    }
    Ok(())
}

/// A value of the engine argument `timing`.
fn timing<'a>(engine: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    engine.get("timing")?.get(name).filter(|value| !value.is_null())
}

fn add(map: &mut Map<String, Value>, added: &mut Vec<Setting>, name: &str, value: Value, from: &str) {
    map.insert(name.to_owned(), value.clone());
    added.push(Setting { name: name.to_owned(), value, from: from.to_owned() });
}

fn add_timing(engine: &mut Map<String, Value>, added: &mut Vec<Setting>, name: &str, value: Value, from: &str) {
    let timing = engine.entry("timing").or_insert_with(|| Value::Object(Map::new()));
    if let Some(timing) = timing.as_object_mut() {
        timing.insert(name.to_owned(), value.clone());
        added.push(Setting { name: format!("timing.{name}"), value, from: from.to_owned() });
    }
}

/// Takes the object of a JSON-valued key, read from its file if the value is a path; paths in it then start at that file.
fn inline(map: &mut Map<String, Value>, key: &str, base: &Path) -> Result<Map<String, Value>, CalibrateError> {
    const CURE: &str = "give a JSON object, or the path of a file that holds one";
    let text = match map.remove(key) {
        None => return Ok(Map::new()),
        Some(Value::Object(object)) => return Ok(object),
        Some(Value::String(text)) => text,
        Some(other) => return Err(CalibrateError::setting(key, format!("is {other}"), CURE)),
    };
    let in_place = text.trim_start().starts_with('{');
    let path = base.join(&text);
    let json = if in_place {
        text
    } else {
        let unreadable = |e| CalibrateError::setting(key, format!("cannot read {}: {e}", path.display()), CURE);
        std::fs::read_to_string(&path).map_err(unreadable)?
    };
    let object: Map<String, Value> = serde_json::from_str(without_mark(&json)).map_err(|e| {
        let place = if in_place { String::new() } else { format!("{}: ", path.display()) };
        CalibrateError::setting(key, format!("{place}no JSON object: {e}"), "correct the JSON text")
    })?;
    if in_place || key != ENGINE {
        return Ok(object);
    }
    let mut holder = Scenario { extra_engine_args: Some(Document::from(object)), ..Scenario::default() };
    holder.rebase(path.parent().unwrap_or(Path::new("")));
    Ok(match holder.to_map().remove(ENGINE) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    })
}
