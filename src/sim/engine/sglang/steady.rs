//! Many decode passes at once while nothing changes, and the way in and out of the decode batch.
//!
//! A member of the batch emits in every step. Its pages are counted when they are taken, but what is in the tree, and
//! when that was used, is brought up to date only when the member leaves: the pages of its own that it appends at the
//! end of its path concern nobody else.

use std::cmp::Reverse;

use crate::sim::kv::Stamp;
use crate::time::SimTime;

use super::super::tokens::{Lap, TokensSoFar};
use super::pass::OCCUPANCY_LIMIT;
use super::{Obstacle, SglangScheduler, Slot};

/// Output that the running requests may still produce, each counted up to `clip_max_new_tokens`.
#[derive(Debug, Clone, Copy)]
struct OutputToCome {
    sum: u64,
    /// By how much the sum falls in every step.
    falls: u64,
    /// The step from which on it falls faster.
    until: u64,
}

impl SglangScheduler {
    /// Lets a request that emitted in `step`, and has more to say, join the decode batch.
    pub(super) fn join_batch(&mut self, id: u32, step: u64) {
        let size = self.config.block_size;
        let slot = &mut self.slots[id as usize];
        slot.batched = Some(step);
        let left = slot.remaining();
        // The table of boundaries counts the token to come as part of the length.
        self.batch.join(id, step, slot.len + 1, left);
        self.context += u64::from(slot.len);
        if !slot.has_leaf() {
            let steps = size - slot.len % size;
            if steps < left {
                self.branching.push(Reverse((step + u64::from(steps), id)));
            }
        }
    }

    /// Takes members whose last token came in `step` out of the batch and appends them to `done`.
    pub(super) fn finish_members(&mut self, step: u64, done: &mut Vec<u32>) {
        while let Some(id) = self.batch.pop_finished(step) {
            self.settle_member(id, true);
            done.push(id);
        }
    }

    /// Appends the members whose first page of their own is complete with `step`.
    pub(super) fn branching_members(&mut self, step: u64, members: &mut Vec<u32>) {
        while let Some(&Reverse((at, id))) = self.branching.peek()
            && at <= step
        {
            self.branching.pop();
            members.push(id);
        }
    }

    /// Brings a member of the decode batch up to date. One that `finished` keeps what its very last token completed to
    /// itself: that goes into the tree when the request ends.
    pub(super) fn catch_up(&mut self, id: u32, finished: bool) {
        let last = self.tokens.step - 1;
        let size = self.config.block_size;
        let slot = &mut self.slots[id as usize];
        let Some(since) = slot.batched.replace(last) else { return };
        let emitted = (last - since) as u32;
        slot.len += emitted;
        slot.materialized = slot.len;
        slot.pages = slot.len.div_ceil(size);
        self.tokens.catch_up(&mut slot.trail, since, emitted);
        let complete = (slot.len - u32::from(finished)) / size;
        let ago = u64::from(slot.len - complete * size);
        let stamp = Stamp::with_token(last - ago.min(last), slot.joined);
        self.cache_pages(id, complete, stamp);
    }

    /// Brings a member of the decode batch up to date and takes it out of the batch, but for its entry in the order of
    /// finishing.
    fn settle_member(&mut self, id: u32, finished: bool) {
        self.catch_up(id, finished);
        let slot = &mut self.slots[id as usize];
        slot.batched = None;
        self.context -= u64::from(slot.len);
        self.batch.leave(self.tokens.step - 1, slot.len + 1);
    }

    /// Dissolves the decode batch: every running request stands for itself again.
    pub(super) fn settle_batch(&mut self) {
        if self.batch.members() == 0 {
            return;
        }
        let mut members: Vec<u32> =
            self.batch.slots().filter(|id| self.slots[*id as usize].batched.is_some()).collect();
        members.sort_unstable_by_key(|id| self.slots[*id as usize].joined);
        for id in members {
            self.settle_member(id, false);
        }
        self.batch.clear_order();
        self.branching.clear();
        self.loose.clone_from(&self.running);
    }

    /// Whether the next pass leaves everybody waiting who waits; what the head of the queue needs, if only memory keeps
    /// it from joining.
    fn all_wait(&self) -> Option<Option<u64>> {
        if !self.is_in_order() {
            return None;
        }
        let full = self.running.len() >= self.max_running();
        if self.transfers.has_pending() || !self.delivered.is_empty() {
            return (self.transfers.is_stuck() && (full || self.delivered.is_empty())).then_some(None);
        }
        let Some(head) = self.waiting.front().filter(|_| !full) else { return Some(None) };
        match self.obstacle.filter(|(id, _)| id == head)?.1 {
            Obstacle::Pass => Some(None),
            Obstacle::Memory(needed) => Some(Some(needed)),
        }
    }

