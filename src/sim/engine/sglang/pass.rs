//! One forward pass: whoever was handed over joins, waiting prompts are computed, then one token for everybody who runs.

use crate::perf::DecodeLoad;
use crate::scenario::Role;
use crate::sim::kv::Stamp;
use crate::time::{SimDuration, SimTime};

use super::super::pass::Formed;
use super::super::scheduler::{Ended, EngineEvent, FirstTokens};
use super::super::watch::{PassRecord, Queued};
use super::admission::Admitted;
use super::{SglangScheduler, Slot};

/// Larger contexts are too rare to count gaps by them.
pub(super) const OCCUPANCY_LIMIT: u64 = 1 << 22;

impl SglangScheduler {
    /// Forms the pass that starts `now`.
    pub fn form(&mut self, now: SimTime) -> Formed {
        self.break_livelock();
        self.last_start = now;
        self.take_delivered(now);
        self.order_queue();
        let admitted = self.admit_waiting(now);
        self.place(&admitted.ids);
        self.collect_early();
        let contexts = self.make_room();
        if self.watch.is_watched() {
            self.describe(&admitted, contexts);
        }
        let (duration, occupancy) = self.duration(&admitted, contexts);
        let worked = contexts.is_some()
            || !self.early.is_empty()
            || !self.failed.is_empty()
            || !self.retracted.is_empty()
            || !self.events.is_empty();
        self.passes += u64::from(worked);
        Formed { end: now + duration, worked, occupancy, emits: contexts.is_some() }
    }

    /// Who waits now, or is expected from another worker.
    pub(super) fn queued(&mut self) -> Queued {
        let request = |id: u32| self.slots[id as usize].job.request;
        let ends = self.waiting.front().zip(self.waiting.back());
        let queue = ends.map(|(front, back)| (self.waiting.len(), request(*front), request(*back)));
        let (slots, waiting) = (&self.slots, &self.waiting);
        let mut queued = self.watch.queued(queue, || {
            let mut queued = Queued::default();
            for id in waiting {
                let slot = &slots[*id as usize];
                // One that gave way has tokens; one with a piece of its prompt done still counts with all of it.
                let is_new = slot.len == slot.job.prompt;
                queued.count(slot.job.prompt, slot.len - slot.job.prompt, is_new);
            }
            queued
        });
        for id in self.delivered.iter().copied().chain(self.transfers.expected()) {
            queued.count(self.slots[id as usize].job.prompt, 0, false);
        }
        queued
    }

    /// Tells what is in the pass being formed, and who waits. `contexts`: tokens of everybody who emits. Who emits after the
    /// last piece of its prompt is seen as both, unlike with vLLM.
    fn describe(&mut self, admitted: &Admitted, contexts: Option<u64>) {
        let queued = self.queued();
        // A prompt found whole in the cache computes nothing.
        let computing = || admitted.chunks.iter().filter(|chunk| chunk.new > 0);
        self.watch.forming = PassRecord {
            prefills: computing().count() as u64,
            prefill_tokens: computing().map(|chunk| chunk.new).sum(),
            prefix_tokens: computing().map(|chunk| chunk.prefix).sum(),
            decodes: if contexts.is_some() { self.running.len() as u64 } else { 0 },
            decode_tokens: contexts.unwrap_or(0),
            queued,
            ..PassRecord::default()
        };
    }

    /// How long the pass takes, and the KV tokens in use if they alone explain it. `contexts`: tokens of everybody who
    /// emits, if anybody does.
    fn duration(&mut self, admitted: &Admitted, contexts: Option<u64>) -> (SimDuration, Option<(SimDuration, u32)>) {
        // Whatever a decode worker computes, it computes again.
        let charged = self.config.role != Role::Decode || self.semantics.charge_recompute;
        let mut load = contexts.map_or_else(DecodeLoad::default, |contexts| self.decode_load(contexts));
        if self.timer.is_fused() {
            for id in admitted.ids.iter().filter(|id| self.loose.contains(id)) {
                load.count -= 1;
                load.len_sum -= u64::from(self.slots[*id as usize].len);
            }
            let chunks = if charged { admitted.chunks.as_slice() } else { &[] };
            return (self.timer.fused(chunks, load), None);
        }
        let prefill = if charged {
            self.timer.prefill(admitted.ids.len() as u64, admitted.sum_isl, admitted.sum_prefix)
        } else {
            SimDuration::ZERO
        };
        let alone = prefill.is_zero();
        if load.count > 0 && alone && self.timer.by_occupancy() && load.active_tokens < OCCUPANCY_LIMIT {
            let tokens = load.active_tokens as u32;
            let decode = self.timer.at_occupancy(tokens);
            return (decode, Some((decode, tokens)));
        }
        (prefill + self.timer.decode(load, alone), None)
    }

