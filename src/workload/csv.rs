//! CSV traces: Azure LLM inference traces, BurstGPT, and any file with prompt and output tokens in columns.
//!
//! Such traces say how long prompts are, not what is in them, so no two prompts share anything. Times are kept in whole
//! nanoseconds throughout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::scenario::{TraceFormat, TraceReading, TraceWindow};
use crate::time::{SimDuration, SimTime};

use super::checks::{self, Tally};
use super::content::Content;
use super::hints::RouterHints;
use super::instant;
use super::model::{Release, RequestSpec, Session, Workload};
use super::options::TraceOptions;
use super::source::{Source, lines};
use super::table::{self, Layout};
use super::{WorkloadError, synthetic};

pub(super) use super::table::recognise;

const NS_PER_MS: f64 = 1e6;
/// Rows without a session.
const NONE: u32 = u32::MAX;

/// Reads the files, `first` being the first of them.
pub(super) fn load(
    files: &[PathBuf],
    first: Source,
    format: TraceFormat,
    options: &TraceOptions,
) -> Result<Workload, WorkloadError> {
    let mut reader = Reader {
        format,
        reading: &options.reading,
        rows: Vec::new(),
        sessions: Sessions::default(),
        timed: None,
        several: files.len() > 1,
        failed: Tally::default(),
        silent: Tally::default(),
        notes: Vec::new(),
    };
    let mut next = Some(first);
    for path in files {
        let source = match next.take() {
            Some(source) => source,
            None => Source::read(path)?,
        };
        reader.file(&source)?;
    }
    reader.into_workload(files, options)
}

/// A row, reduced.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Arrival in nanoseconds, on the clock of the trace.
    at: i64,
    /// Wait since the session's turn before, nanoseconds.
    delay: i64,
    input: u32,
    output: u32,
    /// Index of its session, or [`NONE`].
    session: u32,
}

#[derive(Debug, Default)]
struct Sessions {
    by_name: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
    /// Arrival and end of the latest turn, nanoseconds.
    last: Vec<(i64, i64)>,
}

