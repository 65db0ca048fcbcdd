//! Many passes at once while nothing changes, and the way in and out of the decode batch.

use crate::perf::DecodeLoad;
use crate::scenario::Role;
use crate::time::{SimDuration, SimTime};

use super::scheduler::{Share, Slot, VllmScheduler};
use super::tokens::{Lap, TokensSoFar};

/// Passes looked at in one go.
const AHEAD: usize = 64;

/// Memory for them: durations and ends.
#[derive(Debug)]
pub(super) struct Ahead {
    durations: [SimDuration; AHEAD],
    ends: [SimTime; AHEAD],
}

impl Default for Ahead {
    fn default() -> Self {
        Self { durations: [SimDuration::ZERO; AHEAD], ends: [SimTime::ZERO; AHEAD] }
    }
}

/// Of `left` passes from `at` on, how many begin before `until` if each takes `duration`, and at most [`AHEAD`].
fn passes_before(until: SimTime, at: SimTime, duration: SimDuration, left: u64) -> usize {
    let whole = (until - at).as_nanos().checked_div(duration.as_nanos()).unwrap_or_default();
    left.min(whole.saturating_add(1)).min(AHEAD as u64) as usize
}

impl VllmScheduler {
    /// Brings a member of the decode batch up to date and takes it out of the batch.
    pub(super) fn settle_member(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        let Some(since) = slot.batched.take() else { return };
        let emitted = (self.tokens.step - 1 - since) as u32;
        let size = self.config.block_size;
        let blocks = slot.allocated.div_ceil(size);
        slot.len += emitted;
        slot.computed = slot.len - 1;
        slot.allocated = slot.len - 1;
        self.tokens.catch_up(&mut slot.trail, since, emitted);
        let len = slot.len;
        self.batch.leave(self.tokens.step - 1, len);
        if self.batch_pass == self.pass && self.tokens.step == self.batch_step {
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
        // Blocks in use only grow while the batch decodes (and what is promised shrinks alike), so a head that waits for
        // room goes on waiting.
        self.blocked_head.is_some_and(|blocked| {
            blocked.slot == *head && blocked.changes == self.pool.changes() && blocked.needed > self.available()
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
        let members = self.batch.members();
        let mut at = now;
        let (passes, mut before) = (self.passes, self.last_start);
        // The first gap also holds whatever lay between the passes; from then on a gap is a pass.
        let mut follows = now.as_nanos() == self.tokens.end(self.tokens.step - 1);
        let mut needs = self.batch.needs_from(self.tokens.step);
        let by_occupancy = self.timer.by_occupancy();
        let load =
            DecodeLoad { count: u64::from(members), len_sum: self.batch.len_sum(self.tokens.step), active_tokens: 0 };
        let mut stretch = self.timer.stretch(load);
        let can_foresee = stretch.can_foresee();
        let Ahead { durations, ends } = &mut self.ahead;
        let mut latest = SimDuration::ZERO;
        while at < until && self.tokens.step < finish {
            let mut foreseen = 0;
            if can_foresee && !latest.is_zero() {
                let expected = passes_before(until, at, latest, finish - self.tokens.step);
                foreseen = stretch.foresee(&mut durations[..expected]);
            }
            if foreseen > 0 {
                // Nothing but room for blocks and the time decides how many of these passes there are.
                let obtainable = self.pool.obtainable();
                let (mut passes, mut blocks, mut taken, mut is_short) = (0, 0, 0, false);
                for (duration, end) in durations[..foreseen].iter().zip(ends.iter_mut()) {
                    if at >= until {
                        break;
                    }
                    let needed = blocks + needs.next();
                    is_short = needed > obtainable;
                    if is_short {
                        break;
                    }
                    if needed > blocks && self.pool.events.are_wanted() {
                        // A router sees what goes when its pass begins.
                        self.pool.take_private(needed - blocks);
                        self.pool.events.publish(at);
                        taken = needed;
                    }
                    blocks = needed;
                    passes += 1;
                    before = self.last_start;
                    self.last_start = at;
                    at += *duration;
                    *end = at;
                }
                self.pool.take_private(blocks - taken);
                self.tokens.begin_steps(&ends[..passes], members);
                stretch.skip(passes as u64);
                self.passes += passes as u64;
                if is_short {
                    break;
                }
                latest = durations[foreseen - 1];
                continue;
            }
            let blocks = needs.next();
            if blocks > 0 {
                if !self.pool.take_private(blocks) {
                    break;
                }
                self.pool.events.publish(at);
            }
            before = self.last_start;
            self.last_start = at;
            let active = self.pool.active();
            let (duration, lap) = if by_occupancy {
                (self.timer.at_occupancy(active), Lap::Occupancy(active))
            } else {
                (stretch.next(self.timer.tokens(active)), Lap::Steady)
            };
            at += duration;
            self.tokens.begin_step(at, members, if follows { lap } else { Lap::Other });
            follows = true;
            self.passes += 1;
            latest = duration;
        }
        self.tokens.end_stretch(members);
        let remarks = stretch.finish();
        self.timer.note(remarks);
        self.trim_log();
        if self.watch.is_watched() {
            let (members, contexts, queued) = (u64::from(members), load.len_sum, self.queued());
            self.watch.stretch(
                self.passes - passes,
                (before, self.last_start, at),
                members,
                contexts,
                self.tokens.emitted,
                queued,
            );
        }
        at
    }

    /// Decoding takes no time on a prefill worker: all its passes up to the next finish happen at one instant.
    fn grind(&mut self, finish: u64) {
        let steps = finish.saturating_sub(self.tokens.step);
        let blocks = self.batch.blocks_needed_over(self.tokens.step, steps);
        if steps == 0 || blocks > u64::from(self.pool.obtainable()) || !self.pool.take_private(blocks as u32) {
            return;
        }
        self.tokens.step += steps;
        self.passes += steps;
    }

    /// Requests whose tokens are not published: running, waiting, or ended in the pass in progress.
    fn in_flight(&self) -> impl Iterator<Item = &Slot> {
        let ids =
            self.running.iter().chain(&self.waiting).chain(&self.ending).chain(&self.parked).chain(&self.unparked);
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
