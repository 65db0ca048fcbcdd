//! Workers: their part, their life cycle, the pools they form.

use std::collections::VecDeque;

use bevy::prelude::*;

use crate::perf::PassTimer;
use crate::scenario::{EngineConfig, Role, Semantics};
use crate::time::{SimDuration, SimTime};

use super::engine::{Job, Scheduler};
use super::handoff::Action;
use super::kv::{KvTiers, PromptIndex, SharedTiers};
use super::metrics::WorkerState;
use super::router::Routers;

/// A worker and its number, unique and ascending within its pool, never reused.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Number within its pool.
    pub id: u32,
    /// Part it plays.
    pub role: Role,
}

/// Where a worker is in its life.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle(pub WorkerState);

/// What computes: one scheduler per data-parallel rank, whose passes start and end together.
#[derive(Component, Debug)]
pub struct Engine {
    /// Ranks in order.
    pub ranks: Vec<Scheduler>,
    /// End of the pass in progress.
    pub busy_until: Option<SimTime>,
    /// Time spent in passes, all of the one in progress included.
    pub busy: SimDuration,
    /// Routed to this worker, not there yet: arrival, rank, work.
    pub inbox: VecDeque<(SimTime, u32, Job)>,
    /// Hand-off actions that wait for the end of the pass.
    pub deferred: Vec<Action>,
    /// Since when it takes requests; before that, since when it is starting.
    pub active_since: SimTime,
    /// Since when it has been idle, as far as it runs alone.
    pub idle_at: SimTime,
    /// No pass starts any more: the time cap is behind.
    pub frozen: bool,
}

impl Engine {
    /// Whether any rank has requests to work on.
    pub fn has_work(&self) -> bool {
        !self.frozen && self.ranks.iter().any(Scheduler::has_work)
    }

    /// So many passes had nothing to do. Returns whether the last of them changed anything.
    pub fn idle(&mut self, passes: u64) -> bool {
        let ranks = self.ranks.iter_mut().filter(|rank| rank.has_work());
        // Every rank is told, also when one before it changed.
        let mut changed = false;
        for rank in ranks {
            changed |= rank.idle(passes);
        }
        changed
    }

    /// Whether nothing is left, holds and announced requests included.
    pub fn is_drained(&self) -> bool {
        self.busy_until.is_none() && self.inbox.is_empty() && self.ranks.iter().all(Scheduler::is_drained)
    }
}

/// Workers of one role.
#[derive(Debug)]
pub struct Pool {
    /// Part they play.
    pub role: Role,
    /// Their engine.
    pub config: EngineConfig,
    /// All of them by ascending number.
    pub members: Vec<Member>,
    /// Whether somebody watches its workers' passes.
    pub watched: bool,
    /// Number of the next worker.
    pub next_id: u32,
    /// Provisioned time so far, worker-nanoseconds.
    pub provisioned: u128,
    /// Time that workers which are gone spent in passes, worker-nanoseconds.
    pub busy: u128,
    /// What its workers share of the KV tiers below their GPUs.
    pub tiers: Option<SharedTiers>,
    timer: PassTimer,
}

/// A worker as its pool lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Number.
    pub id: u32,
    /// Its entity.
    pub entity: Entity,
    /// Where it is in its life (a copy of [`Lifecycle`], for choosing without a query).
    pub state: WorkerState,
}

