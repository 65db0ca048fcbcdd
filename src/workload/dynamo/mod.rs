//! Request traces captured by Dynamo (`dynamo.request.trace.v1`): JSON Lines, gzip or not, in one or more files.
//!
//! Every request comes with the hashes of its prompt's blocks, each of which stands for everything up to there, so equal
//! hashes mean equal beginnings. Without agent context the requests are independent and arrive as recorded. With it they
//! are turns of agent sessions, and wait for what they were seen to wait for; the wait after that is as long as it was,
//! whether tools ran then or nothing.
//!
//! | file | holds |
//! |---|---|
//! | `record` | one line |
//! | `links` | who waits for whom |

mod links;
mod record;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::agentic::{GraphRelease, GraphRow, GraphRows};
use super::checks::{self, Tally};
use super::hints::RouterHints;
use super::intern::Interner;
use super::model::{Release, RequestSpec, Session, Workload};
use super::options::TraceOptions;
use super::prompts::PromptTable;
use super::source::{Source, lines};

use record::{Event, RequestEnd, Tool};

/// Hashes below this are found by a table; real ones are far above it.
const SMALL_HASHES: usize = 1 << 12;

/// Reads the files, `first` being the first of them.
pub(super) fn load(files: &[PathBuf], first: Source, options: &TraceOptions) -> Result<Workload, WorkloadError> {
    let mut next = Some(first);
    let mut capture = Capture::new(options);
    let mut notes = Vec::new();
    for (file, path) in (0..).zip(files) {
        let source = match next.take() {
            Some(source) => source,
            None => Source::read(path)?,
        };
        for (line, content) in lines(source.text(&mut notes)?) {
            match record::parse(path, line, content)? {
                Event::Request(request) => capture.request(files, Place { file, line }, request)?,
                Event::Tool(tool) => capture.tools.push((Place { file, line }, tool)),
                Event::Nothing => {}
            }
        }
    }
    capture.into_workload(files, options, notes)
}

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    line: usize,
}

/// A request, reduced; its prompt is at the same place of [`Capture::prompts`].
struct Request {
    place: Place,
    id: Box<str>,
    start_ms: u64,
    end_ms: u64,
    input: u32,
    output: u32,
    /// Session, and the session that this belongs to.
    agent: Option<(Box<str>, Option<Box<str>>)>,
}

impl Request {
    fn session(&self) -> Option<&str> {
        self.agent.as_ref().map(|(session, _)| &**session)
    }
}

/// Everything read, in the order of the files.
struct Capture {
    requests: Vec<Request>,
    prompts: PromptTable,
    interner: Interner,
    ids: HashMap<Box<str>, Place>,
    tools: Vec<(Place, Tool)>,
    /// Tokens per hash that the user or the first request names.
    block_size: Option<u32>,
    silent: Tally,
}

/// An error in a record.
fn at(files: &[PathBuf], place: Place, field: &'static str, cause: String, cure: &str) -> WorkloadError {
    let path = files.get(place.file).map_or(Path::new(""), PathBuf::as_path);
    WorkloadError::field(path, place.line, field, cause, cure)
}

impl Capture {
    fn new(options: &TraceOptions) -> Self {
        Self {
            requests: Vec::new(),
            prompts: PromptTable::new(1),
            interner: Interner::new(SMALL_HASHES),
            ids: HashMap::new(),
            tools: Vec::new(),
            block_size: options.reading.block_size,
            silent: Tally::default(),
        }
    }

    fn request(&mut self, files: &[PathBuf], place: Place, request: RequestEnd<'_>) -> Result<(), WorkloadError> {
        let path = files.get(place.file).map_or(Path::new(""), PathBuf::as_path);
        let known = *self.block_size.get_or_insert(request.block_size);
        if known != request.block_size {
            let cause = format!("is {}, but {known} was given or is that of the requests before", request.block_size);
            return Err(at(
                files,
                place,
                "trace_block_size",
                cause,
                "all requests need the same; leave `trace-block-size` out",
            ));
        }
        let id: Box<str> = request.id.into();
        if let Some(other) = self.ids.insert(id.clone(), place) {
            let file = files.get(other.file).map_or(Path::new(""), PathBuf::as_path);
            let cause = format!("`{id}` is the id of the request at {}, line {}, too", file.display(), other.line);
            return Err(at(files, place, "request_id", cause, "leave one of the two out"));
        }
        let input = checks::prompt_tokens(path, place.line, "input_length", request.input_tokens)?;
        let output = checks::tokens(path, place.line, "output_tokens", request.output_tokens)?;
        if output == 0 {
            match files.len() {
                1 => self.silent.add(place.line),
                _ => self.silent.add_in(path, place.line),
            }
        }
        if self.prompts.push_ids(&mut self.interner, &request.hashes, request.hashes.len()).is_none() {
            let cause = "the trace has too many hashes".to_owned();
            return Err(at(files, place, "input_sequence_hashes", cause, "split the trace"));
        }
        let agent = request.agent.map(|(session, parent)| (session.into(), parent.map(Into::into)));
        let (start_ms, end_ms) = (request.start_ms, request.end_ms);
        self.requests.push(Request { place, id, start_ms, end_ms, input, output, agent });
        Ok(())
    }

