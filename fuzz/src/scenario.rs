//! Scenario documents and the files they name.

use std::path::Path;

use dynosim::scenario::{Preset, Run, Scenario, Topology, TrafficSource};
use dynosim::sim::Simulation;
use dynosim::workload;
use serde_json::{Value, json};

use crate::{path, told, trace, write};

/// Most sessions and turns of a generated workload that is drawn in full.
const MAX_SESSIONS: u32 = 200;

/// Reads `data` as a scenario.
pub fn document(data: &[u8]) {
    let Some(scenario) = scenario(data) else { return };
    // A file that the document names is not there, wherever this runs.
    match scenario.resolve(&path("nowhere")) {
        Ok(run) => says_itself(&run),
        Err(error) => told(&error),
    }
}

/// Reads `data` as engine arguments of a worker of each kind.
pub fn engine_args(data: &[u8]) {
    let file = write("engine.json", data);
    resolve(json!({ "extra-engine-args": file }));
    resolve(json!({ "prefill-engine-args": file, "decode-engine-args": {} }));
    resolve(json!({ "prefill-engine-args": {}, "decode-engine-args": file }));
}

/// Reads `data` as corrections of a timing model.
pub fn correction(data: &[u8]) {
    let file = write("correction.json", data);
    resolve(json!({ "timing-correction": file }));
    let args = json!({ "aic_model_path": "Qwen/Qwen3-32B", "aic_system": "h200_sxm" });
    resolve(json!({ "timing-correction": file, "extra-engine-args": args }));
}

/// Reads `data` as settings of the KV router.
pub fn router_config(data: &[u8]) {
    let file = write("router.json", data);
    resolve(json!({ "router-mode": "kv_router", "router-config": file }));
}

/// Reads `data` as policy classes of the KV router.
pub fn router_policy(data: &[u8]) {
    let file = write("policy.yaml", data);
    for model in [json!(null), json!("m")] {
        resolve(json!({ "router-mode": "kv_router", "router-policy-config": file, "model-name": model }));
    }
}

/// Reads `data` as the document of a generator; draws what is not too much.
pub fn generator(data: &[u8]) {
    let file = write("workload.json", data);
    let Some(run) = resolve(json!({ "workload": file })) else { return };
    let sessions = match &run.traffic.source {
        TrafficSource::Preset(Preset::Agent(agent)) => agent.sessions,
        TrafficSource::Preset(Preset::Generate(spec)) => spec.sessions.unwrap_or(u32::MAX),
        _ => u32::MAX,
    };
    if sessions > MAX_SESSIONS {
        return;
    }
    match workload::load(&run) {
        Ok(workload) => trace::check(&workload, run.traffic.concurrency),
        Err(error) => told(&error),
    }
}

/// Draws lengths from `data`, a CSV file.
pub fn samples(data: &[u8]) {
    let file = write("lengths.csv", data);
    for (input, output) in [("1", "2"), ("input", "output"), ("a b", "9")] {
        let lengths = json!({ "file": file, "input": input, "output": output });
        let spec = json!({ "preset": "generate", "sessions": 3, "lengths": lengths });
        let Some(run) = resolve(json!({ "workload": spec })) else { continue };
        match workload::load(&run) {
            Ok(workload) => trace::check(&workload, None),
            Err(error) => told(&error),
        }
    }
}

/// Runs the engines of `data`, a scenario, on a few requests; every request must end.
pub fn replay(data: &[u8]) {
    let Some(scenario) = scenario(data) else { return };
    let mut map = scenario.to_map();
    // Anything about requests is replaced: those of the document may be many.
    let kept = |key: &str| {
        key == "semantics"
            || key.ends_with("engine-args")
            || key.starts_with("num-") && key.ends_with("workers")
            || key == "timing-correction"
            || key == "on-missing-timing"
            || key.starts_with("router-")
    };
    map.retain(|key, _| kept(key));
    let load = json!({
        "input-tokens": 100, "output-tokens": 9, "request-count": 8, "turns-per-session": 2,
        "arrival-interval-ms": 3, "inter-turn-delay-ms": 2, "shared-prefix-ratio": 0.5, "num-prefix-groups": 2,
    });
    map.extend(load.as_object().cloned().unwrap_or_default());
    let Ok(scenario) = Scenario::from_json(&Value::Object(map).to_string()) else { return };
    let Ok(run) = scenario.resolve(&path("nowhere")) else { return };
    let (workers, engines) = match &run.topology {
        Topology::Aggregated { workers, engine } => (*workers, vec![engine]),
        Topology::Disaggregated { prefill_workers, decode_workers, prefill, decode, .. } => {
            (prefill_workers.saturating_add(*decode_workers), vec![prefill, decode])
        }
    };
    if workers > 8 || engines.iter().any(|engine| engine.dp_size > 4 || engine.num_gpu_blocks > 1 << 16) {
        return;
    }
    let Ok(workload) = workload::load(&run) else { return };
    let requests = workload.requests.len();
    let Ok(mut simulation) = Simulation::new(&run, workload) else { return };
    simulation.run_to_end();
    assert_eq!(simulation.finish().records.len(), requests);
}

fn scenario(data: &[u8]) -> Option<Scenario> {
    Scenario::from_json(std::str::from_utf8(data).ok()?).inspect_err(|error| told(error)).ok()
}

/// Resolves a scenario with some load and these keys.
pub fn resolve(keys: Value) -> Option<Run> {
    let mut scenario = json!({ "version": 1 });
    let object = scenario.as_object_mut().expect("an object");
    if keys.get("workload").is_none() {
        let load = json!({ "input-tokens": 100, "output-tokens": 9, "request-count": 2, "arrival-interval-ms": 1 });
        object.extend(load.as_object().cloned().unwrap_or_default());
    }
    object.extend(keys.as_object().cloned().unwrap_or_default());
    let scenario = Scenario::from_json(&scenario.to_string()).expect("a document of our own");
    match scenario.resolve(&path("nowhere")) {
        Ok(run) => {
            says_itself(&run);
            Some(run)
        }
        Err(error) => {
            told(&error);
            None
        }
    }
}

/// What is resolved must say itself in full, and resolve to the same again.
fn says_itself(run: &Run) {
    run.warnings.iter().for_each(told);
    let spelled_out = Scenario::describe(run).expect("paths are Unicode here").to_json();
    let again = Scenario::from_json(&spelled_out).expect("what is written can be read");
    let mut again = again.resolve(Path::new("")).expect("what is spelled out is valid");
    again.warnings.clone_from(&run.warnings);
    assert_eq!(again, *run);
}
