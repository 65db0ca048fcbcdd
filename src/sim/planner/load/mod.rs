//! The fast loop: one replica more or fewer per pool, from what the engines report.
//!
//! | file | idea |
//! |---|---|
//! | `easy` | fixed thresholds |
//! | `sla` | estimated latencies |

mod easy;
mod sla;

use crate::scenario::{Role, Target};

use super::explain::Opinion;
use super::observe::{EngineId, ForwardPassMetrics, FpmCache};
use super::reason::LoadReason;
use super::{Models, Planner, Targets};

use easy::EasyPool;
use sla::SlaPool;

/// Forward-pass metrics of both pools; an aggregated pool stands in the place of decode.
#[derive(Debug, Clone, Copy)]
pub struct FpmObservations<'a> {
    /// Prefill pool.
    pub prefill: &'a FpmCache,
    /// Decode or aggregated pool.
    pub decode: &'a FpmCache,
}

/// What the fast loop decided and from what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadOutcome {
    /// Replicas asked for, if any.
    pub decision: Option<Targets>,
    /// Why, over all pools.
    pub reason: Option<LoadReason>,
    /// Why, for the prefill pool; disaggregated only.
    pub reason_prefill: Option<LoadReason>,
    /// Why, for the decode pool; disaggregated only.
    pub reason_decode: Option<LoadReason>,
    /// The worst engine's TTFT, milliseconds.
    pub estimated_ttft_ms: Option<f64>,
    /// The worst engine's ITL, milliseconds.
    pub estimated_itl_ms: Option<f64>,
    /// Opinions, pool by pool.
    pub opinions: Vec<Opinion>,
    /// What lower bounds and budget did to them, in words.
    pub limits: Vec<String>,
}

impl LoadOutcome {
    fn stop(reason: LoadReason, both: bool) -> Self {
        let side = both.then_some(reason);
        Self { reason: Some(reason), reason_prefill: side, reason_decode: side, ..Self::default() }
    }
}

type Records = Vec<(EngineId, ForwardPassMetrics)>;

/// Engines in the order of their workers' numbers as texts, as the reference looks at them.
fn ordered(records: &[(EngineId, ForwardPassMetrics)]) -> Records {
    let mut records = records.to_vec();
    records.sort_by_cached_key(|(engine, _)| (engine.worker.to_string(), engine.rank));
    records
}

impl Planner {
    /// Whether every ready worker reported, all with as many ranks.
    fn reconciles(&self, records: &[(EngineId, ForwardPassMetrics)], ready: i64) -> bool {
        let mut ranks = std::collections::BTreeMap::<u32, usize>::new();
        for (engine, _) in records {
            *ranks.entry(engine.worker).or_default() += 1;
        }
        let mut sizes = ranks.values();
        let first = sizes.next().copied();
        let all = ranks.len() as i64 == ready || (self.quirks.partial_reports && (ranks.len() as i64) < ready);
        all && sizes.all(|size| Some(*size) == first)
    }

    /// The fast loop's decision.
    pub(super) fn advance_load(&self, observed: Option<FpmObservations>) -> LoadOutcome {
        if !self.config.load_scaling {
            return LoadOutcome { reason: Some(LoadReason::Disabled), ..LoadOutcome::default() };
        }
        let records = |cache: fn(&FpmObservations) -> Records| observed.as_ref().map(cache).unwrap_or_default();
        let decode = records(|o| ordered(o.decode.records()));
        if self.is_aggregated() {
            self.load_aggregated(&decode)
        } else {
            self.load_disaggregated(&records(|o| ordered(o.prefill.records())), &decode)
        }
    }

    fn easy_pool<'a>(&'a self, role: Role, records: &'a Records) -> EasyPool<'a> {
        let prefill = role == Role::Prefill;
        EasyPool {
            role,
            ready: if prefill { self.prefill.ready } else { self.decode.ready },
            records,
            engine: if prefill { &self.engines.prefill } else { &self.engines.decode },
            target: self.config.target,
            thresholds: if prefill { self.config.queue_tokens } else { self.config.kv_share },
            min_endpoint: self.config.min_endpoint,
        }
    }

    fn sla_pool<'a>(&'a self, role: Role, records: &'a Records) -> Option<SlaPool<'a>> {
        let prefill = role == Role::Prefill;
        let model = match &self.models {
            Models::Aggregated(model) => model,
            Models::Disaggregated { prefill: model, .. } if prefill => model,
            Models::Disaggregated { decode, .. } => decode,
            Models::None => return None,
        };
        Some(SlaPool {
            role,
            ready: if prefill { self.prefill.ready } else { self.decode.ready },
            records,
            model,
            kv_hit_rate: self.last_kv_hit_rate,
            accept_length: self.accept_length(),
            max_kv_tokens: self.engines.decode.max_kv_tokens,
            sensitivity: self.config.down_sensitivity as f64 / 100.0,
            ttft_ms: self.config.ttft_ms,
            itl_ms: self.config.itl_ms,
            min_endpoint: self.config.min_endpoint,
        })
    }

