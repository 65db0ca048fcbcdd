//! The report: hand-made outcomes with figures worked out by hand.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use dynosim::perf::Timing;
use dynosim::report::{Recorder, Report, SessionNames, TimeseriesError, write_rows};
use dynosim::scenario::{
    EngineConfig, PreemptionMode, Role, Router, Run, ScalingScript, SchedulerKind, Semantics, Sla, SyntheticLoad,
    TimingOptions, Topology, Traffic, TrafficSource, TransferContention, TransferTiming,
};
use dynosim::sim::metrics::{
    Distribution, FinalStatus, HandoffRecord, Outcome, RequestRecord, ScalingEvent, Snapshot, WorkerSnapshot,
    WorkerState,
};
use dynosim::time::{SimDuration, SimTime};
use dynosim::workload::{Release, RouterHints, Session, Workload, content::Content};

fn ms(value: f64) -> SimTime {
    SimTime::from_ms(value).unwrap()
}

fn engine(role: Role, tp_size: u32) -> EngineConfig {
    EngineConfig {
        role,
        scheduler: SchedulerKind::Vllm,
        num_gpu_blocks: 64,
        block_size: 16,
        max_model_len: None,
        max_num_seqs: Some(256),
        max_num_batched_tokens: Some(8192),
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
        dp_size: 1,
        startup_time: SimDuration::ZERO,
        speculation: None,
        kv_bytes_per_token: None,
        kv_transfer_bandwidth: None,
        kv_transfer_timing: TransferTiming::FullPrompt,
        kv_transfer_contention: TransferContention::Independent,
        tiers: None,
        preemption_mode: PreemptionMode::Lifo,
        tp_size,
        timing: Timing::default(),
        timing_args: serde_json::Map::new(),
        router_queue_policy: None,
    }
}

fn run() -> Run {
    Run {
        traffic: Traffic {
            source: TrafficSource::Synthetic(SyntheticLoad {
                input_tokens: 100,
                output_tokens: 4,
                request_count: 3,
                arrivals: None,
                arrival_seed: 42,
                turns_per_session: 1,
                shared_prefix_ratio: 0.0,
                num_prefix_groups: 0,
                inter_turn_delay_ms: 0.0,
            }),
            concurrency: None,
            arrival_speedup: 1.0,
        },
        topology: Topology::Aggregated { workers: 2, engine: engine(Role::Aggregated, 2) },
        timing: TimingOptions::default(),
        router: Router::default(),
        semantics: Semantics::dynamo(),
        sla: Sla::default(),
        max_sim_time: None,
        scaling: None,
        planner: None,
        cost: None,
        seed: 0,
        warnings: Vec::new(),
    }
}

/// A scaling script that does nothing: enough to make a run a scaled one.
fn idle_script() -> ScalingScript {
    ScalingScript { first_tick: SimTime::ZERO, interval: SimDuration::from_nanos(1), steps: Vec::new() }
}

/// A completed request: arrival, then the tokens' times in milliseconds.
fn completed(request: u32, arrival: f64, tokens: &[f64]) -> RequestRecord {
    RequestRecord {
        request,
        session_turn: None,
        arrival: ms(arrival),
        routed: None,
        first_admit: Some(ms(arrival)),
        terminal: Some(ms(tokens.last().copied().unwrap_or(arrival + 50.0))),
        first_token: tokens.first().map(|t| ms(*t)),
        second_token: tokens.get(1).map(|t| ms(*t)),
        last_token: tokens.last().map(|t| ms(*t)),
        input_tokens: 100,
        requested_output_tokens: tokens.len() as u32,
        output_tokens: tokens.len() as u32,
        reused_tokens: 0,
        first_reused_tokens: 0,
        prefill_worker: None,
        decode_worker: Some(1),
        handoff: None,
        tiers: None,
        status: FinalStatus::Completed,
    }
}

fn lost(request: u32, arrival: f64, status: FinalStatus) -> RequestRecord {
    RequestRecord { first_admit: None, status, ..completed(request, arrival, &[]) }
}