    /// Everybody who runs, with contexts of `contexts` tokens together. Shared tokens count as often as they are used.
    pub(super) fn decode_load(&self, contexts: u64) -> DecodeLoad {
        let total = u64::from(self.tree.capacity()) * u64::from(self.config.block_size);
        DecodeLoad { count: self.running.len() as u64, len_sum: contexts, active_tokens: contexts.min(total) }
    }

    /// Requests that were handed over join while there are places.
    fn take_delivered(&mut self, now: SimTime) {
        while self.running.len() < self.max_running()
            && let Some(id) = self.delivered.pop_front()
        {
            let slot = &self.slots[id as usize];
            if self.semantics.fail_infeasible && self.outgrows_pool(slot) {
                self.failed.push(id);
                continue;
            }
            self.events.push(EngineEvent::Admitted { request: slot.job.request, at: now, reused: 0 });
            self.join(id);
        }
    }

    /// Requests with their whole prompt computed join; the others wait in front, with what they have in the tree.
    fn place(&mut self, admitted: &[u32]) {
        for &id in admitted {
            let slot = &self.slots[id as usize];
            if slot.materialized == slot.len {
                self.join(id);
                continue;
            }
            let (complete, stamp) = (slot.materialized / self.config.block_size, self.use_now());
            self.cache_pages(id, complete, stamp);
            self.waiting.push_front(id);
        }
    }

    /// Takes out of the running batch who has nothing left to say.
    fn collect_early(&mut self) {
        self.early.extend(self.loose.iter().filter(|id| self.slots[**id as usize].remaining() == 0));
        self.loose.retain(|id| !self.early.contains(id));
        self.running.retain(|id| !self.early.contains(id));
    }

    /// Longest burst of tokens of a request in a pass.
    fn longest_burst(&self) -> u32 {
        match &self.sampler {
            Some(sampler) if self.config.role != Role::Prefill => sampler.longest(),
            _ => 1,
        }
    }

    /// Pages that the tokens of this pass need: for the decode batch, and at most for the others.
    fn pages_needed(&self) -> (u32, u32) {
        let (size, longest) = (self.config.block_size, self.longest_burst());
        let loose = self.loose.iter().map(|id| {
            let slot = &self.slots[*id as usize];
            (slot.len + longest.min(slot.remaining())).div_ceil(size).saturating_sub(slot.pages)
        });
        let batch = if self.batch.members() > 0 { self.batch.blocks_needed(self.tokens.step) } else { 0 };
        (batch, loose.sum())
    }

    /// Reserves the pages for a token (or the longest burst) of everybody who runs; requests with the fewest output
    /// tokens give way as long as there are too few. Returns the contexts of everybody together, or `None` when no token comes
    /// out.
    fn make_room(&mut self) -> Option<u64> {
        let (mut batch, mut loose) = self.pages_needed();
        while self.tree.obtainable() < batch + loose && self.running.len() > 1 {
            self.settle_batch();
            self.retract();
            (batch, loose) = self.pages_needed();
        }
        let needed = batch + loose;
        if !self.retracted.is_empty() {
            self.transfers.capacity_changed();
        }
        self.tree.evict(needed.saturating_sub(self.tree.free()));
        if self.running.is_empty() || !self.tree.take(needed) {
            return None;
        }
        self.reserved = loose;
        let loose = self.loose.iter().map(|id| u64::from(self.slots[*id as usize].len)).sum::<u64>();
        Some(self.context + loose)
    }

    /// The running request with the fewest output tokens gives way, the first of several.
    fn retract(&mut self) {
        let output = |id: &u32| self.slots[*id as usize].len - self.slots[*id as usize].job.prompt;
        let Some(id) = self.running.iter().min_by_key(|id| output(id)).copied() else { return };
        self.running.retain(|other| *other != id);
        self.loose.retain(|other| *other != id);
        self.release_cached(id);
        self.retracted.push(id);
        self.retractions += 1;
        self.futile += 1;
    }

