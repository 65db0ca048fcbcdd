//! Which waiting prompts are computed in a pass, and how much of each.

use std::collections::HashSet;

use crate::perf::PrefillChunk;
use crate::scenario::SglangPolicy;
use crate::sim::kv::{PageKey, Stamp};
use crate::time::SimTime;

use super::super::scheduler::EngineEvent;
use super::{Obstacle, SglangScheduler};

/// The queue is put in order only up to this length.
const ORDERED_LIMIT: usize = 128;

/// A resident prefix of no more tokens than this is as good as none; of requests that begin with the same tokens, up to
/// this many, only the first is considered early.
const SHORT_PREFIX: u32 = 32;

/// Requests whose prompt, or a piece of it, is computed in a pass.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub ids: Vec<u32>,
    /// Sum of their prompt positions at the end of the piece.
    pub sum_isl: u64,
    /// Sum of their prompt positions at its start.
    pub sum_prefix: u64,
    /// The pieces, kept only where passes are priced as a whole.
    pub chunks: Vec<PrefillChunk>,
}

/// What is left to give in a pass.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Tokens for which there is room, output to come included.
    total: f64,
    /// Prompt tokens by `max_prefill_tokens`.
    input: u64,
    /// Prompt tokens by `chunked_prefill_size`.
    chunk: u64,
}

/// Where computing a piece begins, and why there.
#[derive(Debug, Clone, Copy)]
enum Begin {
    /// After so many tokens found in the tree.
    Found(u32),
    /// After so many tokens the request computed itself, or found, in its pieces before.
    Own(u32),
}

/// The next piece of a prompt.
#[derive(Debug, Clone, Copy)]
struct Piece {
    tokens: u32,
    /// In whole pages.
    charged: u64,
    /// Output to come that is reckoned with once the prompt is complete.
    expected: u32,
}

impl Piece {
    /// Tokens for which there must be more room than this.
    fn needed(self) -> u64 {
        self.charged + u64::from(self.expected)
    }
}

impl SglangScheduler {
    /// Whether the waiting queue is kept in order of resident prefixes now.
    pub(super) fn orders_queue(&self) -> bool {
        self.settings.policy == SglangPolicy::LongestPrefix
            && !self.waiting.is_empty()
            && self.waiting.len() <= ORDERED_LIMIT
    }

    /// Whether the queue is in the order in which the next pass would put it.
    pub(super) fn is_in_order(&self) -> bool {
        !self.orders_queue() || self.ordered_at == Some(self.tree.changes())
    }

    /// Puts the longest resident prefixes first. Of requests that begin alike and find nothing, all but the first go to the
    /// end: once that one is computed they will find more.
    pub(super) fn order_queue(&mut self) {
        if self.is_in_order() {
            return;
        }
        let size = self.config.block_size;
        let begin = SHORT_PREFIX.div_ceil(size);
        let mut begun = HashSet::new();
        let mut ranked: Vec<(bool, u64, u32)> = Vec::with_capacity(self.waiting.len());
        for &id in &self.waiting {
            let slot = &self.slots[id as usize];
            let pages = slot.len / size;
            let found = u64::from(self.tree.count(slot.key(), pages)) * u64::from(size);
            let later =
                found <= u64::from(SHORT_PREFIX) && pages >= begin && !begun.insert(slot.key().identity(begin - 1));
            ranked.push((later, u64::MAX - found, id));
        }
        ranked.sort_by_key(|(later, rank, _)| (*later, *rank));
        self.waiting.clear();
        self.waiting.extend(ranked.into_iter().map(|(_, _, id)| id));
        self.ordered_at = Some(self.tree.changes());
        self.obstacle = None;
    }

    /// Output to come of the running requests that is kept free, in the order in which they joined: the sum of fractions
    /// depends on it.
    fn expected_output(&self) -> f64 {
        let clip = self.settings.clip_max_new_tokens;
        let expected = self.running.iter().map(|id| {
            let slot = &self.slots[*id as usize];
            let since = slot.batched.map_or(0, |step| (self.tokens.step - 1 - step) as u32);
            f64::from((slot.remaining() - since).min(clip)) * self.share.now
        });
        expected.sum()
    }

    /// Tokens for which there are pages.
    pub(super) fn obtainable_tokens(&self) -> f64 {
        f64::from(self.tree.obtainable()) * f64::from(self.config.block_size)
    }

    /// The next piece of a request that has `chunk` tokens left in this pass.
    fn next_piece(&self, id: u32, chunk: u64) -> Option<Piece> {
        let (slot, size) = (&self.slots[id as usize], self.config.block_size);
        let left = slot.len - slot.materialized;
        let tokens = if left <= self.settings.chunked_prefill_size {
            left
        } else {
            // What is left of the pass never exceeds the chunk size, which fits 32 bits.
            (chunk as u32 / size * size).min(left)
        };
        let whole = tokens == left;
        let expected = if whole { slot.remaining().min(self.settings.clip_max_new_tokens) } else { 0 };
        let charged = u64::from(tokens.div_ceil(size)) * u64::from(size);
        (tokens > 0).then_some(Piece { tokens, charged, expected })
    }

