//! Requests: entities from arrival to their end, then records.

use bevy::prelude::*;

use crate::scenario::Role;
use crate::time::SimTime;

use super::RunFacts;
use super::arrivals::Arrivals;
use super::engine::{Ended, EngineEvent};
use super::handoff::Handoffs;
use super::kv::PromptIndex;
use super::metrics::{FinalStatus, HandoffRecord, RequestRecord, TierRecord};

/// Index of a request in its workload.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request(pub u32);

/// Where a request is. One enum, written when it changes.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting at a worker.
    Queued,
    /// In a running batch of an aggregated or prefill worker.
    Running,
    /// Between prefill and decode.
    Transferring,
    /// In a running batch of a decode worker.
    Decoding,
}

/// What has been measured of a request so far.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline(pub RequestRecord);

/// Requests in flight by index, and records of those that ended.
#[derive(Resource, Debug, Default)]
pub struct Requests {
    /// By request index; `None` before arrival and after the end.
    pub entities: Vec<Option<Entity>>,
    /// Requests that ended.
    pub records: Vec<RequestRecord>,
    /// Number that arrived.
    pub arrived: u32,
}

impl Requests {
    /// Requests that arrived and have not ended.
    pub fn in_flight(&self) -> u32 {
        self.arrived - self.records.len() as u32
    }
}

/// Engine events on their way to the request entities.
#[derive(Resource, Debug, Default)]
pub struct News(pub Vec<NewsItem>);

/// One engine event.
#[derive(Debug, Clone, Copy)]
pub struct NewsItem {
    /// When it took effect.
    pub at: SimTime,
    /// Where.
    pub role: Role,
    /// What.
    pub event: EngineEvent,
}

fn admitted(record: &mut RequestRecord, role: Role, at: SimTime, reused: u32) {
    if record.first_admit.is_none() {
        record.first_admit = Some(at);
        record.first_reused_tokens = reused;
    }
    match (role, &mut record.handoff) {
        (Role::Decode, Some(stamps)) => {
            stamps.decode_admit.get_or_insert(at);
            stamps.decode_reused_tokens = Some(stamps.decode_reused_tokens.unwrap_or(0).max(reused));
        }
        (Role::Prefill, Some(stamps)) => {
            stamps.prefill_admit.get_or_insert(at);
            record.reused_tokens = record.reused_tokens.max(reused);
        }
        _ => record.reused_tokens = record.reused_tokens.max(reused),
    }
}

/// The end of a request, as its session needs it.
#[derive(Debug, Clone, Copy)]
pub struct SessionEnd {
    /// Index of the request.
    pub request: u32,
    at: SimTime,
    output: u32,
    how: Ended,
}

impl SessionEnd {
    /// Lets the session go on.
    pub fn tell(self, arrivals: &mut Arrivals, prompts: &mut Prompts) {
        let next = arrivals.ended(self.request, self.at);
        let said = if self.how == Ended::Completed { self.output } else { 0 };
        prompts.0.end_turn(self.request, said, next);
    }
}

/// Applies the news to the request entities; whoever ended becomes a record and tells its session.
pub fn apply_news(
    facts: Res<RunFacts>,
    mut commands: Commands,
    mut news: ResMut<News>,
    mut requests: ResMut<Requests>,
    mut arrivals: ResMut<Arrivals>,
    mut handoffs: ResMut<Handoffs>,
    mut prompts: ResMut<Prompts>,
    mut timelines: Query<(&mut Timeline, &mut Phase)>,
) {
    for item in news.0.drain(..) {
        let (EngineEvent::Admitted { request, .. }
        | EngineEvent::Ended { request, .. }
        | EngineEvent::FirstToken { request }
        | EngineEvent::BroughtUp { request, .. }
        | EngineEvent::Held { request }) = item.event;
        let Some(entity) = requests.entities.get(request as usize).copied().flatten() else { continue };
        let Ok((mut timeline, mut phase)) = timelines.get_mut(entity) else { continue };
        let record = &mut timeline.0;
        match item.event {
            EngineEvent::Admitted { at, reused, .. } => {
                admitted(record, item.role, at, reused);
                *phase = if item.role == Role::Decode { Phase::Decoding } else { Phase::Running };
            }
            EngineEvent::FirstToken { .. } => {}
            EngineEvent::BroughtUp { got, .. } => {
                let record = record.tiers.get_or_insert_default();
                for (sum, blocks) in record.tokens.iter_mut().zip(got.blocks) {
                    *sum += u64::from(blocks) * u64::from(facts.block_size);
                }
                record.wait += got.wait;
            }
            EngineEvent::Held { .. } => *phase = Phase::Transferring,
            EngineEvent::Ended { how, tokens, first, second, last, .. } => {
                record.status = match how {
                    Ended::Completed => FinalStatus::Completed,
                    Ended::Rejected => FinalStatus::Rejected,
                    Ended::Failed => FinalStatus::Failed,
                };
                add_tokens(record, tokens, first, second, last);
                if item.role == Role::Prefill && how == Ended::Completed && record.requested_output_tokens > 0 {
                    // Corrected hand-off: the only token came from prefill, so there is nothing to hand over.
                    add_tokens(record, 1, Some(item.at), None, Some(item.at));
                }
                record.terminal = Some(item.at);
                let record = *record;
                requests.entities[request as usize] = None;
                requests.records.push(record);
                commands.entity(entity).despawn();
                handoffs.end(request, requests.records.len() - 1);
                let end = SessionEnd { request, at: item.at, output: record.output_tokens, how };
                if item.role == Role::Prefill {
                    // A request that ends before its hand-off is closed with the hand-offs of this instant, so what it
                    // makes ready arrives a round later.
                    handoffs.tell_when_closed(end);
                } else {
                    end.tell(&mut arrivals, &mut prompts);
                }
            }
        }
    }
}

/// Adds tokens emitted by the last engine to those a prefill worker made.
pub fn add_tokens(
    record: &mut RequestRecord,
    tokens: u32,
    first: Option<SimTime>,
    second: Option<SimTime>,
    last: Option<SimTime>,
) {
    record.output_tokens += tokens;
    record.last_token = last.or(record.last_token);
    if record.first_token.is_none() {
        record.first_token = first;
        record.second_token = second;
    } else if record.second_token.is_none() {
        record.second_token = first;
    }
}

/// The record of a request that just arrived.
pub fn new_record(facts: &RunFacts, request: u32, arrival: SimTime, prompt: u32, output: u32) -> RequestRecord {
    RequestRecord {
        request,
        session_turn: None,
        arrival,
        routed: None,
        first_admit: None,
        terminal: None,
        first_token: None,
        second_token: None,
        last_token: None,
        input_tokens: prompt,
        requested_output_tokens: output,
        output_tokens: 0,
        reused_tokens: 0,
        first_reused_tokens: 0,
        prefill_worker: None,
        decode_worker: None,
        handoff: facts.disaggregated.then(HandoffRecord::default),
        tiers: facts.has_tiers.then(TierRecord::default),
        status: FinalStatus::Unfinished,
    }
}

/// Prompt names, shared by all engines.
#[derive(Resource, Debug)]
pub struct Prompts(pub PromptIndex);
