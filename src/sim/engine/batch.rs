//! Requests that decode one token in every pass, kept so that a pass costs nothing per request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The decoding requests of a scheduler that has no speculative decoding.
///
/// A *step* is a pass in which the scheduler emits. Every member emits in every step until it leaves, so the step in
/// which it finishes and the steps in which it needs another KV block are known when it joins.
#[derive(Debug, Clone)]
pub struct DecodeBatch {
    members: u32,
    /// Sum over the members of their length minus the step after which they have it; lengths grow by one a step.
    lead: i64,
    /// Members that need a block in the steps congruent to the index.
    crossing: Vec<u32>,
    finishing: BinaryHeap<Reverse<(u64, u32)>>,
}

impl DecodeBatch {
    /// An empty batch for blocks of `block_size` tokens.
    pub fn new(block_size: u32) -> Self {
        Self { members: 0, lead: 0, crossing: vec![0; block_size as usize], finishing: BinaryHeap::new() }
    }

    fn crossing_index(&self, step: u64, len: u32) -> usize {
        let size = self.crossing.len() as u64;
        let held = (u64::from(len) - 1) % size;
        ((step % size + 1 + (size - held) % size) % size) as usize
    }

    /// Adds `slot`, which emitted in `step`, is `len` tokens long now (the last one not computed) and emits `left` more.
    pub fn join(&mut self, slot: u32, step: u64, len: u32, left: u32) {
        self.members += 1;
        self.lead += i64::from(len) - step as i64;
        let index = self.crossing_index(step, len);
        self.crossing[index] += 1;
        self.finishing.push(Reverse((step + u64::from(left), slot)));
    }

    /// Removes a member that is `len` tokens long after `step`; its entry in the finishing order is the caller's
    /// business ([`Self::pop_finished`] or [`Self::clear_order`]).
    pub fn leave(&mut self, step: u64, len: u32) {
        self.members -= 1;
        self.lead -= i64::from(len) - step as i64;
        let index = self.crossing_index(step, len);
        self.crossing[index] -= 1;
    }

    /// Forgets the finishing order; only for a batch that everybody left.
    pub fn clear_order(&mut self) {
        self.finishing.clear();
    }

    /// Number of members.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Sum of the members' lengths before the token they emit in `step`.
    pub fn len_sum(&self, step: u64) -> u64 {
        (self.lead + i64::from(self.members) * (step as i64 - 1)) as u64
    }

    /// KV blocks the members need in `step`.
    pub fn blocks_needed(&self, step: u64) -> u32 {
        self.crossing[(step % self.crossing.len() as u64) as usize]
    }

    /// KV blocks the members need, step by step from `step` on.
    pub fn needs_from(&self, step: u64) -> Needs<'_> {
        Needs { crossing: &self.crossing, index: (step % self.crossing.len() as u64) as usize }
    }

    /// KV blocks the members need in the `steps` steps from `step` on.
    pub fn blocks_needed_over(&self, step: u64, steps: u64) -> u64 {
        let size = self.crossing.len() as u64;
        let rounds = steps / size * u64::from(self.members);
        rounds + (step..step + steps % size).map(|s| u64::from(self.blocks_needed(s))).sum::<u64>()
    }

    /// The step in which the next member finishes.
    pub fn next_finish(&self) -> Option<u64> {
        self.finishing.peek().map(|Reverse((step, _))| *step)
    }

    /// A member that finishes in `step` or before.
    pub fn pop_finished(&mut self, step: u64) -> Option<u32> {
        let Reverse((at, slot)) = *self.finishing.peek()?;
        (at <= step).then(|| {
            self.finishing.pop();
            slot
        })
    }

    /// The steps in which the members finish, in no order.
    pub fn finishes(&self) -> impl Iterator<Item = u64> + '_ {
        self.finishing.iter().map(|Reverse((step, _))| *step)
    }

    /// All members, in no order.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.finishing.iter().map(|Reverse((_, slot))| *slot)
    }
}

/// Walks the table of block boundaries round and round.
#[derive(Debug)]
pub struct Needs<'a> {
    crossing: &'a [u32],
    index: usize,
}

impl Needs<'_> {
    /// KV blocks needed in the next step.
    pub fn next(&mut self) -> u32 {
        let blocks = self.crossing[self.index];
        self.index += 1;
        if self.index == self.crossing.len() {
            self.index = 0;
        }
        blocks
    }
}
