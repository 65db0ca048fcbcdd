//! Workers come and go: scripted targets, start-up, draining, removal, provisioned time.

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use crate::scenario::{Role, ScalingScript};
use crate::time::SimTime;

use super::RunFacts;
use super::arrivals::{Arrivals, Unrouted};
use super::clock::{Agenda, Due, VirtualClock};
use super::handoff::Handoffs;
use super::metrics::{ScalingEvent, WorkerState};
use super::planner::PlannerRun;
use super::request::{News, Prompts, Requests};
use super::router::{Decisions, Routers};
use super::worker::{Engine, Fleet, Lifecycle, Pool, Worker};

/// The script and what it did so far.
#[derive(Resource, Debug, Default)]
pub struct Scaling {
    /// Targets over time.
    pub script: Option<ScalingScript>,
    /// Actions in order.
    pub events: Vec<ScalingEvent>,
}

/// Workers whose start-up is over take requests from now on.
pub fn activate_ready_workers(
    clock: Res<VirtualClock>,
    mut agenda: ResMut<Agenda>,
    mut fleet: ResMut<Fleet>,
    mut handoffs: ResMut<Handoffs>,
    mut workers: Query<(&mut Lifecycle, &mut Engine)>,
) {
    while let Some(Due::WorkerReady(entity)) = agenda.take_if(clock.now, |due| matches!(due, Due::WorkerReady(_))) {
        // A start-up that was cancelled meanwhile has no entity any more.
        let Ok((mut lifecycle, mut engine)) = workers.get_mut(entity) else { continue };
        lifecycle.0 = WorkerState::Active;
        engine.active_since = clock.now;
        for member in fleet.pools.iter_mut().flat_map(|p| &mut p.members).filter(|m| m.entity == entity) {
            member.state = WorkerState::Active;
        }
        handoffs.retry_unplaced();
    }
}

/// KV transfers that end now.
pub fn complete_transfers(clock: Res<VirtualClock>, mut agenda: ResMut<Agenda>, mut handoffs: ResMut<Handoffs>) {
    let is_transfer = |due| matches!(due, Due::Transfer(_) | Due::Link(_));
    while let Some(due) = agenda.take_if(clock.now, is_transfer) {
        match due {
            Due::Transfer(request) => handoffs.arrived(request),
            Due::Link(source) => agenda.move_to(handoffs.link_delivers(source, clock.now), due),
            _ => {}
        }
    }
}

/// Removes draining workers that have nothing left.
pub fn remove_drained_workers(
    mut commands: Commands,
    mut fleet: ResMut<Fleet>,
    mut routers: ResMut<Routers>,
    mut engines: Query<&mut Engine>,
) {
    let Fleet { pools, retired } = &mut *fleet;
    for pool in pools {
        let Pool { role, busy, members, .. } = pool;
        let role = *role;
        members.retain(|member| {
            if member.state != WorkerState::Draining {
                return true;
            }
            let Ok(mut engine) = engines.get_mut(member.entity) else { return false };
            if !engine.is_drained() {
                return true;
            }
            retired.append(&mut engine.ranks);
            *busy += u128::from(engine.busy.as_nanos());
            routers.forget_worker(role, member.id);
            commands.entity(member.entity).despawn();
            false
        });
    }
}

/// Whether nothing but a scaling tick is left to do at this instant. Requests that wait for a worker which is not there
/// are nothing to do: whoever activates a worker starts another round.
pub fn is_settled(
    facts: &RunFacts,
    clock: &VirtualClock,
    agenda: &Agenda,
    arrivals: &Arrivals,
    unrouted: &Unrouted,
    handoffs: &Handoffs,
    news: &News,
) -> bool {
    let waits = facts.pulls_between_passes && agenda.has_work();
    let due = agenda.peek().is_some_and(|(at, due)| at <= clock.now && due != Due::ScalingTick);
    let arrives = !waits && arrivals.next_time().is_some_and(|at| at <= clock.now);
    !due && !arrives && !unrouted.retry && !handoffs.has_work() && news.0.is_empty()
}

