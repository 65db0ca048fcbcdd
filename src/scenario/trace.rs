//! What a user says about a trace: its files, their format, and how to read them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::text::nearest;

use super::run::{SyntheticArrivals, Topology};

/// A recorded trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraceSource {
    /// The files as they were named: files, folders or patterns, at least one.
    pub paths: Vec<PathBuf>,
    /// How to read them.
    pub reading: TraceReading,
}

/// How the files of a trace are read. The default leaves everything to the files.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceReading {
    /// Format; `None` finds it out from the content.
    pub format: Option<TraceFormat>,
    /// Tokens per hash id, at least 1; `None` takes what the file says, or 512.
    pub block_size: Option<u32>,
    /// Share of the first prompt that sessions of a group have in common, 0 to 1 (applied_compute_agentic).
    pub shared_prefix_ratio: f64,
    /// Number of prefix groups; 0 shares nothing (applied_compute_agentic).
    pub num_prefix_groups: u32,
    /// Which columns of a CSV file hold what.
    pub csv_columns: CsvColumns,
    /// Unit of plain numbers in time columns of a CSV file.
    pub csv_time_unit: TimeUnit,
    /// Only requests (sessions) that begin within this part of the trace.
    pub window: Option<TraceWindow>,
    /// When requests (sessions) arrive, for traces that do not say; the rate of ServeGen clients together.
    pub arrivals: Option<SyntheticArrivals>,
    /// Seed of `arrivals`.
    pub arrival_seed: u64,
}

impl Default for TraceReading {
    fn default() -> Self {
        Self {
            format: None,
            block_size: None,
            shared_prefix_ratio: 0.0,
            num_prefix_groups: 0,
            csv_columns: CsvColumns::default(),
            csv_time_unit: TimeUnit::Seconds,
            window: None,
            arrivals: None,
            arrival_seed: 42,
        }
    }
}

/// Trace formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TraceFormat {
    /// Mooncake JSON Lines; rows hold whole prompts.
    Mooncake,
    /// Mooncake JSON Lines; rows of a session hold what each turn adds.
    MooncakeDelta,
    /// Mooncake-like rows that wait for the end of others.
    AgenticMooncake,
    /// JSON Lines, one agent session of several turns per row.
    AppliedComputeAgentic,
    /// Request traces captured by Dynamo, one or more files.
    Dynamo,
    /// Azure LLM inference traces, CSV.
    Azure,
    /// BurstGPT, CSV.
    BurstGpt,
    /// Any CSV file with a column for prompt tokens and one for output tokens.
    Csv,
    /// ServeGen client profiles, two files per client.
    ServeGen,
    /// Agent sessions with nested sub-agents, one JSON file each.
    KvCacheTester,
}

