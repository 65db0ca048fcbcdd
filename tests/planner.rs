//! Whole runs with the planner in the loop agree with the reference: every tick, every decision, the report.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::{env, fs};

use dynosim::report::{Report, SessionNames};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::Outcome;
use dynosim::sim::planner::{Decision, ForwardPassMetrics};
use dynosim::workload;
use serde_json::{Map, Value, json};

/// Relative tolerance of figures.
const RELATIVE: f64 = 1e-6;
/// Differences shown per run.
const SHOWN: usize = 8;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/planner")
}

/// The public trace, cut to its first rows; nothing if it is not here.
fn trace(name: &str, rows: u64) -> Option<tempfile::NamedTempFile> {
    let shared = env::var_os("DYNOSIM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("traces").join(name);
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("SKIPPED: planner runs need {}; set DYNOSIM_SHARED to the folder above", path.display());
        return None;
    };
    let lines: Vec<&str> = text.lines().take(rows as usize).collect();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), lines.join("\n")).unwrap();
    Some(file)
}

fn metrics(record: &Value) -> ForwardPassMetrics {
    let count = |key: &str| record[key].as_u64().unwrap_or(0);
    ForwardPassMetrics {
        wall_s: record["wall_time"].as_f64().unwrap(),
        prefills: count("n_pf"),
        prefill_tokens: count("pf_tok"),
        prefix_tokens: count("pf_kv"),
        decodes: count("n_dec"),
        decode_kv_tokens: count("dec_kv"),
        queued_prefills: count("q_n_pf"),
        queued_prefill_tokens: count("q_pf_tok"),
        queued_decodes: count("q_n_dec"),
        queued_decode_kv_tokens: count("q_dec_kv"),
    }
}

/// What a configuration comes to.
fn run(cli: &Map<String, Value>, bootstrap: &Value, trace: &Path) -> (Outcome, Report) {
    let mut document = Map::new();
    for (flag, value) in cli.iter().filter(|(flag, _)| *flag != "trace_rows") {
        let flag = if flag == "arrival_speedup_ratio" { "arrival-speedup-ratio".to_owned() } else { flag.replace('_', "-") };
        document.insert(flag, value.clone());
    }
    document.insert("trace".to_owned(), json!(trace));
    let run = Scenario::from_json(&Value::Object(document).to_string()).unwrap().resolve(Path::new("")).unwrap();
    let workload = workload::load(&run).unwrap();
    let sessions = SessionNames::of(&workload);
    let mut simulation = Simulation::new(&run, workload).unwrap();
    let points = |side: &str| -> Vec<ForwardPassMetrics> {
        bootstrap[side].as_array().into_iter().flatten().map(metrics).collect()
    };
    simulation.planner_mut().unwrap().bootstrap(&points("prefill"), &points("decode"));
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &[], std::time::Duration::ZERO);
    (outcome, report)
}

fn near(wanted: f64, got: f64) -> bool {
    (wanted - got).abs() <= 1e-9 + RELATIVE * wanted.abs()
}

/// Differences of what a tick was shown and decided.
fn compare_tick(wanted: &Value, got: &Decision) -> Vec<String> {
    let mut differences = Vec::new();
    let mut check = |name: &str, wanted: &Value, got: Value| {
        let same = match (wanted.as_f64(), got.as_f64()) {
            (Some(a), Some(b)) => near(a, b),
            _ => *wanted == got,
        };
        if !same {
            differences.push(format!("{name}: reference {wanted}, ours {got}"));
        }
    };
    let plan = got.to_json();
    let t = format!("t={}", wanted["t"]);
    check(&format!("{t} run_load"), &wanted["run_load"], json!(got.tick.run_load));
    check(&format!("{t} run_throughput"), &wanted["run_throughput"], json!(got.tick.run_throughput));
    for key in ["num_req", "isl", "osl", "kv_hit_rate", "accept_length", "duration_s"] {
        if wanted["traffic"].is_object() && wanted["traffic"].get(key).is_some() {
            check(&format!("{t} traffic {key}"), &wanted["traffic"][key], plan["traffic"][key].clone());
        }
    }
    if wanted["need_fpm"] == json!(true) {
        for (side, engines) in [("prefill", &got.prefill_passes), ("decode", &got.decode_passes)] {
            let shown = wanted["fpm"].get(side).and_then(Value::as_object).cloned().unwrap_or_default();
            check(&format!("{t} {side} engines"), &json!(shown.len()), json!(engines.len()));
            for (id, pass) in engines {
                let name = format!("{}/{}", id.worker, id.rank);
                let Some(record) = shown.get(&name) else { continue };
                let theirs = metrics(record);
                check(&format!("{t} {side} {name} wall"), &json!(theirs.wall_s), json!(pass.wall_s));
                let (mut theirs, mut ours) = (theirs, *pass);
                (theirs.wall_s, ours.wall_s) = (0.0, 0.0);
                check(&format!("{t} {side} {name}"), &json!(format!("{theirs:?}")), json!(format!("{ours:?}")));
            }
        }
    }
    for (key, ours) in [
        ("load_reason", &plan["load"]["reason"]),
        ("throughput_reason", &plan["throughput"]["reason"]),
        ("lower_bound_prefill", &plan["lower_bound_prefill"]),
        ("lower_bound_decode", &plan["lower_bound_decode"]),
    ] {
        if let Some(theirs) = wanted["diag"].get(key) {
            check(&format!("{t} {key}"), theirs, ours.clone());
        }
    }
    differences
}

