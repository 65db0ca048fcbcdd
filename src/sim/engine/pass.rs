//! One forward pass: running requests first, then waiting ones in order, then one token for everybody who is ready.
//!
//! A pass is *formed* at its start, which settles what it computes and how long it takes, and *emitted* with its end.
//! The two differ for data-parallel ranks only: their passes end together.

use crate::perf::{DecodeLoad, PrefillChunk};
use crate::time::{SimDuration, SimTime};

use super::bring_up::BringUp;
use super::schedule::{Cached, PassState, Scheduled};
use super::scheduler::{BlockedHead, Ended, EngineEvent, FirstTokens, Status, VllmScheduler};
use super::tokens::{Lap, TokenLog};
use super::watch::{PassRecord, Queued};

/// A pass that has been formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formed {
    /// When it would end by itself.
    pub end: SimTime,
    /// Whether it did anything at all.
    pub worked: bool,
    /// The KV occupancy, in units of the timer, where that alone explains how long the pass takes, and that time.
    pub(super) occupancy: Option<(SimDuration, u32)>,
    /// Whether anybody emits.
    pub(super) emits: bool,
}

impl Formed {
    /// What explains the time since the step before, if the tokens come out at `end`.
    pub(super) fn lap(&self, tokens: &TokenLog, end: SimTime) -> Lap {
        let (Some((duration, units)), Some(before)) = (self.occupancy, tokens.step.checked_sub(1)) else {
            return Lap::Other;
        };
        let follows = end.as_nanos() - tokens.end(before) == duration.as_nanos();
        if follows { Lap::Occupancy(units) } else { Lap::Other }
    }
}

/// What the queue does next.
enum Candidate {
    Admit(u32, Cached),
    Refuse(u32, Ended),
    Wait,
}

impl VllmScheduler {
    fn budget(&self) -> u64 {
        self.config.max_num_batched_tokens.map_or(u64::MAX / 2, u64::from)
    }

    pub(super) fn max_running(&self) -> usize {
        self.config.max_num_seqs.map_or(usize::MAX, |n| n as usize)
    }

    /// Forms the pass that starts `now`.
    pub fn form(&mut self, now: SimTime) -> Formed {
        self.break_livelock();
        self.advance_tiers(now);
        self.unpark();
        self.pass += 1;
        self.last_start = now;
        let mut pass = PassState { budget: self.budget(), ..PassState::default() };
        self.chunks.clear();
        self.schedule_running(&mut pass);
        self.schedule_waiting(now, &mut pass);

        self.finished.clear();
        self.collect_ready();
        let early = std::mem::take(&mut self.ended_early);
        for id in &early {
            self.finish(*id, Ended::Completed);
        }
        let mut emits = self.batch.members() > 0 || !self.finished.is_empty();
        let mut reserved = 0;
        let mut scheduled = pass.scheduled;
        if emits && self.sampler.is_some() {
            emits = self.reserve_bursts();
            reserved = self.burst_blocks;
            // Who has all tokens and waits with them for copies to a lower tier got nothing.
            scheduled &= emits || !self.pool.waits_for_copies() || pass.budget < self.budget();
        }
        let (duration, occupancy) = self.duration(&pass, emits, reserved);
        if self.watch.is_watched() {
            self.describe(&early);
        }
        let worked = scheduled || emits || !early.is_empty() || !self.rejected.is_empty() || self.has_events();
        self.ended_early = early;
        self.ended_early.clear();
        self.passes += u64::from(worked);
        Formed { end: now + duration, worked, occupancy, emits }
    }

    /// Who waits now, or is expected from another worker.
    pub(super) fn queued(&mut self) -> Queued {
        let ends = self.waiting.front().zip(self.waiting.back());
        let request = |id: u32| self.slots[id as usize].job.request;
        let queue = ends.map(|(front, back)| (self.waiting.len(), request(*front), request(*back)));
        let (slots, waiting) = (&self.slots, &self.waiting);
        let mut queued = self.watch.queued(queue, || {
            let mut queued = Queued::default();
            for id in waiting {
                let slot = &slots[*id as usize];
                // One that came with a hand-off waits to decode.
                let is_new = slot.status == Status::Waiting && slot.computed < slot.job.prompt;
                queued.count(slot.job.prompt, slot.len - slot.job.prompt, is_new);
            }
            queued
        });
        for id in self.transfers.expected() {
            queued.count(self.slots[id as usize].job.prompt, 0, false);
        }
        queued
    }

