//! Engine arguments to [`EngineConfig`]: defaults, rules between arguments, and what has not landed.

use serde_json::{Map, Value};

use crate::time::SimDuration;

use super::error::ScenarioError;
use super::fields::{ENGINE, check};
use super::router::QueuePolicy;
use super::run::{EngineConfig, PreemptionMode, Role, Speculation, TransferTiming};

/// Acceptance of the draft positions unless given.
const ACCEPT_RATES: [f64; 5] = [0.85, 0.3, 0.0, 0.0, 0.0];

/// Arguments that matter only together with the timing model they configure.
const MODEL_DETAILS: [&str; 8] = [
    "aic_backend_version",
    "aic_moe_tp_size",
    "aic_moe_ep_size",
    "aic_gemm_dtype",
    "aic_moe_dtype",
    "aic_fmha_dtype",
    "aic_kv_cache_dtype",
    "aic_comm_dtype",
];

/// Builds the engine of a pool whose workers play `role`; `path` is the key that holds the arguments.
pub(super) fn build(
    map: &Map<String, Value>,
    path: &str,
    role: Role,
    warnings: &mut Vec<String>,
) -> Result<EngineConfig, ScenarioError> {
    check(map, ENGINE, path)?;
    let args = Args { map, path };
    refuse_unsupported(&args)?;
    check_role(&args, role)?;
    let block_size = args.count("block_size").filter(|size| *size > 0).unwrap_or(64);
    if block_size == 1 {
        return Err(args.error("block_size", "is 1, which the vllm scheduler cannot use", "give 2 or more"));
    }
    let speedup_ratio = args.number("speedup_ratio").unwrap_or(1.0);
    let decode_speedup_ratio = args.number("decode_speedup_ratio").unwrap_or(1.0);
    for (name, ratio) in [("speedup_ratio", speedup_ratio), ("decode_speedup_ratio", decode_speedup_ratio)] {
        if ratio == 0.0 {
            warnings.push(format!("`{path}.{name}` is 0, which leaves pass durations unscaled, as 1 does."));
        }
    }
    for name in MODEL_DETAILS {
        if args.get(name).is_some() {
            warnings.push(format!("`{path}.{name}` has no effect without a timing model (`aic_backend`)."));
        }
    }
    Ok(EngineConfig {
        role,
        num_gpu_blocks: args.count("num_gpu_blocks").unwrap_or(16_384),
        block_size,
        max_model_len: args.count("max_model_len"),
        max_num_seqs: args.limit("max_num_seqs", 256),
        max_num_batched_tokens: args.limit("max_num_batched_tokens", 8_192),
        enable_prefix_caching: args.flag("enable_prefix_caching").unwrap_or(true),
        enable_chunked_prefill: args.flag("enable_chunked_prefill").unwrap_or(true),
        speedup_ratio,
        decode_speedup_ratio,
        dp_size: data_parallel(&args)?,
        startup_time: startup(&args)?,
        speculation: speculation(&args, decode_speedup_ratio, warnings)?,
        kv_bytes_per_token: args.whole("kv_bytes_per_token"),
        kv_transfer_bandwidth: args.number("kv_transfer_bandwidth"),
        kv_transfer_timing: if args.says("kv_transfer_timing_mode", "destination_missing") {
            TransferTiming::DestinationMissing
        } else {
            TransferTiming::FullPrompt
        },
        preemption_mode: if args.says("preemption_mode", "fifo") { PreemptionMode::Fifo } else { PreemptionMode::Lifo },
        tp_size: args.count("aic_tp_size").unwrap_or(1),
        router_queue_policy: args.text("router_queue_policy").and_then(QueuePolicy::of),
    })
}

/// Checked arguments; a getter gives `None` for a key that is absent or `null`.
pub(super) struct Args<'a> {
    pub map: &'a Map<String, Value>,
    pub path: &'a str,
}

