//! What GPUs are taken to cost: prices and power from GPU descriptions, or given.

use std::path::Path;

use crate::perf::{GpuSpec, TimingModel};
use crate::text::shorten;

use super::args::Args;
use super::document::Scenario;
use super::error::ScenarioError;
use super::fields::{COST, check};
use super::planner::PlannerConfig;
use super::run::{EngineConfig, Role, Topology};
use super::timing::Files;
use super::values::Document;

const KEY: &str = "cost";
/// The word for the GPUs that the engines name.
const AUTO: &str = "auto";

/// What GPUs are taken to cost.
#[derive(Debug, Clone, PartialEq)]
pub struct CostConfig {
    /// One entry per pool, prefill first.
    pub pools: Vec<PoolRates>,
    /// What was given, paths resolved.
    pub given: Document,
}

/// What the GPUs of a pool are taken to cost.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolRates {
    /// The pool.
    pub role: Role,
    /// Its GPU, where known.
    pub gpu: Option<String>,
    /// GPUs of a worker: what the planner's configuration says, else tensor-parallel size times data-parallel ranks.
    pub gpus_per_worker: u64,
    /// US dollars per GPU and hour.
    pub usd_per_gpu_hour: Option<f64>,
    /// Watts of a GPU during a forward pass.
    pub busy_watts: Option<f64>,
    /// Watts of a GPU between forward passes.
    pub idle_watts: Option<f64>,
    /// Where the figures come from and which are missing, one sentence each.
    pub basis: Vec<String>,
}

