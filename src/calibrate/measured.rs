//! Reads measured requests: when each arrived, and when its first and last token came.
//!
//! Serving engines stamp the life of a request with a monotonic clock, while whoever sends it notes the time of day. The
//! two are brought together by the request that waited least between arrival and queue: see [`Clock`].

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::text::{json_cause, without_mark};
use crate::time::SimTime;
use crate::workload::MAX_TOKENS;

use super::error::CalibrateError;

/// File with the requests within a run's folder.
const REQUESTS: &str = "requests.jsonl";
/// Fewest requests: two to fit and two to judge by.
const FEWEST: usize = 4;
/// Clocks this close to each other are one clock, seconds. Nobody waits that long between the door and the queue.
const SAME_CLOCK: f64 = 1.0;
/// A first token later than this after its arrival means different clocks, seconds.
const LONGEST_WAIT: f64 = 86_400.0;
/// Largest time stamp, seconds: ten thousand years.
const LAST_STAMP: f64 = 3.2e11;

/// What a field means, and the names it goes by.
struct Field(&'static [&'static str]);

const ARRIVAL: Field = Field(&["arrival", "arrival_time"]);
const QUEUED: Field = Field(&["queued", "queued_ts"]);
const FIRST_TOKEN: Field = Field(&["first_token", "first_token_ts"]);
const LAST_TOKEN: Field = Field(&["last_token", "last_token_ts"]);
const INPUT_TOKENS: Field = Field(&["input_tokens", "input_toks"]);
const OUTPUT_TOKENS: Field = Field(&["output_tokens", "output_toks"]);

/// One measured request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredRequest {
    /// Arrival, counted from the first one.
    pub arrival: SimTime,
    /// Arrival to first token, milliseconds, above zero.
    pub ttft_ms: f64,
    /// Mean gap between tokens, milliseconds; `None` for a single token.
    pub tpot_ms: Option<f64>,
    /// Arrival to last token, milliseconds, above zero.
    pub e2e_ms: f64,
    /// Prompt tokens, at least 1.
    pub input_tokens: u32,
    /// Output tokens, at least 1.
    pub output_tokens: u32,
}

/// How the stamps of arrivals relate to those of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clock {
    /// One clock for both.
    Same,
    /// The stamps of tokens are ahead by `offset_s`: the least of queue time minus arrival over all requests, as a delay
    /// can only make the difference larger. What every request spends between the two (the server in front, the
    /// tokeniser) cannot be told from the offset and does not count as latency.
    Apart {
        /// Offset, seconds.
        offset_s: f64,
        /// Median of what requests waited longer than the quickest one, milliseconds: mostly the pass in progress.
        median_lag_ms: f64,
    },
}

/// The measurements of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurements {
    /// The file they come from.
    pub path: PathBuf,
    /// In order of arrival, ties in the order of the file; at least four.
    pub requests: Vec<MeasuredRequest>,
    /// How clocks were brought together.
    pub clock: Clock,
}

/// A line as it stands in the file.
struct Row {
    line: usize,
    arrival: f64,
    queued: Option<f64>,
    first: f64,
    last: f64,
    input: u32,
    output: u32,
}

impl Measurements {
    /// Reads `path`, a file or a folder that holds `requests.jsonl`.
    ///
    /// # Errors
    /// When it cannot be read or breaks a rule of the format; the error names file, line and field.
    pub fn load(path: &Path) -> Result<Self, CalibrateError> {
        let path = if path.is_dir() { path.join(REQUESTS) } else { path.to_owned() };
        let text = fs::read_to_string(&path).map_err(|source| CalibrateError::read(&path, source))?;
        Self::parse(&text, &path)
    }

