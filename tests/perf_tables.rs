//! Forward-pass tables answer as their source does, say what is wrong with a bad file, and are found by what they are for.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use dynosim::perf::{
    ForwardPassTable, FusedPass, PerfError, PrefillChunk, PromptAttention, TableKey, TableLibrary, TableOrigin,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn embedded(key: &str) -> std::sync::Arc<ForwardPassTable> {
    TableLibrary::embedded().by_slug(key).unwrap()
}

fn close(found: f64, expected: f64, relative: f64) {
    assert!((found / expected - 1.0).abs() <= relative, "{found} instead of {expected}");
}

/// A table small enough to reckon by hand.
fn small() -> Value {
    json!({
        "schema": "forward-pass-table/1",
        "meta": {
            "model": "acme/Tiny-1B", "slug": "tiny-1b-bf16", "system": "h200_sxm", "backend": "vllm",
            "backend_version": "0.24.0", "tp": 1, "pp": 1, "attention_dp": 1, "moe_tp": null, "moe_ep": null,
            "quant": {"gemm": "bfloat16", "kv_cache": "bfloat16", "attention": "bfloat16", "comm": "half"},
            "time_unit": "ms", "source": {"package": "stopwatch", "version": "3"}
        },
        "model": {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate": 128, "vocab": 1000},
        "memory": {
            "gpu_capacity_bytes": 1000000, "fraction_kind": "of_total", "fraction": 0.9, "max_num_batched_tokens": 8192,
            "weights_bytes": 1000, "activations_bytes": 1000, "runtime_overhead_bytes": 0, "comm_overhead_bytes": 0,
            "kv_budget_bytes": 898000, "kv_bytes_per_token": 256, "kv_tokens": 3507, "num_gpu_blocks": {"16": 219}
        },
        "linear": {"tokens": [4, 8, 16], "ms": [1.0, 2.0, 3.0]},
        "logits": {"in_prefill": true, "rows": [1, 4], "ms": [0.5, 0.8]},
        "prefill_attention": {"base_ms": 0.25, "seq": [10, 20], "batch": [1, 3], "ms": [[1.0, 4.0], [9.0, 16.0]]},
        "decode_attention": {"batch": [1, 3], "seq": [100, 200], "ms": [[1.0, 2.0], [3.0, 6.0]]}
    })
}

fn parse(table: &Value) -> Result<ForwardPassTable, PerfError> {
    ForwardPassTable::parse(&table.to_string(), "tiny.json")
}

#[test]
fn the_specified_values_come_out() {
    let table = embedded("llama-3.1-8b-fp8__h200_sxm__vllm__tp1");
    for (count, new, prefix, ms) in [
        (1, 512, 0, 8.29312),
        (1, 8192, 0, 127.14907),
        (4, 2048, 0, 109.17980),
        (1, 2048, 6144, 38.50155),
        (1, 16384, 0, 306.66376),
    ] {
        close(table.prefill_ms(count, new, prefix), ms, 1e-4);
    }
    for (count, context, ms) in
        [(1, 128, 3.51295), (8, 2048, 3.92410), (64, 4096, 9.45220), (256, 1024, 12.69851), (256, 8192, 52.01772)]
    {
        close(table.decode_ms(count, context), ms, 1e-4);
    }
}

#[test]
fn answers_agree_with_the_source_of_the_tables() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/perf/table_points.json");
    let points: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut errors = Vec::new();
    for (key, points) in points["tables"].as_object().unwrap() {
        let table = embedded(key);
        for phase in ["prefill", "decode"] {
            for point in points[phase].as_array().unwrap() {
                let whole = |index: usize| point[index].as_u64().unwrap();
                let (ms, expected) = match phase {
                    "prefill" => (table.prefill_ms(whole(0), whole(1), whole(2)), point[3].as_f64().unwrap()),
                    _ => (table.decode_ms(whole(0), whole(1)), point[2].as_f64().unwrap()),
                };
                errors.push((ms / expected - 1.0).abs());
            }
        }
    }
    errors.sort_by(f64::total_cmp);
    let at = |share: f64| errors[(errors.len() as f64 * share) as usize];
    assert!(errors.len() > 200 && at(0.95) < 0.01 && at(0.99) < 0.03, "p95 {} p99 {}", at(0.95), at(0.99));
}