fn check(name: &str) {
    let fixture: Value = serde_json::from_str(&fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()).unwrap();
    let cli = fixture["cli"].as_object().unwrap();
    let rows = fixture["trace_rows"].as_u64().unwrap();
    let Some(trace) = trace(fixture["trace"].as_str().unwrap(), rows) else { return };
    let (outcome, report) = run(cli, &fixture["bootstrap_fpms"], trace.path());
    let expected = &fixture["expected"];
    let log = outcome.planner.as_ref().unwrap();
    let mut differences = Vec::new();
    let ticks = expected["ticks"].as_array().unwrap();
    for tick in ticks {
        let at = tick["t"].as_f64().unwrap();
        match log.decisions.iter().find(|decision| (decision.tick.at_s - at).abs() < 1e-6) {
            Some(decision) => differences.extend(compare_tick(tick, decision)),
            None if tick["run_load"] == json!(true) || tick["run_throughput"] == json!(true) => {
                differences.push(format!("no tick at {at}"));
            }
            None => {}
        }
    }
    let events: Vec<Value> = outcome
        .scaling_events
        .iter()
        .map(|event| json!([event.at.as_secs(), event.from, event.to]))
        .collect();
    let theirs: Vec<Value> = expected["scaling_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| json!([event["at_s"], event["from"], event["to"]]))
        .collect();
    if events.len() != theirs.len() || events.iter().zip(&theirs).any(|(a, b)| a != b) {
        let first = events.iter().zip(&theirs).position(|(a, b)| a != b);
        differences.push(format!("{} events, in the reference {}; first different: {first:?}", events.len(), theirs.len()));
    }
    if log.ticks != expected["total_ticks"].as_u64().unwrap() {
        differences.push(format!("{} ticks, in the reference {}", log.ticks, expected["total_ticks"]));
    }
    for (key, wanted) in expected["report"].as_object().unwrap() {
        let Some(wanted) = wanted.as_f64() else { continue };
        if ["wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"].contains(&key.as_str()) {
            continue;
        }
        let got = report.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let sketched = (key.contains("_itl_ms") || key.contains("per_user"))
            && ["median", "p75", "p90", "p95", "p99"].iter().any(|p| key.starts_with(p));
        let tolerance = if sketched { 2e-3 } else { RELATIVE };
        if (wanted - got).abs() > 1e-9 + tolerance * wanted.abs() {
            differences.push(format!("report {key}: reference {wanted}, ours {got}"));
        }
    }
    let shown: Vec<&String> = differences.iter().take(SHOWN).collect();
    assert!(differences.is_empty(), "{name}: {} differences, the first: {shown:#?}", differences.len());
}

macro_rules! agrees {
    ($($name:ident),* $(,)?) => { $(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )* };
}

agrees!(
    agg_latency_target,
    agg_sla_both_bootstrap,
    agg_sla_budget4,
    agg_sla_dp2,
    agg_sla_load,
    agg_sla_min_budget,
    agg_sla_mtp,
    agg_sla_startup,
    agg_sla_startup_ready_on_tick,
    agg_sla_throughput_only,
    agg_sla_throughput_startup,
    agg_throughput_target,
    disagg_load_target,
    disagg_sla_both_bootstrap,
    disagg_sla_load,
    disagg_throughput_target,
);
