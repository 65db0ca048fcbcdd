//! Routers: decisions agree with the reference, simple modes do what they say, signals arrive when they should.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{FinalStatus, Outcome};
use dynosim::workload;
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "router/baselines.rs"]
mod baselines;
#[path = "router/log.rs"]
mod log;
#[path = "router/queue.rs"]
mod queue;
#[path = "router/reference.rs"]
mod reference;
#[path = "support/routing.rs"]
mod routing;
#[path = "router/stale.rs"]
mod stale;

/// What a scenario comes to, and every decision on the way.
fn run(document: &Value) -> (Outcome, Vec<Value>) {
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let mut simulation = Simulation::new(&run, workload::load(&run).unwrap()).unwrap();
    let lines = routing::Lines::default();
    simulation.send_decisions(Box::new(lines.clone()));
    simulation.run_to_end();
    let decisions = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (simulation.finish(), decisions)
}

/// A trace of 16-token hash blocks in a file of its own.
struct Trace {
    _folder: TempDir,
    path: String,
}

impl Trace {
    fn new(rows: impl IntoIterator<Item = Value>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        let lines: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
        fs::write(&path, lines).unwrap();
        Self { path: path.to_str().unwrap().to_owned(), _folder: folder }
    }

    /// Sessions of several turns that extend each other.
    fn of_sessions(sessions: u64, turns: u64) -> Self {
        Self::new((0..sessions * turns).map(|i| {
            let (session, turn) = (i % sessions, i / sessions);
            let ids: Vec<u64> = (0..4 + 2 * turn).map(|b| session * 100 + b).collect();
            let mut row = json!({
                "session_id": format!("s{session}"), "input_length": ids.len() * 16, "output_length": 3 + i % 9,
                "hash_ids": ids,
            });
            let (key, ms) = if turn == 0 { ("timestamp", session * 25) } else { ("delay", 30 + session * 7) };
            row[key] = json!(ms);
            row
        }))
    }

    /// Requests at these instants, in milliseconds, with prompts of this many tokens that share nothing.
    fn of_strangers(requests: impl IntoIterator<Item = (f64, u64)>) -> Self {
        Self::new((0_u64..).zip(requests).map(|(index, (at, tokens))| {
            let ids: Vec<u64> = (0..tokens.div_ceil(16)).map(|b| index * 1_000 + b).collect();
            json!({"timestamp": at, "input_length": tokens, "output_length": 6, "hash_ids": ids})
        }))
    }

    /// A scenario over the trace with more keys.
    fn with(&self, keys: Value) -> Value {
        let mut document = json!({
            "trace": self.path, "trace-block-size": 16, "num-workers": 3,
            "extra-engine-args": {"block_size": 16, "num_gpu_blocks": 256},
        });
        for (key, value) in keys.as_object().unwrap() {
            document[key] = value.clone();
        }
        document
    }
}

/// The chosen candidate of a decision.
fn chosen(decision: &Value) -> &Value {
    &decision["candidates"][decision["chosen"].as_u64().unwrap() as usize]
}

/// Whether every request was completed.
fn all_completed(outcome: &Outcome) -> bool {
    outcome.records.iter().all(|record| record.status == FinalStatus::Completed)
}