/// An outcome whose pooled token gaps are those of its two-token requests.
fn outcome(records: Vec<RequestRecord>) -> Outcome {
    let (mut itl, mut user_throughput) = (Distribution::default(), Distribution::default());
    for record in records.iter().filter(|r| r.status == FinalStatus::Completed && r.output_tokens == 2) {
        let gap = (record.last_token.unwrap() - record.first_token.unwrap()).as_ms();
        itl.add(gap, 1);
        user_throughput.add(1000.0 / gap, 1);
    }
    Outcome {
        records,
        itl,
        user_throughput,
        prefill_worker_seconds: 0.0,
        decode_worker_seconds: 7.2,
        pools: Vec::new(),
        end: ms(4000.0),
        dead_ends: Vec::new(),
        scaling_events: Vec::new(),
        planner: None,
        passes: 17,
        preemptions: 3,
        extrapolated_passes: 0,
        tiers: Vec::new(),
    }
}

fn report(run: &Run, outcome: &Outcome) -> Report {
    Report::build(run, outcome, &SessionNames::default(), &[], Duration::from_millis(250))
}

fn warnings(report: &Report) -> Vec<&str> {
    report.get("warnings").unwrap().as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect()
}

/// Keys of the reference besides the statistics.
const TOTALS: &str = "
    num_requests completed_requests total_input_tokens total_output_tokens duration_ms wall_time_ms
    request_throughput_rps input_throughput_tok_s output_throughput_tok_s total_throughput_tok_s
    prefill_worker_seconds decode_worker_seconds prefill_gpus_per_worker decode_gpus_per_worker gpu_hours
    processed_tokens processed_tokens_per_s processed_output_tokens_per_s prefix_cache_reused_ratio
    first_admission_prefix_cache_reused_ratio";
/// Keys of ours.
const OURS: [&str; 9] = [
    "router",
    "semantics",
    "timing",
    "warnings",
    "rejected_requests",
    "failed_requests",
    "unfinished_requests",
    "preemptions",
    "forward_passes",
];
/// Keys that appear on demand.
const ON_DEMAND: [&str; 4] = [
    "goodput_completed_requests",
    "goodput_request_throughput_rps",
    "goodput_output_throughput_tok_s",
    "scaling_events",
];

#[test]
fn keys_are_those_of_the_reference_and_ours() {
    let mut expected: Vec<String> = TOTALS.split_whitespace().chain(OURS).map(str::to_owned).collect();
    for name in ["ttft_ms", "ttst_ms", "tpot_ms", "itl_ms", "e2e_latency_ms", "output_token_throughput_per_user"] {
        for statistic in ["mean", "min", "max", "median", "p75", "p90", "p95", "p99", "std"] {
            expected.push(format!("{statistic}_{name}"));
        }
    }
    expected.sort();
    let empty = outcome(Vec::new());
    let keys = |run: &Run| report(run, &empty).iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(&run()), expected);

    let mut asked = run();
    asked.sla.e2e_ms = Some(1.0);
    asked.scaling = Some(idle_script());
    expected.extend(ON_DEMAND.map(str::to_owned));
    expected.sort();
    assert_eq!(keys(&asked), expected);
}

#[test]
fn json_is_sorted_indented_and_ends_with_a_newline() {
    let text = report(&run(), &outcome(vec![completed(0, 0.0, &[10.0, 20.0])])).to_json();
    let keys: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("  \"") && line.contains("\": "))
        .map(|line| line.split('"').nth(1).unwrap())
        .collect();
    assert!(keys.is_sorted());
    assert!(text.starts_with("{\n  \"completed_requests\": 1,\n"), "{text}");
    assert!(text.ends_with("}\n"));
    assert!(text.contains("  \"mean_ttft_ms\": 10.0,\n") && text.contains("  \"prefill_gpus_per_worker\": 0,\n"));
}

#[test]
fn an_empty_run_gives_zeros_only() {
    let r = report(&run(), &outcome(Vec::new()));
    for key in ["duration_ms", "request_throughput_rps", "prefix_cache_reused_ratio", "max_itl_ms", "p99_ttft_ms"] {
        assert_eq!(r.number(key), Some(0.0), "{key}");
    }
}

