//! Mooncake JSON Lines traces.
//!
//! A file is parsed line by line into compact rows; [`Rows::into_workload`] then puts the turns of a session side by
//! side, moves and scales arrivals, and finds out which prompts begin alike.

use std::path::Path;

use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::checks::{self, Tally};
use super::grouping::{Group, Groups};
use super::hints::HintBuilder;
use super::intern::Interner;
use super::model::{MAX_TOKENS, Release, RequestSpec, Session, Workload};
use super::options::TraceOptions;
use super::prompts::PromptTable;
use super::row::{self, Buffers, Row};
use super::scan;
use super::source::{Source, lines};

/// Reads a trace of whole prompts, or of what each turn adds.
pub(super) fn load(source: &Source, delta: bool, options: &TraceOptions) -> Result<Workload, WorkloadError> {
    let mut notes = Vec::new();
    let text = source.text(&mut notes)?;
    let path = source.path.as_path();
    let mut rows = Rows::new(path, options.block_size(), text.len());
    let mut buffers = Buffers::default();
    for (line, content) in lines(text) {
        let row = read_row(path, line, content, &mut buffers)?;
        rows.push(line, row, &buffers)?;
    }
    rows.into_workload(delta, options, notes)
}

/// Parses one line, fast if it has the usual form.
pub(super) fn read_row<'a>(
    path: &Path,
    line: usize,
    content: &'a str,
    buffers: &mut Buffers,
) -> Result<Row<'a>, WorkloadError> {
    match scan::parse(content, buffers) {
        Some(row) => Ok(row),
        None => row::parse(content, buffers).map_err(|error| WorkloadError::json(path, line, buffers.field, &error)),
    }
}

/// A row, reduced; its prompt is at the same place of [`Rows::prompts`].
#[derive(Debug)]
struct Turn {
    line: usize,
    session: u32,
    delay_ms: f64,
    input: u32,
    output: u32,
}

/// The rows of a trace in file order.
#[derive(Debug)]
struct Rows<'a> {
    path: &'a Path,
    interner: Interner,
    groups: Groups<'a>,
    turns: Vec<Turn>,
    prompts: PromptTable,
    hints: HintBuilder,
    shortened: Tally,
    silent: Tally,
}

impl<'a> Rows<'a> {
    fn new(path: &'a Path, block_size: u32, file_size: usize) -> Self {
        Self {
            path,
            interner: Interner::new(file_size),
            groups: Groups::default(),
            turns: Vec::new(),
            prompts: PromptTable::new(block_size),
            hints: HintBuilder::default(),
            shortened: Tally::default(),
            silent: Tally::default(),
        }
    }

    fn push(&mut self, line: usize, row: Row<'a>, buffers: &Buffers) -> Result<(), WorkloadError> {
        let input = self.prompt_length(line, row.input_length, buffers.hash_ids.len() as u64)?;
        let output = checks::output_tokens(self.path, line, row.output_length)?;
        if output == 0 {
            self.silent.add(line);
        }
        let used = input.div_ceil(self.prompts.block_size) as usize;
        if self.prompts.push_ids(&mut self.interner, &buffers.hash_ids, used).is_none() {
            return Err(self.error(line, "hash_ids", "the trace has too many ids", "split the trace"));
        }
        if row.authored {
            checks::authored(self.path, line, &buffers.output_token_ids, output)?;
            self.prompts.author(&buffers.output_token_ids);
        }
        self.hints.add(self.turns.len(), row.priority, row.strict_priority, row.policy_class.as_deref());
        let (session, delay_ms) = self.place(line, row)?;
        self.turns.push(Turn { line, session, delay_ms, input, output });
        Ok(())
    }

