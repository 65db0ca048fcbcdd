//! Giving one request its tokens and blocks for this pass.

use crate::perf::PrefillChunk;
use crate::scenario::Role;
use crate::sim::kv::{Hit, Home};

use super::scheduler::{Share, Status, VllmScheduler};

/// What is left to give in a pass, and what the prefill part of it will cost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PassState {
    /// Tokens left.
    pub budget: u64,
    /// Requests with prompt tokens in this pass.
    pub count: u64,
    /// Sum of their prompt positions at the end of the chunk.
    pub sum_isl: u64,
    /// Sum of their prompt positions at its start.
    pub sum_prefix: u64,
    /// Whether somebody gave way in this pass.
    pub preempted: bool,
    /// Whether anything was given to anybody.
    pub scheduled: bool,
}

/// How scheduling one request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheduled {
    /// It got this many tokens (0 when everything is there already).
    Yes(u32),
    /// Nothing for it, and nothing for those behind it.
    Blocked,
    /// Nothing for it until blocks have been copied to a lower tier; others may go on.
    Waits,
    /// It gave way itself.
    GaveWay,
}

/// Tokens of a prompt that are resident, and how many of them requests own now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cached {
    pub tokens: u32,
    pub active: u32,
}

impl VllmScheduler {
    /// Looks up how much of a request is resident; the hits stay in `self.hits`.
    ///
    /// A request that still has tokens to produce computes at least its last block again, because the model needs that
    /// block's output; speculative decoding recomputes one block more. TensorRT-LLM leaves all that out.
    pub(super) fn look_up(&mut self, id: u32) -> Cached {
        self.hits.clear();
        if !self.config.enable_prefix_caching {
            return Cached::default();
        }
        let size = self.config.block_size;
        let full = self.slots[id as usize].len / size;
        let mut at = self.find_named(id, full);
        let slot = &self.slots[id as usize];
        let named = slot.path.last().map_or(0, |s| s.hi);
        if let Some(tail) = slot.tail
            && at == named.min(full)
        {
            at = self.pool.find(Home::Tail(tail), at, full, &mut self.hits);
        }
        let active: u32 = self.hits.iter().filter(|h| h.is_active()).map(|h| Hit::blocks(*h)).sum();
        let mut cached = Cached { tokens: at * size, active: active * size };
        if !self.guaranteed && slot.job.output > slot.len - slot.job.prompt {
            let limit = (slot.len - 1) / size * size;
            cached.tokens = cached.tokens.min(limit);
            cached.active = cached.active.min(limit);
            if self.config.speculation.is_some() && cached.tokens >= size {
                cached.tokens -= size;
                cached.active = cached.active.min(cached.tokens);
            }
        }
        cached
    }

    /// Appends to `self.hits` the resident blocks of a request that others may have too, from the first on without a
    /// gap, at most `full` of them. Returns their number.
    pub(super) fn find_named(&mut self, id: u32, full: u32) -> u32 {
        let mut at = 0;
        for segment in &self.slots[id as usize].path {
            let hi = segment.hi.min(full);
            if at < segment.lo || at >= hi {
                break;
            }
            at = self.pool.find(Home::Node(segment.node), at, hi, &mut self.hits);
            if at < hi {
                break;
            }
        }
        at
    }

