//! Pass times from data sheets: the published formulas and values, what is refused and why, and no panic on any file.

use std::path::Path;

use dynosim::perf::{
    Backend, ForwardPassTable, FusedPass, GpuSpec, ModelConfig, ModelShape, PerfError, Precision, PrefillChunk,
    PromptAttention, Roofline, RooflineSetup, estimate, kv_capacity,
};
use proptest::prelude::*;
use serde_json::{Value, json};

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

// ---- GPUs -----------------------------------------------------------------------------------------------------------

#[test]
fn systems_of_the_fit_have_the_values_of_the_fit() {
    for (name, memory_rate, bf16, fp8, link, memory) in [
        ("a100_sxm", 2.039e12, 312e12, None, 300e9, 85_899_345_920),
        ("h100_sxm", 3.35e12, 989e12, Some(1978e12), 450e9, 85_899_345_920),
        ("h200_sxm", 4.8e12, 989e12, Some(1978e12), 450e9, 151_397_597_184),
        ("b200_sxm", 7.7e12, 2250e12, Some(4500e12), 900e9, 193_273_528_320),
        ("gb200", 8.0e12, 2500e12, Some(5000e12), 900e9, 198_674_743_296),
        ("l40s", 0.864e12, 362.05e12, Some(733e12), 32e9, 48_305_799_168),
        ("rtx_pro_6000_server", 1.792e12, 467.8e12, Some(935.6e12), 64e9, 102_641_958_912),
    ] {
        let gpu = gpu(name);
        assert_eq!((gpu.memory_bytes_per_s, gpu.bf16_flops, gpu.fp8_flops), (memory_rate, bf16, fp8), "{name}");
        assert_eq!((gpu.peer_bytes_per_s(), gpu.memory_bytes), (Some(link), memory), "{name}");
    }
}

#[test]
fn every_shipped_gpu_names_its_sources_and_no_name_means_two() {
    let mut seen: Vec<String> = Vec::new();
    for name in GpuSpec::known_names() {
        let gpu = gpu(name);
        assert_eq!(gpu.name, name);
        assert!(gpu.source.iter().all(|s| s.url.starts_with("https://")) && !gpu.source.is_empty(), "{name}");
        assert!(gpu.note.is_some() && gpu.peak_watts.is_some() && gpu.peer_bytes_per_s().is_some(), "{name}");
        for alias in gpu.aliases.iter().map(String::as_str).chain([name]) {
            assert_eq!(GpuSpec::known(alias).unwrap().name, name, "{alias}");
            seen.push(alias.to_lowercase().replace([' ', '-', '_'], ""));
        }
    }
    seen.sort();
    assert!(
        seen.len() > 30
            && ["h100", "h200", "b200", "gb200", "a100", "mi300x"].iter().all(|n| seen.contains(&n.to_string()))
    );
}

#[test]
fn an_unknown_gpu_is_an_error_with_the_nearest_names_first() {
    match GpuSpec::known("h20_sxm") {
        Err(PerfError::NoMatch { candidates, .. }) => assert_eq!(candidates[0], "h200_sxm"),
        other => panic!("{other:?}"),
    }
}

/// A description by hand, with one key changed.
fn described(key: &str, value: Value) -> Result<GpuSpec, PerfError> {
    let mut gpu = json!({"name": "mine", "memory_bytes": 8e10, "memory_bytes_per_s": 3e12, "bf16_flops": 9e14});
    gpu[key] = value;
    GpuSpec::parse(&gpu.to_string(), "mine.json")
}

#[test]
fn a_users_gpu_needs_four_keys_and_mistakes_are_named() {
    let gpu = described("note", Value::Null).unwrap();
    assert_eq!((gpu.memory_bytes, gpu.fp8_flops, gpu.source.len()), (80_000_000_000, None, 0));
    for (key, value, error) in [
        ("memory_byte_per_s", json!(3e12), "`memory_byte_per_s`: unknown key; did you mean `memory_bytes_per_s`?"),
        ("memory_bytes_per_s", json!(3350), "is 3350; give bytes per second"),
        ("memory_bytes", json!(8.5e10 + 0.5), "`memory_bytes`: is 85000000000.5; give a whole number of bytes"),
        ("bf16_flops", json!("fast"), "`bf16_flops`: is \"fast\"; give operations per second"),
        ("bf16_flops", Value::Null, "`bf16_flops`: is missing"),
        ("name", json!(""), "`name`: is \"\"; give a text"),
        ("aliases", json!([1]), "`aliases[0]`: is 1; give a text"),
        ("source", json!([{"title": "x", "vendor": "y"}]), "`source[0].url`: is missing"),
        ("source", json!([{"titel": "x"}]), "`source[0].titel`: unknown key; did you mean `title`?"),
    ] {
        let text = described(key, value).unwrap_err().to_string();
        assert!(text.starts_with("mine.json, ") && text.contains(error), "{text}");
    }
    // Power is checked across keys.
    let text =
        r#"{"name":"m","memory_bytes":8e10,"memory_bytes_per_s":3e12,"bf16_flops":9e14,"idle_watts":9,"peak_watts":8}"#;
    assert!(GpuSpec::parse(text, "m.json").unwrap_err().to_string().contains("`idle_watts`: is 9"));
}

