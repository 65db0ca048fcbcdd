//! The keys of `router-config`. The table is both the check and the schema.

use super::super::fields::{Field, Kind, optional, plain};

const AMOUNT: Kind = Kind::Number(0.0, f64::MAX);
const SHARE: Kind = Kind::Number(0.0, 1.0);
const WORD: u64 = u32::MAX as u64;

/// Every setting of the KV router.
pub(in crate::scenario) const ROUTER: &[Field] = &[
    plain("overlap_score_credit", AMOUNT, "Blocks of prefill that a cached block is worth; 1 unless given"),
    plain(
        "overlap_score_credit_decay",
        AMOUNT,
        "How much the credit falls with a worker's prefill load; 0 unless given",
    ),
    plain("prefill_load_scale", AMOUNT, "Weight of prefill against decode blocks; 1 unless given"),
    plain("decode_active_request_weight", AMOUNT, "Blocks that an active request counts as; 0 unless given"),
    optional(
        "overlap_score_weight",
        AMOUNT,
        "Older name of prefill_load_scale; outranks it, and 0 also sets overlap_score_credit to 0",
    ),
    plain(
        "router_temperature",
        AMOUNT,
        "0 takes the lowest cost; above, the choice is drawn with weights that fall with the cost; 0 unless given",
    ),
    plain("router_track_active_blocks", Kind::Flag, "Whether blocks of active requests count; true unless given"),
    plain("router_track_output_blocks", Kind::Flag, "No effect offline; needs router_track_active_blocks"),
    plain(
        "router_assume_kv_reuse",
        Kind::Flag,
        "Whether active requests with a common prefix count its blocks once; true unless given",
    ),
    plain(
        "router_track_prefill_tokens",
        Kind::Flag,
        "Whether prompt tokens that are not computed yet count; true unless given",
    ),
    plain(
        "router_prefill_load_model",
        Kind::Choice(&["none", "aic"]),
        "How prefill load falls over time; only none is supported yet",
    ),
    optional(
        "router_queue_threshold",
        AMOUNT,
        "Share of max_num_batched_tokens of prompt tokens above which a worker is busy; requests wait while all are; \
         no queue unless given",
    ),
    plain("router_queue_policy", Kind::Choice(&["fcfs", "lcfs", "wspt"]), "Order of the queue; fcfs unless given"),
    optional("router_policy_config", Kind::Text, "Path of a YAML file of policy classes"),
    plain("host_cache_hit_weight", SHARE, "No effect offline"),
    plain("disk_cache_hit_weight", SHARE, "No effect offline"),
    plain("shared_cache_multiplier", SHARE, "No effect offline"),
    plain("shared_cache_type", Kind::Choice(&["none", "hicache"]), "No effect offline"),
    plain("router_ttl_secs", AMOUNT, "No effect offline"),
    optional("router_predicted_ttl_secs", AMOUNT, "No effect offline; needs use_kv_events"),
    plain("use_kv_events", Kind::Flag, "No effect offline"),
    plain("router_replica_sync", Kind::Flag, "No effect offline"),
    plain("skip_initial_worker_wait", Kind::Flag, "No effect offline"),
    plain("use_remote_indexer", Kind::Flag, "No effect offline; not together with serve_indexer"),
    plain("serve_indexer", Kind::Flag, "No effect offline; needs overlap_score_credit above 0"),
    plain("router_event_threads", Kind::Count(1, WORD), "No effect offline"),
    plain("router_tracking_hash", Kind::Choice(&["public-xxh3-v1", "keyed-xxh3-v1"]), "No effect offline"),
    optional("router_tracking_key_file", Kind::Text, "No effect offline; only with keyed-xxh3-v1"),
    optional("router_tracking_key_id", Kind::Text, "No effect offline; only with keyed-xxh3-v1"),
    plain("conditional_disagg_enabled", Kind::Flag, "No effect offline"),
    plain(
        "conditional_disagg_policy",
        Kind::Choice(&["isl_bounding", "prefill_load", "isl_or_load"]),
        "No effect offline",
    ),
    plain("conditional_disagg_eff_isl_threshold", Kind::Count(0, u64::MAX), "No effect offline"),
    plain("conditional_disagg_eff_isl_ratio_threshold", SHARE, "No effect offline"),
    optional("conditional_disagg_prefill_busy_threshold", AMOUNT, "No effect offline"),
    optional("conditional_disagg_decode_busy_threshold", AMOUNT, "No effect offline"),
    plain("durable_kv_events", Kind::Flag, "Must be false"),
    optional("router_snapshot_threshold", Kind::Count(0, WORD), "No effect offline"),
    plain("router_reset_states", Kind::Flag, "No effect offline"),
];