    /// Emits the tokens of a formed pass at `end` and ends whoever is done.
    pub fn emit(&mut self, formed: &Formed, end: SimTime) {
        let early = std::mem::take(&mut self.early);
        let (mut fresh, mut done) = (Vec::new(), Vec::new());
        let mut emitting = 0;
        if formed.emits {
            self.futile = 0;
            emitting = self.running.len() as u64;
            fresh = self.without_tokens();
            self.emit_tokens(formed, end, &mut done);
        }
        for id in early {
            self.finish(id, Ended::Completed);
        }
        self.tell(&fresh, &done);
        for id in std::mem::take(&mut self.failed) {
            self.fail(id);
        }
        if !self.retracted.is_empty() {
            while let Some(id) = self.retracted.pop() {
                self.waiting.push_front(id);
            }
            self.ordered_at = None;
            self.share.restart();
        }
        if formed.worked {
            self.share.decay();
        }
        self.trim_log();
        if self.watch.is_watched() && (formed.worked || end > self.last_start) {
            self.watch.settle(self.last_start, end, emitting, self.tokens.emitted);
        }
        // A router sees what this pass does to the cache from its end on.
        self.tree.events.publish(end);
    }

    /// Those who are about to emit their first token, as they joined, if anybody wants to know.
    fn without_tokens(&self) -> Vec<u32> {
        if self.first_tokens == FirstTokens::Unseen {
            return Vec::new();
        }
        let is_fresh = |id: &u32| self.slots[*id as usize].len == self.slots[*id as usize].job.prompt;
        self.loose.iter().copied().filter(is_fresh).collect()
    }

    /// Tells of first tokens (`fresh`) and ends (`done`), both as the requests joined, request by request.
    fn tell(&mut self, fresh: &[u32], done: &[u32]) {
        let first_token = |slots: &[Slot], id: u32| EngineEvent::FirstToken { request: slots[id as usize].job.request };
        let mut fresh = fresh.iter().copied().peekable();
        for &id in done {
            let joined = self.slots[id as usize].joined;
            while let Some(first) = fresh.next_if(|first| self.slots[*first as usize].joined <= joined) {
                // An end that is the first token says enough.
                if first != id {
                    self.events.push(first_token(&self.slots, first));
                }
            }
            self.finish(id, Ended::Completed);
        }
        self.events.extend(fresh.map(|id| first_token(&self.slots, id)));
    }

    /// So many passes had nothing to do: all they change is what counts of the output to come. Returns whether the last
    /// of them changed that.
    pub fn idle(&mut self, passes: u64) -> bool {
        (0..passes).all(|_| self.share.decay())
    }

    /// One token, or a burst, for everybody who runs; whoever is done is appended to `done`.
    fn emit_tokens(&mut self, formed: &Formed, end: SimTime, done: &mut Vec<u32>) {
        let members = self.batch.members();
        let step = self.tokens.begin_step(end, members, formed.lap(&self.tokens, end));
        self.context += u64::from(members);
        self.finish_members(step, done);
        let mut emitting = std::mem::take(&mut self.loose);
        let loose = emitting.len();
        self.branching_members(step, &mut emitting);
        if emitting.len() > loose {
            emitting.sort_unstable_by_key(|id| self.slots[*id as usize].joined);
        }
        for id in emitting.drain(..) {
            if self.slots[id as usize].batched.is_some() {
                self.catch_up(id, false);
                continue;
            }
            self.emit_loose(id, step, end);
            if self.slots[id as usize].remaining() == 0 {
                done.push(id);
            } else if self.batching {
                self.join_batch(id, step);
            } else {
                self.loose.push(id);
            }
        }
        self.tree.give(std::mem::take(&mut self.reserved));
        done.sort_unstable_by_key(|id| self.slots[*id as usize].joined);
    }

    /// Tokens of a request outside the batch. Every page completed before its last token goes into the tree.
    fn emit_loose(&mut self, id: u32, step: u64, end: SimTime) {
        let size = self.config.block_size;
        let remaining = self.slots[id as usize].remaining();
        let burst = match &mut self.sampler {
            Some(sampler) if self.config.role != Role::Prefill => sampler.draw(remaining),
            _ => remaining.min(1),
        };
        for _ in 0..burst {
            let slot = &mut self.slots[id as usize];
            if slot.len == slot.pages * size {
                slot.pages += 1;
                self.reserved -= 1;
            }
            slot.len += 1;
            slot.materialized += 1;
            self.tokens.note(&mut slot.trail, slot.job.last_token, step, end);
            if slot.remaining() > 0 {
                let (complete, stamp) = (slot.len / size, Stamp::with_token(step, slot.joined));
                self.cache_pages(id, complete, stamp);
            }
        }
    }
}
