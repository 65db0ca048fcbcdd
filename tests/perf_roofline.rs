//! Pass times from data sheets: the published formulas and values, what is refused and why, and no panic on any file.

use std::path::Path;

use dynosim::perf::{
    Backend, ForwardPassTable, FusedPass, GpuSpec, ModelConfig, ModelShape, PerfError, Precision, PrefillChunk,
    PromptAttention, Roofline, RooflineSetup, estimate, kv_capacity,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "perf_roofline/gpus.rs"]
mod gpus;
#[path = "perf_roofline/hostile.rs"]
mod hostile;
#[path = "perf_roofline/models.rs"]
mod models;

fn gpu(name: &str) -> GpuSpec {
    GpuSpec::known(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn model(name: &str) -> ModelConfig {
    ModelConfig::known(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The roofline of a shipped model on a shipped GPU, in the model's own formats.
fn roofline(name: &str, on: &str, tp: u64) -> Roofline {
    let model = model(name);
    Roofline::new(&gpu(on), &model.shape, &RooflineSetup::new(tp, model.weights, model.kv_cache))
        .expect("a model that divides")
}

fn near(made: f64, expected: f64, relative: f64) -> bool {
    (made - expected).abs() <= relative * expected.abs()
}

#[test]
fn published_check_values_come_out() {
    let roofline = roofline("llama-3.1-8b-fp8", "h200_sxm", 1);
    for (count, new, prefix, ms) in [(1, 512, 0, 10.4303), (1, 8192, 0, 156.1848), (1, 2048, 6144, 45.8693)] {
        let made = roofline.prefill_ms(count, new, prefix);
        assert!(near(made, ms, 1e-5), "prefill ({count}, {new}, {prefix}): {made}");
    }
    for (count, context, ms) in [(1, 128, 3.4286), (64, 4096, 8.3154), (256, 8192, 41.5725)] {
        let made = roofline.decode_ms(count, context);
        assert!(near(made, ms, 1e-4), "decode ({count}, {context}): {made}");
    }
}

/// The published formulas as they are printed, in seconds.
struct Printed<'a> {
    gpu: &'a GpuSpec,
    shape: &'a ModelShape,
    setup: &'a RooflineSetup,
}

impl Printed<'_> {
    fn gemm(&self, m: f64, n: f64, k: f64, format: Precision, touched: f64) -> f64 {
        let w = format.bytes() as f64;
        let rate = match (format, self.gpu.fp8_flops) {
            (Precision::Fp8, Some(fp8)) => fp8 * 0.699,
            _ => self.gpu.bf16_flops * 0.891,
        };
        let traffic = w * n * k * touched + w * m * k + 2.0 * m * n;
        f64::max(2.0 * m * n * k / rate, traffic / (self.gpu.memory_bytes_per_s * 0.840)) + 8.54e-6
    }

    fn ew(&self, m: f64, bytes: f64) -> f64 {
        m * bytes / (self.gpu.memory_bytes_per_s * 0.187) + 2.04e-6
    }

    fn ar(&self, m: f64) -> f64 {
        let (tp, h) = (self.setup.tp as f64, self.shape.hidden as f64);
        if tp == 1.0 {
            return 0.0;
        }
        let link = self.gpu.intra_node_bytes_per_s.or(self.gpu.pcie_bytes_per_s).expect("a link");
        2.0 * (tp - 1.0) / tp * 2.0 * m * h / (link * 0.878) + 5.7e-6
    }

    fn mlp(&self, m: f64) -> f64 {
        let (h, tp, w) = (self.shape.hidden as f64, self.setup.tp as f64, self.setup.weights);
        match self.shape.experts {
            None => {
                let i = self.shape.intermediate as f64;
                self.gemm(m, 2.0 * i / tp, h, w, 1.0) + self.gemm(m, h, i / tp, w, 1.0) + self.ew(m, 6.0 * i / tp)
            }
            Some(e) => {
                let ep = self.setup.moe_ep.expect("moe_ep") as f64;
                let im = e.intermediate as f64 / self.setup.moe_tp.expect("moe_tp") as f64;
                let rows = m * e.per_token as f64 / ep;
                let local = e.count as f64 / ep;
                let touched = local * (1.0 - (-rows / local).exp());
                self.gemm(rows, 2.0 * im, h, w, touched) + self.gemm(rows, h, im, w, touched) + 9.5e-6
            }
        }
    }

    /// `Hg * d` and `Kg * d`.
    fn widths(&self) -> (f64, f64) {
        let d = self.shape.head_dim as f64;
        (self.shape.heads as f64 / self.setup.tp as f64 * d, self.shape.kv_heads.div_ceil(self.setup.tp) as f64 * d)
    }

    fn linear(&self, m: f64) -> f64 {
        let (h, w) = (self.shape.hidden as f64, self.setup.weights);
        let (q, k) = self.widths();
        self.shape.layers as f64
            * (self.gemm(m, q + 2.0 * k, h, w, 1.0)
                + self.gemm(m, h, q, w, 1.0)
                + 2.0 * self.ew(m, 8.0 * h)
                + self.mlp(m)
                + 2.0 * self.ar(m))
    }

    fn logits(&self, rows: f64) -> f64 {
        let n = self.shape.vocab as f64 / self.setup.tp as f64;
        self.gemm(rows, n, self.shape.hidden as f64, Precision::Bf16, 1.0)
    }

    fn prefill_attention(&self, b: f64, new: f64, p: f64) -> f64 {
        let (hd, kd) = self.widths();
        let (f, q) = (new + p, self.setup.kv_cache.bytes() as f64);
        let compute = 2.0 * b * (f * f - p * p) * hd / (self.gpu.bf16_flops * 0.663);
        let memory = b * (4.0 * hd * new + 2.0 * q * kd * f) / (self.gpu.memory_bytes_per_s * 0.799);
        self.shape.layers as f64 * (compute.max(memory) + 26.0e-6)
    }

    fn decode_attention(&self, b: f64, c: f64) -> f64 {
        let (hd, kd) = self.widths();
        let q = self.setup.kv_cache.bytes() as f64;
        let memory = b * (4.0 * hd + 2.0 * q * kd * c) / (self.gpu.memory_bytes_per_s * 0.799);
        self.shape.layers as f64 * (memory + 4.09e-6)
    }
}

/// A shipped model and GPU with parallel sizes that fit.
fn cases() -> impl Strategy<Value = (GpuSpec, ModelConfig, RooflineSetup)> {
    let gpus: Vec<_> = GpuSpec::known_names().collect();
    let models: Vec<_> = ModelConfig::known_names().filter_map(|name| ModelConfig::known(name).ok()).collect();
    let format = || prop_oneof![Just(Precision::Bf16), Just(Precision::Fp8)];
    let sizes = (0..4u32, 0..4u32);
    (prop::sample::select(gpus), prop::sample::select(models), sizes, format(), format()).prop_filter_map(
        "sizes that divide the model",
        |(on, model, (tp, ep), weights, kv_cache)| {
            let tp = 1 << tp;
            let ep = (1 << ep).min(tp);
            let setup = RooflineSetup {
                moe_tp: model.shape.experts.map(|_| tp / ep),
                moe_ep: model.shape.experts.map(|_| ep),
                ..RooflineSetup::new(tp, weights, kv_cache)
            };
            let gpu = gpu(on);
            Roofline::new(&gpu, &model.shape, &setup).is_ok().then_some((gpu, model, setup))
        },
    )
}

proptest! {
    #[test]
    fn times_are_the_printed_formulas(
        (gpu, model, setup) in cases(),
        count in 1..1024u64,
        new in 1..32_768u64,
        prefix in 0..131_072u64,
    ) {
        let printed = Printed { gpu: &gpu, shape: &model.shape, setup: &setup };
        let roofline = Roofline::new(&gpu, &model.shape, &setup).unwrap();
        let [b, n, p] = [count, new, prefix].map(|x| x as f64);
        let prefill = 1000.0 * (printed.linear(b * n) + printed.logits(b) + printed.prefill_attention(b, n, p));
        prop_assert!(near(roofline.prefill_ms(count, new, prefix), prefill, 1e-12));
        let decode = 1000.0 * (printed.linear(b) + printed.logits(b) + printed.decode_attention(b, p));
        prop_assert!(near(roofline.decode_ms(count, prefix), decode, 1e-12));
    }

    #[test]
    fn more_work_never_takes_less_time(
        (gpu, model, setup) in cases(),
        count in 1..1024u64,
        new in 1..32_768u64,
        prefix in 0..131_072u64,
        more in 1..1000u64,
    ) {
        let roofline = Roofline::new(&gpu, &model.shape, &setup).unwrap();
        let prefill = roofline.prefill_ms(count, new, prefix);
        prop_assert!(roofline.prefill_ms(count + more, new, prefix) > prefill);
        prop_assert!(roofline.prefill_ms(count, new + more, prefix) > prefill);
        prop_assert!(roofline.prefill_ms(count, new, prefix + more) >= prefill);
        let decode = roofline.decode_ms(count, prefix);
        prop_assert!(roofline.decode_ms(count + more, prefix) > decode);
        prop_assert!(roofline.decode_ms(count, prefix + more) > decode);
    }

    #[test]
    fn a_fused_pass_is_the_printed_composition(
        (gpu, model, setup) in cases(),
        chunks in prop::collection::vec((1..4096u64, 0..65_536u64, any::<bool>()), 0..6),
        decodes in 0..512u64,
        context in 1..32_768u64,
        tokens_per_decode in 1..6u64,
    ) {
        let printed = Printed { gpu: &gpu, shape: &model.shape, setup: &setup };
        let roofline = Roofline::new(&gpu, &model.shape, &setup).unwrap();
        let prefills: Vec<_> =
            chunks.iter().map(|&(new, prefix, finishes)| PrefillChunk { new, prefix, finishes }).collect();
        let verified = decodes * tokens_per_decode;
        let tokens = chunks.iter().map(|c| c.0).sum::<u64>() + verified;
        let rows = chunks.iter().filter(|c| c.2).count() as u64 + verified;
        let rest = printed.linear(tokens as f64)
            + printed.logits(rows as f64)
            + if decodes > 0 { printed.decode_attention(verified as f64, context as f64) } else { 0.0 };
        let each: f64 = chunks.iter().map(|c| printed.prefill_attention(1.0, c.0 as f64, c.1 as f64)).sum();
        let count = chunks.len() as u64;
        let mean = if chunks.is_empty() {
            0.0
        } else {
            let full = chunks.iter().map(|c| c.0 + c.1).sum::<u64>() / count;
            let prefix = chunks.iter().map(|c| c.1).sum::<u64>() / count;
            printed.prefill_attention(count as f64, (full - prefix) as f64, prefix as f64)
        };
        for (attention, prompts) in [(PromptAttention::Mean, mean), (PromptAttention::PerRequest, each)] {
            let pass = FusedPass { prefills: &prefills, decodes, context, tokens_per_decode, attention };
            prop_assert!(near(roofline.fused_ms(&pass), 1000.0 * (rest + prompts), 1e-12));
        }
    }
}

#[test]
fn a_fused_pass_of_one_kind_is_that_kind_alone_and_of_both_kinds_is_cheaper_than_their_sum() {
    let roofline = roofline("qwen3-32b", "h200_sxm", 2);
    let prefills = [PrefillChunk { new: 700, prefix: 2048, finishes: true }];
    let pass = |prefills, decodes| {
        let attention = PromptAttention::Mean;
        roofline.fused_ms(&FusedPass { prefills, decodes, context: 1500, tokens_per_decode: 1, attention })
    };
    let (prefill, decode) = (roofline.prefill_ms(1, 700, 2048), roofline.decode_ms(48, 1500));
    assert!(near(pass(&prefills, 0), prefill, 1e-12));
    assert!(near(pass(&[], 48), decode, 1e-12));
    let both = pass(&prefills, 48);
    assert!(both > prefill.max(decode) && both < 0.9 * (prefill + decode), "{both} of {prefill} + {decode}");
}

/// The value at a fraction of a sorted sample.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    sorted[(fraction * (sorted.len() - 1) as f64) as usize]
}

#[test]
fn estimates_stay_as_close_to_the_tables_as_they_are_said_to_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/perf");
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains("__") || name.contains("fp8block") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let table = ForwardPassTable::parse(&text, &name).unwrap();
        let meta: Value = serde_json::from_str::<Value>(&text).unwrap()["meta"].take();
        let format = |key: &str| Precision::named(meta["quant"][key].as_str().unwrap()).unwrap();
        let setup = RooflineSetup {
            moe_tp: meta["moe_tp"].as_u64(),
            moe_ep: meta["moe_ep"].as_u64(),
            ..RooflineSetup::new(meta["tp"].as_u64().unwrap(), format("gemm"), format("kv_cache"))
        };
        let roofline = Roofline::new(&gpu(meta["system"].as_str().unwrap()), &table.model, &setup).unwrap();
        for count in [1, 2, 5, 11, 24, 60] {
            for new in [3, 40, 150, 700, 1500, 3000, 6000, 14_000, 30_000] {
                for prefix in [0, 900, 20_000] {
                    let expected = table.prefill_ms(count, new, prefix);
                    prefill.push((roofline.prefill_ms(count, new, prefix) / expected - 1.0).abs());
                }
            }
        }
        for count in [1, 3, 9, 20, 50, 100, 200, 400, 900] {
            for context in [5, 70, 300, 1100, 5000, 20_000, 100_000] {
                // Only what fits a GPU.
                let bytes = table.memory.kv_bytes_per_token * count * context;
                if bytes < table.memory.gpu_capacity_bytes / 2 {
                    let expected = table.decode_ms(count, context);
                    decode.push((roofline.decode_ms(count, context) / expected - 1.0).abs());
                }
            }
        }
    }
    assert!(prefill.len() > 5000 && decode.len() > 1500, "{} and {} points", prefill.len(), decode.len());
    for (what, errors, median, ninth) in [("prefill", &mut prefill, 0.12, 0.29), ("decode", &mut decode, 0.09, 0.23)] {
        errors.sort_by(f64::total_cmp);
        let (half, most) = (quantile(errors, 0.5), quantile(errors, 0.9));
        assert!(half < median && most < ninth, "{what}: median error {half}, 90th percentile {most}");
    }
}

