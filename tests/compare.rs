//! `dynosim compare`: figures are those of the reports, pages need nothing else, one bad scenario does not cost the others.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Report keys that say how fast the simulator was.
const WALL_KEYS: [&str; 3] = ["wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"];

/// Two scenarios of one load: two workers, and one of each kind that scales.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let load = json!({
        "version": 1, "input-tokens": 900, "output-tokens": 40, "request-count": 200, "request-rate": 6.0,
        "sla-ttft-ms": 400, "cost": {"usd_per_gpu_hour": 2},
    });
    let mut agg = load.clone();
    agg["num-workers"] = json!(2);
    let mut disagg = load;
    disagg["prefill-engine-args"] = json!({});
    disagg["decode-engine-args"] = json!({"startup_time": 3});
    disagg["scaling"] = json!({"interval_ms": 1000, "steps": [{"from_ms": 5000, "target_decode": 2}]});
    for (name, document) in [("agg", agg), ("disagg", disagg)] {
        fs::write(folder.path().join(format!("{name}.json")), document.to_string()).unwrap();
    }
    folder
}

fn dynosim(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.current_dir(folder).env_remove("DYNOSIM_LOG").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a comparison that must succeed in silence; what it printed.
fn compare(folder: &Path, args: &[&str]) -> String {
    let output = dynosim(folder, &[&["compare"], args].concat());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    text(&output.stdout)
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn json_of(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&read(folder, name)).unwrap()
}

/// The data within a page.
fn data(html: &str) -> Value {
    let start = html.find(r#"<script type="application/json" id="data">"#).unwrap();
    let rest = &html[start..];
    let rest = &rest[rest.find('>').unwrap() + 1..];
    serde_json::from_str(&rest[..rest.find("</script>").unwrap()]).unwrap()
}

#[test]
fn figures_are_those_of_the_reports() {
    let folder = folder();
    let at = folder.path();
    compare(at, &["agg.json", "disagg.json", "--report-json", "c.json"]);
    let all = json_of(at, "c.json");
    assert_eq!(all["baseline"], "agg");
    for (index, name) in ["agg", "disagg"].iter().enumerate() {
        dynosim(at, &["replay", "--config", &format!("{name}.json"), "--report-json", "r.json"]);
        let (mut report, run) = (json_of(at, "r.json"), &all["runs"][index]);
        assert_eq!((&run["name"], &run["kind"]), (&json!(name), &json!("scenario")));
        for key in ["mean_ttft_ms", "p99_ttft_ms", "p90_itl_ms", "output_throughput_tok_s", "gpu_hours"] {
            assert_eq!(run["figures"][key], report[key], "{name}, {key}");
        }
        let figure = |key: &str| run["figures"][key].as_f64().unwrap();
        let number = |key: &str| report[key].as_f64().unwrap();
        let good = number("goodput_completed_requests");
        assert_eq!(figure("goodput_per_gpu_hour"), good / number("gpu_hours"));
        assert_eq!(figure("sla_attainment_percent"), good / 200.0 * 100.0);
        assert_eq!(figure("scaling_events"), if index == 0 { 0.0 } else { 1.0 });
        assert_eq!(figure("estimated_usd"), report["cost_estimate"]["estimated_usd"].as_f64().unwrap());
        let pools: f64 = ["aggregated_gpu_hours", "prefill_gpu_hours", "decode_gpu_hours"]
            .iter()
            .filter_map(|key| run["figures"][*key].as_f64())
            .sum();
        assert!((pools / number("gpu_hours") - 1.0).abs() < 1e-12);
        let mut shown = run["report"].clone();
        for key in WALL_KEYS {
            report.as_object_mut().unwrap().shift_remove(key).unwrap();
            shown.as_object_mut().unwrap().shift_remove(key).unwrap();
        }
        assert_eq!(shown, report);
    }
    // Changes and the best follow from the figures.
    let (first, second) = (&all["runs"][0]["figures"], &all["runs"][1]);
    let change = second["change_percent"]["gpu_hours"].as_f64().unwrap();
    let ratio = second["figures"]["gpu_hours"].as_f64().unwrap() / first["gpu_hours"].as_f64().unwrap();
    assert_eq!(change, (ratio - 1.0) * 100.0);
    assert_eq!(all["best"]["gpu_hours"], json!([if ratio < 1.0 { "disagg" } else { "agg" }]));
}

#[test]
fn the_table_has_a_column_per_run_and_marks_the_best() {
    let folder = folder();
    let printed = compare(folder.path(), &["agg.json", "disagg.json", "--names", "both in one,apart"]);
    let line =
        |label: &str| printed.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("{label}: {printed}"));
    assert!(line("Metric").contains("both in one") && line("Metric").contains("apart"));
    for label in
        ["TTFT p99 (ms)", "ITL p90 (ms)", "GPU-hours, total", "Good requests per GPU-hour", "Cost, estimate (USD)"]
    {
        assert!(line(label).contains('%') && line(label).matches('*').count() == 1, "{}", line(label));
    }
    assert!(line("GPU-hours, prefill").contains("N/A") && !line("Scaling events").contains('%'));
    assert!(printed.contains("* best; percentages are changes against both in one\n"));
    assert!(printed.contains("Estimates (both in one, apart): 2 USD per GPU and hour, as given"), "{printed}");
    assert!(!printed.contains("Wall Time"));
}

#[test]
fn equal_comparisons_give_equal_bytes() {
    let folder = folder();
    let at = folder.path();
    let args = ["agg.json", "disagg.json", "agg.json", "--html", "c.html", "--report-json", "c.json"];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let printed = compare(at, &args);
        let mut all = json_of(at, "c.json");
        for run in all["runs"].as_array_mut().unwrap() {
            WALL_KEYS.iter().for_each(|key| run["report"][*key] = Value::Null);
        }
        seen.push((printed, all, read(at, "c.html")));
    }
    assert!(seen[0] == seen[1]);
    assert!(seen[0].0.contains("agg (2)"));
    // A run beside itself: no change, and nobody is better.
    let runs = seen[0].1["runs"].as_array().unwrap();
    assert_eq!(runs[0]["figures"], runs[2]["figures"]);
}