impl TraceFormat {
    /// Every format, those of the reference first.
    pub const ALL: [Self; 10] = [
        Self::Mooncake,
        Self::MooncakeDelta,
        Self::AgenticMooncake,
        Self::AppliedComputeAgentic,
        Self::Dynamo,
        Self::Azure,
        Self::BurstGpt,
        Self::Csv,
        Self::ServeGen,
        Self::KvCacheTester,
    ];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mooncake => "mooncake",
            Self::MooncakeDelta => "mooncake-delta",
            Self::AgenticMooncake => "agentic_mooncake",
            Self::AppliedComputeAgentic => "applied_compute_agentic",
            Self::Dynamo => "dynamo",
            Self::Azure => "azure",
            Self::BurstGpt => "burstgpt",
            Self::Csv => "csv",
            Self::ServeGen => "servegen",
            Self::KvCacheTester => "kv_cache_tester",
        }
    }

    /// Whether a trace may consist of several files.
    pub const fn takes_several_files(self) -> bool {
        match self {
            Self::Mooncake | Self::MooncakeDelta | Self::AgenticMooncake | Self::AppliedComputeAgentic => false,
            Self::Dynamo | Self::Azure | Self::BurstGpt | Self::Csv | Self::ServeGen | Self::KvCacheTester => true,
        }
    }

    /// Whether the format is one of the reference's, whose rules then hold.
    pub const fn is_of_the_reference(self) -> bool {
        match self {
            Self::Mooncake
            | Self::MooncakeDelta
            | Self::AgenticMooncake
            | Self::AppliedComputeAgentic
            | Self::Dynamo => true,
            Self::Azure | Self::BurstGpt | Self::Csv | Self::ServeGen | Self::KvCacheTester => false,
        }
    }

    /// The names, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Why a trace of this format cannot be read or run so, if that is so.
    pub fn objection(self, trace: &TraceSource, concurrency: Option<u32>, topology: &Topology) -> Option<Objection> {
        let object = |key, cause: String, cure: &str| Some(Objection { key, cause, cure: cure.to_owned() });
        if let Some(objection) = self.objection_to_files(trace.paths.len()) {
            return Some(objection);
        }
        let disaggregated = matches!(topology, Topology::Disaggregated { .. });
        if disaggregated && matches!(self, Self::MooncakeDelta | Self::AgenticMooncake) {
            let cause = format!("is {self}, which needs workers that both prefill and decode");
            return object("trace-format", cause, "use `extra-engine-args` and `num-workers`");
        }
        if let Some(arrivals) = trace.reading.arrivals {
            let key = match arrivals {
                SyntheticArrivals::Poisson { .. } => "request-rate",
                SyntheticArrivals::Interval { .. } => "arrival-interval-ms",
            };
            let cure = "leave it out; arrival-speedup-ratio and replay-concurrency change the pace";
            let own = self.is_of_the_reference() || matches!(self, Self::Azure | Self::BurstGpt);
            if own || (self == Self::ServeGen && key == "arrival-interval-ms") {
                let cause = format!("is for synthetic traffic; {self} traces bring their own arrivals");
                return object(key, cause, cure);
            }
        }
        match (self, concurrency) {
            (Self::AgenticMooncake, Some(_)) => {
                let cause = format!("is given, but {self} requests are released by the end of others");
                object("replay-concurrency", cause, "leave it out")
            }
            (Self::AppliedComputeAgentic, None) => {
                let cause = format!("is missing; {self} sessions have no arrival times");
                object("replay-concurrency", cause, "give the number of sessions at a time")
            }
            _ => None,
        }
    }

    /// Why the format cannot be read from `count` paths, if that is so.
    pub fn objection_to_files(self, count: usize) -> Option<Objection> {
        (count != 1 && !self.takes_several_files()).then(|| Objection {
            key: "trace",
            cause: format!("names {count} files, but a {self} trace is one file"),
            cure: "give one file".to_owned(),
        })
    }

    /// A warning for every part of `reading` that does not concern this format.
    pub fn idle_keys(self, reading: &TraceReading) -> Vec<String> {
        let prefixes = self == Self::AppliedComputeAgentic;
        let blocks = !matches!(self, Self::Azure | Self::BurstGpt | Self::Csv | Self::ServeGen);
        let columns = self == Self::Csv;
        let keys = [
            ("trace-shared-prefix-ratio", reading.shared_prefix_ratio != 0.0 && !prefixes),
            ("trace-num-prefix-groups", reading.num_prefix_groups != 0 && !prefixes),
            ("trace-block-size", reading.block_size.is_some() && !blocks),
            ("csv-columns", !reading.csv_columns.is_empty() && !columns),
            ("csv-time-unit", reading.csv_time_unit != TimeUnit::Seconds && !columns),
        ];
        let idle = keys.into_iter().filter(|(_, idle)| *idle);
        idle.map(|(key, _)| format!("`{key}` has no effect on {self} traces.")).collect()
    }
}

/// A key that does not go with a trace format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub cure: String,
}

impl fmt::Display for TraceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TraceFormat {
    type Err = String;

    /// The format of this name; the error is what to do instead.
    fn from_str(name: &str) -> Result<Self, String> {
        if let Some(found) = Self::ALL.into_iter().find(|format| format.name() == name) {
            return Ok(found);
        }
        Err(match nearest(name, Self::ALL.map(Self::name)) {
            Some(known) => format!("did you mean {known}? The formats are {}", Self::names()),
            None => format!("use one of {}", Self::names()),
        })
    }
}

/// Which columns of a CSV file hold what: a name in the header, or a number from 1. `None` looks for usual names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CsvColumns {
    /// Time of arrival.
    pub arrival: Option<String>,
    /// Prompt tokens.
    pub input: Option<String>,
    /// Output tokens.
    pub output: Option<String>,
    /// Session; rows with the same text are its turns.
    pub session: Option<String>,
    /// Think time before a turn, counted from the end of the one before.
    pub delay: Option<String>,
}

impl CsvColumns {
    /// What a column can hold.
    pub const ROLES: [&'static str; 5] = ["arrival", "input", "output", "session", "delay"];

    /// The column given for a role.
    pub fn get(&self, role: &str) -> Option<&str> {
        match role {
            "arrival" => self.arrival.as_deref(),
            "input" => self.input.as_deref(),
            "output" => self.output.as_deref(),
            "session" => self.session.as_deref(),
            "delay" => self.delay.as_deref(),
            _ => None,
        }
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for CsvColumns {
    type Err = (String, String);

    /// Parses `input=Prompt tokens,output=4`. The error is cause and cure.
    fn from_str(text: &str) -> Result<Self, (String, String)> {
        let mut columns = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let cure = || "give a list such as arrival=Timestamp,input=2,output=3,session=User".to_owned();
            let Some((role, column)) = part.split_once('=') else {
                return Err((format!("has `{}` without `=`", part.trim()), cure()));
            };
            let (role, column) = (role.trim(), column.trim());
            let slot = match role {
                "arrival" => &mut columns.arrival,
                "input" => &mut columns.input,
                "output" => &mut columns.output,
                "session" => &mut columns.session,
                "delay" => &mut columns.delay,
                _ => {
                    let cause = format!("names `{role}`, which no column can be");
                    return Err((cause, format!("use {}", Self::ROLES.join(", "))));
                }
            };
            if column.is_empty() {
                return Err((format!("names no column for `{role}`"), cure()));
            }
            if slot.replace(column.to_owned()).is_some() {
                return Err((format!("gives `{role}` twice"), "keep one of the two".to_owned()));
            }
        }
        Ok(columns)
    }
}

impl fmt::Display for CsvColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = Self::ROLES.iter().filter_map(|role| Some(format!("{role}={}", self.get(role)?)));
        f.write_str(&given.collect::<Vec<_>>().join(","))
    }
}

