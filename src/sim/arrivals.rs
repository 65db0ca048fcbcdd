//! Releasing requests: a flat list by time, sessions with one turn in flight each, or a graph of requests that wait for
//! the end of others; open or closed loop.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bevy::prelude::*;

use crate::time::SimTime;
use crate::workload::graph::{ClosedGraph, Graph, Links};
use crate::workload::{Release, RequestSpec, RouterHints, Session, Workload};

use super::RunFacts;
use super::clock::{Agenda, VirtualClock};
use super::request::{Phase, Prompts, Request, Requests, Timeline, new_record};
use super::router::Ask;

/// Most arrivals released in one step while workers do not concern each other; keeps the world small.
const SLICE: usize = 4_096;

/// Requests that have not arrived yet.
#[derive(Resource, Debug)]
pub struct Arrivals {
    specs: Vec<RequestSpec>,
    hints: RouterHints,
    source: Source,
    stopped: bool,
}

#[derive(Debug)]
enum Source {
    Flat { next: usize },
    Sessions(Sessions),
    Graph(Waiting),
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

/// Requests that wait for others.
#[derive(Debug)]
struct Waiting {
    /// Who waits for each request.
    followers: Links,
    /// How many requests each one still waits for.
    missing: Vec<u32>,
    /// When the last of those that ended so far did.
    ended: Vec<SimTime>,
    /// Session and turn of each request.
    turns: Vec<(u32, u32)>,
    /// Requests by (ready time, request).
    ready: BinaryHeap<Reverse<(SimTime, u32)>>,
    in_flight: u32,
    trees: Option<Trees>,
}

/// The closed loop over the trees of a graph.
#[derive(Debug)]
struct Trees {
    plan: ClosedGraph,
    /// Requests without dependencies, by tree.
    roots: Vec<Vec<u32>>,
    /// Requests of each tree that have not ended.
    left: Vec<u32>,
    next: usize,
    active: u32,
}

impl Trees {
    fn new(plan: ClosedGraph, specs: &[RequestSpec], missing: &[u32]) -> Self {
        let ends = plan.trees.iter().skip(1).copied().chain([specs.len() as u32]);
        let ranges: Vec<_> = plan.trees.iter().zip(ends).map(|(first, end)| *first..end).collect();
        let roots = ranges.iter().map(|tree| tree.clone().filter(|r| missing[*r as usize] == 0).collect()).collect();
        let left = ranges.iter().map(|tree| tree.len() as u32).collect();
        Self { plan, roots, left, next: 0, active: 0 }
    }

    /// The tree of a request.
    fn of(&self, request: u32) -> usize {
        self.plan.trees.partition_point(|first| *first <= request) - 1
    }

    /// Starts trees at `now` until the cap is reached. A tree's roots keep their distances.
    fn fill(&mut self, now: SimTime, specs: &[RequestSpec], ready: &mut BinaryHeap<Reverse<(SimTime, u32)>>) {
        while self.active < self.plan.concurrency
            && let Some(roots) = self.roots.get(self.next)
        {
            for root in roots {
                let offset = specs[*root as usize].arrival - SimTime::ZERO;
                ready.push(Reverse((now + offset, *root)));
            }
            self.next += 1;
            self.active += 1;
        }
    }
}

impl Waiting {
    fn new(graph: Graph, specs: &[RequestSpec]) -> Self {
        let Graph { waits_for, turns, closed, .. } = graph;
        let missing: Vec<u32> = (0..specs.len() as u32).map(|request| waits_for.of(request).len() as u32).collect();
        let mut ready = BinaryHeap::new();
        let mut trees = closed.map(|plan| Trees::new(plan, specs, &missing));
        match &mut trees {
            Some(trees) => trees.fill(SimTime::ZERO, specs, &mut ready),
            None => {
                let roots = (0..).zip(&missing).filter(|(_, waits)| **waits == 0);
                ready.extend(roots.map(|(request, _): (u32, _)| Reverse((specs[request as usize].arrival, request))));
            }
        }
        let (followers, ended) = (waits_for.reversed(), vec![SimTime::ZERO; specs.len()]);
        Self { followers, missing, ended, turns, ready, in_flight: 0, trees }
    }

    /// A request ended at `at`: those that waited for it alone become ready.
    fn ended(&mut self, request: u32, at: SimTime, specs: &[RequestSpec]) {
        self.in_flight -= 1;
        for follower in self.followers.of(request) {
            let index = *follower as usize;
            self.ended[index] = self.ended[index].max(at);
            self.missing[index] -= 1;
            if self.missing[index] == 0 {
                self.ready.push(Reverse((self.ended[index] + specs[index].delay, *follower)));
            }
        }
        if let Some(trees) = &mut self.trees {
            let tree = trees.of(request);
            trees.left[tree] -= 1;
            if trees.left[tree] == 0 {
                trees.active -= 1;
                trees.fill(at, specs, &mut self.ready);
            }
        }
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
            Release::Graph(graph) => Source::Graph(Waiting::new(graph, &specs)),
        };
        Self { specs, hints, source, stopped: false }
    }

    /// What a router may know of a request that comes to it at `at` with a prompt of so many tokens.
    pub fn ask(&self, request: u32, at: SimTime, prompt: u32) -> Ask {
        let session = self.session_turn(request).map(|(session, _)| session);
        Ask { request, at, prompt, session, hint: self.hints.get(request) }
    }

    /// Lets nobody arrive any more.
    pub fn stop(&mut self) {
        self.stopped = true;
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
        match &self.source {
            Source::Flat { .. } => false,
            Source::Sessions(s) => s.concurrency.is_some(),
            Source::Graph(w) => w.trees.is_some(),
        }
    }

    /// When the next request arrives, as far as that is known now.
    pub fn next_time(&self) -> Option<SimTime> {
        match &self.source {
            _ if self.stopped => None,
            Source::Flat { next } => self.specs.get(*next).map(|r| r.arrival),
            Source::Sessions(s) => {
                if s.has_room() {
                    s.ready.peek().map(|Reverse((at, _, _))| *at)
                } else {
                    None
                }
            }
            Source::Graph(w) => w.ready.peek().map(|Reverse((at, _))| *at),
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
            Source::Graph(w) => {
                let Reverse((at, request)) = w.ready.pop()?;
                w.in_flight += 1;
                Some((request, at))
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
            Source::Graph(w) => w.turns.get(request as usize).copied(),
        }
    }

    /// A request ended at `at`: its session goes on. Returns the session's next request.
    pub fn ended(&mut self, request: u32, at: SimTime) -> Option<u32> {
        let s = match &mut self.source {
            Source::Flat { .. } => return None,
            Source::Sessions(s) => s,
            Source::Graph(w) => {
                w.ended(request, at, &self.specs);
                return None;
            }
        };
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
            // Without cycles something is ready or in flight until all is done.
            Source::Graph(w) => w.ready.is_empty() && w.in_flight == 0,
        }
    }
}

/// Requests on their way to the router.
#[derive(Resource, Debug, Default)]
pub struct Unrouted {
    /// Those that have no worker yet, in order of arrival.
    pub waiting: VecDeque<Ask>,
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
        if !facts.single_worker {
            record.session_turn = arrivals.session_turn(request);
        }
        let entity = commands.spawn((Request(request), Phase::Queued, Timeline(record))).id();
        if requests.entities.len() <= request as usize {
            requests.entities.resize(request as usize + 1, None);
        }
        requests.entities[request as usize] = Some(entity);
        requests.arrived += 1;
        unrouted.waiting.push_back(arrivals.ask(request, arrival, prompt));
        clock.last_event = clock.last_event.max(arrival);
    }
}
