//! Dead ends: a request that blocks for ever fails, says why, and takes nothing else with it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{FinalStatus, Outcome};
use dynosim::workload;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A request: arrival in ms, prompt tokens, output tokens. Prompts share nothing.
type Row = (u32, u32, u32);

/// The second request needs 13 blocks in the end; there are 8.
const BEFORE: [Row; 2] = [(0, 32, 8), (1, 50, 150)];
/// The same, with a request that comes while the second one still runs and ends before it is stuck, on one worker or
/// on two, and one that comes when it is stuck.
const AROUND: [Row; 4] = [(0, 32, 8), (1, 50, 150), (2, 16, 4), (9000, 40, 8)];

fn folder(requests: &[Row]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for (index, (at, input, output)) in requests.iter().enumerate() {
        let ids: Vec<usize> = (0..input.div_ceil(16) as usize).map(|b| index * 1000 + b).collect();
        let row = json!({"timestamp": at, "input_length": input, "output_length": output, "hash_ids": ids});
        lines += &format!("{row}\n");
    }
    fs::write(folder.path().join("trace.jsonl"), lines).unwrap();
    folder
}

fn document(keys: Value) -> Value {
    let mut document = json!({"version": 1, "trace": "trace.jsonl", "trace-block-size": 16});
    for (key, value) in keys.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

fn aggregated(workers: u32) -> Value {
    document(json!({"num-workers": workers, "extra-engine-args": {"num_gpu_blocks": 8, "block_size": 16}}))
}

fn disaggregated(decode_workers: u32) -> Value {
    let engine = json!({"num_gpu_blocks": 8, "block_size": 16});
    document(json!({
        "num-decode-workers": decode_workers, "prefill-engine-args": engine, "decode-engine-args": engine,
    }))
}

fn run(requests: &[Row], document: &Value) -> Outcome {
    let folder = folder(requests);
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(folder.path()).unwrap();
    let mut simulation = Simulation::new(&run, workload::load(&run).unwrap()).unwrap();
    simulation.run_to_end();
    for worker in simulation.snapshot().workers {
        assert_eq!((worker.waiting, worker.running, worker.kv_active), (0, 0, 0), "{worker:?}");
    }
    simulation.finish()
}

/// Only request 1 fails, and the explanation names it and the pool.
fn assert_only_the_second_fails(outcome: &Outcome) {
    for record in &outcome.records {
        let expected = if record.request == 1 { FinalStatus::Failed } else { FinalStatus::Completed };
        assert_eq!(record.status, expected, "request {}: {:?}", record.request, outcome.dead_ends);
        assert!(record.terminal >= record.last_token, "it ends before its last token: {record:?}");
        assert!(record.terminal >= record.first_admit, "it ends before it begins: {record:?}");
    }
    assert_eq!(outcome.dead_ends.len(), 1, "{:?}", outcome.dead_ends);
    let reason = &outcome.dead_ends[0];
    for part in ["dead end", "request 1", "8 blocks", "tokens"] {
        assert!(reason.contains(part), "`{part}` is missing: {reason}");
    }
    let gaps: u32 =
        outcome.records.iter().filter(|r| r.status == FinalStatus::Completed).map(|r| r.output_tokens - 1).sum();
    assert_eq!(outcome.itl.count(), u64::from(gaps), "tokens of the failed request count");
}

#[test]
fn a_request_that_outgrows_the_pool_fails_alone_on_one_worker() {
    assert_only_the_second_fails(&run(&BEFORE, &aggregated(1)));
}

#[test]
fn a_request_that_outgrows_the_pool_fails_alone_on_two_workers() {
    assert_only_the_second_fails(&run(&BEFORE, &aggregated(2)));
}

#[test]
fn a_request_that_outgrows_the_pool_fails_alone_behind_a_hand_off() {
    assert_only_the_second_fails(&run(&BEFORE, &disaggregated(1)));
    assert_only_the_second_fails(&run(&BEFORE, &disaggregated(2)));
}

#[test]
fn requests_behind_a_dead_end_complete() {
    for workers in [1, 2] {
        assert_only_the_second_fails(&run(&AROUND, &aggregated(workers)));
    }
}

#[test]
fn requests_behind_a_dead_end_of_a_decode_worker_complete() {
    for workers in [1, 2] {
        assert_only_the_second_fails(&run(&AROUND, &disaggregated(workers)));
    }
}

#[test]
fn a_dead_end_counts_as_an_end_for_the_closed_loop() {
    for workers in [1, 2] {
        let mut document = aggregated(workers);
        document["replay-concurrency"] = json!(1);
        assert_only_the_second_fails(&run(&AROUND, &document));
        let mut document = disaggregated(workers);
        document["replay-concurrency"] = json!(1);
        assert_only_the_second_fails(&run(&AROUND, &document));
    }
}

#[test]
fn a_prompt_larger_than_the_pool_is_rejected_and_is_no_dead_end() {
    for document in [aggregated(1), aggregated(2), disaggregated(1)] {
        let outcome = run(&[(0, 32, 8), (1, 150, 5), (2, 40, 8)], &document);
        let statuses: Vec<_> = outcome.records.iter().map(|r| r.status).collect();
        assert_eq!(statuses, [FinalStatus::Completed, FinalStatus::Rejected, FinalStatus::Completed]);
        assert!(outcome.dead_ends.is_empty(), "{:?}", outcome.dead_ends);
    }
}

#[test]
fn a_prompt_that_no_decode_worker_can_hold_fails_its_hand_off_and_is_no_dead_end() {
    let mut document = disaggregated(1);
    document["prefill-engine-args"]["num_gpu_blocks"] = json!(64);
    let outcome = run(&[(0, 32, 8), (1, 150, 5), (2, 40, 8)], &document);
    let statuses: Vec<_> = outcome.records.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [FinalStatus::Completed, FinalStatus::Failed, FinalStatus::Completed]);
    assert!(outcome.dead_ends.is_empty(), "{:?}", outcome.dead_ends);
}

/// Runs the program on a scenario; a dead end is exit code 1 with a reason, and everything is written all the same.
fn assert_the_program_reports(document: &Value) {
    let folder = folder(&BEFORE);
    let path = |name: &str| folder.path().join(name);
    fs::write(path("scenario.json"), document.to_string()).unwrap();
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.current_dir(folder.path()).args(["replay", "--config", "scenario.json"]);
    command.args(["--report-json", "report.json", "--report-jsonl", "rows.jsonl"]);
    command.assert().code(1).stderr(contains("dead end").and(contains("request 1")));
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let report: Value = serde_json::from_str(&read(&path("report.json"))).unwrap();
    assert_eq!(report["completed_requests"], json!(1));
    assert!(report["warnings"].to_string().contains("dead end"), "{}", report["warnings"]);
    let rows = read(&path("rows.jsonl"));
    let status = |line: &str| serde_json::from_str::<Value>(line).unwrap()["terminal_status"].clone();
    assert_eq!(rows.lines().map(status).collect::<Vec<_>>(), [json!("completed"), json!("failed")]);
}

#[test]
fn after_a_dead_end_the_program_writes_everything_says_why_and_exits_with_one() {
    for document in [aggregated(1), aggregated(2), disaggregated(1)] {
        assert_the_program_reports(&document);
    }
}
