//! GPU-hours, time in forward passes, money and energy: worked out by hand, and conserved.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use dynosim::report::{Report, SessionNames};
use dynosim::scenario::{Role, Scenario};
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{Outcome, PoolTime};
use dynosim::workload;
use serde_json::{Value, json};

fn run(document: &Value) -> (Outcome, Report) {
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let workload = workload::load(&run).unwrap();
    let sessions = SessionNames::of(&workload);
    let mut simulation = Simulation::new(&run, workload).unwrap();
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &[], Duration::from_millis(1));
    (outcome, report)
}

fn fault(document: &Value) -> String {
    Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap_err().to_string()
}

/// Requests so far apart that none meets another.
fn sparse() -> Value {
    json!({"input-tokens": 700, "output-tokens": 30, "request-count": 6, "arrival-interval-ms": 2000})
}

/// `document` with more keys.
fn with(mut document: Value, keys: Value) -> Value {
    for (key, value) in keys.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

fn nanos(time: Option<dynosim::time::SimTime>) -> u128 {
    u128::from(time.unwrap().as_nanos())
}

#[test]
fn a_worker_is_busy_from_the_first_pass_of_a_lone_request_to_its_last() {
    for engine in ["vllm", "sglang", "trtllm"] {
        for workers in [1, 3] {
            let document =
                with(sparse(), json!({"num-workers": workers, "extra-engine-args": {"engine_type": engine}}));
            let (outcome, _) = run(&document);
            let busy: u128 = outcome.records.iter().map(|r| nanos(r.terminal) - nanos(r.first_admit)).sum();
            let provisioned = u128::from(outcome.end.as_nanos()) * workers as u128;
            let pool = PoolTime { role: Role::Aggregated, busy, provisioned };
            assert_eq!(outcome.pools, [pool], "{engine}, {workers} workers");
        }
    }
}

#[test]
fn prefill_and_decode_pools_are_busy_each_for_its_own_passes() {
    let document = with(
        sparse(),
        json!({"prefill-engine-args": {"kv_bytes_per_token": 100_000, "kv_transfer_bandwidth": 1}, "decode-engine-args": {}}),
    );
    let (outcome, _) = run(&document);
    let handoffs = || outcome.records.iter().map(|r| (r, r.handoff.unwrap()));
    let prefill: u128 = handoffs().map(|(_, h)| nanos(h.source_held) - nanos(h.prefill_admit)).sum();
    let decode: u128 = handoffs().map(|(r, h)| nanos(r.terminal) - nanos(h.decode_admit)).sum();
    let busy: Vec<(Role, u128)> = outcome.pools.iter().map(|pool| (pool.role, pool.busy)).collect();
    assert_eq!(busy, [(Role::Prefill, prefill), (Role::Decode, decode)]);
}

#[test]
fn a_batch_keeps_its_worker_busy_without_a_gap_and_ranks_count_once() {
    for ranks in [1, 2] {
        let document = json!({
            "input-tokens": 500, "output-tokens": 40, "request-count": 24, "arrival-interval-ms": 0.001,
            "num-workers": 1, "extra-engine-args": {"dp_size": ranks},
        });
        let (outcome, _) = run(&document);
        let first = outcome.records.iter().map(|r| nanos(r.first_admit)).min().unwrap();
        let last = outcome.records.iter().map(|r| nanos(r.terminal)).max().unwrap();
        assert_eq!(outcome.pools[0].busy, last - first, "{ranks} ranks");
    }
}

#[test]
fn nobody_computes_longer_than_it_is_there() {
    let load = json!({"input-tokens": 900, "output-tokens": 60, "request-count": 300, "request-rate": 9});
    let split =
        json!({"num-prefill-workers": 2, "num-decode-workers": 2, "prefill-engine-args": {}, "decode-engine-args": {}});
    let steps = json!([{"from_ms": 2000, "target_decode": 4}, {"from_ms": 9000, "target_decode": 1}]);
    let scaling = json!({"scaling": {"interval_ms": 500, "steps": steps}, "extra-engine-args": {"startup_time": 2}});
    for variant in [
        json!({"num-workers": 1}),
        json!({"num-workers": 4}),
        json!({"num-workers": 4, "router-mode": "kv_router", "router-config": {"router_queue_threshold": 0.2}}),
        json!({"num-workers": 2, "extra-engine-args": {"dp_size": 2}}),
        json!({"num-workers": 2, "extra-engine-args": {"engine_type": "sglang"}}),
        json!({"num-workers": 2, "extra-engine-args": {"num_gpu_blocks": 40}}),
        split,
        scaling,
    ] {
        for cap in [Value::Null, json!(0.4), json!(7.123), json!(20)] {
            let document = with(with(load.clone(), variant.clone()), json!({"max-sim-time-seconds": cap}));
            let (outcome, _) = run(&document);
            assert!(outcome.pools.iter().any(|pool| pool.busy > 0), "{document}");
            for pool in &outcome.pools {
                assert!(pool.busy <= pool.provisioned, "{pool:?} of {document}");
            }
        }
    }
}

#[test]
fn money_is_hours_times_price_and_energy_is_time_times_power() {
    let rates = json!({"usd_per_gpu_hour": 2.5, "busy_watts": 600, "idle_watts": 80});
    let document = with(sparse(), json!({"num-workers": 2, "extra-engine-args": {"aic_tp_size": 4}, "cost": rates}));
    let (outcome, report) = run(&document);
    let cost = report.get("cost_estimate").unwrap();
    let near = |key: &str, expected: f64| {
        let value = cost[key].as_f64().unwrap();
        assert!((value / expected - 1.0).abs() < 1e-12, "{key}: {value}, not {expected}");
    };
    // Two workers of four GPUs, from the start to the last completion.
    let hours = 8.0 * outcome.end.as_secs() / 3600.0;
    let busy = 4.0 * outcome.pools[0].busy as f64 / 1e9 / 3600.0;
    near("gpu_hours", hours);
    near("gpu_hours", report.number("gpu_hours").unwrap());
    near("busy_gpu_hours", busy);
    near("estimated_usd", hours * 2.5);
    near("estimated_busy_kwh", busy * 0.6);
    near("estimated_kwh", busy * 0.6 + (hours - busy) * 0.08);
    let pool = &cost["pools"]["aggregated"];
    assert_eq!((&pool["gpus_per_worker"], &pool["estimated_usd"]), (&json!(4), &cost["estimated_usd"]));
    let table = report.table();
    assert!(table.contains("Cost (USD, estimate): ") && table.contains("Energy (kWh, estimate): "), "{table}");
}

#[test]
fn an_estimate_changes_nothing_else() {
    let (_, plain) = run(&sparse());
    let (_, priced) = run(&with(sparse(), json!({"cost": {"usd_per_gpu_hour": 1}})));
    assert!(plain.get("cost_estimate").is_none() && !plain.table().contains("estimate"));
    let others = |report: &Report| {
        report
            .iter()
            .filter(|(key, _)| *key != "cost_estimate")
            .map(|(k, v)| (k.to_owned(), v.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(others(&plain), others(&priced));
}

#[test]
fn auto_takes_the_gpus_that_the_engines_name_and_says_where_the_figures_come_from() {
    let engine = |gpu: &str| json!({"timing": {"roofline": {"model": "llama-3.1-8b", "gpu": gpu}}});
    let document = with(
        sparse(),
        json!({"prefill-engine-args": engine("h100"), "decode-engine-args": engine("mi300x"), "cost": "auto"}),
    );
    let (_, report) = run(&document);
    let cost = report.get("cost_estimate").unwrap();
    assert_eq!(cost["pools"]["prefill"]["gpu"], "h100_sxm");
    assert_eq!(cost["pools"]["prefill"]["usd_per_gpu_hour"], 6.155);
    assert_eq!(cost["pools"]["prefill"]["busy_watts"], 700.0);
    // Nobody is known who sells the other: half of a sum is no sum.
    assert_eq!(cost["pools"]["decode"].get("estimated_usd"), None);
    assert_eq!(cost.get("estimated_usd"), None);
    assert!(cost["estimated_busy_kwh"].as_f64().unwrap() > 0.0 && cost.get("estimated_kwh").is_none());
    let basis = cost["basis"].to_string();
    for part in
        ["coreweave.com", "read 2026-09-20", "an upper bound", "no price of mi300x", "no idle power of h100_sxm"]
    {
        assert!(basis.contains(part), "{part}: {basis}");
    }
    assert!(report.get("warnings").unwrap().to_string().contains("no price of mi300x is known"));
}

#[test]
fn the_planners_gpus_count_and_a_contradiction_is_told() {
    let planner = |gpus: u32| {
        json!({"mode": "agg", "optimization_target": "latency", "decode_engine_num_gpu": gpus,
            "report_interval_hours": null, "live_dashboard_port": 0})
    };
    let priced = with(sparse(), json!({"cost": {"usd_per_gpu_hour": 3}}));
    for (gpus, told) in [(0, false), (1, false), (2, true)] {
        let (_, report) = run(&with(priced.clone(), json!({"planner-config": planner(gpus)})));
        let cost = report.get("cost_estimate").unwrap();
        assert_eq!(cost["pools"]["aggregated"]["gpus_per_worker"], gpus.max(1));
        let warnings = report.get("warnings").unwrap().to_string();
        assert_eq!(warnings.contains("the cost estimate counts 2, `gpu_hours` 1"), told, "{warnings}");
    }
}

#[test]
fn faults_name_the_key_the_cause_and_the_cure() {
    for (cost, error) in [
        (json!("auto"), "`cost`: is to follow from a GPU, but the aggregated engine names none; name a GPU"),
        (json!("h20_sxm"), "`cost`: no GPU is called \"h20_sxm\""),
        (json!({"gpu": "h20_sxm"}), "`cost.gpu`: no GPU is called \"h20_sxm\""),
        (json!({"usd_per_gpu_hour": -1}), "`cost.usd_per_gpu_hour`: is -1; give a number from 0 to 10000"),
        (json!({"usd_per_hour": 1}), "`cost.usd_per_hour`: unknown key; did you mean `usd_per_gpu_hour`?"),
        (json!({"busy_watts": 300, "idle_watts": 400}), "`cost.idle_watts`: is 400, more than the 300 W"),
        (json!({}), "`cost`: is to follow from a GPU"),
    ] {
        let text = fault(&with(sparse(), json!({"cost": cost})));
        assert!(text.starts_with(error), "{text}");
    }
}

#[test]
fn a_described_run_costs_the_same() {
    let document = with(sparse(), json!({"cost": {"gpu": "h200", "idle_watts": 70}}));
    let run_of = |document: &Scenario| document.resolve(Path::new("")).unwrap();
    let first = run_of(&Scenario::from_json(&document.to_string()).unwrap());
    assert_eq!(run_of(&Scenario::describe(&first).unwrap()).cost, first.cost);
}
