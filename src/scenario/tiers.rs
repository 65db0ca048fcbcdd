//! KV tiers below the GPU: the arguments that ask for them, and the rules between these.

use super::args::Args;
use super::error::ScenarioError;
use super::run::{SchedulerKind, TierBandwidth, TierConfig};

/// Blocks copied from G1 to G2 together unless given.
const BATCH: u32 = 32;

/// Arguments that say something about tiers without asking for them.
const DETAILS: [&str; 7] = [
    "offload_batch_size",
    "bandwidth_g1_to_g2_gbps",
    "bandwidth_g2_to_g1_gbps",
    "bandwidth_g2_to_g3_gbps",
    "bandwidth_g3_to_g2_gbps",
    "bandwidth_g2_to_g4_gbps",
    "bandwidth_g4_to_g2_gbps",
];

/// The tiers of an engine with these arguments, or why it cannot have them; `bytes` are those of a token's KV.
pub(super) fn tiers(
    args: &Args,
    scheduler: &SchedulerKind,
    block_size: u32,
    bytes: Option<u64>,
    warnings: &mut Vec<String>,
) -> Result<Option<TierConfig>, ScenarioError> {
    let blocks = |name: &str| args.whole(name).unwrap_or(0);
    let (host_blocks, disk_blocks) = (blocks("num_g2_blocks"), blocks("num_g3_blocks"));
    let object_store = args.flag("enable_g4_storage") == Some(true);
    for (name, asked) in [("num_g3_blocks", disk_blocks > 0), ("enable_g4_storage", object_store)] {
        if asked && host_blocks == 0 {
            let cause = "is given without `num_g2_blocks`, through which its blocks pass";
            return Err(args.error(name, cause, "give `num_g2_blocks` too, or leave it out"));
        }
    }
    if host_blocks == 0 {
        if args.text("g1_backend") == Some("kvbm") {
            let cure = "use native, or give `num_g2_blocks`";
            return Err(ScenarioError::not_yet(args.key("g1_backend"), "the kvbm block manager without tiers", cure));
        }
        for name in DETAILS.iter().filter(|name| args.get(name).is_some()) {
            warnings.push(format!("`{}` has no effect without `num_g2_blocks`.", args.key(name)));
        }
        return Ok(None);
    }
    if matches!(scheduler, SchedulerKind::Sglang(_)) {
        let cause = "is given for sglang, which has no such tiers here";
        return Err(args.error("num_g2_blocks", cause, "leave it out, or use vllm or trtllm"));
    }
    if args.text("g1_backend") == Some("native") {
        let cause = "is native together with `num_g2_blocks`, which needs kvbm";
        return Err(args.error("g1_backend", cause, "leave it out, or leave `num_g2_blocks` out"));
    }
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else {
        let cause = "is given, but not how large a token's KV is";
        return Err(args.error("num_g2_blocks", cause, "give `kv_bytes_per_token`, or time passes by a model"));
    };
    if args.flag("enable_prefix_caching") == Some(false) {
        let key = args.key("num_g2_blocks");
        warnings.push(format!("`{key}` has no effect without prefix caching: no block is kept to be copied."));
    }
    warnings.push(format!(
        "`{}`: KV tiers are simulated; the reference's published program accepts them and ignores what they take and save.",
        args.key("num_g2_blocks")
    ));
    let gbps = |name: &str, default: f64| args.number(name).unwrap_or(default);
    Ok(Some(TierConfig {
        host_blocks,
        disk_blocks,
        object_store,
        batch: args.count("offload_batch_size").filter(|batch| *batch > 0).unwrap_or(BATCH),
        block_bytes: bytes.saturating_mul(u64::from(block_size)),
        bandwidth: TierBandwidth {
            g1_to_g2: gbps("bandwidth_g1_to_g2_gbps", 14.0),
            g2_to_g1: gbps("bandwidth_g2_to_g1_gbps", 14.0),
            g2_to_g3: gbps("bandwidth_g2_to_g3_gbps", 7.0),
            g3_to_g2: gbps("bandwidth_g3_to_g2_gbps", 7.0),
            g2_to_g4: gbps("bandwidth_g2_to_g4_gbps", 4.0),
            g4_to_g2: gbps("bandwidth_g4_to_g2_gbps", 4.0),
        },
    }))
}
