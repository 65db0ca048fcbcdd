//! Driving the simulation: instants, rounds, ends and dead ends.

use bevy::app::App;
use bevy::ecs::schedule::{Schedule, Schedules};
use bevy::ecs::world::World;

use crate::scenario::{EngineConfig, Role, RouterMode, Run, SchedulerKind, Topology};
use crate::time::{SimDuration, SimTime};
use crate::workload::{Release, Workload};

use super::arrivals::{Arrivals, Unrouted};
use super::clock::{Agenda, Due, VirtualClock};
use super::engine::{EngineEvent, GapCounts, Scheduler};
use super::handoff::Handoffs;
use super::kv::{Lane, PromptIndex};
use super::metrics::{FinalStatus, Outcome, PoolTime, Snapshot, TierTotals, WorkerSnapshot, WorkerState};
use super::planner::{self, Planner, PlannerRun};
use super::request::{News, NewsItem, Requests, Timeline, add_tokens};
use super::router::{DecisionSink, Decisions, Routers};
use super::scaling::{Scaling, is_settled, provision};
use super::worker::{Engine, Fleet, Lifecycle, Pool, Stuck, Worker};
use super::{Prompts, RunFacts, RunOn, SimPlugin, SimStep};

/// Why a simulation cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The schedules could not be built; a defect of the program.
    #[error("the simulation schedule cannot be built: {0}")]
    Schedule(String),
    /// More ranks than can be numbered.
    #[error("{workers} workers with {ranks} ranks each are more schedulers than can be numbered; use fewer")]
    TooManyRanks {
        /// Workers asked for.
        workers: u32,
        /// Ranks of each.
        ranks: u32,
    },
}

