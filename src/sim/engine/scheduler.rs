//! What a scheduler holds, and how requests enter, give way and leave.

use std::collections::VecDeque;

use crate::perf::{PassTimer, PrefillChunk};
use crate::scenario::{EngineConfig, PreemptionMode, Role, SchedulerKind, Semantics};
use crate::sim::kv::{FromTiers, Held, Hit, Home, KvEvents, KvPool, PromptIndex, Segment};
use crate::time::SimTime;

use super::batch::DecodeBatch;
use super::gaps::GapCounts;
use super::speculative::BurstSampler;
use super::steady::Ahead;
use super::tokens::{TokenLog, Trail};
use super::transfer::Transfers;
use super::watch::PassWatch;

/// Requests that may give way in a row without anybody emitting or ending.
const FUTILE_PREEMPTIONS: u32 = 4_096;

/// Larger blocks are rare and would make the batch's table of block boundaries large.
const BATCH_BLOCK_LIMIT: u32 = 1 << 16;

/// Work for a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Index of the request.
    pub request: u32,
    /// Prompt tokens.
    pub prompt: u32,
    /// Output tokens it may hold in the end.
    pub output: u32,
    /// Output tokens that exist already (a corrected hand-off brings one).
    pub generated: u32,
    /// When the last of those was emitted.
    pub last_token: Option<SimTime>,
    /// Whether the blocks stay held for a hand-off when the request finishes here.
    pub hold: bool,
}

/// How a request left a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All tokens produced.
    Completed,
    /// Its prompt can never be held.
    Rejected,
    /// It can never be completed (`fail_infeasible`, or a dead end).
    Failed,
}

/// What a pass did that others must know; reported when the pass ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineEvent {
    /// Joined the running batch.
    Admitted {
        /// Index of the request.
        request: u32,
        /// Start of the pass.
        at: SimTime,
        /// Tokens found in the prefix cache.
        reused: u32,
    },
    /// Left the scheduler.
    Ended {
        /// Index of the request.
        request: u32,
        /// How.
        how: Ended,
        /// Output tokens emitted here.
        tokens: u32,
        /// First of them.
        first: Option<SimTime>,
        /// Second of them.
        second: Option<SimTime>,
        /// Last of them.
        last: Option<SimTime>,
    },
    /// Emitted its first token and goes on; only where a router wants to know ([`FirstTokens`]).
    FirstToken {
        /// Index of the request.
        request: u32,
    },
    /// Blocks came up from lower tiers.
    BroughtUp {
        /// Index of the request.
        request: u32,
        /// How many, and how long that took.
        got: FromTiers,
    },
    /// Prefill is over; blocks are held for the hand-off.
    Held {
        /// Index of the request.
        request: u32,
    },
}

impl EngineEvent {
    /// The end of a request that failed before it emitted anything.
    pub fn failed(request: u32) -> Self {
        Self::Ended { request, how: Ended::Failed, tokens: 0, first: None, second: None, last: None }
    }

    /// Whether others must hear of it at once, when `first_tokens` says so of those.
    pub(super) fn is_news(&self, first_tokens: FirstTokens) -> bool {
        match self {
            Self::Admitted { .. } | Self::BroughtUp { .. } => false,
            Self::FirstToken { .. } => first_tokens == FirstTokens::Urgent,
            Self::Ended { .. } | Self::Held { .. } => true,
        }
    }
}

/// Who wants to know of first tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstTokens {
    /// Nobody.
    #[default]
    Unseen,
    /// A router, the next time it looks.
    Noted,
    /// A router, at once: it may send a request that waits.
    Urgent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Waiting,
    Running,
    Preempted,
    /// Waits for blocks from a lower tier.
    BringingUp,
    /// Finished here, blocks held for the other side of a hand-off.
    Held,
    /// Blocks reserved or about to be, request not here yet.
    Expected,
}