struct Reader<'a> {
    format: TraceFormat,
    reading: &'a TraceReading,
    rows: Vec<Row>,
    sessions: Sessions,
    /// Whether rows have arrivals; the same for all files.
    timed: Option<bool>,
    several: bool,
    failed: Tally,
    silent: Tally,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, source: &Source) -> Result<(), WorkloadError> {
        let mut notes = std::mem::take(&mut self.notes);
        let text = source.text(&mut notes)?;
        self.notes = notes;
        let path = source.path.as_path();
        let delimiter = table::delimiter(lines(text).next().map_or("", |(_, row)| row));
        let mut layout = None;
        table::rows(text, delimiter, |line, fields| {
            let known = match &layout {
                Some(layout) => layout,
                None => {
                    let found = table::layout(path, line, fields, self.format, &self.reading.csv_columns)?;
                    if *self.timed.get_or_insert(found.arrival.is_some()) != found.arrival.is_some() {
                        let cause = "some files have a column of arrivals, others have none";
                        return Err(WorkloadError::file(path, cause, "give files of one kind"));
                    }
                    let found = layout.insert(found);
                    if found.has_header {
                        return Ok(());
                    }
                    found
                }
            };
            self.row(path, line, fields, known)
        })
    }

    fn row(&mut self, path: &Path, line: usize, fields: &[&str], layout: &Layout) -> Result<(), WorkloadError> {
        let field = |at: usize, role: &'static str| {
            fields.get(at).map(|text| text.trim()).filter(|text| !text.is_empty()).ok_or_else(|| {
                let cause = format!("column {} is missing or empty", at + 1);
                WorkloadError::field(path, line, role, cause, "give it a value, or leave the row out")
            })
        };
        let time = |at: usize, role: &'static str| {
            let text = field(at, role)?;
            instant::parse(text, self.reading.csv_time_unit).ok_or_else(|| {
                let cause = format!("\"{}\" is no time, or beyond the clock", text.escape_debug());
                let cure =
                    "give a number (its unit is `csv-time-unit`) or a date and time such as 2024-05-10 00:00:00.5";
                WorkloadError::field(path, line, role, cause, cure)
            })
        };
        let (input, output) = (
            count(path, line, "input", field(layout.input, "input")?)?,
            count(path, line, "output", field(layout.output, "output")?)?,
        );
        if self.format == TraceFormat::BurstGpt && output == 0 {
            // This is how the trace records requests that failed.
            match self.several {
                true => self.failed.add_in(path, line),
                false => self.failed.add(line),
            }
            return Ok(());
        }
        let input = checks::prompt_tokens(path, line, "input", input)?;
        let output = checks::tokens(path, line, "output", output)?;
        if output == 0 {
            match self.several {
                true => self.silent.add_in(path, line),
                false => self.silent.add(line),
            }
        }
        let at = layout.arrival.map_or(Ok(0), |column| time(column, "arrival"))?;
        let name = layout.session.and_then(|column| fields.get(column)).map_or("", |name| name.trim());
        let mut row = Row { at, delay: 0, input, output, session: NONE };
        if !name.is_empty() {
            let explicit = match layout.delay {
                Some(column) if fields.get(column).is_some_and(|text| !text.trim().is_empty()) => {
                    Some(time(column, "delay")?)
                }
                _ => None,
            };
            let elapsed = layout.elapsed.map_or(Ok(0), |column| time(column, "elapsed"))?;
            self.join(path, line, &mut row, name, explicit, elapsed)?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Makes a row the next turn of its session.
    fn join(
        &mut self,
        path: &Path,
        line: usize,
        row: &mut Row,
        name: &str,
        delay: Option<i64>,
        elapsed: i64,
    ) -> Result<(), WorkloadError> {
        let sessions = &mut self.sessions;
        let end = row.at.saturating_add(elapsed.max(0));
        match sessions.by_name.get(name) {
            Some(index) => {
                row.session = *index;
                if let Some(last) = sessions.last.get_mut(*index as usize) {
                    let (before, ended) = std::mem::replace(last, (row.at, end));
                    if delay.is_none() && row.at < before {
                        let cause = format!("lies before the arrival of the row before it in session `{name}`");
                        return Err(WorkloadError::field(path, line, "arrival", cause, "sort the rows by time"));
                    }
                    // Turns that overlap in the record follow each other at once.
                    row.delay = delay.unwrap_or_else(|| row.at.saturating_sub(ended).max(0));
                }
            }
            None => {
                let Ok(index) = u32::try_from(sessions.names.len()) else {
                    let cause = "the trace has too many sessions";
                    return Err(WorkloadError::field(path, line, "session", cause, "split the trace"));
                };
                row.session = index;
                sessions.by_name.insert(name.into(), index);
                sessions.names.push(name.into());
                sessions.last.push((row.at, end));
                row.delay = delay.unwrap_or(0);
            }
        }
        if row.delay < 0 {
            let cause = format!("is {} ms", row.delay as f64 / NS_PER_MS);
            return Err(WorkloadError::field(path, line, "delay", cause, "give a wait of zero or more"));
        }
        Ok(())
    }

    fn into_workload(mut self, files: &[PathBuf], options: &TraceOptions) -> Result<Workload, WorkloadError> {
        let path = files.first().map_or(Path::new(""), PathBuf::as_path);
        checks::row_count(path, self.rows.len())?;
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.failed.note("left out because the request failed (no response tokens)"));
        notes.extend(self.silent.note("without output tokens"));
        let mut timed = self.timed.unwrap_or(false);
        if timed && options.reading.arrivals.is_some() {
            let cause = "is for traces without arrivals, but this one has a column of them";
            return Err(WorkloadError::setting(
                "request-rate",
                cause,
                "leave `request-rate` and `arrival-interval-ms` out",
            ));
        }
        let mut starts = self.starts();
        if let (false, Some(arrivals)) = (timed, options.reading.arrivals) {
            timed = true;
            let times =
                synthetic::arrival_times(Some(arrivals), options.reading.arrival_seed, starts.len() as u32, 1.0)?;
            for (start, at) in starts.iter_mut().zip(times) {
                start.at = i64::try_from(at.as_nanos()).unwrap_or(i64::MAX);
            }
        }
        if let Some(window) = &options.reading.window {
            keep(&mut starts, window, timed)?;
        }
        let single = starts.iter().all(|start| start.turns == 1);
        let flat = single && options.concurrency.is_none();
        if flat {
            // Stable: rows that arrive together stay in the order of the files.
            starts.sort_by_key(|start| start.at);
        }
        let earliest = starts.iter().map(|start| start.at).min().unwrap_or(0);
        let mut requests = Vec::with_capacity(self.rows.len());
        let mut sessions = Vec::new();
        for start in &starts {
            let arrival = match options.concurrency {
                Some(_) => 0,
                None => scale(path, i128::from(start.at) - i128::from(earliest), options.speedup)?,
            };
            let first = requests.len() as u32;
            let rows = self.rows.get(start.first as usize..(start.first + start.turns) as usize).unwrap_or_default();
            for (turn, row) in rows.iter().enumerate() {
                let delay = if turn == 0 { 0 } else { scale(path, i128::from(row.delay), options.think_speedup())? };
                requests.push(RequestSpec {
                    arrival: SimTime::from_nanos(arrival),
                    delay: SimDuration::from_nanos(delay),
                    prompt_tokens: row.input,
                    output_tokens: row.output,
                });
            }
            if !flat {
                let name = self.sessions.names.get(start.session as usize).cloned();
                let name = name.unwrap_or_else(|| format!("request_{}", start.number + 1).into());
                sessions.push(Session { name, first, turns: start.turns });
            }
        }
        let release = match flat {
            true => Release::Flat,
            false => Release::Sessions { sessions, concurrency: options.concurrency, named: true },
        };
        Ok(Workload {
            requests,
            release,
            content: Content::Unique,
            planned_outputs: true,
            timed,
            hints: RouterHints::default(),
            notes,
        })
    }

    /// Sessions and lone requests in order of first appearance; puts the turns of each side by side.
    fn starts(&mut self) -> Vec<Start> {
        let mut starts: Vec<Start> = Vec::with_capacity(self.rows.len());
        let mut start_of = vec![NONE; self.sessions.names.len()];
        let mut order: Vec<u32> = Vec::with_capacity(if start_of.is_empty() { 0 } else { self.rows.len() });
        for (number, row) in (0..).zip(&self.rows) {
            let known = start_of.get(row.session as usize).copied().filter(|start| *start != NONE);
            if let Some(start) = known.and_then(|start| starts.get_mut(start as usize)) {
                start.turns += 1;
            } else {
                if let Some(slot) = start_of.get_mut(row.session as usize) {
                    *slot = starts.len() as u32;
                }
                starts.push(Start { at: row.at, number, first: number, turns: 1, session: row.session });
            }
            if !start_of.is_empty() {
                order.push(known.unwrap_or(starts.len() as u32 - 1));
            }
        }
        if starts.len() < self.rows.len() {
            // Stable: the turns of a session stay in the order of the files.
            let mut rows: Vec<(u32, Row)> = order.into_iter().zip(std::mem::take(&mut self.rows)).collect();
            rows.sort_by_key(|(start, _)| *start);
            self.rows = rows.into_iter().map(|(_, row)| row).collect();
            let mut first = 0;
            for start in &mut starts {
                start.first = first;
                first += start.turns;
            }
        }
        starts
    }
}

