//! Many passes at once while nothing changes, and the way in and out of the decode batch.

use crate::scenario::Role;
use crate::time::SimTime;

use super::scheduler::{Scheduler, Share};

/// The pass log is trimmed when it has grown this much beyond what is needed.
const LOG_SLACK: usize = 8_192;

impl Scheduler {
    /// Brings a member of the decode batch up to date and takes it out of the batch.
    pub(super) fn settle_member(&mut self, id: u32) {
        let visible = self.emits_to_clients();
        let slot = &mut self.slots[id as usize];
        let Some(since) = slot.batched.take() else { return };
        let emitted = (self.step - 1 - since) as u32;
        let size = self.config.block_size;
        let blocks = slot.allocated.div_ceil(size);
        slot.len += emitted;
        slot.emitted += emitted;
        slot.computed = slot.len - 1;
        slot.allocated = slot.len - 1;
        if visible && let Some(span) = slot.spans.last_mut() {
            span.last += u64::from(emitted);
            if slot.second.is_none() && emitted > 0 {
                slot.second = Some(SimTime::from_nanos(self.log.end(since + 1)));
            }
        }
        let len = slot.len;
        self.batch.leave(self.step - 1, len);
        if self.batch_pass == self.pass && self.step == self.batch_step {
            // Scheduled in this pass, whose tokens are not out yet: the last token is being computed.
            let slot = &mut self.slots[id as usize];
            slot.computed = len;
            slot.allocated = len;
            slot.share = Share { pass: self.pass, used: 1, prompt: 0, before: 0 };
        }
        let slot = &mut self.slots[id as usize];
        slot.private += slot.allocated.div_ceil(size) - blocks;
        let complete = slot.computed / size;
        self.register_to(id, complete);
    }

    /// Dissolves the decode batch: every running request stands for itself again.
    pub(super) fn settle_batch(&mut self) {
        if self.batch.members() == 0 {
            return;
        }
        let mut members: Vec<u32> =
            self.batch.slots().filter(|id| self.slots[*id as usize].batched.is_some()).collect();
        members.sort_unstable_by_key(|id| self.slots[*id as usize].admitted);
        for id in members {
            self.settle_member(id);
        }
        self.batch.clear_order();
        self.loose.clone_from(&self.running);
    }

    /// Whether the next pass can do nothing but let the batch emit.
    fn is_steady(&self) -> bool {
        if !self.loose.is_empty() || self.batch.members() == 0 {
            return false;
        }
        if self.transfers.has_pending() && !(self.waiting.is_empty() && self.transfers.is_stuck()) {
            return false;
        }
        if self.config.max_num_batched_tokens.is_some_and(|budget| self.batch.members() > budget) {
            return false;
        }
        let Some(head) = self.waiting.front() else { return true };
        if self.running.len() >= self.max_running() {
            return true;
        }
        // Blocks in use only grow while the batch decodes, so a head that waits for room goes on waiting.
        self.blocked_head.is_some_and(|blocked| {
            blocked.slot == *head
                && blocked.changes == self.pool.changes()
                && blocked.needed > self.pool.capacity() - self.pool.active()
        })
    }

    /// Runs passes that start before `until` (the first one `now`) as long as nobody joins, finishes or gives way.
    /// Returns when the last of them ends.
    pub fn run_on(&mut self, now: SimTime, until: SimTime) -> SimTime {
        if !self.is_steady() {
            return now;
        }
        let Some(finish) = self.batch.next_finish() else { return now };
        if self.config.role == Role::Prefill {
            self.grind(finish);
            self.pool.events.publish(now);
            return now;
        }
        let members = u64::from(self.batch.members());
        let mut at = now;
        // The first gap also holds whatever lay between the passes; from then on a gap is a pass.
        let mut lag = now.as_nanos() - self.log.end(self.step - 1);
        let mut needs = self.batch.needs_from(self.step);
        while at < until && self.step < finish {
            let blocks = needs.next();
            if blocks > 0 {
                if !self.pool.take_private(blocks) {
                    break;
                }
                self.pool.events.publish(at);
            }
            self.last_start = at;
            let active = self.pool.active();
            let duration = self.timer.decode(active);
            if lag == 0 {
                self.gaps.add_step(active, members);
            } else {
                self.gaps.add(lag + duration.as_nanos(), members);
                lag = 0;
            }
            at += duration;
            self.log.push(at.as_nanos());
            self.step += 1;
            self.passes += 1;
            self.emitted += members;
        }
        self.trim_log();
        at
    }

    /// Decoding takes no time on a prefill worker: all its passes up to the next finish happen at one instant.
    fn grind(&mut self, finish: u64) {
        let steps = finish.saturating_sub(self.step);
        let blocks = self.batch.blocks_needed_over(self.step, steps);
        if steps == 0 || blocks > u64::from(self.pool.obtainable()) || !self.pool.take_private(blocks as u32) {
            return;
        }
        self.step += steps;
        self.passes += steps;
    }

    /// Forgets pass ends that no request in flight refers to.
    pub(super) fn trim_log(&mut self) {
        if self.log.len() < self.log_limit {
            return;
        }
        let needed = self
            .running
            .iter()
            .chain(self.waiting.iter())
            .chain(self.ending.iter())
            .filter_map(|id| self.slots[*id as usize].spans.first())
            .map(|span| span.first)
            .min()
            .unwrap_or(self.step);
        self.log.forget_before(needed.min(self.step.saturating_sub(1)));
        self.log_limit = self.log.len() * 2 + LOG_SLACK;
    }

    /// Takes the gaps of a request that will not complete out of the statistics.
    pub(super) fn forget_gaps(&mut self, id: u32) {
        let mut gaps = Vec::new();
        self.gaps_of(id, &mut gaps);
        self.removed_gaps.extend(gaps);
    }

    fn gaps_of(&self, id: u32, gaps: &mut Vec<(u64, u64)>) {
        let slot = &self.slots[id as usize];
        if slot.emitted == 0 || !self.emits_to_clients() {
            return;
        }
        if let (Some(before), Some(first)) = (slot.job.last_token, slot.first) {
            gaps.push((first.as_nanos() - before.as_nanos(), 1));
        }
        self.log.gaps(&slot.spans, gaps);
        if slot.burst_extra > 0 {
            gaps.push((0, u64::from(slot.burst_extra)));
        }
    }

    /// The gaps of every request in flight and of those that failed, in no order: they do not count in the report.
    pub fn uncounted_gaps(&mut self) -> Vec<(u64, u64)> {
        self.settle_batch();
        let mut gaps = self.removed_gaps.clone();
        for id in self.running.iter().chain(self.waiting.iter()).chain(self.ending.iter()) {
            self.gaps_of(*id, &mut gaps);
        }
        gaps
    }

    /// Tokens, first and last token time of a request in flight, for records of unfinished requests.
    pub fn tokens_in_flight(&mut self) -> Vec<(u32, u32, Option<SimTime>, Option<SimTime>, Option<SimTime>)> {
        self.settle_batch();
        self.running
            .iter()
            .chain(self.waiting.iter())
            .chain(self.ending.iter())
            .map(|id| {
                let slot = &self.slots[*id as usize];
                let last = slot.spans.last().map(|s| SimTime::from_nanos(self.log.end(s.last)));
                (slot.job.request, slot.emitted, slot.first, slot.second, last)
            })
            .collect()
    }
}