    fn load_aggregated(&self, records: &Records) -> LoadOutcome {
        let ready = self.decode.ready;
        if records.is_empty() {
            return LoadOutcome::stop(LoadReason::NoFpmData, false);
        }
        if self.decode.in_progress() {
            return LoadOutcome::stop(LoadReason::ScalingInProgress, false);
        }
        if !self.reconciles(records, ready) {
            return LoadOutcome::stop(LoadReason::WorkerCountMismatch, false);
        }
        if self.config.target != Target::Sla {
            return self.easy_aggregated(records);
        }
        let Some(pool) = self.sla_pool(Role::Aggregated, records).filter(|pool| pool.model.is_ready()) else {
            return LoadOutcome::stop(LoadReason::InsufficientData, false);
        };
        let known = self.engines.decode.max_num_batched_tokens.is_some_and(|tokens| tokens > 0);
        let by_ttft = known.then(|| pool.by_ttft());
        let by_itl = pool.by_itl();
        // A refusal holds the count; it is not a lack of opinion, which would let the other side decide alone.
        let held = |judged: &sla::Judged| if judged.refused { Some(ready) } else { judged.opinion.wanted };
        let (p, d) = (by_ttft.as_ref().and_then(held), held(&by_itl));
        let wanted = match (p, d) {
            (Some(p), _) if p > ready => p,
            (_, Some(d)) if d > ready => d,
            (None, Some(d)) if d < ready => d,
            (Some(p), Some(d)) if p < ready && d < ready => p.max(d),
            _ => ready,
        };
        let refused = by_itl.refused || by_ttft.as_ref().is_some_and(|judged| judged.refused);
        let mut outcome = LoadOutcome {
            estimated_ttft_ms: by_ttft.as_ref().and_then(|judged| judged.worst_ms),
            estimated_itl_ms: by_itl.worst_ms,
            ..LoadOutcome::default()
        };
        outcome.opinions = by_ttft.into_iter().chain([by_itl]).map(|judged| judged.opinion).collect();
        let desired = self.with_floor(wanted, &mut outcome.limits);
        let capped = desired > wanted && wanted < ready;
        outcome.reason = Some(match desired {
            n if n == ready && refused && !capped => LoadReason::RefusedConsolidation,
            n if n == ready && capped => LoadReason::CappedByThroughput,
            n if n == ready => LoadReason::NoChange,
            n if n > ready => LoadReason::ScaleUp,
            _ if capped => LoadReason::CappedByThroughput,
            _ => LoadReason::ScaleDown,
        });
        outcome.decision = (desired != ready).then_some(Targets { prefill: None, decode: Some(desired) });
        outcome
    }

    fn easy_aggregated(&self, records: &Records) -> LoadOutcome {
        let ready = self.decode.ready;
        let opinion = self.easy_pool(Role::Aggregated, records).opinion();
        let (wanted, reason) = (opinion.wanted, opinion.reason);
        let mut outcome = LoadOutcome { reason, opinions: vec![opinion], ..LoadOutcome::default() };
        let Some(wanted) = wanted else { return outcome };
        let desired = self.with_floor(wanted, &mut outcome.limits);
        outcome.reason = Some(match desired {
            n if n < ready && n > wanted => LoadReason::CappedByThroughput,
            n if n < ready => LoadReason::ScaleDown,
            n if n > ready => LoadReason::ScaleUp,
            _ => LoadReason::NoChange,
        });
        outcome.decision = Some(Targets { prefill: None, decode: Some(desired) });
        outcome
    }

    /// `wanted` aggregated replicas after fewest replicas, lower bound and budget.
    fn with_floor(&self, wanted: i64, limits: &mut Vec<String>) -> i64 {
        let mut desired = wanted.max(self.config.min_endpoint);
        if self.config.throughput_scaling && self.lower_bounds.1 > desired {
            limits.push(format!("the predicted load needs at least {}", self.lower_bounds.1));
            desired = self.lower_bounds.1;
        }
        let capped = self.budget.single(desired, self.engines.decode.gpus);
        if capped != desired {
            limits.push(format!("the GPU budget makes {capped} of {desired}"));
        }
        capped
    }

