//! Whole replays: load in, outcome out, without reading or writing files except where a trace is read once.
//!
//! Every measurement is one complete simulation of a workload that is generated or read anew, untimed, for each round.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use criterion::{BatchSize, Criterion, SamplingMode};
use dynosim::scenario::{Run, Scenario};
use dynosim::sim::Simulation;
use dynosim::sim::metrics::Outcome;
use dynosim::workload;

/// Four workers, ten thousand equal requests.
const SYNTHETIC: &str = r#"{
    "version": 1, "input-tokens": 1024, "output-tokens": 128, "request-count": 10000, "request-rate": 20.0,
    "num-workers": 4
}"#;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    shipped(&mut criterion, "agent_aggregated", "quickstart.json");
    shipped(&mut criterion, "agent_disaggregated", "quickstart-disagg.json");
    replay(&mut criterion, "synthetic_10000", &resolve(SYNTHETIC));
    conversation(&mut criterion);
    criterion.final_summary();
}

/// A scenario of `configs/`.
fn shipped(criterion: &mut Criterion, name: &str, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(file);
    replay(criterion, name, &resolve(&fs::read_to_string(path).expect("the scenario is readable")));
}

/// An hour of a public trace, where it is at hand.
fn conversation(criterion: &mut Criterion) {
    let path = shared().join("traces/conversation_trace.jsonl");
    if !path.is_file() {
        eprintln!("SKIPPED: conversation_* need {}; set DYNOSIM_SHARED to the folder above", path.display());
        return;
    }
    let trace = serde_json::json!(path);
    let aggregated = format!(r#"{{"version": 1, "trace": {trace}, "num-workers": 4}}"#);
    let disaggregated = format!(
        r#"{{"version": 1, "trace": {trace}, "num-prefill-workers": 2, "num-decode-workers": 2,
            "prefill-engine-args": {{}}, "decode-engine-args": {{}}}}"#
    );
    replay(criterion, "conversation_4_workers", &resolve(&aggregated));
    replay(criterion, "conversation_2p2d", &resolve(&disaggregated));
}

/// The folder of public traces.
fn shared() -> PathBuf {
    env::var_os("DYNOSIM_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

fn resolve(scenario: &str) -> Run {
    let scenario = Scenario::from_json(scenario).expect("the scenario is valid");
    scenario.resolve(Path::new("")).expect("the scenario resolves")
}

/// Measures set-up, run and collection of the outcome.
fn replay(criterion: &mut Criterion, name: &str, run: &Run) {
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(5));
    group.bench_function(name, |bencher| {
        let load = || workload::load(run).expect("the load can be made");
        bencher.iter_batched(load, |workload| simulate(run, workload), BatchSize::PerIteration);
    });
    group.finish();
}

fn simulate(run: &Run, workload: workload::Workload) -> Outcome {
    let mut simulation = Simulation::new(run, workload).expect("the simulation can be set up");
    simulation.run_to_end();
    simulation.finish()
}
