//! Corrections of timing models, as a calibration writes them.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::document::Scenario;
use super::super::error::ScenarioError;
use super::super::values::{CorrectionDocument, typed};

impl Scenario {
    /// `timing-correction`, the same as the keys it has, and where it comes from in words.
    pub(super) fn correction(
        &self,
        base: &Path,
    ) -> Result<(CorrectionDocument, Option<Map<String, Value>>, String), ScenarioError> {
        let key = "timing-correction";
        let Some(document) = &self.timing_correction else { return Ok(Default::default()) };
        let mut loaded = document.object(key, base)?;
        if let Some(name) = document.text().and_then(|path| Path::new(path).file_name()) {
            let name = name.to_string_lossy().into_owned();
            loaded.map.entry("source").or_insert(Value::String(name));
        }
        let read = || {
            let correction: CorrectionDocument = typed(loaded.map.clone(), key)?;
            for (name, factor) in
                [("prefill_scale", correction.prefill_scale), ("decode_scale", correction.decode_scale)]
            {
                if factor.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
                    let cause = format!("is {}", factor.unwrap_or_default());
                    return Err(ScenarioError::new(format!("{key}.{name}"), cause, "give a number above zero"));
                }
            }
            if let Some(ms) = correction.per_pass_overhead_ms.filter(|ms| !ms.is_finite() || *ms < 0.0) {
                let cure = "give milliseconds of zero or more";
                return Err(ScenarioError::new(format!("{key}.per_pass_overhead_ms"), format!("is {ms}"), cure));
            }
            if correction.num_gpu_blocks == Some(0) {
                return Err(ScenarioError::new(format!("{key}.num_gpu_blocks"), "is 0", "give at least 1"));
            }
            if let Some(word) = correction.composition.as_deref().filter(|word| !["sum", "fused"].contains(word)) {
                let cause = format!("is \"{word}\"");
                return Err(ScenarioError::new(format!("{key}.composition"), cause, "use sum or fused"));
            }
            Ok(correction)
        };
        let correction = read().map_err(|error| loaded.blame(error))?;
        let source = correction.source.clone().unwrap_or_else(|| "the scenario".to_owned());
        Ok((correction, Some(loaded.map), source))
    }
}