    /// Prompt tokens of a row with `ids` hash ids.
    fn prompt_length(&mut self, line: usize, given: Option<u64>, ids: u64) -> Result<u32, WorkloadError> {
        if ids == 0 {
            let cure = "give one id per block of the prompt";
            return Err(self.error(line, "hash_ids", "missing or empty", cure));
        }
        let capacity = ids.saturating_mul(u64::from(self.prompts.block_size));
        if given.is_some_and(|g| g > capacity) {
            self.shortened.add(line);
        }
        checks::prompt_tokens(self.path, line, "input_length", given.unwrap_or(capacity).min(capacity))
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
            delay = checks::wait_ms(path, line, "delay", wait)?;
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
        delta: bool,
        options: &TraceOptions,
        mut notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        checks::row_count(self.path, self.turns.len())?;
        notes.extend(self.shortened.note("shortened to the capacity of the hash ids"));
        notes.extend(self.silent.note("without output tokens"));
        let concurrency = options.concurrency;
        let kept = self.keep(options)?;
        let kept = |session: u32| kept.as_ref().is_none_or(|k| k.get(session as usize).is_some_and(|k| *k));
        let groups: Vec<&Group<'_>> = (0..).zip(&self.groups.all).filter(|(s, _)| kept(*s)).map(|(_, g)| g).collect();
        let single = groups.iter().all(|g| g.turns == 1);
        let earliest = groups.iter().filter_map(|g| g.first_ms).fold(f64::INFINITY, f64::min);
        if concurrency.is_none() && earliest < 0.0 {
            notes.push(format!("timestamps begin at {earliest} ms and were moved to begin at 0"));
        }
        let mut order: Vec<u32> =
            (0..).zip(&self.turns).filter(|(_, turn)| kept(turn.session)).map(|(index, _)| index).collect();
        if !single {
            // Stable: the turns of a session stay in file order.
            order.sort_by_key(|index| self.turn(*index).map(|turn| turn.session));
        }
        let mut requests = Vec::with_capacity(order.len());
        for turn in order.iter().filter_map(|index| self.turn(*index)) {
            let arrival = match concurrency {
                Some(_) => SimTime::ZERO,
                None => self.arrival(turn.session, earliest, options.speedup)?,
            };
            let delay = SimDuration::from_ms(turn.delay_ms / options.think_speedup())
                .map_err(|e| self.error(turn.line, "delay", e.to_string(), "shorten the think time"))?;
            requests.push(RequestSpec { arrival, delay, prompt_tokens: turn.input, output_tokens: turn.output });
        }
        let flat = single && concurrency.is_none();
        if flat {
            // Stable: rows that arrive together stay in file order.
            let mut by_time: Vec<(RequestSpec, u32)> = requests.into_iter().zip(order).collect();
            by_time.sort_by_key(|(request, _)| request.arrival);
            (requests, order) = by_time.into_iter().unzip();
        }
        let delta = delta && !single;
        if delta {
            self.check_growth(order.iter().filter_map(|index| self.turn(*index)))?;
        }
        let prompts = order.iter().zip(&requests).map(|(index, request)| (*index, request.prompt_tokens));
        let content = self.prompts.content(prompts, self.interner.len(), delta);
        let release = if flat { Release::Flat } else { sessions(&groups, concurrency) };
        let hints = self.hints.reordered(&order);
        Ok(Workload { requests, release, content, planned_outputs: true, timed: true, hints, notes })
    }

    fn turn(&self, index: u32) -> Option<&Turn> {
        self.turns.get(index as usize)
    }

    /// For every session whether it begins in the part of the trace that is wanted; nothing if all of it is.
    fn keep(&self, options: &TraceOptions) -> Result<Option<Vec<bool>>, WorkloadError> {
        let Some(window) = &options.reading.window else { return Ok(None) };
        let earliest = self.groups.all.iter().filter_map(|g| g.first_ms).fold(f64::INFINITY, f64::min);
        let inside = |group: &Group<'_>| match group.first_ms {
            Some(first) => Ok(window.contains_ms(first - earliest)),
            None => Err(self.without_timestamp(group, "add it, or leave `trace-window` out")),
        };
        let kept: Vec<bool> = self.groups.all.iter().map(inside).collect::<Result<_, _>>()?;
        if kept.contains(&true) { Ok(Some(kept)) } else { Err(checks::empty_window(window)) }
    }

    /// Arrival of a session, counted from the earliest.
    fn arrival(&self, session: u32, earliest: f64, speedup: f64) -> Result<SimTime, WorkloadError> {
        let Some(group) = self.groups.all.get(session as usize) else { return Ok(SimTime::ZERO) };
        let Some(first) = group.first_ms else {
            return Err(self.without_timestamp(group, "add it, or run a closed loop, which needs no timestamps"));
        };
        SimTime::from_ms((first - earliest) / speedup)
            .map_err(|error| self.error(group.line, "timestamp", checks::too_late(error), "give milliseconds"))
    }

    fn without_timestamp(&self, group: &Group<'_>, cure: &str) -> WorkloadError {
        let cause = format!("missing in the first row of session `{}`", group.name());
        self.error(group.line, "timestamp", cause, cure)
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
                let cause = format!("with all before it the session {}", checks::over_limit(context));
                return Err(self.error(turn.line, "input_length", cause, "shorten the session"));
            }
        }
        Ok(())
    }
}

fn sessions(groups: &[&Group<'_>], concurrency: Option<u32>) -> Release {
    let mut first = 0;
    let session = |group: &&Group<'_>| {
        let start = first;
        first += group.turns;
        Session { name: group.name(), first: start, turns: group.turns }
    };
    Release::Sessions { sessions: groups.iter().map(session).collect(), concurrency, named: true }
}
