//! What the KV tiers below the GPUs did.

use serde_json::{Map, Value, json};

use crate::sim::metrics::Outcome;

use super::summary::counts;

/// Names of the links, in the order of [`TierTotals::links`](crate::sim::metrics::TierTotals::links).
const LINKS: [&str; 6] = ["g1_to_g2", "g2_to_g1", "g2_to_g3", "g3_to_g2", "g2_to_g4", "g4_to_g2"];

/// One object: what requests of the population got from each tier, and links and blocks by pool.
pub(super) fn tiers(outcome: &Outcome) -> Value {
    let population = || outcome.records.iter().filter(|record| counts(record));
    let of_tiers = || population().filter_map(|record| record.tiers);
    let onboarded = [0, 1, 2].map(|tier| of_tiers().map(|tiers| tiers.tokens[tier]).sum::<u64>());
    let waits: Vec<f64> = of_tiers().filter(|t| t.tokens.iter().sum::<u64>() > 0).map(|t| t.wait.as_ms()).collect();
    let mean_wait = if waits.is_empty() { 0.0 } else { waits.iter().sum::<f64>() / waits.len() as f64 };
    let pools: Map<String, Value> = outcome
        .tiers
        .iter()
        .map(|pool| {
            let links: Map<String, Value> = LINKS
                .iter()
                .zip(pool.links)
                .map(|(name, (bytes, share))| {
                    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                    ((*name).to_owned(), json!({"bytes": bytes, "mean_utilisation": share}))
                })
                .collect();
            let [g2, g3, g4] = pool.blocks;
            let value = json!({
                "blocks": {"g2": g2, "g3": g3, "g4": g4},
                "evicted_blocks_dropped": pool.not_copied[1],
                "evicted_blocks_present_in_g2": pool.not_copied[0],
                "links": links,
            });
            (pool.role.to_string(), value)
        })
        .collect();
    json!({
        "mean_onboard_wait_ms": mean_wait,
        "onboarded_requests": waits.len(),
        "onboarded_tokens": {"g2": onboarded[0], "g3": onboarded[1], "g4": onboarded[2]},
        "pools": pools,
    })
}
