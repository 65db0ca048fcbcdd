//! A scheduler in the manner of SGLang, with a radix cache.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | what a scheduler holds; requests come, finish, give way |
//! | `pass` | one forward pass: prompts join, then one token for everybody who runs |
//! | `admission` | which waiting prompts are computed in a pass |
//! | `steady` | many decode passes at once while nothing changes, and the way in and out of the decode batch |
//! | `transfer` | both ends of a hand-off |
//! | `closeup` | what it looks like at an instant |
//!
//! A running request holds pages for every token it has; pages that are complete are in the radix tree, under its lock.

mod admission;
mod closeup;
mod pass;
mod steady;
mod transfer;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::perf::PassTimer;
use crate::scenario::{EngineConfig, Role, Semantics, SglangSettings};
use crate::sim::kv::{KvEvents, PageKey, PromptIndex, RadixCache, Segment, Stamp};
use crate::time::SimTime;

use super::batch::DecodeBatch;
use super::gaps::GapCounts;
use super::scheduler::{Ended, EngineEvent, FirstTokens, Job};
use super::speculative::BurstSampler;
use super::tokens::{TokenLog, Trail};
use super::transfer::Transfers;
use super::watch::PassWatch;

/// Requests that may give way in a row without anybody emitting or ending.
const FUTILE_RETRACTIONS: u32 = 4_096;

/// Larger pages are rare and would make the batch's table of page boundaries large.
const BATCH_PAGE_LIMIT: u32 = 1 << 16;

#[derive(Debug, Clone)]
struct Slot {
    job: Job,
    /// Prompt plus generated tokens.
    len: u32,
    /// Tokens whose KV exists.
    materialized: u32,
    /// Pages held, those in the tree included.
    pages: u32,
    /// Pages held that are in the tree, from the first on.
    cached: u32,
    /// The node that ends with those, locked; `None` while nothing is held.
    node: Option<u32>,
    /// When its path was used last, as far as the path does not know it yet.
    stamp: Stamp,
    path: Vec<Segment>,
    /// Number of the pass that computed a piece of it last, and where the piece began.
    piece: (u64, u32),
    /// Order of joining the running batch.
    joined: u64,
    /// `Some(step)`: member of the decode batch whose state above is that after `step`.
    batched: Option<u64>,
    trail: Trail,
}

impl Slot {
    fn key(&self) -> PageKey<'_> {
        PageKey::new(&self.path, self.job.request)
    }

    /// Output tokens it may still produce.
    fn remaining(&self) -> u32 {
        self.job.output.saturating_sub(self.len - self.job.prompt)
    }

    /// Whether the tree ends with pages that only this request can have: then more of them simply follow.
    fn has_leaf(&self) -> bool {
        self.cached > self.key().shared()
    }
}

/// The share of the output to come that is kept free when prompts join: falls from pass to pass, and starts again when
/// memory runs out.
#[derive(Debug, Clone, Copy)]
struct OutputShare {
    now: f64,
    initial: f64,
    least: f64,
    step: f64,
}

impl OutputShare {
    fn new(conservativeness: f64) -> Self {
        let initial = 0.7 * conservativeness;
        let least = initial * 0.14;
        Self { now: initial, initial, least, step: (initial - least) / 600.0 }
    }

    fn restart(&mut self) {
        self.now = self.initial;
    }

    /// One pass is over; returns whether that changed anything.
    fn decay(&mut self) -> bool {
        let before = self.now;
        self.now = (self.now - self.step).max(self.least);
        self.now < before
    }
}

/// Why the head of the queue cannot join.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    /// It needs more than this many tokens.
    Memory(u64),
    /// It exceeds what a pass takes.
    Pass,
}

