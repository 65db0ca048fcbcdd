//! Engine arguments to [`EngineConfig`]: defaults, and rules between arguments.

use std::path::Path;

use serde_json::{Map, Value};

use crate::time::SimDuration;

use super::args::Args;
use super::error::ScenarioError;
use super::fields::{ENGINE, check};
use super::router::QueuePolicy;
use super::run::{
    EngineConfig, PreemptionMode, Role, SchedulerKind, SglangPolicy, SglangSettings, Speculation, TransferContention,
    TransferTiming,
};
use super::tiers::tiers;
use super::timing::TimingContext;

/// Acceptance of the draft positions unless given.
const ACCEPT_RATES: [f64; 5] = [0.85, 0.3, 0.0, 0.0, 0.0];

/// Builds the engine of a pool whose workers play `role`; `path` is the key that holds the arguments, `bases` the folders
/// that relative paths in them may start at.
pub(super) fn build(
    map: &Map<String, Value>,
    path: &str,
    role: Role,
    timing: &TimingContext,
    bases: &[&Path],
    warnings: &mut Vec<String>,
) -> Result<EngineConfig, ScenarioError> {
    check(map, ENGINE, path)?;
    let args = Args::new(map, path);
    check_role(&args, role)?;
    let (scheduler, block_size) = scheduler(&args, warnings)?;
    if scheduler != SchedulerKind::Vllm && args.get("max_model_len").is_some() {
        let cause = format!("is given for {}, which has no such limit", engine_type(&scheduler));
        return Err(args.error("max_model_len", cause, "leave it out, or use vllm"));
    }
    warn_unused(&args, &scheduler, warnings);
    let is_vllm = scheduler == SchedulerKind::Vllm;
    let is_sglang = matches!(scheduler, SchedulerKind::Sglang(_));
    let speedup_ratio = args.number("speedup_ratio").unwrap_or(1.0);
    let decode_speedup_ratio = args.number("decode_speedup_ratio").unwrap_or(1.0);
    for (name, ratio) in [("speedup_ratio", speedup_ratio), ("decode_speedup_ratio", decode_speedup_ratio)] {
        if ratio == 0.0 {
            warnings.push(format!("`{path}.{name}` is 0, which leaves pass durations unscaled, as 1 does."));
        }
    }
    let max_num_batched_tokens = args.limit("max_num_batched_tokens", 8_192);
    let settled = timing.settle(&args, bases, block_size, max_num_batched_tokens, warnings)?;
    let tiers = tiers(&args, &scheduler, block_size, settled.kv_bytes_per_token, warnings)?;
    Ok(EngineConfig {
        role,
        scheduler,
        num_gpu_blocks: settled.num_gpu_blocks,
        block_size,
        max_model_len: args.count("max_model_len"),
        max_num_seqs: args.limit("max_num_seqs", 256),
        max_num_batched_tokens,
        enable_prefix_caching: is_sglang || args.flag("enable_prefix_caching").unwrap_or(true),
        enable_chunked_prefill: is_sglang || args.flag("enable_chunked_prefill").unwrap_or(true),
        speedup_ratio,
        decode_speedup_ratio,
        dp_size: data_parallel(&args)?,
        startup_time: startup(&args)?,
        speculation: speculation(&args, decode_speedup_ratio, warnings)?,
        kv_bytes_per_token: settled.kv_bytes_per_token,
        kv_transfer_bandwidth: args.number("kv_transfer_bandwidth"),
        kv_transfer_timing: if args.says("kv_transfer_timing_mode", "destination_missing") {
            TransferTiming::DestinationMissing
        } else {
            TransferTiming::FullPrompt
        },
        tiers,
        kv_transfer_contention: contention(&args, role, settled.kv_bytes_per_token, warnings),
        preemption_mode: if is_vllm && args.says("preemption_mode", "fifo") {
            PreemptionMode::Fifo
        } else {
            PreemptionMode::Lifo
        },
        tp_size: settled.tp_size,
        timing: settled.timing,
        timing_args: settled.args,
        router_queue_policy: args.text("router_queue_policy").and_then(QueuePolicy::of),
    })
}

