//! Whole runs with the planner in the loop agree with the reference: every tick, every decision, the report.
#![allow(clippy::unwrap_used)]

#[path = "planner/study.rs"]
mod study;

use std::path::{Path, PathBuf};
use std::{env, fs};

use dynosim::report::{Diagnostics, Report, SessionNames};
use dynosim::scenario::{Run, Scenario};
use dynosim::sim::Simulation;
use dynosim::sim::metrics::Outcome;
use dynosim::sim::planner::{
    Decision, EngineId, ForwardPassMetrics, FpmCache, FpmObservations, PoolCounts, TickInput, TrafficObservation,
    WorkerCounts, prepare,
};
use dynosim::workload;
use serde_json::{Map, Value, json};

/// Relative tolerance of figures.
const RELATIVE: f64 = 1e-6;
/// Relative tolerance of estimates once samples are forgotten: which one goes among equals is left to chance in the
/// reference.
const FORGETFUL: f64 = 0.05;
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
    let lines: Vec<&str> = text.lines().take(usize::try_from(rows).unwrap_or(usize::MAX)).collect();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), lines.join("\n")).unwrap();
    Some(file)
}

fn metrics(record: &Value) -> ForwardPassMetrics {
    let count = |key: &str| record[key].as_u64().unwrap_or(0);
    ForwardPassMetrics {
        wall_s: record["wall_time"].as_f64().or(record["wall_time_s"].as_f64()).unwrap(),
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

/// The run of a fixture's flags over a trace.
fn resolve(cli: &Map<String, Value>, trace: &Path) -> Run {
    let mut document = Map::new();
    for (flag, value) in cli.iter().filter(|(flag, _)| *flag != "trace_rows") {
        let flag =
            if flag == "arrival_speedup_ratio" { "arrival-speedup-ratio".to_owned() } else { flag.replace('_', "-") };
        document.insert(flag, value.clone());
    }
    document.insert("trace".to_owned(), json!(trace));
    Scenario::from_json(&Value::Object(document).to_string()).unwrap().resolve(Path::new("")).unwrap()
}

/// The passes that a fixture teaches one side before the run.
fn points(bootstrap: &Value, side: &str) -> Vec<ForwardPassMetrics> {
    bootstrap[side].as_array().into_iter().flatten().map(metrics).collect()
}

/// What a configuration comes to.
fn run(cli: &Map<String, Value>, bootstrap: &Value, trace: &Path) -> (Outcome, Report, String) {
    let run = resolve(cli, trace);
    let workload = workload::load(&run).unwrap();
    let sessions = SessionNames::of(&workload);
    let mut simulation = Simulation::new(&run, workload).unwrap();
    simulation.planner_mut().unwrap().bootstrap(&points(bootstrap, "prefill"), &points(bootstrap, "decode"));
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &[], std::time::Duration::ZERO);
    let summary = Diagnostics::of(&run, &outcome, &report).map_or_else(String::new, |page| page.summary());
    (outcome, report, summary)
}

fn near(wanted: f64, got: f64) -> bool {
    (wanted - got).abs() <= 1e-9 + RELATIVE * wanted.abs()
}

/// Relative tolerance of estimates.
fn tolerance(cli: &Map<String, Value>) -> f64 {
    if cli["planner_config"].get("max_num_fpm_samples").is_some() { RELATIVE } else { FORGETFUL }
}

/// Differences of what a tick was shown and decided.
fn compare_tick(wanted: &Value, got: &Decision, tolerance: f64) -> Vec<String> {
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
    differences.extend(compare_outcome(wanted, got, tolerance));
    differences
}

/// Differences of what was estimated, predicted and decided.
fn compare_outcome(wanted: &Value, got: &Decision, tolerance: f64) -> Vec<String> {
    let plan = got.to_json();
    let (load, throughput) = (&plan["load"], &plan["throughput"]);
    let (rps_prefill, rps_decode) = got.engine_rps();
    let predicted = |key: &str| plan["prediction"].get(key).cloned().unwrap_or(Value::Null);
    let ours = [
        ("estimated_ttft_ms", load["estimated_ttft_ms"].clone()),
        ("estimated_itl_ms", load["estimated_itl_ms"].clone()),
        ("predicted_num_req", predicted("num_req")),
        ("predicted_isl", predicted("isl")),
        ("predicted_osl", predicted("osl")),
        ("predicted_kv_hit_rate", predicted("kv_hit_rate")),
        ("engine_rps_prefill", json!(rps_prefill)),
        ("engine_rps_decode", json!(rps_decode)),
        ("throughput_lower_bound_prefill", plan["lower_bound_prefill"].clone()),
        ("throughput_lower_bound_decode", plan["lower_bound_decode"].clone()),
        ("load_decision_reason", load["reason"].clone()),
        ("load_decision_reason_prefill", load["reason_prefill"].clone()),
        ("load_decision_reason_decode", load["reason_decode"].clone()),
        ("throughput_decision_reason", throughput["reason"].clone()),
        ("throughput_decision_reason_prefill", throughput["reason_prefill"].clone()),
        ("throughput_decision_reason_decode", throughput["reason_decode"].clone()),
    ];
    let differs = |key: &str, wanted: &Value, got: &Value| match (wanted.as_f64(), got.as_f64()) {
        (Some(a), Some(b)) if key.starts_with("estimated") || key.starts_with("engine_rps") => {
            (a - b).abs() > 1e-9 + tolerance * a.abs()
        }
        (Some(a), Some(b)) => !near(a, b),
        _ => wanted != got,
    };
    let diag = &wanted["diag"];
    let mut differences: Vec<String> = ours
        .iter()
        .filter_map(|(key, got)| Some((key, diag.get(*key)?, got)))
        .filter(|(key, wanted, got)| differs(key, wanted, got))
        .map(|(key, theirs, got)| format!("t={} {key}: reference {theirs}, ours {got}", wanted["t"]))
        .collect();
    let target = |key: &str| wanted["scale_to"].get(key).cloned().unwrap_or(Value::Null);
    let scale_to = got.scale_to.unwrap_or_default();
    for (key, got) in [("num_prefill", scale_to.prefill), ("num_decode", scale_to.decode)] {
        if target(key) != json!(got) {
            differences.push(format!("t={} {key}: reference {}, ours {got:?}", wanted["t"], target(key)));
        }
    }
    differences
}

fn check(name: &str) {
    let fixture: Value =
        serde_json::from_str(&fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()).unwrap();
    let cli = fixture["cli"].as_object().unwrap();
    let rows = fixture["trace_rows"].as_u64().unwrap();
    let Some(trace) = trace(fixture["trace"].as_str().unwrap(), rows) else { return };
    let (outcome, report, summary) = run(cli, &fixture["bootstrap_fpms"], trace.path());
    let expected = &fixture["expected"];
    let tolerance = tolerance(cli);
    let log = outcome.planner.as_ref().unwrap();
    let mut differences = Vec::new();
    let ticks = expected["ticks"].as_array().unwrap();
    for (tick, window) in ticks.iter().zip(&log.windows) {
        for (key, ours) in [
            ("num_req", window.num_req),
            ("avg_isl", window.avg_isl),
            ("avg_osl", window.avg_osl),
            ("avg_ttft_ms", window.avg_ttft_ms),
            ("avg_itl_ms", window.avg_itl_ms),
            ("avg_kv_hit_rate", window.avg_kv_hit_rate),
            ("hit_rate_count", window.hit_rate_count),
            ("accept_length_forward_count", window.forward_count),
        ] {
            if !tick["window"][key].as_f64().is_some_and(|theirs| near(theirs, ours)) {
                differences
                    .push(format!("t={} window {key}: reference {}, ours {ours}", tick["t"], tick["window"][key]));
            }
        }
        let at = tick["t"].as_f64().unwrap();
        match log.decisions.iter().find(|decision| (decision.tick.at_s - at).abs() < 1e-6) {
            Some(decision) => differences.extend(compare_tick(tick, decision, tolerance)),
            None if tick["run_load"] == json!(true) || tick["run_throughput"] == json!(true) => {
                differences.push(format!("no tick at {at}"));
            }
            None => {}
        }
    }
    let events: Vec<Value> =
        outcome.scaling_events.iter().map(|event| json!([event.at.as_secs(), event.from, event.to])).collect();
    let theirs: Vec<Value> = expected["scaling_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| json!([event["t"], event["from"], event["to"]]))
        .collect();
    if events.len() != theirs.len() || events.iter().zip(&theirs).any(|(a, b)| a != b) {
        let first = events.iter().zip(&theirs).position(|(a, b)| a != b);
        differences.push(format!(
            "{} events, in the reference {}; first different: {first:?}",
            events.len(),
            theirs.len()
        ));
    }
    if log.ticks != expected["total_ticks"].as_u64().unwrap() {
        differences.push(format!("{} ticks, in the reference {}", log.ticks, expected["total_ticks"]));
    }
    // Taken out of a script, the dash is an escape there.
    if expected["html_summary"].as_str().unwrap().replace("\\u2014", "—") != summary {
        differences.push(format!("summary: reference {}, ours {summary}", expected["html_summary"]));
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

/// Shows the planner alone what the reference's planner was shown, tick by tick.
fn replay(name: &str) {
    let fixture: Value =
        serde_json::from_str(&fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()).unwrap();
    let cli = fixture["cli"].as_object().unwrap();
    let run = resolve(cli, Path::new("unread.jsonl"));
    let mut planner = prepare(run.planner.as_ref().unwrap(), &run.topology, run.semantics.planner);
    let bootstrap = &fixture["bootstrap_fpms"];
    planner.bootstrap(&points(bootstrap, "prefill"), &points(bootstrap, "decode"));
    let (mut prefill, mut decode) = (FpmCache::default(), FpmCache::default());
    let mut differences = Vec::new();
    for shown in fixture["expected"]["ticks"].as_array().unwrap() {
        let tick = planner.next_tick();
        assert!((tick.at_s - shown["t"].as_f64().unwrap()).abs() < 1e-9, "{name}: {tick:?}");
        for (side, cache) in [("prefill", &mut prefill), ("decode", &mut decode)] {
            let Some(records) = shown["fpm"].get(side).and_then(Value::as_object) else { continue };
            let records: Vec<(EngineId, ForwardPassMetrics)> = records
                .iter()
                .map(|(id, record)| {
                    let (worker, rank) = id.split_once('/').unwrap();
                    (EngineId { worker: worker.parse().unwrap(), rank: rank.parse().unwrap() }, metrics(record))
                })
                .collect();
            cache.update(records.iter().copied(), |worker| records.iter().any(|(id, _)| id.worker == worker));
        }
        let number = |of: &Value, key: &str| of[key].as_f64();
        let traffic = shown["traffic"].as_object().map(|_| TrafficObservation {
            duration_s: number(&shown["traffic"], "duration_s").unwrap(),
            num_req: number(&shown["traffic"], "num_req").unwrap(),
            isl: number(&shown["traffic"], "isl").unwrap(),
            osl: number(&shown["traffic"], "osl").unwrap(),
            kv_hit_rate: number(&shown["traffic"], "kv_hit_rate"),
            accept_length: number(&shown["traffic"], "accept_length"),
        });
        let counts = |side: &str| PoolCounts {
            ready: shown["workers"][format!("ready_num_{side}")].as_i64().unwrap_or(0),
            expected: shown["workers"][format!("expected_num_{side}")].as_i64().unwrap_or(0),
            draining: 0,
        };
        let disaggregated = cli["planner_config"]["mode"] == json!("disagg");
        let workers = WorkerCounts { prefill: disaggregated.then(|| counts("prefill")), decode: counts("decode") };
        let fpm = shown["fpm"].is_object().then_some(FpmObservations { prefill: &prefill, decode: &decode });
        let decision = planner.tick(&tick, &TickInput { workers, fpm, traffic });
        differences.extend(compare_outcome(shown, &decision, tolerance(cli)));
    }
    let first: Vec<&String> = differences.iter().take(SHOWN).collect();
    assert!(differences.is_empty(), "{name}: {} differences, the first: {first:#?}", differences.len());
}

#[test]
fn shown_the_same_every_decision_is_that_of_the_reference() {
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().trim_end_matches(".json").to_owned();
        if name != "decisions" && name != "startup_sweep" {
            replay(&name);
        }
    }
}

#[test]
fn the_share_of_cached_blocks_is_that_of_the_reference() {
    // Later windows depend on ties that the reference draws unseeded.
    let text = fs::read_to_string(folder().join("disagg_sla_both_bootstrap.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let Some(trace) = trace(fixture["trace"].as_str().unwrap(), fixture["trace_rows"].as_u64().unwrap()) else {
        return;
    };
    let (outcome, ..) = run(fixture["cli"].as_object().unwrap(), &fixture["bootstrap_fpms"], trace.path());
    let (theirs, ours) = (&fixture["expected"]["ticks"][0]["window"], outcome.planner.unwrap().windows[0]);
    assert!(near(theirs["avg_kv_hit_rate"].as_f64().unwrap(), ours.avg_kv_hit_rate), "{theirs} {ours:?}");
    assert_eq!(theirs["hit_rate_count"].as_f64(), Some(ours.hit_rate_count));
}

#[test]
fn the_cold_start_sweep_is_that_of_the_reference() {
    let text = fs::read_to_string(folder().join("startup_sweep.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let Some(trace) = trace(fixture["trace"].as_str().unwrap(), fixture["trace_rows"].as_u64().unwrap()) else {
        return;
    };
    let runs = fixture["expected"]["runs"].as_array().unwrap();
    assert!(!runs.is_empty());
    for wanted in runs {
        let startup = &wanted["startup_time"];
        let mut cli = fixture["cli"].as_object().unwrap().clone();
        cli["extra_engine_args"]["startup_time"] = startup.clone();
        let (outcome, report, _) = run(&cli, &Value::Null, trace.path());
        let events: Vec<Value> =
            outcome.scaling_events.iter().map(|event| json!([event.at.as_secs(), event.from, event.to])).collect();
        assert_eq!(wanted["events"], json!(events), "start-up {startup} s");
        assert_eq!(wanted["scaling_events"], json!(events.len()), "start-up {startup} s");
        assert_eq!(wanted["total_ticks"], json!(outcome.planner.as_ref().unwrap().ticks), "start-up {startup} s");
        let hours = wanted["gpu_hours"].as_f64().unwrap();
        let ours = outcome.decode_worker_seconds / 3_600.0;
        assert!((hours - ours).abs() <= RELATIVE * hours, "start-up {startup} s: {hours} GPU-hours, ours {ours}");
        for key in ["duration_ms", "mean_ttft_ms", "p90_ttft_ms", "p99_ttft_ms", "mean_itl_ms", "p90_itl_ms"] {
            let (theirs, ours) = (wanted[key].as_f64().unwrap(), report.get(key).and_then(Value::as_f64).unwrap());
            let tolerance = if key == "p90_itl_ms" { 2e-3 } else { RELATIVE };
            assert!((theirs - ours).abs() <= tolerance * theirs, "start-up {startup} s, {key}: {theirs}, ours {ours}");
        }
        assert_eq!(wanted["completed_requests"], *report.get("completed_requests").unwrap());
    }
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
    disagg_sla_load,
    disagg_throughput_target,
);