    /// Tells what is in the pass being formed, and who waits; `early` end in it without a token.
    fn describe(&mut self, early: &[u32]) {
        let mut record = PassRecord {
            decodes: u64::from(self.batch.members()),
            decode_tokens: self.batch.len_sum(self.tokens.step),
            queued: self.queued(),
            ..PassRecord::default()
        };
        for id in self.loose.iter().chain(early) {
            let slot = &self.slots[*id as usize];
            if slot.share.pass != self.pass {
                continue;
            }
            if slot.share.prompt > 0 {
                record.prefills += 1;
                record.prefill_tokens += u64::from(slot.share.used);
                record.prefix_tokens += u64::from(slot.share.before);
            } else {
                record.decodes += 1;
                record.decode_tokens += u64::from(slot.len);
            }
        }
        self.watch.forming = record;
    }

    /// How long the pass takes, and the KV blocks in use if they alone explain it.
    fn duration(&mut self, pass: &PassState, emits: bool, reserved: u32) -> (SimDuration, Option<(SimDuration, u32)>) {
        let blocks = self.pool.active() - reserved;
        let decodes = emits && self.emits_to_clients();
        if self.timer.is_fused() {
            let load = if decodes { self.decode_load(blocks, true) } else { DecodeLoad::default() };
            let chunks: Vec<PrefillChunk> = self.chunks.iter().map(|(_, chunk)| *chunk).collect();
            return (self.timer.fused(&chunks, load), None);
        }
        let prefill = self.timer.prefill(pass.count, pass.sum_isl, pass.sum_prefix);
        if !decodes {
            return (prefill, None);
        }
        let alone = prefill.is_zero();
        if alone && self.timer.by_occupancy() {
            let decode = self.timer.at_occupancy(blocks);
            return (decode, Some((decode, blocks)));
        }
        let load = self.decode_load(blocks, false);
        (prefill + self.timer.decode(load, alone), None)
    }

    /// Who emits in this pass; `elders` leaves out those whose prompt ends in it.
    fn decode_load(&self, blocks: u32, elders: bool) -> DecodeLoad {
        let mut load = DecodeLoad {
            count: u64::from(self.batch.members()),
            len_sum: self.batch.len_sum(self.tokens.step),
            active_tokens: self.timer.tokens(blocks),
        };
        for id in &self.finished {
            let slot = &self.slots[*id as usize];
            if elders && slot.share.pass == self.pass && slot.share.prompt > 0 {
                continue;
            }
            load.count += 1;
            load.len_sum += u64::from(slot.len);
        }
        load
    }

    /// Running requests in admission order; the decode batch in one go where order cannot matter.
    fn schedule_running(&mut self, pass: &mut PassState) {
        if self.batch.members() > 0 {
            if self.batch_fits(pass.budget) {
                let blocks = self.batch.blocks_needed(self.tokens.step);
                if blocks > 0 && !self.pool.take_private(blocks) {
                    self.settle_batch();
                } else {
                    pass.budget -= u64::from(self.batch.members());
                    pass.scheduled = true;
                    self.batch_pass = self.pass;
                    self.batch_step = self.tokens.step;
                }
            } else {
                self.settle_batch();
            }
        }
        let mut index = self.running.len() - self.loose.len();
        if self.batch.members() == 0 {
            index = 0;
        }
        while index < self.running.len() && pass.budget > 0 {
            match self.schedule(self.running[index], None, pass) {
                Scheduled::Yes(_) | Scheduled::Waits => index += 1,
                Scheduled::GaveWay => {}
                Scheduled::Blocked => break,
            }
        }
    }

    /// Whether the batch can be scheduled as a whole: budget and blocks for everybody, and nobody outside the batch was
    /// admitted before a member.
    fn batch_fits(&self, budget: u64) -> bool {
        let members = self.batch.members() as usize;
        let Some(tail) = self.running.get(members..) else { return false };
        if tail != self.loose.as_slice() || members as u64 > budget {
            return false;
        }
        let size = self.config.block_size;
        let mut blocks = u64::from(self.batch.blocks_needed(self.tokens.step));
        for id in &self.loose {
            let slot = &self.slots[*id as usize];
            if slot.computed == 0 {
                return false;
            }
            let chunk = u64::from(slot.len - slot.computed).min(budget);
            blocks += chunk / u64::from(size) + 2;
        }
        blocks <= u64::from(self.pool.obtainable())
    }

