//! Reading a scenario: JSON text or file, paths relative to the file, flags on top.

use std::path::Path;

use serde_json::{Map, Value};

use super::document::Scenario;
use super::error::{Place, ScenarioError};
use super::values::{object, typed};

/// The version of the format that this program reads and writes.
pub const VERSION: u32 = 1;

/// Keys that are reserved for features to come.
const RESERVED: [&str; 2] = ["interventions", "outputs"];

impl Scenario {
    /// Reads a JSON document.
    ///
    /// # Errors
    /// When it is not JSON, not an object, of another version, or has a key that is unknown or of the wrong type.
    pub fn from_json(text: &str) -> Result<Self, ScenarioError> {
        Self::from_map(object(text, "")?)
    }

    /// Reads a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`Scenario::from_json`].
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let place = || Place::File(path.to_path_buf());
        let text = std::fs::read_to_string(path).map_err(|e| {
            let cure = "check that the path names a readable text file";
            ScenarioError::new("", format!("cannot read the scenario: {e}"), cure).at(place())
        })?;
        let mut scenario = Self::from_json(&text).map_err(|e| e.at(place()))?;
        scenario.rebase(path.parent().unwrap_or(Path::new("")));
        Ok(scenario)
    }

    fn from_map(map: Map<String, Value>) -> Result<Self, ScenarioError> {
        for key in RESERVED {
            if map.get(key).is_some_and(|value| !value.is_null()) {
                return Err(ScenarioError::not_yet(key, format!("`{key}`"), "remove the key"));
            }
        }
        let mut map = map;
        RESERVED.iter().for_each(|key| {
            map.remove(*key);
        });
        let scenario: Self = typed(map, "")?;
        match scenario.version {
            None | Some(VERSION) => Ok(scenario),
            Some(other) => {
                let cause = format!("is {other}, but this program reads version {VERSION}");
                Err(ScenarioError::new("version", cause, "use the program that the file was written for"))
            }
        }
    }

    /// Makes relative paths start at `base`.
    pub fn rebase(&mut self, base: &Path) {
        let mut path = |text: &mut String| {
            // An empty path stays empty, to be refused as such.
            if !text.is_empty() {
                *text = base.join(&*text).to_string_lossy().into_owned();
            }
        };
        self.trace.iter_mut().chain(&mut self.perf_tables).for_each(&mut path);
        for text in [
            &mut self.router_policy_config,
            &mut self.report_json,
            &mut self.report_jsonl,
            &mut self.decisions,
            &mut self.timeseries,
        ] {
            text.iter_mut().for_each(&mut path);
        }
        if let Some(workload) = &mut self.workload {
            workload.rebase_files(base);
        }
        for args in [&mut self.extra_engine_args, &mut self.prefill_engine_args, &mut self.decode_engine_args] {
            args.iter_mut().for_each(|args| args.rebase_timing(base));
        }
        if let Some(cost) = &mut self.cost {
            cost.rebase_gpu(base);
        }
        // `semantics` is absent: its string is a name.
        for document in [
            &mut self.workload,
            &mut self.extra_engine_args,
            &mut self.prefill_engine_args,
            &mut self.decode_engine_args,
            &mut self.scaling,
            &mut self.timing_correction,
            &mut self.router_config,
            &mut self.planner_config,
        ] {
            document.iter_mut().for_each(|document| document.rebase(base));
        }
        for key in ["load_predictor_warmup_trace", "report_output_dir"] {
            self.planner_config.iter_mut().for_each(|document| document.rebase_inside(key, base));
        }
        self.router_config.iter_mut().for_each(|document| document.rebase_inside("router_policy_config", base));
    }

    /// This scenario with every key that `flags` sets replaced, whole values at a time.
    ///
    /// # Errors
    /// None in practice; the signature leaves room for values that do not survive as JSON.
    pub fn overlaid(&self, flags: &Self) -> Result<Self, ScenarioError> {
        let mut map = self.to_map();
        map.extend(flags.to_map());
        Self::from_map(map)
    }

    /// Whether the top-level `key` is set.
    pub fn sets(&self, key: &str) -> bool {
        self.to_map().contains_key(key)
    }

    /// The keys that are set, in the order of the schema.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut map = match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        map.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        map
    }

    /// The document as indented JSON text, unset keys left out.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", Value::Object(self.to_map()))
    }
}
