//! Recorded agent sessions with nested sub-agents, one JSON document each (the traces of kv-cache-tester, also known as
//! Weka or AgentX traces).
//!
//! A session is a list of requests; each sends everything said before and waits for the one before it, plus the think
//! time that was recorded. An entry of type `subagent` holds a list of its own: it starts behind the request during or
//! after which it was started, and the request that follows its entry waits for its last one, too. `t` is in seconds
//! since the list began, except that of a sub-agent, which is when it ended; it began `duration_ms` before that.
//!
//! `hash_ids` name the complete blocks of a prompt, mostly within one session (`hash_id_scope`); what is left of the
//! prompt behind them belongs to the request alone. Sessions have no arrival times: they come at a given rate, or a given
//! number of them is in progress at any time.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::text::shorten;
use crate::time::SimTime;

use super::WorkloadError;
use super::agentic::{GraphRelease, GraphRow, GraphRows};
use super::checks;
use super::intern::Interner;
use super::model::{Release, Session, Workload};
use super::options::TraceOptions;
use super::source::Source;
use super::synthetic;

/// Most models named in a note.
const NAMED_MODELS: usize = 4;

/// A file, or one of several documents in it.
#[derive(Deserialize)]
struct Document {
    id: Option<String>,
    block_size: Option<u32>,
    hash_id_scope: Option<String>,
    requests: Vec<Entry>,
}

/// A request, or a sub-agent with its requests.
#[derive(Deserialize)]
struct Entry {
    t: Option<f64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    model: Option<String>,
    #[serde(rename = "in")]
    input: Option<u64>,
    #[serde(rename = "out")]
    output: Option<u64>,
    #[serde(default)]
    hash_ids: Vec<u64>,
    api_time: Option<f64>,
    think_time: Option<f64>,
    agent_id: Option<String>,
    duration_ms: Option<f64>,
    #[serde(default)]
    requests: Vec<Entry>,
}

impl Entry {
    fn is_subagent(&self) -> bool {
        self.kind.as_deref() == Some("subagent")
    }
}

/// Reads the files, `first` being the first of them.
pub(super) fn load(files: &[PathBuf], first: Source, options: &TraceOptions) -> Result<Workload, WorkloadError> {
    let mut next = Some(first);
    let mut notes = Vec::new();
    let mut reader = Reader::new(options);
    for path in files {
        let source = match next.take() {
            Some(source) => source,
            None => Source::read(path)?,
        };
        let text = source.text(&mut notes)?;
        let documents = serde_json::Deserializer::from_str(text).into_iter::<Document>();
        for document in documents {
            let document = document.map_err(|error| WorkloadError::document(path, &error))?;
            reader.session(path, document, text.len())?;
        }
    }
    reader.into_workload(files, options, notes)
}

/// A request that others may wait for, with its recorded end in seconds since the session began.
#[derive(Debug, Clone, Copy)]
struct Done {
    request: u32,
    end_s: f64,
}

/// A list of requests as far as it has been read.
#[derive(Default)]
struct Conversation {
    /// Its requests by time of start.
    done: Vec<(f64, Done)>,
    /// Last requests of sub-agents that the next request waits for.
    pending: Vec<Done>,
}

/// Which ids mean the same.
enum Scope {
    Everywhere,
    Session,
    Conversation,
}

struct Reader {
    block_size: Option<u32>,
    given: bool,
    graph: GraphRows,
    /// First request and name of each session.
    starts: Vec<(u32, Box<str>)>,
    everywhere: Interner,
    /// Block numbers given so far.
    numbered: u32,
    nested: bool,
    models: Vec<String>,
}

impl Reader {
    fn new(options: &TraceOptions) -> Self {
        let given = options.reading.block_size;
        Self {
            block_size: given,
            given: given.is_some(),
            graph: GraphRows::new(1),
            starts: Vec::new(),
            everywhere: Interner::new(0),
            numbered: 0,
            nested: false,
            models: Vec::new(),
        }
    }

