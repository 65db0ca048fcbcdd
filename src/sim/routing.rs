//! Placing requests: round robin over the active workers, and over the ranks of each.

use bevy::prelude::*;

use crate::scenario::Role;

use super::RunFacts;
use super::arrivals::Unrouted;
use super::engine::Job;
use super::handoff::Handoffs;
use super::request::{Prompts, Requests, Timeline};
use super::worker::{Engine, Fleet};

/// What an aggregated or prefill worker is asked to do for a request.
pub fn entry_job(facts: &RunFacts, request: u32, prompt: u32, output: u32) -> Job {
    let mut job = Job { request, prompt, output, generated: 0, last_token: None, hold: false };
    if facts.disaggregated {
        // The reference lets a prefill worker produce the whole planned output before it hands over.
        let whole_output = facts.planned_outputs && !facts.semantics.handoff_after_first_token;
        job.hold = is_handed_over(facts, output);
        if !whole_output {
            job.output = output.min(1);
        }
    }
    job
}

/// Whether a request with so many output tokens needs a decode worker.
fn is_handed_over(facts: &RunFacts, output: u32) -> bool {
    !(facts.semantics.handoff_after_first_token && output <= 1)
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
        if facts.destination_first && is_handed_over(&facts, arrived.output) {
            // A prefill worker is chosen once a decode worker has room.
            unrouted.waiting.pop_front();
            handoffs.begin(arrived.request, None, arrived.prompt, arrived.output);
            handoffs.reserve_first(arrived.request);
            continue;
        }
        // Without an active worker requests wait here until one is ready.
        let Some(member) = pool.next_round_robin() else { return };
        let Ok(mut engine) = engines.get_mut(member.entity) else { return };
        unrouted.waiting.pop_front();
        let ranks = engine.ranks.len() as u32;
        let rank = engine.next_rank % ranks;
        engine.next_rank = rank + 1;
        let job = entry_job(&facts, arrived.request, arrived.prompt, arrived.output);
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
            handoffs.begin(arrived.request, Some(member.entity), arrived.prompt, arrived.output);
        }
    }
}
