//! Handing a placed request to its worker.

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use crate::scenario::Role;
use crate::sim::RunFacts;
use crate::sim::engine::Job;
use crate::sim::handoff::Handoffs;
use crate::sim::metrics::RequestRecord;
use crate::sim::request::{Prompts, Requests, Timeline};
use crate::sim::worker::{Engine, Member, Pool, Worker};
use crate::time::SimTime;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Index of the request.
    pub request: u32,
    /// The worker.
    pub member: Member,
    /// Its rank.
    pub rank: u32,
    /// Prompt tokens that the router takes for cached there.
    pub overlap_tokens: u32,
}

/// The way from the router to the workers of the entry pool.
#[derive(SystemParam)]
pub struct Dispatch<'w, 's> {
    /// What is known of the run.
    pub facts: Res<'w, RunFacts>,
    /// Names of prompt blocks.
    pub prompts: ResMut<'w, Prompts>,
    /// Requests in flight, and records of those that ended.
    pub requests: ResMut<'w, Requests>,
    /// Hand-offs in progress.
    pub handoffs: ResMut<'w, Handoffs>,
    /// The workers.
    pub engines: Query<'w, 's, (&'static Worker, &'static mut Engine)>,
    /// What has been measured of requests in flight.
    pub timelines: Query<'w, 's, &'static mut Timeline>,
}

/// Whether a request with so many output tokens needs a decode worker, in a disaggregated fleet.
fn is_handed_over(facts: &RunFacts, output: u32) -> bool {
    // With the corrected hand-off, an only token comes from prefill.
    !(facts.semantics.handoff_after_first_token && output <= 1)
}

/// What an aggregated or prefill worker is asked to do for a request.
fn entry_job(facts: &RunFacts, record: &RequestRecord) -> Job {
    let mut job = Job {
        request: record.request,
        prompt: record.input_tokens,
        output: record.requested_output_tokens,
        generated: 0,
        last_token: None,
        hold: false,
    };
    if facts.disaggregated {
        // The reference lets a prefill worker produce the whole planned output before it hands over.
        let whole_output = facts.planned_outputs && !facts.semantics.handoff_after_first_token;
        job.hold = is_handed_over(facts, job.output);
        if !whole_output {
            job.output = job.output.min(1);
        }
    }
    job
}

impl Dispatch<'_, '_> {
    /// Where decode workers reserve blocks before prefill: has that done for a request, if it is handed over at all.
    pub fn reserve_first(&mut self, request: u32) -> bool {
        if !self.facts.destination_first {
            return false;
        }
        let entity = self.requests.entities.get(request as usize).copied().flatten();
        let Some(Ok(Timeline(record))) = entity.map(|e| self.timelines.get(e)) else { return false };
        let handed_over = is_handed_over(&self.facts, record.requested_output_tokens);
        if handed_over {
            self.handoffs.reserve_first(request, record.input_tokens, record.requested_output_tokens);
        }
        handed_over
    }

    /// Gives a request to its worker in `pool`, at `at`.
    pub fn hand_over(&mut self, placement: &Placement, pool: &Pool, at: SimTime) {
        let Placement { request, member, rank, overlap_tokens } = *placement;
        let entity = self.requests.entities.get(request as usize).copied().flatten();
        let Some(Ok(mut timeline)) = entity.map(|e| self.timelines.get_mut(e)) else { return };
        let Ok((_, mut engine)) = self.engines.get_mut(member.entity) else { return };
        let record = &mut timeline.0;
        record.routed = Some(at);
        let job = entry_job(&self.facts, record);
        if self.facts.independent {
            engine.inbox.push_back((record.arrival, rank, job));
        } else {
            engine.ranks[rank as usize].submit(job, &self.prompts.0);
        }
        match pool.role {
            Role::Prefill => {
                record.prefill_worker = Some(member.id);
                if let Some(handoff) = &mut record.handoff {
                    handoff.prefill_route_overlap_tokens = overlap_tokens;
                }
            }
            _ if self.facts.single_worker => {}
            _ => record.decode_worker = Some(member.id * pool.config.dp_size + rank),
        }
        if self.facts.disaggregated {
            self.handoffs.sent(request, member.entity, record.input_tokens, record.requested_output_tokens);
        }
    }
}