    fn schedule_waiting(&mut self, now: SimTime, pass: &mut PassState) {
        let places = self.max_running().saturating_sub(self.leaving());
        while !pass.preempted && self.running.len() < places && !self.waiting.is_empty() {
            match self.next_candidate(pass) {
                Candidate::Wait => break,
                Candidate::Refuse(id, how) => {
                    self.waiting.pop_front();
                    // A prompt that came with a hand-off holds blocks: they are free for this pass already.
                    self.release_blocks(id);
                    self.rejected.push((id, how));
                }
                Candidate::Admit(id, cached) => {
                    match self.bring_up(id) {
                        BringUp::Nothing => {}
                        BringUp::Parked => continue,
                        BringUp::Waits => break,
                    }
                    let Scheduled::Yes(used) = self.schedule(id, Some(cached), pass) else { break };
                    let slot = &self.slots[id as usize];
                    let request = slot.job.request;
                    self.events.push(EngineEvent::Admitted { request, at: now, reused: cached.tokens });
                    self.admit(id);
                    if used == 0 && pass.budget == 0 {
                        break;
                    }
                }
            }
        }
    }

    /// Places that are not free yet although their requests are done ([`Timing::async_scheduling`]). An empty batch has
    /// nothing to be ahead of.
    ///
    /// [`Timing::async_scheduling`]: crate::perf::Timing::async_scheduling
    fn leaving(&self) -> usize {
        let (passes, places) = self.leaving;
        if passes == self.passes && !self.running.is_empty() { places } else { 0 }
    }

    fn next_candidate(&mut self, pass: &PassState) -> Candidate {
        let is_delivered = |s: &Self, id: u32| {
            let slot = &s.slots[id as usize];
            slot.computed >= slot.job.prompt && slot.allocated >= slot.job.prompt
        };
        let expecting = self.transfers.has_pending();
        let candidate = if expecting {
            self.waiting.iter().copied().find(|id| is_delivered(self, *id))
        } else {
            self.waiting.front().copied()
        };
        let Some(id) = candidate else { return Candidate::Wait };
        let slot = &self.slots[id as usize];
        if slot.visible_after > self.passes && !self.running.is_empty() {
            return Candidate::Wait;
        }
        if self.config.max_model_len.is_some_and(|limit| slot.job.prompt >= limit) {
            return self.refuse(id, Ended::Rejected);
        }
        if self.semantics.fail_infeasible && self.fits_pool_but_never_ends(id) {
            return self.refuse(id, Ended::Failed);
        }
        if is_delivered(self, id) {
            return Candidate::Admit(id, Cached::default());
        }
        let blocks = if self.guaranteed {
            u32::try_from(self.whole_blocks(&slot.job)).unwrap_or(u32::MAX)
        } else {
            slot.len.div_ceil(self.config.block_size)
        };
        if slot.status == Status::Waiting && blocks > self.pool.capacity() {
            return self.refuse(id, Ended::Rejected);
        }
        let available = self.available();
        if let Some(head) = self.blocked_head
            && head.slot == id
            && head.changes == self.pool.changes()
            && head.needed > available
        {
            return Candidate::Wait;
        }
        // Who still has output to produce computes at least one token; only a prompt without output may be all there.
        if pass.budget == 0 && !self.guaranteed && slot.job.output > slot.len - slot.job.prompt {
            return Candidate::Wait;
        }
        let cached = self.look_up(id);
        let needed = blocks.saturating_sub(cached.active / self.config.block_size);
        if needed > available {
            self.blocked_head = Some(BlockedHead { slot: id, needed, changes: self.pool.changes() });
            return Candidate::Wait;
        }
        Candidate::Admit(id, cached)
    }

    fn refuse(&mut self, id: u32, how: Ended) -> Candidate {
        // Refused requests leave from wherever they stand; the front is the usual place.
        if self.waiting.front() != Some(&id) {
            self.waiting.retain(|other| *other != id);
            self.waiting.push_front(id);
        }
        Candidate::Refuse(id, how)
    }

    /// Whether a request's prompt fits, but it can never be completed here, however empty the pool.
    fn fits_pool_but_never_ends(&self, id: u32) -> bool {
        let slot = &self.slots[id as usize];
        if slot.job.prompt.div_ceil(self.config.block_size) > self.pool.capacity() {
            return false;
        }
        let mut end = u64::from(slot.job.prompt) + u64::from(slot.job.output.max(1)) - 1;
        if let Some(limit) = self.config.max_model_len {
            end = end.min(u64::from(limit) - 1);
        }
        let too_long = end.div_ceil(u64::from(self.config.block_size)) > u64::from(self.pool.capacity());
        let never_whole = !self.config.enable_chunked_prefill && u64::from(slot.job.prompt) > self.budget();
        too_long || never_whole
    }

