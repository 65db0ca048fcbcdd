//! The corrections of the reference's quirks: what each switch changes, and that it changes nothing else.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use dynosim::report::{SessionNames, write_rows};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{FinalStatus, Outcome, RequestRecord};
use dynosim::workload;
use serde_json::{Value, json};

const SWITCHES: [&str; 4] = ["handoff_after_first_token", "fail_infeasible", "charge_recompute", "honest_reuse"];

/// A request: arrival in ms, prompt tokens, output tokens. Prompts share nothing.
type Row = (u32, u32, u32);

/// Runs these requests with these keys and this value of `semantics`.
fn run(requests: &[Row], keys: &Value, semantics: Value) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    let mut lines = String::new();
    for (index, (at, input, output)) in requests.iter().enumerate() {
        let ids: Vec<usize> = (0..input.div_ceil(16) as usize).map(|b| index * 1000 + b).collect();
        let row = json!({"timestamp": at, "input_length": input, "output_length": output, "hash_ids": ids});
        lines += &format!("{row}\n");
    }
    fs::write(&path, lines).unwrap();
    let mut document = keys.clone();
    document["trace"] = json!(path);
    document["trace-block-size"] = json!(16);
    document["semantics"] = semantics;
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let mut simulation = Simulation::new(&run, workload::load(&run).unwrap()).unwrap();
    simulation.run_to_end();
    simulation.finish()
}

fn rows(outcome: &Outcome) -> String {
    let mut rows = Vec::new();
    write_rows(&mut rows, outcome, &SessionNames::default()).unwrap();
    String::from_utf8(rows).unwrap()
}

/// The switch alone.
fn only(switch: &str) -> Value {
    let mut semantics = json!({"base": "dynamo"});
    semantics[switch] = json!(true);
    semantics
}

/// The switch alone and all of them: both change what the switch is about.
fn with(switch: &str) -> [Value; 2] {
    [only(switch), json!("corrected")]
}

fn aggregated(blocks: u32) -> Value {
    json!({"extra-engine-args": {"num_gpu_blocks": blocks, "block_size": 16}})
}

fn disaggregated(blocks: u32) -> Value {
    let engine = json!({
        "num_gpu_blocks": blocks, "block_size": 16, "kv_bytes_per_token": 131_072, "kv_transfer_bandwidth": 2.0,
    });
    json!({"num-decode-workers": 2, "prefill-engine-args": engine, "decode-engine-args": engine})
}

fn statuses(outcome: &Outcome) -> Vec<FinalStatus> {
    outcome.records.iter().map(|r| r.status).collect()
}

/// Requests that disturb each other a little.
const LIGHT: [Row; 6] = [(0, 100, 9), (5, 60, 20), (30, 200, 5), (31, 16, 1), (90, 150, 12), (400, 33, 7)];

#[test]
fn with_handoff_after_first_token_the_first_token_comes_with_the_end_of_prefill() {
    let keys = disaggregated(64);
    let plain = run(&LIGHT, &keys, json!("dynamo"));
    for semantics in with("handoff_after_first_token") {
        let corrected = run(&LIGHT, &keys, semantics);
        assert_eq!(statuses(&corrected), [FinalStatus::Completed; 6]);
        for (record, before) in corrected.records.iter().zip(&plain.records) {
            assert_eq!(record.output_tokens, record.requested_output_tokens);
            assert!(record.first_token < before.first_token, "the first token does not come earlier: {record:?}");
            let handoff = record.handoff.unwrap();
            if record.requested_output_tokens > 1 {
                assert_eq!(record.first_token, handoff.source_held);
                assert!(record.second_token > handoff.destination_activated, "{record:?}");
                assert!(record.last_token >= record.second_token && record.terminal == record.last_token);
            }
        }
        let gaps: u64 = LIGHT.iter().map(|(_, _, output)| u64::from(output - 1)).sum();
        assert_eq!(corrected.itl.count(), gaps);
    }
}

#[test]
fn with_handoff_after_first_token_a_request_for_one_token_ends_at_prefill() {
    for semantics in with("handoff_after_first_token") {
        let outcome = run(&[(0, 100, 1)], &disaggregated(64), semantics);
        let [record] = outcome.records[..] else { panic!("one request") };
        assert_eq!((record.status, record.output_tokens), (FinalStatus::Completed, 1));
        assert!(record.first_token > record.first_admit);
        assert_eq!((record.first_token, record.terminal), (record.last_token, record.last_token));
        let handoff = record.handoff.unwrap();
        assert_eq!((handoff.destination_reserved, handoff.decode_admit, record.decode_worker), (None, None, None));
    }
    let plain = run(&[(0, 100, 1)], &disaggregated(64), json!("dynamo"));
    assert!(plain.records[0].handoff.unwrap().decode_admit.is_some());
}