/// Every part by hand: linear in tokens, quadratic attention through its square root, held below, going on above.
#[test]
fn every_part_interpolates_as_specified() {
    let table = parse(&small()).unwrap();
    // 6 tokens: 1.5; one row: 0.5; length 15 for batch 1: roots 1 and 3, half-way 2, squared 4; base 0.25.
    close(table.prefill_ms(1, 6, 9), 1.5 + 0.5 + 4.0 * (1.0 - 0.36) + 0.25, 1e-12);
    // Batch 2 at length 20: 12.5. Below the shortest length the shortest counts.
    close(table.prefill_ms(2, 4, 16), 2.0 + 0.6 + 12.5 * (1.0 - 0.64) + 0.25, 1e-12);
    close(table.prefill_ms(1, 2, 0), 1.0 + 0.5 + 1.0 + 0.25, 1e-12);
    // Above: 32 tokens at 1/8 ms each; length 30 has root 5; batch 5 at length 10 goes on to 7.
    close(table.prefill_ms(1, 32, 0), 5.0 + 0.5 + 6.4 * 6.4 - 6.4 * 6.4 + 5.4 * 5.4 + 0.25, 1e-12);
    close(table.prefill_ms(5, 10, 0), (3.0 + 34.0 / 8.0) + 0.9 + 7.0 + 0.25, 1e-12);
    // Decode looks one token further; 2 rows: 0.6; batch 2 between 1.5 and 4.5.
    close(table.decode_ms(2, 149), 1.0 + 0.6 + 3.0, 1e-12);
    close(table.decode_ms(5, 249), 1.25 + 0.9 + (2.5 + (7.5 - 2.5) * 2.0), 1e-12);
    close(table.decode_ms(1, 0), 1.0 + 0.5 + 1.0, 1e-12);
    assert_eq!((table.prefill_ms(0, 8, 0), table.prefill_ms(2, 0, 8), table.decode_ms(0, 8)), (0.0, 0.0, 0.0));
    assert!(table.covers_prefill(2, 5, 10) && !table.covers_prefill(2, 5, 16) && !table.covers_prefill(1, 3, 10));
    assert!(!table.covers_prefill(4, 4, 10) && !table.covers_prefill(3, 6, 10));
    assert!(!table.covers_decode(2, 150) && !table.covers_decode(4, 150) && parse(&small()).unwrap().layers() == 2);
}

#[test]
fn a_table_without_logits_in_prefill_leaves_them_out() {
    let mut document = small();
    document["logits"]["in_prefill"] = json!(false);
    let (without, with) = (parse(&document).unwrap(), parse(&small()).unwrap());
    close(with.prefill_ms(2, 4, 8) - without.prefill_ms(2, 4, 8), 0.6, 1e-12);
    assert_eq!(with.decode_ms(2, 150), without.decode_ms(2, 150));
}

