//! Placing requests: round robin over the active workers, and over the ranks of each.

use bevy::prelude::*;

use crate::scenario::Role;

use super::RunFacts;
use super::arrivals::{Arrived, Unrouted};
use super::engine::Job;
use super::handoff::Handoffs;
use super::request::{Prompts, Requests, Timeline};
use super::worker::{Engine, Fleet};

/// What an aggregated or prefill worker is asked to do for a request.
fn entry_job(facts: &RunFacts, arrived: &Arrived) -> Job {
    let mut job = Job {
        request: arrived.request,
        prompt: arrived.prompt,
        output: arrived.output,
        generated: 0,
        last_token: None,
        hold: false,
    };
    if facts.disaggregated {
        // The reference lets a prefill worker produce the whole planned output before it hands over.
        let whole_output = facts.planned_outputs && !facts.semantics.handoff_after_first_token;
        job.hold = !(facts.semantics.handoff_after_first_token && arrived.output <= 1);
        if !whole_output {
            job.output = arrived.output.min(1);
        }
    }
    job
}

/// Sends every new request to the worker whose turn it is.
pub fn route_requests(
    facts: Res<RunFacts>,
    prompts: Res<Prompts>,
    requests: Res<Requests>,
    mut unrouted: ResMut<Unrouted>,
    mut fleet: ResMut<Fleet>,
    mut handoffs: ResMut<Handoffs>,
    mut engines: Query<&mut Engine>,
    mut timelines: Query<&mut Timeline>,
) {
    let Some(pool) = fleet.entry_pool() else { return };
    unrouted.retry = false;
    while let Some(&arrived) = unrouted.waiting.front() {
        // Without an active worker requests wait here until one is ready.
        let Some(member) = pool.next_round_robin() else { return };
        let Ok(mut engine) = engines.get_mut(member.entity) else { return };
        unrouted.waiting.pop_front();
        let ranks = engine.ranks.len() as u32;
        let rank = engine.next_rank % ranks;
        engine.next_rank = rank + 1;
        let job = entry_job(&facts, &arrived);
        if facts.independent {
            engine.inbox.push_back((arrived.at, rank, job));
        } else {
            engine.ranks[rank as usize].submit(job, &prompts.0);
        }
        let entity = requests.entities.get(arrived.request as usize).copied().flatten();
        if let Some(Ok(mut timeline)) = entity.map(|e| timelines.get_mut(e)) {
            match pool.role {
                Role::Prefill => timeline.0.prefill_worker = Some(member.id),
                _ if facts.single_worker => {}
                _ => timeline.0.decode_worker = Some(member.id * ranks + rank),
            }
        }
        if facts.disaggregated {
            handoffs.begin(arrived.request, member.entity, arrived.prompt, arrived.output);
        }
    }
}
