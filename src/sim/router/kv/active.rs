//! Which prompt blocks the active requests of each worker occupy, blocks with a common beginning counted once.
//!
//! Requests are chains of blocks through the prompt tree. On every node the chains of a rank's requests reach down to some
//! depth each; together they occupy the blocks down to the deepest. What a prompt has for itself is in no node and is
//! only counted.

use crate::sim::kv::Segment;

use super::index::Reach;

/// Requests of a rank that reach down to block `hi` in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Depth {
    rank: u32,
    hi: u32,
    requests: u32,
}

/// Occupied blocks by rank.
#[derive(Debug, Clone, Default)]
pub struct ActiveBlocks {
    /// By node of the prompt tree: by rank, then by depth.
    nodes: Vec<Vec<Depth>>,
    totals: Vec<u64>,
}

impl ActiveBlocks {
    /// Distinct blocks on a rank.
    pub fn total(&self, rank: u32) -> u64 {
        self.totals.get(rank as usize).copied().unwrap_or(0)
    }

    /// Adds a request with the given path and number of blocks.
    pub fn add(&mut self, rank: u32, path: &[Segment], blocks: u32) {
        let mut fresh = u64::from(blocks - path.last().map_or(0, |s| s.hi));
        for segment in path {
            let node = segment.node as usize;
            if node >= self.nodes.len() {
                self.nodes.resize(node + 1, Vec::new());
            }
            let depths = &mut self.nodes[node];
            let before = deepest(depths, rank).unwrap_or(segment.lo);
            let at = depths.partition_point(|d| (d.rank, d.hi) < (rank, segment.hi));
            match depths.get_mut(at) {
                Some(depth) if depth.rank == rank && depth.hi == segment.hi => depth.requests += 1,
                _ => depths.insert(at, Depth { rank, hi: segment.hi, requests: 1 }),
            }
            fresh += u64::from(segment.hi.saturating_sub(before));
        }
        let rank = rank as usize;
        if rank >= self.totals.len() {
            self.totals.resize(rank + 1, 0);
        }
        self.totals[rank] += fresh;
    }

    /// Takes a request out that was added with the same arguments.
    pub fn remove(&mut self, rank: u32, path: &[Segment], blocks: u32) {
        let mut gone = u64::from(blocks - path.last().map_or(0, |s| s.hi));
        for segment in path {
            let Some(depths) = self.nodes.get_mut(segment.node as usize) else { continue };
            let at = depths.partition_point(|d| (d.rank, d.hi) < (rank, segment.hi));
            let Some(depth) = depths.get_mut(at).filter(|d| d.rank == rank && d.hi == segment.hi) else { continue };
            depth.requests -= 1;
            if depth.requests == 0 {
                depths.remove(at);
                let left = deepest(depths, rank).unwrap_or(segment.lo);
                gone += u64::from(segment.hi.saturating_sub(left));
            }
        }
        if let Some(total) = self.totals.get_mut(rank as usize) {
            *total -= gone;
        }
    }

    /// Finds the ranks whose active requests occupy a beginning of the prompt with this `path`, in ascending order.
    pub fn find(&self, path: &[Segment], found: &mut Vec<Reach>) {
        found.clear();
        for (level, segment) in path.iter().enumerate() {
            let depths = self.nodes.get(segment.node as usize).map_or(&[][..], Vec::as_slice);
            if level == 0 {
                for group in depths.chunk_by(|a, b| a.rank == b.rank) {
                    if let Some(last) = group.last() {
                        found.push(Reach { rank: last.rank, blocks: last.hi.min(segment.hi) });
                    }
                }
            } else {
                for reach in found.iter_mut().filter(|reach| reach.blocks == segment.lo) {
                    reach.blocks = deepest(depths, reach.rank).map_or(segment.lo, |hi| hi.min(segment.hi));
                }
            }
            if found.iter().all(|reach| reach.blocks < segment.hi) {
                break;
            }
        }
    }
}

/// Deepest block of a rank, one past it.
fn deepest(depths: &[Depth], rank: u32) -> Option<u32> {
    let end = depths.partition_point(|d| d.rank <= rank);
    depths[..end].last().filter(|d| d.rank == rank).map(|d| d.hi)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A prompt tree: a trunk of 4 blocks, on it two branches of 3 and 5, on the first another of 2.
    const BRANCHES: [&[Segment]; 4] = [
        &[Segment { node: 0, lo: 0, hi: 4 }],
        &[Segment { node: 0, lo: 0, hi: 4 }, Segment { node: 1, lo: 4, hi: 7 }],
        &[Segment { node: 0, lo: 0, hi: 4 }, Segment { node: 2, lo: 4, hi: 9 }],
        &[Segment { node: 0, lo: 0, hi: 4 }, Segment { node: 1, lo: 4, hi: 7 }, Segment { node: 3, lo: 7, hi: 9 }],
    ];

    /// A prompt along a branch, cut after `end` blocks, with `own` blocks for itself when it is not cut.
    fn prompt(branch: usize, end: u32, own: u32) -> (Vec<Segment>, u32) {
        let path: Vec<Segment> =
            BRANCHES[branch].iter().filter(|s| s.lo < end).map(|s| Segment { hi: s.hi.min(end), ..*s }).collect();
        let named = path.last().map_or(0, |s| s.hi);
        let whole = BRANCHES[branch].last().map_or(0, |s| s.hi);
        (path, if named == whole { named + own } else { named })
    }

    proptest! {
        #[test]
        fn distinct_blocks_are_those_of_a_set(
            requests in prop::collection::vec((0_u32..2, 0_usize..4, 0_u32..10, 0_u32..4, any::<bool>()), 1..30),
        ) {
            let mut active = ActiveBlocks::default();
            let mut held: Vec<(u32, Vec<Segment>, u32, usize)> = Vec::new();
            for (id, (rank, branch, end, own, keep)) in requests.into_iter().enumerate() {
                let (path, blocks) = prompt(branch, end, own);
                active.add(rank, &path, blocks);
                held.push((rank, path, blocks, id));
                if !keep {
                    let (rank, path, blocks, _) = held.remove(held.len() / 2);
                    active.remove(rank, &path, blocks);
                }
                for rank in 0..2 {
                    // A block is its node and place, or its request and place where no node names it.
                    let mut set = BTreeMap::new();
                    for (_, path, blocks, id) in held.iter().filter(|(r, ..)| *r == rank) {
                        for segment in path {
                            set.extend((segment.lo..segment.hi).map(|block| ((0, segment.node as usize, block), ())));
                        }
                        let named = path.last().map_or(0, |s| s.hi);
                        set.extend((named..*blocks).map(|block| ((1, *id, block), ())));
                    }
                    prop_assert_eq!(active.total(rank), set.len() as u64);
                    for branch in 0..4 {
                        let (path, _) = prompt(branch, end + 2, 0);
                        let mut found = Vec::new();
                        active.find(&path, &mut found);
                        let reach = found.iter().find(|r| r.rank == rank).map_or(0, |r| r.blocks);
                        let blocks = path.iter().flat_map(|s| (s.lo..s.hi).map(|block| (0, s.node as usize, block)));
                        let naive = blocks.take_while(|key| set.contains_key(key)).count() as u32;
                        prop_assert_eq!(reach, naive);
                    }
                }
            }
        }
    }
}
