//! The decision log: one JSON object per decision, in order of time, written while the run goes on.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};

use crate::scenario::Role;
use crate::sim::router::kv::Terms;
use crate::sim::router::{Basis, Decision, DecisionSink, RouteDecision};

use super::file::{AtomicFile, WriteError};
use super::requests::Uuid;

/// A decision log that is being written.
#[derive(Debug)]
pub struct DecisionFile(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    /// Nothing once it is finished.
    file: Option<AtomicFile>,
    /// The first thing that went wrong; nothing is written after it.
    failed: Option<io::Error>,
}

impl DecisionFile {
    /// Begins the log at `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let log = Log { file: Some(AtomicFile::create(path)?), failed: None };
        Ok(Self(Arc::new(Mutex::new(log))))
    }

    /// What takes the decisions of a [`Simulation`](crate::sim::Simulation).
    pub fn sink(&self) -> Box<dyn DecisionSink> {
        Box::new(Sink(Arc::clone(&self.0)))
    }

    /// Ends the log. Decisions made later are lost.
    ///
    /// # Errors
    /// When a line could not be written, or the file cannot be put in place.
    pub fn finish(self) -> Result<(), WriteError> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = log.file.take() else { return Ok(()) };
        match log.failed.take() {
            Some(error) => Err(file.error(error)),
            None => file.commit(),
        }
    }
}

struct Sink(Arc<Mutex<Log>>);

impl DecisionSink for Sink {
    fn take(&mut self, decision: &Decision<'_>) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Log { file: Some(file), failed } = &mut *log else { return };
        if failed.is_none() {
            *failed = write_decision(file, decision).err();
        }
    }
}

/// Writes one line.
///
/// # Errors
/// When the output fails.
pub fn write_decision(out: &mut dyn Write, decision: &Decision<'_>) -> io::Result<()> {
    let Decision::Route(route) = decision;
    serde_json::to_writer(&mut *out, &Line::of(route))?;
    out.write_all(b"\n")
}

/// A line about a routing decision.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    at_ms: f64,
    request: u32,
    uuid: Uuid,
    input_length: u32,
    pool: &'static str,
    mode: &'static str,
    queued_ms: f64,
    chosen: usize,
    tie: bool,
    tied: u32,
    candidates: Candidates<'a>,
}

impl<'a> Line<'a> {
    fn of(route: &'a RouteDecision<'a>) -> Self {
        Self {
            kind: "route",
            at_ms: route.at.as_ms(),
            request: route.request,
            uuid: Uuid(route.request),
            input_length: route.prompt,
            pool: match route.pool {
                Role::Aggregated => "aggregated",
                Role::Prefill => "prefill",
                Role::Decode => "decode",
            },
            mode: route.mode,
            queued_ms: route.queued.as_ms(),
            chosen: route.chosen,
            tie: route.tied > 1,
            tied: route.tied,
            candidates: Candidates(route),
        }
    }
}

struct Candidates<'a>(&'a RouteDecision<'a>);

impl Serialize for Candidates<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let route = self.0;
        serializer.collect_seq(route.targets.iter().enumerate().map(|(index, target)| Candidate {
            worker: target.member.id,
            rank: target.rank,
            requests_in_flight: match route.basis {
                Basis::InFlight(counts) | Basis::Drawn { in_flight: counts, .. } => counts.get(index).copied(),
                Basis::Nothing | Basis::Cost(_) => None,
            },
            drawn: match route.basis {
                Basis::Drawn { pair, .. } => Some(pair.contains(&index)),
                Basis::Nothing | Basis::InFlight(_) | Basis::Cost(_) => None,
            },
            terms: match route.basis {
                Basis::Cost(terms) => terms.get(index).copied(),
                Basis::Nothing | Basis::InFlight(_) | Basis::Drawn { .. } => None,
            },
        }))
    }
}

#[derive(Serialize)]
struct Candidate {
    worker: u32,
    rank: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_in_flight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drawn: Option<bool>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    terms: Option<Terms>,
}
