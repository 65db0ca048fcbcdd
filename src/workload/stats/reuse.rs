//! What a prefix cache can save.
//!
//! One cache serves all requests in the order of their arrival. A request looks up all blocks of its prompt, then all of
//! them become the most recently used, the first block of the prompt above the second and so on. So a block is never
//! more recent than the block before it, eviction of the least recently used takes the ends of prompts first, and what
//! is found is always a beginning of the prompt, as in a KV cache that frees leaves first. A block is found in a cache of
//! `c` blocks exactly if fewer than `c` other blocks are more recent (Mattson's stack distance): one pass gives the
//! reuse for every size.
//!
//! Blocks that a request finds at the same place in the stack were last used by the same request and lie one after the
//! other, so the stack holds stretches, not blocks. With chains each request touches few of them: O(log n) on average over
//! a run, each found in O(log n).

use super::chains::{Chains, Piece};
use super::tree::BlockTree;

/// Blocks found in a cache that holds the `capacity` most recently used.
#[derive(Debug, Clone, Default)]
pub(super) struct Curve {
    /// Where the slope changes: (capacity, blocks found), ascending; straight lines between, level after the last.
    corners: Vec<(u64, u64)>,
}

impl Curve {
    /// From stretches of stack distances: `(d, n)` is one lookup each at the distances `d + 1 ..= d + n`.
    fn of(stretches: Vec<(u64, u32)>) -> Self {
        let mut bends: Vec<(u64, i64)> =
            stretches.into_iter().flat_map(|(above, len)| [(above, 1), (above + u64::from(len), -1)]).collect();
        bends.sort_unstable();
        let mut corners = vec![(0, 0)];
        let (mut capacity, mut found, mut slope) = (0_u64, 0_u64, 0_i64);
        for (at, bend) in bends {
            if at > capacity {
                found += (at - capacity) * slope.unsigned_abs();
                capacity = at;
                corners.push((capacity, found));
            }
            slope += bend;
        }
        Self { corners }
    }

    /// Lookups that succeed with this many blocks of cache.
    pub fn found(&self, capacity: u64) -> u64 {
        let after = self.corners.partition_point(|(at, _)| *at <= capacity);
        let Some((x0, y0)) = after.checked_sub(1).and_then(|i| self.corners.get(i)) else { return 0 };
        let Some((x1, y1)) = self.corners.get(after) else { return *y0 };
        // The slope is a whole number of lookups per block.
        y0 + (y1 - y0) / (x1 - x0) * (capacity - x0)
    }

    /// Lookups that succeed without a limit.
    pub fn ideal(&self) -> u64 {
        self.corners.last().map_or(0, |(_, found)| *found)
    }

    /// The smallest cache in which at least `wanted` lookups succeed; the largest useful one if there is none.
    pub fn capacity_for(&self, wanted: u64) -> u64 {
        let at = self.corners.partition_point(|(_, found)| *found < wanted);
        if at == 0 {
            return 0;
        }
        match (at.checked_sub(1).and_then(|i| self.corners.get(i)), self.corners.get(at)) {
            (Some((x0, y0)), Some((x1, y1))) => x0 + (wanted - y0).div_ceil((y1 - y0) / (x1 - x0)),
            _ => self.corners.last().map_or(0, |(capacity, _)| *capacity),
        }
    }
}

/// Sums over a growing list of weights, those of the latest slots first (a Fenwick tree).
struct Slots {
    sums: Vec<u64>,
    next: usize,
    total: u64,
}

impl Slots {
    fn new(slots: usize) -> Self {
        Self { sums: vec![0; slots + 1], next: 0, total: 0 }
    }

    fn push(&mut self, weight: u32) -> u32 {
        let slot = self.next;
        self.next += 1;
        self.total += u64::from(weight);
        self.change(slot, i64::from(weight));
        slot as u32
    }

    fn remove(&mut self, slot: u32, weight: u32) {
        self.total -= u64::from(weight);
        self.change(slot as usize, -i64::from(weight));
    }

    fn change(&mut self, slot: usize, by: i64) {
        let mut at = slot + 1;
        while let Some(sum) = self.sums.get_mut(at) {
            *sum = sum.wrapping_add_signed(by);
            at += at & at.wrapping_neg();
        }
    }

    /// Weight of all slots after `slot`.
    fn after(&self, slot: u32) -> u64 {
        let mut at = slot as usize + 1;
        let mut up_to = 0_u64;
        while at > 0 {
            up_to = up_to.wrapping_add(self.sums.get(at).copied().unwrap_or(0));
            at &= at - 1;
        }
        self.total.wrapping_sub(up_to)
    }
}

/// The curve of `tree` when its requests come in `order`, and how many blocks of each request some earlier one has used,
/// in the same order.
pub(super) fn curve(tree: &BlockTree, chains: &Chains<'_>, order: &[u32]) -> (Curve, Vec<u32>) {
    let slots = order.iter().map(|request| chains.pieces(*request).count() + 1).sum();
    let mut slots = Slots::new(slots);
    // Per chain: who last used which blocks. The latest user covers the fewest; (end, slot), the latest at the end.
    let mut users: Vec<Vec<(u32, u32)>> = vec![Vec::new(); chains.len()];
    let mut stretches = Vec::new();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut gone: Vec<(u32, u32)> = Vec::new();
    let mut found = Vec::with_capacity(order.len());
    for request in order {
        pieces.clear();
        pieces.extend(chains.pieces(*request));
        for piece in &pieces {
            let Some(users) = users.get_mut(piece.chain as usize) else { continue };
            let mut from = piece.start;
            while let Some((end, slot)) = users.last().copied().filter(|_| from < piece.end) {
                let to = end.min(piece.end);
                stretches.push((slots.after(slot), to - from));
                gone.push((slot, to - from));
                from = to;
                if end <= piece.end {
                    users.pop();
                }
            }
        }
        found.push(gone.iter().map(|(_, blocks)| blocks).sum());
        gone.drain(..).for_each(|(slot, weight)| slots.remove(slot, weight));
        // The end of the prompt becomes the least recent.
        let shared = pieces.first().map_or(0, |piece| piece.end);
        let all = tree.blocks.get(*request as usize).copied().unwrap_or(0);
        slots.push(all.saturating_sub(shared));
        for piece in &pieces {
            let slot = slots.push(piece.end - piece.start);
            if let Some(users) = users.get_mut(piece.chain as usize) {
                users.push((piece.end, slot));
            }
        }
    }
    (Curve::of(stretches), found)
}
