//! Finds out the format of a trace from its first rows.
//!
//! Whatever looks like Mooncake is Mooncake, the format that everything else is measured against; another format must
//! show a mark that Mooncake rows never have.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use crate::scenario::TraceFormat;

use super::WorkloadError;
use super::csv;
use super::servegen;
use super::source::lines;

/// JSON values looked at before giving up.
const VALUES: usize = 64;
/// Keys named in a message.
const NAMED_KEYS: usize = 12;
/// Longest piece of a file quoted in a message.
const QUOTED: usize = 60;

/// The format of the trace that begins with `text`.
pub(super) fn detect(path: &Path, text: &str) -> Result<TraceFormat, WorkloadError> {
    let Some((_, first)) = lines(text).next() else { return Ok(TraceFormat::Mooncake) };
    // Dynamo files may begin with values that are no records.
    if first.trim_start().starts_with(['{', '[']) || serde_json::from_str::<&RawValue>(first).is_ok() {
        return json(path, text);
    }
    if servegen::is_profile_row(first) {
        return Ok(TraceFormat::ServeGen);
    }
    if let Some(format) = csv::recognise(first) {
        return Ok(format);
    }
    let cause = format!("the format is not recognised: the file begins with \"{}\"", quote(first));
    let cure = format!(
        "name it with `trace-format` ({}); a CSV file of another kind needs `csv-columns` as well",
        TraceFormat::names()
    );
    Err(WorkloadError::file(path, cause, cure))
}

/// A JSON object whose values are not looked at.
type Shape<'a> = BTreeMap<String, &'a RawValue>;

fn json(path: &Path, text: &str) -> Result<TraceFormat, WorkloadError> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let first = values.map_while(Result::ok).take(VALUES).find_map(|value| shape(value.get()));
    // Broken JSON is for the Mooncake reader to say where.
    let Some(first) = first else { return Ok(TraceFormat::Mooncake) };
    let has = |key: &str| first.contains_key(key);
    if is_dynamo(&first) {
        Ok(TraceFormat::Dynamo)
    } else if has("num_turns") && has("input_prompt_length") {
        Ok(TraceFormat::AppliedComputeAgentic)
    } else if has("requests") && !has("hash_ids") {
        Ok(TraceFormat::KvCacheTester)
    } else if !first.is_empty() && first.keys().all(|key| key.bytes().all(|b| b.is_ascii_digit())) {
        Ok(TraceFormat::ServeGen)
    } else if ["hash_ids", "output_length", "output_tokens"].into_iter().any(has) {
        Ok(if waits(text) { TraceFormat::AgenticMooncake } else { TraceFormat::Mooncake })
    } else {
        let keys: Vec<_> = first.keys().take(NAMED_KEYS).map(|key| format!("`{}`", quote(key))).collect();
        let cause = match keys.is_empty() {
            true => "the format is not recognised: the first row is empty".to_owned(),
            false => format!("the format is not recognised: the first row has the keys {}", keys.join(", ")),
        };
        Err(WorkloadError::file(path, cause, format!("name it with `trace-format` ({})", TraceFormat::names())))
    }
}

fn shape(text: &str) -> Option<Shape<'_>> {
    serde_json::from_str(text).ok()
}

/// Whether an object is a Dynamo record, or an envelope around one.
fn is_dynamo(object: &Shape<'_>) -> bool {
    let names_schema = |object: &Shape<'_>| {
        object.get("schema").is_some_and(|schema| schema.get().starts_with("\"dynamo.request.trace."))
    };
    names_schema(object) || object.get("event").and_then(|event| shape(event.get())).is_some_and(|e| names_schema(&e))
}

/// Whether any row waits for another one.
fn waits(text: &str) -> bool {
    // Looking for the key as text is fast and nearly always decides; only rows that have it are parsed.
    const KEY: &str = "\"wait_for\"";
    memchr::memmem::find_iter(text.as_bytes(), KEY.as_bytes()).any(|at| {
        let (before, after) = text.split_at(at);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = after.find('\n').map_or(text.len(), |newline| at + newline);
        let row = text.get(start..end).unwrap_or_default();
        let list = shape(row).and_then(|row| serde_json::from_str::<Vec<&RawValue>>(row.get("wait_for")?.get()).ok());
        list.is_some_and(|list| !list.is_empty())
    })
}

fn quote(text: &str) -> String {
    let short: String = text.trim().chars().take(QUOTED).collect();
    short.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<TraceFormat, String> {
        detect(Path::new("t"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_format_has_its_mark() {
        use TraceFormat::*;
        for (text, format) in [
            (r#"{"timestamp": 0, "output_length": 1, "hash_ids": [1]}"#, Mooncake),
            ("\n\n{\"hash_ids\":", Mooncake),
            ("", Mooncake),
            ("{", Mooncake),
            (r#"{"hash_ids": [1], "request_id": "a", "wait_for": []}"#, Mooncake),
            (r#"{"hash_ids": [1], "note": "\"wait_for\": [1]"}"#, Mooncake),
            ("{\"hash_ids\": [1]}\n{\"hash_ids\": [2], \"wait_for\": [\"a\"]}", AgenticMooncake),
            (r#"{"num_turns": 0, "input_prompt_length": 3}"#, AppliedComputeAgentic),
            (r#"{"schema": "dynamo.request.trace.v1"}"#, Dynamo),
            ("null\n7\n{\"event\": {\"schema\": \"dynamo.request.trace.v1\"}}", Dynamo),
            ("{\n  \"id\": 1,\n  \"requests\": []\n}", KvCacheTester),
            (r#"{"0": {"input_tokens": "{}"}}"#, ServeGen),
            ("0,62.83,1.03,Gamma,0.93,0.016", ServeGen),
            ("0,0,0,,0,0", ServeGen),
            ("TIMESTAMP,ContextTokens,GeneratedTokens\r\n", Azure),
            ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", BurstGpt),
            ("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio", Csv),
        ] {
            assert_eq!(found(text), Ok(format), "{text}");
        }
    }

    #[test]
    fn what_is_not_recognised_is_shown_with_the_formats_there_are() {
        for (text, seen) in [
            (r#"{"prompt": "x", "id": 3}"#, "the keys `id`, `prompt`"),
            ("{}", "the first row is empty"),
            ("PK\u{3}\u{4}", r"PK\u{3}\u{4}"),
            ("time,user\n1,2", "begins with \"time,user\""),
        ] {
            let error = found(text).expect_err(text);
            assert!(error.contains(seen) && error.contains("mooncake, mooncake-delta"), "{error}");
        }
    }
}
