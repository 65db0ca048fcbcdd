//! What docs/planner-study.md says about the guide's configurations holds.

use std::path::Path;
use std::{env, fs};

use dynosim::report::{Report, SessionNames};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::workload;
use serde_json::{Value, json};

/// The report of one of the guide's configurations over the conversation trace, and its scaling events.
fn study(name: &str, trace: &Path, startup: u32) -> (Report, usize) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    let mut document: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    if startup > 0 {
        document["extra-engine-args"]["startup_time"] = json!(startup);
    }
    document["trace"] = json!(trace);
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new(".")).unwrap();
    let workload = workload::load(&run).unwrap();
    let sessions = SessionNames::of(&workload);
    let mut simulation = Simulation::new(&run, workload).unwrap();
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &[], std::time::Duration::ZERO);
    (report, outcome.scaling_events.len())
}

#[test]
fn the_longer_workers_take_to_start_the_later_first_tokens_come_and_the_fewer_decisions_there_are() {
    let Some(trace) = super::trace("conversation_trace.jsonl", u64::MAX) else { return };
    let runs: Vec<(Report, usize)> = [0, 100, 300].map(|s| study("guide-agg.json", trace.path(), s)).into();
    for pair in runs.windows(2) {
        assert!(pair[1].0.number("p99_ttft_ms").unwrap() > 2.0 * pair[0].0.number("p99_ttft_ms").unwrap());
        assert!(pair[1].1 * 2 < pair[0].1, "{} and then {} events", pair[0].1, pair[1].1);
    }
    let p90 = |run: usize| runs[run].0.number("p90_itl_ms").unwrap();
    assert!(p90(0) < 25.0 && p90(1) > 150.0 && p90(2) > 150.0, "{} {} {}", p90(0), p90(1), p90(2));
    let (disagg, _) = study("guide-disagg.json", trace.path(), 0);
    let ratio = |key: &str| disagg.number(key).unwrap() / runs[0].0.number(key).unwrap();
    assert!(ratio("mean_ttft_ms") > 2.0, "long prompts and short answers suit aggregated workers");
    assert!(ratio("mean_itl_ms") < 0.9, "nothing interrupts a decode worker");
}
