//! Room for KV blocks: the figures of the shipped tables follow from the shapes of their models.

use std::fs;
use std::path::Path;

use dynosim::perf::{
    Backend, GpuSpec, KvCapacity, MemoryParts, ModelConfig, ModelShape, PerfError, Precision, RooflineSetup, estimate,
    kv_capacity,
};
use serde_json::Value;

/// What the memory estimate needs to know of a table, and the `memory` block it holds.
struct Table {
    file: String,
    gpu: GpuSpec,
    backend: Backend,
    setup: RooflineSetup,
    model: String,
    shape: ModelShape,
    memory: Value,
}

/// All shipped tables.
fn tables() -> Vec<Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/perf");
    let mut tables = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder of tables is readable") {
        let path = entry.expect("entry").path();
        let file = path.file_name().expect("name").to_string_lossy().into_owned();
        if !file.contains("__") || path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a table is readable");
        let table: Value = serde_json::from_str(&text).expect("a table is JSON");
        let meta = &table["meta"];
        let format = |key: &str| Precision::named(meta["quant"][key].as_str().expect(key)).expect(key);
        let setup = RooflineSetup {
            moe_tp: meta["moe_tp"].as_u64(),
            moe_ep: meta["moe_ep"].as_u64(),
            ..RooflineSetup::new(meta["tp"].as_u64().expect("tp"), format("gemm"), format("kv_cache"))
        };
        tables.push(Table {
            file,
            gpu: GpuSpec::known(meta["system"].as_str().expect("system")).expect("a shipped GPU"),
            backend: meta["backend"].as_str().expect("backend").parse().expect("a backend"),
            setup,
            model: meta["model"].as_str().expect("model").to_owned(),
            shape: serde_json::from_value(table["model"].clone()).expect("a shape"),
            memory: table["memory"].clone(),
        });
    }
    assert!(tables.len() >= 38, "only {} tables", tables.len());
    tables
}