/// What one pass gave a request, in case it must be taken back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub pass: u64,
    pub used: u32,
    pub prompt: u32,
    pub before: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub job: Job,
    pub status: Status,
    /// Prompt plus generated tokens.
    pub len: u32,
    /// Tokens whose KV exists.
    pub computed: u32,
    /// Tokens for which blocks are held.
    pub allocated: u32,
    /// Complete blocks that are cached, from the first on (private ones at the front not counted separately).
    pub registered: u32,
    /// Blocks held that nobody can find.
    pub private: u32,
    pub held: Vec<Held>,
    pub path: Vec<Segment>,
    /// Where the blocks of its own continuation can be found after a preemption.
    pub tail: Option<u32>,
    /// Length at the last preemption: computing up to here again is recomputation.
    pub recompute_until: u32,
    /// Admission order.
    pub admitted: u64,
    /// Passes of the scheduler that must be behind before it can be admitted.
    pub visible_after: u64,
    /// `Some(step)`: member of the decode batch whose state above is that after `step`.
    pub batched: Option<u64>,
    pub share: Share,
    pub trail: Trail,
}

/// A vLLM-style scheduler with its KV pool; TensorRT-LLM is a variant of it.
#[derive(Debug)]
pub struct VllmScheduler {
    pub(super) config: EngineConfig,
    pub(super) semantics: Semantics,
    pub(super) timer: PassTimer,
    pub(super) pool: KvPool,
    pub(super) slots: Vec<Slot>,
    pub(super) vacant: Vec<u32>,
    pub(super) waiting: VecDeque<u32>,
    /// In admission order.
    pub(super) running: Vec<u32>,
    /// Running requests outside the decode batch, in admission order.
    pub(super) loose: Vec<u32>,
    pub(super) batch: DecodeBatch,
    pub(super) sampler: Option<BurstSampler>,
    pub(super) transfers: Transfers,
    /// Requests in flight here (waiting or running).
    pub(super) unfinished: u32,
    pub(super) next_admission: u64,
    /// Number of the pass being formed or formed last.
    pub(super) pass: u64,
    /// Passes that did anything.
    pub(super) passes: u64,
    pub(super) tokens: TokenLog,
    /// Places of requests that the last pass finished while the next one was put together already: how many passes were
    /// behind then, and how many places.
    pub(super) leaving: (u64, usize),
    /// What the head of the queue was found to lack, and the pool's state then.
    pub(super) blocked_head: Option<BlockedHead>,
    pub(super) events: Vec<EngineEvent>,
    pub(super) watch: PassWatch,
    pub(super) first_tokens: FirstTokens,
    pub(super) hits: Vec<Hit>,
    /// Prompt chunks of the pass being formed, kept only where passes are priced as a whole.
    pub(super) chunks: Vec<(u32, PrefillChunk)>,
    pub(super) finished: Vec<u32>,
    pub(super) ended_early: Vec<u32>,
    pub(super) rejected: Vec<(u32, Ended)>,
    pub(super) preemptions: u64,
    /// Requests are admitted only with room for their whole output, so nobody gives way (TensorRT-LLM).
    pub(super) guaranteed: bool,
    /// Whether decoding requests may join the batch: not with speculation, nor where generated blocks have names.
    pub(super) batching: bool,
    /// Pass and step in which the batch was last scheduled as a whole.
    pub(super) batch_pass: u64,
    pub(super) batch_step: u64,
    /// Reserved for the bursts of the pass being formed.
    pub(super) burst_blocks: u32,
    /// Requests that gave way since anybody emitted or ended.
    pub(super) futile_preemptions: u32,
    /// Requests given up, with the reason.
    pub(super) dead_ends: Vec<(u32, String)>,
    /// Requests whose end has not been published: should the run stop before, they count as unfinished.
    pub(super) ending: Vec<u32>,
    /// Start of the latest pass.
    pub(super) last_start: SimTime,
    pub(super) ahead: Ahead,
    /// Requests that wait for blocks from lower tiers, and those whose blocks came since the last pass.
    pub(super) parked: Vec<u32>,
    pub(super) unparked: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BlockedHead {
    pub slot: u32,
    pub needed: u32,
    pub changes: u64,
}

impl VllmScheduler {
    /// An idle scheduler; `rank` is its index within its pool and offsets the seed of speculative decoding.
    pub fn new(
        config: &EngineConfig,
        semantics: Semantics,
        timer: PassTimer,
        prompts: &PromptIndex,
        rank: u32,
    ) -> Self {
        let batching =
            config.speculation.is_none() && !prompts.names_outputs() && config.block_size <= BATCH_BLOCK_LIMIT;
        Self {
            pool: KvPool::new(config.num_gpu_blocks, prompts.nodes()),
            batch: DecodeBatch::new(if batching { config.block_size } else { 1 }),
            batching,
            guaranteed: config.scheduler == SchedulerKind::TrtLlm,
            batch_pass: 0,
            batch_step: 0,
            burst_blocks: 0,
            ending: Vec::new(),
            futile_preemptions: 0,
            dead_ends: Vec::new(),
            last_start: SimTime::ZERO,
            ahead: Ahead::default(),
            parked: Vec::new(),
            unparked: Vec::new(),
            sampler: config.speculation.as_ref().map(|s| BurstSampler::new(s, rank)),
            config: config.clone(),
            semantics,
            tokens: TokenLog::new(config.role != Role::Prefill, !timer.by_occupancy()),
            timer,
            slots: Vec::new(),
            vacant: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            loose: Vec::new(),
            transfers: Transfers::default(),
            unfinished: 0,
            next_admission: 0,
            pass: 0,
            passes: 0,
            leaving: (0, 0),
            blocked_head: None,
            events: Vec::new(),
            watch: PassWatch::default(),
            first_tokens: FirstTokens::default(),
            hits: Vec::new(),
            chunks: Vec::new(),
            finished: Vec::new(),
            ended_early: Vec::new(),
            rejected: Vec::new(),
            preemptions: 0,
        }
    }

