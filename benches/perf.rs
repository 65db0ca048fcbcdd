//! What one pass time costs: the timing models as the simulation asks them, with inputs that change from call to call.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::io::{Cursor, Write as _};

use criterion::{Criterion, Throughput};
use dynosim::perf::{ForwardPassTable, FusedPass, NpzProfile, PrefillChunk, PromptAttention, TableLibrary, polynomial};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Different inputs cycled through, so that neither the branch predictor nor the optimiser sees one input only.
const INPUTS: usize = 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    tables(&mut criterion);
    profiles(&mut criterion);
    polynomials(&mut criterion);
    loading(&mut criterion);
    criterion.final_summary();
}

/// A spread of inputs of several magnitudes: pairs of a small and a large number.
fn inputs() -> Vec<(u64, u64)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |largest: f64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        largest.powf((state >> 11) as f64 / (1u64 << 53) as f64) as u64
    };
    (0..INPUTS).map(|_| (draw(256.0), draw(32_768.0))).collect()
}

/// Times `f` over all inputs; the figure per element is that of one call.
fn each(criterion: &mut Criterion, name: &str, f: impl Fn(u64, u64) -> f64) {
    let inputs = inputs();
    let mut group = criterion.benchmark_group("pass_time");
    group.throughput(Throughput::Elements(INPUTS as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| inputs.iter().map(|(a, b)| f(black_box(*a), black_box(*b))).sum::<f64>());
    });
    group.finish();
}

fn table() -> std::sync::Arc<ForwardPassTable> {
    TableLibrary::embedded().by_slug("llama-3.1-8b-fp8__h200_sxm__vllm__tp1").unwrap()
}

fn tables(criterion: &mut Criterion) {
    let table = table();
    each(criterion, "table_prefill", |count, tokens| table.prefill_ms(1 + count % 8, tokens, count * 64));
    each(criterion, "table_decode", |count, context| table.decode_ms(count, context));
    each(criterion, "table_fused", |count, tokens| {
        let prefills = [PrefillChunk { new: tokens, prefix: 512, finishes: true }];
        let attention = PromptAttention::Mean;
        table.fused_ms(&FusedPass {
            prefills: &prefills,
            decodes: count,
            context: tokens,
            tokens_per_decode: 1,
            attention,
        })
    });
}

fn profiles(criterion: &mut Criterion) {
    let profile = profile();
    each(criterion, "npz_prefill", |_, tokens| profile.prefill_ms(tokens));
    each(criterion, "npz_decode", |count, context| profile.decode_ms(count * context, context));
}

fn polynomials(criterion: &mut Criterion) {
    each(criterion, "polynomial_prefill", |count, tokens| polynomial::prefill_ms(count * tokens));
    each(criterion, "polynomial_decode", |count, context| polynomial::decode_ms(count * context, 16_000_000));
}

/// A profile of the size the profiler writes, 40 x 40 points.
fn profile() -> NpzProfile {
    let axis: Vec<f64> = (0..40).map(|index| 1.35f64.powi(index) * 32.0 + f64::from(index)).collect();
    let times: Vec<f64> = axis.iter().map(|x| 5.0 + x * 0.01).collect();
    let grid: Vec<f64> = axis.iter().flat_map(|x| axis.iter().map(move |y| 5.0 + x * 1e-4 + y * 1e-3)).collect();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, shape, values) in [
        ("prefill_isl", "(40,)", &axis),
        ("prefill_ttft_ms", "(40,)", &times),
        ("decode_active_kv_tokens", "(40,)", &axis),
        ("decode_context_length", "(40,)", &axis),
        ("decode_itl", "(40, 40)", &grid),
    ] {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
        writer.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        writer.write_all(b"\x93NUMPY\x01\x00").unwrap();
        writer.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        writer.write_all(header.as_bytes()).unwrap();
        writer.write_all(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    NpzProfile::parse(&writer.finish().unwrap().into_inner(), "bench.npz").unwrap()
}

/// What choosing a table costs at the start of a run.
fn loading(criterion: &mut Criterion) {
    let text = include_str!("../assets/perf/llama-3.1-8b-fp8__h200_sxm__vllm__tp1.json");
    let mut group = criterion.benchmark_group("table_loading");
    group
        .bench_function("parse", |bencher| bencher.iter(|| ForwardPassTable::parse(black_box(text), "bench").unwrap()));
    group.finish();
}