/// A run in progress. The same scenario gives the same result however it is advanced.
pub struct Simulation {
    pub(super) world: World,
    step: Schedule,
    run_on: Schedule,
    cap: SimTime,
    single_worker: bool,
    pub(super) provisioned_until: SimTime,
    dead_ends: Vec<String>,
    /// The cap is behind; only the pass in progress is completed.
    closing: bool,
    /// Workers run by themselves whenever no request waits at the router.
    uncouples: bool,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Most dead-end explanations kept; the rest are counted.
const EXPLAINED: usize = 20;

impl Simulation {
    /// Sets up a run.
    ///
    /// # Errors
    /// When the fleet is larger than can be numbered.
    pub fn new(run: &Run, mut workload: Workload) -> Result<Self, SimError> {
        let (pools, disaggregated): (Vec<(u32, &EngineConfig)>, bool) = match &run.topology {
            Topology::Aggregated { workers, engine } => (vec![(*workers, engine)], false),
            Topology::Disaggregated { prefill_workers, decode_workers, prefill, decode } => {
                (vec![(*prefill_workers, prefill), (*decode_workers, decode)], true)
            }
        };
        for (workers, engine) in &pools {
            if workers.checked_mul(engine.dp_size).is_none() {
                return Err(SimError::TooManyRanks { workers: *workers, ranks: engine.dp_size });
            }
        }
        let fixed_fleet = run.scaling.is_none() && run.planner.is_none();
        let prompts = Prompts(PromptIndex::new(&mut workload, pools.first().map_or(1, |(_, e)| e.block_size)));
        let planned_outputs = workload.planned_outputs;
        let uncapped = matches!(&workload.release, Release::Graph(graph) if graph.ignores_time_cap);
        let engines: Vec<&EngineConfig> = pools.iter().map(|(_, engine)| *engine).collect();
        let Some(routers) = Routers::new(&run.router, &engines, &workload.hints.classes) else {
            return Err(SimError::Schedule("no pool of workers".into()));
        };
        let arrivals = Arrivals::new(workload);
        let has_tiers = engines.iter().any(|engine| engine.tiers.is_some());
        let independent = !disaggregated && fixed_fleet && arrivals.is_flat() && !has_tiers;
        let uncouples = independent && routers.can_queue();
        let facts = RunFacts {
            semantics: run.semantics,
            disaggregated,
            single_worker: !disaggregated
                && fixed_fleet
                && run.router.mode == RouterMode::RoundRobin
                && pools.iter().all(|(n, e)| *n == 1 && e.dp_size == 1),
            pulls_between_passes: false,
            destination_first: disaggregated
                && pools.iter().any(|(_, e)| matches!(e.scheduler, SchedulerKind::Sglang(_))),
            independent,
            apart: !disaggregated
                && arrivals.is_flat()
                && !routers.listens()
                && !has_tiers
                && pools.iter().all(|(_, e)| !matches!(e.scheduler, SchedulerKind::Sglang(_))),
            meets_at_arrivals: independent && routers.listens(),
            block_size: engines.first().map_or(1, |engine| engine.block_size),
            has_tiers,
            planned_outputs,
        };

        let facts = RunFacts { pulls_between_passes: facts.single_worker && arrivals.is_closed_loop(), ..facts };
        let mut app = App::empty();
        app.add_plugins(SimPlugin {
            router_listens: routers.listens(),
            router_queues: routers.can_queue(),
            tiers: has_tiers,
        });
        let mut world = std::mem::take(app.world_mut());
        let mut fleet = Fleet { pools: Vec::new(), retired: Vec::new() };
        for (workers, engine) in pools {
            let mut pool = Pool::new(engine);
            pool.watched = run.planner.is_some();
            for _ in 0..workers {
                let id = pool.next_id;
                let bundle = pool.build(WorkerState::Active, SimTime::ZERO, facts.semantics, &prompts.0, &routers);
                let entity = world.spawn(bundle).id();
                pool.list(id, entity, WorkerState::Active);
            }
            fleet.pools.push(pool);
        }
        if let Some(script) = &run.scaling {
            world.resource_mut::<Agenda>().enter(script.first_tick, Due::ScalingTick);
            world.resource_mut::<Scaling>().script = Some(script.clone());
        }
        if let Some(config) = &run.planner {
            let planner = PlannerRun::new(planner::prepare(config, &run.topology, run.semantics.planner));
            if let Some(first) = planner.next_tick() {
                world.resource_mut::<Agenda>().enter(first, Due::ScalingTick);
            }
            world.insert_resource(planner);
        }
        let single_worker = facts.single_worker;
        world.resource_mut::<Handoffs>().destination_first = facts.destination_first;
        world.insert_resource(facts);
        world.insert_resource(fleet);
        world.insert_resource(routers);
        world.insert_resource(prompts);
        world.insert_resource(arrivals);

        let mut schedules = world.resource_mut::<Schedules>();
        let (step, run_on) = (schedules.remove(SimStep), schedules.remove(RunOn));
        let (Some(mut step), Some(mut run_on)) = (step, run_on) else {
            return Err(SimError::Schedule("not registered".into()));
        };
        for schedule in [&mut step, &mut run_on] {
            if let Err(error) = schedule.initialize(&mut world) {
                return Err(SimError::Schedule(error.to_string(schedule.graph(), &world)));
            }
        }
        Ok(Self {
            world,
            step,
            run_on,
            cap: run.max_sim_time.filter(|_| !uncapped).unwrap_or(SimTime::MAX),
            single_worker,
            provisioned_until: SimTime::ZERO,
            dead_ends: Vec::new(),
            closing: false,
            uncouples,
        })
    }

    /// The instant reached.
    pub fn now(&self) -> SimTime {
        self.world.resource::<VirtualClock>().now
    }

    /// Requests that ended, and requests in all.
    pub fn progress(&self) -> (u32, u32) {
        (self.world.resource::<Requests>().records.len() as u32, self.world.resource::<Arrivals>().total() as u32)
    }

    /// The planner, if there is one, to teach it something before the run.
    pub fn planner_mut(&mut self) -> Option<&mut Planner> {
        self.world.get_resource_mut::<PlannerRun>().map(|planner| planner.into_inner().planner_mut())
    }

