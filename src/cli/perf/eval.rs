//! `dynosim perf eval`: milliseconds of given passes.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dynosim::perf::{PerfError, TableLibrary};
use serde_json::{Map, Value};

use super::source::Source;
use crate::cli::error::CliError;
use crate::cli::output;

/// Flags of `dynosim perf eval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to ask
    key: String,
    /// JSON list of passes; `-` reads standard input. A pass is
    /// {"phase": "prefill", "count": N, "new": N, "prefix": N} or {"phase": "decode", "count": N, "context": N}
    #[arg(long, value_name = "FILE")]
    points: PathBuf,
}

/// One pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// `count` prompts that compute `new` tokens each after `prefix` tokens each.
    Prefill { count: u64, new: u64, prefix: u64 },
    /// `count` requests of `context` tokens that produce one token each.
    Decode { count: u64, context: u64 },
}

/// Prints the milliseconds of every pass, in order: model times, with nothing for a fully cached prompt and at least a
/// millisecond for a decode step.
pub fn run(args: &Args, library: &TableLibrary) -> Result<(), CliError> {
    let source = Source::find(&args.key, library)?;
    let (text, name) = read(&args.points)?;
    let points = parse(&text, &name)?;
    let times = points.iter().enumerate().map(|(index, point)| {
        let ms = match *point {
            Point::Prefill { count, new, prefix } => source.prefill_ms(count, new, prefix),
            Point::Decode { count, context } => source.decode_ms(count, context),
        };
        ms.ok_or_else(|| {
            let cure = "ask for a pass within what was measured (`dynosim perf show KEY`)";
            PerfError::data(&name, format!("[{index}]"), "the model has no finite time for it", cure)
        })
    });
    let times: Vec<f64> = times.collect::<Result<_, _>>()?;
    output::to_stdout(&format!("{}\n", Value::from(times)))
}

/// The text of the points, and their name for errors.
fn read(path: &Path) -> Result<(String, String), PerfError> {
    let fault = |error: io::Error| PerfError::read(path, &error);
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(fault)?;
        return Ok((text, "standard input".to_owned()));
    }
    Ok((fs::read_to_string(path).map_err(fault)?, path.display().to_string()))
}

fn parse(text: &str, source: &str) -> Result<Vec<Point>, PerfError> {
    let error = |cause: String| PerfError::data(source, "", cause, "give a JSON list of passes");
    let value: Value = serde_json::from_str(text).map_err(|e| error(format!("is not JSON: {e}")))?;
    let Value::Array(list) = value else {
        return Err(error("is no list".to_owned()));
    };
    list.iter().enumerate().map(|(index, value)| Fields::new(source, index, value)?.point()).collect()
}

/// The fields of a point, with errors that name its index.
struct Fields<'a> {
    source: &'a str,
    index: usize,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn new(source: &'a str, index: usize, value: &'a Value) -> Result<Self, PerfError> {
        match value {
            Value::Object(map) => Ok(Self { source, index, map }),
            other => {
                let cure = "give an object with a `phase`";
                Err(PerfError::data(source, format!("[{index}]"), format!("is {other}"), cure))
            }
        }
    }

    fn error(&self, field: &str, cause: impl Into<String>, cure: impl Into<String>) -> PerfError {
        PerfError::data(self.source, format!("[{}].{field}", self.index), cause, cure)
    }

    fn point(&self) -> Result<Point, PerfError> {
        let cure = "give \"prefill\" or \"decode\"";
        match self.map.get("phase") {
            Some(Value::String(phase)) if phase == "prefill" => {
                self.only(&["phase", "count", "new", "prefix"])?;
                Ok(Point::Prefill {
                    count: self.number("count")?,
                    new: self.number("new")?,
                    prefix: self.number("prefix")?,
                })
            }
            Some(Value::String(phase)) if phase == "decode" => {
                self.only(&["phase", "count", "context"])?;
                Ok(Point::Decode { count: self.number("count")?, context: self.number("context")? })
            }
            Some(other) => Err(self.error("phase", format!("is {other}"), cure)),
            None => Err(self.error("phase", "is missing", cure)),
        }
    }

    fn only(&self, known: &[&str]) -> Result<(), PerfError> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.error(key, "is unknown", format!("a pass of this phase has {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    fn number(&self, field: &str) -> Result<u64, PerfError> {
        let cure = "give a whole number of 0 or more";
        match self.map.get(field) {
            None => Err(self.error(field, "is missing", cure)),
            Some(value) => value.as_u64().ok_or_else(|| self.error(field, format!("is {value}"), cure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_in_order() {
        let text = r#"[{"phase":"decode","count":2,"context":9},{"phase":"prefill","count":1,"new":5,"prefix":0}]"#;
        let points = parse(text, "p.json").unwrap();
        assert_eq!(points, [Point::Decode { count: 2, context: 9 }, Point::Prefill { count: 1, new: 5, prefix: 0 }]);
        assert_eq!(parse("[]", "p.json").unwrap(), []);
    }

    #[test]
    fn a_bad_point_is_named_with_its_index_and_field() {
        let cases = [
            ("{", "p.json: is not JSON"),
            ("{}", "p.json: is no list"),
            ("[1]", "p.json, `[0]`: is 1"),
            (r#"[{"count":1}]"#, "p.json, `[0].phase`: is missing"),
            (r#"[{"phase":"idle"}]"#, r#"p.json, `[0].phase`: is "idle""#),
            (r#"[{"phase":"decode","count":1}]"#, "p.json, `[0].context`: is missing"),
            (r#"[{"phase":"decode","count":-1,"context":1}]"#, "p.json, `[0].count`: is -1"),
            (r#"[{"phase":"decode","count":1.5,"context":1}]"#, "p.json, `[0].count`: is 1.5"),
            (r#"[{"phase":"decode","count":1,"context":1,"new":2}]"#, "p.json, `[0].new`: is unknown"),
            (r#"[{"phase":"prefill","count":1,"new":1}]"#, "p.json, `[0].prefix`: is missing"),
        ];
        for (text, start) in cases {
            let error = parse(text, "p.json").unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
    }
}
