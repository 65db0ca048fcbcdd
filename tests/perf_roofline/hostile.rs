//! Any bytes in the place of a description.

use super::*;

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
        let whole = include_str!("../../assets/gpus/h200_sxm.json");
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
        let mut config: Value = serde_json::from_str(include_str!("../../assets/models/qwen3-30b-a3b.json")).unwrap();
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
