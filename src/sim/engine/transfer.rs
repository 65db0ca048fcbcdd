//! Both ends of a hand-off, as one scheduler sees them.
//!
//! A prefill scheduler keeps the blocks of finished requests *held* until the other side has them. A decode scheduler
//! queues requests that were announced to it and *reserves* blocks for the one at the head: at most one per opportunity,
//! and not again before its capacity has changed since the last failure.

use std::collections::{BTreeMap, VecDeque};

use crate::sim::kv::PromptIndex;

use super::scheduler::{EngineEvent, Job, Scheduler, Status};

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

#[derive(Debug, Clone, Copy)]
struct Reserved {
    slot: u32,
    resident: u32,
    fresh: u32,
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

    /// Blocks or a running place may have become free.
    pub fn capacity_changed(&mut self) {
        self.generation += 1;
    }
}

impl Scheduler {
    /// Announces a request whose prompt will be transferred here; with `try_now` the head of the announced requests is
    /// given an attempt.
    pub fn expect_transfer(&mut self, job: Job, prompts: &PromptIndex, try_now: bool) -> Option<Reservation> {
        let slot = self.new_slot(job, Status::Expected, prompts);
        self.transfers.pending.push_back(Pending { slot, failed_at: None });
        if try_now { self.try_reservation() } else { None }
    }

    /// Whether an attempt to reserve blocks could succeed now.
    pub fn wants_reservation(&self) -> bool {
        !self.transfers.is_stuck()
    }

    /// Tries to reserve blocks for the request at the head of the announced ones.
    pub fn try_reservation(&mut self) -> Option<Reservation> {
        let generation = self.transfers.generation;
        let full = self.running.len() >= self.max_running();
        let head = self.transfers.pending.front_mut()?;
        let tried = head.failed_at == Some(generation);
        head.failed_at = Some(generation);
        if full || tried {
            return None;
        }
        let id = head.slot;
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
        self.transfers.pending.pop_front();
        let request = slot.job.request;
        self.transfers.reserved.insert(request, Reserved { slot: id, resident, fresh });
        Some(Reservation { request, missing_tokens: u64::from(fresh) * u64::from(size) })
    }

    /// The transfer is over: the request joins the waiting queue with its prompt in place. May reserve for the next one.
    pub fn activate(&mut self, request: u32) -> Option<Reservation> {
        let reserved = self.transfers.reserved.remove(&request)?;
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
        let id = self.transfers.held.remove(&request)?;
        self.release_blocks(id);
        self.forget(id);
        self.transfers.capacity_changed();
        self.try_reservation()
    }

    /// Gives up the announced request at the head, which can get no blocks.
    pub(super) fn fail_pending_transfer(&mut self) -> Option<(u32, String)> {
        let pending = self.transfers.pending.pop_front()?;
        let slot = &self.slots[pending.slot as usize];
        let (request, reason) = (slot.job.request, self.shortage(slot.job.prompt));
        self.events.push(EngineEvent::failed(request));
        self.forget(pending.slot);
        self.transfers.capacity_changed();
        Some((request, reason))
    }
}