    fn into_workload(
        mut self,
        files: &[PathBuf],
        options: &TraceOptions,
        mut notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        let path = files.first().map_or(Path::new(""), PathBuf::as_path);
        if self.requests.is_empty() {
            let cure = "a Dynamo trace holds request_end records";
            return Err(WorkloadError::file(path, "no requests", cure));
        }
        checks::row_count(path, self.requests.len())?;
        self.prompts.block_size = self.block_size.unwrap_or(1);
        notes.extend(self.silent.note("without output tokens"));
        let mut order: Vec<u32> = (0..self.requests.len() as u32).collect();
        let request = |index: &u32| self.requests.get(*index as usize);
        order.sort_by_key(|index| request(index).map(|r| (r.start_ms, r.end_ms, &r.id)));
        let sorted: Vec<&Request> = order.iter().filter_map(request).collect();
        let agents = sorted.iter().filter(|r| r.agent.is_some()).count();
        if agents == 0 {
            return self.standard(&sorted, &order, options, notes);
        }
        if let Some(other) = sorted.iter().find(|r| r.agent.is_none()) {
            let cause = format!("missing, but {agents} requests have one");
            return Err(at(files, other.place, "agent_context", cause, "separate requests of agents from others"));
        }
        self.agentic(&sorted, &order, files, options, notes)
    }

    /// Independent requests.
    fn standard(
        &self,
        sorted: &[&Request],
        order: &[u32],
        options: &TraceOptions,
        notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        let mut kept: Vec<(&Request, u32)> = sorted.iter().copied().zip(order.iter().copied()).collect();
        let first = |kept: &[(&Request, u32)]| kept.first().map_or(0, |(request, _)| request.start_ms);
        if let Some(window) = &options.reading.window {
            let first = first(&kept);
            kept.retain(|(request, _)| window.contains_ms((request.start_ms - first) as f64));
            if kept.is_empty() {
                return Err(checks::empty_window(window));
            }
        }
        let first = first(&kept);
        let mut requests = Vec::with_capacity(kept.len());
        for (request, _) in &kept {
            let arrival = match options.concurrency {
                Some(_) => SimTime::ZERO,
                None => SimTime::from_ms((request.start_ms - first) as f64 / options.speedup).map_err(|e| {
                    let cause = format!("request `{}` arrives too late: {e}", request.id);
                    WorkloadError::setting("arrival-speedup-ratio", cause, "choose a larger one")
                })?,
            };
            let (prompt_tokens, output_tokens) = (request.input, request.output);
            requests.push(RequestSpec { arrival, delay: SimDuration::ZERO, prompt_tokens, output_tokens });
        }
        let prompts = kept.iter().map(|(request, index)| (*index, request.input));
        let content = self.prompts.content(prompts, self.interner.len(), false);
        let release = match options.concurrency {
            None => Release::Flat,
            concurrency => {
                let session = |first: u32| Session { name: format!("request_{}", first + 1).into(), first, turns: 1 };
                let sessions = (0..).take(requests.len()).map(session).collect();
                Release::Sessions { sessions, concurrency, named: true }
            }
        };
        Ok(Workload {
            requests,
            release,
            content,
            planned_outputs: true,
            timed: true,
            hints: RouterHints::default(),
            notes,
        })
    }

    /// Turns of agent sessions.
    fn agentic(
        &self,
        sorted: &[&Request],
        order: &[u32],
        files: &[PathBuf],
        options: &TraceOptions,
        notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        let links = links::find(self, sorted, |place, field, cause, cure| at(files, place, field, cause, cure))?;
        let mut graph = GraphRows::new(self.prompts.block_size);
        graph.prompts = self.prompts.reordered(order);
        for (index, request) in (0..).zip(sorted) {
            let waits = links.of(index).iter().filter_map(|other| sorted.get(*other as usize));
            let seen = waits.map(|other| other.end_ms).max().unwrap_or(request.start_ms);
            let row = GraphRow {
                ready_ms: Some(request.start_ms as f64),
                delay_ms: request.start_ms.saturating_sub(seen) as f64,
                input: request.input,
                output: request.output,
            };
            graph.push(row, request.session().unwrap_or_default());
        }
        graph.waits_for = links;
        let place = |index: usize, field, cause: String| match sorted.get(index) {
            Some(request) => at(files, request.place, field, cause, "check the times"),
            None => WorkloadError::setting("trace", cause, "check the times"),
        };
        let release = GraphRelease { sessions_at_once: None, ignores_time_cap: true, timed: true };
        graph.into_workload(self.interner.len(), options, release, place, notes)
    }
}
