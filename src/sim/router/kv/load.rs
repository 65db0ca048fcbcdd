//! What a router sent to each worker and has not heard the end of.

use std::collections::HashMap;

use crate::scenario::KvRouter;
use crate::sim::kv::Segment;

use super::active::ActiveBlocks;
use super::cost::Standing;
use super::index::Reach;

/// A request that was sent.
#[derive(Debug)]
struct Sent {
    rank: u32,
    /// Prompt tokens that were not cached, as long as their prefill is not over.
    uncached: u32,
    path: Box<[Segment]>,
    blocks: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct RankLoad {
    prefill_tokens: u64,
    requests: u32,
    /// Blocks that are counted without looking at common beginnings.
    blocks: u64,
}

/// Active requests and what they add up to, by rank.
#[derive(Debug)]
pub struct Load {
    tracks_blocks: bool,
    shares_blocks: bool,
    tracks_prefill: bool,
    ranks: Vec<RankLoad>,
    blocks: ActiveBlocks,
    sent: HashMap<u32, Sent>,
}

impl Load {
    /// Nothing sent yet.
    pub fn new(config: &KvRouter) -> Self {
        Self {
            tracks_blocks: config.track_active_blocks,
            shares_blocks: config.assume_kv_reuse,
            tracks_prefill: config.track_prefill_tokens,
            ranks: Vec::new(),
            blocks: ActiveBlocks::default(),
            sent: HashMap::new(),
        }
    }

    fn rank(&self, rank: u32) -> RankLoad {
        self.ranks.get(rank as usize).copied().unwrap_or_default()
    }

    /// Prompt tokens a rank has yet to compute.
    pub fn prefill_tokens(&self, rank: u32) -> u64 {
        self.rank(rank).prefill_tokens
    }

    /// What is known of a rank apart from prefixes of a prompt.
    pub fn standing(&self, rank: u32) -> Standing {
        let load = self.rank(rank);
        Standing {
            prefill_tokens: load.prefill_tokens,
            active_blocks: load.blocks + self.blocks.total(rank),
            requests: load.requests,
            ..Standing::default()
        }
    }

    /// Finds the ranks whose active requests occupy a beginning of the prompt with this `path`.
    pub fn find(&self, path: &[Segment], found: &mut Vec<Reach>) {
        found.clear();
        if self.tracks_blocks && self.shares_blocks {
            self.blocks.find(path, found);
        }
    }

    /// A request with so many uncached prompt tokens and complete prompt blocks goes to `rank`.
    pub fn add(&mut self, request: u32, rank: u32, uncached: u32, path: &[Segment], blocks: u32) {
        let slot = rank as usize;
        if slot >= self.ranks.len() {
            self.ranks.resize(slot + 1, RankLoad::default());
        }
        let load = &mut self.ranks[slot];
        load.requests += 1;
        let uncached = if self.tracks_prefill { uncached } else { 0 };
        load.prefill_tokens += u64::from(uncached);
        let mut sent = Sent { rank, uncached, path: Box::default(), blocks: 0 };
        if self.tracks_blocks {
            sent.blocks = blocks;
            if self.shares_blocks {
                sent.path = path.into();
                self.blocks.add(rank, path, blocks);
            } else {
                load.blocks += u64::from(blocks);
            }
        }
        self.sent.insert(request, sent);
    }

    /// The prefill of a request is over.
    pub fn prefill_done(&mut self, request: u32) {
        if let Some(sent) = self.sent.get_mut(&request) {
            let tokens = std::mem::take(&mut sent.uncached);
            self.ranks[sent.rank as usize].prefill_tokens -= u64::from(tokens);
        }
    }

    /// A request is over. Returns whether it had been sent.
    pub fn free(&mut self, request: u32) -> bool {
        let Some(sent) = self.sent.remove(&request) else { return false };
        let load = &mut self.ranks[sent.rank as usize];
        load.requests -= 1;
        load.prefill_tokens -= u64::from(sent.uncached);
        if self.shares_blocks {
            self.blocks.remove(sent.rank, &sent.path, sent.blocks);
        } else {
            load.blocks -= u64::from(sent.blocks);
        }
        true
    }
}
