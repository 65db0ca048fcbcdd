//! Copies between KV tiers, in the order of the clock: those that end now take effect before anything else does.

use bevy::prelude::*;

use crate::scenario::Role;

use super::clock::{Agenda, Due, VirtualClock};
use super::handoff::Handoffs;
use super::worker::{Engine, Fleet, Worker};

/// Copies that end now take effect. Shared links come first, in a fixed order, then workers by number.
pub fn end_copies(
    fleet: Res<Fleet>,
    clock: Res<VirtualClock>,
    mut agenda: ResMut<Agenda>,
    mut handoffs: ResMut<Handoffs>,
    mut engines: Query<(&Worker, &mut Engine)>,
) {
    // Of workers that are gone as well; the others' are entered again below.
    while agenda.take_if(clock.now, |due| matches!(due, Due::Copies(_) | Due::SharedCopies(_))).is_some() {}
    for pool in fleet.pools.iter().filter(|pool| pool.tiers.is_some()) {
        loop {
            while let Some((lane, job)) = pool.tiers.as_ref().and_then(|shared| shared.ended(clock.now)) {
                for member in &pool.members {
                    let Ok((_, mut engine)) = engines.get_mut(member.entity) else { continue };
                    let tiers = engine.ranks.iter_mut().filter_map(|rank| rank.tiers_mut());
                    if let Some(tiers) = tiers.into_iter().find(|tiers| tiers.owner() == job.owner) {
                        tiers.advance(clock.now);
                        tiers.deliver(lane, job);
                        break;
                    }
                }
            }
            for member in &pool.members {
                let Ok((worker, mut engine)) = engines.get_mut(member.entity) else { continue };
                let idle = engine.busy_until.is_none();
                for rank in &mut engine.ranks {
                    if rank.advance_tiers(clock.now) && worker.role == Role::Decode && idle {
                        handoffs.reserved(rank.try_reservation(), clock.now);
                    }
                }
            }
            // What arrived may have begun copies that take no time worth a nanosecond.
            if pool.tiers.as_ref().and_then(|shared| shared.next_end()).is_none_or(|end| end > clock.now) {
                break;
            }
        }
    }
    plan(&fleet, &mut agenda, |entity| engines.get(entity).ok().map(|(_, engine)| engine));
}

/// Enters the ends of copies that passes began.
pub fn await_copies(fleet: Res<Fleet>, mut agenda: ResMut<Agenda>, engines: Query<&Engine>) {
    plan(&fleet, &mut agenda, |entity| engines.get(entity).ok());
}

fn plan<'a>(fleet: &Fleet, agenda: &mut Agenda, engine: impl Fn(Entity) -> Option<&'a Engine>) {
    for pool in &fleet.pools {
        let Some(shared) = &pool.tiers else { continue };
        agenda.move_to(shared.next_end(), Due::SharedCopies(pool.role));
        for member in &pool.members {
            let Some(engine) = engine(member.entity) else { continue };
            let next = engine.ranks.iter().filter_map(|rank| rank.tiers()?.next_end()).min();
            agenda.move_to(next, Due::Copies(member.entity));
        }
    }
}
