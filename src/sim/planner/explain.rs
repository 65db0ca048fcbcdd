//! What a decision was made from: every comparison, and what other replica counts would have meant.

use serde_json::{Map, Value, json};

use crate::scenario::Role;

use super::observe::EngineId;
use super::reason::LoadReason;

/// How a value was compared with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Greater.
    Above,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Below,
    /// Less or equal.
    AtMost,
}

impl Relation {
    /// The sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }

    /// Whether `value` stands in this relation to `bound`.
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Above => value > bound,
            Self::AtLeast => value >= bound,
            Self::Below => value < bound,
            Self::AtMost => value <= bound,
        }
    }
}

/// What speaks for a comparison that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// A replica more.
    ForMore,
    /// A replica fewer.
    ForFewer,
    /// No replica fewer.
    AgainstFewer,
}

impl Speaks {
    fn name(self) -> &'static str {
        match self {
            Self::ForMore => "for_more",
            Self::ForFewer => "for_fewer",
            Self::AgainstFewer => "against_fewer",
        }
    }
}

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// Whose value.
    pub engine: EngineId,
    /// What was compared.
    pub quantity: &'static str,
    /// The value.
    pub value: f64,
    /// How.
    pub relation: Relation,
    /// With what.
    pub bound: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// What it speaks for if it holds.
    pub speaks: Speaks,
}

impl Check {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.relation.holds(self.value, self.bound)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "worker": self.engine.worker,
            "rank": self.engine.rank,
            "quantity": self.quantity,
            "value": finite(self.value),
            "relation": self.relation.sign(),
            "bound": finite(self.bound),
            "unit": self.unit,
            "holds": self.holds(),
            "speaks": self.speaks.name(),
        })
    }
}

/// What another replica count would have meant: the worst engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WhatIf {
    /// Replicas.
    pub replicas: i64,
    /// The quantity that decides.
    pub quantity: &'static str,
    /// Its estimate, if there is one.
    pub value: Option<f64>,
    /// Unit.
    pub unit: &'static str,
}

impl WhatIf {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "replicas": self.replicas,
            "quantity": self.quantity,
            "value": self.value.map_or(Value::Null, finite),
            "unit": self.unit,
        })
    }
}

/// The fast loop's opinion on a pool, from one side (TTFT or ITL where an aggregated pool has both).
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// Pool.
    pub role: Role,
    /// Replicas wanted; `None` without an opinion.
    pub wanted: Option<i64>,
    /// Why not, where the reference says so.
    pub reason: Option<LoadReason>,
    /// Comparisons made.
    pub checks: Vec<Check>,
    /// What other replica counts would have meant.
    pub options: Vec<WhatIf>,
    /// The reason in words.
    pub because: String,
}

impl Opinion {
    /// No opinion.
    pub fn none(role: Role, reason: LoadReason, because: impl Into<String>) -> Self {
        Self {
            role,
            wanted: None,
            reason: Some(reason),
            checks: Vec::new(),
            options: Vec::new(),
            because: because.into(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("pool".to_owned(), json!(pool_name(self.role)));
        map.insert("wanted".to_owned(), json!(self.wanted));
        map.insert("reason".to_owned(), json!(self.reason.map(LoadReason::name)));
        map.insert("because".to_owned(), json!(self.because));
        map.insert("checks".to_owned(), self.checks.iter().map(Check::to_json).collect());
        map.insert("options".to_owned(), self.options.iter().map(WhatIf::to_json).collect());
        Value::Object(map)
    }
}

/// The slow loop's arithmetic for a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizing {
    /// Pool.
    pub role: Role,
    /// Predicted requests per second.
    pub demand_rps: f64,
    /// Requests per second one replica sustains.
    pub engine_rps: f64,
    /// TTFT at that rate, milliseconds.
    pub ttft_ms: Option<f64>,
    /// ITL at that rate, milliseconds.
    pub itl_ms: Option<f64>,
    /// Requests of its batch.
    pub batch: u64,
    /// Whether it keeps the bounds.
    pub eligible: bool,
    /// Replicas that the demand takes.
    pub replicas: i64,
}

impl Sizing {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let share = |replicas: i64| self.demand_rps / (self.engine_rps * replicas as f64);
        let options: Vec<Value> = (self.replicas - 1..=self.replicas + 1)
            .filter(|replicas| *replicas > 0)
            .map(
                |n| json!({"replicas": n, "quantity": "share of capacity used", "value": finite(share(n)), "unit": ""}),
            )
            .collect();
        json!({
            "pool": pool_name(self.role),
            "demand_rps": finite(self.demand_rps),
            "engine_rps": finite(self.engine_rps),
            "ttft_ms": self.ttft_ms.map_or(Value::Null, finite),
            "itl_ms": self.itl_ms.map_or(Value::Null, finite),
            "batch": self.batch,
            "keeps_bounds": self.eligible,
            "replicas": self.replicas,
            "options": options,
        })
    }
}

/// What a pool is called in events and logs.
pub fn pool_name(role: Role) -> &'static str {
    match role {
        Role::Aggregated => "agg",
        Role::Prefill => "prefill",
        Role::Decode => "decode",
    }
}

/// A number, or null for what JSON cannot hold.
pub fn finite(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// A number for a sentence: three significant figures, no more decimals than that takes.
pub fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || magnitude >= 100.0 || magnitude == 0.0 {
        return format!("{value:.0}");
    }
    let decimals = if magnitude >= 10.0 {
        1
    } else if magnitude >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
