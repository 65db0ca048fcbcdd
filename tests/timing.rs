//! Timing models in a run: what they are chosen by, what they do to passes, what reports say of them.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use dynosim::perf::{DecodeLoad, PassTimer, TimerSetup, TimingModel};
use dynosim::scenario::{EngineConfig, Run, Scenario, Topology};
use serde_json::{Value, json};

const AIC: &str = r#"{"aic_backend": "vllm", "aic_system": "h200_sxm",
    "aic_model_path": "nvidia/Llama-3.1-8B-Instruct-FP8", "aic_tp_size": 1}"#;

fn aic() -> Value {
    serde_json::from_str(AIC).unwrap()
}

fn with(mut base: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

fn scenario(args: Value, more: Value) -> Scenario {
    let base = json!({
        "input-tokens": 1000, "output-tokens": 20, "request-count": 40, "request-rate": 20.0, "extra-engine-args": args,
    });
    Scenario::from_json(&with(base, more).to_string()).unwrap()
}

fn resolve(args: Value, more: Value) -> Run {
    scenario(args, more).resolve(Path::new("")).unwrap()
}

fn message(args: Value, more: Value) -> String {
    scenario(args, more).resolve(Path::new("")).unwrap_err().to_string()
}

fn engine(run: &Run) -> &EngineConfig {
    match &run.topology {
        Topology::Aggregated { engine, .. } => engine,
        Topology::Disaggregated { decode, .. } => decode,
    }
}

#[test]
fn the_arguments_of_the_planner_guide_find_their_table_and_its_kv_blocks() {
    let run = resolve(aic(), json!({}));
    let engine = engine(&run);
    assert_eq!(
        engine.timing.provenance,
        "table llama-3.1-8b-fp8 / h200_sxm / vllm 0.24.0 / tp1, from AIConfigurator 0.12.0"
    );
    assert_eq!((engine.num_gpu_blocks, engine.kv_bytes_per_token), (29_249, Some(65_536)));
    assert_eq!(run.warnings, Vec::<String>::new());
    for (block_size, blocks) in [(16, 116_997), (512, 3_656)] {
        let run = resolve(with(aic(), json!({ "block_size": block_size })), json!({}));
        assert_eq!(self::engine(&run).num_gpu_blocks, blocks);
    }
}

#[test]
fn what_is_given_outranks_what_is_estimated() {
    let run = resolve(with(aic(), json!({ "num_gpu_blocks": 77, "kv_bytes_per_token": 5 })), json!({}));
    let engine = engine(&run);
    assert_eq!((engine.num_gpu_blocks, engine.kv_bytes_per_token), (77, Some(5)));
    assert_eq!(engine.timing.capacity, None);
    let run = resolve(aic(), json!({ "timing-correction": { "num_gpu_blocks": 2588 } }));
    assert_eq!(self::engine(&run).num_gpu_blocks, 2_588);
}

#[test]
fn memory_settings_of_other_backends_are_named_as_idle() {
    let run = resolve(with(aic(), json!({ "mem_fraction_static": 0.5 })), json!({}));
    assert!(run.warnings[0].contains("mem_fraction_static") && run.warnings[0].contains("gpu_memory_utilization"));
    let smaller = resolve(with(aic(), json!({ "gpu_memory_utilization": 0.5 })), json!({}));
    assert!(engine(&smaller).num_gpu_blocks < 29_249 && smaller.warnings.is_empty());
    let text = message(with(aic(), json!({ "gpu_memory_utilization": 0.05 })), json!({}));
    assert!(text.contains("`extra-engine-args.gpu_memory_utilization`: 0.05"), "{text}");
}

#[test]
fn a_missing_table_is_an_error_with_neighbours_or_an_estimate_with_a_warning() {
    let l40s = with(aic(), json!({ "aic_system": "l40s" }));
    let text = message(l40s.clone(), json!({}));
    assert!(text.contains("llama-3.1-8b-fp8__h200_sxm__vllm__tp1") && text.contains("--on-missing-timing"), "{text}");
    let run = resolve(l40s, json!({ "on-missing-timing": "roofline" }));
    assert!(engine(&run).timing.provenance.starts_with("roofline estimate of "), "{}", engine(&run).timing.provenance);
    assert_eq!(run.warnings.len(), 1, "{:?}", run.warnings);
    assert!(engine(&run).timing.capacity.is_some());
}

#[test]
fn half_a_description_of_a_model_is_refused() {
    let text = message(json!({ "aic_backend": "vllm", "aic_system": "h200_sxm" }), json!({}));
    assert!(text.contains("aic_model_path") && text.contains("is missing"), "{text}");
    let text = message(json!({ "timing": { "roofline": { "model": "llama-3.1-8b" } } }), json!({}));
    assert!(text.contains("timing.roofline.gpu"), "{text}");
}

#[test]
fn experts_shared_by_more_groups_than_measured_are_refused() {
    let moe = json!({ "aic_backend": "vllm", "aic_system": "h200_sxm", "aic_model_path": "Qwen/Qwen3-30B-A3B" });
    assert!(engine(&resolve(moe.clone(), json!({}))).timing.provenance.contains("qwen3-30b-a3b-bf16"));
    let text = message(with(moe, json!({ "aic_attention_dp_size": 2 })), json!({}));
    assert!(text.contains("aic_attention_dp_size") && text.contains("measured with 1"), "{text}");
}

#[test]
fn a_size_that_does_not_fit_an_estimate_is_named() {
    let moe = json!({ "timing": { "roofline": { "model": "qwen3-30b-a3b", "gpu": "h100_sxm" } }, "aic_tp_size": 2 });
    for (argument, size, cause) in [
        ("aic_tp_size", 3, "is 3, which does not divide the 32 query heads; give a divisor of 32"),
        ("aic_moe_tp_size", 3, "is 3, which does not divide the 2 GPUs; give a divisor of 2"),
        ("aic_moe_ep_size", 3, "is 3, which does not divide the 2 GPUs; give a divisor of 2"),
        ("aic_attention_dp_size", 100_000, "is 100000; give a whole number from 1 to 65536"),
    ] {
        let text = message(with(moe.clone(), json!({ argument: size })), json!({}));
        assert_eq!(text, format!("`extra-engine-args.{argument}`: {cause}"));
    }
    let small = json!({ "timing": { "roofline": { "model": "llama-3.1-70b", "gpu": "rtx_4090" } } });
    let text = message(small, json!({}));
    assert!(text.starts_with("`extra-engine-args.gpu_memory_utilization`: 0.9 of all memory leaves no room"), "{text}");
}

#[test]
fn a_table_brings_its_tensor_parallel_size() {
    let table = json!({ "timing": { "table": "qwen3-32b-fp8__h200_sxm__vllm__tp4" } });
    assert_eq!(engine(&resolve(table.clone(), json!({}))).gpus_per_worker(), 4);
    let text = message(with(table, json!({ "aic_tp_size": 2 })), json!({}));
    assert!(text.contains("aic_tp_size") && text.contains("measured with 4"), "{text}");
}

#[test]
fn a_run_written_out_in_full_resolves_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/perf/qwen3-8b-bf16__h200_sxm__vllm__tp1.json");
    std::fs::copy(table, folder.path().join("mine.json")).unwrap();
    for args in [
        aic(),
        with(aic(), json!({ "gpu_memory_utilization": 0.8, "block_size": 16 })),
        json!({ "timing": { "table": "qwen3-8b-bf16__h200_sxm__vllm__tp1", "composition": "fused",
            "prompt_attention": "per_request", "per_pass_overhead_ms": 0.7 } }),
        json!({ "timing": { "roofline": { "model": "llama-3.1-8b", "gpu": "rtx_4090" } }, "num_gpu_blocks": 2588 }),
    ] {
        let more = json!({
            "timing-correction": { "decode_scale": 1.1 },
            "perf-tables": [folder.path().to_str().unwrap()],
            "on-missing-timing": "roofline",
        });
        let run = resolve(args, more);
        let again = Scenario::describe(&run).unwrap();
        let again = Scenario::from_json(&again.to_json()).unwrap().resolve(Path::new("/")).unwrap();
        assert_eq!(again, run);
    }
}

