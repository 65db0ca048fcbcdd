//! Descriptions of GPUs: shipped ones, a user's own, mistakes.

use super::*;

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
    let page = include_str!("../../docs/gpus.md");
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