#[test]
fn with_fail_infeasible_a_request_that_outgrows_the_pool_fails_and_the_others_complete() {
    // The second needs 13 of 8 blocks in the end; the third waits behind it.
    let requests = [(0, 32, 8), (1, 50, 150), (2, 40, 8), (3000, 40, 8)];
    let dead = run(&requests, &aggregated(8), json!("dynamo"));
    assert!(!dead.dead_ends.is_empty());
    for workers in [1, 2] {
        for semantics in with("fail_infeasible") {
            let mut keys = aggregated(8);
            keys["num-workers"] = json!(workers);
            let outcome = run(&requests, &keys, semantics);
            use FinalStatus::{Completed, Failed};
            assert_eq!(statuses(&outcome), [Completed, Failed, Completed, Completed], "{workers} workers");
            assert!(outcome.dead_ends.is_empty(), "{:?}", outcome.dead_ends);
            assert_eq!(outcome.records[1].output_tokens, 0);
            assert_eq!(outcome.itl.count(), 3 * 7);
        }
    }
}

#[test]
fn with_fail_infeasible_a_prompt_that_can_never_be_scheduled_whole_fails() {
    let engine = json!({
        "num_gpu_blocks": 64, "block_size": 16, "enable_chunked_prefill": false, "max_num_batched_tokens": 64,
    });
    for semantics in with("fail_infeasible") {
        let outcome = run(&[(0, 65, 4), (1, 64, 4)], &json!({"extra-engine-args": engine}), semantics);
        assert_eq!(statuses(&outcome), [FinalStatus::Failed, FinalStatus::Completed]);
        assert!(outcome.dead_ends.is_empty(), "{:?}", outcome.dead_ends);
    }
}

#[test]
fn with_fail_infeasible_a_disaggregated_fleet_has_no_dead_end_either() {
    let requests = [(0, 32, 8), (1, 50, 150), (2, 40, 8), (3000, 40, 8)];
    for semantics in with("fail_infeasible") {
        let outcome = run(&requests, &disaggregated(8), semantics);
        use FinalStatus::{Completed, Failed};
        assert_eq!(statuses(&outcome), [Completed, Failed, Completed, Completed]);
        assert!(outcome.dead_ends.is_empty(), "{:?}", outcome.dead_ends);
    }
}

/// Two requests that do not fit together once they have grown.
const CROWDED: [Row; 2] = [(0, 60, 12), (1, 62, 10)];

/// When a request ended, nanoseconds.
fn end_of(record: &RequestRecord) -> u64 {
    record.terminal.unwrap().as_nanos()
}

#[test]
fn with_charge_recompute_passes_that_compute_tokens_again_take_longer() {
    for caching in [true, false] {
        let engine = json!({"num_gpu_blocks": 8, "block_size": 16, "enable_prefix_caching": caching});
        let keys = json!({"extra-engine-args": engine});
        let plain = run(&CROWDED, &keys, json!("dynamo"));
        assert!(plain.preemptions > 0, "nobody gives way");
        for semantics in with("charge_recompute") {
            let charged = run(&CROWDED, &keys, semantics);
            assert_eq!(statuses(&charged), [FinalStatus::Completed; 2]);
            let total = |outcome: &Outcome| outcome.records.iter().map(end_of).max().unwrap();
            if caching {
                assert!(total(&charged) >= total(&plain));
            } else {
                assert!(total(&charged) > total(&plain), "recomputation is free");
            }
            // What happens before anybody gives way is not touched.
            assert_eq!(charged.records[0].first_token, plain.records[0].first_token);
            let tokens = |outcome: &Outcome| outcome.records.iter().map(|r| r.output_tokens).collect::<Vec<_>>();
            assert_eq!(tokens(&charged), tokens(&plain));
        }
    }
}

#[test]
fn without_the_switch_recomputed_output_tokens_are_free_and_with_it_they_cost_prefill_time() {
    // A worker that forgets everything: the prompt costs either way, the output tokens only with the switch.
    let engine = json!({"num_gpu_blocks": 12, "block_size": 16, "enable_prefix_caching": false});
    let requests = [(0, 16, 140), (1, 16, 140)];
    let keys = json!({"extra-engine-args": engine});
    let (plain, charged) = (run(&requests, &keys, json!("dynamo")), run(&requests, &keys, only("charge_recompute")));
    assert_eq!((plain.preemptions > 0, plain.preemptions), (true, charged.preemptions));
    assert_eq!(plain.passes, charged.passes, "the switch changes how long passes take, not which there are");
    assert!(charged.end > plain.end);
}

#[test]
fn switches_change_nothing_in_a_run_that_does_not_touch_them() {
    let plain = rows(&run(&LIGHT, &aggregated(256), json!("dynamo")));
    for semantics in SWITCHES.into_iter().map(only).chain([json!("corrected")]) {
        assert_eq!(plain, rows(&run(&LIGHT, &aggregated(256), semantics.clone())), "{semantics}");
    }
    let plain = rows(&run(&LIGHT, &disaggregated(256), json!("dynamo")));
    for switch in &SWITCHES[1..] {
        assert_eq!(plain, rows(&run(&LIGHT, &disaggregated(256), only(switch))), "{switch}");
    }
}