impl Pool {
    /// A pool without workers.
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            role: config.role,
            config: config.clone(),
            members: Vec::new(),
            watched: false,
            next_id: 0,
            provisioned: 0,
            busy: 0,
            tiers: config.tiers.as_ref().map(SharedTiers::new),
            timer: PassTimer::new(&config.timing, config.timer_setup()),
        }
    }

    /// Everything a worker that is made `now` consists of; its ranks tell the routers what those want to know.
    pub fn build(
        &mut self,
        state: WorkerState,
        now: SimTime,
        semantics: Semantics,
        prompts: &PromptIndex,
        routers: &Routers,
    ) -> impl Bundle + use<> {
        let id = self.next_id;
        self.next_id += 1;
        let (cache, first_tokens) = routers.reports_wanted(self.role);
        let ranks = (0..self.config.dp_size)
            .map(|rank| {
                let index = id.wrapping_mul(self.config.dp_size).wrapping_add(rank);
                let mut scheduler = Scheduler::new(&self.config, semantics, self.timer.clone(), prompts, index);
                scheduler.report_to_router(cache, first_tokens);
                if self.watched {
                    scheduler.watch().watch();
                }
                if let (Some(tiers), Some(shared)) = (&self.config.tiers, &self.tiers) {
                    scheduler.attach_tiers(KvTiers::new(tiers, shared.clone()));
                }
                scheduler
            })
            .collect();
        let engine = Engine {
            ranks,
            busy_until: None,
            busy: SimDuration::ZERO,
            inbox: VecDeque::new(),
            deferred: Vec::new(),
            idle_at: SimTime::ZERO,
            active_since: now,
            frozen: false,
        };
        (Worker { id, role: self.role }, Lifecycle(state), engine)
    }

    /// Lists a worker spawned from [`Self::build`].
    pub fn list(&mut self, id: u32, entity: Entity, state: WorkerState) {
        self.members.push(Member { id, entity, state });
    }

    /// Workers in `state`.
    pub fn count(&self, state: WorkerState) -> u32 {
        self.members.iter().filter(|m| m.state == state).count() as u32
    }
}

/// Workers that have requests but nothing to do for a pass. In the reference every *look* at one runs a pass without
/// effect, which counts for schedulers that change with time alone; here such passes are made up for when something
/// happens to the worker.
///
/// A round looks at all idle workers once, and at an instant there is one round more than there is something to do. In a
/// pool workers are looked at by ascending number, and the stuck ones once more whenever another one starts a pass.
#[derive(Resource, Debug, Default)]
pub struct Stuck {
    /// Looks so far.
    looks: u64,
    workers: Vec<StuckWorker>,
}

#[derive(Debug, Clone, Copy)]
struct StuckWorker {
    worker: Worker,
    /// Number of the look at which a pass had nothing to do.
    since: u64,
    /// Looks in between, because other workers of the pool started passes.
    between: u64,
}

impl Stuck {
    /// So many looks at all idle workers.
    pub fn look(&mut self, times: u64) {
        self.looks += times;
    }

    /// A pass of `worker` had nothing to do at the last look but `ago`.
    pub fn enter(&mut self, worker: Worker, ago: u64) {
        self.workers.push(StuckWorker { worker, since: self.looks - ago, between: 0 });
    }

    /// Passes without effect that `worker` would have had since it got stuck, before this look. It is not stuck any more.
    pub fn leave(&mut self, worker: Worker) -> u64 {
        let Some(position) = self.workers.iter().position(|stuck| stuck.worker == worker) else { return 0 };
        let stuck = self.workers.swap_remove(position);
        self.looks.saturating_sub(stuck.since + 1) + stuck.between
    }

    /// `worker` started so many passes.
    pub fn passes(&mut self, worker: Worker, passes: u64) {
        for stuck in &mut self.workers {
            if stuck.worker.role == worker.role && stuck.worker.id < worker.id {
                stuck.between += passes;
            }
        }
    }
}

/// All pools: the aggregated one, or prefill and decode.
#[derive(Resource, Debug)]
pub struct Fleet {
    /// Aggregated pool alone, or prefill first and decode second.
    pub pools: Vec<Pool>,
    /// Schedulers of workers that are gone, for their measurements.
    pub retired: Vec<Scheduler>,
}

impl Fleet {
    /// The pool whose workers emit tokens to clients.
    pub fn output_pool(&self) -> Option<&Pool> {
        self.pools.last()
    }

    /// The pool that takes arrivals.
    pub fn entry_pool(&self) -> Option<&Pool> {
        self.pools.first()
    }
}
