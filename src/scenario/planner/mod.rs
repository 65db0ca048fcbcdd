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

use super::error::{ScenarioError, nearest};

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

#[cfg(test)]
impl super::Scenario {
    /// A planner configuration by itself.
    pub(crate) fn planner_config_of(map: &Map<String, Value>) -> Result<PlannerConfig, Vec<ScenarioError>> {
        resolve(map, "planner-config", Path::new(""), &mut Vec::new())
    }
}
