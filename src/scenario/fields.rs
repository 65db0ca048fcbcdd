//! Engine arguments: names, types, ranges and which of them may be `null`. The table is both the check and the schema.

use serde_json::{Map, Value};

use super::error::{ScenarioError, unknown_key};
use super::values::kind_of;

/// What a value must be.
pub(super) enum Kind {
    /// True or false.
    Flag,
    /// A whole number within bounds.
    Count(u64, u64),
    /// A finite number within bounds.
    Number(f64, f64),
    /// A string.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, in capitals or not.
    AnyCase(&'static [&'static str]),
    /// An object with these fields.
    Fields(&'static [Field]),
    /// Anything; ignored.
    Any,
}

/// One argument.
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether `null` is accepted.
    pub nullable: bool,
    pub about: &'static str,
}

/// A field that must not be `null`.
pub(super) const fn plain(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, nullable: false, about }
}

/// A field that may be `null`.
pub(super) const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, nullable: true, about }
}

/// Largest value of counts that the simulation keeps in 32 bits.
const WORD: u64 = u32::MAX as u64;
const FRACTION: Kind = Kind::Number(0.0, 1.0);
const RATIO: Kind = Kind::Number(0.0, f64::MAX);
const COUNT: Kind = Kind::Count(1, WORD);
const SIZE: Kind = Kind::Count(0, u64::MAX);
const PORT: Kind = Kind::Count(0, 65_535);

const SGLANG: &[Field] = &[
    optional(
        "schedule_policy",
        Kind::Choice(&["fifo", "fcfs", "lpm"]),
        "Order of the waiting queue: as it came, or longest resident prefix first (lpm); fifo unless given",
    ),
    optional("page_size", COUNT, "Another name for block_size"),
    optional("max_prefill_tokens", COUNT, "Prompt tokens per forward pass; 16384 unless given"),
    optional(
        "chunked_prefill_size",
        COUNT,
        "Longest piece of a prompt in tokens, a multiple of block_size; 8192 unless given",
    ),
    optional(
        "clip_max_new_tokens",
        Kind::Count(0, WORD),
        "Most output tokens reckoned with for one request when others join; 4096 unless given",
    ),
    optional(
        "schedule_conservativeness",
        FRACTION,
        "Scales the share of the output to come that is kept free when requests join; 1 unless given",
    ),
];

const TRTLLM: &[Field] =
    &[optional("capacity_scheduler_policy", Kind::Choice(&["guaranteed_no_evict"]), "Nobody gives way once running")];

const REASONING: &[Field] = &[
    optional("start_thinking_token_id", SIZE, "Token that opens a thought"),
    optional("end_thinking_token_id", SIZE, "Token that closes a thought"),
    optional("thinking_ratio", FRACTION, "Share of the output that is thought"),
];

const ROOFLINE: &[Field] = &[
    plain("model", Kind::Text, "Known model, or the path of a Hugging Face config.json or its folder"),
    plain("gpu", Kind::Text, "Known GPU, or the path of a GPU description"),
    optional(
        "backend",
        Kind::AnyCase(&["vllm", "sglang", "trtllm"]),
        "Whose memory rules apply; aic_backend or else vllm unless given",
    ),
];

const TIMING: &[Field] = &[
    optional("table", Kind::Text, "Forward-pass table: key of `dynosim perf list`, or a path"),
    optional("npz", Kind::Text, "Path of planner profile arrays"),
    optional("roofline", Kind::Fields(ROOFLINE), "Estimate from a model's shape and a GPU's data sheet"),
    optional("composition", Kind::Choice(&["sum", "fused"]), "How a mixed pass adds up; sum unless given"),
    optional(
        "prompt_attention",
        Kind::Choice(&["mean", "per_request"]),
        "How the prompts of a fused pass are priced; mean unless given",
    ),
    optional("per_pass_overhead_ms", RATIO, "Host time of every pass; 0 unless given"),
    optional("decode_floor_ms", RATIO, "Shortest decode step; 1 unless given"),
    optional(
        "async_scheduling",
        Kind::Flag,
        "Whether a pass is put together while the one before it runs, as vLLM does since 0.14; false unless given",
    ),
];