    fn session(&mut self, path: &Path, document: Document, size: usize) -> Result<(), WorkloadError> {
        let number = self.starts.len() + 1;
        let name = document.id.unwrap_or_else(|| format!("session_{number}"));
        let error = |field, cause: String, cure: &str| {
            WorkloadError::part(path, format!("session `{name}`"), field, cause, cure)
        };
        let size_here = document.block_size.unwrap_or(64);
        match self.block_size {
            _ if size_here == 0 => return Err(error("block_size", "is 0".to_owned(), "give the tokens per hash id")),
            Some(known) if known != size_here && !(self.given && document.block_size.is_none()) => {
                let cause = format!("is {size_here}, but {known} was given or is that of the sessions before");
                return Err(error("block_size", cause, "all sessions need the same; leave `trace-block-size` out"));
            }
            known => self.block_size = known.or(Some(size_here)),
        }
        let scope = match document.hash_id_scope.as_deref() {
            Some("global") => Scope::Everywhere,
            Some("local") => Scope::Session,
            None | Some("per_context") => Scope::Conversation,
            Some(other) => {
                let cause = format!("is \"{}\"", other.escape_debug());
                return Err(error("hash_id_scope", cause, "use local, global or per_context"));
            }
        };
        let first = self.graph.len() as u32;
        let mut names = Interner::new(if matches!(scope, Scope::Session) { size } else { 0 });
        let mut walk = Walk { reader: self, path, session: &name, scope, names: &mut names };
        walk.conversation(&name, document.requests, 0.0, None)?;
        if self.graph.len() as u32 == first {
            let cure = "leave the file out";
            return Err(WorkloadError::part(path, format!("session `{name}`"), "requests", "no requests", cure));
        }
        self.starts.push((first, name.into()));
        Ok(())
    }
}

/// Goes through the lists of a session.
struct Walk<'a> {
    reader: &'a mut Reader,
    path: &'a Path,
    session: &'a str,
    scope: Scope,
    /// Ids of the session.
    names: &'a mut Interner,
}

impl Walk<'_> {
    /// Reads a list that began `base_s` seconds after the session, behind the request `spawn`. Returns the requests at
    /// its end. Lists are nested no deeper than the parser allows.
    fn conversation(
        &mut self,
        name: &str,
        entries: Vec<Entry>,
        base_s: f64,
        spawn: Option<Done>,
    ) -> Result<Vec<Done>, WorkloadError> {
        let mut so_far = Conversation::default();
        let mut own = Interner::new(0);
        for (number, entry) in (1..).zip(entries) {
            let place = Place { path: self.path, session: self.session, list: name, number };
            let t = place.seconds("t", entry.t.unwrap_or(0.0))?;
            if entry.is_subagent() {
                self.reader.nested = true;
                let begin_s = (t - place.seconds("duration_ms", entry.duration_ms.unwrap_or(0.0))? / 1_000.0).max(0.0);
                let child = match &entry.agent_id {
                    Some(id) => format!("{}/{id}", self.session),
                    None => format!("{name}/{number}"),
                };
                let parent = so_far.done.iter().rev().find(|(start_s, _)| *start_s <= begin_s);
                let spawn = parent.or(so_far.done.first()).map(|(_, done)| *done).or(spawn);
                let ends = self.conversation(&child, entry.requests, base_s + begin_s, spawn)?;
                so_far.pending.extend(ends);
                continue;
            }
            let done = self.request(&place, &entry, name, base_s + t, spawn, &mut so_far, &mut own)?;
            so_far.done.push((t, done));
        }
        let mut ends = so_far.pending;
        ends.extend(so_far.done.last().map(|(_, done)| *done));
        Ok(ends)
    }

    fn request(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        list: &str,
        start_s: f64,
        spawn: Option<Done>,
        so_far: &mut Conversation,
        own: &mut Interner,
    ) -> Result<Done, WorkloadError> {
        let reader = &mut *self.reader;
        let block_size = reader.block_size.unwrap_or(1);
        let (input, output) = (place.tokens("in", entry.input)?, place.tokens("out", entry.output)?);
        if input == 0 {
            return Err(place.error("in", "is 0", "a prompt has at least one token"));
        }
        let names = match self.scope {
            Scope::Everywhere => &mut reader.everywhere,
            Scope::Session => &mut *self.names,
            Scope::Conversation => own,
        };
        let blocks = entry.hash_ids.iter().take(input.div_ceil(block_size) as usize);
        let numbers: Option<Vec<u32>> = blocks.map(|id| names.number_from(*id, &mut reader.numbered)).collect();
        if numbers.and_then(|numbers| reader.graph.prompts.push(numbers)).is_none() {
            return Err(place.error("hash_ids", "the trace has too many ids", "use fewer files"));
        }
        let before = so_far.done.last().map(|(_, done)| *done);
        let waits: Vec<Done> = match before {
            None if so_far.pending.is_empty() => spawn.into_iter().collect(),
            before => before.into_iter().chain(so_far.pending.drain(..)).collect(),
        };
        let seen_s = waits.iter().map(|done| done.end_s).fold(f64::NEG_INFINITY, f64::max);
        let think_s = match entry.think_time {
            // Where sub-agents ran, the recorded time includes them.
            Some(think) if waits.len() == 1 && before.is_some() => place.seconds("think_time", think)?,
            _ => (start_s - seen_s).max(0.0),
        };
        let row = GraphRow {
            ready_ms: waits.is_empty().then_some(start_s * 1_000.0),
            delay_ms: if waits.is_empty() { 0.0 } else { think_s * 1_000.0 },
            input,
            output,
        };
        let request = reader.graph.len() as u32;
        checks::row_count(self.path, reader.graph.len() + 1)?;
        reader.graph.push(row, list);
        if reader.graph.waits_for.push(waits.iter().map(|done| done.request)).is_none() {
            return Err(place.error("requests", "the trace has too many dependencies", "use fewer files"));
        }
        if let Some(model) = &entry.model
            && !reader.models.contains(model)
            && reader.models.len() <= NAMED_MODELS
        {
            reader.models.push(model.clone());
        }
        let end_s = start_s + place.seconds("api_time", entry.api_time.unwrap_or(0.0))?;
        Ok(Done { request, end_s })
    }
}