#[test]
fn fused_passes_need_a_model_that_knows_them_and_one_speed() {
    let text = message(json!({ "timing": { "composition": "fused" } }), json!({}));
    assert!(text.contains("timing.composition") && text.contains("table or a roofline"), "{text}");
    let fused = with(aic(), json!({ "timing": { "composition": "fused" }, "decode_speedup_ratio": 2.0 }));
    assert!(message(fused, json!({})).contains("decode_speedup_ratio"));
}

#[test]
fn corrections_are_checked_and_named() {
    let run = resolve(aic(), json!({ "timing-correction": { "prefill_scale": 0.9, "per_pass_overhead_ms": 1.5 } }));
    let provenance = &engine(&run).timing.provenance;
    assert!(
        provenance.contains("prefill x0.9, decode x1") && provenance.contains("1.5 ms more per pass"),
        "{provenance}"
    );
    for (bad, key) in [
        (json!({ "prefill_scale": 0.0 }), "timing-correction.prefill_scale"),
        (json!({ "decode_scale": -1.0 }), "timing-correction.decode_scale"),
        (json!({ "per_pass_overhead_ms": -0.1 }), "timing-correction.per_pass_overhead_ms"),
        (json!({ "composition": "product" }), "timing-correction.composition"),
        (json!({ "prefil_scale": 1.0 }), "timing-correction.prefil_scale"),
    ] {
        let text = message(aic(), json!({ "timing-correction": bad }));
        assert!(text.contains(key), "{text}");
    }
}