#[test]
fn a_fused_pass_of_one_kind_is_that_kind_and_a_mixed_one_is_cheaper_than_the_sum() {
    let chunk = |new, prefix| PrefillChunk { new, prefix, finishes: true };
    for entry in TableLibrary::embedded().entries() {
        let table = entry.table().unwrap();
        let pass = |prefills: &[PrefillChunk], decodes, attention| {
            table.fused_ms(&FusedPass { prefills, decodes, context: 3000, tokens_per_decode: 1, attention })
        };
        for attention in [PromptAttention::Mean, PromptAttention::PerRequest] {
            assert_eq!(pass(&[], 0, attention), 0.0);
            close(pass(&[], 20, attention), table.decode_ms(20, 3000), 1e-12);
            let one = [chunk(1000, 700)];
            if table.model.experts.is_none() {
                close(pass(&one, 0, attention), table.prefill_ms(1, 1000, 700), 1e-12);
            }
            let unfinished = [PrefillChunk { finishes: false, ..one[0] }];
            assert!(pass(&unfinished, 0, attention) < pass(&one, 0, attention), "{}", entry.key());
            // Within one tile of the matrix products; a token more may cost a step.
            assert!(pass(&one, 20, attention) < table.prefill_ms(1, 1000, 700) + table.decode_ms(20, 3000));
        }
        // One long prompt among short ones costs more than their mean says.
        let unequal = [chunk(12_000, 0), chunk(100, 0), chunk(100, 0)];
        assert!(pass(&unequal, 0, PromptAttention::Mean) < pass(&unequal, 0, PromptAttention::PerRequest));
        let several = |tokens_per_decode| FusedPass {
            prefills: &[],
            decodes: 10,
            context: 500,
            tokens_per_decode,
            attention: PromptAttention::Mean,
        };
        close(table.fused_ms(&several(3)), table.decode_ms(30, 500), 1e-12);
    }
}

#[test]
fn all_shipped_tables_are_there_with_their_origin() {
    let library = TableLibrary::embedded();
    let keys: Vec<String> = library.entries().map(|entry| entry.key()).collect();
    let files: Vec<&str> = TableLibrary::embedded_files().collect();
    assert_eq!(keys.len(), 38);
    assert_eq!(keys.iter().map(|key| format!("{key}.json")).collect::<Vec<_>>(), files);
    for entry in library.entries() {
        let table = entry.table().unwrap();
        assert_eq!((&table.meta, &table.model, &table.memory), (&entry.meta, &entry.model, &entry.memory));
        assert_eq!(entry.meta.source.license.as_deref(), Some("Apache-2.0"));
        assert_eq!(entry.origin, TableOrigin::Embedded);
    }
    assert_eq!(
        embedded("Llama-3.1-8B-FP8__h200_sxm__vllm__tp1.json").provenance(),
        "table llama-3.1-8b-fp8 / h200_sxm / vllm 0.24.0 / tp1, from AIConfigurator 0.12.0"
    );
    assert!(TableLibrary::notice().contains("NVIDIA") && TableLibrary::notice().contains("Apache License"));
}