    /// Reads the text of a file; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, CalibrateError> {
        let lines = without_mark(text).lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let rows = lines.map(|(index, line)| Row::parse(line, index + 1, path)).collect::<Result<Vec<_>, _>>()?;
        if rows.len() < FEWEST {
            let cause = format!("has {} requests", rows.len());
            let cure = format!("give at least {FEWEST}: the first half is fitted, the second half judges the fit");
            return Err(CalibrateError::data(path, None, "", cause, cure));
        }
        let clock = clock(&rows, path)?;
        let offset = match clock {
            Clock::Same => 0.0,
            Clock::Apart { offset_s, .. } => offset_s,
        };
        let start = rows.iter().map(|row| row.arrival).fold(f64::INFINITY, f64::min);
        let mut requests =
            rows.iter().map(|row| row.request(start, offset, path)).collect::<Result<Vec<MeasuredRequest>, _>>()?;
        requests.sort_by_key(|request| request.arrival);
        Ok(Self { path: path.to_owned(), requests, clock })
    }

    /// Requests of the half that corrections are fitted to; the rest judges them.
    pub fn fitted(&self) -> usize {
        self.requests.len() / 2
    }

    /// Folder and file, for reports: no more of the path, so that they do not differ between machines.
    pub fn source(&self) -> String {
        let mut parts: Vec<_> = self.path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        parts.reverse();
        parts.join("/")
    }
}

impl Row {
    fn parse(text: &str, line: usize, path: &Path) -> Result<Self, CalibrateError> {
        let whole = |cause: String| {
            CalibrateError::data(path, line, "", cause, "every line must hold one JSON object and nothing else")
        };
        let fields = match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Fields { map, line, path },
            Ok(_) => return Err(whole("is no JSON object".to_owned())),
            Err(error) => return Err(whole(json_cause(&error))),
        };
        let row = Self {
            line,
            arrival: fields.stamp(&ARRIVAL)?,
            queued: fields.optional(&QUEUED)?.is_some().then(|| fields.stamp(&QUEUED)).transpose()?,
            first: fields.stamp(&FIRST_TOKEN)?,
            last: fields.stamp(&LAST_TOKEN)?,
            input: fields.tokens(&INPUT_TOKENS)?,
            output: fields.tokens(&OUTPUT_TOKENS)?,
        };
        if row.last < row.first {
            let cause = format!("is {} s before the first token", row.first - row.last);
            return Err(fields.error(&LAST_TOKEN, cause, "the last token comes no earlier than the first one"));
        }
        if row.output == 1 && row.last > row.first {
            let cause = "is 1, but the last token comes later than the first one";
            return Err(fields.error(&OUTPUT_TOKENS, cause, "count every output token, or give both the same time"));
        }
        if row.queued.is_some_and(|queued| queued > row.first) {
            return Err(fields.error(&QUEUED, "is later than the first token", "give the time it entered the queue"));
        }
        Ok(row)
    }

    fn request(&self, start: f64, offset: f64, path: &Path) -> Result<MeasuredRequest, CalibrateError> {
        let [ttft, e2e] = [self.first, self.last].map(|stamp| stamp - offset - self.arrival);
        if ttft <= 0.0 {
            let cure = "give `queued`, the time it entered the queue by the clock of the tokens, in every line, or put \
                        arrivals on that clock";
            return Err(self.error(path, ARRIVAL, format!("is {} s after the first token", -ttft), cure));
        }
        if ttft > LONGEST_WAIT {
            let cause = format!("is {ttft} s before the first token");
            return Err(self.error(path, ARRIVAL, cause, "give seconds, and both times by one clock"));
        }
        let arrival = SimTime::from_ms((self.arrival - start) * 1e3)
            .map_err(|error| self.error(path, ARRIVAL, error.to_string(), "give seconds"))?;
        let gaps = f64::from(self.output - 1);
        Ok(MeasuredRequest {
            arrival,
            ttft_ms: ttft * 1e3,
            tpot_ms: (self.output > 1).then(|| (self.last - self.first) * 1e3 / gaps),
            e2e_ms: e2e * 1e3,
            input_tokens: self.input,
            output_tokens: self.output,
        })
    }

    fn error(&self, path: &Path, field: Field, cause: impl Into<String>, cure: &str) -> CalibrateError {
        CalibrateError::data(path, self.line, field.0[0], cause, cure)
    }
}

/// The fields of a line.
struct Fields<'a> {
    map: Map<String, Value>,
    line: usize,
    path: &'a Path,
}

