//! Values of a scenario that are more than a number or a word.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::text::without_mark;

use super::error::{Place, ScenarioError, unknown_key};

/// A JSON object given in place, or a string: a path to a file that holds it, or a name where the key says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Value);

impl FromStr for Document {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let value = serde_json::from_str(text).map_err(|e| format!("not valid JSON: {e}"))?;
            return Ok(Self(value));
        }
        Ok(Self(Value::String(text.to_owned())))
    }
}

impl From<Map<String, Value>> for Document {
    fn from(map: Map<String, Value>) -> Self {
        Self(Value::Object(map))
    }
}

impl Document {
    /// The string, when the value is one that does not itself hold an object.
    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_str().filter(|text| !text.trim_start().starts_with('{'))
    }

    /// A name or path.
    pub(super) fn of_text(text: String) -> Self {
        Self(Value::String(text))
    }

    /// Makes a relative path start at `base`.
    pub(super) fn rebase(&mut self, base: &Path) {
        if let Some(path) = self.text() {
            self.0 = Value::String(base.join(path).to_string_lossy().into_owned());
        }
    }

    /// Makes relative paths within the object start at `base`: values of the key `file`, and `empirical:FILE:COLUMN`.
    pub(super) fn rebase_files(&mut self, base: &Path) {
        rebase_files(&mut self.0, base);
    }

    /// The object, when it is given in place as JSON.
    pub(super) fn inline_mut(&mut self) -> Option<&mut Map<String, Value>> {
        self.0.as_object_mut()
    }

    /// The keys of the object, read from the file if the value is a path; relative paths in it then start at the file's
    /// folder. `key` names the document in errors.
    ///
    /// # Errors
    /// When the file cannot be read or holds no JSON object.
    pub fn keys(&self, key: &str) -> Result<Map<String, Value>, ScenarioError> {
        let loaded = self.object(key, Path::new(""))?;
        let mut map = Value::Object(loaded.map.clone());
        rebase_files(&mut map, loaded.folder().unwrap_or(Path::new("")));
        match map {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }

    /// Makes a relative path that the object holds under `key` start at `base`.
    pub(super) fn rebase_inside(&mut self, key: &str, base: &Path) {
        if let Some(Value::String(path)) = self.0.get_mut(key)
            && !path.is_empty()
        {
            *path = base.join(&*path).to_string_lossy().into_owned();
        }
    }

    /// The object, read from the file if the value is a path.
    pub(super) fn object(&self, key: &str, base: &Path) -> Result<Loaded, ScenarioError> {
        match &self.0 {
            Value::Object(map) => Ok(Loaded { map: map.clone(), file: None }),
            Value::String(text) if self.text().is_none() => object(text, key).map(|map| Loaded { map, file: None }),
            Value::String(path) => {
                let path = base.join(path);
                let cure = "give a JSON object, or the path of a file that holds one";
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| ScenarioError::new(key, format!("cannot read {}: {e}", path.display()), cure))?;
                let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
                match if is_yaml { yaml_object(&text, key) } else { object(&text, key) } {
                    Ok(map) => Ok(Loaded { map, file: Some(path) }),
                    Err(error) => Err(error.at(Place::File(path))),
                }
            }
            other => Err(ScenarioError::new(
                key,
                format!("is {}, expected an object", kind_of(other)),
                "give a JSON object, or the path of a file that holds one",
            )),
        }
    }
}

/// The object of a [`Document`] and the file it came from, if any.
pub(super) struct Loaded {
    pub map: Map<String, Value>,
    file: Option<PathBuf>,
}

impl Loaded {
    /// The folder of the file it came from.
    pub fn folder(&self) -> Option<&Path> {
        self.file.as_deref().and_then(Path::parent)
    }

    /// Names the file in an error about its content.
    pub fn blame(&self, error: ScenarioError) -> ScenarioError {
        match &self.file {
            Some(path) => error.at(Place::File(path.clone())),
            None => error,
        }
    }
}

fn rebase_files(value: &mut Value, base: &Path) {
    let join = |path: &str| base.join(path).to_string_lossy().into_owned();
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| match value {
            Value::String(path) if key == "file" && !path.is_empty() => *path = join(path),
            value => rebase_files(value, base),
        }),
        Value::Array(list) => list.iter_mut().for_each(|value| rebase_files(value, base)),
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix("empirical:") {
                *text = format!("empirical:{}", join(rest));
            }
        }
        _ => {}
    }
}

/// Parses a text that must hold one YAML mapping.
fn yaml_object(text: &str, key: &str) -> Result<Map<String, Value>, ScenarioError> {
    match serde_saphyr::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            let cause = format!("holds {}, expected a mapping", kind_of(&other));
            Err(ScenarioError::new(key, cause, "give keys and values"))
        }
        Err(error) => Err(ScenarioError::new(key, format!("not valid YAML: {error}"), "correct the YAML text")),
    }
}

