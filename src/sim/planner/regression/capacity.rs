//! Requests per second that an engine sustains within bounds: every batch size is tried.

use std::time::Duration;

use crate::scenario::Role;
use crate::time::SimDuration;

use super::engine::{EngineModel, kept_share, seconds, up};
use super::forward::PassLoad;

/// Batch sizes tried at most.
const CANDIDATES: u64 = 128;

/// The requests and the bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapacityQuery {
    /// Prompt tokens.
    pub isl: f64,
    /// Output tokens.
    pub osl: f64,
    /// Bound on TTFT, milliseconds.
    pub ttft_ms: f64,
    /// Bound on ITL, milliseconds.
    pub itl_ms: f64,
    /// Share of prompt blocks found in the cache.
    pub kv_hit_rate: Option<f64>,
    /// Output tokens per request and decode pass.
    pub accept_length: f64,
}

/// The best batch size found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Requests per second.
    pub rps: f64,
    /// TTFT, where the engine prefills.
    pub ttft_ms: Option<f64>,
    /// ITL, where the engine decodes.
    pub itl_ms: Option<f64>,
    /// Requests of the batch.
    pub batch: u64,
    /// Whether the bounds are kept.
    pub eligible: bool,
}

/// What the requests amount to.
struct Shape {
    osl: u64,
    /// Prompt tokens to compute.
    prompt: u64,
    /// Context in the middle of the output.
    context: u64,
    accept: f64,
}

impl EngineModel {
    /// The batch size that sustains most requests: within the bounds if there is one, else without regard to them.
    /// `None` where a pass that would be needed has no estimate.
    pub fn capacity(&self, query: &CapacityQuery) -> Option<Capacity> {
        if query.isl.is_nan()
            || query.isl <= 0.0
            || (self.role != Role::Prefill && (query.osl.is_nan() || query.osl <= 0.0))
        {
            return None;
        }
        let (isl, osl) = (up(query.isl), up(query.osl).max(1));
        let accept = if query.accept_length.is_finite() { query.accept_length.max(1.0) } else { 1.0 };
        let shape = Shape {
            osl,
            prompt: up(isl as f64 * kept_share(query.kv_hit_rate)).max(1),
            context: (isl + osl / 2).max(1),
            accept,
        };
        let mut best: Option<Capacity> = None;
        for batch in candidates(self.largest_batch(&shape)) {
            let Some(found) = self.try_batch(batch, &shape, query)? else { continue };
            let better = best.is_none_or(|best| (found.eligible, found.rps) > (best.eligible, best.rps));
            if better {
                best = Some(found);
            }
        }
        best
    }

    fn largest_batch(&self, shape: &Shape) -> u64 {
        let limits = self.limits;
        let by_kv = limits.seqs.min(limits.kv_tokens / shape.context);
        match self.role {
            Role::Prefill if shape.prompt > limits.batched_tokens => 1,
            Role::Prefill => limits.seqs.min(limits.batched_tokens / shape.prompt),
            Role::Decode => by_kv,
            Role::Aggregated => by_kv.min(limits.batched_tokens.saturating_sub(1).max(1)),
        }
    }

    /// What a batch of `batch` requests sustains: `None` without an estimate, `Some(None)` for a batch that cannot be.
    fn try_batch(&self, batch: u64, shape: &Shape, query: &CapacityQuery) -> Option<Option<Capacity>> {
        if self.role == Role::Prefill {
            let ttft = self.chunked(batch * shape.prompt, batch, 0, 0)?;
            if ttft.is_zero() {
                return Some(None);
            }
            let (rps, ms) = (batch as f64 / seconds(ttft), seconds(ttft) * 1000.0);
            let eligible = ms <= query.ttft_ms;
            return Some(Some(Capacity { rps, ttft_ms: Some(ms), itl_ms: None, batch, eligible }));
        }
        let kv = batch * shape.context;
        let mut load = PassLoad { decodes: batch, decode_kv_tokens: kv, ..PassLoad::default() };
        let mut ttft_ms = None;
        if self.role == Role::Aggregated {
            // To keep the batch full, so many prompt tokens have to be computed in every pass.
            let per_pass = up(batch as f64 * shape.accept * shape.prompt as f64 / shape.osl as f64);
            let room = self.limits.batched_tokens.saturating_sub(batch);
            if room == 0 || per_pass > room {
                return Some(None);
            }
            load.prefill_tokens = per_pass.min(self.limits.batched_tokens);
            load.prefills = up(per_pass as f64 / shape.prompt as f64).max(1);
            let ttft = self.chunked(per_pass + shape.prompt, load.prefills, batch, kv)?;
            ttft_ms = Some(seconds(ttft) * 1000.0);
        }
        let itl = divided(self.pass(&load)?, shape.accept);
        if itl.is_zero() {
            return Some(None);
        }
        let itl_ms = seconds(itl) * 1000.0;
        let eligible = itl_ms <= query.itl_ms && ttft_ms.is_none_or(|ms| ms <= query.ttft_ms);
        let rps = batch as f64 / (shape.osl as f64 * seconds(itl));
        Some(Some(Capacity { rps, ttft_ms, itl_ms: Some(itl_ms), batch, eligible }))
    }
}

fn divided(span: SimDuration, by: f64) -> SimDuration {
    let quotient = Duration::try_from_secs_f64(seconds(span) / by).unwrap_or(Duration::ZERO);
    SimDuration::from_nanos(u64::try_from(quotient.as_nanos()).unwrap_or(u64::MAX))
}

/// Batch sizes from 1 to `most`, thinned out evenly where they are many.
fn candidates(most: u64) -> impl Iterator<Item = u64> {
    let count = most.min(CANDIDATES);
    (0..count).map(move |i| if most <= CANDIDATES { i + 1 } else { 1 + i * (most - 1) / (CANDIDATES - 1) })
}
