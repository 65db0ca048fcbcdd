//! Traces whose rows wait for the end of others (`agentic_mooncake`), and the graph that such traces come to.
//!
//! A row without `wait_for` arrives at its timestamp. Any other becomes ready when the last request it waits for has
//! ended, plus `delay` and `tool_wait_ms`; its timestamp counts for nothing but the start of the clock. No rule looks at
//! more than one row and those it names, so chains may be as long as memory allows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::checks::{self, Tally};
use super::graph::{Graph, Links, SessionTurns};
use super::hints::HintBuilder;
use super::intern::Interner;
use super::model::{Release, RequestSpec, Workload};
use super::mooncake::read_row;
use super::options::TraceOptions;
use super::prompts::PromptTable;
use super::row::{Buffers, Row};
use super::source::{Source, lines};

/// Reads a trace.
pub(super) fn load(source: &Source, options: &TraceOptions) -> Result<Workload, WorkloadError> {
    let mut notes = Vec::new();
    let text = source.text(&mut notes)?;
    let mut rows = Rows::new(&source.path, options.block_size(), text.len());
    let mut buffers = Buffers { agentic: true, ..Buffers::default() };
    for (line, content) in lines(text) {
        let row = read_row(&source.path, line, content, &mut buffers)?;
        rows.push(line, row, &buffers)?;
    }
    rows.into_workload(options, notes)
}

/// The rows of a trace in file order.
struct Rows<'a> {
    path: &'a Path,
    interner: Interner,
    /// Row of each request id.
    by_name: HashMap<Cow<'a, str>, u32>,
    /// Whom each row waits for, one list after another, and where each list ends.
    wait_for: Vec<Cow<'a, str>>,
    wait_ends: Vec<usize>,
    lines: Vec<usize>,
    graph: GraphRows,
    silent: Tally,
}

impl<'a> Rows<'a> {
    fn new(path: &'a Path, block_size: u32, file_size: usize) -> Self {
        Self {
            path,
            interner: Interner::new(file_size),
            by_name: HashMap::new(),
            wait_for: Vec::new(),
            wait_ends: Vec::new(),
            lines: Vec::new(),
            graph: GraphRows::new(block_size),
            silent: Tally::default(),
        }
    }

    fn push(&mut self, line: usize, row: Row<'a>, buffers: &Buffers) -> Result<(), WorkloadError> {
        let path = self.path;
        let error = |field, cause: String, cure: &str| WorkloadError::field(path, line, field, cause, cure);
        let Some(name) = row.request_id.filter(|name| !name.trim().is_empty()) else {
            return Err(error("request_id", "missing or empty".to_owned(), "give every row an id of its own"));
        };
        let index = checks::row_count(path, self.lines.len() + 1)? - 1;
        if let Some(first) = self.by_name.insert(name.clone(), index) {
            let first = self.lines.get(first as usize).copied().unwrap_or_default();
            let cause = format!("`{name}` is the id of the row at line {first}, too");
            return Err(error("request_id", cause, "give every row an id of its own"));
        }
        if !row.hashed {
            return Err(error("hash_ids", "missing".to_owned(), "give one id per block of the prompt"));
        }
        let input = self.prompt_length(line, row.input_length, buffers.hash_ids.len() as u64)?;
        let output = checks::output_tokens(path, line, row.output_length)?;
        if output == 0 {
            self.silent.add(line);
        }
        let ready_ms = match row.timestamp {
            Some(ms) => Some(checks::wait_ms(path, line, "timestamp", ms)?),
            None => None,
        };
        // Either may be negative as long as both together are not.
        let delay_ms = row.delay.unwrap_or(0.0) + row.tool_wait_ms.unwrap_or(0.0);
        let delay_ms = checks::wait_ms(path, line, "delay", delay_ms)?;
        let used = input.div_ceil(self.graph.prompts.block_size) as usize;
        if self.graph.prompts.push_ids(&mut self.interner, &buffers.hash_ids, used).is_none() {
            return Err(error("hash_ids", "the trace has too many ids".to_owned(), "split the trace"));
        }
        if row.authored {
            checks::authored(path, line, &buffers.output_token_ids, output)?;
            self.graph.prompts.author(&buffers.output_token_ids);
        }
        self.graph.hints.add(self.graph.len(), row.priority, row.strict_priority, row.policy_class.as_deref());
        let session = row.session_id.unwrap_or_else(|| format!("request_{line}").into());
        self.graph.push(GraphRow { ready_ms, delay_ms, input, output }, &session);
        self.wait_for.extend(row.wait_for);
        self.wait_ends.push(self.wait_for.len());
        self.lines.push(line);
        Ok(())
    }

    fn prompt_length(&self, line: usize, given: Option<u64>, ids: u64) -> Result<u32, WorkloadError> {
        let capacity = ids.saturating_mul(u64::from(self.graph.prompts.block_size));
        let length = given.unwrap_or(capacity);
        if length > capacity {
            let cause = format!("is {length}, but {ids} hash ids stand for {capacity} tokens");
            return Err(WorkloadError::field(self.path, line, "input_length", cause, "give an id per block"));
        }
        checks::prompt_tokens(self.path, line, "input_length", length)
    }

