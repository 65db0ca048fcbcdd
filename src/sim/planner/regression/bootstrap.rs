//! What an analytical timing model teaches the regression before the run.

use crate::perf::PassTimer;

use super::super::observe::ForwardPassMetrics;

/// Contexts at which decode passes are calculated, tokens.
const CONTEXTS: [u64; 4] = [500, 2_000, 4_000, 8_000];
/// Shortest prompt that is calculated, tokens.
const SHORTEST: u64 = 100;

/// Engine settings that bound the points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Tokens of a prefill pass.
    pub batched_tokens: u64,
    /// Requests of a decode pass.
    pub seqs: u64,
    /// KV tokens of a scheduler.
    pub kv_tokens: u64,
    /// Points per axis.
    pub granularity: u64,
}

/// Prefill points and decode points of `model`, as the reference calculates them: single prompts of rising length, and
/// batches of rising size at several contexts.
pub fn benchmark_points(
    model: &PassTimer,
    prefill: Bootstrap,
    decode: Bootstrap,
) -> (Vec<ForwardPassMetrics>, Vec<ForwardPassMetrics>) {
    let granularity = prefill.granularity.max(1);
    let step = (prefill.batched_tokens.saturating_sub(SHORTEST) / granularity).max(1) as usize;
    let prompts = (SHORTEST..=prefill.batched_tokens).step_by(step).filter_map(|isl| {
        let wall_s = model.prompt_ms(isl, 0) / 1000.0;
        (wall_s > 0.0).then(|| ForwardPassMetrics { wall_s, prefills: 1, prefill_tokens: isl, ..Default::default() })
    });
    let granularity = decode.granularity.max(1);
    let step = (decode.seqs / granularity).max(1) as usize;
    let batches = CONTEXTS.iter().flat_map(|context| {
        let fitting = (1..=decode.seqs).step_by(step).take_while(move |batch| batch * context <= decode.kv_tokens);
        fitting.filter_map(move |batch| {
            let wall_s = model.step_ms(batch, *context) / 1000.0;
            let (decodes, decode_kv_tokens) = (batch, batch * context);
            (wall_s > 0.0).then(|| ForwardPassMetrics { wall_s, decodes, decode_kv_tokens, ..Default::default() })
        })
    });
    (prompts.collect(), batches.collect())
}