    /// Schedules one request. `cached` is what [`Self::look_up`] found for a candidate from the queue; `None` means the
    /// request is running already.
    pub(super) fn schedule(&mut self, id: u32, cached: Option<Cached>, pass: &mut PassState) -> Scheduled {
        let size = self.config.block_size;
        let slot = &self.slots[id as usize];
        let prompt = slot.job.prompt;
        let reused = if slot.computed > 0 {
            0
        } else {
            match cached {
                Some(cached) => cached.tokens,
                None => self.look_up(id).tokens,
            }
        };
        let slot = &self.slots[id as usize];
        let begin = slot.computed + reused;
        let known = slot.len.saturating_sub(begin);
        let prompt_left = prompt.saturating_sub(begin);
        if prompt_left > 0 && !self.config.enable_chunked_prefill && u64::from(prompt_left) > pass.budget {
            return Scheduled::Blocked;
        }
        let want = u64::from(known).min(pass.budget) as u32;
        if want == 0 && known > 0 {
            return Scheduled::Blocked;
        }
        let mut after = begin + want;
        if after > slot.allocated {
            let held_blocks = slot.allocated.div_ceil(size);
            let needed = after.div_ceil(size) - held_blocks;
            if needed == 0 {
                self.slots[id as usize].allocated = after;
            } else {
                let from_cache = if held_blocks == 0 { (reused / size).min(needed) } else { 0 };
                loop {
                    let slot = &mut self.slots[id as usize];
                    if self.pool.acquire(&self.hits, from_cache, needed - from_cache, &mut slot.held) {
                        slot.allocated = after;
                        slot.private += needed - from_cache;
                        // Blocks computed without being allocated (a failed first try) stay private for good.
                        slot.registered =
                            slot.registered.max(from_cache).max(if held_blocks == 0 { begin / size } else { 0 });
                        break;
                    }
                    if self.pool.waits_for_copies() {
                        return Scheduled::Waits;
                    }
                    self.settle_batch();
                    let Some(victim) = self.preempt() else {
                        after = begin;
                        break;
                    };
                    pass.preempted = true;
                    self.take_back(victim, pass);
                    if victim == id {
                        return Scheduled::GaveWay;
                    }
                    if cached.is_some() {
                        // The victim's blocks changed owner, not place: the same blocks are found again.
                        self.refresh_hits(id);
                    }
                }
            }
        }
        let used = after - begin;
        let slot = &mut self.slots[id as usize];
        slot.computed = after;
        if used == 0 && after < slot.len {
            return Scheduled::Blocked;
        }
        let prompt_end = if self.semantics.charge_recompute { prompt.max(slot.recompute_until) } else { prompt };
        let recomputing = self.semantics.charge_recompute && slot.recompute_until > 0;
        let before = begin.min(prompt_end);
        let in_prompt = after.min(prompt_end) - before;
        slot.share = Share { pass: self.pass, used, prompt: in_prompt, before };
        self.register_to(id, after / size);
        pass.scheduled = true;
        if in_prompt > 0 && (self.config.role != Role::Decode || recomputing) {
            pass.count += 1;
            pass.sum_isl += u64::from(before + in_prompt);
            pass.sum_prefix += u64::from(before);
            if self.timer.is_fused() {
                let (new, prefix) = (u64::from(in_prompt), u64::from(before));
                let finishes = after >= self.slots[id as usize].len;
                self.chunks.push((id, PrefillChunk { new, prefix, finishes }));
            }
        } else {
            self.slots[id as usize].share.prompt = 0;
        }
        pass.budget -= u64::from(used);
        Scheduled::Yes(used)
    }

    fn refresh_hits(&mut self, id: u32) {
        let _ = self.look_up(id);
    }

    /// Undoes what a request got in this pass before it gave way.
    pub(super) fn take_back(&mut self, id: u32, pass: &mut PassState) {
        let share = std::mem::take(&mut self.slots[id as usize].share);
        if share.pass != self.pass {
            return;
        }
        pass.budget += u64::from(share.used);
        if share.prompt > 0 {
            pass.count -= 1;
            pass.sum_isl -= u64::from(share.before + share.prompt);
            pass.sum_prefix -= u64::from(share.before);
            self.chunks.retain(|(other, _)| *other != id);
        }
    }

    /// Moves a scheduled candidate from the queue to the running batch.
    pub(super) fn admit(&mut self, id: u32) {
        if self.waiting.front() == Some(&id) {
            self.waiting.pop_front();
        } else {
            self.waiting.retain(|other| *other != id);
        }
        self.running.push(id);
        self.loose.push(id);
        let slot = &mut self.slots[id as usize];
        slot.status = Status::Running;
        slot.admitted = self.next_admission;
        self.next_admission += 1;
    }
}