#[test]
fn a_gpu_without_fp8_units_multiplies_fp8_weights_at_its_bf16_rate_and_reads_half_the_bytes() {
    let time = |weights: Precision| {
        let setup = RooflineSetup::new(1, weights, Precision::Bf16);
        let roofline = Roofline::new(&gpu("a100_sxm"), &model("llama-3.1-8b").shape, &setup).unwrap();
        (roofline.prefill_ms(1, 16_384, 0), roofline.decode_ms(1, 16))
    };
    let (wide, narrow) = (time(Precision::Bf16), time(Precision::Fp8));
    assert!(near(narrow.0, wide.0, 1e-9), "prefill {} and {}", narrow.0, wide.0);
    assert!(narrow.1 < 0.7 * wide.1, "decode {} and {}", narrow.1, wide.1);
}

#[test]
fn experts_of_several_attention_groups_see_the_tokens_of_all_groups() {
    let model = model("Qwen/Qwen3-30B-A3B-Instruct-2507");
    let time = |setup: RooflineSetup| {
        let gpu = gpu("NVIDIA RTX PRO 6000 Blackwell Server Edition");
        Roofline::new(&gpu, &model.shape, &setup).unwrap().decode_ms(32, 500)
    };
    let alone = RooflineSetup::new(1, model.weights, model.kv_cache);
    let pair = RooflineSetup { attention_dp: 2, moe_ep: Some(2), ..alone };
    // Two groups of 32 requests share the experts: fewer weights to read on each GPU than alone, but some traffic between.
    let (alone, pair) = (time(alone), time(pair));
    assert!(pair < alone && pair > 0.4 * alone, "{pair} against {alone}");
}