#[test]
fn the_description_in_the_documentation_is_one() {
    let page = include_str!("../docs/gpus.md");
    let example = page.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let mine = GpuSpec::parse(example, "docs/gpus.md").unwrap();
    let shipped = gpu("h100_sxm");
    assert_eq!(mine.memory_bytes, shipped.memory_bytes);
    assert_eq!((mine.bf16_flops, mine.fp8_flops), (shipped.bf16_flops, shipped.fp8_flops));
    for name in GpuSpec::known_names() {
        let gpu = gpu(name);
        let row =
            page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| panic!("{name}"));
        let shown = |quantity: f64, unit: &str| row.contains(&format!(" {quantity} {unit}"));
        assert!(shown((gpu.memory_bytes as f64 / f64::from(1 << 30)).round(), "GiB"), "{row}");
        assert!(
            shown(gpu.bf16_flops / 1e12, "TFLOP/s") && shown(gpu.peer_bytes_per_s().unwrap() / 1e9, "GB/s"),
            "{row}"
        );
    }
}

#[test]
fn gpus_without_a_link_cannot_share_a_model() {
    let gpu = described("note", Value::Null).unwrap();
    let model = model("llama-3.1-8b");
    let setup = |tp| RooflineSetup::new(tp, model.weights, model.kv_cache);
    assert!(Roofline::new(&gpu, &model.shape, &setup(1)).is_ok());
    let error = Roofline::new(&gpu, &model.shape, &setup(2)).unwrap_err().to_string();
    assert!(error.contains("`intra_node_bytes_per_s`: is missing"), "{error}");
    let gpu = described("pcie_bytes_per_s", json!(32e9)).unwrap();
    assert!(Roofline::new(&gpu, &model.shape, &setup(2)).is_ok());
}

// ---- models ---------------------------------------------------------------------------------------------------------

#[test]
fn shipped_models_have_as_many_parameters_as_they_are_said_to_have() {
    // Billions, and whether the output projection is the embedding.
    for (name, billions, tied) in [
        ("llama-3.1-8b", 8.030, false),
        ("llama-3.1-70b", 70.55, false),
        ("llama-3.1-405b", 405.9, false),
        ("llama-3.2-1b", 1.236, true),
        ("llama-3.2-3b", 3.213, true),
        ("qwen3-0.6b", 0.596, true),
        ("qwen3-1.7b", 1.721, true),
        ("qwen3-4b", 4.022, true),
        ("qwen3-8b", 8.191, false),
        ("qwen3-14b", 14.77, false),
        ("qwen3-32b", 32.76, false),
        ("qwen3-30b-a3b", 30.53, false),
        ("qwen3-235b-a22b", 235.1, false),
        ("qwen3-coder-480b-a35b", 480.2, false),
        ("qwen2.5-7b", 7.616, false),
        ("qwen2.5-14b", 14.77, false),
        ("qwen2.5-32b", 32.76, false),
        ("qwen2.5-72b", 72.71, false),
        ("mistral-7b", 7.248, false),
        ("mixtral-8x7b", 46.70, false),
        ("mixtral-8x22b", 140.6, false),
        ("phi-4", 14.66, false),
    ] {
        let ModelShape { layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, experts } = model(name).shape;
        let mlp = match experts {
            None => 3 * hidden * intermediate,
            Some(e) => e.count * (3 * hidden * e.intermediate + hidden),
        };
        let layer = (2 * heads + 2 * kv_heads) * head_dim * hidden + mlp;
        let total = layers * layer + if tied { 1 } else { 2 } * vocab * hidden;
        assert!(near(total as f64, billions * 1e9, 1e-3), "{name}: {total}");
    }
}