    /// Sends every decision to `sink` from now on.
    pub fn send_decisions(&mut self, sink: Box<dyn DecisionSink>) {
        self.world.insert_resource(Decisions::to(sink));
    }

    /// When something happens next; `None` when the run is over.
    pub fn next_event(&self) -> Option<SimTime> {
        let next = if self.world.resource::<RunFacts>().independent {
            let fleet = self.world.resource::<Fleet>();
            let ends = fleet.pools.iter().flat_map(|p| &p.members).filter_map(|member| {
                let engine = self.world.get::<Engine>(member.entity)?;
                engine.busy_until.or_else(|| engine.inbox.front().map(|(at, _, _)| *at))
            });
            let arrival = self.world.resource::<Arrivals>().next_time();
            ends.chain(arrival).min().or_else(|| self.is_stuck().then(|| self.now()))
        } else if self.is_over() {
            None
        } else {
            self.next_instant().or_else(|| self.is_stuck().then(|| self.now()))
        };
        next.filter(|at| *at <= self.cap)
    }

    fn is_stuck(&self) -> bool {
        self.world.resource::<Requests>().in_flight() > 0
    }

    fn next_instant(&self) -> Option<SimTime> {
        let agenda = self.world.resource::<Agenda>();
        let due = agenda.peek().map(|(at, _)| at);
        let waits = self.world.resource::<RunFacts>().pulls_between_passes && agenda.has_work();
        let arrival = self.world.resource::<Arrivals>().next_time().filter(|_| !waits);
        let wake = self.world.resource::<Routers>().next_wake();
        due.into_iter().chain(arrival).chain(wake).min()
    }

    fn is_over(&self) -> bool {
        !self.world.resource::<Agenda>().has_work()
            && self.world.resource::<Requests>().in_flight() == 0
            && self.world.resource::<Arrivals>().is_drained()
    }

    /// Whether requests are in flight and nothing that could still happen moves them.
    fn is_dead_end(&self) -> bool {
        let agenda = self.world.resource::<Agenda>();
        let arrival = self.world.resource::<Arrivals>().next_time();
        let wake = self.world.resource::<Routers>().next_wake();
        if agenda.has_work() || agenda.has_copies() || arrival.is_some() || wake.is_some() || !self.is_stuck() {
            return false;
        }
        match agenda.peek() {
            None => true,
            // A later step of the script may still bring workers.
            Some((at, Due::ScalingTick)) => {
                let script = &self.world.resource::<Scaling>().script;
                script.as_ref().is_none_or(|s| s.steps.iter().all(|step| step.from < at))
            }
            Some(_) => false,
        }
    }

    /// Runs to the end, or to the time cap.
    pub fn run_to_end(&mut self) {
        self.run_until(SimTime::MAX);
    }

    /// Processes everything up to and including `limit`.
    pub fn run_until(&mut self, limit: SimTime) {
        let limit = limit.min(self.cap);
        self.world.resource_mut::<VirtualClock>().limit = limit;
        loop {
            let turned = if self.world.resource::<RunFacts>().independent {
                self.run_independent(limit)
            } else {
                self.run_coupled(limit)
            };
            if !turned {
                break;
            }
        }
    }

    /// Returns whether a request waits at the router, so that the rest must be run coupled.
    fn run_independent(&mut self, limit: SimTime) -> bool {
        if self.world.resource::<RunFacts>().meets_at_arrivals {
            if self.run_between_arrivals(limit) {
                return true;
            }
        } else {
            loop {
                self.step.run(&mut self.world);
                self.run_on.run(&mut self.world);
                if self.world.resource::<Arrivals>().next_time().is_none_or(|next| next > limit) {
                    break;
                }
            }
        }
        while self.meets_independent_dead_end() {
            let at = self.world.resource::<VirtualClock>().last_event;
            self.break_dead_end(at);
            self.run_on.run(&mut self.world);
        }
        if limit < SimTime::MAX {
            self.world.resource_mut::<VirtualClock>().now = limit;
        }
        false
    }