/// What it takes to change the number of replicas.
#[derive(SystemParam)]
pub struct Replicas<'w, 's> {
    commands: Commands<'w, 's>,
    facts: Res<'w, RunFacts>,
    prompts: Res<'w, Prompts>,
    /// The instant being processed.
    pub clock: Res<'w, VirtualClock>,
    agenda: ResMut<'w, Agenda>,
    /// The routers.
    pub routers: ResMut<'w, Routers>,
    scaling: ResMut<'w, Scaling>,
    /// All pools.
    pub fleet: ResMut<'w, Fleet>,
    handoffs: ResMut<'w, Handoffs>,
    unrouted: ResMut<'w, Unrouted>,
    lifecycles: Query<'w, 's, &'static mut Lifecycle>,
    /// The workers.
    pub engines: Query<'w, 's, (&'static Worker, &'static mut Engine)>,
}

impl Replicas<'_, '_> {
    /// Lets the pool of this role have `target` workers that are active or starting. Starting workers are cancelled
    /// first, then active ones drained, the newest first.
    pub fn set(&mut self, role: Role, target: u32) {
        let now = self.clock.now;
        let Some(pool) = self.fleet.pools.iter_mut().find(|pool| pool.role == role) else { return };
        let provisioned = pool.count(WorkerState::Active) + pool.count(WorkerState::Starting);
        if target == provisioned {
            return;
        }
        self.scaling.events.push(ScalingEvent { at: now, role, from: provisioned, to: target });
        // With other workers to choose from, a request that the router holds back may find one.
        self.unrouted.retry |= self.routers.has_backlog();
        for _ in provisioned..target {
            let startup = pool.config.startup_time;
            let state = if startup.is_zero() { WorkerState::Active } else { WorkerState::Starting };
            let id = pool.next_id;
            let bundle = pool.build(state, now, self.facts.semantics, &self.prompts.0, &self.routers);
            let entity = self.commands.spawn(bundle).id();
            pool.list(id, entity, state);
            if state == WorkerState::Starting {
                self.agenda.enter(now + startup, Due::WorkerReady(entity));
            } else {
                self.handoffs.retry_unplaced();
                self.unrouted.retry |= !self.unrouted.waiting.is_empty();
            }
        }
        let mut surplus = provisioned.saturating_sub(target);
        for state in [WorkerState::Starting, WorkerState::Active] {
            for index in (0..pool.members.len()).rev() {
                if surplus == 0 || pool.members[index].state != state {
                    continue;
                }
                surplus -= 1;
                let entity = pool.members[index].entity;
                if state == WorkerState::Starting {
                    self.commands.entity(entity).despawn();
                    pool.members.remove(index);
                } else {
                    pool.members[index].state = WorkerState::Draining;
                    if let Ok(mut lifecycle) = self.lifecycles.get_mut(entity) {
                        lifecycle.0 = WorkerState::Draining;
                    }
                }
            }
        }
    }
}

/// Consults the planner or the script once everything else at this instant is settled.
pub fn run_scaling_tick(
    mut replicas: Replicas,
    planner: Option<ResMut<PlannerRun>>,
    mut decisions: ResMut<Decisions>,
    arrivals: Res<Arrivals>,
    requests: Res<Requests>,
    news: Res<News>,
) {
    let Replicas { facts, clock, agenda, unrouted, handoffs, .. } = &mut replicas;
    if !is_settled(facts, clock, agenda, &arrivals, unrouted, handoffs, &news)
        || agenda.take_if(clock.now, |due| due == Due::ScalingTick).is_none()
    {
        return;
    }
    let now = clock.now;
    let work_left = requests.in_flight() > 0 || !arrivals.is_drained();
    if let Some(mut planner) = planner {
        if !work_left {
            return;
        }
        let next = planner.tick(&mut replicas, &requests, &mut decisions);
        if let Some(next) = next.filter(|next| *next > now) {
            replicas.agenda.enter(next, Due::ScalingTick);
        }
        return;
    }
    let Some(script) = replicas.scaling.script.clone() else { return };
    if let Some(step) = script.steps.iter().rev().find(|step| step.from <= now) {
        for role in [Role::Aggregated, Role::Prefill, Role::Decode] {
            if let Some(target) = if role == Role::Prefill { step.prefill } else { step.decode } {
                replicas.set(role, target);
            }
        }
    }
    if work_left {
        replicas.agenda.enter(now + script.interval, Due::ScalingTick);
    }
}

/// Adds the time from the last instant to `to` to every pool's provisioned time.
pub fn provision(fleet: &mut Fleet, from: SimTime, to: SimTime) {
    let span = u128::from((to - from).as_nanos());
    for pool in &mut fleet.pools {
        pool.provisioned += span * pool.members.len() as u128;
    }
}
