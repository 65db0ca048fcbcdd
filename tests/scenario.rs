//! The scenario document: what it accepts, what it refuses and how it says so.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use dynosim::scenario::{
    EngineConfig, KvRouter, Preset, QueuePolicy, Role, RouterMode, Run, Scenario, ScenarioError, SchedulerKind,
    Semantics, SglangPolicy, SglangSettings, SyntheticArrivals, Topology, TraceReading, TraceSource, TrafficSource,
};
use dynosim::time::{SimDuration, SimTime};
use proptest::prelude::*;
use serde_json::{Value, json};

fn resolve(document: Value) -> Result<Run, ScenarioError> {
    Scenario::from_json(&document.to_string())?.resolve(Path::new(""))
}

fn message(document: Value) -> String {
    resolve(document).expect_err("the scenario should be refused").to_string()
}

/// A scenario with a trace and these engine arguments.
fn engine(args: Value) -> Value {
    json!({ "trace": "t.jsonl", "extra-engine-args": args })
}

/// A closed-loop synthetic scenario with these keys on top.
fn synthetic(keys: Value) -> Value {
    let mut document = json!({ "input-tokens": 10, "output-tokens": 2, "request-count": 3, "replay-concurrency": 1 });
    for (key, value) in keys.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

fn aggregated(run: &Run) -> &dynosim::scenario::EngineConfig {
    match &run.topology {
        Topology::Aggregated { engine, .. } => engine,
        Topology::Disaggregated { .. } => panic!("not aggregated"),
    }
}

#[test]
fn a_trace_alone_takes_every_default_of_the_reference() {
    let run = resolve(json!({ "trace": "t.jsonl" })).unwrap();
    let engine = aggregated(&run);
    assert_eq!((engine.num_gpu_blocks, engine.block_size), (16_384, 64));
    assert_eq!((engine.max_num_seqs, engine.max_num_batched_tokens), (Some(256), Some(8_192)));
    assert_eq!((engine.dp_size, engine.tp_size, engine.role), (1, 1, Role::Aggregated));
    assert!(engine.enable_prefix_caching && engine.enable_chunked_prefill && engine.speculation.is_none());
    assert_eq!(run.semantics, Semantics::dynamo());
    assert_eq!(run.traffic.arrival_speedup, 1.0);
    let paths = vec!["t.jsonl".into()];
    assert_eq!(run.traffic.source, TrafficSource::Trace(TraceSource { paths, reading: TraceReading::default() }));
    assert!(run.warnings.is_empty());
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    assert_eq!(message(json!({ "num_worker": 2 })), "`num_worker`: unknown key; did you mean `num-workers`?");
    let text = message(engine(json!({ "num_gpu_block": 2 })));
    assert_eq!(text, "`extra-engine-args.num_gpu_block`: unknown key; did you mean `num_gpu_blocks`?");
    assert!(message(json!({ "workload": { "preset": "agent", "session": 3 } })).contains("did you mean `sessions`?"));
    assert!(message(json!({ "trace": "t", "semantics": { "fail_infeasable": true } })).contains("`fail_infeasible`?"));
}

#[test]
fn null_means_unset() {
    let document = json!({ "trace": "t.jsonl", "num-workers": null, "workload": null, "outputs": null });
    assert_eq!(resolve(document), resolve(json!({ "trace": "t.jsonl" })));
}

#[test]
fn null_engine_limits_mean_no_limit_and_null_blocks_the_default() {
    let run = resolve(engine(json!({ "max_num_seqs": null, "max_num_batched_tokens": null, "num_gpu_blocks": null })))
        .unwrap();
    let engine = aggregated(&run);
    assert_eq!((engine.max_num_seqs, engine.max_num_batched_tokens, engine.num_gpu_blocks), (None, None, 16_384));
    assert!(message(self::engine(json!({ "dp_size": null }))).contains("must not be null"));
}

#[test]
fn features_that_have_not_landed_are_refused_by_name() {
    for (document, key) in [
        (engine(json!({ "g1_backend": "kvbm" })), "extra-engine-args.g1_backend"),
        (
            json!({ "trace": "t", "router-config": { "router_prefill_load_model": "aic" } }),
            "router-config.router_prefill_load_model",
        ),
        (json!({ "trace": "t", "replay-mode": "online" }), "replay-mode"),
        (json!({ "trace": "t", "aic-backend": "vllm" }), "aic-backend"),
        (json!({ "trace": "t", "interventions": [] }), "interventions"),
        (json!({ "trace": "t", "outputs": {} }), "outputs"),
    ] {
        let text = message(document);
        assert!(text.starts_with(&format!("`{key}`: ")) && text.contains("not supported yet"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn settings_without_effect_offline_are_accepted() {
    let run = resolve(engine(json!({
        "engine_type": "VLLM", "num_g2_blocks": 0, "bootstrap_port": 1, "has_perf_model": "x", "g1_backend": "native",
        "reasoning": { "start_thinking_token_id": 1, "end_thinking_token_id": 2, "thinking_ratio": 0.5 },
        "handoff_session_timeout_ms": 5, "router_queue_policy": "wspt",
    })));
    assert!(run.unwrap().warnings.is_empty());
}

#[test]
fn tiers_that_contradict_other_arguments_are_refused() {
    for (args, key, cure) in [
        (json!({ "num_g2_blocks": 9 }), "num_g2_blocks", "give `kv_bytes_per_token`"),
        (json!({ "num_g3_blocks": 9, "kv_bytes_per_token": 1 }), "num_g3_blocks", "give `num_g2_blocks` too"),
        (json!({ "enable_g4_storage": true, "num_g2_blocks": 0 }), "enable_g4_storage", "give `num_g2_blocks` too"),
        (json!({ "num_g2_blocks": 9, "kv_bytes_per_token": 1, "engine_type": "sglang" }), "num_g2_blocks", "use vllm"),
        (json!({ "num_g2_blocks": 9, "kv_bytes_per_token": 1, "g1_backend": "native" }), "g1_backend", "leave it out"),
    ] {
        let text = message(engine(args));
        assert!(text.starts_with(&format!("`extra-engine-args.{key}`: ")) && text.contains(cure), "{text}");
    }
}

#[test]
fn tiers_take_the_defaults_of_the_reference_and_are_warned_of() {
    let run = resolve(engine(json!({ "num_g2_blocks": 9, "kv_bytes_per_token": 10, "num_g3_blocks": 0 }))).unwrap();
    let tiers = aggregated(&run).tiers.unwrap();
    assert_eq!((tiers.host_blocks, tiers.disk_blocks, tiers.object_store, tiers.batch), (9, 0, false, 32));
    assert_eq!((tiers.block_bytes, tiers.bandwidth.g1_to_g2, tiers.bandwidth.g2_to_g1), (640, 14.0, 14.0));
    assert_eq!((tiers.bandwidth.g2_to_g3, tiers.bandwidth.g3_to_g2), (7.0, 7.0));
    assert_eq!((tiers.bandwidth.g2_to_g4, tiers.bandwidth.g4_to_g2), (4.0, 4.0));
    assert!(run.warnings.iter().any(|w| w.contains("the reference's published program accepts them and ignores")));
    let without = resolve(engine(json!({ "offload_batch_size": 4 }))).unwrap();
    assert!(without.warnings[0].contains("`extra-engine-args.offload_batch_size` has no effect without"));
}

#[test]
fn contention_where_no_transfer_takes_time_is_warned_of() {
    let warnings = |prefill: Value, decode: Value| {
        let document = json!({ "trace": "t", "prefill-engine-args": prefill, "decode-engine-args": decode });
        resolve(document).unwrap().warnings
    };
    let shared = json!({ "kv_transfer_contention": "shared" });
    let fast = json!({ "kv_transfer_contention": "shared", "kv_transfer_bandwidth": 1, "kv_bytes_per_token": 1 });
    assert!(warnings(fast.clone(), json!({})).is_empty());
    assert!(warnings(shared, json!({}))[0].starts_with("`prefill-engine-args.kv_transfer_contention` has no effect"));
    assert!(warnings(json!({}), fast)[0].starts_with("`decode-engine-args.kv_transfer_contention` has no effect"));
    assert!(message(engine(json!({ "kv_transfer_contention": "fair" }))).contains("give independent or shared"));
}

#[test]
fn block_size_one_is_refused_and_zero_is_the_default() {
    assert!(message(engine(json!({ "block_size": 1 }))).contains("`extra-engine-args.block_size`: is 1"));
    assert_eq!(aggregated(&resolve(engine(json!({ "block_size": 0 }))).unwrap()).block_size, 64);
}

#[test]
fn every_engine_has_its_own_block_size_and_settings() {
    let resolved = |args: Value| aggregated(&resolve(engine(args)).unwrap()).clone();
    let trtllm = resolved(json!({ "engine_type": "TRTLLM", "trtllm": { "capacity_scheduler_policy": null } }));
    assert_eq!((trtllm.scheduler, trtllm.block_size), (SchedulerKind::TrtLlm, 32));
    let settings = |args: Value| match resolved(args) {
        EngineConfig { scheduler: SchedulerKind::Sglang(settings), block_size, .. } => (block_size, settings),
        other => panic!("not sglang: {other:?}"),
    };
    let defaults = SglangSettings {
        policy: SglangPolicy::Fifo,
        max_prefill_tokens: 16_384,
        chunked_prefill_size: 8_192,
        clip_max_new_tokens: 4_096,
        schedule_conservativeness: 1.0,
    };
    assert_eq!(settings(json!({ "engine_type": "SGLang", "sglang": null })), (1, defaults));
    assert_eq!(settings(json!({ "engine_type": "sglang", "block_size": 0, "sglang": { "page_size": 32 } })).0, 32);
    let given = json!({
        "page_size": 16, "schedule_policy": "lpm", "max_prefill_tokens": 100, "chunked_prefill_size": 64,
        "clip_max_new_tokens": 0, "schedule_conservativeness": 0.3,
    });
    let expected = SglangSettings {
        policy: SglangPolicy::LongestPrefix,
        max_prefill_tokens: 100,
        chunked_prefill_size: 64,
        clip_max_new_tokens: 0,
        schedule_conservativeness: 0.3,
    };
    assert_eq!(settings(json!({ "engine_type": "sglang", "block_size": 16, "sglang": given })), (16, expected));
}

#[test]
fn settings_that_contradict_an_engine_are_refused_and_those_it_ignores_are_named() {
    for (args, cause) in [
        (json!({ "engine_type": "sglang", "max_model_len": 9 }), "max_model_len`: is given for sglang"),
        (json!({ "engine_type": "trtllm", "max_model_len": 9 }), "max_model_len`: is given for trtllm"),
        (json!({ "engine_type": "trtllm", "block_size": 1 }), "block_size`: is 1, which the trtllm scheduler"),
        (
            json!({ "engine_type": "sglang", "block_size": 16, "sglang": { "page_size": 32 } }),
            "sglang.page_size`: is 32, but `extra-engine-args.block_size` is 16",
        ),
        (
            json!({ "engine_type": "sglang", "block_size": 16, "sglang": { "chunked_prefill_size": 100 } }),
            "sglang.chunked_prefill_size`: is 100, which is no multiple of the 16 tokens",
        ),
        (json!({ "engine_type": "sglang", "sglang": { "schedule_policy": "dfs" } }), "fifo or fcfs or lpm"),
    ] {
        let text = message(engine(args));
        assert!(text.contains(cause), "{text}");
    }
    let pair = |prefill: &str, decode: &str| {
        let (prefill, decode) = (json!({ "engine_type": prefill }), json!({ "engine_type": decode }));
        message(json!({ "trace": "t", "prefill-engine-args": prefill, "decode-engine-args": decode }))
    };
    assert!(
        pair("sglang", "vllm")
            .contains("`decode-engine-args.engine_type`: is vllm, but the prefill workers have sglang")
    );
    assert!(pair("trtllm", "trtllm").contains("does not hand requests over"));
    let warnings = |args: Value| resolve(engine(args)).unwrap().warnings;
    for (kind, ignored) in [("vllm", "sglang"), ("trtllm", "preemption_mode"), ("sglang", "enable_prefix_caching")] {
        let value = match ignored {
            "sglang" => json!({}),
            "preemption_mode" => json!("fifo"),
            _ => json!(false),
        };
        let warnings = warnings(json!({ "engine_type": kind, "block_size": 16, ignored: value }));
        assert_eq!(warnings, [format!("`extra-engine-args.{ignored}` has no effect with {kind}.")]);
    }
    // 8192 is no multiple of it.
    assert_eq!(warnings(json!({ "engine_type": "sglang", "block_size": 48 })).len(), 1);
}

#[test]
fn accept_rates_are_cut_or_padded_to_the_number_of_drafts() {
    let rates = |args: Value| {
        let run = resolve(engine(args)).unwrap();
        let speculation = aggregated(&run).speculation.clone().unwrap();
        (speculation.accept_rates, speculation.seed, run.warnings.len())
    };
    assert_eq!(rates(json!({ "aic_nextn": 3 })), (vec![0.85, 0.3, 0.0], 42, 0));
    assert_eq!(
        rates(json!({ "aic_nextn": 2, "aic_nextn_accept_rates": "1, 1", "aic_mtp_seed": 7 })),
        (vec![1.0, 1.0], 7, 0)
    );
    assert_eq!(rates(json!({ "aic_nextn": 2, "aic_nextn_accept_rates": "0.5" })), (vec![0.5, 0.0], 42, 1));
    assert_eq!(rates(json!({ "aic_nextn": 1, "aic_nextn_accept_rates": "0.5,0.4" })), (vec![0.5], 42, 1));
    for bad in ["1.5", "nan", "a,b", "1,"] {
        let text = message(engine(json!({ "aic_nextn": 2, "aic_nextn_accept_rates": bad })));
        assert!(text.contains("aic_nextn_accept_rates"), "{text}");
    }
    assert!(message(engine(json!({ "aic_nextn_accept_rates": "1" }))).contains("without `aic_nextn`"));
    assert!(message(engine(json!({ "aic_nextn": 1, "decode_speedup_ratio": 2.0 }))).contains("decode_speedup_ratio"));
}

#[test]
fn gpus_are_counted_from_tensor_and_data_parallel_sizes() {
    let run = resolve(engine(json!({ "aic_tp_size": 4, "aic_attention_dp_size": 2 }))).unwrap();
    assert_eq!(aggregated(&run).gpus_per_worker(), 8);
    assert!(message(engine(json!({ "dp_size": 3, "aic_attention_dp_size": 2 }))).contains("dp_size"));
}

#[test]
fn startup_time_is_in_seconds() {
    let run = resolve(engine(json!({ "startup_time": 0.03 }))).unwrap();
    assert_eq!(aggregated(&run).startup_time, SimDuration::from_nanos(30_000_000));
}

#[test]
fn the_worker_type_follows_from_the_pool_and_only_a_contradiction_is_refused() {
    let disagg = |prefill: Value, decode: Value| json!({ "trace": "t", "prefill-engine-args": prefill, "decode-engine-args": decode });
    for prefill in
        [json!({}), json!({ "worker_type": "prefill" }), json!({ "is_prefill": true }), json!({ "is_decode": false })]
    {
        let run = resolve(disagg(prefill, json!({ "worker_type": "Decode" }))).unwrap();
        let Topology::Disaggregated { prefill, decode, .. } = run.topology else { panic!("not disaggregated") };
        assert_eq!((prefill.role, decode.role), (Role::Prefill, Role::Decode));
    }
    for prefill in
        [json!({ "worker_type": "decode" }), json!({ "worker_type": "aggregated" }), json!({ "is_decode": true })]
    {
        assert!(message(disagg(prefill, json!({}))).contains("these workers are prefill"));
    }
    assert!(message(engine(json!({ "worker_type": "prefill" }))).contains("these workers are aggregated"));
}

#[test]
fn separate_pools_have_rules_of_their_own() {
    let base = || json!({ "trace": "t", "prefill-engine-args": {}, "decode-engine-args": {} });
    let with = |key: &str, value: Value| {
        let mut document = base();
        document[key] = value;
        document
    };
    assert!(resolve(base()).is_ok());
    assert!(resolve(with("num-workers", json!(1))).is_ok());
    assert!(message(with("num-workers", json!(2))).contains("`num-workers`: is 2"));
    assert!(message(with("num-prefill-workers", json!(0))).contains("is 0"));
    assert!(message(with("extra-engine-args", json!({}))).contains("`extra-engine-args`"));
    assert!(message(with("decode-engine-args", json!({ "block_size": 16 }))).contains("block_size"));
    assert!(message(with("prefill-engine-args", json!({ "dp_size": 2 }))).contains("dp_size"));
    assert!(message(with("trace-format", json!("mooncake-delta"))).contains("trace-format"));
    assert!(message(with("decode-engine-args", Value::Null)).contains("given without `decode-engine-args`"));
    assert!(message(json!({ "trace": "t", "num-decode-workers": 2 })).contains("`num-decode-workers`: is 2"));
}

#[test]
fn exactly_one_source_of_requests_and_one_arrival_rule() {
    assert!(message(json!({})).contains("no traffic is given"));
    assert!(message(synthetic(json!({ "trace": "t" }))).contains("together with a trace"));
    assert!(message(synthetic(json!({ "workload": { "preset": "agent" } }))).contains("another source"));
    assert!(message(json!({ "input-tokens": 1, "request-rate": 1.0 })).contains("`output-tokens`: is missing"));
    assert!(message(synthetic(json!({ "replay-concurrency": null }))).contains("nothing says when"));
    assert!(message(synthetic(json!({ "request-rate": 2.0 }))).contains("another arrival rule"));
    let with_rate = json!({ "trace": "t", "trace-format": "mooncake", "request-rate": 2.0 });
    assert!(message(with_rate).contains("mooncake traces bring their own arrivals"));
    assert!(message(json!({ "trace": ["a", "b"], "trace-format": "mooncake" })).contains("names 2 files"));
    let run = resolve(synthetic(json!({ "replay-concurrency": null, "request-rate": 2.0 }))).unwrap();
    let TrafficSource::Synthetic(load) = run.traffic.source else { panic!("not synthetic") };
    assert_eq!(load.arrivals, Some(SyntheticArrivals::Poisson { rate_per_s: 2.0 }));
}

#[test]
fn numbers_outside_their_range_are_refused() {
    for (key, value) in [
        ("replay-concurrency", json!(0)),
        ("arrival-speedup-ratio", json!(0)),
        ("arrival-speedup-ratio", json!(-1.5)),
        ("sla-ttft-ms", json!(-1)),
        ("max-sim-time-seconds", json!(-1)),
        ("max-sim-time-seconds", json!(1e300)),
        ("trace-block-size", json!(0)),
        ("trace-shared-prefix-ratio", json!(1.5)),
        ("num-workers", json!(0)),
        ("num-workers", json!(5_000_000_000_u64)),
        ("num-workers", json!("2")),
        ("model-name", json!("")),
        ("timeseries-interval", json!(0)),
        ("version", json!(2)),
        ("report-json", json!("")),
    ] {
        let mut document = json!({ "trace": "t" });
        document[key] = value;
        let text = message(document);
        assert!(text.contains(&format!("`{key}`")), "{text}");
    }
    // More than the reference offers: rows and a time cap for synthetic loads too.
    for (key, value) in [("report-jsonl", json!("r")), ("max-sim-time-seconds", json!(1))] {
        assert!(resolve(synthetic(json!({ key: value }))).is_ok(), "{key}");
    }
}

#[test]
fn what_the_reference_accepts_in_silence_gives_a_warning() {
    let warnings = |document: Value| resolve(document).unwrap().warnings;
    for (document, word) in [
        (engine(json!({ "speedup_ratio": 0 })), "speedup_ratio"),
        (synthetic(json!({ "num-prefix-groups": 3 })), "num-prefix-groups"),
        (json!({ "trace": "t", "replay-concurrency": 2, "arrival-speedup-ratio": 2.0 }), "arrival-speedup-ratio"),
        (json!({ "trace": "t", "turns-per-session": 2 }), "turns-per-session"),
        (engine(json!({ "aic_gemm_dtype": "fp8" })), "aic_gemm_dtype"),
    ] {
        let warnings = warnings(document);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(word) && warnings[0].ends_with('.'), "{warnings:?}");
    }
}

#[test]
fn semantics_is_a_name_or_a_base_with_switches() {
    let semantics = |value: Value| resolve(json!({ "trace": "t", "semantics": value })).map(|run| run.semantics);
    assert_eq!(semantics(json!("corrected")), Ok(Semantics::corrected()));
    let one = Semantics { fail_infeasible: true, ..Semantics::dynamo() };
    assert_eq!(semantics(json!({ "fail_infeasible": true })), Ok(one));
    let rest = Semantics { honest_reuse: false, ..Semantics::corrected() };
    assert_eq!(semantics(json!({ "base": "corrected", "honest_reuse": false })), Ok(rest));
    assert!(semantics(json!("fast")).unwrap_err().to_string().contains("use dynamo or corrected"));
    assert!(semantics(json!(3)).is_err());
}

#[test]
fn a_scaling_script_is_read_and_checked() {
    let script = json!({ "first_tick_ms": 15.0, "interval_ms": 25.0, "steps": [
        { "from_ms": 0, "target_decode": 3 }, { "from_ms": 50, "target_decode": 1 } ] });
    let run = resolve(json!({ "trace": "t", "scaling": script })).unwrap();
    let scaling = run.scaling.unwrap();
    assert_eq!(scaling.first_tick, SimTime::from_ms(15.0).unwrap());
    assert_eq!((scaling.steps[1].decode, scaling.steps[1].prefill), (Some(1), None));
    for (script, key) in [
        (json!({ "steps": [{ "from_ms": 0 }] }), "scaling.interval_ms"),
        (json!({ "interval_ms": 0, "steps": [{ "from_ms": 0 }] }), "scaling.interval_ms"),
        (json!({ "interval_ms": 1, "steps": [] }), "scaling.steps"),
        (json!({ "interval_ms": 1, "steps": [{ "from_ms": 5 }, { "from_ms": 5 }] }), "scaling.steps[1].from_ms"),
        (json!({ "interval_ms": 1, "steps": [{ "target_decode": 0 }] }), "scaling.steps[0].target_decode"),
        (json!({ "interval_ms": 1, "steps": [{ "target_prefill": 2 }] }), "scaling.steps[0].target_prefill"),
    ] {
        let text = message(json!({ "trace": "t", "scaling": script }));
        assert!(text.starts_with(&format!("`{key}`")), "{text}");
    }
}

#[test]
fn a_preset_takes_its_defaults_and_overrides() {
    let run = resolve(json!({ "workload": { "preset": "agent", "sessions": 3, "mean_turns": 2 } })).unwrap();
    let TrafficSource::Preset(Preset::Agent(preset)) = run.traffic.source else { panic!("not a preset") };
    assert_eq!((preset.sessions, preset.mean_turns, preset.block_size), (3, 2.0, 64));
    assert!(message(json!({ "workload": { "preset": "web" } })).contains("workload.preset"));
    assert!(message(json!({ "workload": { "preset": "agent", "sessions": -1 } })).contains("`workload.sessions`"));
}

#[test]
fn a_run_spelled_out_as_a_document_resolves_to_itself() {
    for document in [
        json!({ "trace": "t", "semantics": "corrected", "max-sim-time-seconds": 0.1, "sla-e2e-ms": 3, "seed": 9 }),
        engine(json!({ "aic_nextn": 3, "max_num_seqs": null, "startup_time": 0.1, "preemption_mode": "fifo" })),
        synthetic(json!({ "turns-per-session": 3, "inter-turn-delay-ms": 0.7 })),
        json!({ "workload": { "preset": "agent" }, "scaling": {
            "interval_ms": 0.3, "steps": [{ "from_ms": 0.1, "target_decode": 2 }] } }),
        json!({ "trace": "t", "decode-engine-args": {}, "prefill-engine-args": {
            "kv_transfer_bandwidth": 2.5, "kv_bytes_per_token": 7, "kv_transfer_contention": "shared" } }),
        json!({ "trace": "t", "prefill-engine-args": { "kv_transfer_bandwidth": 2.5 },
            "decode-engine-args": { "kv_transfer_timing_mode": "destination_missing" }, "num-decode-workers": 3 }),
        engine(json!({ "num_g2_blocks": 5, "num_g3_blocks": 6, "enable_g4_storage": true, "kv_bytes_per_token": 3,
            "g1_backend": "kvbm", "offload_batch_size": 2, "bandwidth_g2_to_g4_gbps": 0.5 })),
        json!({ "trace": "t", "router-mode": "power-of-two", "router-seed": 5, "router-ties": "lowest-id",
            "router-load-delay-ms": 0.25 }),
        kv(json!({ "overlap_score_weight": 0.3, "router_queue_threshold": 0.5, "router_queue_policy": "wspt" })),
    ] {
        let run = resolve(document).unwrap();
        let text = Scenario::describe(&run).unwrap().to_json();
        assert_eq!(Scenario::from_json(&text).unwrap().resolve(Path::new("")).unwrap(), run, "{text}");
    }
}

#[test]
fn paths_of_a_file_start_at_its_folder_and_documents_may_live_in_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("args.json"), r#"{"block_size": 16}"#).unwrap();
    let file = folder.path().join("s.json");
    std::fs::write(&file, r#"{"trace": "t.jsonl", "extra-engine-args": "args.json", "semantics": "corrected"}"#)
        .unwrap();
    let run = Scenario::load(&file).unwrap().resolve(Path::new("")).unwrap();
    assert_eq!(aggregated(&run).block_size, 16);
    let TrafficSource::Trace(trace) = &run.traffic.source else { panic!("not a trace") };
    assert_eq!(trace.paths, [folder.path().join("t.jsonl")]);

    std::fs::write(folder.path().join("args.json"), r#"{"block_size": 1}"#).unwrap();
    let error = Scenario::load(&file).unwrap().resolve(Path::new("")).unwrap_err().to_string();
    assert!(error.contains("args.json, `extra-engine-args.block_size`"), "{error}");
}

#[test]
fn the_schema_describes_every_key() {
    let schema: Value = serde_json::from_str(&Scenario::schema_json()).unwrap();
    let everything = serde_json::to_value(Scenario::default()).unwrap();
    for key in everything.as_object().unwrap().keys() {
        let property = &schema["properties"][key];
        assert!(property["description"].is_string(), "{key}: {property}");
    }
    assert_eq!(schema["properties"].as_object().unwrap().len(), everything.as_object().unwrap().len());
    assert_eq!(schema["additionalProperties"], json!(false));
    let engine = &schema["properties"]["extra-engine-args"]["anyOf"][0]["properties"];
    assert!(engine["num_gpu_blocks"]["description"].is_string());
}

#[test]
fn shipped_scenarios_resolve_without_warnings() {
    for name in ["quickstart.json", "quickstart-disagg.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
        let run = Scenario::load(&path).unwrap().resolve(Path::new("")).unwrap();
        assert!(run.warnings.is_empty() && run.sla.is_given(), "{name}");
    }
}

/// Any JSON value, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1e308)),
        (0_u32..4).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["vllm", "prefill", "1,1", "0.5", "fifo", "{", "dynamo", "agent"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,10}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Names of all properties of the schema at `pointer`.
fn names(pointer: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&Scenario::schema_json()).unwrap();
    schema.pointer(pointer).and_then(Value::as_object).unwrap().keys().cloned().collect()
}

proptest! {
    #[test]
    fn engine_arguments_never_panic(
        pairs in prop::collection::vec((prop::sample::select(names("/properties/extra-engine-args/anyOf/0/properties")), any_json()), 0..5)
    ) {
        let args: Value = Value::Object(pairs.into_iter().collect());
        let _ = resolve(engine(args.clone()));
        let _ = resolve(json!({ "trace": "t", "prefill-engine-args": args, "decode-engine-args": {} }));
    }

    #[test]
    fn documents_never_panic(pairs in prop::collection::vec((prop::sample::select(names("/properties")), any_json()), 0..5)) {
        let mut document = json!({ "trace": "t" });
        for (key, value) in pairs {
            document[key] = value;
        }
        if let Ok(run) = resolve(document) {
            prop_assert!(Scenario::describe(&run).is_ok());
        }
    }

    #[test]
    fn any_text_is_a_scenario_or_an_error(text in ".{0,60}") {
        let _ = Scenario::from_json(&text);
    }
}

/// A scenario with the KV router over two workers and these settings.
fn kv(config: Value) -> Value {
    json!({ "trace": "t", "num-workers": 2, "router-mode": "kv_router", "router-config": config })
}

#[test]
fn the_kv_router_takes_the_settings_of_the_reference() {
    let settings = |config: Value| {
        let run = resolve(kv(config)).unwrap();
        match run.router.mode {
            RouterMode::Kv(kv) => (*kv, run.warnings),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(settings(json!({})), (KvRouter::default(), Vec::new()));
    let (given, _) = settings(json!({
        "overlap_score_credit": 2, "overlap_score_credit_decay": 0.5, "prefill_load_scale": 4, "router_temperature": 1,
        "decode_active_request_weight": 0.25, "router_track_active_blocks": false, "router_assume_kv_reuse": false,
        "router_track_prefill_tokens": false, "router_queue_threshold": 0.4, "router_queue_policy": "wspt",
    }));
    assert_eq!((given.overlap_score_credit, given.overlap_score_credit_decay), (2.0, 0.5));
    assert_eq!((given.prefill_load_scale, given.temperature, given.decode_active_request_weight), (4.0, 1.0, 0.25));
    assert!(!given.track_active_blocks && !given.assume_kv_reuse && !given.track_prefill_tokens);
    assert_eq!((given.queue_threshold, given.queue_policy), (Some(0.4), QueuePolicy::Wspt));
    // The older name outranks the newer one, and 0 takes the credit away as well.
    let (older, _) = settings(json!({ "overlap_score_weight": 0, "prefill_load_scale": 3 }));
    assert_eq!((older.prefill_load_scale, older.overlap_score_credit), (0.0, 0.0));
    let (_, warnings) = settings(json!({ "router_ttl_secs": 5, "router_predicted_ttl_secs": null }));
    assert_eq!(warnings, ["`router-config.router_ttl_secs` has no effect in a simulation."]);
}

#[test]
fn a_mistake_in_router_settings_is_named_in_every_mode() {
    for (config, expected) in [
        (
            json!({ "overlap_score_credits": 1 }),
            "`router-config.overlap_score_credits`: unknown key; did you mean `overlap_score_credit`?",
        ),
        (
            json!({ "overlap_score_credit": -1 }),
            "`router-config.overlap_score_credit`: is -1; give a number of at least 0",
        ),
        (json!({ "router_temperature": null }), "`router-config.router_temperature`: must not be null"),
        (json!({ "router_queue_policy": "FCFS" }), "give fcfs or lcfs or wspt"),
        (json!({ "host_cache_hit_weight": 2 }), "give a number from 0 to 1"),
        (json!({ "router_track_output_blocks": true, "router_track_active_blocks": false }), "give both or none"),
        (json!({ "use_remote_indexer": true, "serve_indexer": true }), "keep one of them"),
        (json!({ "serve_indexer": true, "overlap_score_credit": 0 }), "give a credit above 0"),
        (json!({ "router_predicted_ttl_secs": 1, "use_kv_events": false }), "`use_kv_events` is false"),
        (json!({ "router_tracking_key_id": "x" }), "is not keyed-xxh3-v1"),
        (json!({ "router_tracking_hash": "keyed-xxh3-v1" }), "without `router_tracking_key_file`"),
        (json!({ "durable_kv_events": true }), "which nothing supports"),
        (json!({ "router_policy_config": "missing.yaml" }), "cannot read missing.yaml"),
    ] {
        let mut document = kv(config);
        let text = message(document.clone());
        assert!(text.contains(expected), "{text}");
        document["router-mode"] = json!("round_robin");
        assert_eq!(message(document), text);
    }
}

#[test]
fn router_modes_are_known_by_their_words_and_need_something_to_choose() {
    for (word, canonical) in [
        ("round_robin", "round_robin"),
        ("random", "random"),
        ("least-loaded", "least_loaded"),
        ("least_loaded", "least_loaded"),
        ("power-of-two", "power_of_two"),
        ("session-affinity", "session_affinity"),
    ] {
        let run = resolve(json!({ "trace": "t", "router-mode": word })).unwrap();
        assert_eq!(run.router.mode.word(), canonical);
    }
    assert!(message(json!({ "trace": "t", "router-mode": "kv" })).contains("use round_robin, kv_router, random"));
    assert!(message(json!({ "trace": "t", "router-mode": "kv_router" })).contains("only one worker to choose"));
    let ranks = json!({ "trace": "t", "router-mode": "kv_router", "extra-engine-args": { "dp_size": 2 } });
    assert!(resolve(ranks).is_ok());
    let pools = json!({
        "trace": "t", "router-mode": "kv_router", "prefill-engine-args": {}, "decode-engine-args": {},
    });
    assert!(resolve(pools).is_ok(), "one worker of each kind is enough");
    assert!(message(json!({ "trace": "t", "router-ties": "first" })).contains("use random or lowest-id"));
    assert!(message(json!({ "trace": "t", "router-load-delay-ms": -1.0 })).contains("`router-load-delay-ms`"));
    assert!(message(json!({ "trace": "t", "model-name": " " })).contains("`model-name`: is empty"));
}

#[test]
fn the_router_has_its_own_seed_or_that_of_the_run_and_the_engine_may_set_the_order_of_its_queue() {
    let seed = |keys: Value| resolve(keys).unwrap().router.seed;
    assert_eq!(seed(json!({ "trace": "t" })), 42);
    assert_eq!(seed(json!({ "trace": "t", "seed": 7 })), 7);
    assert_eq!(seed(json!({ "trace": "t", "seed": 7, "router-seed": 9 })), 9);
    let mut document = kv(json!({ "router_queue_policy": "fcfs" }));
    document["extra-engine-args"] = json!({ "router_queue_policy": "lcfs" });
    match resolve(document).unwrap().router.mode {
        RouterMode::Kv(kv) => assert_eq!(kv.queue_policy, QueuePolicy::Lcfs),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_of_the_kv_router_are_idle_in_other_modes_and_said_to_be() {
    let keys = json!({
        "trace": "t", "router-config": {}, "router-kv-event-delay-ms": 1.0, "router-load-delay-ms": 1.0,
    });
    let warnings = |mode: &str| {
        let mut document = keys.clone();
        document["router-mode"] = json!(mode);
        resolve(document).unwrap().warnings.len()
    };
    assert_eq!((warnings("round_robin"), warnings("random"), warnings("least_loaded")), (3, 3, 2));
}

#[test]
fn every_fault_of_a_planner_configuration_is_named_at_once() {
    let planner = json!({
        "mode": "agg", "optimization_target": "sla", "ttft_ms": -1, "fpm_sample_bucket_size": 15,
        "load_adjustment_interval_seconds": "soon",
    });
    let text = message(json!({ "trace": "t", "planner-config": planner }));
    let named = ["ttft_ms", "fpm_sample_bucket_size", "load_adjustment_interval_seconds"];
    assert_eq!(text.lines().count(), named.len(), "{text}");
    assert!(named.iter().all(|name| text.contains(&format!("`planner-config.{name}`"))), "{text}");
}

#[test]
fn a_planner_must_fit_the_fleet() {
    let text = message(json!({ "trace": "t", "planner-config": {} }));
    assert!(text.contains("planner-config.mode") && text.contains("agg"), "{text}");
    let scaling = json!({ "first_tick_ms": 1.0, "interval_ms": 1.0, "steps": [] });
    let text = message(json!({ "trace": "t", "planner-config": { "mode": "agg" }, "scaling": scaling }));
    assert!(text.contains("scaling"), "{text}");
    let run =
        resolve(json!({ "trace": "t", "planner-config": { "mode": "agg", "decode_engine_num_gpu": 1 } })).unwrap();
    assert!(run.planner.is_some() && run.warnings.is_empty(), "{:?}", run.warnings);
}