/// Parses a text that must hold one JSON object.
pub(super) fn object(text: &str, key: &str) -> Result<Map<String, Value>, ScenarioError> {
    match serde_json::from_str(without_mark(text)) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            Err(ScenarioError::new(key, format!("holds {}, expected an object", kind_of(&other)), "put it in braces"))
        }
        Err(error) => Err(ScenarioError::new(key, format!("not valid JSON: {error}"), "correct the JSON text")),
    }
}

/// What a JSON value is, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads a structure whose keys are all optional; `null` means unset. Errors name the key.
pub(super) fn typed<T>(mut map: Map<String, Value>, path: &str) -> Result<T, ScenarioError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    // The default serialises every key, so the structure itself is the list of known ones.
    let known = match serde_json::to_value(T::default()) {
        Ok(Value::Object(known)) => known,
        _ => Map::new(),
    };
    for key in map.keys() {
        if !known.contains_key(key) {
            return Err(unknown_key(join(key), key, known.keys().map(String::as_str)));
        }
    }
    map.retain(|_, value| !value.is_null());
    match serde_json::from_value(Value::Object(map.clone())) {
        Ok(value) => Ok(value),
        Err(error) => {
            // The parser does not say which key it was reading: try them one by one.
            let culprit = map.iter().find_map(|(key, value)| {
                let alone = Map::from_iter([(key.clone(), value.clone())]);
                serde_json::from_value::<T>(Value::Object(alone)).err().map(|e| (join(key), e))
            });
            let (key, error) = culprit.unwrap_or_else(|| (path.to_owned(), error));
            Err(ScenarioError::new(key, error.to_string(), "see `dynosim scenario schema` for what it takes"))
        }
    }
}

/// Reads a string or a list of strings.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a path or a list of paths")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<OneOrMany>::deserialize(input)? {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one],
        Some(OneOrMany::Many(many)) => many,
    })
}

/// Parses a flag that takes a finite number.
pub(super) fn finite(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err("not a finite number".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `scaling`: replica targets over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub(super) struct ScalingDocument {
    /// First tick, milliseconds; 0 unless given.
    pub first_tick_ms: Option<f64>,
    /// Time between ticks, milliseconds, above zero.
    pub interval_ms: Option<f64>,
    /// Steps in ascending time; at each tick the last one at or before it gives the targets.
    pub steps: Option<Vec<ScalingStepDocument>>,
}

/// One step of `scaling`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScalingStepDocument {
    /// In force from this time on, milliseconds.
    pub from_ms: f64,
    /// Active plus starting prefill workers, at least 1; left out: unchanged. Disaggregated runs only.
    pub target_prefill: Option<u32>,
    /// Active plus starting decode (or aggregated) workers, at least 1; left out: unchanged.
    pub target_decode: Option<u32>,
}

/// `timing-correction`: what a calibration found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub(super) struct CorrectionDocument {
    /// Factor on prefill times, above zero; 1 unless given.
    pub prefill_scale: Option<f64>,
    /// Factor on decode times, above zero; 1 unless given.
    pub decode_scale: Option<f64>,
    /// Host time of every pass, milliseconds, zero or more; 0 unless given.
    pub per_pass_overhead_ms: Option<f64>,
    /// KV blocks per scheduler, where the engine arguments do not say.
    pub num_gpu_blocks: Option<u32>,
    /// `sum` or `fused`, where the engine arguments do not say.
    pub composition: Option<String>,
    /// Whether a pass is put together while the one before it runs, where the engine arguments do not say.
    pub async_scheduling: Option<bool>,
    /// Where the figures come from, for reports; the name of the file unless given.
    pub source: Option<String>,
    /// How the figures were found; no effect.
    pub fit: Option<serde_json::Value>,
}

/// `semantics` as an object: a base and switches that differ from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub(super) struct SemanticsDocument {
    /// `dynamo` (unless given) or `corrected`.
    pub base: Option<String>,
    /// A prefill worker hands over when the first token exists.
    pub handoff_after_first_token: Option<bool>,
    /// A request that can never fit ends as failed instead of blocking its queue.
    pub fail_infeasible: Option<bool>,
    /// Recomputed tokens cost prefill time.
    pub charge_recompute: Option<bool>,
    /// SGLang chunk continuations are not reported as reuse.
    pub honest_reuse: Option<bool>,
    /// The planner takes the next prompt to be as long as those seen.
    pub planner_whole_prompts: Option<bool>,
    /// The planner estimates the ITL of an aggregated engine with the prompt tokens of its own pass.
    pub planner_own_prefill: Option<bool>,
    /// The planner's fits give no negative times.
    pub planner_positive_intercept: Option<bool>,
    /// The planner keeps the last hit rate where nobody was admitted.
    pub planner_keep_hit_rate: Option<bool>,
    /// The planner compares its decision with ready and starting workers.
    pub planner_count_starting: Option<bool>,
    /// The planner decides even if a worker has not reported yet.
    pub planner_partial_reports: Option<bool>,
}
