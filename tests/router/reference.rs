//! Every decision of the reference's KV router, term by term.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::run;

/// Terms that the reference reports, to three decimals.
const TERMS: [&str; 6] =
    ["overlap_blocks", "raw_prefill_blocks", "overlap_credit_blocks", "decode_blocks", "active_request_cost", "cost"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Runs a fixture and compares decision by decision. Of workers that are alike the reference takes any; its fixtures number
/// them in the order in which they were first chosen.
fn differences(name: &str) -> Vec<String> {
    let path = fixtures().join(format!("router/{name}.decisions.json"));
    let fixture: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut scenario: Map<String, Value> = fixture["cli"].as_object().unwrap().clone();
    let trace = fixtures().join(fixture["trace"].as_str().unwrap());
    scenario.insert("trace".to_owned(), json!(trace));
    let (_, ours) = run(&Value::Object(scenario));
    let expected = fixture["decisions"].as_array().unwrap();
    let mut differences = Vec::new();
    if ours.len() != expected.len() {
        differences.push(format!("expected {} decisions, got {}", expected.len(), ours.len()));
    }
    let mut numbers: HashMap<u64, usize> = HashMap::new();
    for (index, (wanted, got)) in expected.iter().zip(&ours).enumerate() {
        let mut check = |what: &str, wanted: &Value, got: &Value, tolerance: f64| {
            let (wanted, got) = (wanted.as_f64().unwrap(), got.as_f64().unwrap());
            if (wanted - got).abs() > tolerance {
                differences.push(format!("decision {index}, {what}: expected {wanted}, got {got}"));
            }
        };
        check("input length", &wanted["input_length"], &got["input_length"], 0.0);
        let chosen = got["chosen"].as_u64().unwrap();
        let next = numbers.len();
        let number = *numbers.entry(chosen).or_insert(next);
        check("choice", &wanted["chosen"], &json!(number), 0.0);
        check("cost of the choice", &wanted["cost"], &got["candidates"][chosen as usize]["cost"], 1e-9);
        for (candidate, number) in &numbers {
            for term in TERMS {
                let wanted = &wanted["candidates"][*number][term];
                check(term, wanted, &got["candidates"][*candidate as usize][term], 0.000_51);
            }
        }
    }
    differences
}

#[test]
fn every_decision_agrees_with_the_reference_in_every_term() {
    let mut failures = Vec::new();
    for name in ["kv_small_2w_default", "kv_small_2w_queue_wspt", "kv_small_3w_decay", "kv_small_evict"] {
        let differences = differences(name);
        if !differences.is_empty() {
            let shown: String = differences.iter().take(5).map(|line| format!("    {line}\n")).collect();
            failures.push(format!("  {name}: {} differences\n{shown}", differences.len()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
}

#[test]
fn which_of_equal_workers_is_taken_changes_nothing_but_their_names() {
    // These cases have ties between workers that are alike in everything only.
    for name in ["kv_small_2w_default", "kv_small_2w_queue_fcfs", "kv_small_3w_scale4", "kv_small_3w_noreuse"] {
        let text = fs::read_to_string(fixtures().join(format!("golden/{name}.json"))).unwrap();
        let fixture: Value = serde_json::from_str(&text).unwrap();
        let rows = |ties: &str, seed: u64| {
            let mut scenario: Map<String, Value> = fixture["cli"].as_object().unwrap().clone();
            scenario.insert("trace".to_owned(), json!(fixtures().join(fixture["trace"].as_str().unwrap())));
            scenario.insert("router-ties".to_owned(), json!(ties));
            scenario.insert("router-seed".to_owned(), json!(seed));
            let (outcome, decisions) = run(&Value::Object(scenario));
            let order: Vec<u64> = decisions.iter().map(|d| d["chosen"].as_u64().unwrap()).collect();
            let mut records = outcome.records;
            records.iter_mut().for_each(|record| record.decode_worker = None);
            (records, order)
        };
        let (lowest, lowest_order) = rows("lowest-id", 0);
        let drawn: Vec<_> = (0..6).map(|seed| rows("random", seed)).collect();
        assert!(drawn.iter().all(|(records, _)| *records == lowest), "{name}");
        assert!(drawn.iter().any(|(_, order)| *order != lowest_order), "{name}: nothing was drawn");
    }
}
