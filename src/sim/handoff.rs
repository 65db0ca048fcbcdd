//! Hand-off from prefill to decode: hold, reserve, transfer, activate, release.
//!
//! vLLM reserves KV at the destination when prefill is over; SGLang does so first, and prefill begins once that succeeded.
//! The steps are actions in one queue, executed in order. An action on a worker that is in the middle of a pass waits
//! for the end of that pass.

use std::collections::{HashMap, VecDeque};

use bevy::prelude::*;

use crate::scenario::{EngineConfig, TransferContention, TransferTiming};
use crate::time::{SimDuration, SimTime};
use crate::workload::Hint;

use super::arrivals::Arrivals;
use super::clock::{Agenda, Due};
use super::engine::{EngineEvent, Job, Reservation};
use super::link::Link;
use super::request::{News, NewsItem, SessionEnd};
use super::router::{Ask, Dispatch, Placement, Routed, Routing};

/// One step of a hand-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Choose a decode worker and ask it for blocks.
    Reserve(u32),
    /// Choose a prefill worker and give it the request.
    Prefill(u32),
    /// Send the KV; `missing` tokens are not at the destination yet.
    StartTransfer {
        /// Request.
        request: u32,
        /// Tokens in whole blocks that the destination lacks.
        missing: u64,
    },
    /// The KV is there: let the decode worker have the request.
    Activate(u32),
    /// Let the prefill worker have its blocks back.
    Release {
        /// Request.
        request: u32,
        /// Prefill worker.
        source: Entity,
        /// The hand-off failed: no time stamp.
        cancelled: bool,
    },
    /// The hand-off failed before prefill was over: let the decode worker have its blocks back.
    Cancel {
        /// Request.
        request: u32,
        /// Decode worker.
        destination: Entity,
    },
    /// A request is over on its prefill worker: let its router and its session know.
    Close {
        /// Request.
        request: u32,
        /// The hand-off failed: no decode worker expects it any more.
        cancelled: bool,
    },
}

/// Which time stamp of a hand-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Prefill over.
    Held,
    /// Blocks reserved.
    Reserved,
    /// Request at the decode worker.
    Activated,
    /// Prefill worker free of it.
    Released,
}

#[derive(Debug, Clone, Copy)]
struct Handoff {
    source: Option<Entity>,
    destination: Option<Entity>,
    prompt: u32,
    output: u32,
    /// Tokens in whole blocks that the destination lacks, once it has reserved them.
    missing: u64,
    held_at: Option<SimTime>,
    released: bool,
    transfer: Option<Transfer>,
}

/// KV on its way to a decode worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// When it started.
    pub start: SimTime,
    /// When it ends; for one that shares a link, if nobody joins.
    pub end: SimTime,
    /// What it carries.
    pub bytes: u64,
}

/// A hand-off with its KV on the way, as somebody sees it who looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransferCloseUp {
    /// Index of the request.
    pub request: u32,
    /// Prefill worker.
    pub source: Entity,
    /// Decode worker.
    pub destination: Entity,
    /// Times and size.
    pub transfer: Transfer,
    /// Share of the bytes that is there, 0 to 1.
    pub progress: f64,
}

impl Handoff {
    fn new(prompt: u32, output: u32) -> Self {
        Self {
            source: None,
            destination: None,
            prompt,
            output,
            missing: 0,
            held_at: None,
            released: false,
            transfer: None,
        }
    }
}

/// Hand-offs in progress.
#[derive(Resource, Debug, Default)]
pub struct Handoffs {
    /// Whether blocks at the destination come before prefill.
    pub destination_first: bool,
    queue: VecDeque<Action>,
    /// Actions that found no active worker.
    unplaced: VecDeque<Action>,
    open: HashMap<u32, Handoff>,
    stamps: Vec<(u32, Stamp, SimTime)>,
    /// Requests that ended on a prefill worker, whose sessions do not know yet.
    closing: HashMap<u32, SessionEnd>,
    /// Records of requests that ended before their source was released.
    ended: HashMap<u32, usize>,
    /// Where transfers share: the link that leads out of each prefill worker.
    links: HashMap<Entity, Link<u32>>,
}

