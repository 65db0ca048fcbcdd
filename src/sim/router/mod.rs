//! Choosing a worker for every request.
//!
//! Each pool has a router of its own ([`PoolRouter`]): the aggregated one, or prefill and decode. A router knows what it
//! sent where; what becomes of it comes back as [`Signal`]s, and what workers cache as
//! [`KvEvent`](super::kv::KvEvent)s. Both can be made to arrive late.
//!
//! | file | idea |
//! |---|---|
//! | `pool` | the router of a pool: mode, targets, signals |
//! | `round_robin` | workers in turn |
//! | `baselines` | random, least loaded, power of two, session affinity |
//! | `kv` | the KV router: cached prefixes, load, cost, queue |
//! | `signals` | what comes back from workers, perhaps late |
//! | `draws` | random streams and ties |
//! | `dispatch` | handing a placed request to its worker |
//! | `decisions` | the stream of decisions |
//!
//! **When workers are looked at.** Round robin, random and session affinity know all they need from the requests: with
//! independent arrivals workers never concern each other. Modes that look at workers look when a request arrives; between
//! two arrivals every worker still runs by itself ([`RunFacts::meets_at_arrivals`]). Only while a router holds requests
//! back it must hear of every prefill and every end at its instant.

mod baselines;
mod decisions;
mod dispatch;
mod draws;
pub mod kv;
mod pool;
mod round_robin;
mod signals;

use bevy::app::{App, Plugin};
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use crate::scenario::{EngineConfig, Role, Router};
use crate::time::SimTime;
use crate::workload::Hint;

use super::arrivals::Unrouted;
use super::clock::VirtualClock;
use super::engine::{EngineEvent, FirstTokens};
use super::request::{News, NewsItem, apply_news};
use super::worker::{Fleet, Member};
use super::{RunFacts, RunOn, SimSet, SimStep, passes};

pub use decisions::{Basis, Decision, DecisionSink, Decisions, RouteDecision};
pub use dispatch::{Dispatch, Placement};
pub use pool::{PoolRouter, Routed};
pub use signals::Signal;

/// A request that needs a worker, as far as a router may know it: how long its output will be is not among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Index.
    pub request: u32,
    /// When it came to the router.
    pub at: SimTime,
    /// Prompt tokens.
    pub prompt: u32,
    /// Its session, if it belongs to one.
    pub session: Option<u32>,
    /// What it asks of a queue.
    pub hint: Hint,
}

/// A worker's rank that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Number of the rank in its pool: worker number times ranks per worker, plus rank.
    pub number: u32,
    /// The worker.
    pub member: Member,
    /// Rank within the worker.
    pub rank: u32,
}

/// A chosen target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Index among the targets.
    pub index: usize,
    /// How many were equally good when one of several was drawn, itself included.
    pub tied: u32,
    /// Prompt tokens that the router takes for cached there.
    pub overlap_tokens: u32,
}

/// The routers of all pools.
#[derive(Resource, Debug)]
pub struct Routers {
    /// Of the pool that takes arrivals.
    entry: PoolRouter,
    /// Of the decode pool, in a disaggregated fleet.
    decode: Option<PoolRouter>,
    /// Whether any router wants to know what becomes of requests.
    listens: bool,
    /// News that were heard ahead of their turn.
    heard: usize,
    /// Requests that a full queue turned away, with the reason.
    refused: Vec<(u32, String)>,
}

impl Routers {
    /// Routers for these pools, the entry pool first; `classes` are the policy classes that requests name.
    pub fn new(router: &Router, pools: &[&EngineConfig], classes: &[Box<str>]) -> Option<Self> {
        let mut pools = pools.iter().map(|engine| PoolRouter::new(router, engine, classes));
        let (entry, decode) = (pools.next()?, pools.next());
        Some(Self { listens: entry.listens(), entry, decode, heard: 0, refused: Vec::new() })
    }

    /// Whether any router wants to know what becomes of the requests it sent.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// Whether requests may have to wait at a router.
    pub fn can_queue(&self) -> bool {
        self.entry.can_queue()
    }

    /// Whether requests wait at a router.
    pub fn has_backlog(&self) -> bool {
        self.entry.has_backlog()
    }

    /// Requests that wait at a router with the instants at which they came, in the order in which they did.
    pub fn waiting(&self) -> Vec<(u32, SimTime)> {
        self.entry.waiting()
    }