    /// Each worker runs by itself to the next arrival; then the router looks at all of them. Returns whether a request
    /// had to wait there, from which instant on workers are coupled.
    fn run_between_arrivals(&mut self, limit: SimTime) -> bool {
        loop {
            self.run_on.run(&mut self.world);
            let Some(next) = self.world.resource::<Arrivals>().next_time().filter(|next| *next <= limit) else {
                return false;
            };
            self.world.resource_mut::<VirtualClock>().now = next;
            self.step.run(&mut self.world);
            if self.uncouples && self.world.resource::<Routers>().has_backlog() {
                self.couple();
                return true;
            }
        }
    }

    /// From now on every pass is looked at when it ends: the agenda gets those in progress, in the order in which they
    /// began.
    fn couple(&mut self) {
        self.set_independent(false);
        let mut passes = Vec::new();
        let members: Vec<_> =
            self.world.resource::<Fleet>().pools.iter().flat_map(|p| &p.members).map(|m| m.entity).collect();
        self.world.resource_scope::<Prompts, ()>(|world, prompts| {
            for (place, entity) in members.into_iter().enumerate() {
                let Some(mut engine) = world.get_mut::<Engine>(entity) else { continue };
                while let Some((_, rank, job)) = engine.inbox.pop_front() {
                    engine.ranks[rank as usize].submit(job, &prompts.0);
                }
                let began = engine.ranks.iter().map(Scheduler::last_start).max();
                passes.extend(engine.busy_until.map(|end| (began, place, end, entity)));
            }
        });
        passes.sort_unstable_by_key(|(began, place, ..)| (*began, *place));
        let mut agenda = self.world.resource_mut::<Agenda>();
        for (_, _, end, entity) in passes {
            agenda.enter(end, Due::PassEnd(entity));
        }
        self.settle();
    }

    /// From now on workers run by themselves again.
    fn uncouple(&mut self) {
        self.set_independent(true);
        let now = self.now();
        // Of a fixed fleet without hand-offs the agenda holds ends of passes only, which workers know themselves.
        while self.world.resource_mut::<Agenda>().take().is_some() {}
        self.for_each_engine(|_, engine| engine.idle_at = now);
    }

    fn set_independent(&mut self, independent: bool) {
        let mut facts = self.world.resource_mut::<RunFacts>();
        facts.independent = independent;
        facts.meets_at_arrivals = independent;
    }

    /// Whether all workers of a fixed fleet with all arrivals behind are idle while requests are in flight.
    fn meets_independent_dead_end(&self) -> bool {
        let over = !self.closing
            && self.world.resource::<Arrivals>().next_time().is_none()
            && !self.any_engine(|e| e.busy_until.is_some());
        over && self.is_stuck()
    }

    fn any_engine(&self, test: impl Fn(&Engine) -> bool) -> bool {
        let members = self.world.resource::<Fleet>().pools.iter().flat_map(|p| &p.members);
        members.filter_map(|m| self.world.get::<Engine>(m.entity)).any(test)
    }

    /// Returns whether no request waits at the router any more and workers run by themselves.
    fn run_coupled(&mut self, limit: SimTime) -> bool {
        loop {
            if self.uncouples && !self.world.resource::<Routers>().has_backlog() {
                self.uncouple();
                return true;
            }
            self.run_on.run(&mut self.world);
            if self.is_over() {
                return false;
            }
            if !self.closing && self.is_dead_end() {
                let at = self.world.resource::<VirtualClock>().last_event;
                self.provision_to(at);
                self.world.resource_mut::<VirtualClock>().now = at;
                self.break_dead_end(at);
                self.settle();
                continue;
            }
            let Some(next) = self.next_instant().filter(|next| *next <= limit) else { return false };
            self.provision_to(next);
            let mut clock = self.world.resource_mut::<VirtualClock>();
            clock.now = next;
            clock.last_event = clock.last_event.max(next);
            self.settle();
        }
    }