impl Handoffs {
    /// A request was given to prefill worker `source`.
    pub fn sent(&mut self, request: u32, source: Entity, prompt: u32, output: u32) {
        self.open.entry(request).or_insert_with(|| Handoff::new(prompt, output)).source = Some(source);
    }

    /// A request that just arrived needs blocks at a destination before anything else.
    pub fn reserve_first(&mut self, request: u32, prompt: u32, output: u32) {
        self.open.insert(request, Handoff::new(prompt, output));
        self.queue.push_back(Action::Reserve(request));
    }

    /// Requests whose prefill is over and whose decode has not begun.
    pub fn in_transfer(&self) -> u32 {
        self.open.values().filter(|h| h.held_at.is_some() && !h.released).count() as u32
    }

    /// KV on its way at `now`, in the order in which it began.
    pub fn under_way(&self, now: SimTime) -> Vec<TransferCloseUp> {
        let mut shared: HashMap<u32, (f64, SimTime)> = HashMap::new();
        for link in self.links.values() {
            shared.extend(link.under_way(now).into_iter().map(|(request, share, end)| (*request, (share, end))));
        }
        let mut under_way: Vec<TransferCloseUp> = self
            .open
            .iter()
            .filter_map(|(request, handoff)| {
                let (mut transfer, source, destination) = (handoff.transfer?, handoff.source?, handoff.destination?);
                let progress = match shared.get(request) {
                    Some((share, end)) => {
                        transfer.end = *end;
                        *share
                    }
                    // Its link does not know it any more: it has arrived.
                    None if self.links.contains_key(&source) => return None,
                    None if transfer.end <= now => return None,
                    None => (now - transfer.start).as_secs() / (transfer.end - transfer.start).as_secs(),
                };
                Some(TransferCloseUp { request: *request, source, destination, transfer, progress })
            })
            .collect();
        under_way.sort_unstable_by_key(|c| (c.transfer.start, c.request));
        under_way
    }

