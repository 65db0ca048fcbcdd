//! One scenario, one result: neither the tick, nor the thread, nor the repetition changes a byte.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use dynosim::report::{Report, SessionNames, write_rows};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::time::SimTime;
use dynosim::workload;
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "support/routing.rs"]
mod routing;

/// Report keys that say how fast the simulator was.
const WALL_KEYS: [&str; 3] = ["wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"];
/// 0.1 ms, 1 ms, 16 ms and 1 s, in nanoseconds.
const TICKS: [u64; 4] = [100_000, 1_000_000, 16_000_000, 1_000_000_000];

/// Report with every decision, and rows, of a scenario, advanced in ticks of so many nanoseconds, or in one go.
fn run(document: &Value, tick: Option<u64>) -> (String, Vec<u8>) {
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let workload = workload::load(&run).unwrap();
    let (sessions, notes) = (SessionNames::of(&workload), workload.notes.clone());
    let mut simulation = Simulation::new(&run, workload).unwrap();
    let decisions = routing::Lines::default();
    simulation.send_decisions(Box::new(decisions.clone()));
    if let Some(tick) = tick {
        let mut limit = 0;
        while simulation.next_event().is_some() {
            limit += tick;
            assert!(limit < 600_000_000_000, "the run does not end");
            simulation.run_until(SimTime::from_nanos(limit));
        }
    }
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &notes, Duration::from_millis(1));
    let mut report: Value = serde_json::from_str(&report.to_json()).unwrap();
    for key in WALL_KEYS {
        report.as_object_mut().unwrap().shift_remove(key).expect("the key is reported");
    }
    let mut rows = Vec::new();
    write_rows(&mut rows, &outcome, &sessions).unwrap();
    (format!("{report}\n{}\n{:?}", decisions.text(), outcome.pools), rows)
}

/// A flat trace of `count` requests that come in clumps, some of them sharing prefixes.
fn flat(folder: &TempDir, count: u64) -> String {
    let row = |i: u64| {
        let blocks = 1 + i * 7 % 4;
        let ids: Vec<u64> = (0..blocks).map(|b| if b == 0 { i % 5 } else { 100 + i * 8 + b }).collect();
        let (input, output) = (blocks * 64 - i * 11 % 50, 1 + i * 13 % 40);
        json!({"timestamp": i / 3 * 90, "input_length": input, "output_length": output, "hash_ids": ids})
    };
    write(folder, (0..count).map(row))
}

/// A trace of sessions: turns that extend each other after think times.
fn sessions(folder: &TempDir) -> String {
    let row = |i: u64| {
        let (session, turn) = (i % 6, i / 6);
        let ids: Vec<u64> = (0..=turn).map(|b| session * 100 + b).collect();
        let mut row = json!({
            "session_id": format!("s{session}"), "input_length": ids.len() * 64, "output_length": 5 + i % 20, "hash_ids": ids,
        });
        let key = if turn == 0 { "timestamp" } else { "delay" };
        row[key] = json!(if turn == 0 { session * 130 } else { 40 + session * 7 });
        row
    };
    write(folder, (0..24).map(row))
}

fn write(folder: &TempDir, rows: impl Iterator<Item = Value>) -> String {
    let path = folder.path().join("trace.jsonl");
    let lines: String = rows.map(|row| format!("{row}\n")).collect();
    fs::write(&path, lines).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A scenario over a trace of 64-token hash blocks, with more keys.
fn over(trace: &str, keys: Value) -> Value {
    let mut document = json!({"version": 1, "trace": trace, "trace-block-size": 64});
    for (key, value) in keys.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

/// The scenario gives the same bytes in every tick, again, and on four threads at once.
fn assert_one_result(document: &Value) {
    let (report, rows) = run(document, None);
    assert!(rows.iter().filter(|byte| **byte == b'\n').count() > 5, "too little happens");
    let rows = String::from_utf8(rows).unwrap();
    let same = |(other_report, other_rows): (String, Vec<u8>), how: &str| {
        let other_rows = String::from_utf8(other_rows).unwrap();
        for (line, (one, other)) in rows.lines().zip(other_rows.lines()).enumerate() {
            assert_eq!(one, other, "row {line} differs: {how}");
        }
        assert!(rows == other_rows, "the number of rows differs: {how}");
        assert_eq!(report, other_report, "the report differs: {how}");
    };
    for tick in TICKS {
        same(run(document, Some(tick)), &format!("ticks of {tick} ns"));
    }
    same(run(document, None), "a second run");
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| run(document, None))).collect();
        for run in runs {
            same(run.join().unwrap(), "on four threads at once");
        }
    });
}