    /// The word of the mode in force.
    pub fn mode(&self) -> &'static str {
        self.entry.mode()
    }

    /// When a late signal may let a waiting request go.
    pub fn next_wake(&self) -> Option<SimTime> {
        if self.has_backlog() { self.entry.next_signal() } else { None }
    }

    /// The router of the decode pool, with everything it has heard by `now` followed.
    pub fn decode(&mut self, now: SimTime) -> &mut PoolRouter {
        let router = self.decode.as_mut().unwrap_or(&mut self.entry);
        while router.follow_one(now) {}
        router
    }

    /// What the workers of a pool must report.
    pub fn reports_wanted(&self, role: Role) -> (bool, FirstTokens) {
        let router = if role == Role::Decode { self.decode.as_ref() } else { Some(&self.entry) };
        router.map_or((false, FirstTokens::Unseen), PoolRouter::reports_wanted)
    }

    /// Forgets a worker that is gone.
    pub fn forget_worker(&mut self, role: Role, worker: u32) {
        let decode = self.decode.as_mut().filter(|_| role == Role::Decode);
        decode.unwrap_or(&mut self.entry).forget_worker(worker);
    }

    /// Sum over the requests sent to the entry pool since this was asked last of the share of their prompt's blocks that
    /// was taken for cached, and how many there were; only where the router knows.
    pub fn take_hit_rates(&mut self) -> (f64, u64) {
        self.entry.take_hit_rates()
    }

    /// Requests that a full queue turned away, with the reason.
    pub fn refused(&self) -> &[(u32, String)] {
        &self.refused
    }

    /// Takes note of what an engine did.
    fn hear(&mut self, item: &NewsItem) {
        match (item.event, item.role) {
            (EngineEvent::Admitted { .. } | EngineEvent::BroughtUp { .. }, _) => {}
            (EngineEvent::FirstToken { request } | EngineEvent::Held { request }, _) => {
                self.entry.tell(item.at, Signal::PrefillDone(request));
            }
            (EngineEvent::Ended { request, .. }, role) => {
                // A prefill router hears of an end when the hand-off is closed.
                if role == Role::Aggregated {
                    self.entry.tell(item.at, Signal::Ended(request));
                }
                if let Some(decode) = &mut self.decode {
                    decode.tell(item.at, Signal::Ended(request));
                }
            }
        }
    }
}

/// What a router needs to place requests of the entry pool.
#[derive(SystemParam)]
pub struct Routing<'w, 's> {
    clock: Res<'w, VirtualClock>,
    /// The routers.
    pub routers: ResMut<'w, Routers>,
    decisions: ResMut<'w, Decisions>,
    /// All pools.
    pub fleet: Res<'w, Fleet>,
    /// Hands requests to workers.
    pub dispatch: Dispatch<'w, 's>,
}

impl Routing<'_, '_> {
    /// The instant being processed.
    pub fn now(&self) -> SimTime {
        self.clock.now
    }

    /// Decides which decode worker gets a request, if there is a decode pool.
    pub fn route_to_decode(&mut self, ask: &Ask) -> Option<Routed> {
        let pool = self.fleet.output_pool()?;
        let now = self.clock.now;
        Some(self.routers.decode(now).route(ask, now, pool, &self.dispatch.prompts.0, &mut self.decisions))
    }

    /// Takes note of everything about the caches of the entry pool that can be seen now.
    pub fn hear_caches(&mut self) {
        if let Some(pool) = self.fleet.pools.first()
            && self.routers.entry.wants_cache()
        {
            self.routers.entry.hear_caches(self.clock.now, pool, &mut self.dispatch.engines);
        }
    }

    /// Sends a request to a worker of the entry pool at `at`, or lets it wait at the router. Returns whether there is any
    /// worker.
    pub fn place(&mut self, ask: &Ask, at: SimTime, news: &mut News) -> bool {
        let Some(pool) = self.fleet.pools.first() else { return false };
        match self.routers.entry.route(ask, at, pool, &self.dispatch.prompts.0, &mut self.decisions) {
            Routed::To(placement) => self.dispatch.hand_over(&placement, pool, at),
            Routed::Waits => {}
            Routed::NoWorker => return false,
            Routed::Refused(reason) => {
                self.routers.refused.push((ask.request, reason));
                // No worker has it, so its end concerns no hand-off.
                let event = EngineEvent::failed(ask.request);
                news.0.push(NewsItem { at, role: Role::Aggregated, event });
            }
        }
        true
    }

