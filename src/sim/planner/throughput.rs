//! The slow loop: replicas for the predicted load.

use crate::scenario::Role;

use super::explain::Sizing;
use super::predict::Prediction;
use super::reason::ThroughputReason;
use super::regression::{CapacityQuery, EngineModel};
use super::{Models, Planner, Targets};

/// What the slow loop decided and from what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThroughputOutcome {
    /// Replicas asked for, if any.
    pub decision: Option<Targets>,
    /// Why, over all pools.
    pub reason: Option<ThroughputReason>,
    /// Why, for the prefill pool; disaggregated only.
    pub reason_prefill: Option<ThroughputReason>,
    /// Why, for the decode pool; disaggregated only.
    pub reason_decode: Option<ThroughputReason>,
    /// The arithmetic, pool by pool.
    pub sizings: Vec<Sizing>,
    /// What the budget did to it, in words.
    pub limits: Vec<String>,
}

impl Planner {
    /// The slow loop's decision on `prediction`, made from `duration_s` seconds of traffic. Moves the lower bounds if the
    /// fast loop runs too, which then decides.
    pub(super) fn advance_throughput(&mut self, prediction: &Prediction, duration_s: f64) -> ThroughputOutcome {
        let mut outcome = ThroughputOutcome::default();
        if duration_s.is_nan() || duration_s <= 0.0 {
            outcome.reason = Some(ThroughputReason::NoTrafficData);
            return outcome;
        }
        let demand_rps = prediction.num_req / duration_s;
        match &self.models {
            Models::None => {}
            Models::Aggregated(model) => {
                let known = self.engines.decode.max_num_batched_tokens.is_some_and(|tokens| tokens > 0);
                let sizing = self.size(Role::Aggregated, model, prediction, demand_rps).filter(|_| known);
                let Some(sizing) = sizing else {
                    outcome.reason = Some(ThroughputReason::ModelNotReady);
                    return outcome;
                };
                outcome.sizings.push(sizing);
                if self.config.load_scaling {
                    self.lower_bounds.1 = sizing.replicas;
                    outcome.reason = Some(ThroughputReason::SetLowerBound);
                } else {
                    let asked = sizing.replicas.max(self.config.min_endpoint);
                    let desired = self.budget.single(asked, self.engines.decode.gpus);
                    if desired != asked {
                        outcome.limits.push(format!("the GPU budget makes {desired} of {asked}"));
                    }
                    outcome.reason = Some(ThroughputReason::Scale);
                    outcome.decision = Some(Targets { prefill: None, decode: Some(desired) });
                }
            }
            Models::Disaggregated { prefill, decode } => {
                let p = self.size(Role::Prefill, prefill, prediction, demand_rps);
                let d = self.size(Role::Decode, decode, prediction, demand_rps);
                outcome.sizings.extend(p.into_iter().chain(d));
                let (Some(p), Some(d)) = (p, d) else {
                    let side = |sizing: Option<Sizing>| {
                        let ready = sizing.is_some();
                        Some(if ready { ThroughputReason::PartnerNotReady } else { ThroughputReason::ModelNotReady })
                    };
                    outcome.reason = Some(ThroughputReason::ModelNotReady);
                    (outcome.reason_prefill, outcome.reason_decode) = (side(p), side(d));
                    return outcome;
                };
                let reason = if self.config.load_scaling {
                    self.lower_bounds = (p.replicas, d.replicas);
                    ThroughputReason::SetLowerBound
                } else {
                    let asked = (p.replicas, d.replicas);
                    let gpus = (self.engines.prefill.gpus, self.engines.decode.gpus);
                    let (prefill, decode) = self.budget.pair(asked, gpus);
                    if (prefill, decode) != asked {
                        let (p, d) = asked;
                        outcome
                            .limits
                            .push(format!("the GPU budget makes {prefill} prefill and {decode} decode of {p} and {d}"));
                    }
                    outcome.decision = Some(Targets { prefill: Some(prefill), decode: Some(decode) });
                    ThroughputReason::Scale
                };
                outcome.reason = Some(reason);
                (outcome.reason_prefill, outcome.reason_decode) = (Some(reason), Some(reason));
            }
        }
        outcome
    }

    /// Replicas of a pool for the demand; nothing while its engines' capacity is unknown.
    fn size(&self, role: Role, model: &EngineModel, prediction: &Prediction, demand_rps: f64) -> Option<Sizing> {
        let decodes = role != Role::Prefill;
        let capacity = model.capacity(&CapacityQuery {
            isl: prediction.isl,
            osl: prediction.osl,
            ttft_ms: if role == Role::Decode { f64::INFINITY } else { self.config.ttft_ms },
            itl_ms: self.config.itl_ms,
            kv_hit_rate: if role == Role::Decode { None } else { prediction.kv_hit_rate },
            accept_length: if decodes { self.accept_length() } else { 1.0 },
        })?;
        if capacity.rps.is_nan() || capacity.rps <= 0.0 {
            return None;
        }
        let replicas = (demand_rps / capacity.rps).ceil() as i64;
        Some(Sizing {
            role,
            demand_rps,
            engine_rps: capacity.rps,
            ttft_ms: capacity.ttft_ms,
            itl_ms: capacity.itl_ms,
            batch: capacity.batch,
            eligible: capacity.eligible,
            replicas: replicas.max(self.config.min_endpoint),
        })
    }
}