    /// Admits waiting requests from the head on, as long as they fit.
    pub(super) fn admit_waiting(&mut self, now: SimTime) -> Admitted {
        let mut admitted = Admitted::default();
        self.obstacle = None;
        let places = self.max_running().saturating_sub(self.running.len());
        if !self.delivered.is_empty() || self.transfers.has_pending() || self.waiting.is_empty() || places == 0 {
            return admitted;
        }
        let mut budget = Budget {
            total: self.obtainable_tokens() - self.expected_output(),
            input: u64::from(self.settings.max_prefill_tokens),
            chunk: u64::from(self.settings.chunked_prefill_size),
        };
        while admitted.ids.len() < places
            && let Some(&id) = self.waiting.front()
        {
            let slot = &self.slots[id as usize];
            if self.semantics.fail_infeasible
                && slot.node.is_none()
                && (self.outgrows_pool(slot) || self.can_never_join(slot))
            {
                self.waiting.pop_front();
                self.ordered_at = None;
                self.failed.push(id);
                continue;
            }
            let obstacle = match self.next_piece(id, budget.chunk) {
                Some(piece) if piece.needed() as f64 >= budget.total => Obstacle::Memory(piece.needed()),
                Some(piece) if piece.charged <= budget.input.min(budget.chunk) => {
                    let Some(begin) = self.allocate_piece(id, piece, &mut budget) else {
                        self.share.restart();
                        break;
                    };
                    self.take_in(id, now, begin, &mut admitted);
                    if budget.chunk == 0 {
                        break;
                    }
                    continue;
                }
                _ => Obstacle::Pass,
            };
            if admitted.ids.is_empty() {
                self.obstacle = Some((id, obstacle));
            }
            break;
        }
        admitted
    }

    /// Finds the resident prefix (for the first piece) and takes pages; `None` when there are too few.
    fn allocate_piece(&mut self, id: u32, piece: Piece, budget: &mut Budget) -> Option<Begin> {
        let stamp = self.use_now();
        let size = self.config.block_size;
        let slot = &mut self.slots[id as usize];
        let end = slot.materialized + piece.tokens;
        let before = slot.pages;
        let pages = end.div_ceil(size);
        let begin = if slot.node.is_some() {
            let fresh = pages - before;
            self.tree.evict(fresh.saturating_sub(self.tree.free()));
            if !self.tree.take(fresh) {
                return None;
            }
            Begin::Own(slot.materialized)
        } else {
            let key = PageKey::new(&slot.path, slot.job.request);
            let (found, node) = self.tree.find(key, end / size, stamp);
            let fresh = pages - found;
            self.tree.lock(node);
            if fresh > self.tree.obtainable() {
                self.tree.unlock(node, Stamp::default());
                return None;
            }
            self.tree.evict(fresh.saturating_sub(self.tree.free()));
            self.tree.take(fresh);
            (slot.node, slot.cached) = (Some(node), found);
            Begin::Found(found * size)
        };
        (slot.materialized, slot.pages) = (end, pages);
        let given = u64::from(pages - before) * u64::from(size) + u64::from(piece.expected);
        budget.total -= given as f64;
        budget.input -= piece.charged;
        budget.chunk -= piece.charged;
        Some(begin)
    }

    /// Takes an admitted request out of the queue and into the statistics of the pass.
    fn take_in(&mut self, id: u32, now: SimTime, begin: Begin, admitted: &mut Admitted) {
        self.waiting.pop_front();
        self.ordered_at = None;
        let slot = &mut self.slots[id as usize];
        let (begin, reused) = match begin {
            Begin::Found(tokens) => (tokens, tokens),
            Begin::Own(tokens) if self.semantics.honest_reuse => (tokens, 0),
            // The reference reports what the request itself computed before as reuse.
            Begin::Own(tokens) => (tokens, tokens),
        };
        slot.piece = (self.passes + 1, begin);
        self.events.push(EngineEvent::Admitted { request: slot.job.request, at: now, reused });
        admitted.ids.push(id);
        admitted.sum_isl += u64::from(slot.materialized);
        admitted.sum_prefix += u64::from(begin);
        if self.timer.is_fused() || self.watch.is_watched() {
            let (prefix, end) = (u64::from(begin), u64::from(slot.materialized));
            let finishes = slot.materialized == slot.len;
            admitted.chunks.push(PrefillChunk { new: end.saturating_sub(prefix), prefix, finishes });
        }
    }
}
