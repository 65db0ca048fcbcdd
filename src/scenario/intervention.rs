//! Interventions: what is changed while a run goes on, as a user writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One intervention: an instant, an action, and what the action needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterventionDocument {
    /// When it takes effect, simulated seconds; everything else of that instant comes first.
    pub at_s: f64,
    /// What happens: set_replicas, add_replica, remove_replica, set_router_mode, set_sla, set_planner, pause_arrivals or
    /// rate.
    pub action: String,
    /// Pool whose replicas change: aggregated, prefill or decode; may be left out where there is only one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Replicas: how many there shall be, or how many more or fewer. 1 unless given, but set_replicas needs it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u32>,
    /// remove_replica: the number of the worker that goes; the newest unless given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker: Option<u32>,
    /// set_router_mode: the new mode, as in router-mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<String>,
    /// set_sla, set_planner: bound or target for the time to first token, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ttft_ms: Option<f64>,
    /// set_sla, set_planner: bound or target for the inter-token latency, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub itl_ms: Option<f64>,
    /// set_sla: bound on the end-to-end latency, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub e2e_ms: Option<f64>,
    /// set_planner: fewest replicas of a pool.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_endpoint: Option<u32>,
    /// set_planner: fewest GPUs in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_gpus: Option<u32>,
    /// set_planner: most GPUs in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_gpus: Option<u32>,
    /// pause_arrivals: for how long, seconds. What was to arrive comes later by as much.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<f64>,
    /// rate: how many times as fast as in the scenario requests arrive from then on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub factor: Option<f64>,
}
