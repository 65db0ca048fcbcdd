//! Which prompt blocks each worker holds, as the router has heard.
//!
//! The index mirrors the prompt tree: each node lists the stretches of its blocks that are stored, by rank. A lookup
//! walks the nodes of a prompt once and finds every rank that holds a beginning of it, however many blocks that is.

use crate::sim::kv::{BlockRun, KvEvent, Segment};

/// Blocks `lo..hi` of a node are stored `copies` times on a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    rank: u32,
    lo: u32,
    hi: u32,
    copies: u32,
}

/// Stored blocks by node of the prompt tree.
#[derive(Debug, Clone, Default)]
pub struct PrefixIndex {
    /// By rank, then by first block; the spans of a rank do not overlap.
    nodes: Vec<Vec<Span>>,
}

/// How many blocks of a prompt's beginning a rank has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Number of the rank in its pool.
    pub rank: u32,
    /// Blocks, at least 1.
    pub blocks: u32,
}

impl PrefixIndex {
    /// Takes note of a change on `rank`.
    pub fn apply(&mut self, rank: u32, event: KvEvent) {
        match event {
            KvEvent::Stored(run) => self.change(rank, run, 1),
            KvEvent::Removed(run) => self.change(rank, run, -1),
        }
    }

    /// Adds `by` copies to the blocks of `run`.
    fn change(&mut self, rank: u32, run: BlockRun, by: i32) {
        let node = run.node as usize;
        if node >= self.nodes.len() {
            self.nodes.resize(node + 1, Vec::new());
        }
        let spans = &mut self.nodes[node];
        let begin = spans.partition_point(|s| (s.rank, s.hi) < (rank, run.lo));
        let end = begin + spans[begin..].partition_point(|s| s.rank == rank && s.lo <= run.hi);
        // The usual cases touch one span or none.
        match &mut spans[begin..end] {
            [] if by > 0 => spans.insert(begin, Span { rank, lo: run.lo, hi: run.hi, copies: 1 }),
            [] => {}
            [span] if span.copies == 1 && by > 0 && span.hi == run.lo => span.hi = run.hi,
            [span] if span.copies == 1 && by < 0 && span.lo <= run.lo && span.hi == run.hi => {
                span.hi = run.lo;
                if span.hi == span.lo {
                    spans.remove(begin);
                }
            }
            _ => {
                let changed = recount(&spans[begin..end], rank, run, by);
                spans.splice(begin..end, changed);
            }
        }
    }

    /// Finds the ranks that hold a beginning of the prompt with this `path`, in ascending order.
    pub fn find(&self, path: &[Segment], found: &mut Vec<Reach>) {
        found.clear();
        for (depth, segment) in path.iter().enumerate() {
            let spans = self.nodes.get(segment.node as usize).map_or(&[][..], Vec::as_slice);
            if depth == 0 {
                for group in spans.chunk_by(|a, b| a.rank == b.rank) {
                    let blocks = extent(group, segment.lo, segment.hi);
                    if blocks > segment.lo {
                        found.push(Reach { rank: group[0].rank, blocks });
                    }
                }
            } else {
                let mut rest = spans;
                for reach in found.iter_mut().filter(|reach| reach.blocks == segment.lo) {
                    rest = &rest[rest.partition_point(|s| s.rank < reach.rank)..];
                    let group = &rest[..rest.partition_point(|s| s.rank == reach.rank)];
                    reach.blocks = extent(group, segment.lo, segment.hi);
                }
            }
            if found.iter().all(|reach| reach.blocks < segment.hi) {
                break;
            }
        }
    }

    /// Forgets everything about `ranks`.
    pub fn forget(&mut self, ranks: std::ops::Range<u32>) {
        for spans in &mut self.nodes {
            spans.retain(|span| !ranks.contains(&span.rank));
        }
    }
}

/// How far the spans of one rank reach from block `lo` on without a gap, at most to `hi`.
fn extent(spans: &[Span], lo: u32, hi: u32) -> u32 {
    let mut at = lo;
    for span in spans {
        if span.lo <= at && at < span.hi {
            at = span.hi;
        }
    }
    at.min(hi)
}

/// The spans with `by` copies more over `run`, in order, joined where equal ones touch.
fn recount(spans: &[Span], rank: u32, run: BlockRun, by: i32) -> Vec<Span> {
    let mut edges: Vec<u32> = spans.iter().flat_map(|s| [s.lo, s.hi]).chain([run.lo, run.hi]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut result: Vec<Span> = Vec::new();
    for edge in edges.windows(2) {
        let &[lo, hi] = edge else { continue };
        let before = spans.iter().find(|s| s.lo <= lo && hi <= s.hi).map_or(0, |s| s.copies);
        let inside = run.lo <= lo && hi <= run.hi;
        let copies = if inside { before.saturating_add_signed(by) } else { before };
        match result.last_mut() {
            Some(last) if last.hi == lo && last.copies == copies => last.hi = hi,
            _ if copies > 0 => result.push(Span { rank, lo, hi, copies }),
            _ => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const NODES: [Segment; 3] =
        [Segment { node: 0, lo: 0, hi: 4 }, Segment { node: 1, lo: 4, hi: 7 }, Segment { node: 2, lo: 7, hi: 12 }];

    proptest! {
        #[test]
        fn the_index_counts_copies_as_a_list_of_blocks_would(
            steps in prop::collection::vec((0_u32..3, 0_usize..3, 0_u32..5, 1_u32..5, any::<bool>()), 1..60),
            ends in prop::collection::vec(1_u32..13, 1..5),
        ) {
            let mut index = PrefixIndex::default();
            let mut blocks: HashMap<(u32, u32), u32> = HashMap::new();
            for (rank, node, from, length, store) in steps {
                let segment = NODES[node];
                let lo = (segment.lo + from).min(segment.hi - 1);
                let hi = (lo + length).min(segment.hi);
                let run = BlockRun { node: segment.node, lo, hi };
                // Nobody removes what is not there.
                if !store && (lo..hi).any(|block| blocks.get(&(rank, block)).is_none_or(|n| *n == 0)) {
                    continue;
                }
                index.apply(rank, if store { KvEvent::Stored(run) } else { KvEvent::Removed(run) });
                for block in lo..hi {
                    let copies = blocks.entry((rank, block)).or_default();
                    if store { *copies += 1 } else { *copies -= 1 }
                }
                for end in &ends {
                    let path: Vec<Segment> = NODES
                        .iter()
                        .filter(|s| s.lo < *end)
                        .map(|s| Segment { hi: s.hi.min(*end), ..*s })
                        .collect();
                    let mut found = Vec::new();
                    index.find(&path, &mut found);
                    let naive: Vec<Reach> = (0..3)
                        .map(|rank| {
                            let held = |block: &u32| blocks.get(&(rank, *block)).is_some_and(|n| *n > 0);
                            Reach { rank, blocks: (0..*end).take_while(held).count() as u32 }
                        })
                        .filter(|reach| reach.blocks > 0)
                        .collect();
                    prop_assert_eq!(&found, &naive);
                }
            }
            index.forget(1..3);
            let mut found = Vec::new();
            index.find(&NODES, &mut found);
            prop_assert!(found.iter().all(|reach| reach.rank == 0));
        }
    }
}