#[test]
fn a_flat_trace_gives_one_result_on_one_worker_and_on_three() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    for workers in [1, 3] {
        let engine = json!({"num_gpu_blocks": 40, "block_size": 16, "max_num_batched_tokens": 256});
        assert_one_result(&over(&trace, json!({"num-workers": workers, "extra-engine-args": engine})));
    }
}

#[test]
fn sessions_give_one_result_on_one_worker_and_on_two() {
    let folder = tempfile::tempdir().unwrap();
    let trace = sessions(&folder);
    for workers in [1, 2] {
        let engine = json!({"num_gpu_blocks": 60, "block_size": 16});
        assert_one_result(&over(&trace, json!({"num-workers": workers, "extra-engine-args": engine})));
    }
}

#[test]
fn a_closed_loop_gives_one_result_on_one_worker_and_on_two() {
    let folder = tempfile::tempdir().unwrap();
    let (flat_folder, trace) = (tempfile::tempdir().unwrap(), sessions(&folder));
    for (trace, workers) in [(&trace, 1), (&trace, 2), (&flat(&flat_folder, 40), 1), (&flat(&flat_folder, 40), 2)] {
        let keys = json!({
            "num-workers": workers, "replay-concurrency": 4, "extra-engine-args": {"num_gpu_blocks": 60, "block_size": 16},
        });
        assert_one_result(&over(trace, keys));
    }
}

#[test]
fn a_disaggregated_fleet_with_transfer_delays_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 50);
    for (timing, contention, kind) in [
        ("full_prompt", "independent", "vllm"),
        ("destination_missing", "independent", "vllm"),
        ("full_prompt", "shared", "vllm"),
        ("destination_missing", "shared", "vllm"),
        ("full_prompt", "shared", "sglang"),
    ] {
        let engine = json!({
            "engine_type": kind, "num_gpu_blocks": 40, "block_size": 16, "kv_bytes_per_token": 131_072,
            "kv_transfer_bandwidth": 1.5, "kv_transfer_timing_mode": timing, "kv_transfer_contention": contention,
        });
        let keys = json!({
            "num-prefill-workers": 1, "num-decode-workers": 2, "prefill-engine-args": engine, "decode-engine-args": engine,
        });
        assert_one_result(&over(&trace, keys));
    }
}

#[test]
fn kv_tiers_give_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let (flat_folder, trace) = (tempfile::tempdir().unwrap(), sessions(&folder));
    let flat = flat(&flat_folder, 60);
    for kind in ["vllm", "trtllm"] {
        let engine = json!({
            "engine_type": kind, "num_gpu_blocks": 30, "block_size": 16, "kv_bytes_per_token": 131_072,
            "num_g2_blocks": 25, "num_g3_blocks": 40, "enable_g4_storage": true, "offload_batch_size": 3,
            "bandwidth_g1_to_g2_gbps": 0.7, "bandwidth_g2_to_g1_gbps": 0.9, "bandwidth_g4_to_g2_gbps": 0.31,
        });
        for (trace, workers, concurrency) in
            [(&flat, 1, None), (&flat, 3, None), (&trace, 2, Some(4)), (&trace, 1, None)]
        {
            let keys = json!({"num-workers": workers, "replay-concurrency": concurrency, "extra-engine-args": engine});
            assert_one_result(&over(trace, keys));
        }
        if kind == "vllm" {
            let keys = json!({
                "num-prefill-workers": 2, "num-decode-workers": 2, "prefill-engine-args": engine,
                "decode-engine-args": engine, "router-mode": "kv_router",
            });
            assert_one_result(&over(&flat, keys));
        }
    }
}