impl Scenario {
    /// The rates of every pool, when an estimate is wanted.
    pub(super) fn cost(
        &self,
        base: &Path,
        topology: &Topology,
        planner: Option<&PlannerConfig>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<CostConfig>, ScenarioError> {
        let Some(document) = &self.cost else { return Ok(None) };
        let mut given = document.clone();
        given.rebase_gpu(base);
        let map = match document.text() {
            Some(AUTO) => serde_json::Map::new(),
            Some(name) => serde_json::Map::from_iter([("gpu".to_owned(), name.into())]),
            None => document.object(KEY, base)?.map,
        };
        check(&map, COST, KEY)?;
        let args = Args::new(&map, KEY);
        let bases = [base, Path::new("")];
        let files = Files::at(&bases);
        let key = if document.text().is_some() { KEY.to_owned() } else { args.key("gpu") };
        let named = match args.text("gpu").filter(|name| *name != AUTO) {
            Some(name) => Some(files.gpu(name).map_err(|e| ScenarioError::perf(key, e))?),
            None => None,
        };
        let engines = match topology {
            Topology::Aggregated { engine, .. } => vec![engine],
            Topology::Disaggregated { prefill, decode, .. } => vec![prefill, decode],
        };
        let mut pools = Vec::new();
        for engine in engines {
            let gpu = match (&named, engine_gpu(engine)) {
                (Some(gpu), _) => Some(gpu.clone()),
                (None, Some(name)) => files.gpu(&name).ok(),
                (None, None) => None,
            };
            if gpu.is_none() && ["usd_per_gpu_hour", "busy_watts"].iter().all(|name| args.get(name).is_none()) {
                let cause = match engine_gpu(engine) {
                    Some(name) => format!("is to follow from the GPU of the {} engine, {}", engine.role, shorten(name)),
                    None => format!("is to follow from a GPU, but the {} engine names none", engine.role),
                };
                let cure = "name a GPU with a description, or give `usd_per_gpu_hour` and watts (docs/compare.md)";
                return Err(ScenarioError::new(KEY, cause, cure));
            }
            pools.push(rates(&args, gpu.as_ref(), engine, planner, warnings)?);
        }
        Ok(Some(CostConfig { pools, given }))
    }
}

/// The GPU that the timing of an engine is about: a name, or the path of a description.
fn engine_gpu(engine: &EngineConfig) -> Option<String> {
    match &engine.timing.model {
        TimingModel::Table(table) => Some(table.meta.system.clone()),
        TimingModel::Roofline(_) => {
            let args = &engine.timing_args;
            let named = args.get("timing").and_then(|timing| timing.get("roofline")).and_then(|r| r.get("gpu"));
            named.or_else(|| args.get("aic_system")).and_then(|name| name.as_str()).map(str::to_owned)
        }
        _ => None,
    }
}

fn rates(
    args: &Args,
    gpu: Option<&GpuSpec>,
    engine: &EngineConfig,
    planner: Option<&PlannerConfig>,
    warnings: &mut Vec<String>,
) -> Result<PoolRates, ScenarioError> {
    let role = engine.role;
    let mut basis = Vec::new();
    let mut given = |name: &str, unit: &str| {
        let value = args.number(name)?;
        basis.push(format!("{role}: {value} {unit}, as given (`{KEY}.{name}`)."));
        Some(value)
    };
    let price = given("usd_per_gpu_hour", "USD per GPU and hour");
    let busy = given("busy_watts", "W per GPU during forward passes");
    let idle = given("idle_watts", "W per GPU between forward passes");
    let name = gpu.map_or("the GPU", |gpu| gpu.name.as_str());

    let usd_per_gpu_hour = price.or_else(|| {
        let Some(price) = gpu.and_then(|gpu| gpu.price.as_ref()) else {
            let text = format!("{role}: no price of {name} is known; money is not estimated.");
            warnings.push(format!("`{KEY}`, {text}"));
            basis.push(text);
            return None;
        };
        let source = price.source.as_ref().map_or_else(String::new, |source| {
            let read = source.date.as_ref().map_or_else(String::new, |date| format!(", read {date}"));
            format!(": {} ({}{read})", source.title, source.url)
        });
        basis.push(format!("{role}: {} USD per GPU and hour of {name}{source}.", price.usd_per_hour));
        Some(price.usd_per_hour)
    });
    let busy_watts = busy.or_else(|| {
        let (watts, text) = match gpu.map(|gpu| (gpu.busy_watts, gpu.peak_watts)) {
            Some((Some(watts), _)) => (watts, "power while it computes"),
            Some((None, Some(watts))) => (watts, "power limit of the board, an upper bound"),
            _ => {
                basis.push(format!("{role}: no power of {name} is known; energy is not estimated."));
                return None;
            }
        };
        basis.push(format!("{role}: {watts} W per GPU of {name} during forward passes: {text}."));
        Some(watts)
    });
    let idle_watts = idle.or_else(|| {
        let Some(watts) = gpu.and_then(|gpu| gpu.idle_watts) else {
            if busy_watts.is_some() {
                basis.push(format!(
                    "{role}: no idle power of {name} is known (`{KEY}.idle_watts`); energy counts forward passes only."
                ));
            }
            return None;
        };
        basis.push(format!("{role}: {watts} W per GPU of {name} between forward passes."));
        Some(watts)
    });
    if let (Some(idle), Some(busy)) = (idle_watts, busy_watts)
        && idle > busy
    {
        let cause = format!("is {idle}, more than the {busy} W during forward passes");
        return Err(args.error("idle_watts", cause, "give at most that"));
    }
    let gpus_per_worker = gpus_per_worker(engine, planner, warnings);
    Ok(PoolRates {
        role,
        gpu: gpu.map(|gpu| gpu.name.clone()),
        gpus_per_worker,
        usd_per_gpu_hour,
        busy_watts,
        idle_watts,
        basis,
    })
}

/// What the planner's configuration says, else what the engine does; says so where the two differ.
fn gpus_per_worker(engine: &EngineConfig, planner: Option<&PlannerConfig>, warnings: &mut Vec<String>) -> u64 {
    let own = engine.gpus_per_worker();
    let Some(planner) = planner else { return own };
    let (name, configured) = match engine.role {
        Role::Prefill => ("prefill_engine_num_gpu", planner.prefill_gpus),
        Role::Decode | Role::Aggregated => ("decode_engine_num_gpu", planner.decode_gpus),
    };
    match u64::try_from(configured) {
        Ok(configured) if configured > 0 => {
            if configured != own {
                warnings.push(format!(
                    "`planner-config.{name}` is {configured}, but the engine has {own} (tensor-parallel size times ranks): \
                     the cost estimate counts {configured}, `gpu_hours` {own}."
                ));
            }
            configured
        }
        _ => own,
    }
}
