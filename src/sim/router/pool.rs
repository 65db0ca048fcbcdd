//! The router of one pool: its mode, the workers it may choose, the signals it gets.

use std::collections::HashMap;

use bevy::prelude::*;

use crate::scenario::{EngineConfig, Role, Router, RouterMode};
use crate::sim::engine::FirstTokens;
use crate::sim::kv::PromptIndex;
use crate::sim::metrics::WorkerState;
use crate::sim::worker::{Engine, Pool, Worker};
use crate::time::{SimDuration, SimTime};

use super::baselines::InFlight;
use super::decisions::{Basis, Decision, Decisions, RouteDecision};
use super::dispatch::Placement;
use super::draws::Draws;
use super::kv::{KvPolicy, Verdict};
use super::round_robin::RoundRobin;
use super::signals::{Signal, Signals};
use super::{Ask, Choice, Target};

/// The rule of a router with what it has to remember.
#[derive(Debug)]
enum Policy {
    RoundRobin(RoundRobin),
    Random,
    LeastLoaded(InFlight),
    PowerOfTwo(InFlight),
    SessionAffinity {
        turns: RoundRobin,
        /// Rank by session.
        homes: HashMap<u32, u32>,
    },
    Kv(Box<KvPolicy>),
}

/// What a router did with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed {
    /// It goes to a worker.
    To(Placement),
    /// It waits at the router.
    Waits,
    /// There is no active worker.
    NoWorker,
    /// It cannot wait, for this reason.
    Refused(String),
}

/// The router of a pool.
#[derive(Debug)]
pub struct PoolRouter {
    role: Role,
    mode: &'static str,
    policy: Policy,
    draws: Draws,
    signals: Signals,
    kv_event_delay: SimDuration,
    ranks_per_worker: u32,
    targets: Vec<Target>,
    /// Sum of the shares of prompt blocks taken for cached, and requests, since that was asked last.
    hit_rates: (f64, u64),
}

impl PoolRouter {
    /// The router of the pool with this engine.
    pub fn new(router: &Router, engine: &EngineConfig, classes: &[Box<str>]) -> Self {
        let role = engine.role;
        let policy = match &router.mode {
            RouterMode::RoundRobin => Policy::RoundRobin(RoundRobin::default()),
            RouterMode::Random => Policy::Random,
            RouterMode::LeastLoaded => Policy::LeastLoaded(InFlight::default()),
            RouterMode::PowerOfTwo => Policy::PowerOfTwo(InFlight::default()),
            RouterMode::SessionAffinity => {
                Policy::SessionAffinity { turns: RoundRobin::default(), homes: HashMap::new() }
            }
            RouterMode::Kv(config) => {
                let budget = engine.max_num_batched_tokens;
                Policy::Kv(Box::new(KvPolicy::new(config, role, engine.block_size, budget, classes)))
            }
        };
        Self {
            role,
            mode: router.mode.word(),
            policy,
            draws: Draws::new(router.seed, router.ties, role),
            signals: Signals::new(router.load_delay),
            kv_event_delay: router.kv_event_delay,
            ranks_per_worker: engine.dp_size,
            targets: Vec::new(),
            hit_rates: (0.0, 0),
        }
    }

    /// Whether it wants to know what becomes of the requests it sent.
    pub fn listens(&self) -> bool {
        match self.policy {
            Policy::RoundRobin(_) | Policy::Random | Policy::SessionAffinity { .. } => false,
            Policy::LeastLoaded(_) | Policy::PowerOfTwo(_) | Policy::Kv(_) => true,
        }
    }

    /// Whether requests may have to wait here.
    pub fn can_queue(&self) -> bool {
        matches!(&self.policy, Policy::Kv(kv) if kv.can_queue())
    }

    /// Whether requests wait here.
    pub fn has_backlog(&self) -> bool {
        matches!(&self.policy, Policy::Kv(kv) if kv.has_backlog())
    }

    /// Requests that wait here with the instants at which they came, in the order in which they did.
    pub fn waiting(&self) -> Vec<(u32, SimTime)> {
        match &self.policy {
            Policy::Kv(kv) => kv.waiting(),
            _ => Vec::new(),
        }
    }

