//! Both ends of a hand-off, as one scheduler sees them.
//!
//! A prefill scheduler keeps the blocks of finished requests *held* until the other side has them. A decode scheduler
//! queues requests that were announced to it and *reserves* blocks for the one at the head: at most one per opportunity,
//! and not again before its capacity has changed since the last failure.

use std::collections::{BTreeMap, VecDeque};

use crate::sim::kv::PromptIndex;

use super::scheduler::{EngineEvent, Job, Status, VllmScheduler};

/// Blocks are reserved for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Index of the request.
    pub request: u32,
    /// Tokens in blocks that were not resident here, whole blocks.
    pub missing_tokens: u64,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    slot: u32,
    /// Capacity generation at the last failed attempt.
    failed_at: Option<u64>,
}

/// What is reserved for a request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub slot: u32,
    /// Blocks found here.
    pub resident: u32,
    /// Blocks to be filled by the transfer.
    pub fresh: u32,
}

/// Hand-offs of one scheduler.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// Requests in the scheduler whose blocks will be held.
    expected_holds: u32,
    held: BTreeMap<u32, u32>,
    pending: VecDeque<Pending>,
    reserved: BTreeMap<u32, Reserved>,
    generation: u64,
}

impl Transfers {
    pub fn is_empty(&self) -> bool {
        self.expected_holds == 0 && self.held.is_empty() && self.pending.is_empty() && self.reserved.is_empty()
    }

    /// Slots of requests that are announced, or for which blocks are reserved.
    pub fn expected(&self) -> impl Iterator<Item = u32> {
        self.pending.iter().map(|pending| pending.slot).chain(self.reserved.values().map(|reserved| reserved.slot))
    }

    /// Slots of requests that are done here and held, by request.
    pub fn held(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.held.values().copied()
    }

    /// What is reserved, by request.
    pub fn reserved(&self) -> impl Iterator<Item = Reserved> + Clone + '_ {
        self.reserved.values().copied()
    }

    /// Slots of requests that are announced and have no blocks yet, in order.
    pub fn announced(&self) -> impl Iterator<Item = u32> + '_ {
        self.pending.iter().map(|pending| pending.slot)
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the announced request at the head was tried since the last change of capacity.
    pub fn is_stuck(&self) -> bool {
        self.pending.front().is_none_or(|head| head.failed_at == Some(self.generation))
    }

    pub fn expect_hold(&mut self) {
        self.expected_holds += 1;
    }

    pub fn hold(&mut self, request: u32, slot: u32) {
        self.expected_holds -= 1;
        self.held.insert(request, slot);
    }

    pub fn hold_dropped(&mut self) {
        self.expected_holds -= 1;
    }

    /// The slot of a held request, which is held no longer.
    pub fn take_held(&mut self, request: u32) -> Option<u32> {
        self.held.remove(&request)
    }

    /// Blocks or a running place may have become free.
    pub fn capacity_changed(&mut self) {
        self.generation += 1;
    }

    /// Queues an announced request.
    pub fn announce(&mut self, slot: u32) {
        self.pending.push_back(Pending { slot, failed_at: None });
    }

    /// The slot at the head of the announced requests, if it may be tried now: it must not have been since the last
    /// change of capacity, and there must be `room`. Counts as a try either way.
    pub fn attempt(&mut self, room: bool) -> Option<u32> {
        let head = self.pending.front_mut()?;
        let tried = head.failed_at == Some(self.generation);
        head.failed_at = Some(self.generation);
        (room && !tried).then_some(head.slot)
    }

    /// The announced request at the head has its blocks.
    pub fn reserve(&mut self, request: u32, reserved: Reserved) {
        self.pending.pop_front();
        self.reserved.insert(request, reserved);
    }

    /// What is reserved for a request, no longer.
    pub fn take_reserved(&mut self, request: u32) -> Option<Reserved> {
        self.reserved.remove(&request)
    }

    /// Gives up the announced request at the head.
    pub fn drop_head(&mut self) -> Option<u32> {
        self.pending.pop_front().map(|pending| pending.slot)
    }

    /// Gives up the announced requests for which `is_given_up` holds.
    pub fn drop_pending(&mut self, is_given_up: impl Fn(u32) -> bool) -> Option<u32> {
        let position = self.pending.iter().position(|pending| is_given_up(pending.slot))?;
        self.pending.remove(position).map(|pending| pending.slot)
    }
}

impl VllmScheduler {
    /// Announces a request whose prompt will be transferred here; with `try_now` the head of the announced requests is
    /// given an attempt.
    pub fn expect_transfer(&mut self, job: Job, prompts: &PromptIndex, try_now: bool) -> Option<Reservation> {
        let slot = self.new_slot(job, Status::Expected, prompts);
        self.transfers.announce(slot);
        if try_now { self.try_reservation() } else { None }
    }

    /// Whether an attempt to reserve blocks could succeed now.
    pub fn wants_reservation(&self) -> bool {
        !self.transfers.is_stuck()
    }

    /// Tries to reserve blocks for the request at the head of the announced ones.
    pub fn try_reservation(&mut self) -> Option<Reservation> {
        let room = self.running.len() < self.max_running();
        let id = self.transfers.attempt(room)?;
        let size = self.config.block_size;
        let slot = &self.slots[id as usize];
        let blocks = slot.job.prompt.div_ceil(size);
        let full_blocks = slot.job.prompt / size;
        self.hits.clear();
        let resident = self.find_named(id, full_blocks);
        let fresh = blocks - resident;
        let slot = &mut self.slots[id as usize];
        if !self.pool.reserve(&self.hits, resident, fresh, &mut slot.held) {
            return None;
        }
        let request = slot.job.request;
        self.transfers.reserve(request, Reserved { slot: id, resident, fresh });
        Some(Reservation { request, missing_tokens: u64::from(fresh) * u64::from(size) })
    }

    /// The transfer is over: the request joins the waiting queue with its prompt in place. May reserve for the next one.
    pub fn activate(&mut self, request: u32) -> Option<Reservation> {
        let reserved = self.transfers.take_reserved(request)?;
        let id = reserved.slot;
        self.pool.consume_reserved(reserved.fresh);
        let size = self.config.block_size;
        let slot = &mut self.slots[id as usize];
        slot.private = reserved.fresh;
        slot.registered = reserved.resident;
        slot.computed = slot.job.prompt;
        slot.allocated = slot.job.prompt;
        slot.status = Status::Waiting;
        let complete = slot.job.prompt / size;
        self.register_to(id, complete);
        self.waiting.push_back(id);
        self.unfinished += 1;
        self.try_reservation()
    }

    /// The other side has the blocks: give them up here. May reserve for an announced request.
    pub fn release_source(&mut self, request: u32) -> Option<Reservation> {
        let id = self.transfers.take_held(request)?;
        self.release_blocks(id);
        self.forget(id);
        self.transfers.capacity_changed();
        self.try_reservation()
    }

    /// Gives up the announced request at the head, which can get no blocks.
    pub(super) fn fail_pending_transfer(&mut self) -> Option<(u32, String)> {
        let id = self.transfers.drop_head()?;
        let slot = &self.slots[id as usize];
        let (request, reason) = (slot.job.request, self.shortage(slot.job.prompt));
        self.events.push(EngineEvent::failed(request));
        self.forget(id);
        self.transfers.capacity_changed();
        Some((request, reason))
    }
}