    /// Sorts the requests outside the batch whose context is complete into those that emit (`finished`, for now) and
    /// those with nothing left to say (`ended_early`).
    pub(super) fn collect_ready(&mut self) {
        self.finished.clear();
        self.ended_early.clear();
        for id in &self.loose {
            let slot = &self.slots[*id as usize];
            if slot.computed < slot.len {
                continue;
            }
            if self.remaining(slot) == 0 {
                self.ended_early.push(*id);
            } else {
                self.finished.push(*id);
            }
        }
    }

    /// Emits the tokens of a formed pass at `end` and ends whoever is done.
    pub fn emit(&mut self, formed: &Formed, end: SimTime) {
        let mut emitting = 0;
        if formed.emits {
            let ready = std::mem::take(&mut self.finished);
            emitting = u64::from(self.batch.members()) + ready.len() as u64;
            self.futile_preemptions = 0;
            let step = self.tokens.begin_step(end, self.batch.members(), formed.lap(&self.tokens, end));
            let fresh = self.without_tokens(&ready);
            let mut done = Vec::new();
            while let Some(id) = self.batch.pop_finished(step) {
                self.settle_member(id);
                done.push(id);
            }
            if self.sampler.is_some() {
                self.emit_bursts(&ready, step, end, &mut done);
            } else {
                self.emit_loose(&ready, step, end, &mut done);
            }
            if self.config.timing.async_scheduling {
                self.leaving = (self.passes, done.len());
            }
            done.sort_unstable_by_key(|id| self.slots[*id as usize].admitted);
            self.tell(&fresh, &done);
            self.finished = ready;
            self.finished.clear();
            self.trim_log();
        }
        for (id, how) in std::mem::take(&mut self.rejected) {
            match how {
                Ended::Failed => self.fail(id),
                Ended::Completed | Ended::Rejected => self.finish(id, how),
            }
        }
        if self.watch.is_watched() && (formed.worked || end > self.last_start) {
            self.watch.settle(self.last_start, end, emitting, self.tokens.emitted);
        }
        // A router sees what this pass does to the cache from its start on.
        self.pool.events.publish(self.last_start);
    }

    /// Those of the `ready` requests that are about to emit their first token, if anybody wants to know.
    fn without_tokens(&self, ready: &[u32]) -> Vec<u32> {
        match self.first_tokens {
            FirstTokens::Unseen => Vec::new(),
            FirstTokens::Noted | FirstTokens::Urgent => {
                ready.iter().copied().filter(|id| self.slots[*id as usize].trail.emitted == 0).collect()
            }
        }
    }

    /// Tells of first tokens (`fresh`) and ends (`done`), both in admission order, request by request.
    fn tell(&mut self, fresh: &[u32], done: &[u32]) {
        let mut fresh = fresh.iter().copied().peekable();
        for &id in done {
            let admitted = self.slots[id as usize].admitted;
            while let Some(first) = fresh.next_if(|first| self.slots[*first as usize].admitted <= admitted) {
                // An end that is the first token says enough.
                if first != id || self.slots[id as usize].trail.emitted > 1 {
                    self.events.push(EngineEvent::FirstToken { request: self.slots[first as usize].job.request });
                }
            }
            self.finish(id, Ended::Completed);
        }
        for first in fresh {
            self.events.push(EngineEvent::FirstToken { request: self.slots[first as usize].job.request });
        }
    }

    fn emit_loose(&mut self, ready: &[u32], step: u64, end: SimTime, done: &mut Vec<u32>) {
        for &id in ready {
            self.note_token(id, step, end);
            let slot = &mut self.slots[id as usize];
            slot.len += 1;
            let left = self.remaining(&self.slots[id as usize]);
            if left == 0 {
                done.push(id);
            } else if self.batching {
                self.loose.retain(|other| *other != id);
                let slot = &mut self.slots[id as usize];
                slot.batched = Some(step);
                self.batch.join(id, step, slot.len, left);
            }
        }
    }

    /// Records one token of a request outside the batch.
    pub(super) fn note_token(&mut self, id: u32, step: u64, end: SimTime) {
        let slot = &mut self.slots[id as usize];
        self.tokens.note(&mut slot.trail, slot.job.last_token, step, end);
    }
}
