//! What pass times come from: descriptions of models and GPUs, tables, profiles.

use std::fs;
use std::io::{Cursor, Write};

use dynosim::perf::{
    Backend, ForwardPassTable, FusedPass, GpuSpec, ModelConfig, ModelShape, NpzProfile, PrefillChunk, PromptAttention,
    Roofline, RooflineSetup, TableLibrary, clamped_decode_ms, clamped_prefill_ms, estimate, kv_capacity,
};
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::scenario::resolve;
use crate::{path, told, two_files, write};

/// Counts and lengths from nothing to beyond anything sensible.
const SIZES: [u64; 6] = [0, 1, 17, 4_096, 1 << 31, u64::MAX];
/// Names of the arrays of a profile.
const ARRAYS: [&str; 5] =
    ["prefill_isl", "prefill_ttft_ms", "decode_active_kv_tokens", "decode_context_length", "decode_itl"];

/// Reads `data` as a `config.json`, and beside it a `hf_quant_config.json`.
pub fn model(data: &[u8]) {
    let (config, quantization) = two_files(data);
    let folder = path("checkpoint");
    fs::create_dir_all(&folder).expect("a folder");
    write("checkpoint/config.json", config);
    write("checkpoint/hf_quant_config.json", quantization);
    let args = json!({ "aic_model_path": folder, "aic_system": "h200_sxm", "aic_tp_size": 2 });
    resolve(json!({ "extra-engine-args": args, "on-missing-timing": "roofline" }));
    if let Ok(text) = std::str::from_utf8(config)
        && let Ok(config) = ModelConfig::parse(text, "config.json").inspect_err(|error| told(error))
    {
        let gpu = GpuSpec::known("h100_sxm").expect("shipped");
        estimates(&gpu, &config.shape, &RooflineSetup::new(1, config.weights, config.kv_cache));
    }
}

/// Reads `data` as the description of a GPU.
pub fn gpu(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(gpu) = GpuSpec::parse(text, "gpu.json").inspect_err(|error| told(error)) else { return };
    for (name, tp) in [("qwen3-32b", 2), ("qwen3-30b-a3b", 4)] {
        let config = ModelConfig::known(name).expect("shipped");
        estimates(&gpu, &config.shape, &RooflineSetup::new(tp, config.weights, config.kv_cache));
    }
}

/// Reads `data` as a timing table, by itself and in a folder.
pub fn table(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(table) = ForwardPassTable::parse(text, "table.json").inspect_err(|error| told(error))
    {
        answers(|b, new, prefix| table.prefill_ms(b, new, prefix), |b, context| table.decode_ms(b, context));
        each_pass(|pass| table.fused_ms(pass));
        let mut row = table.decode_row(17);
        for context in SIZES {
            row.next(context);
        }
        for backend in [Backend::Vllm, Backend::Sglang, Backend::Trtllm] {
            drop(kv_capacity(&table.memory, backend, None, 16, Some(8_192)));
        }
    }
    let folder = path("tables");
    fs::create_dir_all(&folder).expect("a folder");
    write("tables/table.json", data);
    drop(TableLibrary::with_folders(&[folder]));
}

/// Reads `data` as an archive of arrays.
pub fn profile(data: &[u8]) {
    if let Ok(profile) = NpzProfile::parse(data, "profile.npz").inspect_err(|error| told(error)) {
        answers(|_, new, _| profile.prefill_ms(new), |b, context| profile.decode_ms(b, context));
    }
}

/// Reads an archive whose arrays are the parts of `data`, so that checksums are right.
pub fn arrays(mut data: &[u8]) {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for name in ARRAYS {
        let (array, rest) = two_files(data);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(format!("{name}.npy"), options).expect("memory takes it");
        writer.write_all(array).expect("memory takes it");
        data = rest;
    }
    profile(&writer.finish().expect("memory takes it").into_inner());
}

fn estimates(gpu: &GpuSpec, shape: &ModelShape, setup: &RooflineSetup) {
    if let Ok(roofline) = Roofline::new(gpu, shape, setup) {
        answers(|b, new, prefix| roofline.prefill_ms(b, new, prefix), |b, context| roofline.decode_ms(b, context));
        each_pass(|pass| roofline.fused_ms(pass));
    }
    for backend in [Backend::Vllm, Backend::Sglang, Backend::Trtllm] {
        if let Ok(parts) = estimate(gpu, shape, setup, backend, 8_192) {
            drop(kv_capacity(&parts, backend, None, 16, Some(8_192)));
        }
    }
}

/// Asks for passes of any size; what is used of the answers is never negative.
fn answers(prefill: impl Fn(u64, u64, u64) -> f64, decode: impl Fn(u64, u64) -> f64) {
    for count in SIZES {
        for length in SIZES {
            assert!(clamped_decode_ms(count, decode(count, length)).is_none_or(|ms| ms >= 0.0));
            for prefix in SIZES {
                assert!(clamped_prefill_ms(count, length, prefill(count, length, prefix)).is_none_or(|ms| ms >= 0.0));
            }
        }
    }
}

fn each_pass(fused: impl Fn(&FusedPass<'_>) -> f64) {
    for attention in [PromptAttention::Mean, PromptAttention::PerRequest] {
        for (size, prefix) in [(1, 0), (17, 4_096), (4_096, 1 << 31)] {
            let chunk = |new, prefix| PrefillChunk { new, prefix, finishes: new == 1 };
            let prefills = [chunk(size, prefix), chunk(1, size)];
            let pass =
                FusedPass { prefills: &prefills, decodes: size, context: prefix, tokens_per_decode: 2, attention };
            fused(&pass);
        }
    }
}