/// Whether hand-off transfers share a link; says so where the word has no effect.
fn contention(args: &Args, role: Role, bytes: Option<u64>, warnings: &mut Vec<String>) -> TransferContention {
    let name = "kv_transfer_contention";
    if !args.says(name, "shared") {
        return TransferContention::Independent;
    }
    let takes_time = bytes.is_some_and(|bytes| bytes > 0) && args.number("kv_transfer_bandwidth").unwrap_or(0.0) > 0.0;
    let lack = match role {
        Role::Prefill if takes_time => None,
        Role::Prefill => Some("without `kv_bytes_per_token` and `kv_transfer_bandwidth`: transfers take no time"),
        Role::Aggregated => Some("where nothing is handed over"),
        Role::Decode => Some("here: the prefill workers' arguments say how KV is sent"),
    };
    warnings.extend(lack.map(|lack| format!("`{}` has no effect {lack}.", args.key(name))));
    TransferContention::Shared
}

/// The scheduler and its block size.
fn scheduler(args: &Args, warnings: &mut Vec<String>) -> Result<(SchedulerKind, u32), ScenarioError> {
    let given = args.count("block_size").filter(|size| *size > 0);
    if args.says("engine_type", "sglang") {
        return sglang(args, given, warnings);
    }
    let (kind, default) =
        if args.says("engine_type", "trtllm") { (SchedulerKind::TrtLlm, 32) } else { (SchedulerKind::Vllm, 64) };
    let block_size = given.unwrap_or(default);
    if block_size == 1 {
        let cause = format!("is 1, which the {} scheduler cannot use", engine_type(&kind));
        return Err(args.error("block_size", cause, "give 2 or more"));
    }
    Ok((kind, block_size))
}

fn sglang(
    args: &Args,
    block_size: Option<u32>,
    warnings: &mut Vec<String>,
) -> Result<(SchedulerKind, u32), ScenarioError> {
    let own = args.fields("sglang");
    let page_size = own.count("page_size");
    if let (Some(block), Some(page)) = (block_size, page_size)
        && block != page
    {
        let cause = format!("is {page}, but `{}` is {block}", args.key("block_size"));
        return Err(own.error("page_size", cause, "give one of them, or the same number twice"));
    }
    let block_size = block_size.or(page_size).unwrap_or(1);
    let chunk = own.count("chunked_prefill_size");
    if chunk.is_none() && 8_192 % block_size != 0 {
        warnings.push(format!(
            "`{}` is 8192 unless given, no multiple of the {block_size} tokens of a page: prompts that end within the \
             last page of a piece are never scheduled.",
            own.key("chunked_prefill_size")
        ));
    }
    if let Some(chunk) = chunk.filter(|chunk| chunk % block_size != 0) {
        let cause = format!("is {chunk}, which is no multiple of the {block_size} tokens of a page");
        return Err(own.error("chunked_prefill_size", cause, "give a multiple of the page size"));
    }
    let settings = SglangSettings {
        policy: if own.says("schedule_policy", "lpm") { SglangPolicy::LongestPrefix } else { SglangPolicy::Fifo },
        max_prefill_tokens: own.count("max_prefill_tokens").unwrap_or(16_384),
        chunked_prefill_size: chunk.unwrap_or(8_192),
        clip_max_new_tokens: own.count("clip_max_new_tokens").unwrap_or(4_096),
        schedule_conservativeness: own.number("schedule_conservativeness").unwrap_or(1.0),
    };
    Ok((SchedulerKind::Sglang(settings), block_size))
}

/// The reference's word for a scheduler.
pub(super) fn engine_type(kind: &SchedulerKind) -> &'static str {
    match kind {
        SchedulerKind::Vllm => "vllm",
        SchedulerKind::TrtLlm => "trtllm",
        SchedulerKind::Sglang(_) => "sglang",
    }
}

/// Names arguments that the scheduler does not look at.
fn warn_unused(args: &Args, kind: &SchedulerKind, warnings: &mut Vec<String>) {
    let names: &[&str] = match kind {
        SchedulerKind::Vllm => &["sglang", "trtllm"],
        SchedulerKind::TrtLlm => &["sglang", "preemption_mode"],
        SchedulerKind::Sglang(_) => &["trtllm", "preemption_mode", "enable_prefix_caching", "enable_chunked_prefill"],
    };
    for name in names.iter().filter(|name| args.get(name).is_some()) {
        warnings.push(format!("`{}` has no effect with {}.", args.key(name), engine_type(kind)));
    }
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
