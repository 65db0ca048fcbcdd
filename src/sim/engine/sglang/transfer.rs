//! Both ends of a hand-off: finished prompts held for the other side, pages reserved for prompts to come.

use crate::sim::kv::PromptIndex;
use crate::time::SimTime;

use super::super::scheduler::{EngineEvent, Job};
use super::super::transfer::{Reservation, Reserved};
use super::SglangScheduler;

impl SglangScheduler {
    /// Announces a request whose prompt will be transferred here; with `try_now` the head of the announced requests is
    /// given an attempt.
    pub fn expect_transfer(&mut self, job: Job, prompts: &PromptIndex, try_now: bool) -> Option<Reservation> {
        let slot = self.new_slot(job, prompts);
        self.transfers.announce(slot);
        if try_now { self.try_reservation() } else { None }
    }

    /// Whether an attempt to reserve pages could succeed now.
    pub fn wants_reservation(&self) -> bool {
        !self.transfers.is_stuck()
    }

    /// Tries to reserve pages for the request at the head of the announced ones.
    pub fn try_reservation(&mut self) -> Option<Reservation> {
        let id = self.transfers.attempt(true)?;
        let stamp = self.use_now();
        let size = self.config.block_size;
        let slot = &mut self.slots[id as usize];
        let pages = slot.len.div_ceil(size);
        let (resident, node) = self.tree.find(slot.key(), slot.job.prompt / size, stamp);
        let fresh = pages - resident;
        self.tree.lock(node);
        if fresh > self.tree.obtainable() {
            self.tree.unlock(node, Default::default());
            return None;
        }
        self.tree.evict(fresh.saturating_sub(self.tree.free()));
        self.tree.take(fresh);
        (slot.node, slot.pages, slot.cached) = (Some(node), pages, resident);
        let request = slot.job.request;
        self.transfers.reserve(request, Reserved { slot: id, resident, fresh });
        Some(Reservation { request, missing_tokens: u64::from(fresh) * u64::from(size) })
    }

    /// The transfer is over: the request may run, with its prompt in place, and its first token if the other side emitted
    /// that at `first_token`. May reserve for the next one.
    pub fn activate(&mut self, request: u32, first_token: Option<SimTime>) -> Option<Reservation> {
        let id = self.transfers.take_reserved(request)?.slot;
        let (before, stamp) = (self.tree.free(), self.use_now());
        let slot = &mut self.slots[id as usize];
        slot.materialized = slot.len;
        slot.job.last_token = first_token;
        let complete = slot.len / self.config.block_size;
        self.cache_pages(id, complete, stamp);
        self.delivered.push_back(id);
        let job = self.slots[id as usize].job;
        self.enter(&job);
        if self.tree.free() > before {
            self.transfers.capacity_changed();
        }
        self.try_reservation()
    }

    /// The other side has the pages: give them up here. May reserve for an announced request.
    pub fn release_source(&mut self, request: u32) -> Option<Reservation> {
        let id = self.transfers.take_held(request)?;
        self.release_complete(id);
        self.vacant.push(id);
        self.transfers.capacity_changed();
        self.try_reservation()
    }

    /// The hand-off of `request` will not happen: gives up what was announced or reserved for it. May reserve for
    /// another one.
    pub fn cancel_transfer(&mut self, request: u32) -> Option<Reservation> {
        let slots = &self.slots;
        let id = match self.transfers.take_reserved(request) {
            Some(reserved) => reserved.slot,
            None => self.transfers.drop_pending(|id| slots[id as usize].job.request == request)?,
        };
        self.release_cached(id);
        self.vacant.push(id);
        self.transfers.capacity_changed();
        self.try_reservation()
    }

    /// Gives up the announced request at the head, which can get no pages.
    pub(super) fn fail_pending_transfer(&mut self) -> Option<(u32, String)> {
        let id = self.transfers.drop_head()?;
        let slot = &self.slots[id as usize];
        let (request, reason) = (slot.job.request, self.shortage(slot.len));
        self.events.push(EngineEvent::failed(request));
        self.vacant.push(id);
        self.transfers.capacity_changed();
        Some((request, reason))
    }
}