/// The first turn of a session, or a lone request.
#[derive(Debug)]
struct Start {
    /// Arrival in nanoseconds, on the clock of the trace.
    at: i64,
    /// Which row of the trace it is, from 0.
    number: u32,
    /// Where its turns begin.
    first: u32,
    turns: u32,
    /// Index of its session, or [`NONE`].
    session: u32,
}

/// Leaves what begins in the part of the trace that is wanted.
fn keep(starts: &mut Vec<Start>, window: &TraceWindow, timed: bool) -> Result<(), WorkloadError> {
    if !timed {
        let cause = "is given, but the trace has no arrival times";
        return Err(WorkloadError::setting("trace-window", cause, "leave it out"));
    }
    let earliest = starts.iter().map(|start| start.at).min().unwrap_or(0);
    starts.retain(|start| window.contains_ms((i128::from(start.at) - i128::from(earliest)) as f64 / NS_PER_MS));
    if starts.is_empty() { Err(checks::empty_window(window)) } else { Ok(()) }
}

/// Nanoseconds divided by the speed-up, exact if there is none.
fn scale(path: &Path, ns: i128, speedup: f64) -> Result<u64, WorkloadError> {
    let scaled = if speedup == 1.0 {
        u64::try_from(ns).ok()
    } else {
        SimDuration::from_ms(ns as f64 / NS_PER_MS / speedup).ok().map(SimDuration::as_nanos)
    };
    scaled.ok_or_else(|| {
        let cause = format!("a time of {} ms is beyond the clock (1.8e13 ms)", ns as f64 / NS_PER_MS / speedup);
        WorkloadError::file(path, cause, "check the unit of times (`csv-time-unit`) and the speed-up")
    })
}

/// A count of tokens; some tools write whole numbers with a point and zeros.
fn count(path: &Path, line: usize, role: &'static str, text: &str) -> Result<u64, WorkloadError> {
    let whole = |text: &str| {
        let (whole, zeros) = text.split_once('.')?;
        whole.parse().ok().filter(|_| zeros.bytes().all(|b| b == b'0'))
    };
    text.parse().ok().or_else(|| whole(text)).ok_or_else(|| {
        let cause = format!("\"{}\" is no number of tokens", text.escape_debug());
        WorkloadError::field(path, line, role, cause, "give a whole number of tokens")
    })
}
