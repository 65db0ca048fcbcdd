//! What the workers of a pool share below their own memory: the links to disk and to the object store, and the objects.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scenario::TierConfig;
use crate::sim::link::Link;
use crate::time::SimTime;

use super::store::BlockKey;

/// A copy over a shared link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Scheduler that asked for it.
    pub owner: u32,
    /// Blocks it moves.
    pub blocks: Vec<BlockKey>,
    /// Place of the request that waits for them; `None` for copies downwards.
    pub reader: Option<u32>,
}

/// Links between host memory and the tiers that workers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// G2 to G3.
    DiskWrite,
    /// G3 to G2.
    DiskRead,
    /// G2 to G4.
    ObjectWrite,
    /// G4 to G2.
    ObjectRead,
}

impl Lane {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 4] = [Self::DiskWrite, Self::DiskRead, Self::ObjectWrite, Self::ObjectRead];
}

#[derive(Debug)]
struct Shared {
    links: [Link<Job>; 4],
    objects: HashSet<BlockKey>,
    /// Objects being written.
    coming: HashSet<BlockKey>,
    owners: u32,
    block_bytes: u64,
}

/// A handle to what the workers of a pool share; clones are the same thing.
#[derive(Debug, Clone)]
pub struct SharedTiers(Arc<Mutex<Shared>>);

impl SharedTiers {
    /// Idle links and an empty object store.
    pub fn new(config: &TierConfig) -> Self {
        let speed = &config.bandwidth;
        let links = [speed.g2_to_g3, speed.g3_to_g2, speed.g2_to_g4, speed.g4_to_g2];
        Self(Arc::new(Mutex::new(Shared {
            links: links.map(|gbps| Link::new(Some(gbps))),
            objects: HashSet::new(),
            coming: HashSet::new(),
            owners: 0,
            block_bytes: config.block_bytes,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for one more scheduler.
    pub fn join(&self) -> u32 {
        let mut shared = self.lock();
        shared.owners += 1;
        shared.owners - 1
    }

    /// Whether the object store has the block.
    pub fn has_object(&self, key: BlockKey) -> bool {
        self.lock().objects.contains(&key)
    }

    /// Begins to write those of `blocks` that the object store does not have.
    pub fn write_objects(&self, now: SimTime, owner: u32, blocks: &[BlockKey]) {
        let mut shared = self.lock();
        let shared = &mut *shared;
        let fresh = |key: &&BlockKey| !shared.objects.contains(*key) && !shared.coming.contains(*key);
        let blocks: Vec<BlockKey> = blocks.iter().filter(fresh).copied().collect();
        shared.coming.extend(&blocks);
        drop(shared.begin(Lane::ObjectWrite, now, Job { owner, blocks, reader: None }));
    }

    /// Begins a copy; returns it when the link takes no time.
    pub fn begin(&self, lane: Lane, now: SimTime, job: Job) -> Option<Job> {
        self.lock().begin(lane, now, job)
    }

    /// When the next copy ends.
    pub fn next_end(&self) -> Option<SimTime> {
        self.lock().links.iter().filter_map(Link::next_end).min()
    }

    /// A copy that has ended by `now`.
    pub fn ended(&self, now: SimTime) -> Option<(Lane, Job)> {
        let mut shared = self.lock();
        Lane::ALL.into_iter().find_map(|lane| Some((lane, shared.end(lane, now)?)))
    }

    /// Objects stored.
    pub fn objects(&self) -> u64 {
        self.lock().objects.len() as u64
    }

    /// Bytes moved over a link and the seconds it was busy up to `now`.
    pub fn usage(&self, lane: Lane, now: SimTime) -> (u128, f64) {
        let shared = self.lock();
        let link = &shared.links[lane as usize];
        (link.bytes_ended(), link.busy_seconds(now))
    }
}

impl Shared {
    fn begin(&mut self, lane: Lane, now: SimTime, job: Job) -> Option<Job> {
        if job.blocks.is_empty() {
            return None;
        }
        let bytes = self.block_bytes.saturating_mul(job.blocks.len() as u64);
        let link = &mut self.links[lane as usize];
        link.begin(now, job, bytes);
        if link.is_instant() { self.end(lane, now) } else { None }
    }

    fn end(&mut self, lane: Lane, now: SimTime) -> Option<Job> {
        let job = self.links[lane as usize].ended(now)?;
        if lane == Lane::ObjectWrite {
            for key in &job.blocks {
                self.coming.remove(key);
                self.objects.insert(*key);
            }
        }
        Some(job)
    }
}
