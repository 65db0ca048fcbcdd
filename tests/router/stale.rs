//! Signals that arrive late arrive exactly when they should.

use dynosim::sim::metrics::Outcome;
use serde_json::{Value, json};

use super::{Trace, chosen, run};

/// A prompt of four blocks, twice: at 0 and `at` milliseconds.
fn twice(at: f64) -> Trace {
    let row = |at: f64| json!({"timestamp": at, "input_length": 64, "output_length": 9, "hash_ids": [1, 2, 3, 4]});
    Trace::new([row(0.0), row(at)])
}

fn second(trace: &Trace, keys: Value) -> (Outcome, Value) {
    let mut keys = keys;
    keys["router-mode"] = json!("kv_router");
    let (outcome, mut decisions) = run(&trace.with(keys));
    (outcome, decisions.remove(1))
}

/// The candidate that got the first request: the only one that occupies the prompt's blocks.
fn first_worker(decision: &Value) -> &Value {
    decision["candidates"].as_array().unwrap().iter().min_by_key(|c| c["worker"].as_u64()).unwrap()
}

#[test]
fn blocks_are_seen_from_the_start_of_their_pass_and_later_by_the_delay() {
    let trace = twice(10.0);
    let overlap = |delay: f64| {
        let keys = json!({"router-kv-event-delay-ms": delay, "router-ties": "lowest-id"});
        let (_, decision) = second(&trace, keys);
        first_worker(&decision)["overlap_blocks"].as_u64().unwrap()
    };
    // The first pass begins at 0 and ends after the second request came.
    assert_eq!(overlap(0.0), 4);
    assert_eq!(overlap(9.999_999), 4);
    assert_eq!(overlap(10.0), 4, "what is due at an instant is seen by requests of that instant");
    assert_eq!(overlap(10.000_001), 0);
}

#[test]
fn the_end_of_a_prefill_is_seen_at_its_pass_end_and_later_by_the_delay() {
    let (outcome, _) = run(&twice(10.0).with(json!({"router-mode": "kv_router", "router-ties": "lowest-id"})));
    let first_token = outcome.records[0].first_token.unwrap().as_ms();
    let load = |since: f64, delay: f64| {
        let keys = json!({"router-load-delay-ms": delay, "router-ties": "lowest-id"});
        let (_, decision) = second(&twice(first_token + since), keys);
        // Prefill of the second request alone is four blocks.
        first_worker(&decision)["raw_prefill_blocks"].as_f64().unwrap() - 4.0
    };
    assert_eq!(load(-0.000_001, 0.0), 4.0);
    assert_eq!(load(0.0, 0.0), 0.0);
    assert_eq!(load(5.0, 4.999_999), 0.0);
    assert_eq!(load(5.0, 5.0), 0.0);
    assert_eq!(load(5.0, 5.000_001), 4.0);
}

#[test]
fn a_placement_is_known_at_once_however_late_signals_are() {
    let (_, decision) = second(&twice(0.0), json!({"router-load-delay-ms": 1e6, "router-ties": "lowest-id"}));
    assert_eq!(first_worker(&decision)["decode_blocks"], json!(4.0));
    assert_eq!(first_worker(&decision)["raw_prefill_blocks"], json!(8.0));
}

#[test]
fn a_request_waits_at_the_router_until_the_late_signal_arrives() {
    // Both workers are busy from the first moment on; the third request goes when the first prefill is over.
    let trace = Trace::of_strangers([(0.0, 160), (0.0, 320), (1.0, 32)]);
    let released = |delay: f64| {
        let (outcome, decisions) = run(&trace.with(json!({
            "num-workers": 2, "router-mode": "kv_router", "router-config": {"router_queue_threshold": 0.0},
            "router-load-delay-ms": delay,
        })));
        let first_token = outcome.records.iter().filter_map(|r| r.first_token).min().unwrap().as_ms();
        let decision = &decisions[2];
        let at = decision["at_ms"].as_f64().unwrap();
        assert!((decision["queued_ms"].as_f64().unwrap() - (at - 1.0)).abs() < 1e-9);
        at - first_token
    };
    assert!(released(0.0).abs() < 1e-9);
    // The first request ends before the signal of its first token arrives: the wait is the same.
    for delay in [0.000_001, 3.5, 250.0] {
        assert!((released(delay) - delay).abs() < 1e-6, "{delay}");
    }
}

#[test]
fn late_load_makes_least_loaded_and_power_of_two_blind_to_ends() {
    let trace = Trace::of_strangers([(0.0, 40), (5_000.0, 40)]);
    for mode in ["least_loaded", "power_of_two"] {
        let counted = |delay: f64| {
            let (_, decisions) = run(&trace.with(json!({
                "num-workers": 2, "router-mode": mode, "router-ties": "lowest-id", "router-load-delay-ms": delay,
            })));
            let counts = decisions[1]["candidates"].as_array().unwrap();
            (counts[0]["requests_in_flight"].as_u64().unwrap(), chosen(&decisions[1])["worker"].as_u64().unwrap())
        };
        assert_eq!(counted(0.0), (0, 0), "{mode}");
        assert_eq!(counted(6_000.0), (1, 1), "{mode}");
    }
}
