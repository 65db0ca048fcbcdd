//! Releasing requests: a flat list by time, or sessions with one turn in flight each, open or closed loop.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bevy::prelude::*;

use crate::time::SimTime;
use crate::workload::{Hint, Release, RequestSpec, RouterHints, Session, Workload};

use super::RunFacts;
use super::clock::{Agenda, VirtualClock};
use super::request::{Phase, Prompts, Request, Requests, Timeline, new_record};

/// Most arrivals released in one step while workers do not concern each other; keeps the world small.
const SLICE: usize = 4_096;

/// Requests that have not arrived yet.
#[derive(Resource, Debug)]
pub struct Arrivals {
    specs: Vec<RequestSpec>,
    hints: RouterHints,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Flat { next: usize },
    Sessions(Sessions),
}

#[derive(Debug)]
struct Sessions {
    sessions: Vec<Session>,
    /// Session of each request.
    of: Vec<u32>,
    /// Turns by (ready time, session, turn).
    ready: BinaryHeap<Reverse<(SimTime, u32, u32)>>,
    concurrency: Option<u32>,
    next_session: usize,
    active: u32,
    in_flight: u32,
}

impl Sessions {
    /// Starts sessions at `now` until the cap on active ones is reached.
    fn fill(&mut self, now: SimTime) {
        let Some(cap) = self.concurrency else { return };
        while self.active < cap && self.next_session < self.sessions.len() {
            self.ready.push(Reverse((now, self.next_session as u32, 0)));
            self.next_session += 1;
            self.active += 1;
        }
    }

    fn has_room(&self) -> bool {
        self.concurrency.is_none_or(|cap| self.in_flight < cap)
    }
}

impl Arrivals {
    /// The arrivals of a workload; takes requests and sessions out of it.
    pub fn new(workload: Workload) -> Self {
        let (specs, hints) = (workload.requests, workload.hints);
        let source = match workload.release {
            Release::Flat => Source::Flat { next: 0 },
            Release::Sessions { sessions, concurrency, .. } => {
                let mut of = vec![0; specs.len()];
                let mut ready = BinaryHeap::new();
                for (index, session) in (0..).zip(&sessions) {
                    of[session.first as usize..(session.first + session.turns) as usize].fill(index);
                    if concurrency.is_none() {
                        ready.push(Reverse((specs[session.first as usize].arrival, index, 0)));
                    }
                }
                let mut sessions =
                    Sessions { sessions, of, ready, concurrency, next_session: 0, active: 0, in_flight: 0 };
                sessions.fill(SimTime::ZERO);
                Source::Sessions(sessions)
            }
        };
        Self { specs, hints, source }
    }

    /// Requests in all.
    pub fn total(&self) -> usize {
        self.specs.len()
    }

    /// Whether arrivals never depend on what happens to earlier ones.
    pub fn is_flat(&self) -> bool {
        matches!(self.source, Source::Flat { .. })
    }

    /// Whether requests are released by the ends of others rather than by time.
    pub fn is_closed_loop(&self) -> bool {
        matches!(&self.source, Source::Sessions(s) if s.concurrency.is_some())
    }

    /// When the next request arrives, as far as that is known now.
    pub fn next_time(&self) -> Option<SimTime> {
        match &self.source {
            Source::Flat { next } => self.specs.get(*next).map(|r| r.arrival),
            Source::Sessions(s) => {
                if s.has_room() {
                    s.ready.peek().map(|Reverse((at, _, _))| *at)
                } else {
                    None
                }
            }
        }
    }

    /// Takes a request that is due at `now`: its index and recorded arrival.
    pub fn take(&mut self, now: SimTime) -> Option<(u32, SimTime)> {
        if self.next_time()? > now {
            return None;
        }
        match &mut self.source {
            Source::Flat { next } => {
                let request = *next;
                *next += 1;
                Some((request as u32, self.specs[request].arrival))
            }
            Source::Sessions(s) => {
                let Reverse((at, session, turn)) = s.ready.pop()?;
                s.in_flight += 1;
                let arrival = if s.concurrency.is_some() { now } else { at };
                Some((s.sessions[session as usize].first + turn, arrival))
            }
        }
    }