    /// The word of its mode.
    pub fn mode(&self) -> &'static str {
        self.mode
    }

    /// When the next late signal arrives.
    pub fn next_signal(&self) -> Option<SimTime> {
        self.signals.next()
    }

    /// Whether it looks at what workers cache.
    pub fn wants_cache(&self) -> bool {
        matches!(self.policy, Policy::Kv(_)) && self.role != Role::Decode
    }

    /// What the workers of the pool must report: their caches, and first tokens.
    pub fn reports_wanted(&self) -> (bool, FirstTokens) {
        let first_tokens = match &self.policy {
            // On prefill workers the end of the prefill is reported anyway.
            Policy::Kv(kv) if self.role == Role::Aggregated => {
                if kv.can_queue() {
                    FirstTokens::Urgent
                } else {
                    FirstTokens::Noted
                }
            }
            _ => FirstTokens::Unseen,
        };
        (self.wants_cache(), first_tokens)
    }

    /// Forgets a worker that is gone.
    pub fn forget_worker(&mut self, worker: u32) {
        if let Policy::Kv(kv) = &mut self.policy {
            let first = worker * self.ranks_per_worker;
            kv.forget(first..first + self.ranks_per_worker);
        }
    }

    /// A worker sends a signal at `at`.
    pub fn tell(&mut self, at: SimTime, signal: Signal) {
        if self.listens() {
            self.signals.send(at, signal);
        }
    }

    /// Follows the next signal that has arrived by `now`; returns whether there was one.
    pub fn follow_one(&mut self, now: SimTime) -> bool {
        let Some(signal) = self.signals.take(now) else { return false };
        match (&mut self.policy, signal) {
            (Policy::Kv(kv), Signal::PrefillDone(request)) => kv.prefill_done(request),
            (Policy::Kv(kv), Signal::Ended(request)) => kv.free(request),
            (Policy::LeastLoaded(flight) | Policy::PowerOfTwo(flight), Signal::Ended(request)) => {
                flight.free(request);
            }
            _ => {}
        }
        true
    }

    /// Takes note of everything about the workers' caches that can be seen at `now`.
    pub fn hear_caches(
        &mut self,
        now: SimTime,
        pool: &Pool,
        engines: &mut Query<(&'static Worker, &'static mut Engine)>,
    ) {
        let Policy::Kv(kv) = &mut self.policy else { return };
        let delay = self.kv_event_delay;
        for member in &pool.members {
            let Ok((worker, mut engine)) = engines.get_mut(member.entity) else { continue };
            for (rank, scheduler) in (0..).zip(&mut engine.ranks) {
                let number = worker.id * self.ranks_per_worker + rank;
                while let Some(event) = scheduler.kv_events().take_if(|at| at.saturating_add(delay) <= now) {
                    kv.hear_cache(number, event);
                }
            }
        }
    }

    /// Lists the ranks of active workers in ascending order.
    fn list_targets(&mut self, pool: &Pool) {
        self.targets.clear();
        for member in pool.members.iter().filter(|m| m.state == WorkerState::Active) {
            let first = member.id * self.ranks_per_worker;
            self.targets.extend((0..self.ranks_per_worker).map(|rank| Target {
                number: first + rank,
                member: *member,
                rank,
            }));
        }
    }

    /// Decides about a request at `now`.
    pub fn route(
        &mut self,
        ask: &Ask,
        now: SimTime,
        pool: &Pool,
        prompts: &PromptIndex,
        decisions: &mut Decisions,
    ) -> Routed {
        if let Policy::RoundRobin(turns) = &mut self.policy {
            let Some((member, rank)) = turns.next(pool) else { return Routed::NoWorker };
            let placement = Placement { request: ask.request, member, rank, overlap_tokens: 0 };
            if decisions.are_wanted() {
                self.list_targets(pool);
                let index = self.index_of(member.id * self.ranks_per_worker + rank);
                self.log(ask, now, Choice { index, tied: 1, overlap_tokens: 0 }, decisions);
            }
            return Routed::To(placement);
        }
        self.list_targets(pool);
        if self.targets.is_empty() {
            return Routed::NoWorker;
        }
        let (targets, draws) = (&self.targets, &mut self.draws);
        let plain = |(index, tied)| Choice { index, tied, overlap_tokens: 0 };
        let choice = match &mut self.policy {
            Policy::RoundRobin(_) => return Routed::NoWorker,
            Policy::Random => plain((draws.below(targets.len()), 1)),
            Policy::LeastLoaded(flight) => {
                let choice = flight.least(targets, draws);
                flight.add(ask.request, targets[choice.0].number);
                plain(choice)
            }
            Policy::PowerOfTwo(flight) => {
                let choice = flight.better_of_two(targets, draws);
                flight.add(ask.request, targets[choice.0].number);
                plain(choice)
            }
            Policy::SessionAffinity { turns, homes } => {
                let home = ask.session.and_then(|session| homes.get(&session)).copied();
                let index = home.and_then(|number| targets.iter().position(|t| t.number == number));
                let index = match index {
                    Some(index) => index,
                    None => {
                        let Some((member, rank)) = turns.next(pool) else { return Routed::NoWorker };
                        let number = member.id * self.ranks_per_worker + rank;
                        if let Some(session) = ask.session {
                            homes.insert(session, number);
                        }
                        targets.iter().position(|t| t.number == number).unwrap_or(0)
                    }
                };
                plain((index, 1))
            }
            Policy::Kv(kv) => match kv.consider(ask, targets, prompts, draws) {
                Verdict::Go(choice) => choice,
                Verdict::Wait => return Routed::Waits,
                Verdict::Refuse(reason) => return Routed::Refused(reason),
            },
        };
        self.log(ask, now, choice, decisions);
        Routed::To(self.placement(ask, choice))
    }

    /// Takes a waiting request for which a worker is free at `now`, if there is one.
    pub fn release(
        &mut self,
        now: SimTime,
        pool: &Pool,
        prompts: &PromptIndex,
        decisions: &mut Decisions,
    ) -> Option<Placement> {
        self.list_targets(pool);
        let Policy::Kv(kv) = &mut self.policy else { return None };
        let (ask, choice) = kv.release(&self.targets, prompts, &mut self.draws)?;
        self.log(&ask, now, choice, decisions);
        Some(self.placement(&ask, choice))
    }

    /// Sum of the shares of prompt blocks taken for cached, and requests, since this was asked last.
    pub fn take_hit_rates(&mut self) -> (f64, u64) {
        std::mem::take(&mut self.hit_rates)
    }

    fn placement(&mut self, ask: &Ask, choice: Choice) -> Placement {
        if let Policy::Kv(kv) = &self.policy {
            let blocks = ask.prompt.div_ceil(kv.block_size());
            if blocks > 0 {
                self.hit_rates.0 += f64::from(choice.overlap_tokens / kv.block_size()) / f64::from(blocks);
                self.hit_rates.1 += 1;
            }
        }
        let target = self.targets[choice.index];
        Placement {
            request: ask.request,
            member: target.member,
            rank: target.rank,
            overlap_tokens: choice.overlap_tokens,
        }
    }

    fn index_of(&self, number: u32) -> usize {
        self.targets.iter().position(|target| target.number == number).unwrap_or(0)
    }

    fn log(&self, ask: &Ask, now: SimTime, choice: Choice, decisions: &mut Decisions) {
        if !decisions.are_wanted() {
            return;
        }
        let basis = match &self.policy {
            Policy::RoundRobin(_) | Policy::Random | Policy::SessionAffinity { .. } => Basis::Nothing,
            Policy::LeastLoaded(flight) => Basis::InFlight(&flight.counts),
            Policy::PowerOfTwo(flight) => Basis::Drawn { pair: flight.pair, in_flight: &flight.counts },
            Policy::Kv(kv) => Basis::Cost(kv.terms()),
        };
        decisions.take(&Decision::Route(RouteDecision {
            at: now,
            request: ask.request,
            prompt: ask.prompt,
            pool: self.role,
            mode: self.mode,
            targets: &self.targets,
            basis,
            chosen: choice.index,
            tied: choice.tied,
            queued: now.since(ask.at),
        }));
    }
}
