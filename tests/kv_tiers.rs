//! KV tiers below the GPU, worked out by hand: a block is 16 tokens and 1 MB, so at 1 GB/s it takes 1 ms.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use dynosim::perf::polynomial::{decode_ms, prefill_ms};
use dynosim::report::{Report, SessionNames, write_rows};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{Outcome, RequestRecord};
use dynosim::workload;
use serde_json::{Value, json};

/// A request of one output token: arrival in ms, first hash id, blocks of the prompt.
type Row = (u64, u64, u64);

/// Runs requests on workers of 8 GPU blocks; G1 to G2 at 1 GB/s, back at 2 GB/s, and more `keys`.
fn run(rows: &[Row], workers: u32, keys: &Value) -> (Outcome, Value) {
    let folder = tempfile::tempdir().unwrap();
    let line = |(at, first, blocks): &Row| {
        let ids: Vec<u64> = (*first..first + blocks).collect();
        json!({"timestamp": at, "input_length": blocks * 16, "output_length": 1, "hash_ids": ids}).to_string()
    };
    let path = folder.path().join("trace.jsonl");
    fs::write(&path, rows.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let mut engine = json!({
        "block_size": 16, "num_gpu_blocks": 8, "kv_bytes_per_token": 62_500, "num_g2_blocks": 100,
        "bandwidth_g1_to_g2_gbps": 1, "bandwidth_g2_to_g1_gbps": 2,
    });
    for (key, value) in keys.as_object().unwrap() {
        engine[key] = value.clone();
    }
    let document = json!({"trace": path, "trace-block-size": 16, "num-workers": workers, "extra-engine-args": engine});
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let mut simulation = Simulation::new(&run, workload::load(&run).unwrap()).unwrap();
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &SessionNames::default(), &[], Duration::ZERO);
    let report = serde_json::from_str(&report.to_json()).unwrap();
    (outcome, report)
}

fn assert_request(record: &RequestRecord, admitted_ms: f64, reused: u32, first_token_ms: f64) {
    let admitted = record.first_admit.unwrap().as_ms();
    assert!((admitted - admitted_ms).abs() < 1e-6, "admitted at {admitted} ms, not {admitted_ms}");
    assert_eq!(record.reused_tokens, reused);
    let first = record.first_token.unwrap().as_ms();
    assert!((first - first_token_ms).abs() < 5e-6, "first token at {first} ms, not {first_token_ms}");
}

/// A leaves 4 cached blocks. B needs 7: three of A's, the deepest first, have to go.
const A: u64 = 100;
const B: u64 = 200;
const D: u64 = 300;