/// What GPUs are taken to cost.
pub(super) const COST: &[Field] = &[
    optional("gpu", Kind::Text, "Known GPU, or the path of a GPU description; the engine's unless given"),
    optional("usd_per_gpu_hour", Kind::Number(0.0, 1e4), "US dollars per GPU and hour; the GPU's price unless given"),
    optional("busy_watts", Kind::Number(0.0, 1e5), "Power of a GPU during a forward pass; the GPU's unless given"),
    optional("idle_watts", Kind::Number(0.0, 1e5), "Power of a GPU between forward passes; the GPU's unless given"),
];

/// Every engine argument.
pub(super) const ENGINE: &[Field] = &[
    plain("engine_type", Kind::AnyCase(&["vllm", "sglang", "trtllm"]), "Scheduler; vllm unless given"),
    optional(
        "num_gpu_blocks",
        COUNT,
        "Usable KV blocks per worker and data-parallel rank; unless given, what fits beside the model, or 16384",
    ),
    plain(
        "block_size",
        Kind::Count(0, WORD),
        "Tokens per KV block, at least 2 but for sglang; if 0 or not given 64 (vllm), 32 (trtllm), 1 (sglang)",
    ),
    optional("max_model_len", COUNT, "Limit of prompt plus output tokens; vllm only"),
    optional("max_num_seqs", COUNT, "Most running requests, null for no limit; 256 unless given"),
    optional(
        "max_num_batched_tokens",
        COUNT,
        "Tokens per forward pass, null for no limit; 8192 unless given; with sglang only the router's queue looks at it",
    ),
    plain(
        "enable_prefix_caching",
        Kind::Flag,
        "Whether computed blocks are found again; true unless given; no effect with sglang",
    ),
    plain(
        "enable_chunked_prefill",
        Kind::Flag,
        "Whether prompts are computed in pieces; true unless given; no effect with sglang",
    ),
    plain("speedup_ratio", RATIO, "Divides pass durations; 0 leaves them unscaled; 1 unless given"),
    plain("decode_speedup_ratio", RATIO, "Divides decode durations further; 1 unless given"),
    plain("dp_size", COUNT, "Data-parallel ranks, each with its own scheduler and KV pool; 1 unless given"),
    optional("startup_time", RATIO, "Seconds from scale-up to readiness"),
    plain(
        "worker_type",
        Kind::AnyCase(&["aggregated", "prefill", "decode"]),
        "Part the worker plays; follows the pool",
    ),
    plain("is_prefill", Kind::Flag, "Older spelling of worker_type prefill"),
    plain("is_decode", Kind::Flag, "Older spelling of worker_type decode"),
    optional("kv_bytes_per_token", SIZE, "Bytes of KV per token, for hand-off; the timing model's unless given"),
    optional("kv_transfer_bandwidth", RATIO, "Link speed for hand-off in GB/s (1e9 bytes); 0 or unset: no delay"),
    plain(
        "kv_transfer_timing_mode",
        Kind::AnyCase(&["full_prompt", "destination_missing"]),
        "What a transfer carries; full_prompt unless given",
    ),
    plain(
        "kv_transfer_contention",
        Kind::Choice(&["independent", "shared"]),
        "Whether transfers that leave one prefill worker at a time share its link; independent unless given",
    ),
    plain(
        "preemption_mode",
        Kind::AnyCase(&["lifo", "fifo"]),
        "Who gives way when blocks run out; lifo unless given; vllm only",
    ),
    optional("aic_tp_size", COUNT, "Tensor-parallel size, for timing and GPU accounting; 1 unless given"),
    optional("aic_attention_dp_size", COUNT, "Data-parallel groups of attention, for timing; above 1 sets dp_size"),
    optional("aic_nextn", Kind::Count(1, 5), "Draft tokens of speculative decoding"),
    optional(
        "aic_nextn_accept_rates",
        Kind::Text,
        "Acceptance probability of each draft position, separated by commas; 0.85,0.3,0,0,0 unless given",
    ),
    plain("aic_mtp_seed", SIZE, "Seed of the acceptance draws; 42 unless given"),
    optional(
        "aic_backend",
        Kind::AnyCase(&["vllm", "sglang", "trtllm"]),
        "Timing by model: serving backend whose tables and memory rules apply; engine_type unless given",
    ),
    optional("aic_system", Kind::Text, "Timing by model: GPU system, such as h200_sxm"),
    optional("aic_model_path", Kind::Text, "Timing by model: Hugging Face id of the model, or its folder"),
    optional(
        "aic_backend_version",
        Kind::Text,
        "Timing by model: version of the backend; the nearest older table is taken, else the nearest newer one",
    ),
    optional("aic_moe_tp_size", COUNT, "Timing by model: GPUs that share an expert"),
    optional("aic_moe_ep_size", COUNT, "Timing by model: groups of GPUs that hold different experts"),
    optional("aic_gemm_dtype", Kind::Text, "Timing by model: number format of matrix products"),
    optional("aic_moe_dtype", Kind::Text, "Timing from tables: number format of experts"),
    optional("aic_fmha_dtype", Kind::Text, "Timing from tables: number format of attention"),
    optional("aic_kv_cache_dtype", Kind::Text, "Timing by model: number format of the KV cache"),
    optional("aic_comm_dtype", Kind::Text, "Timing from tables: number format of communication"),
    optional("planner_profile_data", Kind::Text, "Timing from planner profile arrays: path of an .npz file"),
    optional("timing", Kind::Fields(TIMING), "Timing by table, arrays or roofline, and how passes add up"),
    plain(
        "on_bad_npz",
        Kind::Choice(&["error", "polynomial"]),
        "What a faulty planner_profile_data does; error unless given, polynomial as in the reference",
    ),
    optional("gpu_memory_utilization", FRACTION, "Share of GPU memory that vllm takes; 0.9 unless given"),
    optional("mem_fraction_static", FRACTION, "Share of GPU memory that sglang takes; 0.88 unless given"),
    optional(
        "free_gpu_memory_fraction",
        FRACTION,
        "Share of the memory left beside the model that trtllm takes for KV; 0.9 unless given",
    ),
    optional(
        "num_g2_blocks",
        SIZE,
        "KV blocks of host memory (G2) per data-parallel rank; 0 or unset: none; needs kv_bytes_per_token; not with sglang",
    ),
    optional(
        "num_g3_blocks",
        SIZE,
        "KV blocks of disk (G3) per data-parallel rank; 0 or unset: none; needs num_g2_blocks",
    ),
    plain("enable_g4_storage", Kind::Flag, "Whether workers share an object store (G4) for KV; needs num_g2_blocks"),
    plain(
        "g1_backend",
        Kind::Choice(&["native", "kvbm"]),
        "Block manager of the GPU; kvbm with tiers (num_g2_blocks) and native without, which is also the default",
    ),
    optional("offload_batch_size", SIZE, "KV blocks copied from GPU to host memory together; 32 unless given or 0"),
    optional("bandwidth_g1_to_g2_gbps", RATIO, "GPU to host memory, GB/s per rank; 0: no limit; 14 unless given"),
    optional("bandwidth_g2_to_g1_gbps", RATIO, "Host memory to GPU, GB/s per rank; 0: no limit; 14 unless given"),
    optional(
        "bandwidth_g2_to_g3_gbps",
        RATIO,
        "Host memory to disk, GB/s for all workers; 0: no limit; 7 unless given",
    ),
    optional(
        "bandwidth_g3_to_g2_gbps",
        RATIO,
        "Disk to host memory, GB/s for all workers; 0: no limit; 7 unless given",
    ),
    optional(
        "bandwidth_g2_to_g4_gbps",
        RATIO,
        "Host memory to object store, GB/s for all workers; 0: no limit; 4 unless given",
    ),
    optional(
        "bandwidth_g4_to_g2_gbps",
        RATIO,
        "Object store to host memory, GB/s for all workers; 0: no limit; 4 unless given",
    ),
    optional(
        "router_queue_policy",
        Kind::Choice(&["fcfs", "lcfs", "wspt"]),
        "Order of the router's queue; outranks router-config",
    ),
    optional("sglang", Kind::Fields(SGLANG), "Settings of the SGLang scheduler; no effect with others"),
    optional("trtllm", Kind::Fields(TRTLLM), "Settings of the TensorRT-LLM scheduler; no effect with others"),
    optional("reasoning", Kind::Fields(REASONING), "No effect offline"),
    optional("response_replay_trace_path", Kind::Text, "No effect offline"),
    optional("bootstrap_port", PORT, "No effect offline"),
    optional("zmq_kv_events_port", PORT, "No effect offline"),
    optional("zmq_replay_port", PORT, "No effect offline"),
    plain("enable_local_indexer", Kind::Flag, "No effect offline"),
    plain("handoff_session_timeout_ms", SIZE, "No effect offline"),
    optional("has_perf_model", Kind::Any, "Ignored"),
];