    fn into_workload(mut self, options: &TraceOptions, mut notes: Vec<String>) -> Result<Workload, WorkloadError> {
        checks::row_count(self.path, self.lines.len())?;
        notes.extend(self.silent.note("without output tokens"));
        let path = self.path;
        let mut start = 0;
        for (index, (end, line)) in (0..).zip(self.wait_ends.iter().zip(&self.lines)) {
            let error = |cause: String, cure: &str| WorkloadError::field(path, *line, "wait_for", cause, cure);
            let mut waits = Vec::new();
            for name in self.wait_for.get(start..*end).unwrap_or_default() {
                match self.by_name.get(name) {
                    Some(other) if *other == index => {
                        return Err(error(format!("`{name}` would wait for itself"), "remove it from the list"));
                    }
                    Some(other) => waits.push(*other),
                    None => {
                        let cause = format!("there is no request `{name}`");
                        return Err(error(cause, "name requests of this file only"));
                    }
                }
            }
            if self.graph.waits_for.push(waits).is_none() {
                return Err(error("the trace has too many dependencies".to_owned(), "split the trace"));
            }
            start = *end;
        }
        if let Some(request) = self.graph.waits_for.cycle() {
            let line = self.lines.get(request as usize).copied().unwrap_or_default();
            let cause = "the request would wait for itself by way of others";
            return Err(WorkloadError::field(path, line, "wait_for", cause, "break the cycle"));
        }
        let lines = self.lines;
        let at = |request: usize| lines.get(request).copied().unwrap_or_default();
        let place = |request: usize, field, cause: String| {
            WorkloadError::field(path, at(request), field, cause, "give milliseconds")
        };
        let release = GraphRelease { sessions_at_once: None, ignores_time_cap: true, timed: true };
        self.graph.into_workload(self.interner.len(), options, release, place, notes)
    }
}

/// A request of a graph, reduced; its prompt is at the same place of [`GraphRows::prompts`].
#[derive(Debug, Clone, Copy)]
pub(super) struct GraphRow {
    /// Arrival of a request that waits for nobody, milliseconds on the clock of the trace.
    pub ready_ms: Option<f64>,
    /// Wait after the end of the last request waited for, milliseconds.
    pub delay_ms: f64,
    pub input: u32,
    pub output: u32,
}

/// A graph as it is read.
#[derive(Debug)]
pub(super) struct GraphRows {
    rows: Vec<GraphRow>,
    sessions: SessionTurns,
    turns: Vec<(u32, u32)>,
    /// Whom each row waits for, without cycles; as many lists as rows in the end.
    pub waits_for: Links,
    pub prompts: PromptTable,
    pub hints: HintBuilder,
}

/// How the requests of a graph are released.
pub(super) struct GraphRelease {
    /// First requests of the trees that a closed loop counts, if the format allows one.
    pub sessions_at_once: Option<Vec<u32>>,
    /// Whether a cap on simulated time is ignored, as by the reference.
    pub ignores_time_cap: bool,
    /// Whether arrivals are known.
    pub timed: bool,
}

impl GraphRows {
    pub fn new(block_size: u32) -> Self {
        Self {
            rows: Vec::new(),
            sessions: SessionTurns::default(),
            turns: Vec::new(),
            waits_for: Links::default(),
            prompts: PromptTable::new(block_size),
            hints: HintBuilder::default(),
        }
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Moves the requests that wait for nobody by the arrival of their tree; `firsts` are the first requests of the trees.
    pub fn move_roots(&mut self, firsts: &[u32], arrivals: &[SimTime]) {
        for (index, row) in (0..).zip(&mut self.rows) {
            let tree = firsts.partition_point(|first| *first <= index).checked_sub(1);
            if let (Some(ready), Some(arrival)) = (&mut row.ready_ms, tree.and_then(|tree| arrivals.get(tree))) {
                *ready += arrival.as_ms();
            }
        }
    }

    /// Adds a request; its prompt and whom it waits for are added apart.
    pub fn push(&mut self, row: GraphRow, session: &str) {
        self.turns.push(self.sessions.next(session));
        self.rows.push(row);
    }

    /// The workload, `blocks` being how many block numbers there are. `place` makes an error about a request.
    pub fn into_workload(
        self,
        blocks: u32,
        options: &TraceOptions,
        release: GraphRelease,
        place: impl Fn(usize, &'static str, String) -> WorkloadError,
        notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        if options.reading.window.is_some() {
            let cause = "is given, but requests wait for others";
            return Err(WorkloadError::setting("trace-window", cause, "leave it out, or cut the trace yourself"));
        }
        let closed = options.concurrency.zip(release.sessions_at_once);
        let times = self.rows.iter().filter_map(|row| row.ready_ms);
        let earliest = times.fold(f64::INFINITY, f64::min);
        let mut requests = Vec::with_capacity(self.rows.len());
        for (index, row) in self.rows.iter().enumerate() {
            let waits = !self.waits_for.of(index as u32).is_empty();
            let speedup = options.think_speedup();
            // Rows without a timestamp come first, wherever the others begin.
            let ready_ms = row.ready_ms.filter(|_| !waits).map_or(0.0, |ms| ms - earliest);
            let arrival = SimTime::from_ms(ready_ms / speedup)
                .map_err(|error| place(index, "timestamp", checks::too_late(error)))?;
            let delay_ms = if waits { row.delay_ms / speedup } else { 0.0 };
            let delay = SimDuration::from_ms(delay_ms).map_err(|e| place(index, "delay", e.to_string()))?;
            requests.push(RequestSpec { arrival, delay, prompt_tokens: row.input, output_tokens: row.output });
        }
        let order = (0..).zip(&self.rows).map(|(index, row)| (index, row.input));
        let content = self.prompts.content(order, blocks, false);
        let graph = Graph {
            waits_for: self.waits_for,
            sessions: self.sessions.names,
            turns: self.turns,
            closed: closed.map(|(concurrency, trees)| super::graph::ClosedGraph { concurrency, trees }),
            ignores_time_cap: release.ignores_time_cap,
        };
        Ok(Workload {
            requests,
            release: Release::Graph(graph),
            content,
            planned_outputs: true,
            timed: release.timed,
            hints: self.hints.finish(),
            notes,
        })
    }
}