#[test]
fn a_switch_changes_nothing_where_another_one_applies() {
    let keys = json!({"extra-engine-args": {"num_gpu_blocks": 8, "block_size": 16}});
    let plain = rows(&run(&CROWDED, &keys, json!("dynamo")));
    for switch in ["handoff_after_first_token", "fail_infeasible", "honest_reuse"] {
        assert_eq!(plain, rows(&run(&CROWDED, &keys, only(switch))), "{switch}");
    }
}

/// SGLang in pieces of 64 tokens, on one aggregated worker.
fn in_pieces(blocks: u32) -> Value {
    let sglang = json!({"chunked_prefill_size": 64});
    json!({"extra-engine-args": {"engine_type": "sglang", "num_gpu_blocks": blocks, "block_size": 16, "sglang": sglang}})
}

#[test]
fn with_honest_reuse_later_pieces_of_a_prompt_are_not_reuse() {
    // The second prompt needs four pieces; nothing of it is in the cache.
    let requests = [(0, 50, 5), (1, 200, 5), (100, 64, 5)];
    let plain = run(&requests, &in_pieces(200), json!("dynamo"));
    assert_eq!(plain.records.iter().map(|r| r.reused_tokens).collect::<Vec<_>>(), [0, 192, 0]);
    for semantics in with("honest_reuse") {
        let honest = run(&requests, &in_pieces(200), semantics);
        assert!(honest.records.iter().all(|r| r.reused_tokens == 0));
        let ends = |outcome: &Outcome| outcome.records.iter().map(end_of).collect::<Vec<_>>();
        assert_eq!(ends(&honest), ends(&plain), "only what is reported differs");
    }
}

#[test]
fn with_fail_infeasible_sglang_fails_what_never_fits_and_completes_the_rest() {
    // The second needs more than 8 pages in the end; the third never finds room for its prompt and all its output.
    let requests = [(0, 32, 8), (1, 50, 150), (2, 100, 20), (3, 40, 8), (3000, 40, 8)];
    let engine = json!({"engine_type": "sglang", "num_gpu_blocks": 8, "block_size": 16});
    let split = json!({"prefill-engine-args": engine, "decode-engine-args": engine});
    for keys in [json!({"extra-engine-args": engine}), json!({"num-workers": 2, "extra-engine-args": engine}), split] {
        assert!(!run(&requests, &keys, json!("dynamo")).dead_ends.is_empty());
        for semantics in with("fail_infeasible") {
            let outcome = run(&requests, &keys, semantics);
            use FinalStatus::{Completed, Failed};
            let [first, second, third, rest @ ..] = &statuses(&outcome)[..] else { panic!("five requests") };
            assert_eq!((first, second, rest), (&Completed, &Failed, &[Completed; 2][..]));
            // A decode worker reckons with the prompt alone, and so does a prefill worker that stops at the first token.
            assert!(*third == Failed || keys.get("decode-engine-args").is_some());
            assert!(outcome.dead_ends.is_empty(), "{:?}", outcome.dead_ends);
        }
    }
}

#[test]
fn with_handoff_after_first_token_sglang_decodes_what_is_left() {
    let engine = json!({
        "engine_type": "sglang", "num_gpu_blocks": 64, "block_size": 16, "kv_bytes_per_token": 131_072,
        "kv_transfer_bandwidth": 2.0,
    });
    let keys = json!({"num-decode-workers": 2, "prefill-engine-args": engine, "decode-engine-args": engine});
    let plain = run(&LIGHT, &keys, json!("dynamo"));
    for semantics in with("handoff_after_first_token") {
        let corrected = run(&LIGHT, &keys, semantics);
        assert_eq!(statuses(&corrected), [FinalStatus::Completed; 6]);
        for (record, before) in corrected.records.iter().zip(&plain.records) {
            assert_eq!(record.output_tokens, record.requested_output_tokens);
            assert!(record.first_token < before.first_token, "the first token does not come earlier: {record:?}");
            let handoff = record.handoff.unwrap();
            if record.requested_output_tokens > 1 {
                assert_eq!(record.first_token, handoff.source_held);
                assert!(handoff.destination_reserved <= handoff.prefill_admit, "{record:?}");
                assert!(record.second_token > handoff.destination_activated, "{record:?}");
            } else {
                assert_eq!((handoff.destination_reserved, record.decode_worker), (None, None));
            }
        }
        let gaps: u64 = LIGHT.iter().map(|(_, _, output)| u64::from(output - 1)).sum();
        assert_eq!(corrected.itl.count(), gaps);
    }
}

#[test]
fn with_charge_recompute_an_sglang_decode_worker_pays_for_what_it_computes_again() {
    // Three requests outgrow the decode worker's pages: one gives way and comes back.
    let engine = |blocks: u32| json!({"engine_type": "sglang", "num_gpu_blocks": blocks, "block_size": 16});
    let keys = json!({"prefill-engine-args": engine(200), "decode-engine-args": engine(14)});
    let requests = [(0, 60, 60), (1, 62, 50), (2, 33, 40)];
    let (plain, charged) = (run(&requests, &keys, json!("dynamo")), run(&requests, &keys, only("charge_recompute")));
    assert!(plain.preemptions > 0, "nobody gives way");
    assert_eq!(statuses(&charged), statuses(&plain));
    assert!(charged.end > plain.end);
}