#[test]
fn totals_and_rates_are_over_completed_requests_and_the_last_completion() {
    let mut cached = completed(1, 1000.0, &[1500.0, 1600.0, 2000.0]);
    (cached.reused_tokens, cached.first_reused_tokens) = (50, 25);
    let records = vec![
        completed(0, 0.0, &[10.0, 20.0]),
        cached,
        lost(2, 1100.0, FinalStatus::Rejected),
        lost(3, 3000.0, FinalStatus::Unfinished),
    ];
    let r = report(&run(), &outcome(records));
    for (key, value) in [
        ("num_requests", 4.0),
        ("completed_requests", 2.0),
        ("rejected_requests", 1.0),
        ("failed_requests", 0.0),
        ("unfinished_requests", 1.0),
        ("total_input_tokens", 200.0),
        ("total_output_tokens", 5.0),
        ("processed_tokens", 205.0),
        ("duration_ms", 2000.0),
        ("request_throughput_rps", 1.0),
        ("input_throughput_tok_s", 100.0),
        ("output_throughput_tok_s", 2.5),
        ("total_throughput_tok_s", 102.5),
        ("prefix_cache_reused_ratio", 0.25),
        ("first_admission_prefix_cache_reused_ratio", 0.125),
        ("decode_gpus_per_worker", 2.0),
        ("prefill_gpus_per_worker", 0.0),
        ("gpu_hours", 7.2 * 2.0 / 3600.0),
        ("wall_time_ms", 250.0),
        ("processed_tokens_per_s", 820.0),
        ("processed_output_tokens_per_s", 20.0),
        ("mean_ttft_ms", 255.0),
        ("mean_ttst_ms", 55.0),
        ("max_tpot_ms", 250.0),
        ("mean_e2e_latency_ms", 510.0),
        ("std_ttft_ms", 245.0),
        ("mean_itl_ms", 10.0),
        ("forward_passes", 17.0),
        ("preemptions", 3.0),
    ] {
        assert_eq!(r.number(key), Some(value), "{key}");
    }
    assert_eq!(
        warnings(&r),
        [
            "1 request was rejected: no engine they were sent to can ever hold them (first: request 2)",
            "1 request was unfinished when the run stopped (first: request 3)",
        ]
    );
}

#[test]
fn gpus_of_both_pools_are_paid_for() {
    let mut disagg = run();
    disagg.topology = Topology::Disaggregated {
        prefill_workers: 1,
        decode_workers: 1,
        prefill: engine(Role::Prefill, 4),
        decode: EngineConfig { dp_size: 3, ..engine(Role::Decode, 2) },
    };
    let mut o = outcome(Vec::new());
    o.prefill_worker_seconds = 10.0;
    o.decode_worker_seconds = 20.0;
    let r = report(&disagg, &o);
    assert_eq!(r.number("prefill_gpus_per_worker"), Some(4.0));
    assert_eq!(r.number("decode_gpus_per_worker"), Some(6.0));
    assert_eq!(r.number("gpu_hours"), Some((40.0 + 120.0) / 3600.0));
}

#[test]
fn percentiles_are_samples_at_the_nearest_rank() {
    // TTFT of 1 to 8 ms: ranks of 0..=7 are 3.5, 5.25, 6.3, 6.65 and 6.93; halves go up.
    let records = (1..=8u32).rev().map(|i| completed(8 - i, 0.0, &[f64::from(i)])).collect();
    let r = report(&run(), &outcome(records));
    for (key, value) in [("median", 5.0), ("p75", 6.0), ("p90", 7.0), ("p95", 8.0), ("p99", 8.0)] {
        assert_eq!(r.number(&format!("{key}_ttft_ms")), Some(value), "{key}");
    }
    // One token each: nothing between tokens to measure.
    assert_eq!(r.number("max_ttst_ms"), Some(0.0));
    assert_eq!(r.number("max_tpot_ms"), Some(0.0));
}

#[test]
fn goodput_needs_every_given_bound_and_treats_short_outputs_by_rule() {
    let records = vec![
        completed(0, 0.0, &[10.0, 20.0, 30.0]), // ttft 10, itl 10, e2e 30
        completed(1, 0.0, &[10.0, 60.0]),       // ttft 10, itl 50, e2e 60
        completed(2, 0.0, &[40.0]),             // ttft 40, no gap, e2e 40
        completed(3, 0.0, &[]),                 // no token, ends after 50
        lost(4, 0.0, FinalStatus::Rejected),
    ];
    let good = |ttft_ms, itl_ms, e2e_ms| {
        let mut asked = run();
        asked.sla = Sla { ttft_ms, itl_ms, e2e_ms };
        let r = report(&asked, &outcome(records.clone()));
        let tokens = r.number("goodput_output_throughput_tok_s").unwrap() * 0.06;
        (r.number("goodput_completed_requests").unwrap(), tokens.round())
    };
    assert_eq!(good(Some(10.0), None, None), (2.0, 5.0));
    assert_eq!(good(None, Some(10.0), None), (2.0, 4.0));
    assert_eq!(good(Some(10.0), Some(10.0), None), (1.0, 3.0));
    assert_eq!(good(None, None, Some(50.0)), (3.0, 4.0));
    assert_eq!(good(None, None, Some(49.9)), (2.0, 4.0));
    assert_eq!(good(Some(100.0), None, Some(100.0)), (3.0, 6.0));
    assert_eq!(good(Some(0.0), Some(0.0), Some(0.0)), (0.0, 0.0));
}