#[test]
fn watching_a_run_for_the_page_does_not_change_it() {
    let folder = folder();
    let at = folder.path();
    let table =
        |printed: String| printed.lines().filter(|line| !line.starts_with("Saved")).collect::<Vec<_>>().join("\n");
    assert_eq!(
        table(compare(at, &["agg.json", "disagg.json"])),
        table(compare(at, &["agg.json", "disagg.json", "--html", "c.html"]))
    );
}

#[test]
fn the_page_is_one_well_formed_file_that_needs_nothing_else() {
    let folder = folder();
    let at = folder.path();
    compare(at, &["agg.json", "disagg.json", "--names", "</script><!-- & co,b", "--html", "c.html"]);
    let html = read(at, "c.html");
    for outside in ["src=", "href=", "@import", "url(", "fetch(", "{{", "http-equiv"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Without what scripts and styles hold, it is XML but for tags that need no end.
    let mut markup = html.strip_prefix("<!DOCTYPE html>\n").unwrap().to_owned();
    for tag in ["script", "style"] {
        let mut rest = std::mem::take(&mut markup);
        while let Some(start) = rest.find(&format!("<{tag}")) {
            let open = start + rest[start..].find('>').unwrap() + 1;
            let end = open + rest[open..].find(&format!("</{tag}>")).unwrap();
            markup.push_str(&rest[..open]);
            rest = rest[end..].to_owned();
        }
        markup.push_str(&rest);
    }
    let markup: Vec<String> = markup
        .lines()
        .map(|line| if line.starts_with("<meta ") { line.replace('>', "/>") } else { line.to_owned() })
        .collect();
    roxmltree::Document::parse(&markup.join("\n")).unwrap();

    let page = data(&html);
    assert_eq!(page["runs"][0]["name"], "</script><!-- & co");
    let len = |value: &Value| value.as_array().unwrap().len();
    for index in 0..2 {
        assert_eq!(len(&page["ttft"][index]), 101);
        assert_eq!(len(&page["itl"][index]), 101);
        assert_eq!(len(&page["over"]["gpus"][index]), len(&page["t"]));
        for curve in ["ttft", "itl", "tokens", "good"] {
            assert_eq!(len(&page["over"][curve][index]), len(&page["spans"]), "{curve}");
        }
    }
    assert!(len(&page["spans"]) <= 129 && len(&page["t"]) <= 513);
    let pools: Vec<&str> =
        page["over"]["ready"].as_array().unwrap().iter().map(|line| line["pool"].as_str().unwrap()).collect();
    assert_eq!(pools, ["aggregated", "prefill", "decode"]);
    // The second decode worker starts at 5 s and takes requests from 8 s on.
    let at_s = |curve: &Value, second: f64| {
        let times = page["t"].as_array().unwrap();
        curve[times.iter().position(|t| t.as_f64().unwrap() >= second).unwrap()].as_f64().unwrap()
    };
    let decode = &page["over"]["ready"][2]["values"];
    assert_eq!((at_s(decode, 7.0), at_s(decode, 9.0)), (1.0, 2.0));
    assert_eq!(at_s(&page["over"]["gpus"][1], 7.0), 3.0);
}

#[test]
fn rates_over_time_add_up_to_the_totals() {
    let folder = folder();
    let at = folder.path();
    compare(at, &["agg.json", "disagg.json", "--html", "c.html", "--report-json", "c.json"]);
    let (page, all) = (data(&read(at, "c.html")), json_of(at, "c.json"));
    let span = page["spans"][1].as_f64().unwrap();
    for index in 0..2 {
        let report = &all["runs"][index]["report"];
        for (curve, total) in [("tokens", "total_output_tokens"), ("good", "goodput_completed_requests")] {
            let values = page["over"][curve][index].as_array().unwrap().iter().filter_map(Value::as_f64);
            let (sum, total) = (values.sum::<f64>() * span, report[total].as_f64().unwrap());
            assert!((sum / total - 1.0).abs() < 1e-3, "{curve}: {sum}, not {total}");
        }
    }
}

#[test]
fn a_report_stands_beside_a_scenario_without_curves_over_time() {
    let folder = folder();
    let at = folder.path();
    dynosim(at, &["replay", "--config", "disagg.json", "--report-json", "old.json"]);
    let printed = compare(at, &["disagg.json", "old.json", "--html", "c.html", "--report-json", "c.json"]);
    assert!(printed.contains("Goodput of old is judged by the bounds of the run that wrote the report"), "{printed}");
    let (all, page) = (json_of(at, "c.json"), data(&read(at, "c.html")));
    assert_eq!(all["runs"][0]["figures"], all["runs"][1]["figures"]);
    assert_eq!((&all["runs"][1]["kind"], &all["runs"][1]["sla"]), (&json!("report"), &Value::Null));
    assert_eq!((&page["over"]["ttft"][1], &page["runs"][1]["simulated"]), (&Value::Null, &json!(false)));
    assert_eq!(page["ttft"][1][90], page["ttft"][0][90]);
    assert_eq!(page["ttft"][1][91], Value::Null);
    // Reports alone need no simulation at all.
    compare(at, &["old.json", "--html", "c.html"]);
    assert_eq!(data(&read(at, "c.html"))["t"], json!([]));
}

#[test]
fn bounds_and_prices_of_the_command_line_hold_for_every_scenario() {
    let folder = folder();
    let at = folder.path();
    let cost = r#"{"usd_per_gpu_hour": 7}"#;
    compare(at, &["agg.json", "disagg.json", "--sla-ttft-ms", "0", "--cost", cost, "--report-json", "c.json"]);
    for run in json_of(at, "c.json")["runs"].as_array().unwrap() {
        assert_eq!((&run["figures"]["sla_attainment_percent"], &run["sla"]["ttft_ms"]), (&json!(0.0), &json!(0.0)));
        let (usd, hours) = (&run["figures"]["estimated_usd"], &run["figures"]["gpu_hours"]);
        assert!((usd.as_f64().unwrap() / hours.as_f64().unwrap() - 7.0).abs() < 1e-12);
    }
}

#[test]
fn one_bad_scenario_does_not_cost_the_others_their_results() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("typo.json"), "{\"version\": 1,\n \"num-worker\": 2}").unwrap();
    fs::write(at.join("torn.json"), "{\"version\": 1,\n \"num-workers\": 2,\n").unwrap();
    fs::write(at.join("half.json"), r#"{"completed_requests": 3, "num_requests": 3}"#).unwrap();
    let output = dynosim(
        at,
        &[
            "compare",
            "agg.json",
            "typo.json",
            "torn.json",
            "half.json",
            "missing.json",
            "disagg.json",
            "--report-json",
            "c.json",
        ],
    );
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    for error in [
        "typo.json, `num-worker`: unknown key; did you mean `num-workers`?",
        "error: torn.json",
        "half.json, `duration_ms`: is missing or no number; give a report",
        "cannot read missing.json: ",
    ] {
        assert!(errors.contains(error), "{error}\n{errors}");
    }
    assert!(errors.contains("line 3"), "{errors}");
    let names: Vec<Value> =
        json_of(at, "c.json")["runs"].as_array().unwrap().iter().map(|run| run["name"].clone()).collect();
    assert_eq!(names, ["agg", "disagg"]);
    assert!(text(&output.stdout).contains("disagg"));
    // With nothing left there is nothing to show.
    let output = dynosim(at, &["compare", "typo.json"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
}

#[test]
fn wrong_usage_exits_with_two_and_says_what_to_do() {
    let folder = folder();
    for (args, error) in [
        (
            &["agg.json", "disagg.json", "--names", "a"][..],
            "`names`: holds 1 names for 2 files; give one name per file",
        ),
        (&["agg.json", "disagg.json", "--names", "a,a"], "`names`: holds \"a\" twice"),
        (&["agg.json", "disagg.json", "--names", "a,"], "`names`: holds an empty name"),
        (&["agg.json", "--html", "x", "--report-json", "x"], "`report-json`: names the same file as `html`"),
        (&["agg.json", "--sla-ttft-ms", "-1"], "`sla-ttft-ms`: is -1; give milliseconds"),
        (&["agg.json", "--cost", "h20_sxm"], "command line, `cost`: no GPU is called \"h20_sxm\""),
        (&[], "required"),
    ] {
        let output = dynosim(folder.path(), &[&["compare"], args].concat());
        let errors = text(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains(error), "{args:?}: {errors}");
    }
    let output = dynosim(folder.path(), &["compare", "agg.json", "--html", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("TTFT mean"), "the table is printed all the same");
}