#[test]
fn models_and_gpus_of_the_measured_runs_are_known() {
    for (name, on, tp) in [
        ("meta-llama/Llama-3.1-8B", "NVIDIA GeForce RTX 4090", 1),
        ("meta-llama/Llama-3.1-8B", "RTXPRO6000", 1),
        ("Qwen/Qwen3-32B", "RTXPRO6000", 2),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "RTXPRO6000", 2),
    ] {
        let (model, gpu) = (model(name), gpu(on));
        let setup = RooflineSetup::new(tp, model.weights, model.kv_cache);
        assert!(roofline(name, on, tp).decode_ms(1, 100) > 1.0);
        let parts = estimate(&gpu, &model.shape, &setup, Backend::Vllm, 2048).unwrap();
        assert!(kv_capacity(&parts, Backend::Vllm, None, 16, None).unwrap().num_gpu_blocks > 1000, "{name} on {on}");
    }
}

#[test]
fn parallel_sizes_that_do_not_divide_the_model_are_refused_by_name() {
    let refused = |name: &str, change: fn(&mut RooflineSetup), field: &str, cause: &str| {
        let model = model(name);
        let mut setup = RooflineSetup::new(1, model.weights, model.kv_cache);
        change(&mut setup);
        match Roofline::new(&gpu("h100"), &model.shape, &setup) {
            Err(error @ PerfError::Setting { .. }) => {
                let text = error.to_string();
                assert!(text.contains(&format!("`{field}`")) && text.contains(cause), "{text}");
            }
            other => panic!("{field}: {other:?}"),
        }
    };
    refused("llama-3.1-8b", |s| s.tp = 3, "tp", "does not divide the 32 query heads");
    refused("llama-3.1-8b", |s| s.tp = 0, "tp", "is 0");
    refused("qwen2.5-7b", |s| s.tp = 7, "tp", "does not divide the 18944 columns");
    refused("qwen3-30b-a3b", |s| s.attention_dp = u64::MAX, "attention_dp", "is 18446744073709551615");
    refused("qwen3-30b-a3b", |s| (s.tp, s.moe_ep) = (4, Some(3)), "moe_ep", "does not divide the 4 GPUs");
    refused("qwen3-30b-a3b", |s| (s.tp, s.moe_tp, s.moe_ep) = (4, Some(4), Some(4)), "moe_tp", "not the 4 GPUs");
    refused("mixtral-8x7b", |s| (s.tp, s.moe_ep) = (16, Some(16)), "moe_ep", "does not divide the 8 experts");
}