    /// Whether a pass would have something to look at.
    pub fn has_work(&self) -> bool {
        self.unfinished > 0
    }

    /// Whether nothing at all is left here, holds and expected requests included.
    pub fn is_drained(&self) -> bool {
        self.unfinished == 0 && self.transfers.is_empty()
    }

    /// Requests waiting.
    pub fn waiting(&self) -> u32 {
        (self.waiting.len() + self.parked.len() + self.unparked.len()) as u32
    }

    /// Requests in the running batch.
    pub fn running(&self) -> u32 {
        self.running.len() as u32
    }

    /// The KV blocks.
    pub fn pool(&self) -> &KvPool {
        &self.pool
    }

    /// Token gaps so far, with the timer that explains them.
    pub fn gaps(&self) -> (&GapCounts, &PassTimer) {
        (self.tokens.gaps(), &self.timer)
    }

    /// What times its passes.
    pub fn timer(&self) -> &PassTimer {
        &self.timer
    }

    /// Start of the latest pass.
    pub fn last_start(&self) -> SimTime {
        self.last_start
    }

    /// Passes so far that did anything.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// Requests that gave way so far.
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// Output tokens emitted to clients so far.
    pub fn emitted(&self) -> u64 {
        self.tokens.emitted
    }

    /// The part it plays.
    pub fn role(&self) -> Role {
        self.config.role
    }

    /// Whether tokens made here are seen by clients.
    pub fn emits_to_clients(&self) -> bool {
        self.config.role != Role::Prefill
    }

    /// Lets a router follow what happens here: its cache if `cache`, and first tokens.
    pub fn report_to_router(&mut self, cache: bool, first_tokens: FirstTokens) {
        if cache {
            self.pool.events.listen();
        }
        self.first_tokens = first_tokens;
    }

    /// What can be seen of its passes from outside.
    pub fn watch(&mut self) -> &mut PassWatch {
        &mut self.watch
    }

    /// The last passes, if anybody watches.
    pub fn watched(&self) -> &PassWatch {
        &self.watch
    }

    /// Changes of the cache on their way to the router.
    pub fn kv_events(&mut self) -> &mut KvEvents {
        &mut self.pool.events
    }

    /// What the last pass did; leaves it empty.
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, EngineEvent> {
        while let Some(id) = self.ending.pop() {
            self.forget(id);
        }
        self.events.drain(..)
    }

    /// Whether the last pass did anything that others must know.
    pub fn has_news(&self) -> bool {
        self.events.iter().any(|event| event.is_news(self.first_tokens))
    }

    /// Whether a running prompt is incomplete.
    pub fn is_chunking(&self) -> bool {
        self.loose.iter().any(|id| {
            let slot = &self.slots[*id as usize];
            slot.computed < slot.job.prompt
        })
    }

