//! Targets with fixed thresholds: queues and caches are compared with them, nothing is estimated.

use crate::scenario::{Role, Target, Thresholds};

use super::super::explain::{Check, Opinion, Relation, Speaks, WhatIf, figure};
use super::super::observe::{Capabilities, EngineId, ForwardPassMetrics};
use super::super::reason::LoadReason;

/// Thresholds and how they are meant.
struct Rule {
    limits: Thresholds,
    up: Relation,
    down: Relation,
}

/// Share of a context length that may wait at a prefill worker.
fn prefill_rule(target: Target, given: Option<Thresholds>) -> Option<Rule> {
    let rule = |up, down, relation| Rule { limits: Thresholds { up, down }, up: Relation::AtLeast, down: relation };
    match target {
        Target::Throughput => Some(rule(1.0, 0.1, Relation::Below)),
        Target::Latency => Some(rule(0.1, 0.0, Relation::AtMost)),
        Target::Load => given.map(|limits| Rule { limits, up: Relation::AtLeast, down: Relation::AtMost }),
        Target::Sla => None,
    }
}

/// Share of the KV tokens that may be in use.
fn kv_rule(target: Target, given: Option<Thresholds>) -> Option<Rule> {
    let rule = |up, down| Rule { limits: Thresholds { up, down }, up: Relation::Above, down: Relation::Below };
    match target {
        Target::Throughput => Some(rule(1.0, 0.6)),
        Target::Latency => Some(rule(0.4, 0.1)),
        Target::Load => given.map(|limits| Rule { limits, up: Relation::AtLeast, down: Relation::AtMost }),
        Target::Sla => None,
    }
}

/// A pool and what is known about it.
pub(super) struct EasyPool<'a> {
    pub role: Role,
    pub ready: i64,
    pub records: &'a [(EngineId, ForwardPassMetrics)],
    pub engine: &'a Capabilities,
    pub target: Target,
    pub thresholds: Option<Thresholds>,
    pub min_endpoint: i64,
}

/// What is compared: the quantity, its unit and each engine's value.
struct Signal {
    quantity: &'static str,
    unit: &'static str,
    values: Vec<(EngineId, f64)>,
}

impl EasyPool<'_> {
    /// One replica more if any engine is over its upper threshold, one fewer if all are under the lower one.
    pub fn opinion(&self) -> Opinion {
        let nothing = |because: &str| Opinion::none(self.role, LoadReason::InsufficientData, because);
        let Some((signal, rule)) = self.signal() else {
            return nothing(if self.role == Role::Prefill {
                "the context length is unknown (`max_model_len` of the prefill engine)"
            } else {
                "the KV capacity is unknown"
            });
        };
        if self.ready == 0 || signal.values.is_empty() {
            return nothing("no engine is ready");
        }
        let check = |relation, bound, speaks| {
            let (quantity, unit) = (signal.quantity, signal.unit);
            move |(engine, value): &(EngineId, f64)| Check {
                engine: *engine,
                quantity,
                value: *value,
                relation,
                bound,
                unit,
                speaks,
            }
        };
        let ups = signal.values.iter().map(check(rule.up, rule.limits.up, Speaks::ForMore));
        let mut checks: Vec<Check> = ups.collect();
        let options = self.options(&signal);
        let worst = signal.values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let told = |relation: Relation, bound: f64| {
            format!("{} {} {} {}", signal.quantity, figure(worst), relation.sign(), figure(bound))
        };
        if let Some(over) = checks.iter().find(|check| check.holds()).copied() {
            let because = format!(
                "worker {} has {} {} {} {}{}",
                over.engine.worker,
                signal.quantity,
                figure(over.value),
                rule.up.sign(),
                figure(over.bound),
                unit(signal.unit)
            );
            return Opinion { role: self.role, wanted: Some(self.ready + 1), reason: None, checks, options, because };
        }
        checks.extend(signal.values.iter().map(check(rule.down, rule.limits.down, Speaks::ForFewer)));
        let quiet = checks.iter().filter(|check| check.speaks == Speaks::ForFewer).all(Check::holds);
        if self.ready > 1 && quiet {
            let because = format!("every engine's {}{}", told(rule.down, rule.limits.down), unit(signal.unit));
            let wanted = Some((self.ready - 1).max(self.min_endpoint));
            return Opinion { role: self.role, wanted, reason: None, checks, options, because };
        }
        let because = if quiet {
            format!("the last replica stays ({} at most {})", signal.quantity, figure(worst))
        } else {
            format!(
                "{} of at most {} lies between {} and {}{}",
                signal.quantity,
                figure(worst),
                figure(rule.limits.down),
                figure(rule.limits.up),
                unit(signal.unit)
            )
        };
        Opinion { role: self.role, wanted: None, reason: Some(LoadReason::NoChange), checks, options, because }
    }

    fn signal(&self) -> Option<(Signal, Rule)> {
        let each = |value: &dyn Fn(&ForwardPassMetrics) -> f64| {
            self.records.iter().map(|(engine, record)| (*engine, value(record))).collect()
        };
        if self.role == Role::Prefill {
            let rule = prefill_rule(self.target, self.thresholds)?;
            if self.target == Target::Load {
                let values = each(&|record| record.queued_prefill_tokens as f64);
                return Some((Signal { quantity: "queued prompt tokens", unit: "tokens", values }, rule));
            }
            let context = self.engine.context_length.filter(|length| *length > 0)? as f64;
            let values = each(&|record| record.queued_prefill_tokens as f64 / context);
            return Some((Signal { quantity: "queued prompt tokens per context length", unit: "", values }, rule));
        }
        let rule = kv_rule(self.target, self.thresholds)?;
        let capacity = self.engine.max_kv_tokens.filter(|tokens| *tokens > 0)? as f64;
        let with_prompts = self.role == Role::Aggregated;
        let values = each(&|record| {
            let prompts = if with_prompts { record.queued_prefill_tokens } else { 0 };
            (record.decode_kv_tokens + record.queued_decode_kv_tokens + prompts) as f64 / capacity
        });
        Some((Signal { quantity: "share of KV tokens in use or waited for", unit: "", values }, rule))
    }

    /// The worst engine if the same load were spread over other numbers of replicas.
    fn options(&self, signal: &Signal) -> Vec<WhatIf> {
        let worst = signal.values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        [self.ready - 1, self.ready, self.ready + 1]
            .into_iter()
            .filter(|replicas| *replicas > 0)
            .map(|replicas| WhatIf {
                replicas,
                quantity: signal.quantity,
                value: Some(worst * self.ready as f64 / replicas as f64),
                unit: signal.unit,
            })
            .collect()
    }
}

fn unit(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" {unit}") }
}