/// Checks names, types and ranges; what passes can be read without further questions.
pub(super) fn check(map: &Map<String, Value>, fields: &'static [Field], path: &str) -> Result<(), ScenarioError> {
    for (name, value) in map {
        let key = format!("{path}.{name}");
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Err(unknown_key(key, name, fields.iter().map(|field| field.name)));
        };
        if value.is_null() {
            if field.nullable || matches!(field.kind, Kind::Any) {
                continue;
            }
            return Err(ScenarioError::new(key, "must not be null", "leave the key out for its default"));
        }
        check_value(&field.kind, value, key)?;
    }
    Ok(())
}

fn check_value(kind: &Kind, value: &Value, key: String) -> Result<(), ScenarioError> {
    let wrong = |key: String, expected: &str| {
        let cause = match value {
            Value::Number(number) => format!("is {number}"),
            Value::String(text) => format!("is \"{text}\""),
            other => format!("is {}", kind_of(other)),
        };
        Err(ScenarioError::new(key, cause, format!("give {expected}")))
    };
    match kind {
        Kind::Any => Ok(()),
        Kind::Flag if value.is_boolean() => Ok(()),
        Kind::Flag => wrong(key, "true or false"),
        Kind::Text if value.is_string() => Ok(()),
        Kind::Text => wrong(key, "a string"),
        Kind::Count(low, high) if value.as_u64().is_some_and(|n| (*low..=*high).contains(&n)) => Ok(()),
        Kind::Count(low, high) => wrong(key, &format!("a whole number from {low} to {high}")),
        Kind::Number(low, high) if value.as_f64().is_some_and(|n| (*low..=*high).contains(&n)) => Ok(()),
        Kind::Number(low, high) if *high == f64::MAX => wrong(key, &format!("a number of at least {low}")),
        Kind::Number(low, high) => wrong(key, &format!("a number from {low} to {high}")),
        Kind::Choice(words) if value.as_str().is_some_and(|text| words.contains(&text)) => Ok(()),
        Kind::AnyCase(words)
            if value.as_str().is_some_and(|text| words.iter().any(|w| w.eq_ignore_ascii_case(text))) =>
        {
            Ok(())
        }
        Kind::Choice(words) | Kind::AnyCase(words) => wrong(key, &words.join(" or ")),
        Kind::Fields(fields) => match value.as_object() {
            Some(map) => check(map, fields, &key),
            None => wrong(key, "an object"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        let map = serde_json::from_str(json).unwrap();
        check(&map, ENGINE, "extra-engine-args").err().map_or_else(String::new, |e| e.to_string())
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_with_its_path() {
        assert_eq!(
            problem(r#"{"num_gpu_blocks": 0}"#),
            "`extra-engine-args.num_gpu_blocks`: is 0; give a whole number from 1 to 4294967295"
        );
        assert_eq!(
            problem(r#"{"sglang": {"page_size": "x"}}"#),
            "`extra-engine-args.sglang.page_size`: is \"x\"; give a whole number from 1 to 4294967295"
        );
        assert_eq!(
            problem(r#"{"blocksize": 4}"#),
            "`extra-engine-args.blocksize`: unknown key; did you mean `block_size`?"
        );
    }

    #[test]
    fn null_is_accepted_where_a_value_is_optional() {
        assert_eq!(problem(r#"{"max_num_seqs": null, "num_gpu_blocks": null, "startup_time": null}"#), "");
        assert!(problem(r#"{"block_size": null}"#).contains("must not be null"));
    }

    #[test]
    fn words_are_read_as_the_reference_reads_them() {
        assert_eq!(problem(r#"{"engine_type": "VLLM", "preemption_mode": "FIFO", "worker_type": "Aggregated"}"#), "");
        assert!(problem(r#"{"g1_backend": "Native"}"#).contains("give native or kvbm"));
    }
}
