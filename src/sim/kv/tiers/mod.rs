//! KV tiers below the GPU (G1): host memory (G2), disk (G3), an object store (G4).
//!
//! ```text
//!            evicted                     background
//!   G1 pool ---------> G2 host memory ----------------> G3 disk, G4 object store
//!           <---------                <----------------
//!            a request waits           staged through G2
//! ```
//!
//! Every arrow is a [`Link`](crate::sim::link::Link). Those between G1 and G2 belong to one scheduler; those below are
//! shared by the workers of a pool. Host memory and disk space belong to one scheduler, objects to all.
//!
//! A copy reads its blocks when it begins: what happens to them at the source meanwhile does not matter. Blocks whose
//! content nobody can ask for again (generated text) move down like others, since an engine cannot know.

mod shared;
mod store;

use std::collections::BTreeMap;

use crate::scenario::TierConfig;
use crate::sim::link::Link;
use crate::time::{SimDuration, SimTime};

use super::prompts::Segment;
pub use shared::{Job, Lane, SharedTiers};
pub use store::BlockKey;
use store::Store;

/// Name of the node that names nothing.
const NAMELESS: u32 = u32::MAX;

/// A tier below the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// G2.
    Host,
    /// G3.
    Disk,
    /// G4.
    Objects,
}

/// Blocks that a request gets from below, counted by tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FromTiers {
    /// Of G2, G3 and G4.
    pub blocks: [u32; 3],
    /// Time until they were on the GPU.
    pub wait: SimDuration,
}

impl FromTiers {
    /// Blocks of all tiers.
    pub fn total(&self) -> u32 {
        self.blocks.iter().sum()
    }
}

/// What moved, and what is where.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TierUse {
    /// Bytes that arrived from G1 in G2, and from G2 in G1.
    pub bytes: [u128; 2],
    /// Seconds in which those links were busy.
    pub busy_seconds: [f64; 2],
    /// Blocks in G2 and G3.
    pub blocks: [u64; 2],
    /// Blocks that left G1 without a copy because G2 had one.
    pub present: u64,
    /// Blocks that left G1 without a copy because G2 had no place.
    pub dropped: u64,
}

#[derive(Debug, Clone)]
struct Upward {
    begun: SimTime,
    counts: [u32; 3],
    /// Copies from below that have not arrived in G2.
    staging: u32,
}

/// The tiers of one scheduler.
#[derive(Debug)]
pub struct KvTiers {
    now: SimTime,
    block_bytes: u64,
    batch: usize,
    down: Link<Vec<BlockKey>>,
    up: Link<u32>,
    host: Store,
    disk: Option<Store>,
    objects: bool,
    shared: SharedTiers,
    owner: u32,
    /// Evicted, not handed to the link yet.
    evicted: Vec<BlockKey>,
    nameless: u32,
    /// Places of the GPU whose blocks have been copied since somebody asked.
    freed: u32,
    waiting: BTreeMap<u32, Upward>,
    /// Requests whose blocks are up, in that order.
    arrived: Vec<(u32, FromTiers)>,
    present: u64,
    dropped: u64,
}

impl KvTiers {
    /// Empty tiers of one more scheduler.
    pub fn new(config: &TierConfig, shared: SharedTiers) -> Self {
        let owner = shared.join();
        Self {
            now: SimTime::ZERO,
            block_bytes: config.block_bytes,
            batch: config.batch as usize,
            down: Link::new(Some(config.bandwidth.g1_to_g2)),
            up: Link::new(Some(config.bandwidth.g2_to_g1)),
            host: Store::new(config.host_blocks),
            disk: (config.disk_blocks > 0).then(|| Store::new(config.disk_blocks)),
            objects: config.object_store,
            shared,
            owner,
            evicted: Vec::new(),
            nameless: 0,
            freed: 0,
            waiting: BTreeMap::new(),
            arrived: Vec::new(),
            present: 0,
            dropped: 0,
        }
    }

    /// Number of the scheduler among those that share links.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// A block, by its name if it has one, is evicted from the GPU. Returns whether its place stays taken until
    /// [`Self::take_freed`] says otherwise.
    pub fn evict(&mut self, key: Option<BlockKey>) -> bool {
        let key = key.unwrap_or_else(|| {
            self.nameless = self.nameless.wrapping_add(1);
            (NAMELESS, self.nameless)
        });
        if self.host.knows(key) {
            self.host.touch(key);
            self.present += 1;
            return false;
        }
        if !self.host.expect(key) {
            self.dropped += 1;
            return false;
        }
        self.evicted.push(key);
        true
    }

    /// Hands what was evicted to the link, in batches.
    pub fn flush(&mut self) {
        for batch in std::mem::take(&mut self.evicted).chunks(self.batch.max(1)) {
            let bytes = self.block_bytes.saturating_mul(batch.len() as u64);
            self.down.begin(self.now, batch.to_vec(), bytes);
        }
        if self.down.is_instant() {
            self.end_own(self.now);
        }
    }

    /// Places of the GPU that have become free.
    pub fn take_freed(&mut self) -> u32 {
        std::mem::take(&mut self.freed)
    }

    /// Requests whose blocks have come up, in the order in which they did.
    pub fn take_arrived(&mut self) -> Vec<(u32, FromTiers)> {
        std::mem::take(&mut self.arrived)
    }

    /// Moves on to `now`: copies over this scheduler's own links that are over take effect.
    pub fn advance(&mut self, now: SimTime) {
        self.now = self.now.max(now);
        self.end_own(now);
    }

