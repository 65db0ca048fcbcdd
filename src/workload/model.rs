//! What a loader or generator hands to the simulation.

use crate::time::{SimDuration, SimTime};

use super::content::Content;
use super::graph::Graph;
use super::hints::RouterHints;

/// Most tokens a prompt or an output may have. Prompt plus output then always fits `u32`.
pub const MAX_TOKENS: u32 = i32::MAX as u32;

/// Most requests a generator makes; more would not fit the memory of an ordinary machine.
pub(super) const MAX_GENERATED: u64 = 50_000_000;

/// A complete workload.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Every request; the turns of a session are neighbours. A request's index here is its identity everywhere.
    pub requests: Vec<RequestSpec>,
    /// How they are released.
    pub release: Release,
    /// Which prompts share prefixes.
    pub content: Content,
    /// Whether every request carries a planned output list, as traces and session loads do. In the reference a prefill
    /// worker runs such a list to its end; without one it hands over after the first token.
    pub planned_outputs: bool,
    /// Whether arrivals are known, from the trace or a generator. If not, all are zero and only a closed loop makes sense.
    pub timed: bool,
    /// Priorities and policy classes.
    pub hints: RouterHints,
    /// What loading changed or noticed.
    pub notes: Vec<String>,
}

/// One request (one turn of a session).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSpec {
    /// Scheduled arrival: of every request in a flat list, of the first turn in a session, of what waits for nobody in a
    /// graph; unused otherwise.
    pub arrival: SimTime,
    /// Think time before this turn, counted from the end of the previous one, or of the last one waited for.
    pub delay: SimDuration,
    /// Prompt tokens (what the turn adds, for delta sessions), at least 1.
    pub prompt_tokens: u32,
    /// Output tokens asked for; 0 is legal.
    pub output_tokens: u32,
}

/// How requests are released.
#[derive(Debug, Clone)]
pub enum Release {
    /// Independent requests in arrival order (ties in file order).
    Flat,
    /// Sessions, one turn in flight each.
    Sessions {
        /// In order of first appearance.
        sessions: Vec<Session>,
        /// `Some(k)`: at most `k` sessions active, arrivals ignored.
        concurrency: Option<u32>,
        /// Whether names appear in per-request rows (simple synthetic loads have none).
        named: bool,
    },
    /// Requests that wait for the end of others.
    Graph(Graph),
}

/// A session: consecutive requests of [`Workload::requests`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Name in per-request rows.
    pub name: Box<str>,
    /// Index of its first turn.
    pub first: u32,
    /// Number of turns, at least 1.
    pub turns: u32,
}