fn known(name: &str) -> ModelConfig {
    ModelConfig::known(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn parts(model: &str, gpu: &str, tp: u64, backend: Backend) -> MemoryParts {
    let model = known(model);
    let setup = RooflineSetup::new(tp, model.weights, model.kv_cache);
    let gpu = GpuSpec::known(gpu).expect("a shipped GPU");
    estimate(&gpu, &model.shape, &setup, backend, 8192).expect("a model that divides")
}

#[test]
fn the_memory_block_of_every_table_follows_from_the_shape() {
    for table in tables() {
        let made = estimate(&table.gpu, &table.shape, &table.setup, table.backend, 8192).unwrap();
        let block: MemoryParts = serde_json::from_value(table.memory.clone()).unwrap();
        assert_eq!(made, block, "{}", table.file);
        for (size, blocks) in table.memory["num_gpu_blocks"].as_object().unwrap() {
            let room = kv_capacity(&made, table.backend, None, size.parse().unwrap(), None).unwrap();
            assert_eq!(Some(room.num_gpu_blocks), blocks.as_u64(), "{} with blocks of {size}", table.file);
            assert_eq!(Some(room.kv_tokens), table.memory["kv_tokens"].as_u64(), "{}", table.file);
            assert_eq!(Some(room.kv_budget_bytes), table.memory["kv_budget_bytes"].as_u64(), "{}", table.file);
        }
    }
}

#[test]
fn the_model_of_every_table_is_known_by_its_name_in_the_same_shape_and_formats() {
    for table in tables() {
        let model = known(&table.model);
        assert_eq!(model.shape, table.shape, "{}", table.file);
        assert_eq!((model.weights, model.kv_cache), (table.setup.weights, table.setup.kv_cache), "{}", table.file);
    }
}

#[test]
fn published_examples_come_out() {
    for (gpu, blocks) in [
        ("h200_sxm", [116_997, 29_249, 3_656]),
        ("h100_sxm", [60_780, 15_195, 1_899]),
        ("b200_sxm", [152_940, 38_235, 4_779]),
    ] {
        let parts = parts("nvidia/Llama-3.1-8B-Instruct-FP8", gpu, 1, Backend::Vllm);
        assert_eq!((parts.weights_bytes, parts.kv_bytes_per_token), (9_080_668_160, 65_536));
        let made =
            [16, 64, 512].map(|size| kv_capacity(&parts, Backend::Vllm, None, size, None).unwrap().num_gpu_blocks);
        assert_eq!(made, blocks, "{gpu}");
    }
}

#[test]
fn the_parts_of_a_capacity_add_up() {
    let parts = parts("llama-3.1-70b", "h200_sxm", 4, Backend::Vllm);
    let room: KvCapacity = kv_capacity(&parts, Backend::Vllm, Some(0.8), 16, None).unwrap();
    let non_kv = room.weights_bytes + room.activations_bytes + room.runtime_overhead_bytes + room.comm_overhead_bytes;
    assert_eq!(non_kv, parts.non_kv_bytes());
    assert_eq!(room.kv_budget_bytes, (room.gpu_capacity_bytes as f64 * 0.8) as u64 - non_kv);
    assert_eq!(room.kv_tokens, room.kv_budget_bytes / room.kv_bytes_per_token);
    assert_eq!(room.num_gpu_blocks, room.kv_tokens / room.block_size);
    assert_eq!((room.fraction, room.block_size, room.max_num_batched_tokens), (0.8, 16, 8192));
}

#[test]
fn other_pass_sizes_give_what_an_estimate_for_them_gives() {
    for table in tables() {
        let stored: MemoryParts = serde_json::from_value(table.memory.clone()).unwrap();
        for tokens in [1, 512, 2048, 8191, 8192, 16_384, 131_072] {
            let fresh = estimate(&table.gpu, &table.shape, &table.setup, table.backend, tokens).unwrap();
            let changed = stored.clone().with_max_num_batched_tokens(table.backend, tokens);
            assert_eq!(changed, fresh, "{} at {tokens}", table.file);
            let room = |parts, tokens| kv_capacity(parts, table.backend, None, 16, tokens).unwrap();
            assert_eq!(room(&stored, Some(tokens)), room(&fresh, None), "{} at {tokens}", table.file);
        }
    }
}

#[test]
fn activations_have_a_floor_that_a_smaller_pass_does_not_break() {
    let mib = 1 << 20;
    let floor =
        |backend| parts("qwen3-0.6b", "h200_sxm", 1, backend).with_max_num_batched_tokens(backend, 1).activations_bytes;
    assert_eq!(floor(Backend::Vllm), 70 * mib);
    assert_eq!(floor(Backend::Trtllm), 70 * mib);
    assert_eq!(floor(Backend::Sglang), (90.0 * mib as f64 * 1.15) as u64);
}

#[test]
fn the_fraction_is_of_all_memory_or_of_free_memory_by_backend() {
    let room = |backend, fraction| {
        let parts = parts("llama-3.1-8b", "h100_sxm", 1, backend);
        let budget = kv_capacity(&parts, backend, Some(fraction), 16, None).unwrap().kv_budget_bytes as f64;
        (parts.gpu_capacity_bytes as f64, parts.non_kv_bytes() as f64, budget)
    };
    let (capacity, non_kv, budget) = room(Backend::Vllm, 0.75);
    assert_eq!(budget, (capacity * 0.75 - non_kv).floor());
    // SGLang's parts are not whole bytes, but add up to the budget within two.
    let (capacity, non_kv, budget) = room(Backend::Sglang, 0.75);
    assert!((capacity * 0.75 - non_kv - budget).abs() <= 2.0);
    let (capacity, non_kv, budget) = room(Backend::Trtllm, 0.75);
    assert_eq!(budget, ((capacity - non_kv) * 0.75).floor());
}

#[test]
fn no_room_is_an_error_that_states_capacity_fraction_and_what_the_rest_takes() {
    let parts = parts("qwen3-32b", "rtx_4090", 1, Backend::Vllm);
    let error = kv_capacity(&parts, Backend::Vllm, None, 16, None).unwrap_err().to_string();
    for text in ["`gpu_memory_utilization`", "0.9", "25769803776", &parts.non_kv_bytes().to_string()] {
        assert!(error.contains(text), "no {text} in: {error}");
    }
    // Room for some tokens, but not for a block of them.
    let parts = self::parts("llama-3.1-8b", "h100_sxm", 1, Backend::Vllm);
    let error = kv_capacity(&parts, Backend::Vllm, None, 1 << 40, None).unwrap_err().to_string();
    assert!(error.contains("less than a block"), "{error}");
}

#[test]
fn a_fraction_outside_0_to_1_is_refused_under_the_backends_own_name() {
    for (backend, name) in [
        (Backend::Vllm, "gpu_memory_utilization"),
        (Backend::Sglang, "mem_fraction_static"),
        (Backend::Trtllm, "free_gpu_memory_fraction"),
    ] {
        let parts = parts("llama-3.1-8b", "h100_sxm", 1, backend);
        for fraction in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            match kv_capacity(&parts, backend, Some(fraction), 16, None) {
                Err(PerfError::Setting { field, .. }) => assert_eq!(field, name),
                other => panic!("{backend} {fraction}: {other:?}"),
            }
        }
    }
}

#[test]
fn absurd_sizes_saturate_instead_of_wrapping() {
    let parts = parts("llama-3.1-405b", "h100_sxm", 8, Backend::Sglang);
    let error = kv_capacity(&parts, Backend::Sglang, Some(1.0), 16, Some(u64::MAX)).unwrap_err();
    assert!(matches!(error, PerfError::Setting { .. }), "{error}");
}