impl<'a> Args<'a> {
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn whole(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    pub fn count(&self, name: &str) -> Option<u32> {
        self.whole(name).and_then(|n| u32::try_from(n).ok())
    }

    /// A limit: absent gives `default`, `null` gives no limit.
    pub fn limit(&self, name: &str, default: u32) -> Option<u32> {
        if self.map.contains_key(name) { self.count(name) } else { Some(default) }
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(Value::as_f64)
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Whether a word is given, in capitals or not.
    pub fn says(&self, name: &str, word: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub fn error(&self, name: &str, cause: impl Into<String>, cure: &str) -> ScenarioError {
        ScenarioError::new(self.key(name), cause, cure)
    }
}

/// Refuses by name what would change results and has not landed.
fn refuse_unsupported(args: &Args) -> Result<(), ScenarioError> {
    let refuse = |name: &str, what: &str, cure: &str| Err(ScenarioError::not_yet(args.key(name), what, cure));
    if let Some(engine) = args.text("engine_type").filter(|engine| !engine.eq_ignore_ascii_case("vllm")) {
        return refuse("engine_type", &format!("the {engine} scheduler"), "use vllm");
    }
    for name in ["aic_backend", "aic_system", "aic_model_path"] {
        if args.get(name).is_some() {
            return refuse(name, "the AIC timing model", "leave it out; passes then take polynomial times");
        }
    }
    if args.get("planner_profile_data").is_some() {
        return refuse("planner_profile_data", "a timing table", "leave it out; passes then take polynomial times");
    }
    for name in ["num_g2_blocks", "num_g3_blocks"] {
        if args.whole(name).is_some_and(|blocks| blocks > 0) {
            return refuse(name, "KV offload", "leave it out or give 0");
        }
    }
    if args.flag("enable_g4_storage") == Some(true) {
        return refuse("enable_g4_storage", "KV offload", "leave it out or give false");
    }
    if args.text("g1_backend") == Some("kvbm") {
        return refuse("g1_backend", "the kvbm block manager", "use native");
    }
    Ok(())
}

/// The role follows from the pool; only a contradiction is an error. `worker_type` outranks the older booleans.
fn check_role(args: &Args, role: Role) -> Result<(), ScenarioError> {
    let (name, stated) = match (args.flag("is_prefill") == Some(true), args.flag("is_decode") == Some(true)) {
        (true, true) => {
            return Err(args.error("is_decode", "is true together with `is_prefill`", "keep one of them"));
        }
        _ if args.says("worker_type", "prefill") => ("worker_type", Role::Prefill),
        _ if args.says("worker_type", "decode") => ("worker_type", Role::Decode),
        _ if args.says("worker_type", "aggregated") => ("worker_type", Role::Aggregated),
        (true, false) => ("is_prefill", Role::Prefill),
        (false, true) => ("is_decode", Role::Decode),
        (false, false) => return Ok(()),
    };
    if stated == role {
        return Ok(());
    }
    let cure = match stated {
        Role::Aggregated => "give the arguments as `extra-engine-args`, or leave the worker type out",
        Role::Prefill | Role::Decode => {
            "give them as `prefill-engine-args` and `decode-engine-args`, each in its own pool, or leave it out"
        }
    };
    Err(args.error(name, format!("says {}, but these workers are {}", word(stated), word(role)), cure))
}

/// The reference's word for a role.
pub(super) fn word(role: Role) -> &'static str {
    match role {
        Role::Aggregated => "aggregated",
        Role::Prefill => "prefill",
        Role::Decode => "decode",
    }
}

fn data_parallel(args: &Args) -> Result<u32, ScenarioError> {
    let size = args.count("dp_size").unwrap_or(1);
    match args.count("aic_attention_dp_size") {
        Some(attention) if attention > 1 => {
            if size > 1 && size != attention {
                let cause = format!("is {size}, but `aic_attention_dp_size` is {attention}");
                return Err(args.error("dp_size", cause, "give one of them, or the same number twice"));
            }
            Ok(attention)
        }
        _ => Ok(size),
    }
}

fn startup(args: &Args) -> Result<SimDuration, ScenarioError> {
    let seconds = args.number("startup_time").unwrap_or(0.0);
    SimDuration::from_ms(seconds * 1_000.0)
        .map_err(|e| args.error("startup_time", e.to_string(), "give a shorter time in seconds"))
}

fn speculation(
    args: &Args,
    decode_speedup_ratio: f64,
    warnings: &mut Vec<String>,
) -> Result<Option<Speculation>, ScenarioError> {
    let name = "aic_nextn_accept_rates";
    let Some(drafts) = args.whole("aic_nextn") else {
        return match args.get(name) {
            None => Ok(None),
            Some(_) => Err(args.error(name, "is given without `aic_nextn`", "give the number of draft tokens too")),
        };
    };
    // An empty list means the default ones, as in the reference.
    let given = args.text(name).filter(|text| !text.is_empty());
    let given = given.map(|text| rates(args, name, text)).transpose()?;
    if decode_speedup_ratio != 1.0 {
        let cause = format!("is {decode_speedup_ratio} together with `aic_nextn`");
        return Err(args.error("decode_speedup_ratio", cause, "give 1, or leave `aic_nextn` out"));
    }
    let drafts = usize::try_from(drafts).unwrap_or(ACCEPT_RATES.len());
    if let Some(count) = given.as_ref().map(Vec::len).filter(|count| *count != drafts) {
        let key = args.key(name);
        let effect = if count < drafts { "the missing ones count as 0" } else { "the surplus is ignored" };
        warnings.push(format!("`{key}` has {count} rates for {drafts} draft tokens; {effect}."));
    }
    let mut accept_rates = given.unwrap_or_else(|| ACCEPT_RATES.to_vec());
    accept_rates.resize(drafts, 0.0);
    Ok(Some(Speculation { accept_rates, seed: args.whole("aic_mtp_seed").unwrap_or(42) }))
}

fn rates(args: &Args, name: &str, text: &str) -> Result<Vec<f64>, ScenarioError> {
    text.split(',')
        .map(|part| match part.trim().parse::<f64>() {
            Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
            _ => Err(args.error(
                name,
                format!("has \"{}\" among its rates", part.trim()),
                "give numbers from 0 to 1, separated by commas",
            )),
        })
        .collect()
}
