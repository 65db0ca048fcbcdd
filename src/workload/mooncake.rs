//! Mooncake JSON Lines traces.
//!
//! A file is read once and parsed line by line into compact rows; [`Rows::into_workload`] then puts the turns of a
//! session side by side, moves and scales arrivals, and finds out which prompts begin alike.

use std::path::Path;

use crate::scenario::TraceFormat;
use crate::time::{SimDuration, SimTime, TimeRangeError};

use super::WorkloadError;
use super::content::{Content, PromptTrie, TokenStreams};
use super::grouping::{Group, Groups};
use super::hints::HintBuilder;
use super::intern::Interner;
use super::model::{MAX_TOKENS, Release, RequestSpec, Session, Workload};
use super::row::{self, Buffers, Row};
use super::scan;

/// Reads `path`. `block_size` is the number of tokens per hash id.
pub(super) fn load(
    path: &Path,
    format: TraceFormat,
    block_size: u32,
    concurrency: Option<u32>,
    speedup: f64,
) -> Result<Workload, WorkloadError> {
    let bytes = std::fs::read(path).map_err(|source| WorkloadError::Read { path: path.to_owned(), source })?;
    let mut notes = Vec::new();
    let text = decode(path, &bytes, &mut notes)?;
    let mut rows = Rows::new(path, block_size.max(1), text.len());
    let mut buffers = Buffers::default();
    for (line, content) in (1..).zip(text.split('\n')) {
        // Blank lines still count for line numbers.
        if !content.trim_start().is_empty() {
            let row = match scan::parse(content, &mut buffers) {
                Some(row) => row,
                None => row::parse(content, &mut buffers)
                    .map_err(|error| WorkloadError::json(path, line, buffers.field, &error))?,
            };
            rows.push(line, row, &buffers)?;
        }
    }
    rows.into_workload(format, concurrency, speedup, notes)
}

/// The bytes as text, without a byte-order mark.
fn decode<'a>(path: &Path, bytes: &'a [u8], notes: &mut Vec<String>) -> Result<&'a str, WorkloadError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        WorkloadError::Row {
            path: path.to_owned(),
            line: before.iter().filter(|b| **b == b'\n').count() + 1,
            column: Some(before.len() - line_start + 1),
            field: None,
            cause: "not UTF-8".to_owned(),
            cure: "a trace is a text file in UTF-8 (unpack it first if it is compressed)".to_owned(),
        }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => {
            notes.push("the byte-order mark at the beginning of the trace was skipped".to_owned());
            rest
        }
        None => text,
    })
}

/// A row, reduced.
#[derive(Debug)]
struct Turn {
    line: usize,
    session: u32,
    delay_ms: f64,
    input: u32,
    output: u32,
    /// Where its ids end in [`Rows::ids`]; they begin where those of the row before end.
    ids_end: u32,
    /// Where its authored output tokens are in [`Rows::tokens`], if it has any.
    authored: Option<(usize, usize)>,
}

/// Rows that were shortened or otherwise worth a note.
#[derive(Debug, Default)]
struct Tally {
    count: usize,
    first_line: usize,
}

impl Tally {
    fn add(&mut self, line: usize) {
        if self.count == 0 {
            self.first_line = line;
        }
        self.count += 1;
    }

    fn note(&self, what: &str) -> Option<String> {
        let rows = if self.count == 1 { "row was" } else { "rows were" };
        (self.count > 0).then(|| format!("{} {rows} {what}, first at line {}", self.count, self.first_line))
    }
}

/// The rows of a trace in file order.
#[derive(Debug)]
struct Rows<'a> {
    path: &'a Path,
    block_size: u32,
    interner: Interner,
    groups: Groups<'a>,
    turns: Vec<Turn>,
    /// Interned ids of all rows, one after another; ids beyond a prompt's length are left out.
    ids: Vec<u32>,
    /// Authored output tokens of all rows, one after another.
    tokens: Vec<u32>,
    hints: HintBuilder,
    shortened: Tally,
    silent: Tally,
}

