//! What a run looks like at an instant, for somebody who shows it. To look changes nothing.
//!
//! Within a forward pass, tokens are counted as they are at the instant; KV blocks are those there will be when the pass
//! ends, since the scheduler settles that when the pass starts.

use bevy::prelude::*;

use crate::scenario::Role;
use crate::time::SimTime;

use super::arrivals::{Arrivals, Unrouted};
use super::engine::{Doing, Look, RankCloseUp, Scheduler};
use super::handoff::{Handoffs, TransferCloseUp};
use super::kv::PromptIndex;
use super::metrics::{RequestRecord, ScalingEvent, WorkerState};
use super::planner::{Decision, PlannerRun};
use super::request::{Requests, Timeline};
use super::router::Routers;
use super::scaling::Scaling;
use super::simulation::Simulation;
use super::worker::{Engine, Fleet, Pool, Worker};
use super::{Prompts, clock::VirtualClock};

/// A run at an instant.
#[derive(Debug, Clone, PartialEq)]
pub struct CloseUp {
    /// The instant.
    pub at: SimTime,
    /// Requests that arrived so far.
    pub arrived: u32,
    /// Requests that ended so far.
    pub ended: u32,
    /// Requests of the workload.
    pub total: u32,
    /// The word of the router's mode.
    pub router_mode: &'static str,
    /// Requests that wait at the router, or for a worker to send them to, with the instants at which they came.
    pub at_router: Vec<(u32, SimTime)>,
    /// The aggregated pool alone, or prefill first and decode second.
    pub pools: Vec<PoolCloseUp>,
    /// KV on its way from prefill to decode.
    pub transfers: Vec<(Worker, Worker, TransferCloseUp)>,
    /// Output tokens that clients have seen.
    pub output_tokens: u64,
}

/// Workers of one role.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolCloseUp {
    /// Part they play.
    pub role: Role,
    /// Active and starting workers.
    pub requested: u32,
    /// GPUs that one of them occupies.
    pub gpus_per_worker: u64,
    /// Provisioned time so far, worker-nanoseconds.
    pub provisioned: u128,
    /// Its workers, by ascending number.
    pub workers: Vec<WorkerCloseUp>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerCloseUp {
    /// Number within its pool.
    pub id: u32,
    /// Life cycle.
    pub state: WorkerState,
    /// When a starting worker will be ready.
    pub ready_at: Option<SimTime>,
    /// The forward pass in progress.
    pub pass: Option<PassCloseUp>,
    /// Its schedulers, rank by rank.
    pub ranks: Vec<RankCloseUp>,
    /// Requests on their way into a scheduler: they arrived during the pass in progress.
    pub inbox: Vec<u32>,
}

/// A forward pass in progress, over all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassCloseUp {
    /// When it started.
    pub start: SimTime,
    /// When it ends.
    pub end: SimTime,
    /// Prompt tokens it computes.
    pub prefill_tokens: u64,
    /// Requests that compute prompt tokens in it.
    pub prefill_requests: u32,
    /// Requests that decode in it.
    pub decode_requests: u32,
}

impl WorkerCloseUp {
    fn of(engine: &Engine, id: u32, state: WorkerState, pool: &Pool, at: SimTime) -> Self {
        let end = engine.busy_until.filter(|end| *end > at);
        let start = engine.ranks.iter().map(Scheduler::last_start).max().unwrap_or_default();
        let ranks: Vec<RankCloseUp> = engine
            .ranks
            .iter()
            .map(|rank| rank.close_up(Look { at, in_pass: end.is_some() && rank.last_start() == start }))
            .collect();
        let pass = end.map(|end| {
            let members = || ranks.iter().flat_map(|rank| &rank.members);
            let decodes = |m: &super::engine::Member| m.doing == Doing::Decode && m.emits;
            PassCloseUp {
                start,
                end,
                prefill_tokens: members().map(|m| u64::from(m.computing)).sum(),
                prefill_requests: members().filter(|m| m.computing > 0).count() as u32,
                decode_requests: members().filter(|m| decodes(m)).count() as u32,
            }
        });
        Self {
            id,
            state,
            ready_at: (state == WorkerState::Starting).then(|| engine.active_since + pool.config.startup_time),
            pass,
            ranks,
            inbox: engine.inbox.iter().map(|(_, _, job)| job.request).collect(),
        }
    }
}