#[test]
fn every_router_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let (flat_folder, trace) = (tempfile::tempdir().unwrap(), sessions(&folder));
    let flat = flat(&flat_folder, 60);
    let engine = json!({"num_gpu_blocks": 40, "block_size": 16, "max_num_batched_tokens": 128});
    let queue = json!({"router_queue_threshold": 0.3, "router_queue_policy": "wspt", "router_temperature": 0.7});
    let routers = [
        json!({"router-mode": "kv_router"}),
        json!({"router-mode": "kv_router", "router-config": queue, "router-seed": 9}),
        json!({"router-mode": "kv_router", "router-config": queue, "router-load-delay-ms": 7.3, "router-kv-event-delay-ms": 11}),
        json!({"router-mode": "kv_router", "router-load-delay-ms": 40, "router-kv-event-delay-ms": 40}),
        json!({"router-mode": "least_loaded", "router-load-delay-ms": 12.25}),
        json!({"router-mode": "power_of_two"}),
        json!({"router-mode": "random"}),
        json!({"router-mode": "session_affinity"}),
    ];
    for router in routers {
        for trace in [&trace, &flat] {
            let mut keys = router.clone();
            keys["num-workers"] = json!(3);
            keys["extra-engine-args"] = engine.clone();
            assert_one_result(&over(trace, keys));
            let mut keys = router.clone();
            for (key, value) in [
                ("num-prefill-workers", json!(2)),
                ("num-decode-workers", json!(2)),
                ("prefill-engine-args", engine.clone()),
                ("decode-engine-args", engine.clone()),
            ] {
                keys[key] = value;
            }
            assert_one_result(&over(trace, keys));
        }
    }
}

#[test]
fn a_scaled_fleet_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    let steps = json!([
        {"from_ms": 0, "target_decode": 3}, {"from_ms": 500, "target_decode": 1}, {"from_ms": 900, "target_decode": 2},
    ]);
    let keys = json!({
        "num-workers": 1,
        "scaling": {"first_tick_ms": 15.0, "interval_ms": 50.0, "steps": steps},
        "extra-engine-args": {"num_gpu_blocks": 60, "block_size": 16, "startup_time": 0.12},
    });
    assert_one_result(&over(&trace, keys));
}

#[test]
fn a_planned_fleet_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    let engine = json!({"num_gpu_blocks": 60, "block_size": 16, "startup_time": 0.3});
    let planner = |mode: &str| {
        json!({
            "mode": mode, "optimization_target": "sla", "enable_load_scaling": true, "enable_throughput_scaling": true,
            "ttft_ms": 20, "itl_ms": 6, "load_adjustment_interval_seconds": 1,
            "throughput_adjustment_interval_seconds": 2, "load_predictor": "kalman", "load_min_observations": 3,
        })
    };
    assert_one_result(&over(&trace, json!({"planner-config": planner("agg"), "extra-engine-args": engine})));
    let pools = json!({
        "planner-config": planner("disagg"), "prefill-engine-args": engine, "decode-engine-args": engine,
    });
    assert_one_result(&over(&trace, pools));
}

#[test]
fn data_parallel_ranks_give_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    for workers in [1, 2] {
        let engine = json!({"num_gpu_blocks": 40, "block_size": 16, "dp_size": 2});
        assert_one_result(&over(&trace, json!({"num-workers": workers, "extra-engine-args": engine})));
    }
}