impl<'a> Rows<'a> {
    fn new(path: &'a Path, block_size: u32, file_size: usize) -> Self {
        Self {
            path,
            block_size,
            interner: Interner::new(file_size),
            groups: Groups::default(),
            turns: Vec::new(),
            ids: Vec::new(),
            tokens: Vec::new(),
            hints: HintBuilder::default(),
            shortened: Tally::default(),
            silent: Tally::default(),
        }
    }

    fn push(&mut self, line: usize, row: Row<'a>, buffers: &Buffers) -> Result<(), WorkloadError> {
        let input = self.prompt_length(line, row.input_length, buffers.hash_ids.len() as u64)?;
        let output = self.output_length(line, row.output_length)?;
        if output == 0 {
            self.silent.add(line);
        }
        let path = self.path;
        let too_many = || WorkloadError::field(path, line, "hash_ids", "the trace has too many ids", "split the trace");
        let used = input.div_ceil(self.block_size) as usize;
        // Ids that the prompt does not reach are numbered too, as in the reference.
        for (index, id) in buffers.hash_ids.iter().enumerate() {
            let Some(number) = self.interner.number(*id) else { return Err(too_many()) };
            if index < used {
                self.ids.push(number);
            }
        }
        // The tree has at most one node per id, numbered with u32.
        let Ok(ids_end) = u32::try_from(self.ids.len()) else { return Err(too_many()) };
        let authored = if row.authored {
            let count = buffers.output_token_ids.len();
            if count as u64 != u64::from(output) {
                let cause = format!("{count} output tokens are listed, but `output_length` is {output}");
                return Err(self.error(line, "output_token_ids", cause, "list exactly `output_length` tokens"));
            }
            let start = self.tokens.len();
            self.tokens.extend_from_slice(&buffers.output_token_ids);
            (count > 0).then_some((start, start + count))
        } else {
            None
        };
        self.hints.add(self.turns.len(), row.priority, row.strict_priority, row.policy_class.as_deref());
        let (session, delay_ms) = self.place(line, row)?;
        self.turns.push(Turn { line, session, delay_ms, input, output, ids_end, authored });
        Ok(())
    }

    /// Prompt tokens of a row with `ids` hash ids.
    fn prompt_length(&mut self, line: usize, given: Option<u64>, ids: u64) -> Result<u32, WorkloadError> {
        if ids == 0 {
            let cure = "give one id per block of the prompt";
            return Err(self.error(line, "hash_ids", "missing or empty", cure));
        }
        let capacity = ids.saturating_mul(u64::from(self.block_size));
        let length = given.unwrap_or(capacity).min(capacity);
        if given.is_some_and(|g| g > capacity) {
            self.shortened.add(line);
        }
        match u32::try_from(length) {
            Ok(0) => Err(self.error(line, "input_length", "is 0", "a prompt has at least one token")),
            Ok(tokens) if tokens <= MAX_TOKENS => Ok(tokens),
            _ => Err(self.error(line, "input_length", over_limit(length), "shorten the prompt")),
        }
    }

    fn output_length(&self, line: usize, given: Option<u64>) -> Result<u32, WorkloadError> {
        let Some(length) = given else {
            let cure = "give the number of tokens to generate";
            return Err(self.error(line, "output_length", "missing", cure));
        };
        match u32::try_from(length) {
            Ok(tokens) if tokens <= MAX_TOKENS => Ok(tokens),
            _ => Err(self.error(line, "output_length", over_limit(length), "shorten the output")),
        }
    }