    /// Runs passes that start before `until` (the first one `now`) as long as nobody joins, finishes, gives way or
    /// branches off in the tree. Returns when the last of them ends.
    pub fn run_on(&mut self, now: SimTime, until: SimTime) -> SimTime {
        let members = self.batch.members();
        if !self.loose.is_empty() || members == 0 {
            return now;
        }
        let (Some(finish), Some(needed)) = (self.batch.next_finish(), self.all_wait()) else { return now };
        let mut last = finish.min(self.branching.peek().map_or(u64::MAX, |Reverse((step, _))| *step));
        let mut output = needed.map(|_| self.output_to_come());
        if let Some(output) = output {
            last = last.min(output.until);
        }
        let mut at = now;
        let mut follows = now.as_nanos() == self.tokens.end(self.tokens.step - 1);
        let mut needs = self.batch.needs_from(self.tokens.step);
        let by_occupancy = self.timer.by_occupancy();
        let total = u64::from(self.tree.capacity()) * u64::from(self.config.block_size);
        let mut stretch = self.timer.stretch(self.decode_load(self.context));
        while at < until && self.tokens.step < last {
            if let (Some(needed), Some(output)) = (needed, &mut output) {
                // The sum is not exact: near the border the pass is formed one by one.
                let kept = output.sum as f64 * self.share.now;
                if (needed as f64) < self.obtainable_tokens() - kept + 1e-3 + kept * 1e-9 {
                    break;
                }
                output.sum -= output.falls;
            }
            let pages = needs.next();
            if pages > self.tree.free() {
                if pages > self.tree.obtainable() || self.orders_queue() {
                    break;
                }
                self.tree.evict(pages - self.tree.free());
            }
            self.tree.take(pages);
            self.last_start = at;
            let active = self.context.min(total);
            let (duration, lap) = match u32::try_from(active).ok().filter(|_| by_occupancy && active < OCCUPANCY_LIMIT)
            {
                Some(tokens) => (self.timer.at_occupancy(tokens), Lap::Occupancy(tokens)),
                None => (stretch.next(active), if by_occupancy { Lap::Other } else { Lap::Steady }),
            };
            at += duration;
            self.tree.events.publish(at);
            self.tokens.begin_step(at, members, if follows { lap } else { Lap::Other });
            follows = true;
            self.context += u64::from(members);
            self.share.decay();
            self.passes += 1;
        }
        self.tokens.end_stretch(members);
        let remarks = stretch.finish();
        self.timer.note(remarks);
        self.trim_log();
        at
    }

    /// Output that the members of the batch may still produce, each up to the bound on it.
    fn output_to_come(&self) -> OutputToCome {
        let clip = u64::from(self.settings.clip_max_new_tokens);
        let mut output = OutputToCome { sum: 0, falls: 0, until: u64::MAX };
        for step in self.batch.finishes() {
            let left = step + 1 - self.tokens.step;
            output.sum += left.min(clip);
            if left <= clip {
                output.falls += 1;
            } else {
                output.until = output.until.min(self.tokens.step + (left - clip));
            }
        }
        output
    }

    /// Requests whose tokens are not published: running, waiting, or ended in the pass in progress.
    fn in_flight(&self) -> impl Iterator<Item = &Slot> {
        let ids = self.running.iter().chain(&self.waiting).chain(&self.delivered).chain(&self.ending);
        ids.map(|id| &self.slots[*id as usize])
    }

    /// Forgets pass ends that no request in flight refers to.
    pub(super) fn trim_log(&mut self) {
        if self.tokens.is_long() {
            let needed = self.in_flight().filter_map(|slot| slot.trail.begin()).min();
            self.tokens.trim(needed.unwrap_or(self.tokens.step));
        }
    }

    /// The gaps of every request in flight and of those that failed, in no order: they do not count in the report.
    pub fn uncounted_gaps(&mut self) -> Vec<(u64, u64)> {
        self.settle_batch();
        let mut gaps = self.tokens.removed().to_vec();
        for slot in self.in_flight() {
            self.tokens.gaps_of(&slot.trail, slot.job.last_token, &mut gaps);
        }
        gaps
    }

    /// Tokens, first, second and last token time of every request in flight, for records of unfinished requests.
    pub fn tokens_in_flight(&mut self) -> Vec<TokensSoFar> {
        self.settle_batch();
        self.in_flight().map(|slot| self.tokens.so_far(slot.job.request, &slot.trail)).collect()
    }
}