    /// Whether events of any kind wait.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Appends a request to the waiting queue.
    pub fn submit(&mut self, mut job: Job, prompts: &PromptIndex) {
        if self.guaranteed {
            job.output = self.guaranteed_output(&job);
        }
        let slot = self.new_slot(job, Status::Waiting, prompts);
        if job.hold {
            self.transfers.expect_hold();
        }
        if self.config.timing.async_scheduling && self.unfinished > 0 {
            // The next pass is put together already.
            self.slots[slot as usize].visible_after = self.passes + 1;
        }
        self.waiting.push_back(slot);
        self.unfinished += 1;
    }

    pub(super) fn new_slot(&mut self, job: Job, status: Status, prompts: &PromptIndex) -> u32 {
        let (mut held, mut path, mut trail) = (Vec::new(), Vec::new(), Trail::default());
        let reused = self.vacant.pop();
        if let Some(id) = reused {
            let old = &mut self.slots[id as usize];
            held = std::mem::take(&mut old.held);
            path = std::mem::take(&mut old.path);
            trail = old.trail.reuse();
        }
        if self.config.enable_prefix_caching {
            prompts.path(job.request, job.prompt, &mut path);
        } else {
            path.clear();
        }
        let slot = Slot {
            job,
            status,
            len: job.prompt + job.generated,
            computed: 0,
            allocated: 0,
            registered: 0,
            private: 0,
            held,
            path,
            tail: None,
            recompute_until: 0,
            admitted: 0,
            visible_after: 0,
            batched: None,
            share: Share::default(),
            trail,
        };
        if let Some(id) = reused {
            self.slots[id as usize] = slot;
            id
        } else {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        }
    }

    /// Output tokens the request may still produce.
    pub(super) fn remaining(&self, slot: &Slot) -> u32 {
        let left = slot.job.output.saturating_sub(slot.len - slot.job.prompt);
        match self.config.max_model_len {
            Some(limit) => left.min(limit.saturating_sub(slot.len)),
            None => left,
        }
    }

    /// Makes the complete blocks up to `end` findable.
    pub(super) fn register_to(&mut self, id: u32, end: u32) {
        if !self.config.enable_prefix_caching {
            return;
        }
        let pool = &mut self.pool;
        let slot = &mut self.slots[id as usize];
        let mut at = slot.registered;
        if at >= end {
            return;
        }
        slot.private -= end - at;
        for segment in &slot.path {
            if segment.hi > at && segment.lo < end {
                let hi = segment.hi.min(end);
                slot.held.push(pool.register(Home::Node(segment.node), at, hi));
                at = hi;
            }
        }
        if at < end {
            let extended = slot.held.last_mut().is_some_and(|last| last.end() == at && pool.extend(last, end));
            if !extended {
                slot.held.push(pool.register(Home::Nowhere, at, end));
            }
        }
        slot.registered = end;
    }

    /// Gives back all blocks of a request, the last one first.
    pub(super) fn release_blocks(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        self.pool.release_private(slot.private);
        slot.private = 0;
        while let Some(held) = slot.held.pop() {
            self.pool.release(held);
        }
        slot.registered = 0;
        slot.allocated = 0;
    }

    pub(super) fn forget(&mut self, id: u32) {
        if let Some(tail) = self.slots[id as usize].tail.take() {
            self.pool.close_tail(tail);
        }
        // The place will belong to another request, of which nothing is known yet.
        self.blocked_head = self.blocked_head.filter(|head| head.slot != id);
        self.vacant.push(id);
    }

    /// Takes a running request out of the batch and to the front of the queue; returns it, or `None` when nobody runs.
    pub(super) fn preempt(&mut self) -> Option<u32> {
        if self.guaranteed {
            return None;
        }
        let position = match self.config.preemption_mode {
            PreemptionMode::Lifo => self.running.len().checked_sub(1)?,
            PreemptionMode::Fifo => (!self.running.is_empty()).then_some(0)?,
        };
        let id = self.running.remove(position);
        self.loose.retain(|other| *other != id);
        self.shelve_tail(id);
        self.release_blocks(id);
        let slot = &mut self.slots[id as usize];
        slot.status = Status::Preempted;
        slot.computed = 0;
        slot.recompute_until = slot.len;
        self.waiting.push_front(id);
        self.preemptions += 1;
        self.futile_preemptions += 1;
        self.transfers.capacity_changed();
        self.blocked_head = None;
        Some(id)
    }

