//! The program: exit codes, what goes to which stream, flags over files, and no panic on odd input.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, ends_with, is_empty};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Three requests, the last of which shares a prefix with the first.
const TRACE: &str = r#"{"timestamp": 0, "input_length": 600, "output_length": 4, "hash_ids": [1, 2]}
{"timestamp": 10, "input_length": 100, "output_length": 3, "hash_ids": [3]}
{"timestamp": 500, "input_length": 600, "output_length": 2, "hash_ids": [1, 4]}
"#;

/// A working folder with a trace in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.jsonl"), TRACE).unwrap();
    folder
}

fn dynosim(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.current_dir(folder).env_remove("DYNOSIM_LOG");
    command
}

/// `dynosim replay t.jsonl` with the report in `r.json`.
fn replay(folder: &Path) -> Command {
    let mut command = dynosim(folder);
    command.args(["replay", "t.jsonl", "--report-json", "r.json"]);
    command
}

fn report(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn results_go_to_standard_output_and_nothing_else_does() {
    let folder = folder();
    replay(folder.path())
        .assert()
        .code(0)
        .stdout(contains("Time to First Token (ms)").and(ends_with("Saved full report to: r.json\n")))
        .stderr(is_empty());
    assert_eq!(report(folder.path(), "r.json")["completed_requests"], json!(3));
}

#[test]
fn warnings_go_to_standard_error_and_quiet_silences_them() {
    let folder = folder();
    let odd = ["--extra-engine-args", r#"{"speedup_ratio": 0}"#];
    replay(folder.path()).args(odd).assert().code(0).stderr(contains("warning: ").and(contains("speedup_ratio")));
    replay(folder.path()).args(odd).arg("--quiet").assert().code(0).stderr(is_empty()).stdout(contains("Saved"));
}

#[test]
fn a_progress_bar_never_shows_when_piped() {
    let folder = folder();
    replay(folder.path()).arg("--progress").assert().code(0).stderr(is_empty());
}

#[test]
fn the_report_has_a_dated_name_unless_given_and_goes_into_a_folder_that_exists() {
    let folder = folder();
    dynosim(folder.path()).args(["replay", "t.jsonl"]).assert().code(0);
    let dated = |dir: &Path| {
        files(dir)
            .into_iter()
            .filter(|f| f.file_name().unwrap().to_str().unwrap().starts_with("dynosim_report_2"))
            .count()
    };
    assert_eq!(dated(folder.path()), 1);
    fs::create_dir(folder.path().join("out")).unwrap();
    dynosim(folder.path()).args(["replay", "t.jsonl", "--report-json", "out"]).assert().code(0);
    assert_eq!(dated(&folder.path().join("out")), 1);
    dynosim(folder.path()).args(["replay", "t.jsonl", "--report-json", "a/b/r.json"]).assert().code(0);
    assert!(folder.path().join("a/b/r.json").is_file());
}

#[test]
fn rows_and_a_time_series_are_written_on_request() {
    let folder = folder();
    replay(folder.path())
        .args(["--report-jsonl", "rows.jsonl", "--timeseries", "series.csv", "--timeseries-interval", "0.1"])
        .assert()
        .code(0);
    assert_eq!(fs::read_to_string(folder.path().join("rows.jsonl")).unwrap().lines().count(), 3);
    assert!(fs::read_to_string(folder.path().join("series.csv")).unwrap().lines().count() > 5);
}

#[test]
fn the_way_a_run_is_observed_does_not_change_it() {
    let folder = folder();
    let comparable = || {
        let mut report = report(folder.path(), "r.json");
        for key in ["wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"] {
            report.as_object_mut().unwrap().remove(key);
        }
        report
    };
    replay(folder.path()).assert().code(0);
    let plain = comparable();
    replay(folder.path()).args(["--timeseries", "s.csv", "--timeseries-interval", "0.007"]).assert().code(0);
    assert_eq!(plain, comparable());
}

#[test]
fn wrong_usage_and_wrong_input_exit_with_two() {
    let folder = folder();
    fs::write(folder.path().join("bad.jsonl"), "{\"timestamp\": 0}\n").unwrap();
    for args in [
        vec!["replay", "--no-such-flag"],
        vec!["replay"],
        vec!["replay", "missing.jsonl"],
        vec!["replay", "bad.jsonl"],
        vec!["replay", "t.jsonl", "--config", "missing.json"],
        vec!["replay", "t.jsonl", "--num-workers", "0"],
        vec!["replay", "t.jsonl", "--num-workers", "99999999999999999999999"],
        vec!["replay", "t.jsonl", "--seed", "99999999999999999999999"],
        vec!["replay", "t.jsonl", "--num-workers", "-1"],
        vec!["replay", "t.jsonl", "--sla-ttft-ms", "nan"],
        vec!["replay", "t.jsonl", "--sla-ttft-ms", "-1"],
        vec!["replay", "t.jsonl", "--max-sim-time-seconds", "1e300"],
        vec!["replay", "t.jsonl", "--extra-engine-args", "{"],
        vec!["replay", "t.jsonl", "--extra-engine-args", "missing.json"],
        vec!["replay", "t.jsonl", "--extra-engine-args", ""],
        vec!["replay", "t.jsonl", "--trace-format", "csv"],
        vec!["replay", "t.jsonl", "t.jsonl"],
        vec!["replay", "t.jsonl", "--timeseries-interval", "0"],
        vec!["scenario", "check", "missing.json"],
        vec!["scenario", "check", "t.jsonl"],
    ] {
        let assert = dynosim(folder.path()).args(&args).assert().code(2).stdout(is_empty());
        let stderr = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(!stderr.is_empty() && !stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    assert!(
        files(folder.path()).iter().all(|f| f.extension().is_some_and(|e| e == "jsonl")),
        "no report is left behind"
    );
}

#[test]
fn an_error_is_one_plain_line_that_names_place_key_cause_and_cure() {
    let folder = folder();
    fs::write(folder.path().join("s.json"), r#"{"trace": "t.jsonl", "num_workers": 2}"#).unwrap();
    dynosim(folder.path())
        .args(["replay", "--config", "s.json"])
        .assert()
        .code(2)
        .stderr("error: s.json, `num_workers`: unknown key; did you mean `num-workers`?\n");
    replay(folder.path())
        .args(["--extra-engine-args", r#"{"block_size": 1}"#])
        .assert()
        .code(2)
        .stderr(
            "error: command line, `extra-engine-args.block_size`: is 1, which the vllm scheduler cannot use; give 2 or more\n",
        );
    replay(folder.path()).args(["--router-config", r#"{"overlap_credit": 2}"#]).assert().code(2).stderr(
        "error: command line, `router-config.overlap_credit`: unknown key; did you mean `overlap_score_credit`?\n",
    );
}

#[test]
fn help_and_version_are_no_errors() {
    let folder = folder();
    dynosim(folder.path()).arg("--version").assert().code(0).stdout(contains("dynosim")).stderr(is_empty());
    dynosim(folder.path()).args(["replay", "--help"]).assert().code(0).stdout(contains("--extra-engine-args"));
}

#[test]
fn every_key_of_the_schema_but_the_version_is_a_flag() {
    let folder = folder();
    let schema = dynosim(folder.path()).args(["scenario", "schema"]).assert().code(0).stderr(is_empty());
    let schema: Value = serde_json::from_slice(&schema.get_output().stdout).unwrap();
    let help = dynosim(folder.path()).args(["replay", "--help"]).assert().code(0);
    let help = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
    for key in schema["properties"].as_object().unwrap().keys().filter(|k| !["version", "trace"].contains(&k.as_str()))
    {
        assert!(help.contains(&format!("--{key} ")), "{key}");
    }
}

#[test]
fn a_flag_replaces_the_whole_value_of_its_key() {
    let folder = folder();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let document = json!({
        "version": 1, "trace": "../t.jsonl", "num-workers": 2, "report-json": "r.json",
        "extra-engine-args": { "aic_tp_size": 4, "dp_size": 2 },
    });
    fs::write(inner.join("s.json"), document.to_string()).unwrap();
    dynosim(folder.path()).args(["replay", "--config", "inner/s.json"]).assert().code(0);
    assert_eq!(report(&inner, "r.json")["decode_gpus_per_worker"], json!(8));
    dynosim(folder.path())
        .args(["replay", "--config", "inner/s.json", "--report-json", "x.json"])
        .args(["--extra-engine-args", r#"{"aic_tp_size": 2}"#])
        .assert()
        .code(0);
    assert_eq!(report(folder.path(), "x.json")["decode_gpus_per_worker"], json!(2));
}

#[test]
fn checking_a_scenario_prints_it_with_every_default_and_that_runs_alike() {
    let folder = folder();
    let document = json!({ "trace": "t.jsonl", "extra-engine-args": { "block_size": 16 }, "report-json": "one.json" });
    fs::write(folder.path().join("s.json"), document.to_string()).unwrap();
    let checked = dynosim(folder.path()).args(["scenario", "check", "s.json"]).assert().code(0).stderr(is_empty());
    let text = checked.get_output().stdout.clone();
    let full: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(full["extra-engine-args"]["num_gpu_blocks"], json!(16_384));
    assert_eq!(full["report-json"], json!("one.json"));
    fs::write(folder.path().join("full.json"), text).unwrap();
    dynosim(folder.path()).args(["replay", "--config", "s.json"]).assert().code(0);
    dynosim(folder.path()).args(["replay", "--config", "full.json", "--report-json", "two.json"]).assert().code(0);
    let (one, two) = (report(folder.path(), "one.json"), report(folder.path(), "two.json"));
    assert_eq!((&one["mean_ttft_ms"], &one["num_requests"]), (&two["mean_ttft_ms"], &two["num_requests"]));
    assert!(one["mean_ttft_ms"].is_number());
}

#[test]
fn synthetic_traffic_and_presets_run_from_flags_alone() {
    let folder = folder();
    dynosim(folder.path())
        .args(["replay", "--input-tokens", "64", "--output-tokens", "4", "--request-count", "5"])
        .args(["--request-rate", "10", "--report-json", "a.json"])
        .assert()
        .code(0);
    assert_eq!(report(folder.path(), "a.json")["completed_requests"], json!(5));
    dynosim(folder.path())
        .args(["replay", "--workload", r#"{"preset": "agent", "sessions": 2}"#, "--report-json", "b.json"])
        .args(["--semantics", "corrected", "--seed", "3", "--num-workers", "2"])
        .args(["--scaling", r#"{"interval_ms": 1000, "steps": [{"from_ms": 0, "target_decode": 1}]}"#])
        .assert()
        .code(0);
    assert!(report(folder.path(), "b.json")["completed_requests"].as_u64().unwrap() >= 2);
}

#[test]
fn separate_pools_run_as_the_guide_types_them() {
    let folder = folder();
    replay(folder.path())
        .args(["--prefill-engine-args", "{}", "--decode-engine-args", "{}"])
        .args(["--num-prefill-workers", "1", "--num-decode-workers", "2"])
        .assert()
        .code(0);
    assert_eq!(report(folder.path(), "r.json")["completed_requests"], json!(3));
}

#[test]
fn shipped_scenarios_run() {
    let folder = folder();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for name in ["quickstart.json", "quickstart-disagg.json"] {
        dynosim(folder.path())
            .args(["replay", "--config"])
            .arg(configs.join(name))
            .args(["--report-json", "q.json"])
            .assert()
            .code(0);
        assert!(report(folder.path(), "q.json")["goodput_completed_requests"].as_u64().unwrap() > 0, "{name}");
    }
}

#[test]
fn a_report_that_cannot_be_written_exits_with_one() {
    let folder = folder();
    fs::write(folder.path().join("file"), "").unwrap();
    replay(folder.path()).args(["--report-jsonl", "file/rows.jsonl"]).assert().code(1).stderr(contains("rows.jsonl"));
}

#[test]
fn requests_lost_to_a_dead_end_exit_with_one_and_the_report_is_still_written() {
    let folder = folder();
    dynosim(folder.path())
        .args(["replay", "--input-tokens", "140", "--output-tokens", "100", "--request-count", "2"])
        .args(["--request-rate", "5", "--extra-engine-args", r#"{"block_size": 16, "num_gpu_blocks": 10}"#])
        .args(["--report-json", "r.json"])
        .assert()
        .code(1)
        .stdout(ends_with("Saved full report to: r.json\n"))
        .stderr(contains("warning: dead end"));
    assert_eq!(report(folder.path(), "r.json")["num_requests"], json!(2));
}

#[test]
fn every_trace_format_is_replayed_by_its_name_and_by_its_content() {
    let text = include_str!("../docs/traces.md");
    let mut count = 0;
    for block in text.split("\n```").filter(|block| block.contains(" title=")) {
        let (info, example) = block.split_once('\n').unwrap();
        let format = info.split_once(" title=").unwrap().1;
        let folder = folder();
        fs::write(folder.path().join("a-trace.csv"), example).unwrap();
        let dataset = r#"{"0": {"input_tokens": "{7: 1.0}", "output_tokens": "{5: 1.0}"}}"#;
        fs::write(folder.path().join("a-dataset.json"), dataset).unwrap();
        let more: &[&str] = match format {
            "applied_compute_agentic" | "kv_cache_tester" => &["--replay-concurrency", "2"],
            "servegen" => &["--trace-window", "..3"],
            _ => &[],
        };
        let run = |report_name: &str, named: &[&str]| {
            let args = ["replay", "a-trace.csv", "--report-json", report_name, "--report-jsonl", "rows.jsonl"];
            dynosim(folder.path()).args(args).args(more).args(named).assert().code(0);
            let mut report = report(folder.path(), report_name);
            for key in ["warnings", "wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"] {
                report.as_object_mut().unwrap().remove(key);
            }
            (report, fs::read_to_string(folder.path().join("rows.jsonl")).unwrap())
        };
        let (named, rows) = run("named.json", &["--trace-format", format]);
        let requests = named["num_requests"].as_u64().unwrap();
        assert!(requests > 0 && named["completed_requests"] == requests, "{format}: {named}");
        assert_eq!(rows.lines().count() as u64, requests, "{format}");
        // Deltas look like whole prompts, and must be named.
        if format != "mooncake-delta" {
            assert_eq!(run("found.json", &[]), (named, rows), "{format}");
        }
        count += 1;
    }
    assert_eq!(count, 10);
}