    /// Session and turn of a request, when there are sessions.
    pub fn session_turn(&self, request: u32) -> Option<(u32, u32)> {
        match &self.source {
            Source::Flat { .. } => None,
            Source::Sessions(s) => {
                let session = s.of[request as usize];
                Some((session, request - s.sessions[session as usize].first))
            }
        }
    }

    /// A request ended at `at`: its session goes on. Returns the session's next request.
    pub fn ended(&mut self, request: u32, at: SimTime) -> Option<u32> {
        let Source::Sessions(s) = &mut self.source else { return None };
        s.in_flight -= 1;
        let index = s.of[request as usize];
        let session = &s.sessions[index as usize];
        let turn = request - session.first + 1;
        if turn < session.turns {
            let next = request + 1;
            s.ready.push(Reverse((at + self.specs[next as usize].delay, index, turn)));
            return Some(next);
        }
        if s.concurrency.is_some() {
            s.active -= 1;
            s.fill(at);
        }
        None
    }

    /// Own prompt tokens and output tokens of a request.
    pub fn lengths(&self, request: u32) -> (u32, u32) {
        let spec = &self.specs[request as usize];
        (spec.prompt_tokens, spec.output_tokens)
    }

    /// Whether every request has arrived.
    pub fn is_drained(&self) -> bool {
        match &self.source {
            Source::Flat { next } => *next >= self.specs.len(),
            Source::Sessions(s) => {
                s.ready.is_empty()
                    && s.in_flight == 0
                    && (s.concurrency.is_none() || s.next_session >= s.sessions.len())
            }
        }
    }
}

/// A request that arrived and has no worker yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Index.
    pub request: u32,
    /// When.
    pub at: SimTime,
    /// Whole prompt, tokens.
    pub prompt: u32,
    /// Its session, if it belongs to one.
    pub session: Option<u32>,
    /// What it asks of a router's queue.
    pub hint: Hint,
}

/// Requests on their way to the router.
#[derive(Resource, Debug, Default)]
pub struct Unrouted {
    /// In order of arrival.
    pub waiting: VecDeque<Arrived>,
    /// Whether a worker became active for those that found none.
    pub retry: bool,
}

/// Turns requests that are due into entities.
pub fn release_arrivals(
    mut commands: Commands,
    facts: Res<RunFacts>,
    agenda: Res<Agenda>,
    mut clock: ResMut<VirtualClock>,
    mut arrivals: ResMut<Arrivals>,
    mut requests: ResMut<Requests>,
    mut prompts: ResMut<Prompts>,
    mut unrouted: ResMut<Unrouted>,
) {
    if facts.pulls_between_passes && agenda.has_work() {
        return;
    }
    // Where nobody looks at workers, requests are placed ahead of time.
    let ahead = facts.independent && !facts.meets_at_arrivals;
    let until = if ahead { clock.limit } else { clock.now };
    let mut last = None;
    let mut released = 0;
    while let Some(next) = arrivals.next_time() {
        // A slice never ends between two requests that arrive together.
        if next > until || (ahead && released >= SLICE && last != Some(next)) {
            break;
        }
        let at = if ahead { next } else { clock.now };
        let Some((request, arrival)) = arrivals.take(at) else { break };
        released += 1;
        last = Some(next);
        let (own, output) = arrivals.lengths(request);
        let prompt = prompts.0.arrive(request, own, output);
        let mut record = new_record(&facts, request, arrival, prompt, output);
        let session_turn = arrivals.session_turn(request);
        if !facts.single_worker {
            record.session_turn = session_turn;
        }
        let entity = commands.spawn((Request(request), Phase::Queued, Timeline(record))).id();
        if requests.entities.len() <= request as usize {
            requests.entities.resize(request as usize + 1, None);
        }
        requests.entities[request as usize] = Some(entity);
        requests.arrived += 1;
        let (session, hint) = (session_turn.map(|(session, _)| session), arrivals.hints.get(request));
        unrouted.waiting.push_back(Arrived { request, at: arrival, prompt, session, hint });
        clock.last_event = clock.last_event.max(arrival);
    }
}