#[test]
fn every_report_names_semantics_timing_and_what_went_wrong() {
    let mut asked = run();
    asked.warnings.push("from the scenario".into());
    asked.semantics.charge_recompute = true;
    let mut o = outcome(vec![lost(0, 0.0, FinalStatus::Failed), lost(1, 0.0, FinalStatus::Failed)]);
    o.dead_ends = (0..22).map(|i| format!("dead end {i}")).collect();
    let notes = ["from the trace".to_owned()];
    let r = Report::build(&asked, &o, &SessionNames::default(), &notes, Duration::from_millis(1));
    let said = warnings(&r);
    assert_eq!(said[..2], ["from the scenario", "from the trace"]);
    assert_eq!(said[2], "2 requests were failed: nothing could take them any further (first: request 0)");
    assert_eq!(said[3], "dead end 0");
    assert_eq!(said[22..], ["dead end 19", "2 more dead ends like these"]);
    assert_eq!(r.get("timing").unwrap(), "polynomial (DynoSim default, Dynamo 1.4.2)");
    assert_eq!(
        serde_json::to_string(r.get("semantics").unwrap()).unwrap(),
        r#"{"base":"custom","charge_recompute":true,"fail_infeasible":false,"handoff_after_first_token":false,"honest_reuse":false}"#
    );
    assert!(r.table().contains("Semantics: custom (charge_recompute)\n"));
    asked.semantics = Semantics::corrected();
    assert!(report(&asked, &o).table().contains("Semantics: corrected\n"));
}

