//! What a run is estimated to cost: GPU-hours times a price, forward passes and the time between them times power.

use serde_json::{Map, Value, json};

use crate::scenario::{CostConfig, PoolRates};
use crate::sim::metrics::{Outcome, PoolTime};

/// Joules of a kilowatt-hour.
const JOULES_PER_KWH: f64 = 3.6e6;

/// The estimate of one pool or of all of them.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    gpu_hours: f64,
    busy_gpu_hours: f64,
    /// US dollars.
    usd: Option<f64>,
    /// Energy of the forward passes alone.
    busy_kwh: Option<f64>,
    /// Energy of all the time the GPUs were there.
    kwh: Option<f64>,
}

impl Estimate {
    const NOTHING: Self =
        Self { gpu_hours: 0.0, busy_gpu_hours: 0.0, usd: Some(0.0), busy_kwh: Some(0.0), kwh: Some(0.0) };

    fn of(rates: &PoolRates, time: &PoolTime) -> Self {
        let gpu_seconds = |nanos: u128| nanos as f64 / 1e9 * rates.gpus_per_worker as f64;
        let (busy, idle) = (gpu_seconds(time.busy), gpu_seconds(time.provisioned.saturating_sub(time.busy)));
        let gpu_hours = gpu_seconds(time.provisioned) / 3600.0;
        let busy_kwh = rates.busy_watts.map(|watts| busy * watts / JOULES_PER_KWH);
        let idle_kwh = rates.idle_watts.map(|watts| idle * watts / JOULES_PER_KWH);
        Self {
            gpu_hours,
            busy_gpu_hours: busy / 3600.0,
            usd: rates.usd_per_gpu_hour.map(|price| gpu_hours * price),
            busy_kwh,
            kwh: busy_kwh.zip(idle_kwh).map(|(busy, idle)| busy + idle),
        }
    }

    /// A sum that lacks a part is none.
    fn plus(self, other: Self) -> Self {
        let sum = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b);
        Self {
            gpu_hours: self.gpu_hours + other.gpu_hours,
            busy_gpu_hours: self.busy_gpu_hours + other.busy_gpu_hours,
            usd: sum(self.usd, other.usd),
            busy_kwh: sum(self.busy_kwh, other.busy_kwh),
            kwh: sum(self.kwh, other.kwh),
        }
    }

    fn to_map(self) -> Map<String, Value> {
        let all = [
            ("busy_gpu_hours", Some(self.busy_gpu_hours)),
            ("estimated_busy_kwh", self.busy_kwh),
            ("estimated_kwh", self.kwh),
            ("estimated_usd", self.usd),
            ("gpu_hours", Some(self.gpu_hours)),
        ];
        all.iter().filter_map(|(key, value)| Some(((*key).to_owned(), json!((*value)?)))).collect()
    }
}

/// The estimate as the report holds it: totals, pools, and where the figures come from.
pub(super) fn cost_estimate(config: &CostConfig, outcome: &Outcome) -> Value {
    let mut total = Estimate::NOTHING;
    let mut pools = Map::new();
    for rates in &config.pools {
        let Some(time) = outcome.pools.iter().find(|time| time.role == rates.role) else { continue };
        let estimate = Estimate::of(rates, time);
        total = total.plus(estimate);
        let mut pool = estimate.to_map();
        let used = [
            ("busy_watts", rates.busy_watts.map(Value::from)),
            ("gpu", rates.gpu.clone().map(Value::from)),
            ("gpus_per_worker", Some(json!(rates.gpus_per_worker))),
            ("idle_watts", rates.idle_watts.map(Value::from)),
            ("usd_per_gpu_hour", rates.usd_per_gpu_hour.map(Value::from)),
        ];
        pool.extend(used.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        pool.sort_keys();
        pools.insert(rates.role.to_string(), Value::Object(pool));
    }
    let mut map = total.to_map();
    map.insert("basis".to_owned(), config.pools.iter().flat_map(|pool| &pool.basis).cloned().collect());
    map.insert("pools".to_owned(), Value::Object(pools));
    map.sort_keys();
    Value::Object(map)
}