/// Where an entry stands.
struct Place<'a> {
    path: &'a Path,
    session: &'a str,
    list: &'a str,
    number: usize,
}

impl Place<'_> {
    fn error(&self, field: &'static str, cause: impl Into<String>, cure: &str) -> WorkloadError {
        let list = if self.list == self.session { String::new() } else { format!(", sub-agent `{}`", self.list) };
        let part = format!("session `{}`{list}, entry {}", self.session, self.number);
        WorkloadError::part(self.path, part, field, cause, cure)
    }

    fn seconds(&self, field: &'static str, value: f64) -> Result<f64, WorkloadError> {
        // The clock holds less than this.
        if (0.0..1e15).contains(&value) {
            return Ok(value);
        }
        Err(self.error(field, format!("is {value}"), "give a time of zero or more"))
    }

    fn tokens(&self, field: &'static str, value: Option<u64>) -> Result<u32, WorkloadError> {
        let Some(value) = value else {
            return Err(self.error(field, "missing", "give a number of tokens"));
        };
        checks::tokens(self.path, 0, field, value)
            .map_err(|_| self.error(field, checks::over_limit(value), "shorten it, or leave the session out"))
    }
}

impl Reader {
    fn into_workload(
        mut self,
        files: &[PathBuf],
        options: &TraceOptions,
        mut notes: Vec<String>,
    ) -> Result<Workload, WorkloadError> {
        let path = files.first().map_or(Path::new(""), PathBuf::as_path);
        checks::row_count(path, self.graph.len())?;
        if self.models.len() > 1 {
            let more = if self.models.len() > NAMED_MODELS { " and others" } else { "" };
            let names = shorten(self.models.iter().take(NAMED_MODELS).cloned().collect::<Vec<_>>().join(", "));
            notes.push(format!("requests of several models ({names}{more}) are served by the same workers"));
        }
        self.graph.prompts.block_size = self.block_size.unwrap_or(1);
        let arrivals = options.reading.arrivals;
        if let Some(process) = arrivals {
            let count = self.starts.len() as u32;
            let times = synthetic::arrival_times(Some(process), options.reading.arrival_seed, count, 1.0)?;
            let firsts = self.starts.iter().map(|(first, _)| *first).collect::<Vec<_>>();
            self.graph.move_roots(&firsts, &times);
        }
        let place = |_: usize, field, cause: String| {
            WorkloadError::file(path, format!("`{field}`: {cause}"), "check the times")
        };
        let trees = self.starts.iter().map(|(first, _)| *first).collect();
        let timed = arrivals.is_some();
        let release = GraphRelease { sessions_at_once: Some(trees), ignores_time_cap: false, timed };
        let mut workload = self.graph.into_workload(self.numbered, options, release, place, notes)?;
        if !self.nested {
            // Nobody waits for anybody but the turn before: plain sessions, which every kind of run knows.
            let ends = self.starts.iter().skip(1).map(|(first, _)| *first).chain([workload.requests.len() as u32]);
            let session = |((first, name), end): (&(u32, Box<str>), u32)| Session {
                name: name.clone(),
                first: *first,
                turns: end - first,
            };
            let sessions = self.starts.iter().zip(ends).map(session).collect();
            if options.concurrency.is_some() {
                workload.requests.iter_mut().for_each(|request| request.arrival = SimTime::ZERO);
            }
            workload.release = Release::Sessions { sessions, concurrency: options.concurrency, named: true };
        }
        Ok(workload)
    }
}