#[test]
fn a_bad_file_is_an_error_that_names_file_and_field() {
    let cases: [(&str, Value, &str); 26] = [
        ("/schema", json!("forward-pass-table/2"), "`schema`: is \"forward-pass-table/2\""),
        ("/schema", json!(7), "`schema`"),
        ("/meta/slug", json!(" "), "`meta.slug`: is empty"),
        ("/meta/time_unit", json!("s"), "`meta.time_unit`: is \"s\""),
        ("/meta/tp", json!(0), "`meta.tp`: is 0"),
        ("/meta/tp", json!(-1), "`meta.tp`"),
        ("/meta/quant", json!({}), "`meta.quant`: missing field `gemm`"),
        ("/meta/source", json!(null), "`meta.source`"),
        ("/model/layers", json!(0), "`model.layers`: is 0"),
        ("/model/kv_heads", json!(3), "`model.kv_heads`"),
        ("/memory/fraction", json!(1.5), "`memory.fraction`: is 1.5"),
        ("/memory/kv_bytes_per_token", json!(0), "`memory.kv_bytes_per_token`: is 0"),
        ("/memory/fraction_kind", json!("of_half"), "`memory.fraction_kind`"),
        ("/linear", json!({"tokens": [1, 2]}), "`linear`: missing field `ms`"),
        ("/linear/tokens", json!([4, 4, 16]), "`linear.tokens[1]`: is 4 after 4"),
        ("/linear/tokens", json!([4]), "`linear.tokens`: has 1 entries"),
        ("/linear/tokens/0", json!(-4), "`linear.tokens[0]`: is -4"),
        ("/linear/tokens/2", json!("16"), "`linear.tokens[2]`"),
        ("/linear/ms", json!([1.0, 2.0]), "`linear.ms`: has 2 entries, but `tokens` has 3"),
        ("/linear/ms/1", json!(-2.0), "`linear.ms[1]`: is -2"),
        ("/logits/in_prefill", json!("yes"), "`logits.in_prefill`"),
        ("/prefill_attention/base_ms", json!(-0.1), "`prefill_attention.base_ms`: is -0.1"),
        ("/prefill_attention/ms/1", json!([9.0]), "`prefill_attention.ms[1]`: has 1 entries, but `batch` has 2"),
        ("/prefill_attention/ms", json!([[1.0, 4.0]]), "`prefill_attention.ms`: has 1 rows, but `seq` has 2"),
        ("/decode_attention/ms/0/1", json!(-1), "`decode_attention.ms[0][1]`: is -1"),
        ("/decode_attention/seq/1", json!(50), "`decode_attention.seq[1]`: is 50 after 100"),
    ];
    for (pointer, value, expected) in cases {
        let mut document = small();
        *document.pointer_mut(pointer).unwrap() = value;
        let error = parse(&document).unwrap_err().to_string();
        assert!(error.starts_with("tiny.json, ") && error.contains(expected), "{pointer}: {error}");
    }
    for text in ["", "[]", "{}", "no JSON", "\u{feff}{}"] {
        let error = ForwardPassTable::parse(text, "tiny.json").unwrap_err().to_string();
        assert!(error.starts_with("tiny.json: "), "{error}");
    }
    let twice = format!("{0} {0}", small());
    assert!(ForwardPassTable::parse(&twice, "tiny.json").unwrap_err().to_string().contains("trailing"));
    let endless = small().to_string().replace("9.0", "1e999");
    assert!(ForwardPassTable::parse(&endless, "tiny.json").unwrap_err().to_string().contains("prefill_attention"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens to the bytes of a table, it is read or refused, and what is read answers with numbers.
    #[test]
    fn damaged_tables_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
                                  cut in any::<prop::sample::Index>(), cuts in any::<bool>()) {
        let mut bytes = small().to_string().into_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(table) = ForwardPassTable::parse(&String::from_utf8_lossy(&bytes), "damaged.json") {
            for n in [1, 7, 1_000_000, u64::MAX] {
                prop_assert!(!table.prefill_ms(n, n, n).is_nan() && !table.decode_ms(n, n).is_nan());
            }
        }
    }

    /// Whatever a user calls things, there is an answer or an error.
    #[test]
    fn odd_names_never_panic(model in ".{0,40}", system in ".{0,12}", backend in ".{0,8}", version in "[v0-9.rcpost+é]{0,12}",
                             known in any::<prop::sample::Index>()) {
        let library = TableLibrary::embedded();
        let meta = &library.entries().nth(known.index(38)).unwrap().meta;
        for (model, system, backend) in
            [(&model, &meta.system, &meta.backend), (&meta.model, &system, &backend), (&meta.model, &meta.system, &meta.backend)]
        {
            let version = Some(version.clone());
            let _ = library.resolve(&TableKey { backend_version: version, ..key(model, system, backend, meta.tp) });
        }
        let _ = library.by_slug(&model);
    }

    /// More tokens never come out as less than nothing, far outside the axes included.
    #[test]
    fn times_are_finite_everywhere(count in 1u64..5000, new in 1u64..2_000_000, prefix in 0u64..2_000_000) {
        let table = embedded("qwen3-32b-fp8__h200_sxm__vllm__tp2");
        let (prefill, decode) = (table.prefill_ms(count, new, prefix), table.decode_ms(count, new));
        prop_assert!(prefill.is_finite() && prefill > 0.0 && decode.is_finite() && decode > 0.0);
    }
}

fn key(model: &str, system: &str, backend: &str, tp: u32) -> TableKey {
    TableKey { model: model.into(), system: system.into(), backend: backend.into(), tp, ..TableKey::default() }
}

/// The key of the table that is found.
fn found(library: &TableLibrary, key: &TableKey) -> String {
    library.resolve(key).unwrap_or_else(|error| panic!("{error}")).0.meta.key()
}

#[test]
fn a_model_is_found_by_any_of_its_names() {
    let library = TableLibrary::embedded();
    for (model, system, backend, tp, expected) in [
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "h200_sxm", "vllm", 1, "llama-3.1-8b-fp8__h200_sxm__vllm__tp1"),
        ("NVIDIA/llama-3.1-8b-instruct-fp8", "H200-SXM", "VLLM", 2, "llama-3.1-8b-fp8__h200_sxm__vllm__tp2"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "h100", "vllm", 1, "llama-3.1-8b-fp8__h100_sxm__vllm__tp1"),
        ("/data/Llama-3.1-8B-Instruct-FP8", "b200_sxm", "vllm", 4, "llama-3.1-8b-fp8__b200_sxm__vllm__tp4"),
        (
            "nvidia/Llama-3.1-70B-Instruct-FP8",
            "h200_sxm",
            "TensorRT-LLM",
            4,
            "llama-3.1-70b-fp8__h200_sxm__trtllm__tp4",
        ),
        ("llama-3.1-8b-fp8", "h200", "sglang", 1, "llama-3.1-8b-fp8__h200_sxm__sglang__tp1"),
        ("Qwen/Qwen3-32B", "h200_sxm", "vllm", 8, "qwen3-32b-bf16__h200_sxm__vllm__tp8"),
        ("Qwen/Qwen3-32B-FP8", "h200_sxm", "vllm", 2, "qwen3-32b-fp8block__h200_sxm__vllm__tp2"),
        ("qwen3-32b-fp8", "h200_sxm", "vllm", 2, "qwen3-32b-fp8__h200_sxm__vllm__tp2"),
        ("nvidia/Qwen3-32B-FP8", "h100_sxm", "vllm", 2, "qwen3-32b-fp8__h100_sxm__vllm__tp2"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "h200_sxm", "vllm", 2, "qwen3-30b-a3b-bf16__h200_sxm__vllm__tp2"),
        ("hub/models--Qwen--Qwen3-0.6B/snapshots/c1", "h200_sxm", "vllm", 1, "qwen3-0.6b-bf16__h200_sxm__vllm__tp1"),
        ("Qwen/Qwen3-235B-A22B-FP8", "h200_sxm", "vllm", 8, "qwen3-235b-a22b-fp8block__h200_sxm__vllm__tp8"),
    ] {
        assert_eq!(found(library, &key(model, system, backend, tp)), expected, "{model}");
    }
    // Every table is found by what it says of itself.
    for entry in library.entries() {
        let meta = &entry.meta;
        let own = TableKey {
            backend_version: Some(meta.backend_version.clone()),
            moe_tp: meta.moe_tp,
            moe_ep: meta.moe_ep,
            gemm: Some(meta.quant.gemm.clone()),
            kv_cache: Some(meta.quant.kv_cache.clone()),
            ..key(&meta.model, &meta.system, &meta.backend, meta.tp)
        };
        let (table, remarks) = library.resolve(&own).unwrap();
        assert_eq!(table.meta, *meta);
        assert_eq!(remarks.is_empty(), meta.quant.gemm != "fp8_block", "{remarks:?}");
    }
}