    /// A request is over on its prefill worker, so another may go there; if it was `cancelled`, a decode worker does not
    /// expect it any more either.
    pub fn close(&mut self, request: u32, cancelled: bool) {
        let now = self.clock.now;
        let Routers { entry, decode, .. } = &mut *self.routers;
        entry.tell(now, Signal::Ended(request));
        if let Some(decode) = decode.as_mut().filter(|_| cancelled) {
            decode.tell(now, Signal::Ended(request));
        }
        self.act(now);
    }

    /// Whether requests wait at a router.
    pub fn has_backlog(&self) -> bool {
        self.routers.has_backlog()
    }

    /// Hears the news that nobody has heard yet. Requests that may go now are handed to their workers; returns the lowest
    /// place in the pool of a worker that got one.
    pub fn hear(&mut self, news: &News) -> Option<usize> {
        let mut lowest = None;
        let from = self.routers.heard.min(news.0.len());
        for item in &news.0[from..] {
            self.routers.hear(item);
            lowest = self.act(item.at).into_iter().chain(lowest).min();
        }
        self.routers.heard = news.0.len();
        lowest
    }

    /// Follows the signals that have arrived by `now`, one by one, and lets waiting requests go after each.
    fn act(&mut self, now: SimTime) -> Option<usize> {
        let mut lowest = None;
        while self.routers.entry.follow_one(now) {
            lowest = self.release(now).into_iter().chain(lowest).min();
        }
        if let Some(decode) = &mut self.routers.decode {
            while decode.follow_one(now) {}
        }
        lowest
    }

    /// Lets waiting requests go as long as a worker is free for them.
    fn release(&mut self, now: SimTime) -> Option<usize> {
        let mut lowest = None;
        while self.routers.entry.has_backlog() {
            let Some(pool) = self.fleet.pools.first() else { break };
            let prompts = &self.dispatch.prompts.0;
            let Some(placement) = self.routers.entry.release(now, pool, prompts, &mut self.decisions) else { break };
            let place = pool.members.iter().position(|member| member.id == placement.member.id);
            lowest = place.into_iter().chain(lowest).min();
            self.dispatch.hand_over(&placement, pool, now);
        }
        lowest
    }
}

/// Hears what the engines did since.
pub fn hear_news(news: Res<News>, mut routing: Routing) {
    let now = routing.clock.now;
    routing.hear(&news);
    // Whoever comes next empties the news.
    routing.routers.heard = 0;
    routing.act(now);
}

/// Whether requests wait for a worker.
pub fn anything_to_route(unrouted: Res<Unrouted>, routers: Res<Routers>) -> bool {
    !unrouted.waiting.is_empty() || unrouted.retry || routers.has_backlog()
}

/// Sends every new request to a worker, or lets it wait at the router.
pub fn route_requests(
    facts: Res<RunFacts>,
    mut unrouted: ResMut<Unrouted>,
    mut news: ResMut<News>,
    mut routing: Routing,
) {
    unrouted.retry = false;
    let now = routing.clock.now;
    // The fleet may have changed.
    routing.release(now);
    if unrouted.waiting.is_empty() {
        return;
    }
    routing.hear_caches();
    while let Some(ask) = unrouted.waiting.front() {
        let at = if facts.independent { ask.at } else { now };
        if !routing.dispatch.reserve_first(ask.request) && !routing.place(ask, at, &mut news) {
            // Without an active worker requests wait until one is ready.
            return;
        }
        unrouted.waiting.pop_front();
    }
}

/// Routing.
#[derive(Debug, Default)]
pub struct RouterPlugin {
    /// Whether a router wants to know what becomes of the requests it sent.
    pub listens: bool,
}

impl Plugin for RouterPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Decisions>()
            .add_systems(SimStep, route_requests.run_if(anything_to_route).in_set(SimSet::Routing));
        if self.listens {
            let in_step = hear_news.after(passes::complete_passes).before(apply_news).in_set(SimSet::Completions);
            app.add_systems(SimStep, in_step).add_systems(RunOn, hear_news.after(passes::run_on).before(apply_news));
        }
    }
}