#[test]
fn the_table_is_drawn_exactly() {
    let records = vec![completed(0, 0.0, &[23.361, 1_523.361]), completed(1, 1000.0, &[6_457.5])];
    let expected = "\
DynoSim | LLM Metrics
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┓
┃ Metric                                             ┃      avg ┃      min ┃      max ┃      p99 ┃      p90 ┃      p75 ┃      std ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━┩
┃ Time to First Token (ms)                           ┃ 2,740.43 ┃    23.36 ┃ 5,457.50 ┃ 5,457.50 ┃ 5,457.50 ┃ 5,457.50 ┃ 2,717.07 ┃
┃ Time to Second Token (ms)                          ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃     0.00 ┃
┃ Request Latency (ms)                               ┃ 3,490.43 ┃ 1,523.36 ┃ 5,457.50 ┃ 5,457.50 ┃ 5,457.50 ┃ 5,457.50 ┃ 1,967.07 ┃
┃ Inter Token Latency (ms)                           ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃ 1,500.00 ┃     0.00 ┃
┃ Output Token Throughput Per User (tokens/sec/user) ┃     0.67 ┃     0.67 ┃     0.67 ┃     0.67 ┃     0.67 ┃     0.67 ┃     0.00 ┃
┃ Output Token Throughput (tokens/sec)               ┃     0.46 ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃
┃ Request Throughput (requests/sec)                  ┃     0.31 ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃
┃ Request Count (requests)                           ┃     2.00 ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃      N/A ┃
└━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┴━━━━━━━━━━┴━━━━━━━━━━┴━━━━━━━━━━┴━━━━━━━━━━┴━━━━━━━━━━┴━━━━━━━━━━┴━━━━━━━━━━┘
Wall Time (ms): 250.00
Prefix Cache Reused Ratio: 0.00
First Admission Prefix Cache Reused Ratio: 0.00
Semantics: dynamo
Timing: polynomial (DynoSim default, Dynamo 1.4.2)
";
    let table = report(&run(), &outcome(records)).table();
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn scaling_is_listed_before_the_table_and_in_the_json() {
    let mut scaled = run();
    scaled.scaling = Some(idle_script());
    let mut o = outcome(Vec::new());
    o.scaling_events.push(ScalingEvent { at: ms(12_000.0), role: Role::Decode, from: 2, to: 3 });
    let r = report(&scaled, &o);
    assert!(
        r.table().starts_with("\nScaling events:\n  t=12.0s [decode]: 2 -> 3 workers (scale_up)\nDynoSim |"),
        "{}",
        r.table()
    );
    let events = serde_json::to_string(r.get("scaling_events").unwrap()).unwrap();
    assert_eq!(events, r#"[{"at_ms":12000.0,"from":2,"pool":"decode","to":3}]"#);
}

fn rows(outcome: &Outcome, names: &SessionNames) -> Vec<String> {
    let mut bytes = Vec::new();
    write_rows(&mut bytes, outcome, names).unwrap();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn rows_of_aggregated_runs_leave_hand_off_fields_null() {
    let record = RequestRecord { reused_tokens: 16, ..completed(9, 1.5, &[11.5, 12.5, 15.5]) };
    let expected = r#"{"session_id":null,"turn_index":null,"uuid":"00000000-0000-0000-0000-00000000000a","arrival_time_ms":1.5,"first_admit_ms":1.5,"terminal_time_ms":15.5,"first_token_ms":11.5,"last_token_ms":15.5,"ttft_ms":10.0,"ttst_ms":1.0,"e2e_latency_ms":14.0,"itl_ms":2.0,"input_length":100,"requested_output_length":3,"output_length":3,"reused_input_tokens":16,"prefill_worker_idx":null,"decode_worker_idx":1,"prefill_admit_ms":null,"source_held_ms":null,"destination_reserved_ms":null,"destination_activated_ms":null,"decode_admit_ms":null,"source_released_ms":null,"decode_reused_input_tokens":null,"prefill_route_overlap_tokens":null,"decode_route_overlap_tokens":null,"terminal_status":"completed"}"#;
    assert_eq!(rows(&outcome(vec![record]), &SessionNames::default()), [expected]);
    let single = RequestRecord { decode_worker: None, ..record };
    let row = &rows(&outcome(vec![single]), &SessionNames::default())[0];
    assert!(row.contains(r#""prefill_worker_idx":null,"decode_worker_idx":null"#));
}

#[test]
fn rows_of_disaggregated_runs_tell_how_far_a_request_came() {
    let at_prefill = RequestRecord {
        prefill_worker: Some(0),
        decode_worker: None,
        handoff: Some(HandoffRecord::default()),
        ..completed(0, 0.0, &[])
    };
    let rejected = RequestRecord { first_admit: None, status: FinalStatus::Rejected, ..at_prefill };
    let held = HandoffRecord { prefill_admit: Some(ms(0.0)), source_held: Some(ms(5.0)), ..HandoffRecord::default() };
    let failed = RequestRecord { handoff: Some(held), status: FinalStatus::Failed, ..at_prefill };
    let stamps = HandoffRecord {
        destination_reserved: Some(ms(6.0)),
        destination_activated: Some(ms(7.0)),
        decode_admit: Some(ms(8.0)),
        source_released: Some(ms(7.0)),
        decode_reused_tokens: Some(32),
        ..held
    };
    let done = RequestRecord { prefill_worker: Some(0), handoff: Some(stamps), ..completed(0, 0.0, &[10.0, 20.0]) };
    let tail = |record| {
        let row = rows(&outcome(vec![record]), &SessionNames::default()).remove(0);
        row[row.find("\"prefill_worker_idx\"").unwrap()..].to_owned()
    };
    assert_eq!(
        tail(rejected),
        r#""prefill_worker_idx":0,"decode_worker_idx":null,"prefill_admit_ms":null,"source_held_ms":null,"destination_reserved_ms":null,"destination_activated_ms":null,"decode_admit_ms":null,"source_released_ms":null,"decode_reused_input_tokens":null,"prefill_route_overlap_tokens":0,"decode_route_overlap_tokens":null,"terminal_status":"rejected"}"#
    );
    assert_eq!(
        tail(failed),
        r#""prefill_worker_idx":0,"decode_worker_idx":null,"prefill_admit_ms":0.0,"source_held_ms":5.0,"destination_reserved_ms":null,"destination_activated_ms":null,"decode_admit_ms":null,"source_released_ms":null,"decode_reused_input_tokens":null,"prefill_route_overlap_tokens":0,"decode_route_overlap_tokens":0,"terminal_status":"failed"}"#
    );
    assert_eq!(
        tail(done),
        r#""prefill_worker_idx":0,"decode_worker_idx":1,"prefill_admit_ms":0.0,"source_held_ms":5.0,"destination_reserved_ms":6.0,"destination_activated_ms":7.0,"decode_admit_ms":8.0,"source_released_ms":7.0,"decode_reused_input_tokens":32,"prefill_route_overlap_tokens":0,"decode_route_overlap_tokens":0,"terminal_status":"completed"}"#
    );
}

#[test]
fn rows_are_sorted_named_and_only_of_requests_that_ended() {
    let workload = |named| Workload {
        requests: Vec::new(),
        release: Release::Sessions {
            sessions: vec![Session { name: "chat \"1\"".into(), first: 0, turns: 3 }],
            concurrency: None,
            named,
        },
        content: Content::Unique,
        notes: Vec::new(),
        planned_outputs: false,
        timed: true,
        hints: RouterHints::default(),
    };
    let turn =
        |request, arrival| RequestRecord { session_turn: Some((0, request)), ..completed(request, arrival, &[9.0]) };
    let o = outcome(vec![turn(2, 5.0), lost(3, 1.0, FinalStatus::Unfinished), turn(1, 0.0), turn(0, 0.0)]);
    let starts = |names: &SessionNames| -> Vec<String> {
        rows(&o, names).iter().map(|row| row[..row.find(",\"arrival").unwrap()].to_owned()).collect()
    };
    let expected = [0, 1, 2].map(|i| {
        let uuid = format!("00000000-0000-0000-0000-{:012}", i + 1);
        format!(r#"{{"session_id":"chat \"1\"","turn_index":{i},"uuid":"{uuid}""#)
    });
    assert_eq!(starts(&SessionNames::of(&workload(true))), expected);
    assert!(starts(&SessionNames::of(&workload(false)))[0].starts_with(r#"{"session_id":null,"turn_index":null"#));
}

#[test]
fn a_time_series_has_one_fleet_row_and_one_row_per_worker_and_sample() {
    let worker = |running| WorkerSnapshot {
        id: 4,
        role: Role::Decode,
        state: WorkerState::Draining,
        waiting: 2,
        running,
        kv_active: 10,
        kv_cached: 20,
        kv_free: 34,
        busy_until: Some(ms(600.0)),
    };
    let snapshot = |at, running, tokens| Snapshot {
        at: ms(at),
        workers: vec![worker(running)],
        arrived: 3,
        finished: 1,
        in_handoff: 1,
        output_tokens: tokens,
    };
    let mut recorder = Recorder::new(SimDuration::from_ms(500.0).unwrap()).unwrap();
    for sample in [snapshot(0.0, 0, 0), snapshot(500.0, 1, 2), snapshot(1000.0, 2, 2)] {
        recorder.sample(sample).unwrap();
    }
    let mut bytes = Vec::new();
    recorder.write_csv(&mut bytes, &outcome(vec![completed(0, 100.0, &[300.0, 500.0])])).unwrap();
    let expected = "\
time_s,scope,worker,state,waiting,running,busy,kv_active_blocks,kv_cached_blocks,kv_free_blocks,workers_starting,\
workers_active,workers_draining,arrived,finished,in_handoff,requests_per_s,output_tokens_per_s,ttft_p50_ms,ttft_p90_ms,\
ttft_p99_ms,tpot_p50_ms,tpot_p90_ms,tpot_p99_ms,e2e_p50_ms,e2e_p90_ms,e2e_p99_ms
0,fleet,,,2,0,1,10,20,34,0,0,1,3,1,1,,,,,,,,,,,
0,decode,4,draining,2,0,1,10,20,34,,,,,,,,,,,,,,,,,
0.5,fleet,,,2,1,1,10,20,34,0,0,1,3,1,1,2,4,200,200,200,200,200,200,400,400,400
0.5,decode,4,draining,2,1,1,10,20,34,,,,,,,,,,,,,,,,,
1,fleet,,,2,2,0,10,20,34,0,0,1,3,1,1,0,0,,,,,,,,,
1,decode,4,draining,2,2,0,10,20,34,,,,,,,,,,,,,,,,,
";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn a_time_series_without_interval_is_refused() {
    assert_eq!(Recorder::new(SimDuration::ZERO).unwrap_err(), TimeseriesError::NoInterval);
}