#[test]
fn number_formats_choose_and_never_change_silently() {
    let library = TableLibrary::embedded();
    let llama = key("meta-llama/Llama-3.1-8B-Instruct", "h200_sxm", "vllm", 1);
    let error = library.resolve(&llama).unwrap_err().to_string();
    assert!(error.contains("bfloat16 weights") && error.contains("\"aic_gemm_dtype\": \"fp8_static\""), "{error}");

    let quantised = TableKey { gemm: Some("fp8_static".into()), ..llama.clone() };
    let (table, remarks) = library.resolve(&quantised).unwrap();
    assert_eq!(table.meta.slug, "llama-3.1-8b-fp8");
    assert!(remarks.iter().any(|remark| remark.contains("fp8 KV cache")), "{remarks:?}");
    let (_, remarks) = library.resolve(&TableKey { kv_cache: Some("fp8".into()), ..quantised.clone() }).unwrap();
    assert!(remarks.is_empty(), "{remarks:?}");
    let dynamic = TableKey { gemm: Some("fp8".into()), kv_cache: Some("fp8".into()), ..llama.clone() };
    assert!(library.resolve(&dynamic).unwrap().1[0].contains("fp8_static weights, not fp8"));
    let cache = TableKey { kv_cache: Some("bfloat16".into()), ..quantised };
    assert!(library.resolve(&cache).unwrap_err().to_string().contains("bfloat16 KV cache"));

    let block = key("Qwen/Qwen3-32B-FP8", "h200_sxm", "vllm", 2);
    assert!(library.resolve(&block).unwrap().1[0].contains("launch time"));
    let tensor = TableKey { gemm: Some("fp8_static".into()), ..block };
    assert_eq!(found(library, &tensor), "qwen3-32b-fp8__h200_sxm__vllm__tp2");
    // The setting means nothing to a model without experts.
    assert_eq!(found(library, &TableKey { moe_tp: Some(2), moe: Some("fp8".into()), ..tensor }).len(), 34);

    let (_, remarks) = library.resolve(&key("someone/Qwen3-32B-FP8", "h200_sxm", "vllm", 2)).unwrap();
    assert!(remarks[0].contains("per tensor (fp8_static) is assumed"), "{remarks:?}");
    let (table, remarks) = library.resolve(&key("nvidia/Llama-3.3-70B-Instruct-FP8", "h200_sxm", "vllm", 4)).unwrap();
    assert_eq!(table.meta.slug, "llama-3.1-70b-fp8");
    assert!(remarks[0].contains("timed as llama-3.1-70b"), "{remarks:?}");
}

