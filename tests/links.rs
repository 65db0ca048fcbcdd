//! Transfers from prefill to decode that share a link, worked out by hand.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use dynosim::perf::polynomial::prefill_ms;
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{HandoffRecord, RequestRecord};
use dynosim::workload;
use serde_json::{Value, json};
use tempfile::TempDir;

/// 131,072 bytes for each of 64 tokens at 2 GB/s: so many milliseconds.
const UNIT_MS: f64 = 64.0 * 131_072.0 / 2e9 * 1e3;

/// Requests of one output token by arrival and prompt length on a fleet of so many prefill workers, two decode workers and
/// a link of 2 GB/s.
fn run(folder: &TempDir, rows: &[(u64, u64)], prefill_workers: u32, keys: &Value) -> Vec<RequestRecord> {
    let lines: Vec<String> = (0..)
        .zip(rows)
        .map(|(id, (at, prompt))| {
            json!({"timestamp": at, "input_length": prompt, "output_length": 1, "hash_ids": [id]}).to_string()
        })
        .collect();
    let path = folder.path().join("trace.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    let mut engine = json!({"block_size": 16, "kv_bytes_per_token": 131_072, "kv_transfer_bandwidth": 2.0});
    for (key, value) in keys.as_object().unwrap() {
        engine[key] = value.clone();
    }
    let kind = keys.get("engine_type").map_or("vllm", |kind| kind.as_str().unwrap());
    let document = json!({
        "trace": path, "num-prefill-workers": prefill_workers, "num-decode-workers": 2,
        "prefill-engine-args": engine, "decode-engine-args": {"engine_type": kind, "block_size": 16},
    });
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let mut simulation = Simulation::new(&run, workload::load(&run).unwrap()).unwrap();
    simulation.run_to_end();
    simulation.finish().records
}

fn stamps(record: &RequestRecord) -> HandoffRecord {
    record.handoff.unwrap()
}

/// Milliseconds from the end of prefill to the arrival of the KV.
fn transfer_ms(record: &RequestRecord) -> f64 {
    stamps(record).destination_activated.unwrap().since(stamps(record).source_held.unwrap()).as_ms()
}

fn assert_ms(records: &[RequestRecord], expected: &[f64]) {
    let found: Vec<f64> = records.iter().map(transfer_ms).collect();
    let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6) && found.len() == expected.len();
    assert!(close, "transfers took {found:?} ms, not {expected:?}");
}

#[test]
fn transfers_that_leave_one_prefill_worker_share_its_link() {
    let folder = tempfile::tempdir().unwrap();
    // One pass computes both prompts, so both transfers begin at its end. Alone they take 2 and 1 units. Shared, the
    // short one is done after 2 units (half the speed); the long one has 1 unit left and the link to itself: 3 units.
    let rows = [(0, 128), (0, 64)];
    let shared = run(&folder, &rows, 1, &json!({"kv_transfer_contention": "shared"}));
    assert!((stamps(&shared[0]).source_held.unwrap().as_ms() - prefill_ms(192)).abs() < 1e-6);
    assert_ms(&shared, &[3.0 * UNIT_MS, 2.0 * UNIT_MS]);
    for keys in [json!({}), json!({"kv_transfer_contention": "independent"})] {
        assert_ms(&run(&folder, &rows, 1, &keys), &[2.0 * UNIT_MS, UNIT_MS]);
    }
}

#[test]
fn every_prefill_worker_has_a_link_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let records = run(&folder, &[(0, 128), (0, 64)], 2, &json!({"kv_transfer_contention": "shared"}));
    assert_ms(&records, &[2.0 * UNIT_MS, UNIT_MS]);
}

#[test]
fn what_the_destination_has_is_not_sent_and_leaves_the_link_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({"kv_transfer_contention": "shared", "kv_transfer_timing_mode": "destination_missing"});
    assert_ms(&run(&folder, &[(0, 128), (0, 64)], 1, &keys), &[3.0 * UNIT_MS, 2.0 * UNIT_MS]);
}

#[test]
fn with_sglang_a_transfer_shares_from_the_end_of_prefill_on() {
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({"kv_transfer_contention": "shared", "engine_type": "sglang"});
    let records = run(&folder, &[(0, 128), (0, 64)], 1, &keys);
    assert_eq!(stamps(&records[0]).destination_reserved.unwrap().as_ms(), 0.0);
    assert_ms(&records, &[3.0 * UNIT_MS, 2.0 * UNIT_MS]);
}

#[test]
fn transfers_that_do_not_meet_take_as_long_as_without_contention() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<(u64, u64)> = (0..8).map(|i| (i * 200, 40 + 37 * i)).collect();
    let shared = run(&folder, &rows, 1, &json!({"kv_transfer_contention": "shared"}));
    assert_eq!(shared, run(&folder, &rows, 1, &json!({})));
}