/// Unit of plain numbers in time columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimeUnit {
    /// Every unit.
    pub const ALL: [Self; 4] = [Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Nanoseconds];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        }
    }

    /// How many decimal places one unit is above a nanosecond.
    pub const fn decimals(self) -> u32 {
        match self {
            Self::Seconds => 9,
            Self::Milliseconds => 6,
            Self::Microseconds => 3,
            Self::Nanoseconds => 0,
        }
    }
}

impl FromStr for TimeUnit {
    type Err = String;

    /// The unit of this name; the error is what to do instead.
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|unit| unit.name() == name)
            .ok_or_else(|| format!("use one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// A part of a trace, in seconds since its first arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceWindow {
    /// First instant of the part; finite, zero or more.
    pub start_s: f64,
    /// First instant after it; above `start_s`, may be infinite.
    pub end_s: f64,
}

impl TraceWindow {
    /// Whether an instant lies in it, given in milliseconds since the first arrival.
    pub fn contains_ms(&self, ms: f64) -> bool {
        ms >= self.start_s * 1_000.0 && ms < self.end_s * 1_000.0
    }
}

impl FromStr for TraceWindow {
    type Err = String;

    /// Parses `600..1200`; either side may be left out. The error is the cause.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((start, end)) = text.split_once("..") else {
            return Err("has no `..`".to_owned());
        };
        let side = |text: &str, absent: f64| match text.trim() {
            "" => Ok(absent),
            number => number.parse::<f64>().map_err(|_| format!("has \"{number}\", which is no number")),
        };
        let window = Self { start_s: side(start, 0.0)?, end_s: side(end, f64::INFINITY)? };
        if !(window.start_s.is_finite() && window.start_s >= 0.0) {
            return Err(format!("begins at {}", window.start_s));
        }
        // Not a number is not above either.
        if window.end_s.partial_cmp(&window.start_s) != Some(std::cmp::Ordering::Greater) {
            return Err(format!("ends at {}, not after its begin", window.end_s));
        }
        Ok(window)
    }
}

impl fmt::Display for TraceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.start_s)?;
        if self.end_s.is_finite() { write!(f, "{}", self.end_s) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_name() {
        for format in TraceFormat::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert!(
            "agentic-mooncake".parse::<TraceFormat>().is_err_and(|e| e.starts_with("did you mean agentic_mooncake?"))
        );
        assert!("pdf".parse::<TraceFormat>().is_err_and(|e| e.starts_with("use one of mooncake, ")));
    }

    #[test]
    fn columns_are_read_as_they_are_written() {
        let text = "arrival=Time of day,input=2,output=out";
        let columns: CsvColumns = text.parse().expect("columns");
        assert_eq!((columns.arrival.as_deref(), columns.session), (Some("Time of day"), None));
        assert_eq!(text.parse::<CsvColumns>().expect("columns").to_string(), text);
        for (wrong, cause) in [
            ("input", "has `input` without `=`"),
            ("input=", "names no column for `input`"),
            ("prompt=1", "names `prompt`, which no column can be"),
            ("input=1,input=2", "gives `input` twice"),
        ] {
            assert_eq!(wrong.parse::<CsvColumns>().expect_err(wrong).0, cause);
        }
    }

    #[test]
    fn a_window_may_be_open_on_either_side() {
        for (text, start_s, end_s) in [("600..1200", 600.0, 1200.0), ("..0.5", 0.0, 0.5), ("3..", 3.0, f64::INFINITY)] {
            let window: TraceWindow = text.parse().expect(text);
            assert_eq!(window, TraceWindow { start_s, end_s });
            assert_eq!(window.to_string().parse(), Ok(window));
        }
        for wrong in ["", "600", "a..b", "5..5", "-1..2", "nan..2", "1..nan", "inf.."] {
            assert!(wrong.parse::<TraceWindow>().is_err(), "{wrong}");
        }
    }
}