#[test]
fn without_a_table_the_error_says_what_is_missing_and_lists_the_nearest() {
    let library = TableLibrary::embedded();
    let experts = TableKey { moe_ep: Some(2), ..key("Qwen/Qwen3-30B-A3B", "h200_sxm", "vllm", 2) };
    for (wanted, missing, first, last) in [
        (key("nvidia/Llama-3.1-8B-Instruct-FP8", "h200_sxm", "vllm", 16), "has tp 16", "llama-3.1-8b", "llama-3.1-8b"),
        (key("Qwen/Qwen3-8B", "l40s", "vllm", 1), "has system l40s", "qwen3-8b-bf16__h200", "qwen3-8b-bf16__h200"),
        (key("Qwen/Qwen3-8B", "h200_sxm", "sglang", 1), "has backend sglang", "qwen3-8b-bf16__h200", "h200_sxm"),
        (key("acme/Foo-7B", "b200_sxm", "vllm", 1), "no table has this model", "__b200_sxm__", "__b200_sxm__"),
        (
            key("Qwen/Qwen3-32B-FP8", "h100", "vllm", 2),
            "no table of qwen3-32b, fp8_block weights has system h100_sxm",
            "qwen3-32b-fp8__h100_sxm__vllm__tp2",
            "qwen3-32b",
        ),
        (key("acme/Foo-7B", "abacus", "vllm", 1), "no table has this model", "vllm", "vllm"),
        (experts, "has moe ep 2", "qwen3-30b-a3b-bf16__h200_sxm__vllm__tp2", "h200_sxm"),
    ] {
        let error = library.resolve(&wanted).unwrap_err();
        let PerfError::NoMatch { cause, candidates, cure } = &error else { panic!("{error}") };
        assert!(cause.contains(missing), "{cause}");
        assert!((1..=8).contains(&candidates.len()), "{candidates:?}");
        assert!(candidates[0].contains(first) && candidates[candidates.len() - 1].contains(last), "{candidates:?}");
        for way in ["--on-missing-timing roofline", "--perf-tables DIR", "dynosim perf list"] {
            assert!(cure.contains(way), "{cure}");
        }
    }
    let error = library.by_slug("llama-3.1-8b-fp8__h200_sxm__vllm__tp3").unwrap_err();
    let PerfError::NoMatch { candidates, .. } = &error else { panic!("{error}") };
    assert!(candidates.iter().any(|line| line.starts_with("llama-3.1-8b-fp8__h200_sxm__vllm__tp1")), "{candidates:?}");
}