#[test]
fn every_engine_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    let sglang = json!({"schedule_policy": "lpm", "chunked_prefill_size": 64, "clip_max_new_tokens": 20});
    for engine in [
        json!({"engine_type": "trtllm", "num_gpu_blocks": 40, "block_size": 16}),
        json!({"engine_type": "sglang", "num_gpu_blocks": 40, "block_size": 16}),
        json!({"engine_type": "sglang", "num_gpu_blocks": 500, "block_size": 1, "sglang": sglang}),
        json!({"engine_type": "sglang", "num_gpu_blocks": 40, "block_size": 16, "aic_nextn": 2, "dp_size": 2}),
    ] {
        for (workers, concurrency) in [(1, None), (2, None), (1, Some(5)), (2, Some(5))] {
            let keys = json!({
                "num-workers": workers, "replay-concurrency": concurrency, "extra-engine-args": engine,
            });
            assert_one_result(&over(&trace, keys));
        }
    }
    let engine = json!({
        "engine_type": "sglang", "num_gpu_blocks": 60, "block_size": 16, "kv_bytes_per_token": 131_072,
        "kv_transfer_bandwidth": 0.5,
    });
    let keys = json!({
        "num-prefill-workers": 2, "num-decode-workers": 2, "prefill-engine-args": engine, "decode-engine-args": engine,
    });
    assert_one_result(&over(&trace, keys));
}

#[test]
fn speculative_decoding_gives_one_result() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    let engine = json!({
        "num_gpu_blocks": 40, "block_size": 16, "aic_nextn": 3, "aic_nextn_accept_rates": "0.8,0.5,0.2", "aic_mtp_seed": 7,
    });
    for workers in [1, 2] {
        assert_one_result(&over(&trace, json!({"num-workers": workers, "extra-engine-args": engine})));
    }
}

#[test]
fn a_time_cap_cuts_the_run_at_the_same_event_in_every_tick() {
    let folder = tempfile::tempdir().unwrap();
    let trace = flat(&folder, 60);
    for workers in [1, 2] {
        let engine = json!({"num_gpu_blocks": 40, "block_size": 16});
        let keys = json!({"num-workers": workers, "max-sim-time-seconds": 1.777, "extra-engine-args": engine});
        assert_one_result(&over(&trace, keys));
    }
}

#[test]
fn a_dead_end_is_met_at_the_same_instant_in_every_tick() {
    let folder = tempfile::tempdir().unwrap();
    // The fourth request outgrows the pool.
    let row = |i: u64| {
        let output = if i == 3 { 200 } else { 5 };
        json!({"timestamp": i * 20, "input_length": 60, "output_length": output, "hash_ids": [i]})
    };
    let trace = write(&folder, (0..9).map(row));
    for (workers, concurrency) in [(1, Some(1)), (2, Some(2)), (1, None), (2, None)] {
        let engine = json!({"num_gpu_blocks": 10, "block_size": 16});
        let keys = json!({"num-workers": workers, "replay-concurrency": concurrency, "extra-engine-args": engine});
        assert_one_result(&over(&trace, keys));
    }
    // Its prompt may not be cut and is larger than the budget of a pass.
    let engine = json!({
        "num_gpu_blocks": 30, "block_size": 16, "enable_chunked_prefill": false, "max_num_batched_tokens": 64,
    });
    let row = |i: u64| {
        let input = if i == 3 { 65 } else { 60 };
        json!({"timestamp": i * 20, "input_length": input, "output_length": 5, "hash_ids": [i, 100 + i]})
    };
    let trace = write(&folder, (0..9).map(row));
    for workers in [1, 2] {
        assert_one_result(&over(&trace, json!({"num-workers": workers, "extra-engine-args": engine})));
    }
}

#[test]
fn generated_loads_give_one_result() {
    let synthetic = json!({
        "version": 1, "input-tokens": 200, "output-tokens": 12, "request-count": 12, "request-rate": 10.0,
        "turns-per-session": 2, "inter-turn-delay-ms": 55.5, "num-workers": 2,
        "extra-engine-args": {"num_gpu_blocks": 60, "block_size": 16},
    });
    assert_one_result(&synthetic);
    let agents = json!({
        "version": 1, "num-workers": 2, "seed": 3,
        "workload": {
            "preset": "agent", "sessions": 6, "sessions_per_s": 4.0, "mean_turns": 2.0, "tool_wait_ms": 200.0,
            "system_tokens": 512, "turn_tokens": 128, "output_tokens": 20, "max_context_tokens": 4096,
        },
        "extra-engine-args": {"num_gpu_blocks": 512, "block_size": 64},
    });
    assert_one_result(&agents);
}