impl Simulation {
    /// What the run looks like at `at`, up to which it must have been run.
    pub fn close_up(&self, at: SimTime) -> CloseUp {
        let world = &self.world;
        let (requests, fleet) = (world.resource::<Requests>(), world.resource::<Fleet>());
        let handoffs = world.resource::<Handoffs>();
        let arrived = |request: u32| self.record(request).map_or(at, |record| record.arrival);
        let mut at_router: Vec<(u32, SimTime)> = world.resource::<Routers>().waiting();
        at_router.extend(world.resource::<Unrouted>().waiting.iter().map(|ask| (ask.request, ask.at)));
        at_router.extend(handoffs.unplaced().map(|request| (request, arrived(request))));
        // Provisioned time ends with the run.
        let over = self.next_event().is_none();
        let until = if over { at.min(self.last_event()) } else { at };
        let open = u128::from(until.since(self.provisioned_until).as_nanos());
        let pools: Vec<PoolCloseUp> = fleet
            .pools
            .iter()
            .map(|pool| PoolCloseUp {
                role: pool.role,
                requested: pool.count(WorkerState::Active) + pool.count(WorkerState::Starting),
                gpus_per_worker: pool.config.gpus_per_worker(),
                provisioned: pool.provisioned + open * pool.members.len() as u128,
                workers: pool
                    .members
                    .iter()
                    .filter_map(|member| {
                        let engine = world.get::<Engine>(member.entity)?;
                        Some(WorkerCloseUp::of(engine, member.id, member.state, pool, at))
                    })
                    .collect(),
            })
            .collect();
        let worker = |entity: Entity| world.get::<Worker>(entity).copied();
        let transfers = handoffs.under_way(at).into_iter();
        let transfers = transfers.filter_map(|t| Some((worker(t.source)?, worker(t.destination)?, t))).collect();
        let retired = fleet.retired.iter().filter(|rank| rank.emits_to_clients()).map(Scheduler::emitted);
        let emitted = pools.iter().flat_map(|p| &p.workers).flat_map(|w| &w.ranks).map(|rank| rank.emitted);
        CloseUp {
            at,
            arrived: requests.arrived,
            ended: requests.records.len() as u32,
            total: world.resource::<Arrivals>().total() as u32,
            router_mode: world.resource::<Routers>().mode(),
            at_router,
            output_tokens: retired.chain(emitted).sum(),
            pools,
            transfers,
        }
    }

    /// Lets every worker's passes be watched from now on: [`Self::border_before`] needs it. Results stay as they
    /// are.
    pub fn watch_passes(&mut self) {
        self.for_each_engine(|_, engine| engine.ranks.iter_mut().for_each(|rank| rank.watch().watch()));
        self.world.resource_mut::<Fleet>().pools.iter_mut().for_each(|pool| pool.watched = true);
    }

    /// The last instant up to now at which anything happened.
    pub fn last_event(&self) -> SimTime {
        let members = self.world.resource::<Fleet>().pools.iter().flat_map(|pool| &pool.members);
        let engines = members.filter_map(|member| self.world.get::<Engine>(member.entity));
        // Passes that concern nobody end silently, and the next one starts there.
        let starts = engines.flat_map(|engine| &engine.ranks).map(Scheduler::last_start);
        starts.fold(self.world.resource::<VirtualClock>().last_event, SimTime::max)
    }

    /// Requests that wait at the router, or for a worker to send them to.
    pub fn waiting_at_router(&self) -> u32 {
        let world = &self.world;
        let unrouted = world.resource::<Unrouted>().waiting.len() + world.resource::<Handoffs>().unplaced().count();
        (world.resource::<Routers>().waiting().len() + unrouted) as u32
    }

    /// The last instant before `at` at which a pass began or ended: of one worker, by role and number, or of any. Passes
    /// must be watched.
    pub fn border_before(&self, at: SimTime, worker: Option<(Role, u32)>) -> Option<SimTime> {
        let pools = self.world.resource::<Fleet>().pools.iter();
        let members = pools.flat_map(|pool| pool.members.iter().map(|member| ((pool.role, member.id), member.entity)));
        let wanted = members.filter(|(name, _)| worker.is_none_or(|worker| worker == *name));
        let engines = wanted.filter_map(|(_, entity)| self.world.get::<Engine>(entity));
        engines.flat_map(|engine| &engine.ranks).filter_map(|rank| rank.watched().border_before(at)).max()
    }

    /// What has been measured of a request in flight.
    pub fn record(&self, request: u32) -> Option<&RequestRecord> {
        let entity = self.world.resource::<Requests>().entities.get(request as usize).copied().flatten()?;
        self.world.get::<Timeline>(entity).map(|timeline| &timeline.0)
    }

    /// Requests in flight, by ascending index.
    pub fn in_flight(&self) -> impl Iterator<Item = &RequestRecord> {
        let entities = self.world.resource::<Requests>().entities.iter().copied().flatten();
        entities.filter_map(|entity| self.world.get::<Timeline>(entity)).map(|timeline| &timeline.0)
    }

    /// Requests that ended, in the order in which the simulation came to know of it.
    pub fn ended(&self) -> &[RequestRecord] {
        &self.world.resource::<Requests>().records
    }

    /// Session and turn of a request, when there are sessions.
    pub fn session_turn(&self, request: u32) -> Option<(u32, u32)> {
        self.world.resource::<Arrivals>().session_turn(request)
    }

    /// What the planner decided so far.
    pub fn decisions(&self) -> &[Decision] {
        self.world.get_resource::<PlannerRun>().map_or(&[], |planner| &planner.log.decisions)
    }

    /// Changes of replica targets so far.
    pub fn scaling_events(&self) -> &[ScalingEvent] {
        &self.world.resource::<Scaling>().events
    }

    /// Names of prompt blocks.
    pub fn prompts(&self) -> &PromptIndex {
        &self.world.resource::<Prompts>().0
    }
}