/// An SGLang-style scheduler with its radix cache.
#[derive(Debug)]
pub struct SglangScheduler {
    config: EngineConfig,
    settings: SglangSettings,
    semantics: Semantics,
    timer: PassTimer,
    tree: RadixCache,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    waiting: VecDeque<u32>,
    /// Handed over with their prompt in place, not running yet.
    delivered: VecDeque<u32>,
    /// In the order in which they joined.
    running: Vec<u32>,
    /// Running requests outside the decode batch, in the same order.
    loose: Vec<u32>,
    batch: DecodeBatch,
    /// Members of the batch by the step in which the first page of their own goes into the tree.
    branching: BinaryHeap<Reverse<(u64, u32)>>,
    /// Sum of the lengths of the batch's members.
    context: u64,
    sampler: Option<BurstSampler>,
    transfers: Transfers,
    share: OutputShare,
    /// Requests in flight here (waiting, delivered or running).
    unfinished: u32,
    /// Those of them that emit nothing here.
    silent: u32,
    next_join: u64,
    /// Numbers the uses of the tree.
    uses: u64,
    /// Passes that did anything.
    passes: u64,
    tokens: TokenLog,
    /// Why the head of the queue did not join a pass in which nobody joined before it.
    obstacle: Option<(u32, Obstacle)>,
    /// State of the tree for which the waiting queue is in order; `None` when it has changed since.
    ordered_at: Option<u64>,
    events: Vec<EngineEvent>,
    watch: PassWatch,
    first_tokens: FirstTokens,
    /// Of the pass being formed: completed without a token, given up, given way.
    early: Vec<u32>,
    failed: Vec<u32>,
    retracted: Vec<u32>,
    /// Pages reserved for the tokens of the pass being formed.
    reserved: u32,
    retractions: u64,
    /// Whether decoding requests may join the batch: not with speculation, nor where generated pages have names.
    batching: bool,
    /// Requests that gave way since anybody emitted or ended.
    futile: u32,
    /// Requests given up, with the reason.
    dead_ends: Vec<(u32, String)>,
    /// Requests whose end has not been published: should the run stop before, they count as unfinished.
    ending: Vec<u32>,
    /// Start of the latest pass.
    last_start: SimTime,
}

