//! The router's queue: who waits, who goes first, what happens when it is full.

use std::fs;

use dynosim::sim::metrics::FinalStatus;
use serde_json::{Value, json};

use super::{Trace, all_completed, run};

/// Requests in the order in which the router let them go.
fn order(decisions: &[Value]) -> Vec<u64> {
    decisions.iter().map(|decision| decision["request"].as_u64().unwrap()).collect()
}

/// Two long prompts that keep both workers busy, then one request per entry: prompt tokens and more fields.
fn crowded(requests: &[(u64, Value)]) -> Trace {
    let busy = [(2_000, json!({})), (2_000, json!({}))];
    Trace::new((0_u64..).zip(busy.iter().chain(requests)).map(|(index, (tokens, fields))| {
        let ids: Vec<u64> = (0..tokens.div_ceil(16)).map(|b| index * 1_000 + b).collect();
        let mut row = json!({"timestamp": index, "input_length": tokens, "output_length": 1, "hash_ids": ids});
        for (key, value) in fields.as_object().unwrap() {
            row[key] = value.clone();
        }
        row
    }))
}

fn queued(trace: &Trace, policy: &str) -> Vec<u64> {
    let keys = json!({
        "num-workers": 2, "router-mode": "kv_router",
        "router-config": {"router_queue_threshold": 0.0, "router_queue_policy": policy},
    });
    let (outcome, decisions) = run(&trace.with(keys));
    assert!(all_completed(&outcome));
    order(&decisions)
}

#[test]
fn each_policy_lets_requests_go_in_its_own_order() {
    let trace = crowded(&[(300, json!({})), (100, json!({})), (200, json!({}))]);
    assert_eq!(queued(&trace, "fcfs"), [0, 1, 2, 3, 4]);
    assert_eq!(queued(&trace, "lcfs"), [0, 1, 4, 3, 2]);
    assert_eq!(queued(&trace, "wspt"), [0, 1, 3, 4, 2]);
}

#[test]
fn a_strict_priority_outranks_everything_and_a_priority_is_worth_a_second() {
    let trace = crowded(&[
        (100, json!({})),
        (100, json!({"priority": 1})),
        (100, json!({"priority": -7})),
        (100, json!({"strict_priority": 1})),
    ]);
    assert_eq!(queued(&trace, "fcfs"), [0, 1, 5, 3, 2, 4]);
    // Twice the weight at more than half the work, and less than half of it.
    let trace = crowded(&[(100, json!({})), (190, json!({"priority": 1})), (210, json!({"priority": 1}))]);
    assert_eq!(queued(&trace, "wspt"), [0, 1, 3, 2, 4]);
}

/// Runs with policy classes `a` and `b`, both with this queue limit; threshold 0 makes every worker with work busy.
fn with_classes(trace: &Trace, limit: Option<u64>) -> (dynosim::sim::metrics::Outcome, Vec<Value>) {
    let class = |name: &str, quantum: u64| {
        json!({
            "name": name, "quantum": quantum, "prefill_busy_threshold": 0, "request_queue_limit_per_worker": limit,
        })
    };
    let mut default = class("default", 1);
    default["policy_family"] = json!("std");
    default["cache_bucket"] = json!("all");
    let policy = json!({
        "default_policy_family": "std",
        "uncached_isl_buckets": [{"min_tokens": 0, "bucket": "all"}],
        "policy_classes": [default, class("a", 100), class("b", 300)],
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    fs::write(&path, policy.to_string()).unwrap();
    run(&trace.with(json!({"num-workers": 2, "router-mode": "kv_router", "router-policy-config": path})))
}

#[test]
fn classes_share_by_their_quanta() {
    // Prompt tokens of classes a and b. The order is the reference's.
    let a = [802, 140, 687];
    let b = [841, 84, 281, 527, 799];
    let requests: Vec<(u64, Value)> = a
        .iter()
        .map(|tokens| (*tokens, json!({"policy_class": "a"})))
        .chain(b.iter().map(|tokens| (*tokens, json!({"policy_class": "b"}))))
        .collect();
    let (outcome, decisions) = with_classes(&crowded(&requests), None);
    assert!(all_completed(&outcome));
    let lengths: Vec<u64> = decisions[2..].iter().map(|d| d["input_length"].as_u64().unwrap()).collect();
    assert_eq!(lengths, CLASS_ORDER);
}

const CLASS_ORDER: [u64; 8] = [841, 84, 281, 527, 802, 799, 140, 687];

#[test]
fn a_full_queue_turns_requests_away_and_the_run_goes_on() {
    let requests: Vec<(u64, Value)> = (0..6).map(|_| (100, json!({"policy_class": "a"}))).collect();
    let (outcome, decisions) = with_classes(&crowded(&requests), Some(2));
    let failed: Vec<u32> =
        outcome.records.iter().filter(|r| r.status == FinalStatus::Failed).map(|r| r.request).collect();
    // Two workers, so four may wait.
    assert_eq!(failed, [6, 7]);
    assert_eq!(order(&decisions), [0, 1, 2, 3, 4, 5]);
    assert_eq!(outcome.dead_ends.len(), 2);
    assert!(outcome.dead_ends[0].contains("queue \"a\" holds 4 requests"), "{:?}", outcome.dead_ends);
}
