//! Target `sla`: latencies are estimated engine by engine, now and with one replica fewer.

use crate::scenario::Role;

use super::super::explain::{Check, Opinion, Relation, Speaks, WhatIf, figure};
use super::super::observe::{EngineId, ForwardPassMetrics};
use super::super::reason::LoadReason;
use super::super::regression::{DecodeQuery, EngineModel, PrefillQuery};

/// A pool and what is known about it.
pub(super) struct SlaPool<'a> {
    pub role: Role,
    pub ready: i64,
    /// Engines in the order of their workers' numbers as texts.
    pub records: &'a [(EngineId, ForwardPassMetrics)],
    pub model: &'a EngineModel,
    pub kv_hit_rate: Option<f64>,
    pub accept_length: f64,
    pub max_kv_tokens: Option<u64>,
    /// Share of a bound that must be kept after a replica went.
    pub sensitivity: f64,
    pub ttft_ms: f64,
    pub itl_ms: f64,
    pub min_endpoint: i64,
}

/// Evaluation in progress.
struct Tally {
    quantity: &'static str,
    bound: f64,
    checks: Vec<Check>,
    estimates: Vec<f64>,
    may_shrink: bool,
    refused: bool,
    /// Estimates with one replica fewer and one more.
    fewer: Vec<f64>,
    more: Vec<f64>,
}

/// What an opinion rests on, for the diagnostics.
pub(super) struct Judged {
    pub opinion: Opinion,
    /// The worst engine's estimate, milliseconds.
    pub worst_ms: Option<f64>,
    pub refused: bool,
}