#[test]
fn tables_of_the_user_win_and_the_nearest_version_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, version: &str, model: &str, slug: &str| {
        let mut table = small();
        for (field, value) in [("backend_version", version), ("model", model), ("slug", slug)] {
            table["meta"][field] = json!(value);
        }
        fs::write(folder.path().join(name), table.to_string()).unwrap();
    };
    write("b.json", "0.22.1", "acme/Tiny-1B", "tiny-1b-bf16");
    write("a.json", "0.19.0", "acme/Tiny-1B", "tiny-1b-bf16");
    write("c.JSON", "0.24.0", "Qwen/Qwen3-8B", "qwen3-8b-bf16");
    fs::write(folder.path().join("index.json"), r#"{"schema": "forward-pass-table-index/1", "tables": []}"#).unwrap();
    fs::write(folder.path().join("NOTICE"), "not a table").unwrap();
    let folders = [folder.path().to_owned()];
    let library = TableLibrary::with_folders(&folders).unwrap();
    // Two new ones; the third replaces a table of the program.
    assert_eq!(library.entries().count(), 40);
    let (table, remarks) = library.resolve(&key("Qwen/Qwen3-8B", "h200_sxm", "vllm", 1)).unwrap();
    assert_eq!((table.layers(), remarks.is_empty()), (2, true));
    let provenance = library.by_slug("qwen3-8b-bf16__h200_sxm__vllm__tp1").unwrap().provenance();
    assert!(provenance.ends_with("c.JSON (stopwatch 3)") && provenance.contains("/ tp1, from "), "{provenance}");

    let version = |asked: Option<&str>| {
        let asked = TableKey { backend_version: asked.map(str::to_owned), ..key("tiny_1b", "H200", "vllm", 1) };
        let (table, remarks) = library.resolve(&asked).unwrap();
        (table.meta.backend_version.clone(), remarks.join("; "))
    };
    for (asked, expected, remark) in [
        (None, "0.22.1", ""),
        (Some("current"), "0.22.1", ""),
        (Some("0.19"), "0.19.0", ""),
        (Some("v0.22.0"), "0.19.0", "the timing table is for vllm 0.19.0, not v0.22.0; the nearest older one is used"),
        (Some("0.30.0"), "0.22.1", "the timing table is for vllm 0.22.1, not 0.30.0; the nearest older one is used"),
        (Some("0.1"), "0.19.0", "the timing table is for vllm 0.19.0, not 0.1; there is no older one"),
        (Some("nightly"), "0.22.1", "the timing table is for vllm 0.22.1, not nightly; the newest one is used"),
    ] {
        assert_eq!(version(asked), (expected.to_owned(), remark.to_owned()), "{asked:?}");
    }

    write("d.json", "0.19.0", "acme/Tiny-1B", "tiny-1b-bf16");
    let error = TableLibrary::with_folders(&folders).unwrap_err().to_string();
    assert!(error.contains("d.json") && error.contains("a.json"), "{error}");
    fs::write(folder.path().join("d.json"), "{}").unwrap();
    let error = TableLibrary::with_folders(&folders).unwrap_err().to_string();
    assert!(error.contains("d.json") && error.contains("missing field `schema`"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let error = TableLibrary::with_folders(&[empty.path().to_owned()]).unwrap_err().to_string();
    assert!(error.contains("holds no timing tables"), "{error}");
    let error = TableLibrary::with_folders(&[empty.path().join("gone")]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("gone"), "{error}");
}
