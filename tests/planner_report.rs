//! The planner's diagnostics report: one file that needs nothing else, and a log beside it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

/// A run that scales, its report in `folder`; what was printed.
fn replay(folder: &Path, planner: Value) -> String {
    let mut config = json!({
        "mode": "agg", "optimization_target": "sla", "enable_load_scaling": true, "ttft_ms": 50, "itl_ms": 8,
        "throughput_adjustment_interval_seconds": 10, "load_adjustment_interval_seconds": 2,
        "load_predictor": "constant", "decode_engine_num_gpu": 1, "report_output_dir": folder,
    });
    for (key, value) in planner.as_object().unwrap() {
        config[key] = value.clone();
    }
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.current_dir(folder);
    command.args(["replay", "--input-tokens", "900", "--output-tokens", "60", "--request-count", "400"]);
    command.args(["--request-rate", "12", "--extra-engine-args", r#"{"num_gpu_blocks": 400, "startup_time": 3}"#]);
    command.args(["--report-json", "report.json", "--planner-config", &config.to_string()]);
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// The data within a report.
fn data(html: &str) -> Value {
    let start = html.find(r#"<script type="application/json" id="data">"#).unwrap();
    let text = &html[start..];
    let text = &text[text.find('>').unwrap() + 1..];
    serde_json::from_str(&text[..text.find("</script>").unwrap()]).unwrap()
}

#[test]
fn the_report_is_one_file_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let printed = replay(folder.path(), json!({"report_filename": "out.html"}));
    let path = folder.path().join("out.html");
    assert!(printed.contains(&format!("Planner diagnostics report: {}", path.display())), "{printed}");
    let html = fs::read_to_string(&path).unwrap();
    for outside in ["src=", "href=", "@import", "url(", "fetch(", "{{"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("GPU hours: ").count(), 1);
    let (page, report) = (data(&html), fs::read_to_string(folder.path().join("report.json")).unwrap());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(page["events"].as_array().unwrap().len() > 2, "{}", page["events"]);
    assert_eq!(page["events"].as_array().unwrap().len(), report["scaling_events"].as_array().unwrap().len());
    for column in
        [&page["t"], &page["ticks"], &page["pools"][0]["ready"], &page["ttft"][0], &page["pools"][0]["engines"]]
    {
        assert_eq!(column.as_array().unwrap().len(), report["planner_ticks"].as_u64().unwrap() as usize);
    }
}

#[test]
fn the_log_has_a_line_per_tick() {
    let folder = tempfile::tempdir().unwrap();
    replay(folder.path(), json!({"report_filename": "out.html"}));
    let mut text = String::new();
    let file = fs::File::open(folder.path().join("out.log.jsonl.gz")).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["num_snapshots"], json!(lines.len() - 1));
    assert!(lines[1..].iter().all(|line| line["kind"] == "snapshot" && line["num_decode_replicas"].is_u64()));
    assert!(lines[1..].iter().any(|line| line["scale_to_decode"].is_u64()));
}

#[test]
fn equal_runs_give_equal_reports() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let bytes = folders.each_ref().map(|folder| {
        replay(folder.path(), json!({"report_filename": "out.html", "report_output_dir": "."}));
        ["out.html", "out.log.jsonl.gz"].map(|name| fs::read(folder.path().join(name)).unwrap())
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn nothing_in_a_configuration_ends_the_data_early() {
    let folder = tempfile::tempdir().unwrap();
    replay(folder.path(), json!({"report_filename": "out.html", "model_name": "</script><b>{{script}}"}));
    let page = data(&fs::read_to_string(folder.path().join("out.html")).unwrap());
    assert_eq!(page["config"]["model_name"], "</script><b>{{script}}");
}

#[test]
fn a_report_has_a_dated_name_unless_one_is_given_and_none_is_written_if_unwanted() {
    let folder = tempfile::tempdir().unwrap();
    replay(folder.path(), json!({"report_write_gzip_log": false}));
    let names = |folder: &Path| -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "report.json").collect()
    };
    let [name] = names(folder.path()).try_into().unwrap();
    assert!(name.starts_with("planner_report_19700101_0000") && name.ends_with("_001.html"), "{name}");
    let other = tempfile::tempdir().unwrap();
    let printed = replay(other.path(), json!({"report_interval_hours": null, "live_dashboard_port": 0}));
    assert!(names(other.path()).is_empty() && !printed.contains("diagnostics"));
}