#[test]
fn every_shipped_model_is_usable_or_says_why_not() {
    let reasons = [
        ("deepseek-v3", "kv_lora_rank"),
        ("gemma-2-9b", "sliding_window"),
        ("gemma-3-27b", "text_config.sliding_window"),
        ("gpt-oss-120b", "sliding_window"),
        ("gpt-oss-20b", "sliding_window"),
        ("mistral-7b-v0.1", "sliding_window"),
        ("qwen3-next-80b-a3b", "linear_conv_kernel_dim"),
    ];
    for name in ModelConfig::known_names() {
        match (ModelConfig::known(name), reasons.iter().find(|(known, _)| *known == name)) {
            (Ok(_), None) => {}
            (Err(PerfError::Data { field, cause, .. }), Some((_, expected))) => {
                assert_eq!(field, *expected, "{name}");
                assert!(cause.contains("attention"), "{name}: {cause}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(ModelConfig::known("openai/gpt-oss-120b"), Err(PerfError::Data { .. })));
}

#[test]
fn names_of_checkpoints_say_their_format() {
    use Precision::{Bf16, Fp8};
    for (name, layers, weights) in [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", 32, Bf16),
        ("LLAMA_3.1_70B", 80, Bf16),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", 80, Fp8),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", 32, Fp8),
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", 64, Fp8),
        ("qwen3-235b-a22b-fp8block", 94, Fp8),
        ("qwen3-0.6b-bf16", 28, Bf16),
        ("mistralai/Mistral-7B-Instruct-v0.3", 32, Bf16),
    ] {
        let model = model(name);
        assert_eq!((model.shape.layers, model.weights, model.kv_cache), (layers, weights, weights), "{name}");
    }
    for name in ["Qwen/Qwen3-32B-AWQ", "meta-llama-3.1-8b-instruct-gptq-int4", "nvidia/Llama-3.1-8B-Instruct-NVFP4"] {
        assert!(matches!(ModelConfig::known(name), Err(PerfError::Setting { .. })), "{name}");
    }
    for name in ["", "/", "llama", "llama-3.1-8b-turbo", "Qwen3-8B-Maths"] {
        assert!(matches!(ModelConfig::known(name), Err(PerfError::NoMatch { .. })), "{name}");
    }
}

/// A config.json of a small dense model with some keys changed; `null` removes one.
fn config(changes: Value) -> Result<ModelConfig, PerfError> {
    let mut config = json!({
        "num_hidden_layers": 4, "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 4,
        "intermediate_size": 2048, "vocab_size": 32_000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
    });
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    ModelConfig::parse(&config.to_string(), "config.json")
}

#[test]
fn defaults_of_a_config_are_those_of_the_library_that_wrote_it() {
    let shape = config(json!({"num_key_value_heads": null})).unwrap().shape;
    assert_eq!((shape.kv_heads, shape.head_dim, shape.experts), (16, 64, None));
    assert_eq!(config(json!({"head_dim": 128})).unwrap().shape.head_dim, 128);
    // A window that is off, or as long as the longest sequence, is none.
    for harmless in [
        json!({"sliding_window": 1024, "use_sliding_window": false}),
        json!({"sliding_window": 4096}),
        json!({"sliding_window": null, "layer_types": ["full_attention", "full_attention"]}),
        json!({"num_experts": 0, "linear_bias": false, "kv_lora_rank": null}),
    ] {
        assert!(config(harmless.clone()).is_ok(), "{harmless}");
    }
}

#[test]
fn the_language_model_of_a_multimodal_config_is_found() {
    let inner = json!({
        "num_hidden_layers": 4, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 2048,
        "vocab_size": 32_000, "dtype": "bfloat16",
    });
    let outer = json!({"model_type": "some_vl", "text_config": inner, "vision_config": {"hidden_size": 7}});
    assert_eq!(ModelConfig::parse(&outer.to_string(), "c").unwrap().shape.hidden, 1024);
    let mut quantised = outer.clone();
    quantised["quantization_config"] = json!({"quant_method": "fp8"});
    assert_eq!(ModelConfig::parse(&quantised.to_string(), "c").unwrap().weights, Precision::Fp8);
    let mut faulty = outer;
    faulty["text_config"]["hidden_size"] = json!(0);
    let error = ModelConfig::parse(&faulty.to_string(), "c").unwrap_err().to_string();
    assert!(error.contains("`text_config.hidden_size`: is 0"), "{error}");
}

#[test]
fn fields_that_are_missing_or_nonsense_are_named() {
    for (changes, field) in [
        (json!({"num_hidden_layers": null}), "num_hidden_layers"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers"),
        (json!({"num_hidden_layers": "four"}), "num_hidden_layers"),
        (json!({"hidden_size": -1}), "hidden_size"),
        (json!({"hidden_size": 1e300, "head_dim": 64}), "hidden_size"),
        (json!({"num_attention_heads": 0}), "num_attention_heads"),
        (json!({"num_attention_heads": 0, "head_dim": 64}), "num_attention_heads"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
        (json!({"num_key_value_heads": [4, 4]}), "num_key_value_heads"),
        (json!({"hidden_size": 1000, "num_attention_heads": 12}), "head_dim"),
        (json!({"intermediate_size": null}), "intermediate_size"),
        (json!({"vocab_size": 18_446_744_073_709_551_615u64}), "vocab_size"),
        (json!({"num_experts": 8, "moe_intermediate_size": 64}), "num_experts_per_tok"),
        (json!({"num_local_experts": 8, "num_experts_per_tok": 9}), "num_experts_per_tok"),
        (json!({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 0}), "moe_intermediate_size"),
        (json!({"torch_dtype": "int7"}), "torch_dtype"),
    ] {
        match config(changes.clone()) {
            Err(PerfError::Data { file, field: named, .. }) => {
                assert_eq!((file.as_str(), named.as_str()), ("config.json", field), "{changes}");
            }
            other => panic!("{changes}: {other:?}"),
        }
    }
}

#[test]
fn what_the_formulas_do_not_describe_is_refused_with_the_field_that_shows_it() {
    let experts = json!({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64});
    let with = |key: &str, value: Value| {
        let mut changes = experts.clone();
        changes[key] = value;
        changes
    };
    for (changes, field) in [
        (json!({"kv_lora_rank": 512}), "kv_lora_rank"),
        (json!({"sliding_window": 1024}), "sliding_window"),
        (json!({"sliding_window": 1024, "use_sliding_window": true}), "sliding_window"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
        (json!({"layer_types": ["full_attention", "linear_attention"]}), "layer_types"),
        (json!({"layers_block_type": ["attention", "mamba"]}), "layers_block_type"),
        (json!({"attention_chunk_size": 8192}), "attention_chunk_size"),
        (json!({"linear_num_value_heads": 32}), "linear_num_value_heads"),
        (json!({"mamba_d_state": 128}), "mamba_d_state"),
        (json!({"ssm_cfg": {"layer": "Mamba2"}}), "ssm_cfg"),
        (json!({"index_topk": 2048}), "index_topk"),
        (json!({"is_encoder_decoder": true}), "is_encoder_decoder"),
        (with("n_shared_experts", json!(1)), "n_shared_experts"),
        (with("shared_expert_intermediate_size", json!(512)), "shared_expert_intermediate_size"),
        (with("first_k_dense_replace", json!(3)), "first_k_dense_replace"),
        (with("mlp_only_layers", json!([0])), "mlp_only_layers"),
        (with("decoder_sparse_step", json!(2)), "decoder_sparse_step"),
    ] {
        match config(changes.clone()) {
            Err(PerfError::Data { field: named, cause, .. }) => {
                assert_eq!(named, field, "{changes}");
                assert!(cause.contains("does not describe"), "{cause}");
            }
            other => panic!("{changes}: {other:?}"),
        }
    }
    assert!(config(experts).is_ok());
}

#[test]
fn declared_formats_are_16_bit_or_fp8_or_refused() {
    use Precision::{Bf16, Fp8};
    let tensors = |weights: Value, activations: Value, kv: Value| {
        let group = json!({"weights": weights, "input_activations": activations});
        json!({"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "kv_cache_scheme": kv})
    };
    let fp8 = json!({"num_bits": 8, "type": "float"});
    for (declared, weights, kv_cache) in [
        (Value::Null, Bf16, Bf16),
        (json!({"quant_method": "fp8", "weight_block_size": [128, 128]}), Fp8, Fp8),
        (json!({"quant_method": "fbgemm_fp8"}), Fp8, Fp8),
        (json!({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}), Fp8, Fp8),
        (json!({"quant_algo": "FP8"}), Fp8, Fp8),
        (tensors(fp8.clone(), fp8.clone(), Value::Null), Fp8, Fp8),
        (tensors(fp8.clone(), fp8.clone(), fp8.clone()), Fp8, Fp8),
    ] {
        let model = config(json!({"quantization_config": declared})).unwrap();
        assert_eq!((model.weights, model.kv_cache), (weights, kv_cache), "{declared}");
    }
    for dtype in ["float16", "torch.bfloat16", "float32", "half"] {
        assert_eq!(config(json!({"torch_dtype": null, "dtype": dtype})).unwrap().weights, Bf16, "{dtype}");
    }
    let int4 = json!({"num_bits": 4, "type": "int"});
    for (declared, field) in [
        (json!({"quant_method": "awq", "bits": 4}), "quant_method"),
        (json!({"quant_method": "gptq", "bits": 8}), "quant_method"),
        (json!({"quant_method": "mxfp4"}), "quant_method"),
        (json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), "quant_algo"),
        (json!({}), "quant_method"),
        (json!({"quant_method": 7}), "quant_method"),
        (tensors(int4, Value::Null, Value::Null), "config_groups.group_0.weights"),
        (tensors(fp8.clone(), Value::Null, Value::Null), "config_groups.group_0.input_activations"),
        (json!({"quant_method": "compressed-tensors"}), "config_groups"),
        (json!({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 4, "type": "int"}}), "kv_cache_scheme"),
    ] {
        match config(json!({"quantization_config": declared})) {
            Err(PerfError::Data { field: named, .. }) => {
                assert_eq!(named, format!("quantization_config.{field}"), "{declared}");
            }
            other => panic!("{declared}: {other:?}"),
        }
    }
}

// ---- any bytes ------------------------------------------------------------------------------------------------------

/// Replaces, inserts or deletes some bytes.
fn mutated(text: &str, edits: &[(u16, u8, u8)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for &(at, byte, kind) in edits {
        let at = usize::from(at) % (bytes.len() + 1);
        match kind % 3 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.insert(at, byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Values a config may wrongly hold.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..200_000u64).prop_map(Value::from),
        "[a-z_0-9]{0,8}".prop_map(Value::from),
        prop::collection::vec(0..9u8, 0..3).prop_map(Value::from),
        Just(json!({"num_bits": 8, "type": "float"})),
    ]
}

const KEYS: [&str; 20] = [
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "sliding_window",
    "layer_types",
    "kv_lora_rank",
    "quantization_config",
    "torch_dtype",
    "text_config",
    "decoder_sparse_step",
    "n_shared_experts",
    "linear_x",
    "max_position_embeddings",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_gpu_file_gives_a_gpu_or_an_error(
        edits in prop::collection::vec(any::<(u16, u8, u8)>(), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = include_str!("../assets/gpus/h200_sxm.json");
        let text = mutated(whole, &edits);
        let short: String = text.chars().take(cut.index(text.chars().count() + 1)).collect();
        for text in [text, short] {
            match GpuSpec::parse(&text, "x.json") {
                Ok(gpu) => {
                    let shape = model("llama-3.1-8b").shape;
                    let setup = RooflineSetup::new(1, Precision::Fp8, Precision::Fp8);
                    let ms = Roofline::new(&gpu, &shape, &setup).unwrap().decode_ms(7, 900);
                    prop_assert!(ms.is_finite() && ms > 0.0);
                }
                Err(error) => prop_assert!(error.to_string().contains("x.json")),
            }
        }
    }

    #[test]
    fn any_config_gives_a_model_whose_times_are_finite_or_an_error(
        changes in prop::collection::vec((prop::sample::select(KEYS.to_vec()), odd()), 0..4),
        edits in prop::collection::vec(any::<(u16, u8, u8)>(), 0..3),
        tp in 0..9u64,
        tokens in any::<u64>(),
    ) {
        let mut config: Value = serde_json::from_str(include_str!("../assets/models/qwen3-30b-a3b.json")).unwrap();
        for (key, value) in changes {
            config[key] = value;
        }
        let text = mutated(&config.to_string(), &edits);
        let Ok(model) = ModelConfig::parse(&text, "x.json") else { return Ok(()) };
        let setup = RooflineSetup::new(tp, model.weights, model.kv_cache);
        let Ok(roofline) = Roofline::new(&gpu("h100"), &model.shape, &setup) else { return Ok(()) };
        for ms in [roofline.prefill_ms(3, 4000, 50_000), roofline.decode_ms(3, 50_000)] {
            prop_assert!(ms.is_finite() && ms > 0.0);
        }
        let parts = estimate(&gpu("h100"), &model.shape, &setup, Backend::Sglang, tokens).unwrap();
        let _ = kv_capacity(&parts, Backend::Sglang, None, 16, Some(tokens / 2));
    }

    #[test]
    fn any_name_gives_a_model_or_an_error(name in ".{0,40}", ending in "[-a-zA-Z0-9.]{0,12}") {
        let _ = GpuSpec::known(&name);
        let _ = ModelConfig::known(&name);
        let _ = ModelConfig::known(&format!("llama-3.1-8b{ending}"));
    }
}