impl SglangScheduler {
    /// An idle scheduler; `rank` is its index within its pool and offsets the seed of speculative decoding.
    pub fn new(
        config: &EngineConfig,
        settings: SglangSettings,
        semantics: Semantics,
        timer: PassTimer,
        prompts: &PromptIndex,
        rank: u32,
    ) -> Self {
        let batching =
            config.speculation.is_none() && !prompts.names_outputs() && config.block_size <= BATCH_PAGE_LIMIT;
        Self {
            settings,
            semantics,
            tokens: TokenLog::new(config.role != Role::Prefill, !timer.by_occupancy()),
            timer,
            tree: RadixCache::new(config.num_gpu_blocks),
            slots: Vec::new(),
            vacant: Vec::new(),
            waiting: VecDeque::new(),
            delivered: VecDeque::new(),
            running: Vec::new(),
            loose: Vec::new(),
            batch: DecodeBatch::new(if batching { config.block_size } else { 1 }),
            branching: BinaryHeap::new(),
            context: 0,
            sampler: config.speculation.as_ref().map(|s| BurstSampler::new(s, rank)),
            transfers: Transfers::default(),
            share: OutputShare::new(settings.schedule_conservativeness),
            unfinished: 0,
            silent: 0,
            next_join: 0,
            uses: 0,
            passes: 0,
            obstacle: None,
            ordered_at: None,
            events: Vec::new(),
            watch: PassWatch::default(),
            first_tokens: FirstTokens::default(),
            early: Vec::new(),
            failed: Vec::new(),
            retracted: Vec::new(),
            reserved: 0,
            retractions: 0,
            batching,
            futile: 0,
            dead_ends: Vec::new(),
            ending: Vec::new(),
            last_start: SimTime::ZERO,
            config: config.clone(),
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

    /// Requests waiting, those handed over and not running yet included.
    pub fn waiting(&self) -> u32 {
        (self.waiting.len() + self.delivered.len()) as u32
    }

    /// Requests in the running batch.
    pub fn running(&self) -> u32 {
        self.running.len() as u32
    }

    /// The KV pages.
    pub fn tree(&self) -> &RadixCache {
        &self.tree
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
        self.retractions
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
        self.tokens.is_visible()
    }

    /// Lets a router follow what happens here: its cache if `cache`, and first tokens.
    pub fn report_to_router(&mut self, cache: bool, first_tokens: FirstTokens) {
        if cache {
            self.tree.events.listen();
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
        &mut self.tree.events
    }

    /// What the last pass did; leaves it empty.
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, EngineEvent> {
        while let Some(id) = self.ending.pop() {
            self.vacant.push(id);
        }
        self.events.drain(..)
    }

    /// Whether the last pass did anything that others must know.
    pub fn has_news(&self) -> bool {
        self.events.iter().any(|event| event.is_news(self.first_tokens))
    }

    /// Requests that were given up, with the reason.
    pub fn dead_ends(&self) -> &[(u32, String)] {
        &self.dead_ends
    }

    fn max_running(&self) -> usize {
        self.config.max_num_seqs.map_or(usize::MAX, |n| n as usize)
    }

    /// The stamp of a use of the tree outside the tokens of a step.
    fn use_now(&mut self) -> Stamp {
        self.uses += 1;
        Stamp::between(self.tokens.step, self.uses)
    }

    /// Appends a request to the waiting queue.
    pub fn submit(&mut self, job: Job, prompts: &PromptIndex) {
        let slot = self.new_slot(job, prompts);
        if job.hold {
            self.transfers.expect_hold();
        }
        self.waiting.push_back(slot);
        self.ordered_at = None;
        self.enter(&job);
    }

    fn enter(&mut self, job: &Job) {
        self.unfinished += 1;
        self.silent += u32::from(job.output <= job.generated);
    }

    /// Whether everybody here will emit: a pass that ends anybody then takes time.
    pub fn has_output_to_come(&self) -> bool {
        self.silent == 0
    }

    fn new_slot(&mut self, job: Job, prompts: &PromptIndex) -> u32 {
        let (mut path, mut trail) = (Vec::new(), Trail::default());
        let reused = self.vacant.pop();
        if let Some(id) = reused {
            let old = &mut self.slots[id as usize];
            path = std::mem::take(&mut old.path);
            trail = old.trail.reuse();
        }
        prompts.path(job.request, job.prompt, &mut path);
        let slot = Slot {
            job,
            len: job.prompt + job.generated,
            materialized: 0,
            pages: 0,
            cached: 0,
            node: None,
            stamp: Stamp::default(),
            path,
            piece: (0, 0),
            joined: 0,
            batched: None,
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

    /// Puts a request with all its tokens computed at the end of the running batch.
    fn join(&mut self, id: u32) {
        self.slots[id as usize].joined = self.next_join;
        self.next_join += 1;
        self.running.push(id);
        self.loose.push(id);
    }

    /// Puts the complete pages of a request into the tree, up to page `end`.
    fn cache_pages(&mut self, id: u32, end: u32, stamp: Stamp) {
        let slot = &mut self.slots[id as usize];
        let Some(from) = slot.node.filter(|_| end > slot.cached) else { return };
        let key = PageKey::new(&slot.path, slot.job.request);
        let node = self.tree.insert(from, key, slot.cached, end, stamp);
        slot.cached = end;
        if node == from {
            slot.stamp = stamp;
        } else {
            self.tree.mark_used(from, stamp);
            self.tree.move_lock(from, node);
            (slot.node, slot.stamp) = (Some(node), Stamp::default());
        }
    }

    /// Leaves all complete pages of a request in the tree and gives up the rest.
    fn release_complete(&mut self, id: u32) {
        let stamp = self.use_now();
        let slot = &mut self.slots[id as usize];
        let Some(from) = slot.node.take() else { return };
        let complete = slot.len.min(slot.materialized) / self.config.block_size;
        self.tree.give(slot.pages - complete);
        if complete > slot.cached {
            let key = PageKey::new(&slot.path, slot.job.request);
            self.tree.insert(from, key, slot.cached, complete, stamp);
            slot.stamp = stamp;
        }
        self.tree.unlock(from, slot.stamp);
        (slot.pages, slot.cached, slot.materialized) = (0, 0, 0);
    }

    /// Gives up all pages of a request but those in the tree already.
    fn release_cached(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        let Some(node) = slot.node.take() else { return };
        self.tree.give(slot.pages - slot.cached);
        self.tree.unlock(node, slot.stamp);
        (slot.pages, slot.cached, slot.materialized) = (0, 0, 0);
    }

    /// A request is done here.
    fn finish(&mut self, id: u32, how: Ended) {
        if let Some(position) = self.running.iter().position(|other| *other == id) {
            self.running.remove(position);
        }
        if let Some(position) = self.loose.iter().position(|other| *other == id) {
            self.loose.remove(position);
        }
        self.unfinished -= 1;
        self.futile = 0;
        let slot = &self.slots[id as usize];
        self.silent -= u32::from(slot.job.output <= slot.job.generated);
        let request = slot.job.request;
        if slot.job.hold && how == Ended::Completed {
            self.transfers.hold(request, id);
            self.events.push(EngineEvent::Held { request });
            return;
        }
        if slot.job.hold {
            self.transfers.hold_dropped();
        }
        self.events.push(self.tokens.ended(request, how, &slot.trail, slot.job.last_token));
        if how == Ended::Completed {
            self.release_complete(id);
        } else {
            self.release_cached(id);
        }
        self.transfers.capacity_changed();
        self.ending.push(id);
    }

    /// Ends a request as failed; its tokens do not count.
    fn fail(&mut self, id: u32) {
        self.waiting.retain(|other| *other != id);
        self.delivered.retain(|other| *other != id);
        (self.ordered_at, self.obstacle) = (None, None);
        let slot = &self.slots[id as usize];
        self.tokens.remove(&slot.trail, slot.job.last_token);
        self.finish(id, Ended::Failed);
        self.slots[id as usize].trail.clear();
    }

    /// The request that everything here waits behind.
    fn blocker(&mut self) -> Option<u32> {
        self.settle_batch();
        self.running.first().or(self.waiting.front()).or(self.delivered.front()).copied()
    }

    /// A dead end: fails the request that everything here waits behind. Returns it with what it lacked.
    pub fn fail_blocker(&mut self) -> Option<(u32, String)> {
        let Some(id) = self.blocker() else { return self.fail_pending_transfer() };
        let slot = &self.slots[id as usize];
        let request = slot.job.request;
        let limit = self.settings.max_prefill_tokens.min(self.settings.chunked_prefill_size);
        let reason = match self.obstacle {
            Some((other, Obstacle::Pass)) if other == id => format!(
                "the next {} tokens of its prompt, in whole pages of {}, exceed the {limit} tokens of a pass",
                (slot.len - slot.materialized).min(self.settings.chunked_prefill_size),
                self.config.block_size,
            ),
            _ => self.shortage(slot.len),
        };
        self.fail(id);
        Some((request, reason))
    }

    /// Called before every pass. Requests that take turns giving way without anybody emitting or ending would do so for
    /// ever: the one in front is given up.
    fn break_livelock(&mut self) {
        if self.futile < FUTILE_RETRACTIONS {
            return;
        }
        self.futile = 0;
        if let Some(id) = self.blocker() {
            let slot = &self.slots[id as usize];
            let reason = format!("gives way and comes back without end: {}", self.shortage(slot.len));
            self.dead_ends.push((slot.job.request, reason));
            self.fail(id);
        }
    }

    /// Why a context of `tokens` tokens does not fit.
    fn shortage(&self, tokens: u32) -> String {
        format!(
            "{tokens} tokens ({} pages) and the output expected wait for a pool of {} pages, {} of them in use",
            tokens.div_ceil(self.config.block_size),
            self.tree.capacity(),
            self.tree.active()
        )
    }

    /// Whether a request with all its tokens needs more pages than there are.
    fn outgrows_pool(&self, slot: &Slot) -> bool {
        let tokens = u64::from(slot.len) + u64::from(slot.remaining());
        tokens.div_ceil(u64::from(self.config.block_size)) > u64::from(self.tree.capacity())
    }

    /// Whether a request that has computed nothing can never join the running batch, however empty the pool.
    fn can_never_join(&self, slot: &Slot) -> bool {
        let size = self.config.block_size;
        let whole = |tokens: u32| u64::from(tokens.div_ceil(size)) * u64::from(size);
        let expected = u64::from(slot.remaining().min(self.settings.clip_max_new_tokens));
        if whole(slot.len) + expected >= u64::from(self.tree.capacity()) * u64::from(size) {
            return true;
        }
        let chunk = self.settings.chunked_prefill_size;
        let (mut last, piece) = (slot.len, chunk / size * size);
        if last > chunk {
            if piece == 0 || piece > self.settings.max_prefill_tokens {
                return true;
            }
            last -= (last - chunk).div_ceil(piece) * piece;
        }
        whole(last) > u64::from(chunk.min(self.settings.max_prefill_tokens))
    }
}