    fn load_disaggregated(&self, prefill: &Records, decode: &Records) -> LoadOutcome {
        let ready = (self.prefill.ready, self.decode.ready);
        if prefill.is_empty() && decode.is_empty() {
            return LoadOutcome::stop(LoadReason::NoFpmData, true);
        }
        if self.prefill.in_progress() || self.decode.in_progress() {
            return LoadOutcome::stop(LoadReason::ScalingInProgress, true);
        }
        for (records, ready) in [(prefill, ready.0), (decode, ready.1)] {
            if !records.is_empty() && !self.reconciles(records, ready) {
                return LoadOutcome::stop(LoadReason::WorkerCountMismatch, true);
            }
        }
        let mut outcome = LoadOutcome::default();
        let p = (!prefill.is_empty()).then(|| self.pool_opinion(Role::Prefill, prefill, &mut outcome));
        let d = (!decode.is_empty()).then(|| self.pool_opinion(Role::Decode, decode, &mut outcome));
        let wanted_of = |opinion: &Option<Opinion>, ready| opinion.as_ref().and_then(|o| o.wanted).unwrap_or(ready);
        let wanted = (wanted_of(&p, ready.0), wanted_of(&d, ready.1));
        let mut lifted = wanted;
        if self.config.throughput_scaling {
            lifted = (wanted.0.max(self.lower_bounds.0), wanted.1.max(self.lower_bounds.1));
            for (name, before, after) in [("prefill", wanted.0, lifted.0), ("decode", wanted.1, lifted.1)] {
                if after != before {
                    outcome.limits.push(format!("the predicted load needs at least {after} {name}"));
                }
            }
        }
        let least = self.config.min_endpoint;
        let asked = (lifted.0.max(least), lifted.1.max(least));
        let desired = self.budget.pair(asked, (self.engines.prefill.gpus, self.engines.decode.gpus));
        if desired != asked {
            let ((p, d), (asked_p, asked_d)) = (desired, asked);
            outcome.limits.push(format!("the GPU budget makes {p} prefill and {d} decode of {asked_p} and {asked_d}"));
        }
        let reason = |desired: i64, wanted: i64, lifted: i64, ready: i64| {
            let capped = lifted > wanted && wanted < ready;
            match desired {
                n if n > ready => LoadReason::ScaleUp,
                _ if capped => LoadReason::CappedByThroughput,
                n if n < ready => LoadReason::ScaleDown,
                _ => LoadReason::NoChange,
            }
        };
        let p_reason = reason(desired.0, wanted.0, lifted.0, ready.0);
        let d_reason = reason(desired.1, wanted.1, lifted.1, ready.1);
        outcome.reason = Some(if weight(d_reason) > weight(p_reason) { d_reason } else { p_reason });
        (outcome.reason_prefill, outcome.reason_decode) = (Some(p_reason), Some(d_reason));
        if desired == ready {
            let own = |opinion: &Option<Opinion>| {
                opinion.as_ref().and_then(|o| o.reason).filter(|reason| *reason != LoadReason::NoChange)
            };
            let (p_own, d_own) = (own(&p), own(&d));
            outcome.reason_prefill = p_own.or(outcome.reason_prefill);
            outcome.reason_decode = d_own.or(outcome.reason_decode);
            outcome.reason = p_own.or(d_own).or(outcome.reason);
        } else {
            outcome.decision = Some(Targets { prefill: Some(desired.0), decode: Some(desired.1) });
        }
        outcome.opinions = p.into_iter().chain(d).collect();
        outcome
    }

    fn pool_opinion(&self, role: Role, records: &Records, outcome: &mut LoadOutcome) -> Opinion {
        if self.config.target != Target::Sla {
            return self.easy_pool(role, records).opinion();
        }
        let nothing = |because: &str| Opinion::none(role, LoadReason::InsufficientData, because);
        let Some(pool) = self.sla_pool(role, records).filter(|pool| pool.model.is_ready()) else {
            return nothing("too few different forward passes were observed to estimate latencies");
        };
        if pool.ready == 0 {
            return nothing("no engine is ready");
        }
        let judged = if role == Role::Prefill {
            if self.engines.prefill.max_num_batched_tokens.is_none_or(|tokens| tokens == 0) {
                return nothing("the tokens of a forward pass are unknown (`max_num_batched_tokens`)");
            }
            let judged = pool.by_ttft();
            outcome.estimated_ttft_ms = judged.worst_ms;
            judged
        } else {
            let judged = pool.by_itl();
            outcome.estimated_itl_ms = judged.worst_ms;
            judged
        };
        judged.opinion
    }
}

/// Which of two reasons tells more.
fn weight(reason: LoadReason) -> u8 {
    match reason {
        LoadReason::ScaleUp => 4,
        LoadReason::CappedByThroughput => 3,
        LoadReason::ScaleDown => 2,
        LoadReason::NoChange => 1,
        _ => 0,
    }
}