    /// Lets the request find its own continuation when it comes back.
    fn shelve_tail(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        let named = slot.path.last().map_or(0, |s| s.hi);
        if slot.held.iter().all(|h| h.end() <= named) {
            return;
        }
        let tail = *slot.tail.get_or_insert_with(|| self.pool.open_tail());
        for held in &slot.held {
            self.pool.move_to_tail(*held, tail);
        }
    }

    /// A running request is done here.
    pub(super) fn finish(&mut self, id: u32, how: Ended) {
        if let Some(position) = self.running.iter().position(|other| *other == id) {
            self.running.remove(position);
            if let Some(position) = self.loose.iter().position(|other| *other == id) {
                self.loose.remove(position);
            }
        }
        self.unfinished -= 1;
        self.futile_preemptions = 0;
        self.transfers.capacity_changed();
        let slot = &self.slots[id as usize];
        let request = slot.job.request;
        if slot.job.hold && how == Ended::Completed {
            self.slots[id as usize].status = Status::Held;
            self.transfers.hold(request, id);
            self.events.push(EngineEvent::Held { request });
            return;
        }
        if slot.job.hold {
            self.transfers.hold_dropped();
        }
        let slot = &self.slots[id as usize];
        self.events.push(self.tokens.ended(request, how, &slot.trail, slot.job.last_token));
        self.release_blocks(id);
        self.ending.push(id);
    }

    /// Ends a request that can never go on.
    pub(super) fn give_up(&mut self, id: u32, reason: String) {
        self.dead_ends.push((self.slots[id as usize].job.request, reason));
        self.waiting.retain(|other| *other != id);
        self.fail(id);
    }

    /// Called before every pass. Requests that take turns giving way without anybody emitting or ending would do so for
    /// ever (and do in the reference): the one in front is given up.
    pub(super) fn break_livelock(&mut self) {
        if self.futile_preemptions < FUTILE_PREEMPTIONS {
            return;
        }
        self.futile_preemptions = 0;
        self.settle_batch();
        let stuck = self.running.first().or(self.waiting.front()).copied();
        if let Some(id) = stuck {
            let reason =
                format!("gives way and comes back without end: {}", self.shortage(self.slots[id as usize].len));
            self.give_up(id, reason);
        }
    }

    /// Ends a request as failed; its tokens do not count.
    pub(super) fn fail(&mut self, id: u32) {
        let slot = &self.slots[id as usize];
        self.tokens.remove(&slot.trail, slot.job.last_token);
        self.finish(id, Ended::Failed);
        self.slots[id as usize].trail.clear();
    }

    /// Requests that were given up, with the reason.
    pub fn dead_ends(&self) -> &[(u32, String)] {
        &self.dead_ends
    }

    /// A dead end: fails the request that everything here waits behind. Returns it with what it lacked.
    pub fn fail_blocker(&mut self) -> Option<(u32, String)> {
        self.settle_batch();
        let Some(id) = self.running.first().or(self.waiting.front()).copied() else {
            return self.fail_pending_transfer();
        };
        let slot = &self.slots[id as usize];
        let (request, blocks) = (slot.job.request, slot.len.div_ceil(self.config.block_size));
        let budget = self.config.max_num_batched_tokens.filter(|budget| {
            !self.config.enable_chunked_prefill && *budget < slot.job.prompt && blocks <= self.pool.capacity()
        });
        let reason = match budget {
            Some(budget) => format!(
                "its prompt of {} tokens may not be cut (chunked prefill is off) and exceeds the {budget} tokens of a pass",
                slot.job.prompt
            ),
            None => self.shortage(slot.len),
        };
        self.waiting.retain(|other| *other != id);
        self.fail(id);
        self.blocked_head = None;
        Some((request, reason))
    }

    /// Why a context of `tokens` tokens does not fit.
    pub(super) fn shortage(&self, tokens: u32) -> String {
        format!(
            "{tokens} tokens ({} blocks) wait for a pool of {} blocks, {} of them in use",
            tokens.div_ceil(self.config.block_size),
            self.pool.capacity(),
            self.pool.active()
        )
    }
}
