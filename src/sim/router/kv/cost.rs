//! What sending a request to a worker would cost, in blocks; lower is better.
//!
//! ```text
//! raw prefill = (prompt tokens not computed yet there + prompt tokens of the request) / block size
//! credit      = credit per block * decay * cached blocks
//! cost        = scale * max(0, raw prefill - credit) + blocks of active requests, this one included
//!                                                    + weight * active requests
//! ```

use serde::Serialize;

use crate::scenario::KvRouter;

/// What a router knows of one worker's rank when it weighs a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Leading blocks of the prompt that are cached.
    pub overlap: u32,
    /// Prompt tokens of active requests that were not cached and whose prefill is not over.
    pub prefill_tokens: u64,
    /// Distinct blocks of active requests.
    pub active_blocks: u64,
    /// Leading blocks of the prompt that active requests occupy.
    pub active_overlap: u32,
    /// Active requests.
    pub requests: u32,
}

/// The parts of a cost, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Terms {
    /// Leading blocks of the prompt that are cached.
    pub overlap_blocks: u32,
    /// Prefill work with this request, as if nothing were cached for it.
    pub raw_prefill_blocks: f64,
    /// Share of the credit that the prefill load leaves.
    pub overlap_credit_decay: f64,
    /// What the cached blocks take off.
    pub overlap_credit_blocks: f64,
    /// Distinct blocks of active requests, this one included.
    pub decode_blocks: f64,
    /// Charge for the number of active requests.
    pub active_request_cost: f64,
    /// The sum that is compared.
    pub cost: f64,
}

/// Weighs a prompt of `tokens` tokens in blocks of `block_size` tokens; `least_prefill` is the smallest prefill load of
/// all workers.
pub fn weigh(config: &KvRouter, tokens: u32, block_size: u32, standing: &Standing, least_prefill: u64) -> Terms {
    let size = f64::from(block_size);
    let (mut raw_prefill_blocks, mut overlap_credit_decay) = (0.0, 1.0);
    if config.track_prefill_tokens {
        // The overlap may not exceed the prompt, so cached and uncached tokens add up to it.
        raw_prefill_blocks = (standing.prefill_tokens + u64::from(tokens)) as f64 / size;
        if config.overlap_score_credit_decay > 0.0 {
            let excess = (standing.prefill_tokens - least_prefill) as f64 / size;
            let blocks = f64::from(tokens.div_ceil(block_size));
            overlap_credit_decay = 1.0 / (1.0 + config.overlap_score_credit_decay * excess / blocks);
        }
    }
    let overlap_credit_blocks = config.overlap_score_credit * overlap_credit_decay * f64::from(standing.overlap);
    let decode_blocks = if config.track_active_blocks {
        let fresh = tokens / block_size - standing.active_overlap;
        (standing.active_blocks + u64::from(fresh)) as f64
    } else {
        0.0
    };
    let active_request_cost = config.decode_active_request_weight * f64::from(standing.requests);
    let prefill = (raw_prefill_blocks - overlap_credit_blocks).max(0.0);
    let cost = config.prefill_load_scale * prefill + decode_blocks + active_request_cost;
    Terms {
        overlap_blocks: standing.overlap,
        raw_prefill_blocks,
        overlap_credit_decay,
        overlap_credit_blocks,
        decode_blocks,
        active_request_cost,
        cost,
    }
}