    /// Requests whose prefill is still to come and for which no active worker was found, in order.
    pub fn unplaced(&self) -> impl Iterator<Item = u32> + '_ {
        let requests = self.unplaced.iter().filter_map(|action| match action {
            Action::Reserve(request) | Action::Prefill(request) => Some(*request),
            _ => None,
        });
        requests.filter(|request| self.open.get(request).is_some_and(|handoff| handoff.held_at.is_none()))
    }

    /// A prefill worker finished `request` at `at`.
    pub fn held(&mut self, request: u32, at: SimTime) {
        let Some(handoff) = self.open.get_mut(&request) else { return };
        handoff.held_at = Some(at);
        self.stamps.push((request, Stamp::Held, at));
        self.queue.push_back(if self.destination_first {
            Action::StartTransfer { request, missing: handoff.missing }
        } else {
            Action::Reserve(request)
        });
    }

    /// Blocks are reserved at `at`.
    pub fn reserved(&mut self, reservation: Option<Reservation>, at: SimTime) {
        let Some(Reservation { request, missing_tokens }) = reservation else { return };
        self.stamps.push((request, Stamp::Reserved, at));
        if let Some(handoff) = self.open.get_mut(&request) {
            handoff.missing = missing_tokens;
        }
        self.queue.push_back(if self.destination_first {
            Action::Prefill(request)
        } else {
            Action::StartTransfer { request, missing: missing_tokens }
        });
    }

    /// Actions that waited for the end of a pass.
    pub fn resume(&mut self, actions: impl Iterator<Item = Action>) {
        self.queue.extend(actions);
    }

    /// Whether anything is to be done at this instant.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.stamps.is_empty()
    }

    /// A request ended on its prefill worker: it is closed in its turn, with the hand-offs of this instant.
    pub fn close(&mut self, request: u32) {
        self.queue.push_back(Action::Close { request, cancelled: false });
    }

    /// What the session of a request that is being closed must know.
    pub fn tell_when_closed(&mut self, end: SessionEnd) {
        self.closing.insert(end.request, end);
    }

    /// The transfer of `request` is over.
    pub fn arrived(&mut self, request: u32) {
        self.queue.push_back(Action::Activate(request));
    }

    /// Transfers that leave `source` and are over at `now` arrive. Returns when the next one does.
    pub fn link_delivers(&mut self, source: Entity, now: SimTime) -> Option<SimTime> {
        let link = self.links.get_mut(&source)?;
        while let Some(request) = link.ended(now) {
            self.queue.push_back(Action::Activate(request));
        }
        link.next_end()
    }

    /// A worker became active: actions that found none are tried again.
    pub fn retry_unplaced(&mut self) {
        self.queue.append(&mut self.unplaced);
    }

    /// The request ended; `record` is the index of its record.
    pub fn end(&mut self, request: u32, record: usize) {
        if self.open.is_empty() {
            return;
        }
        let Some(handoff) = self.open.remove(&request) else { return };
        if handoff.held_at.is_some() && !handoff.released {
            self.ended.insert(request, record);
        }
        if handoff.held_at.is_none()
            && let Some(destination) = handoff.destination
        {
            self.queue.push_back(Action::Cancel { request, destination });
        }
    }

    /// A dead end failed `request`: its workers get their blocks back.
    pub fn cancel(&mut self, request: u32) {
        let Some(handoff) = self.open.remove(&request).filter(|handoff| !handoff.released) else { return };
        match (handoff.held_at, handoff.source, handoff.destination) {
            (Some(_), Some(source), _) => {
                self.queue.push_back(Action::Release { request, source, cancelled: true });
            }
            (None, _, Some(destination)) => self.queue.push_back(Action::Cancel { request, destination }),
            _ => {}
        }
    }
}

/// What a transfer carries, and how fast, with the prefill engine's settings.
#[derive(Debug, Clone, Copy)]
struct Cargo {
    tokens: u64,
    bytes_per_token: u64,
    /// GB/s, above zero.
    bandwidth: f64,
}

impl Cargo {
    /// `None` when the transfer takes no time.
    fn of(source: &EngineConfig, prompt: u32, missing: u64) -> Option<Self> {
        let (bytes_per_token, bandwidth) = (source.kv_bytes_per_token?, source.kv_transfer_bandwidth?);
        let tokens = match source.kv_transfer_timing {
            TransferTiming::FullPrompt => u64::from(prompt),
            TransferTiming::DestinationMissing => missing,
        };
        (bandwidth > 0.0).then_some(Self { tokens, bytes_per_token, bandwidth })
    }

    fn bytes(self) -> u64 {
        self.tokens.saturating_mul(self.bytes_per_token)
    }

    /// Time it takes when nobody shares the link.
    fn time(self) -> SimDuration {
        let ms = self.tokens as f64 * self.bytes_per_token as f64 / (self.bandwidth * 1e9) * 1000.0;
        // Slower than the clock can tell means never.
        SimDuration::from_ms(ms).unwrap_or(SimDuration::from_nanos(u64::MAX))
    }
}

/// Whether hand-offs have something to do at this instant.
pub fn anything_to_hand_off(handoffs: Res<Handoffs>) -> bool {
    handoffs.has_work()
}