impl Fields<'_> {
    fn error(&self, field: &Field, cause: impl Into<String>, cure: impl Into<String>) -> CalibrateError {
        let name = field.0.iter().find(|name| self.map.contains_key(**name)).unwrap_or(&field.0[0]);
        CalibrateError::data(self.path, self.line, *name, cause, cure)
    }

    /// The value under either name; `null` is no value.
    fn optional(&self, field: &Field) -> Result<Option<&Value>, CalibrateError> {
        let mut given = field.0.iter().filter_map(|name| self.map.get(*name)).filter(|value| !value.is_null());
        match (given.next(), given.next()) {
            (_, Some(_)) => {
                Err(self.error(field, format!("is given twice, also as `{}`", field.0[1]), "keep one of them"))
            }
            (value, None) => Ok(value),
        }
    }

    fn required(&self, field: &Field) -> Result<&Value, CalibrateError> {
        let cure = format!("every line needs it (`{}` is understood too)", field.0[1]);
        self.optional(field)?.ok_or_else(|| self.error(field, "is missing", cure))
    }

    fn stamp(&self, field: &Field) -> Result<f64, CalibrateError> {
        let value = self.required(field)?;
        match value.as_f64() {
            Some(seconds) if (0.0..=LAST_STAMP).contains(&seconds) => Ok(seconds),
            _ => Err(self.error(field, format!("is {value}"), "give a time in seconds, zero or more")),
        }
    }

    fn tokens(&self, field: &Field) -> Result<u32, CalibrateError> {
        let value = self.required(field)?;
        match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) if (1..=MAX_TOKENS).contains(&count) => Ok(count),
            _ => Err(self.error(field, format!("is {value}"), format!("give a whole number from 1 to {MAX_TOKENS}"))),
        }
    }
}

