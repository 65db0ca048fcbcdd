//! KV tiers below the GPU, as a scheduler sees them: requests that wait for blocks from there.
//!
//! A request at the head of the queue that could be admitted, and whose prompt goes on in a lower tier where the GPU's part
//! of it ends, is *parked* until those blocks are up. Then it is the head of the queue again, and its blocks are
//! cached ones that it is most likely to hit.

use crate::sim::kv::KvTiers;
use crate::time::SimTime;

use super::scheduler::{EngineEvent, Status, VllmScheduler};

/// What lower tiers do for a request about to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BringUp {
    /// They have nothing for it.
    Nothing,
    /// It has left the queue, or is its head again with the blocks in place.
    Parked,
    /// There is no place for its blocks before others have been copied down.
    Waits,
}

impl VllmScheduler {
    /// Gives the scheduler tiers below its GPU.
    pub fn attach_tiers(&mut self, tiers: KvTiers) {
        self.pool.tiers = Some(Box::new(tiers));
    }

    /// The tiers below its GPU.
    pub fn tiers_mut(&mut self) -> Option<&mut KvTiers> {
        self.pool.tiers.as_deref_mut()
    }

    /// Copies between tiers that are over by `now` take effect. Returns whether places have become free.
    pub fn advance_tiers(&mut self, now: SimTime) -> bool {
        let Some(tiers) = &mut self.pool.tiers else { return false };
        tiers.advance(now);
        self.pool.forget_claims();
        let freed = self.pool.free_copied();
        if freed {
            self.transfers.capacity_changed();
        }
        self.take_what_came_up();
        self.pool.events.publish(now);
        freed
    }

    /// Blocks that are up become cached ones; those who waited for them may go on.
    fn take_what_came_up(&mut self) {
        let arrived = self.pool.tiers.as_mut().map(|tiers| tiers.take_arrived()).unwrap_or_default();
        for (id, got) in arrived {
            self.parked.retain(|parked| *parked != id);
            self.unparked.push(id);
            self.pool.consume_reserved(got.total());
            let slot = &mut self.slots[id as usize];
            slot.private = got.total();
            let request = slot.job.request;
            slot.status = if slot.recompute_until > 0 { Status::Preempted } else { Status::Waiting };
            let end = slot.registered + got.total();
            self.register_to(id, end);
            self.release_blocks(id);
            self.events.push(EngineEvent::BroughtUp { request, got });
            self.transfers.capacity_changed();
            self.blocked_head = None;
        }
    }

    /// Puts requests whose blocks came up at the head of the queue, the first one in front.
    pub(super) fn unpark(&mut self) {
        while let Some(id) = self.unparked.pop() {
            self.waiting.push_front(id);
        }
    }

    /// Asks lower tiers for what follows the resident part of a candidate's prompt.
    pub(super) fn bring_up(&mut self, id: u32) -> BringUp {
        let slot = &self.slots[id as usize];
        if self.pool.tiers.is_none() || slot.computed > 0 || slot.allocated > 0 || !self.config.enable_prefix_caching {
            return BringUp::Nothing;
        }
        // No more than admission would make use of.
        let size = self.config.block_size;
        let to_say = !self.guaranteed && slot.job.output > slot.len - slot.job.prompt;
        let full = if to_say { (slot.len - 1) / size } else { slot.len / size };
        self.hits.clear();
        let resident = self.find_named(id, full);
        let path = &self.slots[id as usize].path;
        let found = self.pool.tiers.as_ref().map(|tiers| tiers.find(path, resident, full)).unwrap_or_default();
        if !found.is_empty() {
            let slot = &mut self.slots[id as usize];
            if self.pool.reserve(&self.hits, resident, found.len() as u32, &mut slot.held) {
                slot.registered = resident;
                slot.status = Status::BringingUp;
                if self.waiting.front() == Some(&id) {
                    self.waiting.pop_front();
                } else {
                    self.waiting.retain(|other| *other != id);
                }
                self.parked.push(id);
                if let Some(tiers) = &mut self.pool.tiers {
                    tiers.bring_up(id, &found);
                }
                // Over links without limit they are here at once.
                self.take_what_came_up();
                self.unpark();
                return BringUp::Parked;
            }
            if self.pool.waits_for_copies() {
                return BringUp::Waits;
            }
        }
        // Admission goes on with what it had found.
        let _ = self.look_up(id);
        BringUp::Nothing
    }
}
