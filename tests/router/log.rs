//! The decision log on the command line.

use std::fs;

use assert_cmd::Command;
use serde_json::Value;

use super::Trace;

fn replay(trace: &Trace) -> Command {
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.args(["replay", &trace.path, "--trace-block-size", "16", "--num-workers", "2", "--quiet"]);
    command
}

#[test]
fn every_mode_writes_one_line_per_decision_in_order_of_time() {
    let trace = Trace::of_sessions(5, 3);
    let folder = tempfile::tempdir().unwrap();
    for mode in ["round_robin", "kv_router", "random", "least_loaded", "power_of_two", "session_affinity"] {
        let path = folder.path().join(format!("{mode}.jsonl"));
        replay(&trace).current_dir(&folder).args(["--router-mode", mode, "--decisions"]).arg(&path).assert().success();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 15, "{mode}");
        let times: Vec<f64> = lines.iter().map(|line| line["at_ms"].as_f64().unwrap()).collect();
        assert!(times.is_sorted(), "{mode}");
        for line in &lines {
            assert_eq!((line["kind"].as_str(), line["mode"].as_str()), (Some("route"), Some(mode)));
            assert!(line["candidates"][line["chosen"].as_u64().unwrap() as usize].is_object(), "{line}");
            assert_eq!(line["candidates"][0].get("cost").is_some(), mode == "kv_router");
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_before_the_run() {
    let trace = Trace::of_sessions(2, 1);
    let folder = tempfile::tempdir().unwrap();
    let output = replay(&trace).current_dir(&folder).args(["--decisions", "."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this is a folder"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
}