fn clock(rows: &[Row], path: &Path) -> Result<Clock, CalibrateError> {
    let mut lags: Vec<f64> = rows.iter().filter_map(|row| Some(row.queued? - row.arrival)).collect();
    if lags.is_empty() {
        return Ok(Clock::Same);
    }
    if lags.len() < rows.len()
        && let Some(row) = rows.iter().find(|row| row.queued.is_none())
    {
        return Err(row.error(path, QUEUED, "is missing, but other lines have it", "give it in every line or in none"));
    }
    lags.sort_unstable_by(f64::total_cmp);
    let (least, median) = (lags[0], lags[lags.len() / 2]);
    if (0.0..SAME_CLOCK).contains(&least) {
        return Ok(Clock::Same);
    }
    Ok(Clock::Apart { offset_s: least, median_lag_ms: (median - least) * 1e3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Measurements, CalibrateError> {
        Measurements::parse(&lines.join("\n"), Path::new("run/requests.jsonl"))
    }

    fn line(arrival: f64, queued: f64, first: f64, last: f64) -> String {
        format!(
            r#"{{"arrival_time":{arrival},"queued_ts":{queued},"first_token_ts":{first},"last_token_ts":{last},"input_toks":10,"output_toks":5,"request_id":"x"}}"#
        )
    }

    #[test]
    fn the_quickest_request_brings_two_clocks_together() {
        let lines: Vec<String> = (0..4)
            .map(|i| {
                let lag = [0.030, 0.002, 0.050, 0.010][i];
                let at = i as f64;
                line(1_000_000.0 + at, 50.0 + at + lag, 50.5 + at, 52.5 + at)
            })
            .collect();
        let text: Vec<&str> = lines.iter().map(String::as_str).collect();
        let measured = parse(&text).unwrap();
        let Clock::Apart { offset_s, median_lag_ms } = measured.clock else { panic!("{:?}", measured.clock) };
        assert!((offset_s - (50.002 - 1_000_000.0)).abs() < 1e-6);
        assert!((median_lag_ms - 28.0).abs() < 1e-3, "{median_lag_ms}");
        let request = measured.requests[2];
        assert_eq!(request.arrival.as_ms(), 2_000.0);
        assert!((request.ttft_ms - 498.0).abs() < 1e-3 && (request.e2e_ms - 2_498.0).abs() < 1e-3);
        assert!((request.tpot_ms.unwrap() - 500.0).abs() < 1e-6);
    }

    #[test]
    fn on_one_clock_the_way_to_the_queue_counts() {
        let lines: Vec<String> =
            (0..4).map(|i| line(f64::from(i), f64::from(i) + 0.25, f64::from(i) + 1.0, 9.0)).collect();
        let text: Vec<&str> = lines.iter().map(String::as_str).collect();
        let measured = parse(&text).unwrap();
        assert_eq!((measured.clock, measured.requests[0].ttft_ms), (Clock::Same, 1_000.0));
    }

    #[test]
    fn the_short_form_is_enough_and_order_does_not_matter() {
        let row = |at: f64| {
            format!(
                r#"{{"arrival":{at},"first_token":{},"last_token":{},"input_tokens":3,"output_tokens":1}}"#,
                at + 1.0,
                at + 1.0
            )
        };
        let lines = [row(7.0), row(3.0), String::new(), row(5.0), row(4.0)];
        let measured = parse(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let arrivals: Vec<f64> = measured.requests.iter().map(|r| r.arrival.as_ms()).collect();
        assert_eq!(arrivals, [0.0, 1_000.0, 2_000.0, 4_000.0]);
        assert_eq!((measured.requests[0].tpot_ms, measured.fitted()), (None, 2));
        assert_eq!(measured.source(), "run/requests.jsonl");
    }

    #[test]
    fn a_bad_line_is_named_with_its_number_and_field() {
        let good = r#"{"arrival":1,"first_token":2,"last_token":3,"input_tokens":3,"output_tokens":2}"#;
        let cases = [
            ("{", "line 2: EOF while parsing"),
            ("[1]", "line 2: is no JSON object"),
            (r#"{"arrival":1}"#, "line 2, `first_token`: is missing"),
            (r#"{"arrival":"1"}"#, "line 2, `arrival`: is \"1\""),
            (r#"{"arrival_time":-1}"#, "line 2, `arrival_time`: is -1"),
            (r#"{"arrival":1e300}"#, "line 2, `arrival`: is 1e+300"),
            (r#"{"arrival":1,"arrival_time":1}"#, "line 2, `arrival`: is given twice"),
            (
                r#"{"arrival":1,"first_token":2,"last_token":3,"input_tokens":0,"output_tokens":2}"#,
                "line 2, `input_tokens`: is 0",
            ),
            (
                r#"{"arrival":1,"first_token":2,"last_token":3,"input_toks":1,"output_toks":4294967296}"#,
                "line 2, `output_toks`: is 4294967296",
            ),
            (
                r#"{"arrival":1,"first_token":2,"last_token":1,"input_tokens":3,"output_tokens":2}"#,
                "line 2, `last_token`: is 1 s before the first token",
            ),
            (
                r#"{"arrival":1,"first_token":2,"last_token":3,"input_tokens":3,"output_tokens":1}"#,
                "line 2, `output_tokens`: is 1, but",
            ),
            (
                r#"{"arrival":9,"first_token":2,"last_token":3,"input_tokens":3,"output_tokens":2}"#,
                "line 2, `arrival`: is 7 s after the first token",
            ),
            (
                r#"{"arrival":1,"first_token":2e6,"last_token":3e6,"input_tokens":3,"output_tokens":2}"#,
                "line 2, `arrival`: is 1999999 s before the first token",
            ),
            (
                r#"{"arrival":1,"queued":1,"first_token":2,"last_token":3,"input_tokens":3,"output_tokens":2}"#,
                "line 1, `queued`: is missing, but other lines have it",
            ),
        ];
        for (text, start) in cases {
            let error = parse(&[good, text, good, good]).unwrap_err().to_string();
            let start = format!("run/requests.jsonl, {start}");
            assert!(error.starts_with(&start), "{error}\n{start}");
        }
        let error = parse(&[good]).unwrap_err().to_string();
        assert!(error.starts_with("run/requests.jsonl: has 1 requests; give at least 4"), "{error}");
    }
}