    /// Repeats rounds at the current instant until nothing is left to do there.
    fn settle(&mut self) {
        loop {
            self.step.run(&mut self.world);
            let world = &self.world;
            let settled = is_settled(
                world.resource(),
                world.resource(),
                world.resource(),
                world.resource(),
                world.resource(),
                world.resource(),
                world.resource(),
            );
            if settled && world.resource::<Agenda>().peek().is_none_or(|(at, _)| at > self.now()) {
                break;
            }
        }
        self.world.resource_mut::<Stuck>().look(1);
    }

    fn provision_to(&mut self, to: SimTime) {
        let from = self.provisioned_until;
        provision(&mut self.world.resource_mut::<Fleet>(), from, to);
        self.provisioned_until = self.provisioned_until.max(to);
    }

    pub(super) fn for_each_engine(&mut self, mut visit: impl FnMut(Worker, &mut Engine)) {
        let entities: Vec<_> =
            self.world.resource::<Fleet>().pools.iter().flat_map(|p| &p.members).map(|m| m.entity).collect();
        for entity in entities {
            let Some(worker) = self.world.get::<Worker>(entity).copied() else { continue };
            let Some(mut engine) = self.world.get_mut::<Engine>(entity) else { continue };
            visit(worker, &mut engine);
        }
    }

    /// A dead end: nothing that can still happen lets the requests in flight proceed. Those that everything waits behind
    /// fail, on decode workers first, since prefill workers may only wait for those. The run goes on.
    fn break_dead_end(&mut self, at: SimTime) {
        let mut lost: Vec<(u32, String)> = Vec::new();
        let mut news = Vec::new();
        let roles = [Role::Decode, Role::Aggregated, Role::Prefill];
        for role in roles {
            let mut reservations = Vec::new();
            self.for_each_engine(|worker, engine| {
                if worker.role != role {
                    return;
                }
                engine.idle_at = engine.idle_at.max(at);
                for rank in &mut engine.ranks {
                    let Some((request, reason)) = rank.fail_blocker() else { continue };
                    lost.push((request, format!("request {request} on {role} worker {}: {reason}", worker.id)));
                    reservations.push((request, rank.try_reservation()));
                    news.extend(rank.drain_events().map(|event| NewsItem { at, role, event }));
                }
            });
            let mut handoffs = self.world.resource_mut::<Handoffs>();
            for (request, reservation) in reservations {
                if role == Role::Prefill {
                    handoffs.close(request);
                }
                handoffs.reserved(reservation, at);
            }
            if !lost.is_empty() {
                break;
            }
        }
        if lost.is_empty() {
            // No worker has them: they wait for one that never comes.
            let waiting = (0..).zip(&self.world.resource::<Requests>().entities);
            let waiting: Vec<u32> =
                waiting.filter(|(_, entity)| entity.is_some()).map(|(request, _)| request).collect();
            self.world.resource_mut::<Unrouted>().waiting.clear();
            for request in waiting {
                lost.push((request, format!("request {request}: no worker takes it")));
                news.push(NewsItem { at, role: Role::Aggregated, event: EngineEvent::failed(request) });
            }
        }
        for (request, text) in lost {
            self.world.resource_mut::<Handoffs>().cancel(request);
            self.dead_ends.push(format!("dead end at {at}: {text}"));
        }
        self.world.resource_mut::<News>().0.extend(news);
    }

