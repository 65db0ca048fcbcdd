//! The JSON schema of the document.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde_json::{Map, Value, json};

use crate::workload::generate::Spec;

use super::document::Scenario;
use super::fields::{COST, ENGINE, Field, Kind};
use super::router::ROUTER;
use super::run::AgentPreset;
use super::values::{CorrectionDocument, ScalingDocument, SemanticsDocument};

impl Scenario {
    /// The JSON schema of a scenario, indented.
    pub fn schema_json() -> String {
        format!("{:#}\n", schema_for!(Scenario).as_value())
    }
}

/// `schema`, or a string with what `text` says, or null for unset.
fn or_text(schema: Value, text: &str) -> Schema {
    json_schema!({ "anyOf": [schema, { "type": "string", "description": text }, { "type": "null" }] })
}

const PATH: &str = "Path of a file that holds the object.";

pub(super) fn trace(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "array", "null"], "items": { "type": "string" } })
}

pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    or_text(json!({ "type": "object" }), PATH)
}

pub(super) fn engine_args(_: &mut SchemaGenerator) -> Schema {
    or_text(fields(ENGINE), PATH)
}

pub(super) fn router_config(_: &mut SchemaGenerator) -> Schema {
    or_text(fields(ROUTER), PATH)
}

pub(super) fn workload(generator: &mut SchemaGenerator) -> Schema {
    let mut agent = AgentPreset::json_schema(generator);
    let preset = json!({ "const": "agent", "description": "Agent sessions that extend shared prompts." });
    if let Some(Value::Object(properties)) = agent.get_mut("properties") {
        properties.shift_insert(0, "preset".to_owned(), preset);
    }
    agent.insert("required".to_owned(), json!(["preset"]));
    json_schema!({ "anyOf": [agent, Spec::schema(generator), { "type": "string", "description": PATH }, { "type": "null" }] })
}

pub(super) fn correction(generator: &mut SchemaGenerator) -> Schema {
    or_text(closed(CorrectionDocument::json_schema(generator)).into(), PATH)
}

pub(super) fn scaling(generator: &mut SchemaGenerator) -> Schema {
    let mut scaling = closed(ScalingDocument::json_schema(generator));
    scaling.insert("required".to_owned(), json!(["interval_ms", "steps"]));
    or_text(scaling.into(), PATH)
}

pub(super) fn cost(_: &mut SchemaGenerator) -> Schema {
    or_text(fields(COST), "auto for the GPUs that the engines name, a known GPU, or the path of a GPU description.")
}

pub(super) fn semantics(generator: &mut SchemaGenerator) -> Schema {
    let switches: Value = closed(SemanticsDocument::json_schema(generator)).into();
    json_schema!({ "anyOf": [{ "enum": ["dynamo", "corrected", null] }, switches] })
}

/// Unknown keys are refused.
fn closed(mut schema: Schema) -> Schema {
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn fields(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn property(field: &Field) -> Value {
    let mut schema = match &field.kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number(low, high) if *high == f64::MAX => json!({ "type": "number", "minimum": low }),
        Kind::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Choice(words) | Kind::AnyCase(words) => json!({ "enum": words }),
        Kind::Fields(inner) => self::fields(inner),
        Kind::Any => json!({}),
    };
    if field.nullable {
        if let Some(kind) = schema.get_mut("type") {
            *kind = json!([kind.clone(), "null"]);
        } else if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    schema["description"] = json!(field.about);
    schema
}