/// Executes the queue until it is empty, actions entered meanwhile included.
pub fn run_handoffs(
    mut arrivals: ResMut<Arrivals>,
    mut agenda: ResMut<Agenda>,
    mut news: ResMut<News>,
    mut routing: Routing,
) {
    while let Some(action) = routing.dispatch.handoffs.queue.pop_front() {
        match action {
            Action::Reserve(request) => reserve(&mut routing, &arrivals, &mut news, request),
            Action::Prefill(request) => {
                let Some(handoff) = routing.dispatch.handoffs.open.get(&request) else { continue };
                let ask = arrivals.ask(request, routing.now(), handoff.prompt);
                routing.hear_caches();
                if !routing.place(&ask, routing.now(), &mut news) {
                    routing.dispatch.handoffs.unplaced.push_back(action);
                }
            }
            Action::StartTransfer { request, missing } => {
                let now = routing.now();
                let (fleet, handoffs) = (&routing.fleet, &mut routing.dispatch.handoffs);
                let Some(handoff) = handoffs.open.get_mut(&request) else { continue };
                let Some(pool) = fleet.entry_pool() else { continue };
                let cargo = Cargo::of(&pool.config, handoff.prompt, missing).filter(|cargo| !cargo.time().is_zero());
                handoff.transfer = cargo.map(|c| Transfer { start: now, end: now + c.time(), bytes: c.bytes() });
                match (cargo, handoff.source, pool.config.kv_transfer_contention) {
                    (None, ..) => handoffs.queue.push_back(Action::Activate(request)),
                    (Some(cargo), Some(source), TransferContention::Shared) => {
                        let link = handoffs.links.entry(source).or_insert_with(|| Link::new(Some(cargo.bandwidth)));
                        link.begin(now, request, cargo.bytes());
                        agenda.move_to(link.next_end(), Due::Link(source));
                    }
                    (Some(cargo), ..) => agenda.enter(now + cargo.time(), Due::Transfer(request)),
                }
            }
            Action::Activate(request) => {
                let now = routing.now();
                let Dispatch { facts, engines, handoffs, .. } = &mut routing.dispatch;
                let Some(handoff) = handoffs.open.get(&request).copied() else { continue };
                let Some(Ok((_, mut engine))) = handoff.destination.map(|e| engines.get_mut(e)) else { continue };
                if engine.busy_until.is_some() {
                    engine.deferred.push(action);
                    continue;
                }
                let first_token = handoff.held_at.filter(|_| facts.semantics.handoff_after_first_token);
                let reservation = engine.ranks[0].activate(request, first_token);
                handoffs.stamps.push((request, Stamp::Activated, now));
                if let Some(source) = handoff.source {
                    handoffs.queue.push_back(Action::Release { request, source, cancelled: false });
                }
                handoffs.reserved(reservation, now);
            }
            Action::Cancel { request, destination } => {
                let now = routing.now();
                let Dispatch { engines, handoffs, .. } = &mut routing.dispatch;
                let Ok((_, mut engine)) = engines.get_mut(destination) else { continue };
                if engine.busy_until.is_some() {
                    engine.deferred.push(action);
                    continue;
                }
                let reservation = engine.ranks[0].cancel_transfer(request);
                handoffs.reserved(reservation, now);
            }
            Action::Release { request, source, cancelled } => {
                let now = routing.now();
                let Dispatch { engines, handoffs, .. } = &mut routing.dispatch;
                let Ok((_, mut engine)) = engines.get_mut(source) else { continue };
                if engine.busy_until.is_some() {
                    engine.deferred.push(action);
                    continue;
                }
                let reservation = engine.ranks[0].release_source(request);
                // No pass is in progress: what this leaves in the cache can be seen at once.
                engine.ranks[0].kv_events().publish(now);
                if let Some(open) = handoffs.open.get_mut(&request) {
                    open.released = true;
                }
                if !cancelled {
                    handoffs.stamps.push((request, Stamp::Released, now));
                }
                handoffs.reserved(reservation, now);
                handoffs.queue.push_back(Action::Close { request, cancelled });
            }
            Action::Close { request, cancelled } => {
                let Dispatch { prompts, handoffs, .. } = &mut routing.dispatch;
                if let Some(end) = handoffs.closing.remove(&request) {
                    end.tell(&mut arrivals, prompts);
                }
                routing.close(request, cancelled);
            }
        }
    }
    apply_stamps(&mut routing.dispatch);
}