    /// When the next copy over this scheduler's own links ends.
    pub fn next_end(&self) -> Option<SimTime> {
        self.down.next_end().into_iter().chain(self.up.next_end()).min()
    }

    fn end_own(&mut self, now: SimTime) {
        while let Some(blocks) = self.down.ended(now) {
            self.freed += blocks.len() as u32;
            for key in &blocks {
                self.host.arrive(*key);
            }
            self.copy_further(blocks);
        }
        while let Some(reader) = self.up.ended(now) {
            self.end_upward(reader);
        }
    }

    /// What arrived in host memory follows to disk and object store in the background.
    fn copy_further(&mut self, blocks: Vec<BlockKey>) {
        if let Some(disk) = &mut self.disk {
            let fresh = |key: &BlockKey| !disk.knows(*key) && disk.expect(*key);
            let blocks: Vec<BlockKey> = blocks.iter().copied().filter(fresh).collect();
            let job = Job { owner: self.owner, blocks, reader: None };
            if let Some(job) = self.shared.begin(Lane::DiskWrite, self.now, job) {
                self.deliver(Lane::DiskWrite, job);
            }
        }
        if self.objects {
            self.shared.write_objects(self.now, self.owner, &blocks);
        }
    }

    /// A copy over a shared link that this scheduler asked for is over; the clock has been moved there.
    pub fn deliver(&mut self, lane: Lane, job: Job) {
        match lane {
            Lane::DiskWrite => {
                if let Some(disk) = &mut self.disk {
                    job.blocks.iter().for_each(|key| disk.arrive(*key));
                }
            }
            Lane::ObjectWrite => {}
            Lane::DiskRead | Lane::ObjectRead => {
                job.blocks.iter().for_each(|key| self.host.arrive(*key));
                let Some((reader, upward)) = job.reader.and_then(|r| Some((r, self.waiting.get_mut(&r)?))) else {
                    return;
                };
                upward.staging -= 1;
                if upward.staging == 0 {
                    self.send_up(reader);
                }
            }
        }
    }

    /// Blocks from `from` on, up to `to`, that lower tiers have without a gap.
    pub fn find(&self, path: &[Segment], from: u32, to: u32) -> Vec<(BlockKey, Tier)> {
        let mut found = Vec::new();
        let mut at = from;
        for segment in path {
            while at >= segment.lo && at < segment.hi.min(to) {
                let key = (segment.node, at);
                let tier = if self.host.has(key) {
                    Tier::Host
                } else if self.disk.as_ref().is_some_and(|disk| disk.has(key)) {
                    Tier::Disk
                } else if self.objects && self.shared.has_object(key) {
                    Tier::Objects
                } else {
                    return found;
                };
                found.push((key, tier));
                at += 1;
            }
        }
        found
    }

    /// Begins to bring `blocks` up for the request at place `reader`. Places on the GPU must have been reserved.
    pub fn bring_up(&mut self, reader: u32, blocks: &[(BlockKey, Tier)]) {
        let mut counts = [0; 3];
        let (mut from_disk, mut from_objects) = (Vec::new(), Vec::new());
        // The deepest first: the root of a prompt is what others are most likely to share.
        for (key, tier) in blocks.iter().rev() {
            counts[*tier as usize] += 1;
            match tier {
                Tier::Host => self.host.touch(*key),
                Tier::Disk => from_disk.push(*key),
                Tier::Objects => from_objects.push(*key),
            }
        }
        for key in &from_disk {
            if let Some(disk) = &mut self.disk {
                disk.touch(*key);
            }
        }
        for key in from_disk.iter().chain(&from_objects) {
            // Where host memory has no place to keep the block, it only passes through.
            if !self.host.knows(*key) {
                self.host.expect(*key);
            }
        }
        let jobs = [(Lane::DiskRead, from_disk), (Lane::ObjectRead, from_objects)];
        let jobs: Vec<(Lane, Vec<BlockKey>)> = jobs.into_iter().filter(|(_, blocks)| !blocks.is_empty()).collect();
        self.waiting.insert(reader, Upward { begun: self.now, counts, staging: jobs.len() as u32 });
        if jobs.is_empty() {
            self.send_up(reader);
        }
        for (lane, blocks) in jobs {
            let job = Job { owner: self.owner, blocks, reader: Some(reader) };
            if let Some(job) = self.shared.begin(lane, self.now, job) {
                self.deliver(lane, job);
            }
        }
    }

    /// Everything a request waits for is in host memory.
    fn send_up(&mut self, reader: u32) {
        let Some(upward) = self.waiting.get(&reader) else { return };
        let blocks: u32 = upward.counts.iter().sum();
        self.up.begin(self.now, reader, self.block_bytes.saturating_mul(u64::from(blocks)));
        if self.up.is_instant() {
            self.end_own(self.now);
        }
    }

    fn end_upward(&mut self, reader: u32) {
        let Some(upward) = self.waiting.remove(&reader) else { return };
        let got = FromTiers { blocks: upward.counts, wait: self.now.since(upward.begun) };
        self.arrived.push((reader, got));
    }

    /// What moved up to `now`, and what is where.
    pub fn usage(&self, now: SimTime) -> TierUse {
        TierUse {
            bytes: [self.down.bytes_ended(), self.up.bytes_ended()],
            busy_seconds: [self.down.busy_seconds(now), self.up.busy_seconds(now)],
            blocks: [self.host.blocks(), self.disk.as_ref().map_or(0, Store::blocks)],
            present: self.present,
            dropped: self.dropped,
        }
    }
}