    /// The fleet at this instant.
    pub fn snapshot(&mut self) -> Snapshot {
        let at = self.now();
        let mut workers = Vec::new();
        let entities: Vec<_> =
            self.world.resource::<Fleet>().pools.iter().flat_map(|p| &p.members).map(|m| m.entity).collect();
        // Workers that are gone have given out tokens, too.
        let mut output_tokens: u64 = self.world.resource::<Fleet>().retired.iter().map(Scheduler::emitted).sum();
        for entity in entities {
            let Ok((worker, state, engine)) =
                self.world.query::<(&Worker, &Lifecycle, &Engine)>().get(&self.world, entity)
            else {
                continue;
            };
            let sum = |f: &dyn Fn(&Scheduler) -> u64| engine.ranks.iter().map(f).sum::<u64>();
            output_tokens += sum(&|r| r.emitted());
            workers.push(WorkerSnapshot {
                id: worker.id,
                role: worker.role,
                state: state.0,
                waiting: sum(&|r| u64::from(r.waiting())) as u32,
                running: sum(&|r| u64::from(r.running())) as u32,
                kv_active: sum(&|r| u64::from(r.kv().active)),
                kv_cached: sum(&|r| u64::from(r.kv().cached)),
                kv_free: sum(&|r| u64::from(r.kv().free)),
                busy_until: engine.busy_until,
            });
        }
        let requests = self.world.resource::<Requests>();
        Snapshot {
            at,
            workers,
            arrived: requests.arrived,
            finished: requests.records.len() as u32,
            in_handoff: self.world.resource::<Handoffs>().in_transfer(),
            output_tokens,
        }
    }

    /// The reference's single-worker loop looks at the time cap only between passes: the pass in progress completes.
    fn finish_last_pass(&mut self) {
        if !self.single_worker || self.cap == SimTime::MAX {
            return;
        }
        let cap = self.cap;
        let mut end = None;
        self.for_each_engine(|_, engine| end = engine.busy_until.or(end));
        // In an open loop an idle worker jumps to the next arrival before the cap is looked at, and after the last pass
        // those that are due arrive. In a closed loop the cap comes first.
        let mut arrivals = self.world.resource_mut::<Arrivals>();
        if arrivals.is_closed_loop() {
            arrivals.stop();
        }
        let arrival = arrivals.next_time();
        let Some(to) = end.or(if self.is_stuck() { None } else { arrival }).filter(|to| *to > cap) else { return };
        self.cap = to;
        self.closing = true;
        self.world.resource_mut::<VirtualClock>().limit = to;
        self.for_each_engine(|_, engine| engine.frozen = true);
        self.run_until(to);
    }

    /// Ends the run where it stands and hands out everything measured.
    pub fn finish(mut self) -> Outcome {
        self.finish_last_pass();
        let mut last_event = self.world.resource::<VirtualClock>().last_event;
        // Passes that concern nobody end silently, and the next one starts there.
        self.for_each_engine(|_, engine| {
            last_event = engine.ranks.iter().map(Scheduler::last_start).fold(last_event, SimTime::max);
        });
        self.provision_to(last_event);
        let (mut passes, mut preemptions, mut extrapolated_passes) = (0, 0, 0);
        let mut removed = Vec::new();
        let mut in_flight = Vec::new();
        let retired = std::mem::take(&mut self.world.resource_mut::<Fleet>().retired);
        let mut ranks: Vec<Scheduler> = retired;
        self.for_each_engine(|_, engine| ranks.append(&mut engine.ranks));
        for rank in &mut ranks {
            passes += rank.passes();
            let given_up = rank.dead_ends().iter().take(EXPLAINED);
            self.dead_ends.extend(given_up.map(|(request, reason)| format!("dead end: request {request}: {reason}")));
            preemptions += rank.preemptions();
            extrapolated_passes += rank.timer().extrapolated();
            self.dead_ends.extend(rank.timer().fault().map(|fault| format!("run ended: {fault}")));
            removed.extend(rank.uncounted_gaps());
            if rank.emits_to_clients() {
                in_flight.extend(rank.tokens_in_flight());
            }
        }
        let refused = self.world.resource::<Routers>().refused().iter().take(EXPLAINED);
        self.dead_ends.extend(refused.map(|(request, reason)| format!("request {request} was turned away: {reason}")));
        let counts: Vec<_> = ranks.iter().map(Scheduler::gaps).collect();
        let (itl, user_throughput) = GapCounts::collect(&counts, &removed).distributions();
        let mut requests = std::mem::take(&mut *self.world.resource_mut::<Requests>());
        let mut records = std::mem::take(&mut requests.records);
        let mut unfinished: std::collections::BTreeMap<u32, _> = self
            .world
            .query::<&Timeline>()
            .iter(&self.world)
            .map(|timeline| (timeline.0.request, timeline.0))
            .collect();
        for (request, tokens, first, second, last) in in_flight {
            if let Some(record) = unfinished.get_mut(&request) {
                add_tokens(record, tokens, first, second, last);
            }
        }
        records.extend(unfinished.into_values());
        records.sort_unstable_by_key(|r| (r.arrival, r.request));
        let fleet = self.world.resource::<Fleet>();
        let seconds = |role: Role| {
            fleet.pools.iter().filter(|p| p.role == role).map(|p| p.provisioned).sum::<u128>() as f64 / 1e9
        };
        let decode_worker_seconds = if self.single_worker {
            let completed = records.iter().filter(|r| r.status == FinalStatus::Completed && r.first_admit.is_some());
            completed.filter_map(|r| r.terminal).max().unwrap_or_default().as_secs().max(1e-9)
        } else {
            seconds(Role::Decode) + seconds(Role::Aggregated)
        };
        let tiers = self.tier_totals(&ranks, last_event);
        let pools = self.pool_times(last_event);
        Outcome {
            records,
            itl,
            user_throughput,
            prefill_worker_seconds: seconds(Role::Prefill),
            decode_worker_seconds,
            pools,
            end: last_event,
            dead_ends: self.dead_ends,
            planner: self.world.get_resource_mut::<PlannerRun>().map(|mut planner| std::mem::take(&mut planner.log)),
            scaling_events: std::mem::take(&mut self.world.resource_mut::<Scaling>().events),
            passes,
            preemptions,
            extrapolated_passes,
            tiers,
        }
    }

