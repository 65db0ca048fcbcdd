//! How many requests a trace has in each interval of time, and how long they are: what load predictors learn from.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::WorkloadError;
use super::source::{Source, expand, lines};

/// Most intervals a trace may span; more come from a wrong unit of time.
const MOST_INTERVALS: i64 = 1 << 20;

/// Requests of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    /// Their number.
    pub requests: u64,
    /// Mean prompt tokens; 0 without requests.
    pub mean_input: f64,
    /// Mean output tokens; 0 without requests.
    pub mean_output: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Mooncake,
    Dynamo,
}

/// One request of a trace.
struct Row {
    at_ms: f64,
    input: u64,
    output: u64,
}

/// The intervals of `seconds` (above zero) that the Mooncake or request trace at `path` spans, empty ones between the
/// first and the last included. `path` may name a file, a folder or a pattern.
///
/// # Errors
/// When a file cannot be read, or a row is no request of the format of the first one.
pub fn intervals(path: &Path, seconds: f64) -> Result<Vec<Interval>, WorkloadError> {
    let mut format = None;
    let mut rows = Vec::new();
    for file in expand(&[path])? {
        let source = Source::read(&file)?;
        for (line, text) in lines(source.text(&mut Vec::new())?) {
            let record = serde_json::from_str(text).map_err(|error| WorkloadError::json(&file, line, None, &error))?;
            let place = Place { path: &file, line };
            let found = place.format(&record)?;
            if *format.get_or_insert(found) != found {
                let cause = "is of another format than the rows before";
                return Err(place.fault("schema", cause, "give traces of one format"));
            }
            rows.extend(place.row(&record, found)?);
        }
    }
    let origin = match format {
        // Mooncake times count from the start of the trace.
        Some(Format::Dynamo) => rows.iter().map(|row| row.at_ms).fold(f64::INFINITY, f64::min),
        _ => 0.0,
    };
    let mut sums: BTreeMap<i64, (u64, u64, u64)> = BTreeMap::new();
    for row in &rows {
        let sum = sums.entry(((row.at_ms - origin) / (seconds * 1000.0)).floor() as i64).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(row.input), sum.2.saturating_add(row.output));
    }
    let (Some(first), Some(last)) = (sums.keys().next().copied(), sums.keys().last().copied()) else {
        return Ok(Vec::new());
    };
    if last.saturating_sub(first) >= MOST_INTERVALS {
        let cause = format!("spans more than {MOST_INTERVALS} intervals of {seconds} s");
        return Err(WorkloadError::file(path, cause, "give times in milliseconds"));
    }
    let interval = |index: i64| match sums.get(&index) {
        Some(&(requests, input, output)) => Interval {
            requests,
            mean_input: input as f64 / requests as f64,
            mean_output: output as f64 / requests as f64,
        },
        None => Interval::default(),
    };
    Ok((first..=last).map(interval).collect())
}

/// Where a row stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    line: usize,
}

/// The event of a request-trace line, which may be wrapped.
fn event(record: &Value) -> &Value {
    record.get("event").unwrap_or(record)
}

impl Place<'_> {
    fn fault(self, field: &'static str, cause: &str, cure: &str) -> WorkloadError {
        WorkloadError::field(self.path, self.line, field, cause, cure)
    }

    fn format(self, record: &Value) -> Result<Format, WorkloadError> {
        if event(record).get("schema").and_then(Value::as_str) == Some("dynamo.request.trace.v1") {
            return Ok(Format::Dynamo);
        }
        match ["timestamp", "input_length", "output_length"].into_iter().find(|field| record.get(*field).is_none()) {
            None => Ok(Format::Mooncake),
            Some(field) => Err(self.fault(field, "is missing", "give a Mooncake trace or a request trace of Dynamo")),
        }
    }

    /// The request of a row, if it is one.
    fn row(self, record: &Value, format: Format) -> Result<Option<Row>, WorkloadError> {
        let empty = Map::new();
        let object = |value: &Value| value.as_object().cloned();
        let record = match format {
            Format::Mooncake => object(record),
            Format::Dynamo => {
                let event = event(record);
                if event.get("event_type").and_then(Value::as_str) != Some("request_end") {
                    return Ok(None);
                }
                event.get("request").and_then(object)
            }
        };
        let record = record.ok_or_else(|| self.fault("request", "is missing", "give the request that ended"))?;
        let at_ms = |field: &'static str| {
            let ms = record.get(field).and_then(Value::as_f64).filter(|ms| ms.is_finite());
            ms.ok_or_else(|| self.fault(field, "is no number", "give milliseconds"))
        };
        let count = |map: &Map<String, Value>, field: &'static str| {
            let tokens = map.get(field).and_then(Value::as_u64);
            tokens.ok_or_else(|| self.fault(field, "is no number of tokens", "give a whole number of at least 0"))
        };
        Ok(Some(match format {
            Format::Mooncake => Row {
                at_ms: at_ms("timestamp")?,
                input: count(&record, "input_length")?,
                output: count(&record, "output_length")?,
            },
            Format::Dynamo => Row {
                at_ms: at_ms("request_received_ms")?,
                input: count(record.get("replay").and_then(Value::as_object).unwrap_or(&empty), "input_length")?,
                output: count(&record, "output_tokens")?,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Interval>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        std::fs::write(&path, text).unwrap();
        intervals(&path, 60.0).map_err(|error| error.to_string())
    }

    #[test]
    fn empty_intervals_between_the_first_and_the_last_count() {
        let trace = r#"{"timestamp": 61000, "input_length": 10, "output_length": 2}
            {"timestamp": 119999, "input_length": 20, "output_length": 4}

            {"timestamp": 240000, "input_length": 7, "output_length": 1}"#;
        let found = of(trace).unwrap();
        let one = |requests, mean_input, mean_output| Interval { requests, mean_input, mean_output };
        assert_eq!(found, [one(2, 15.0, 3.0), Interval::default(), Interval::default(), one(1, 7.0, 1.0)]);
    }

    #[test]
    fn request_traces_count_from_their_first_request() {
        let line = |ms: u64| {
            format!(
                r#"{{"event": {{"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": {{"request_received_ms": {ms}, "output_tokens": 3, "replay": {{"input_length": 5}}}}}}}}"#
            )
        };
        let found = of(&format!("{}\n{}", line(1_700_000_070_000), line(1_700_000_000_000))).unwrap();
        assert_eq!(found.iter().map(|interval| interval.requests).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_malformed_row_is_named_with_its_line() {
        let good = r#"{"timestamp": 0, "input_length": 10, "output_length": 2}"#;
        let bad =
            of(&format!("{good}\n{}", r#"{"timestamp": 0, "input_length": -1, "output_length": 2}"#)).unwrap_err();
        assert!(bad.contains("line 2") && bad.contains("input_length"), "{bad}");
        assert!(of("nonsense").unwrap_err().contains("line 1"));
        assert!(
            of(r#"{"timestamp": 0, "input_length": 1, "output_length": 2}
            {"timestamp": 1e300, "input_length": 1, "output_length": 2}"#)
            .unwrap_err()
            .contains("intervals")
        );
    }
}
