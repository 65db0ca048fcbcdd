//! From a JSON object to a checked document: presets, keys that hold for all classes, errors that name their place.

use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::SpecError;
use super::spec::{Class, Spec};

/// The mix of the tool-and-agent trace, as a document.
const TOOLAGENT: &str = include_str!("toolagent.json");

/// Names of documents that others can start from.
pub const PRESETS: [&str; 2] = ["generate", "toolagent"];

impl Spec {
    /// Reads a document. `preset` names what its keys replace the values of; `generate` is the plain default. Relative
    /// paths start at `folder`.
    ///
    /// # Errors
    /// When a key is unknown, a value of the wrong type or out of range.
    pub fn read(preset: &str, map: Map<String, Value>, folder: &Path) -> Result<Self, SpecError> {
        let given = without_nulls(map);
        let map = match preset {
            "generate" => given.clone(),
            "toolagent" => preset_with(built_in(TOOLAGENT), given.clone()),
            other => return Err(unknown_preset(other)),
        };
        let (class_keys, spec_keys) = (keys_of::<Class>(), keys_of::<Spec>());
        let (mut spec, mut common) = (Map::new(), Map::new());
        for (key, value) in map {
            if spec_keys.contains_key(&key) {
                spec.insert(key, value);
            } else if class_keys.contains_key(&key) {
                common.insert(key, value);
            } else {
                let known = spec_keys.keys().chain(class_keys.keys()).map(String::as_str);
                return Err(SpecError::unknown(key.clone(), &key, known));
            }
        }
        // Keys beside the list hold for every class that has no value of its own.
        let classes = match spec.shift_remove("classes") {
            None => vec![Value::Object(common.clone())],
            Some(Value::Array(classes)) => {
                spread(&common, &classes)?;
                classes.into_iter().map(|class| completed(class, &common)).collect()
            }
            Some(_) => return Err(SpecError::new("classes", "is no list", "give a list of objects")),
        };
        let mut result: Self = parsed(Value::Object(spec), "")?;
        result.classes = classes
            .into_iter()
            .enumerate()
            .map(|(index, class)| parsed(class, &format!("classes[{index}]")))
            .collect::<Result<_, _>>()
            .map_err(|e| at_its_source(e, &given))?;
        result.check().map_err(|e| at_its_source(e, &given))?;
        result.rebase(folder);
        Ok(result)
    }

    /// The schema of a document, with `preset`.
    pub(crate) fn schema(generator: &mut SchemaGenerator) -> Schema {
        let (mut spec, mut class) = (Self::json_schema(generator), Class::json_schema(generator));
        let preset = json!({ "enum": PRESETS, "description": "Document whose values the keys replace." });
        let of_class = class.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take);
        if let Some(Value::Object(properties)) = spec.get_mut("properties") {
            properties.shift_insert(0, "preset".to_owned(), preset);
            properties.extend(of_class.into_iter().flatten());
        }
        spec.insert("required".to_owned(), json!(["preset"]));
        spec
    }

    /// The document, every value written out.
    pub fn to_map(&self) -> Map<String, Value> {
        object(self)
    }
}

/// The error for a preset nobody knows.
fn unknown_preset(name: &str) -> SpecError {
    let cause = format!("is \"{}\"", name.escape_debug());
    SpecError::new("preset", cause, format!("use agent, {}", PRESETS.join(" or ")))
}

fn built_in(text: &str) -> Map<String, Value> {
    // Part of the program; a test reads it.
    serde_json::from_str(text).unwrap_or_default()
}

/// A preset with keys replaced. How long it goes on is one thing, whichever of the two keys says it.
fn preset_with(mut preset: Map<String, Value>, given: Map<String, Value>) -> Map<String, Value> {
    const EXTENT: [&str; 2] = ["sessions", "duration_s"];
    if EXTENT.iter().any(|key| given.contains_key(*key)) {
        EXTENT.iter().for_each(|key| drop(preset.shift_remove(*key)));
    }
    overlaid(preset, given)
}

fn overlaid(mut below: Map<String, Value>, above: Map<String, Value>) -> Map<String, Value> {
    below.extend(above);
    below
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The keys of a structure, with those that its default leaves out.
fn keys_of<T: JsonSchema>() -> Map<String, Value> {
    let schema: Value = schemars::schema_for!(T).into();
    match schema.get("properties") {
        Some(Value::Object(properties)) => properties.clone(),
        _ => Map::new(),
    }
}

/// `null` means unset, at any depth.
fn without_nulls(map: Map<String, Value>) -> Map<String, Value> {
    let inner = |value| match value {
        Value::Object(map) => Value::Object(without_nulls(map)),
        Value::Array(list) => Value::Array(
            list.into_iter()
                .map(|value| match value {
                    Value::Object(map) => Value::Object(without_nulls(map)),
                    other => other,
                })
                .collect(),
        ),
        other => other,
    };
    map.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, inner(value))).collect()
}

/// Refuses a common key that every class overrules.
fn spread(common: &Map<String, Value>, classes: &[Value]) -> Result<(), SpecError> {
    let overruled = |key: &&String| classes.iter().all(|class| class.get(key.as_str()).is_some());
    match common.keys().find(overruled) {
        Some(key) if !classes.is_empty() => {
            let cure = "leave it out, or change it within `classes`";
            Err(SpecError::new(key, "has no effect: every class has its own", cure))
        }
        _ => Ok(()),
    }
}

fn completed(class: Value, common: &Map<String, Value>) -> Value {
    match class {
        Value::Object(own) => Value::Object(overlaid(common.clone(), own)),
        other => other,
    }
}

fn parsed<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, SpecError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let mut wrong = SpecError::parsed(&path, &error.inner().to_string());
        wrong.key = match (at.is_empty(), wrong.key.is_empty()) {
            (true, _) => wrong.key,
            (false, true) => at.to_owned(),
            (false, false) => format!("{at}.{}", wrong.key),
        };
        wrong
    })
}

/// Names a key where the user wrote it: beside the list of classes, or in the only class that there is.
fn at_its_source(mut error: SpecError, given: &Map<String, Value>) -> SpecError {
    let Some((_, key)) = error.key.strip_prefix("classes[").and_then(|rest| rest.split_once("].")) else {
        return error;
    };
    let name = key.split(['.', '[']).next().unwrap_or_default();
    if given.contains_key(name) {
        error.key = key.to_owned();
    }
    error
}