    /// Session of a row and think time before it.
    fn place(&mut self, line: usize, row: Row<'a>) -> Result<(u32, f64), WorkloadError> {
        let path = self.path;
        let error = |field, cause: String, cure: &str| WorkloadError::field(path, line, field, cause, cure);
        let found = self.groups.find(line, row.session_id);
        let Some((session, group)) = found.and_then(|s| Some((s, self.groups.all.get_mut(s as usize)?))) else {
            return Err(error("session_id", "the trace has too many sessions".to_owned(), "split the trace"));
        };
        let mut delay = 0.0;
        if group.turns == 0 {
            if let Some(wait) = row.delay.filter(|d| *d != 0.0) {
                let cause = format!("is {wait} in the first row of a session, where nothing can be waited for");
                return Err(error("delay", cause, "leave it out there; use `timestamp` to start a session later"));
            }
            group.first_ms = row.timestamp;
        } else if let Some(wait) = row.delay {
            if !(wait.is_finite() && wait >= 0.0) {
                return Err(error("delay", format!("is {wait} ms"), "give a think time of zero or more"));
            }
            delay = wait;
        } else if let Some(timestamp) = row.timestamp {
            let Some(last) = group.last_ms else {
                let cause = "no earlier row of the session has a timestamp to count the think time from".to_owned();
                return Err(error("timestamp", cause, "give `delay` instead, or a timestamp in the first row"));
            };
            delay = timestamp - last;
            if !(delay.is_finite() && delay >= 0.0) {
                let cause = format!("{timestamp} lies {} ms before the session's previous timestamp {last}", -delay);
                return Err(error("timestamp", cause, "put the turns of a session in the order of time"));
            }
        }
        group.last_ms = row.timestamp.or(group.last_ms);
        let Some(turns) = group.turns.checked_add(1) else {
            return Err(error("session_id", "the session has too many turns".to_owned(), "split the session"));
        };
        group.turns = turns;
        Ok((session, delay))
    }

    fn error(&self, line: usize, field: &'static str, cause: impl Into<String>, cure: &str) -> WorkloadError {
        WorkloadError::field(self.path, line, field, cause, cure)
    }

    fn into_workload(
        self,
        format: TraceFormat,
        concurrency: Option<u32>,
        speedup: f64,
        mut notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        if self.turns.is_empty() || u32::try_from(self.turns.len()).is_err() {
            let cause = if self.turns.is_empty() { "no rows" } else { "more than 4294967295 rows" };
            return Err(WorkloadError::file(self.path, cause, "a trace holds one JSON object per line"));
        }
        notes.extend(self.shortened.note("shortened to the capacity of the hash ids"));
        notes.extend(self.silent.note("without output tokens"));
        let single = self.groups.all.iter().all(|g| g.turns == 1);
        let arrivals = match concurrency {
            Some(_) => vec![SimTime::ZERO; self.groups.all.len()],
            None => self.arrivals(speedup, &mut notes)?,
        };
        let think_speedup = if concurrency.is_none() { speedup } else { 1.0 };
        let mut order = self.order(single);
        let flat = single && concurrency.is_none();
        let arrival = |turn: &Turn| arrivals.get(turn.session as usize).copied().unwrap_or_default();
        if flat {
            // Stable: rows that arrive together stay in file order.
            order.sort_by_key(|index| self.turns.get(*index as usize).map(arrival));
        }
        let turns = || order.iter().filter_map(|index| Some((*index, self.turns.get(*index as usize)?)));
        let mut requests = Vec::with_capacity(order.len());
        for (_, turn) in turns() {
            let delay = SimDuration::from_ms(turn.delay_ms / think_speedup)
                .map_err(|e| self.error(turn.line, "delay", e.to_string(), "shorten the think time"))?;
            requests.push(RequestSpec {
                arrival: arrival(turn),
                delay,
                prompt_tokens: turn.input,
                output_tokens: turn.output,
            });
        }
        let delta = format == TraceFormat::MooncakeDelta && !single;
        if delta {
            self.check_growth(turns().map(|(_, turn)| turn))?;
        }
        let content = if delta || !self.tokens.is_empty() {
            let (prompts, outputs) = turns().map(|(index, turn)| (self.runs(index, turn), self.authored(turn))).unzip();
            Content::Streams(TokenStreams { delta, prompts, outputs })
        } else {
            let prompts = order.iter().map(|index| self.ids_of(*index));
            Content::Trie(PromptTrie::build(self.block_size, self.interner.len(), prompts))
        };
        let release = if flat { Release::Flat } else { self.sessions(concurrency) };
        let hints = self.hints.finish().reordered(&order);
        Ok(Workload { requests, release, content, planned_outputs: true, hints, notes })
    }

