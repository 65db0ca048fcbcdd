//! Workers come and go: scripted targets, start-up, draining, removal, provisioned time.

use bevy::prelude::*;

use crate::scenario::{Role, ScalingScript};
use crate::time::SimTime;

use super::RunFacts;
use super::arrivals::{Arrivals, Unrouted};
use super::clock::{Agenda, Due, VirtualClock};
use super::handoff::Handoffs;
use super::metrics::{ScalingEvent, WorkerState};
use super::request::{News, Prompts, Requests};
use super::router::Routers;
use super::worker::{Engine, Fleet, Lifecycle};

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
    mut lifecycles: Query<&mut Lifecycle>,
) {
    while let Some(Due::WorkerReady(entity)) = agenda.take_if(clock.now, |due| matches!(due, Due::WorkerReady(_))) {
        // A start-up that was cancelled meanwhile has no entity any more.
        let Ok(mut lifecycle) = lifecycles.get_mut(entity) else { continue };
        lifecycle.0 = WorkerState::Active;
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
        let role = pool.role;
        pool.members.retain(|member| {
            if member.state != WorkerState::Draining {
                return true;
            }
            let Ok(mut engine) = engines.get_mut(member.entity) else { return false };
            if !engine.is_drained() {
                return true;
            }
            retired.append(&mut engine.ranks);
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

/// Consults the script once everything else at this instant is settled.
pub fn run_scaling_tick(
    mut commands: Commands,
    facts: Res<RunFacts>,
    prompts: Res<Prompts>,
    arrivals: Res<Arrivals>,
    requests: Res<Requests>,
    mut unrouted: ResMut<Unrouted>,
    news: Res<News>,
    clock: Res<VirtualClock>,
    mut agenda: ResMut<Agenda>,
    routers: Res<Routers>,
    mut scaling: ResMut<Scaling>,
    mut fleet: ResMut<Fleet>,
    mut handoffs: ResMut<Handoffs>,
    mut lifecycles: Query<&mut Lifecycle>,
) {
    if !is_settled(&facts, &clock, &agenda, &arrivals, &unrouted, &handoffs, &news)
        || agenda.take_if(clock.now, |due| due == Due::ScalingTick).is_none()
    {
        return;
    }
    let now = clock.now;
    let Some(script) = scaling.script.clone() else { return };
    let step = script.steps.iter().rev().find(|step| step.from <= now);
    let scaling = &mut *scaling;
    for pool in &mut fleet.pools {
        let target = step.and_then(|s| if pool.role == Role::Prefill { s.prefill } else { s.decode });
        let Some(target) = target else { continue };
        let (active, starting) = (pool.count(WorkerState::Active), pool.count(WorkerState::Starting));
        let provisioned = active + starting;
        if target == provisioned {
            continue;
        }
        scaling.events.push(ScalingEvent { at: now, role: pool.role, from: provisioned, to: target });
        // With other workers to choose from, a request that the router holds back may find one.
        unrouted.retry |= routers.has_backlog();
        for _ in provisioned..target {
            let startup = pool.config.startup_time;
            let state = if startup.is_zero() { WorkerState::Active } else { WorkerState::Starting };
            let id = pool.next_id;
            let entity = commands.spawn(pool.build(state, facts.semantics, &prompts.0, &routers)).id();
            pool.list(id, entity, state);
            if state == WorkerState::Starting {
                agenda.enter(now + startup, Due::WorkerReady(entity));
            } else {
                handoffs.retry_unplaced();
                unrouted.retry |= !unrouted.waiting.is_empty();
            }
        }
        let mut surplus = provisioned.saturating_sub(target);
        // Starting workers are cancelled first, then active ones drained, the newest first.
        for state in [WorkerState::Starting, WorkerState::Active] {
            for index in (0..pool.members.len()).rev() {
                if surplus == 0 || pool.members[index].state != state {
                    continue;
                }
                surplus -= 1;
                let entity = pool.members[index].entity;
                if state == WorkerState::Starting {
                    commands.entity(entity).despawn();
                    pool.members.remove(index);
                } else {
                    pool.members[index].state = WorkerState::Draining;
                    if let Ok(mut lifecycle) = lifecycles.get_mut(entity) {
                        lifecycle.0 = WorkerState::Draining;
                    }
                }
            }
        }
    }
    let work_left = requests.in_flight() > 0 || !arrivals.is_drained();
    if work_left {
        agenda.enter(now + script.interval, Due::ScalingTick);
    }
}

/// Adds the time from the last instant to `to` to every pool's provisioned time.
pub fn provision(fleet: &mut Fleet, from: SimTime, to: SimTime) {
    let span = u128::from((to - from).as_nanos());
    for pool in &mut fleet.pools {
        pool.provisioned += span * pool.members.len() as u128;
    }
}
