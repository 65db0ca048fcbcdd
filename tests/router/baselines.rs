//! The simple modes: what each promises, shown on its own decisions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Trace, all_completed, chosen, run};

const MODES: [&str; 4] = ["random", "least_loaded", "power_of_two", "session_affinity"];

fn in_flight(candidate: &Value) -> u64 {
    candidate["requests_in_flight"].as_u64().unwrap()
}

#[test]
fn every_mode_serves_every_request_in_every_kind_of_fleet() {
    let trace = Trace::of_sessions(8, 4);
    let split = json!({"num_gpu_blocks": 128, "block_size": 16});
    let fleets = [
        json!({}),
        json!({"num-workers": 1}),
        json!({"replay-concurrency": 3}),
        json!({"extra-engine-args": {"block_size": 16, "num_gpu_blocks": 64, "dp_size": 2}}),
        json!({
            "num-workers": null, "extra-engine-args": null, "num-prefill-workers": 2, "num-decode-workers": 3,
            "prefill-engine-args": split, "decode-engine-args": split,
        }),
        json!({"scaling": {"interval_ms": 40, "steps": [
            {"from_ms": 0, "target_decode": 4}, {"from_ms": 100, "target_decode": 1}, {"from_ms": 300, "target_decode": 3},
        ]}}),
    ];
    for mode in MODES {
        for fleet in &fleets {
            let mut keys = fleet.clone();
            keys["router-mode"] = json!(mode);
            let (outcome, decisions) = run(&trace.with(keys));
            let pools = if fleet.get("prefill-engine-args").is_some() { 2 } else { 1 };
            assert!(all_completed(&outcome) && outcome.dead_ends.is_empty(), "{mode}, {fleet}");
            assert_eq!(decisions.len(), 32 * pools, "{mode}, {fleet}");
        }
    }
}

#[test]
fn a_draining_worker_gets_no_more_requests_in_any_mode() {
    let requests: Vec<(f64, u64)> = (0..60).map(|i| (f64::from(i) * 10.0, 100)).collect();
    let trace = Trace::of_strangers(requests);
    let scaling = json!({"interval_ms": 50, "steps": [{"from_ms": 200, "target_decode": 1}]});
    for mode in MODES.into_iter().chain(["round_robin", "kv_router"]) {
        let (outcome, decisions) = run(&trace.with(json!({"router-mode": mode, "scaling": scaling})));
        assert!(all_completed(&outcome), "{mode}");
        for decision in &decisions {
            // The tick comes last at its instant, so requests of that instant still see everybody.
            let workers = if decision["at_ms"].as_f64().unwrap() > 200.0 { 1 } else { 3 };
            assert_eq!(decision["candidates"].as_array().unwrap().len(), workers, "{mode}: {decision}");
        }
    }
}

#[test]
fn random_takes_every_worker_and_another_seed_another_order() {
    let trace = Trace::of_strangers((0..60).map(|i| (f64::from(i), 40)));
    let order = |seed: u64| {
        let (_, decisions) = run(&trace.with(json!({"router-mode": "random", "router-seed": seed})));
        decisions.iter().map(|d| chosen(d)["worker"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let one = order(1);
    assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(one, order(1));
    assert_ne!(one, order(2));
}

#[test]
fn least_loaded_takes_a_worker_with_the_fewest_requests_in_flight() {
    let trace = Trace::of_strangers((0..40).map(|i| (f64::from(i * i) * 0.4, 40 + i as u64 * 20)));
    let (_, decisions) = run(&trace.with(json!({"router-mode": "least-loaded"})));
    let mut busiest = 0;
    for decision in &decisions {
        let counts: Vec<u64> = decision["candidates"].as_array().unwrap().iter().map(in_flight).collect();
        let least = counts.iter().min().unwrap();
        assert_eq!(in_flight(chosen(decision)), *least, "{decision}");
        assert_eq!(decision["tied"].as_u64().unwrap(), counts.iter().filter(|n| *n == least).count() as u64);
        busiest = busiest.max(*counts.iter().max().unwrap());
    }
    assert!(busiest > 1, "nothing to choose by");
    // When everything before is over, nothing is in flight.
    let (_, last) =
        run(&Trace::of_strangers([(0.0, 40), (0.0, 40), (5_000.0, 40)]).with(json!({"router-mode": "least_loaded"})));
    assert!(last[2]["candidates"].as_array().unwrap().iter().all(|candidate| in_flight(candidate) == 0));
}

#[test]
fn power_of_two_takes_the_better_of_two_different_workers() {
    let trace = Trace::of_strangers((0..60).map(|i| (f64::from(i), 200)));
    let (_, decisions) = run(&trace.with(json!({"router-mode": "power-of-two", "num-workers": 5})));
    let mut pairs = BTreeSet::new();
    for decision in &decisions {
        let drawn = |candidate: &&Value| candidate["drawn"].as_bool().unwrap();
        let pair: Vec<&Value> = decision["candidates"].as_array().unwrap().iter().filter(drawn).collect();
        assert_eq!(pair.len(), 2, "{decision}");
        assert!(chosen(decision)["drawn"].as_bool().unwrap());
        assert_eq!(in_flight(chosen(decision)), pair.iter().map(|c| in_flight(c)).min().unwrap(), "{decision}");
        pairs.insert(pair.iter().map(|c| c["worker"].as_u64().unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(pairs.len(), 10, "every pair of five is drawn");
}

#[test]
fn session_affinity_keeps_the_turns_of_a_session_together_and_spreads_sessions() {
    let trace = Trace::of_sessions(7, 5);
    let (outcome, _) = run(&trace.with(json!({"router-mode": "session-affinity"})));
    let mut homes: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for record in &outcome.records {
        homes.entry(record.session_turn.unwrap().0).or_default().insert(record.decode_worker.unwrap());
    }
    assert!(homes.values().all(|workers| workers.len() == 1), "{homes:?}");
    let firsts: Vec<u32> = homes.values().map(|workers| *workers.first().unwrap()).collect();
    assert_eq!(firsts, [0, 1, 2, 0, 1, 2, 0], "sessions begin in turn");
}