#[test]
fn a_correction_from_a_file_is_named_after_it_even_when_written_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("h200.json"), r#"{"decode_scale": 1.2}"#).unwrap();
    let scenario = json!({
        "input-tokens": 1, "output-tokens": 1, "request-count": 1, "arrival-interval-ms": 1,
        "timing-correction": "h200.json",
    });
    let run = Scenario::from_json(&scenario.to_string()).unwrap().resolve(folder.path()).unwrap();
    assert!(engine(&run).timing.provenance.ends_with("(corrected by h200.json)"));
    let spelled_out = Scenario::describe(&run).unwrap().to_json();
    assert_eq!(Scenario::from_json(&spelled_out).unwrap().resolve(Path::new("/")).unwrap(), run);
}

fn timer(args: Value, setup: TimerSetup) -> PassTimer {
    PassTimer::new(&engine(&resolve(args, json!({}))).timing, setup)
}

fn setup(drafts: u32) -> TimerSetup {
    TimerSetup {
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
        block_size: 64,
        num_gpu_blocks: 29_249,
        occupancy_unit: 64,
        drafts,
    }
}

#[test]
fn a_steady_stretch_takes_the_time_of_its_passes() {
    for args in [aic(), json!({ "timing": { "roofline": { "model": "llama-3.1-8b", "gpu": "h100_sxm" } } })] {
        let mut timer = timer(args, setup(0));
        let mut before = 0;
        for count in [1, 7, 64, 300, 5_000] {
            let load = |step: u64| DecodeLoad { count, len_sum: count * (100 + step) + count / 2, active_tokens: 0 };
            let mut stretch = timer.stretch(load(0));
            let walked: Vec<_> = (0..150_000).map(|_| stretch.next(0)).collect();
            let remarks = stretch.finish();
            let single: Vec<_> = (0..150_000).map(|step| timer.decode(load(step), true)).collect();
            assert_eq!(walked, single);
            let outside = timer.extrapolated() - before;
            timer.note(remarks);
            assert_eq!(timer.extrapolated() - before, 2 * outside);
            before = timer.extrapolated();
        }
        assert_eq!(timer.fault(), None);
    }
}

#[test]
fn a_draft_is_verified_in_one_pass_through_more_layers() {
    let mut plain = timer(aic(), setup(0));
    let mut drafting = timer(aic(), setup(2));
    let load = |count| DecodeLoad { count, len_sum: count * 1_000, active_tokens: 0 };
    let TimingModel::Table(table) = &engine(&resolve(aic(), json!({}))).timing.model.clone() else {
        panic!("no table");
    };
    let layers = table.layers() as f64;
    let expected = (layers + 2.0) / layers * plain.decode(load(24), true).as_ms();
    assert!((drafting.decode(load(8), true).as_ms() - expected).abs() < 1e-5);
    assert_eq!(plain.prefill(1, 500, 0), drafting.prefill(1, 500, 0));
}
