//! `planner-config`: the schema, defaults and rules of the live planner's configuration.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the result |
//! | `read` | values as the live planner takes them |
//! | `fields` | names, types and defaults |
//! | `rules` | the rules between fields |
//!
//! Every fault is found in one go. Unknown keys are passed over, as the live planner does, but with a warning.

mod config;
mod fields;
mod read;
mod rules;

use std::path::Path;

use serde_json::{Map, Value};

use crate::text::nearest;

use super::error::ScenarioError;
use super::{Scenario, Topology, TraceFormat, Traffic, TrafficSource};

pub use config::{
    DiagnosticsConfig, PlannerConfig, PlannerMode, PredictorConfig, PredictorKind, RegressionConfig, Target, Thresholds,
};

/// Reads and checks a planner configuration. Relative paths start at `base`.
///
/// # Errors
/// Every fault of the configuration, at least one.
pub(super) fn resolve(
    map: &Map<String, Value>,
    key: &str,
    base: &Path,
    warnings: &mut Vec<String>,
) -> Result<PlannerConfig, Vec<ScenarioError>> {
    for name in map.keys().filter(|name| !fields::KNOWN.contains(&name.as_str())) {
        let hint = nearest(name, fields::KNOWN.iter().copied())
            .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
        warnings.push(format!("`{key}.{name}` is no setting of the planner and has no effect{hint}"));
    }
    let mut reader = read::Reader::new(map, key);
    let fields = fields::read(&mut reader);
    let config = rules::check(fields, map, base, &mut reader, warnings);
    match config {
        Some(config) if reader.faults.is_empty() => Ok(config),
        _ => Err(reader.faults),
    }
}

impl Scenario {
    /// The planner of a run with these pools and this traffic, if one is asked for.
    pub(super) fn planner(
        &self,
        base: &Path,
        topology: &Topology,
        traffic: &Traffic,
        warnings: &mut Vec<String>,
    ) -> Result<Option<PlannerConfig>, ScenarioError> {
        let key = "planner-config";
        let Some(document) = &self.planner_config else { return Ok(None) };
        let loaded = document.object(key, base)?;
        let folder = loaded.folder().unwrap_or(base);
        let config = resolve(&loaded.map, key, folder, warnings);
        let mut config = match config {
            Ok(config) => config,
            Err(faults) => {
                let fallback = || ScenarioError::new(key, "cannot be used", "check it");
                return Err(loaded.blame(ScenarioError::all(faults).unwrap_or_else(fallback)));
            }
        };
        let refuse = |name: &str, cause: &str, cure: &str| {
            Err(loaded.blame(ScenarioError::new(format!("{key}.{name}"), cause, cure)))
        };
        match (config.mode, topology) {
            (PlannerMode::Aggregated, Topology::Disaggregated { .. }) => {
                return refuse("mode", "is agg, but prefill and decode are separate here", "give disagg");
            }
            (PlannerMode::Disaggregated, Topology::Aggregated { .. }) => {
                let cause = "is disagg (as it is unless given), but workers both prefill and decode here";
                let cure = "give agg, or `prefill-engine-args` and `decode-engine-args`";
                return refuse("mode", cause, cure);
            }
            _ => {}
        }
        if self.scaling.is_some() {
            let cause = "is given together with `planner-config`, and both set replica targets";
            return Err(ScenarioError::new("scaling", cause, "keep one of them"));
        }
        if let TrafficSource::Trace(trace) = &traffic.source
            && matches!(trace.reading.format, Some(TraceFormat::AgenticMooncake))
        {
            let cause = "is agentic_mooncake, which the planner's traffic windows are not defined for";
            return Err(ScenarioError::new("trace-format", cause, "leave `planner-config` out, or use sessions"));
        }
        let unnamed = [
            (config.mode == PlannerMode::Disaggregated && config.prefill_gpus == 0, "prefill_engine_num_gpu"),
            (config.decode_gpus == 0, "decode_engine_num_gpu"),
        ];
        for (_, name) in unnamed.iter().filter(|(unnamed, _)| *unnamed && config.diagnostics.enabled) {
            warnings.push(format!(
                "`{key}.{name}` is not given and counts as 0 in the GPU hours of the planner's HTML report, as in the \
                 reference; `gpu_hours` of the report does not depend on it."
            ));
        }
        if let Some(granularity) = self.benchmark_granularity {
            config.benchmark_granularity = u64::from(granularity.max(1));
        }
        Ok(Some(config))
    }
}

#[cfg(test)]
impl super::Scenario {
    /// A planner configuration by itself.
    pub(crate) fn planner_config_of(map: &Map<String, Value>) -> Result<PlannerConfig, Vec<ScenarioError>> {
        resolve(map, "planner-config", Path::new(""), &mut Vec::new())
    }
}
