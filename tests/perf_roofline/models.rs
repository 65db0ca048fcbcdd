//! Models: shipped ones, `config.json` files, number formats, and what is refused.

use super::*;

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