#[test]
fn a_block_gives_its_place_up_when_it_is_in_host_memory_and_comes_back_while_its_request_waits() {
    let (outcome, report) = run(&[(0, A, 4), (1_000, B, 7), (2_000, A, 4)], 1, &json!({}));
    let records = &outcome.records;
    assert_request(&records[0], 0.0, 0, prefill_ms(64) + decode_ms(4, 8));
    // 3 MB have to leave before B gets its blocks.
    assert_request(&records[1], 1_003.0, 0, 1_003.0 + prefill_ms(112) + decode_ms(7, 8));
    // The last block of a prompt is computed again, so of A's blocks 0 is resident and 1 and 2 come up. Two of B's have to
    // leave first: 2 ms. Two blocks at 2 GB/s: 1 ms. For the last block one more of B's has to leave: 1 ms.
    assert_request(&records[2], 2_004.0, 48, 2_004.0 + prefill_ms(16) + decode_ms(4, 8));
    let tiers = records[2].tiers.unwrap();
    assert_eq!((tiers.tokens, tiers.wait.as_ms()), ([32, 0, 0], 1.0));

    let expected = json!({
        "g1_to_g2": 6_000_000, "g2_to_g1": 2_000_000, "g2_to_g3": 0, "g3_to_g2": 0, "g2_to_g4": 0, "g4_to_g2": 0,
    });
    let kv_tiers = &report["kv_tiers"];
    let pool = &kv_tiers["pools"]["aggregated"];
    for (link, bytes) in expected.as_object().unwrap() {
        assert_eq!(pool["links"][link]["bytes"], *bytes, "{link}");
    }
    // Busy for 6 ms of the run.
    let share = pool["links"]["g1_to_g2"]["mean_utilisation"].as_f64().unwrap();
    let seconds = report["decode_worker_seconds"].as_f64().unwrap();
    assert!((share * seconds - 0.006).abs() < 1e-4, "{share} of {seconds} s");
    assert_eq!(pool["blocks"], json!({"g2": 6, "g3": 0, "g4": 0}));
    assert_eq!(kv_tiers["onboarded_tokens"], json!({"g2": 32, "g3": 0, "g4": 0}));
    assert_eq!((&kv_tiers["onboarded_requests"], &kv_tiers["mean_onboard_wait_ms"]), (&json!(1), &json!(1.0)));

    let mut rows = Vec::new();
    write_rows(&mut rows, &outcome, &SessionNames::default()).unwrap();
    let last: Value = serde_json::from_str(String::from_utf8(rows).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!((&last["onboarded_g2_tokens"], &last["onboard_wait_ms"]), (&json!(32), &json!(1.0)));
}

#[test]
fn links_without_limit_take_no_time() {
    let keys = json!({"bandwidth_g1_to_g2_gbps": 0, "bandwidth_g2_to_g1_gbps": 0});
    let (outcome, _) = run(&[(0, A, 4), (1_000, B, 7), (2_000, A, 4)], 1, &keys);
    assert_request(&outcome.records[1], 1_000.0, 0, 1_000.0 + prefill_ms(112) + decode_ms(7, 8));
    assert_request(&outcome.records[2], 2_000.0, 48, 2_000.0 + prefill_ms(16) + decode_ms(4, 8));
}

#[test]
fn batches_share_the_link_and_give_their_places_up_together() {
    // Batches of 2 and 1 blocks share 1 GB/s: the small one is done after 2 ms, the large one after 3.
    let (outcome, _) = run(&[(0, A, 4), (1_000, B, 7)], 1, &json!({"offload_batch_size": 2}));
    assert_request(&outcome.records[1], 1_003.0, 0, 1_003.0 + prefill_ms(112) + decode_ms(7, 8));
}

/// What host memory of 3 blocks forgets is still below it.
fn assert_staged(keys: Value, tokens: [u64; 3]) {
    let (outcome, report) = run(&[(0, A, 4), (1_000, B, 7), (2_000, D, 7), (3_000, A, 4)], 1, &keys);
    // D evicts A's first block and six of B's. Host memory has 3 places: three blocks are copied in 3 ms, four are dropped.
    assert_request(&outcome.records[2], 2_003.0, 0, 2_003.0 + prefill_ms(112) + decode_ms(7, 8));
    // A again: three blocks have to leave (3 ms, and host memory forgets the first of A's), three are read from below at
    // 3 GB/s (1 ms), come up at 2 GB/s (1.5 ms), and for the last block one more has to leave (1 ms).
    assert_request(&outcome.records[3], 3_006.5, 48, 3_006.5 + prefill_ms(16) + decode_ms(4, 8));
    let tiers = outcome.records[3].tiers.unwrap();
    assert_eq!((tiers.tokens, tiers.wait.as_ms()), (tokens, 2.5));
    assert_eq!(report["kv_tiers"]["pools"]["aggregated"]["evicted_blocks_dropped"], 4);
}

#[test]
fn blocks_on_disk_are_staged_through_host_memory() {
    assert_staged(json!({"num_g2_blocks": 3, "num_g3_blocks": 50, "bandwidth_g3_to_g2_gbps": 3}), [0, 48, 0]);
}

#[test]
fn blocks_in_the_object_store_are_staged_through_host_memory() {
    assert_staged(json!({"num_g2_blocks": 3, "enable_g4_storage": true, "bandwidth_g4_to_g2_gbps": 3}), [0, 0, 48]);
}

#[test]
fn workers_find_each_others_objects_but_not_each_others_host_memory() {
    // In turn: A and B on the first worker, where B pushes all of A out; A again on the second, which has 7 free blocks.
    let rows = [(0, A, 4), (1_000, D, 1), (2_000, B, 8), (3_000, A, 4)];
    let keys = json!({"enable_g4_storage": true, "bandwidth_g4_to_g2_gbps": 3});
    let (outcome, _) = run(&rows, 2, &keys);
    assert_request(&outcome.records[2], 2_004.0, 0, 2_004.0 + prefill_ms(128) + decode_ms(8, 8));
    // 3 MB at 3 GB/s, then at 2 GB/s.
    assert_request(&outcome.records[3], 3_002.5, 48, 3_002.5 + prefill_ms(16) + decode_ms(4, 8));
    let (outcome, _) = run(&rows, 2, &json!({}));
    assert_request(&outcome.records[3], 3_000.0, 0, 3_000.0 + prefill_ms(64) + decode_ms(4, 8));
}

#[test]
fn reads_of_two_workers_share_the_link_to_the_object_store() {
    // As above with three workers and two readers at once: 6 MB at 3 GB/s take both 2 ms.
    let rows = [(0, A, 4), (1_000, D, 1), (1_000, D, 1), (2_000, B, 8), (3_000, A, 4), (3_000, A, 4)];
    let keys = json!({"enable_g4_storage": true, "bandwidth_g4_to_g2_gbps": 3});
    let (outcome, _) = run(&rows, 3, &keys);
    for record in &outcome.records[4..] {
        assert_request(record, 3_003.5, 48, 3_003.5 + prefill_ms(16) + decode_ms(4, 8));
    }
}