/// Chooses a decode worker for a request and asks it for blocks.
fn reserve(routing: &mut Routing, arrivals: &Arrivals, news: &mut News, request: u32) {
    let now = routing.now();
    let Some(handoff) = routing.dispatch.handoffs.open.get(&request).copied() else { return };
    // Nothing ever waits at the router of a decode pool.
    let ask = Ask { hint: Hint::default(), ..arrivals.ask(request, now, handoff.prompt) };
    let routed = routing.route_to_decode(&ask);
    let Routing { fleet, dispatch, .. } = routing;
    let Some(pool) = fleet.output_pool() else { return };
    // The reference lets the request take its turn before it finds that it cannot fit.
    let blocks = handoff.prompt.div_ceil(pool.config.block_size);
    if blocks > pool.config.num_gpu_blocks {
        news.0.push(NewsItem { at: now, role: pool.role, event: EngineEvent::failed(request) });
        dispatch.handoffs.open.remove(&request);
        if let Some(source) = handoff.source {
            dispatch.handoffs.queue.push_back(Action::Release { request, source, cancelled: true });
        }
        return;
    }
    let Some(Routed::To(Placement { member, overlap_tokens, .. })) = routed else {
        dispatch.handoffs.unplaced.push_back(Action::Reserve(request));
        return;
    };
    let Ok((_, mut engine)) = dispatch.engines.get_mut(member.entity) else { return };
    let corrected = dispatch.facts.semantics.handoff_after_first_token;
    let job = Job {
        request,
        prompt: handoff.prompt,
        output: handoff.output,
        generated: u32::from(corrected),
        last_token: handoff.held_at.filter(|_| corrected),
        hold: false,
    };
    let idle = engine.busy_until.is_none();
    let reservation = engine.ranks[0].expect_transfer(job, &dispatch.prompts.0, idle);
    if let Some(open) = dispatch.handoffs.open.get_mut(&request) {
        open.destination = Some(member.entity);
    }
    dispatch.handoffs.reserved(reservation, now);
    let entity = dispatch.requests.entities.get(request as usize).copied().flatten();
    if let Some(Ok(mut timeline)) = entity.map(|e| dispatch.timelines.get_mut(e)) {
        timeline.0.decode_worker = Some(member.id);
        if let Some(handoff) = &mut timeline.0.handoff {
            handoff.decode_route_overlap_tokens = overlap_tokens;
        }
    }
}

/// Writes the time stamps of this round into the records.
fn apply_stamps(dispatch: &mut Dispatch) {
    let Dispatch { facts, handoffs, requests, timelines, .. } = dispatch;
    let corrected = facts.semantics.handoff_after_first_token;
    for (request, stamp, at) in std::mem::take(&mut handoffs.stamps) {
        if let Some(index) = handoffs.ended.get(&request).copied() {
            if stamp == Stamp::Released {
                handoffs.ended.remove(&request);
            }
            if let Some(record) = requests.records.get_mut(index) {
                apply_stamp(record, stamp, at);
            }
            continue;
        }
        let entity = requests.entities.get(request as usize).copied().flatten();
        let Some(Ok(mut timeline)) = entity.map(|e| timelines.get_mut(e)) else { continue };
        apply_stamp(&mut timeline.0, stamp, at);
        if stamp == Stamp::Held && corrected && timeline.0.requested_output_tokens > 0 {
            timeline.0.first_token = Some(at);
            timeline.0.last_token = Some(at);
            timeline.0.output_tokens = 1;
        }
    }
}

fn apply_stamp(record: &mut super::metrics::RequestRecord, stamp: Stamp, at: SimTime) {
    if let Some(stamps) = &mut record.handoff {
        let field = match stamp {
            Stamp::Held => &mut stamps.source_held,
            Stamp::Reserved => &mut stamps.destination_reserved,
            Stamp::Activated => &mut stamps.destination_activated,
            Stamp::Released => &mut stamps.source_released,
        };
        *field = Some(at);
    }
}