    /// Arrival of every session, counted from the earliest.
    fn arrivals(&self, speedup: f64, notes: &mut Vec<String>) -> Result<Vec<SimTime>, WorkloadError> {
        let earliest = self.groups.all.iter().filter_map(|g| g.first_ms).fold(f64::INFINITY, f64::min);
        if earliest < 0.0 {
            notes.push(format!("timestamps begin at {earliest} ms and were moved to begin at 0"));
        }
        let arrival = |group: &Group<'_>| {
            let Some(first) = group.first_ms else {
                let cause = format!("missing in the first row of session `{}`", group.name());
                let cure = "add it, or run a closed loop, which needs no timestamps";
                return Err(self.error(group.line, "timestamp", cause, cure));
            };
            SimTime::from_ms((first - earliest) / speedup).map_err(|TimeRangeError(ms)| {
                let cause = format!("puts the arrival {ms} ms after the first one, beyond the clock (1.8e13 ms)");
                self.error(group.line, "timestamp", cause, "give milliseconds")
            })
        };
        self.groups.all.iter().map(arrival).collect()
    }

    /// Row indices with the turns of each session side by side, sessions in order of first appearance.
    fn order(&self, single: bool) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.turns.len()).collect();
        if !single {
            order.sort_by_key(|index| self.turns.get(*index as usize).map(|t| t.session));
        }
        order
    }

    /// A delta session's context is all that was said before, so it can outgrow the limit although no row does.
    fn check_growth<'t>(&self, turns: impl Iterator<Item = &'t Turn>) -> Result<(), WorkloadError> {
        let (mut session, mut context) = (None, 0_u64);
        for turn in turns {
            if session != Some(turn.session) {
                (session, context) = (Some(turn.session), 0);
            }
            context += u64::from(turn.input) + u64::from(turn.output);
            if context > u64::from(MAX_TOKENS) {
                let cause = format!("with all before it the session {}", over_limit(context));
                return Err(self.error(turn.line, "input_length", cause, "shorten the session"));
            }
        }
        Ok(())
    }

    fn ids_of(&self, index: u32) -> &[u32] {
        let end_of = |i: u32| self.turns.get(i as usize).map_or(0, |t| t.ids_end as usize);
        let start = index.checked_sub(1).map_or(0, end_of);
        self.ids.get(start..end_of(index)).unwrap_or_default()
    }

    /// Runs of equal tokens that make up the prompt of a row.
    fn runs(&self, index: u32, turn: &Turn) -> Box<[(u32, u32)]> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut left = turn.input;
        for id in self.ids_of(index) {
            let count = left.min(self.block_size);
            left -= count;
            match runs.last_mut() {
                Some((last, n)) if last == id => *n += count,
                _ => runs.push((*id, count)),
            }
        }
        runs.into()
    }

    fn authored(&self, turn: &Turn) -> Option<Box<[u32]>> {
        turn.authored.and_then(|(start, end)| self.tokens.get(start..end)).map(Into::into)
    }

    fn sessions(&self, concurrency: Option<u32>) -> Release {
        let mut first = 0;
        let session = |group: &Group<'_>| {
            let start = first;
            first += group.turns;
            Session { name: group.name(), first: start, turns: group.turns }
        };
        Release::Sessions { sessions: self.groups.all.iter().map(session).collect(), concurrency, named: true }
    }
}

fn over_limit(length: u64) -> String {
    format!("has {length} tokens, more than the limit of {MAX_TOKENS}")
}
