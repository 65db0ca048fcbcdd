//! The configurations that come with the program work.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::FinalStatus;
use dynosim::workload;

fn configs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn small_trace() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/traces/kv_dense_small.jsonl");
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_configuration_runs_to_completion_and_completes_every_request() {
    let files = configs();
    assert!(!files.is_empty(), "there are no configurations");
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.ends_with(".json"), "{name} is no scenario");
        let text = fs::read_to_string(&file).unwrap();
        let mut scenario = Scenario::from_json(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        if name.starts_with("router-study") || name.starts_with("guide-") {
            // These leave the trace to the command line.
            scenario.trace.push(small_trace());
        }
        let run = scenario.resolve(file.parent().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(run.warnings.is_empty(), "{name}: {:?}", run.warnings);
        let mut simulation = Simulation::new(&run, workload::load(&run).unwrap()).unwrap();
        simulation.run_to_end();
        let (ended, total) = simulation.progress();
        let outcome = simulation.finish();
        assert!(total > 0 && ended == total, "{name}: {ended} of {total} requests ended");
        assert_eq!(outcome.records.len(), total as usize, "{name}");
        assert!(outcome.records.iter().all(|r| r.status == FinalStatus::Completed), "{name}");
        assert!(outcome.dead_ends.is_empty(), "{name}: {:?}", outcome.dead_ends);
    }
}