impl SlaPool<'_> {
    /// Factor on the load of each engine once there is one replica fewer.
    fn consolidation(&self) -> f64 {
        if self.ready > 1 { self.ready as f64 / (self.ready - 1) as f64 } else { 1.0 }
    }

    /// Factor with one replica more.
    fn dilution(&self) -> f64 {
        self.ready as f64 / (self.ready + 1) as f64
    }

    fn tally(&self, quantity: &'static str, bound: f64) -> Tally {
        Tally {
            quantity,
            bound,
            checks: Vec::new(),
            estimates: Vec::new(),
            may_shrink: self.ready > 1,
            refused: false,
            fewer: Vec::new(),
            more: Vec::new(),
        }
    }

    /// By the TTFT of the next request.
    pub fn by_ttft(&self) -> Judged {
        let mut tally = self.tally("estimated TTFT", self.ttft_ms);
        let aggregated = self.role == Role::Aggregated;
        let now = PrefillQuery::now(self.kv_hit_rate);
        let (fewer, more) = (self.consolidation(), self.dilution());
        for (engine, record) in self.records {
            let ask = |query: PrefillQuery| self.model.queued_prefill_s(record, query).map(|s| s * 1000.0);
            tally.estimate(*engine, ask(now));
            // Decodes are shared out again as well, where the same engines decode.
            let decode_scale = |factor: f64| if aggregated { factor } else { 1.0 };
            let then = PrefillQuery {
                queue_scale: fewer,
                decode_scale: decode_scale(fewer),
                with_queued_decodes: aggregated,
                ..now
            };
            let (own, post) = (ask(PrefillQuery { queue_scale: 0.0, ..then }), ask(then));
            if self.ready > 1 {
                tally.fewer.extend(post);
            }
            tally.more.extend(ask(PrefillQuery { queue_scale: more, decode_scale: decode_scale(more), ..now }));
            if !tally.may_shrink {
                continue;
            }
            // The next request's own time does not depend on replicas; a margin is kept of what is left for the queue.
            let Some(own) = own else {
                tally.may_shrink = false;
                continue;
            };
            let bound = (self.ttft_ms - own) * self.sensitivity;
            if bound <= 0.0 && !(aggregated && post.is_none()) {
                tally.refuse(Check {
                    engine: *engine,
                    quantity: "time left for the queue",
                    value: bound,
                    relation: Relation::AtMost,
                    bound: 0.0,
                    unit: "ms",
                    speaks: Speaks::AgainstFewer,
                });
                continue;
            }
            match post {
                None => tally.may_shrink = false,
                Some(post) => tally.refuse(Check {
                    engine: *engine,
                    quantity: "TTFT from the queue with one replica fewer",
                    value: post - own,
                    relation: Relation::AtLeast,
                    bound,
                    unit: "ms",
                    speaks: Speaks::AgainstFewer,
                }),
            }
        }
        self.conclude(tally)
    }

    /// By the ITL of running requests.
    pub fn by_itl(&self) -> Judged {
        let mut tally = self.tally("estimated ITL", self.itl_ms);
        let with_prompts = self.role == Role::Aggregated;
        let (fewer, more) = (self.consolidation(), self.dilution());
        for (engine, record) in self.records {
            let ask = |scale: f64, with_queued_prompts: bool| {
                let pass = self.model.decode_pass_s(record, DecodeQuery { scale, with_queued_prompts });
                pass.map(|s| s * 1000.0 / self.accept_length)
            };
            tally.estimate(*engine, ask(1.0, false));
            tally.more.extend(ask(more, false));
            let post = (self.ready > 1).then(|| ask(fewer, with_prompts)).flatten();
            tally.fewer.extend(post);
            if !tally.may_shrink {
                continue;
            }
            let prompts = if with_prompts { record.queued_prefill_tokens } else { 0 };
            let kv = record.decode_kv_tokens + record.queued_decode_kv_tokens + prompts;
            let kv_check = self.max_kv_tokens.filter(|tokens| *tokens > 0).map(|capacity| Check {
                engine: *engine,
                quantity: "KV tokens with one replica fewer",
                value: (kv as f64 * fewer).trunc(),
                relation: Relation::AtLeast,
                bound: capacity as f64,
                unit: "tokens",
                speaks: Speaks::AgainstFewer,
            });
            if let Some(check) = kv_check.filter(Check::holds) {
                tally.refuse(check);
                continue;
            }
            match post {
                None => tally.may_shrink = false,
                Some(post) => tally.refuse(Check {
                    engine: *engine,
                    quantity: "estimated ITL with one replica fewer",
                    value: post,
                    relation: Relation::AtLeast,
                    bound: self.itl_ms * self.sensitivity,
                    unit: "ms",
                    speaks: Speaks::AgainstFewer,
                }),
            }
        }
        self.conclude(tally)
    }

    fn conclude(&self, tally: Tally) -> Judged {
        let worst = |values: &[f64]| values.iter().copied().reduce(f64::max);
        let options = [(-1, worst(&tally.fewer)), (0, worst(&tally.estimates)), (1, worst(&tally.more))]
            .into_iter()
            .filter(|(by, _)| self.ready + by > 0)
            .map(|(by, value)| WhatIf { replicas: self.ready + by, quantity: tally.quantity, value, unit: "ms" })
            .collect();
        let bound = figure(tally.bound);
        let (wanted, reason, because) = match worst(&tally.estimates) {
            None => {
                let because = format!("no {} can be given yet", tally.quantity);
                (None, Some(LoadReason::InsufficientData), because)
            }
            Some(_) if tally.estimates.iter().all(|estimate| *estimate > tally.bound) => {
                let least = tally.estimates.iter().copied().fold(f64::INFINITY, f64::min);
                let because = format!(
                    "every engine's {} is {} ms or more, over the {bound} ms bound",
                    tally.quantity,
                    figure(least)
                );
                (Some(self.ready + 1), None, because)
            }
            Some(worst) if self.ready > 1 && tally.may_shrink => {
                let because = format!(
                    "{} is {} ms at most of {bound} ms, and one replica fewer would keep the margin",
                    tally.quantity,
                    figure(worst)
                );
                (Some((self.ready - 1).max(self.min_endpoint)), None, because)
            }
            Some(worst) => {
                let veto = tally.checks.iter().find(|c| c.speaks == Speaks::AgainstFewer && c.holds());
                let because = match veto {
                    Some(check) => format!(
                        "{} is {} ms at most of {bound} ms, but worker {}'s {} would be {}, not under {}",
                        tally.quantity,
                        figure(worst),
                        check.engine.worker,
                        check.quantity.trim_end_matches(" with one replica fewer"),
                        figure(check.value),
                        figure(check.bound)
                    ),
                    None => format!("{} is {} ms at most of {bound} ms", tally.quantity, figure(worst)),
                };
                let reason = if tally.refused { LoadReason::RefusedConsolidation } else { LoadReason::NoChange };
                (None, Some(reason), because)
            }
        };
        let (worst_ms, refused) = (worst(&tally.estimates), tally.refused && wanted.is_none());
        let opinion = Opinion { role: self.role, wanted, reason, checks: tally.checks, options, because };
        Judged { opinion, worst_ms, refused }
    }
}

impl Tally {
    fn estimate(&mut self, engine: EngineId, estimate: Option<f64>) {
        let Some(value) = estimate else { return };
        self.estimates.push(value);
        self.checks.push(Check {
            engine,
            quantity: self.quantity,
            value,
            relation: Relation::Above,
            bound: self.bound,
            unit: "ms",
            speaks: Speaks::ForMore,
        });
    }

    /// Notes a check that speaks against fewer replicas if it holds.
    fn refuse(&mut self, check: Check) {
        self.checks.push(check);
        if check.holds() {
            self.may_shrink = false;
            self.refused = true;
        }
    }
}
