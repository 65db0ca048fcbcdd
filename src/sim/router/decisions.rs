//! The stream of decisions: who was chosen, and what the choice was based on.
//!
//! Decisions are handed out one by one as they are made, in order of time, to a [`DecisionSink`]. Without one nothing is
//! collected and nothing costs anything.

use bevy::prelude::*;

use crate::scenario::Role;
use crate::time::{SimDuration, SimTime};

use super::Target;
use super::kv::Terms;

/// A decision of some part of the fleet.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Decision<'a> {
    /// A router sent a request to a worker.
    Route(RouteDecision<'a>),
}

/// A routing decision.
#[derive(Debug, Clone, Copy)]
pub struct RouteDecision<'a> {
    /// When.
    pub at: SimTime,
    /// Index of the request.
    pub request: u32,
    /// Its prompt tokens.
    pub prompt: u32,
    /// Pool that was chosen from.
    pub pool: Role,
    /// The rule, a word of `router-mode`.
    pub mode: &'static str,
    /// Workers to choose from, in ascending order of number.
    pub targets: &'a [Target],
    /// What the choice was based on.
    pub basis: Basis<'a>,
    /// Index of the chosen one in `targets`.
    pub chosen: usize,
    /// How many were as good as the chosen one, itself included, when one of several had to be drawn; else 1.
    pub tied: u32,
    /// How long the request waited at the router.
    pub queued: SimDuration,
}

/// What a routing decision was based on.
#[derive(Debug, Clone, Copy)]
pub enum Basis<'a> {
    /// Nothing about the workers.
    Nothing,
    /// Requests in flight, by target.
    InFlight(&'a [u32]),
    /// The two targets that were drawn, and requests in flight by target.
    Drawn {
        /// Indices of the two.
        pair: [usize; 2],
        /// Requests in flight, by target.
        in_flight: &'a [u32],
    },
    /// Cost terms, by target.
    Cost(&'a [Terms]),
}

/// Takes decisions as they are made.
pub trait DecisionSink: Send + Sync {
    /// One decision; they come in order of time.
    fn take(&mut self, decision: &Decision<'_>);
}

/// Where decisions go, if anywhere.
#[derive(Resource, Default)]
pub struct Decisions(Option<Box<dyn DecisionSink>>);

impl std::fmt::Debug for Decisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Decisions").field(&self.0.is_some()).finish()
    }
}

impl Decisions {
    /// Decisions go to `sink`.
    pub fn to(sink: Box<dyn DecisionSink>) -> Self {
        Self(Some(sink))
    }

    /// Whether anybody listens; building a decision is not worth it otherwise.
    pub fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Hands a decision out.
    pub fn take(&mut self, decision: &Decision<'_>) {
        if let Some(sink) = &mut self.0 {
            sink.take(decision);
        }
    }
}