    /// How long the workers of every pool were there, and how long they computed, up to `end`.
    fn pool_times(&self, end: SimTime) -> Vec<PoolTime> {
        let pools = &self.world.resource::<Fleet>().pools;
        let times = pools.iter().map(|pool| {
            let engines = pool.members.iter().filter_map(|member| self.world.get::<Engine>(member.entity));
            // The pass in progress is counted in full, but the run ends before it does.
            let busy = engines.map(|engine| {
                let rest = engine.busy_until.map_or(SimDuration::ZERO, |until| until.since(end));
                u128::from(engine.busy.as_nanos()) - u128::from(rest.as_nanos())
            });
            PoolTime { role: pool.role, busy: pool.busy + busy.sum::<u128>(), provisioned: pool.provisioned }
        });
        times.collect()
    }

    /// What moved between KV tiers; `ranks` are all schedulers there were.
    fn tier_totals(&self, ranks: &[Scheduler], end: SimTime) -> Vec<TierTotals> {
        let pools = self.world.resource::<Fleet>().pools.iter();
        let totals = pools.filter_map(|pool| {
            let shared = pool.tiers.as_ref()?;
            let own = ranks.iter().filter(|rank| rank.role() == pool.role).filter_map(|rank| rank.tiers());
            let scheduler_seconds = pool.provisioned as f64 / 1e9 * f64::from(pool.config.dp_size);
            let share = |busy: f64, seconds: f64| if seconds > 0.0 { busy / seconds } else { 0.0 };
            let mut totals = TierTotals { role: pool.role, links: [(0, 0.0); 6], blocks: [0; 3], not_copied: [0; 2] };
            for usage in own.map(|tiers| tiers.usage(end)) {
                for way in 0..2 {
                    totals.links[way].0 += usage.bytes[way];
                    totals.links[way].1 += share(usage.busy_seconds[way], scheduler_seconds);
                    totals.blocks[way] += usage.blocks[way];
                }
                totals.not_copied[0] += usage.present;
                totals.not_copied[1] += usage.dropped;
            }
            for (lane, total) in Lane::ALL.into_iter().zip(&mut totals.links[2..]) {
                let (bytes, busy) = shared.usage(lane, end);
                *total = (bytes, share(busy, end.as_secs()));
            }
            totals.blocks[2] = shared.objects();
            Some(totals)
        });
        totals.collect()
    }
}
