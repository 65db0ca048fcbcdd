//! The KV block pool of one scheduler, kept as *extents*: stretches of consecutive blocks of one sequence that were
//! registered together and share an owner count.
//!
//! Nothing here costs time per block. A prompt of two hundred blocks that extends a known conversation is two or three
//! extents. Extents split where a shorter prompt, or an eviction, needs only a part of one; splitting never changes any
//! order, so the pool behaves exactly as one that lists every block by itself (`spec` of the reference, block by block):
//!
//! * blocks nobody owns form one strict LRU list; a released extent enters at the tail, deepest block first;
//! * eviction takes from the head, so from the deepest block of the longest unused extent;
//! * the same content may be resident more than once; a lookup takes the copy registered first.

use super::events::{BlockRun, KvEvents};
use super::tiers::KvTiers;

/// No extent.
const NIL: u32 = u32::MAX;

/// Where an extent's blocks can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// Nobody can ask for these blocks (content unique to a request that will not look again).
    Nowhere,
    /// A node of the prompt index.
    Node(u32),
    /// The private continuation of a preempted request.
    Tail(u32),
}

/// Blocks `lo..hi` (absolute block indices of the sequence) held through `extent` and what was split from it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    extent: u32,
    lo: u32,
    hi: u32,
}

impl Held {
    /// One past the last block held.
    pub fn end(self) -> u32 {
        self.hi
    }
}

/// Part of an extent that a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    extent: u32,
    lo: u32,
    hi: u32,
    active: bool,
}

impl Hit {
    /// Number of blocks.
    pub fn blocks(self) -> u32 {
        self.hi - self.lo
    }

    /// Whether a request owns the blocks now.
    pub fn is_active(self) -> bool {
        self.active
    }
}

/// Consecutive blocks that share an owner count, as somebody sees them who looks at the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvExtent {
    /// Number of the extent.
    pub id: u32,
    /// Its blocks.
    pub blocks: u32,
    /// Requests and reservations that own it.
    pub owners: u32,
    /// Where it can be found.
    pub home: Home,
}

#[derive(Debug, Clone)]
struct Extent {
    lo: u32,
    hi: u32,
    /// Requests and reservations that own it; 0 means it waits in the LRU list.
    owners: u32,
    home: Home,
    /// Registration order; parts of a split keep it.
    order: u64,
    /// Next extent of the same home.
    sibling: u32,
    /// The part split off this one's end, for owners of the whole.
    split: u32,
    /// Towards the head of the LRU list (evicted earlier).
    older: u32,
    /// Towards the tail.
    newer: u32,
}

/// All KV blocks of one scheduler.
#[derive(Debug)]
pub struct KvPool {
    capacity: u32,
    /// Physical blocks in use, private ones included.
    resident: u32,
    /// Resident blocks nobody owns.
    cached: u32,
    /// Blocks promised to hand-offs.
    reserved: u32,
    extents: Vec<Extent>,
    vacant: Vec<u32>,
    oldest: u32,
    newest: u32,
    nodes: Vec<u32>,
    tails: Vec<u32>,
    vacant_tails: Vec<u32>,
    next_order: u64,
    changes: u64,
    evicted: u64,
    /// Blocks evicted whose places are not free before they have been copied to a lower tier.
    leaving: u32,
    /// Blocks that allocations of this pass wait for: each has others evicted for it.
    claims: u32,
    /// Whether the last allocation that failed had to wait for such copies only.
    waits: bool,
    /// Where evicted blocks go, if anywhere.
    pub tiers: Option<Box<KvTiers>>,
    /// What a router should know.
    pub events: KvEvents,
}

impl KvPool {
    /// An empty pool of `capacity` blocks for prompts of an index with `nodes` nodes.
    pub fn new(capacity: u32, nodes: usize) -> Self {
        Self {
            capacity,
            resident: 0,
            cached: 0,
            reserved: 0,
            extents: Vec::new(),
            vacant: Vec::new(),
            oldest: NIL,
            newest: NIL,
            nodes: vec![NIL; nodes],
            tails: Vec::new(),
            vacant_tails: Vec::new(),
            next_order: 0,
            changes: 0,
            evicted: 0,
            leaving: 0,
            claims: 0,
            waits: false,
            tiers: None,
            events: KvEvents::default(),
        }
    }

    /// Blocks in all.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Blocks owned by requests or reserved.
    pub fn active(&self) -> u32 {
        self.resident - self.cached + self.reserved
    }

    /// Blocks kept only for reuse.
    pub fn cached(&self) -> u32 {
        self.cached
    }

    /// Blocks that hold nothing.
    pub fn free(&self) -> u32 {
        self.capacity - self.resident - self.reserved - self.leaving
    }

    /// Blocks evicted that are still being copied to a lower tier.
    pub fn leaving(&self) -> u32 {
        self.leaving
    }

    /// Whether the allocation that failed last would succeed once blocks have been copied to a lower tier.
    pub fn waits_for_copies(&self) -> bool {
        self.waits
    }

    /// Allocations that waited are tried again from now on.
    pub fn forget_claims(&mut self) {
        self.claims = 0;
    }

    /// Gives the places of blocks that have been copied back; returns whether there were any.
    pub fn free_copied(&mut self) -> bool {
        let freed = self.tiers.as_mut().map_or(0, |tiers| tiers.take_freed());
        self.leaving -= freed;
        freed > 0
    }

    /// Blocks that an allocation could get: free ones and, by eviction, cached ones.
    pub fn obtainable(&self) -> u32 {
        self.free() + self.cached
    }

    /// Grows whenever blocks that others can find are registered or gain an owner: a request that waits for room need
    /// not look again before.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Blocks evicted so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Blocks promised to hand-offs, or to what comes up from lower tiers.
    pub fn reserved(&self) -> u32 {
        self.reserved
    }

    fn extent(&self, id: u32) -> KvExtent {
        let extent = &self.extents[id as usize];
        KvExtent { id, blocks: extent.hi - extent.lo, owners: extent.owners, home: extent.home }
    }

    /// Extents that requests own, private blocks not among them, in a stable order.
    pub fn owned_extents(&self) -> impl Iterator<Item = KvExtent> + '_ {
        (0..self.extents.len() as u32).map(|id| self.extent(id)).filter(|e| e.owners > 0 && e.blocks > 0)
    }

    /// Extents kept for reuse only, from the most to the least recently used.
    pub fn cached_extents(&self) -> impl Iterator<Item = KvExtent> + '_ {
        let first = (self.newest != NIL).then_some(self.newest);
        let older = |id: &u32| Some(self.extents[*id as usize].older).filter(|id| *id != NIL);
        std::iter::successors(first, older).map(|id| self.extent(id))
    }

    /// Visits the extents through which blocks are held now.
    pub fn parts_of(&self, held: Held, mut visit: impl FnMut(u32)) {
        let mut part = held.extent;
        loop {
            visit(part);
            let extent = &self.extents[part as usize];
            if extent.hi >= held.hi || extent.split == NIL {
                return;
            }
            part = extent.split;
        }
    }

    fn list(&self, home: Home) -> u32 {
        match home {
            Home::Nowhere => NIL,
            Home::Node(node) => self.nodes.get(node as usize).copied().unwrap_or(NIL),
            Home::Tail(tail) => self.tails[tail as usize],
        }
    }

    fn set_list(&mut self, home: Home, first: u32) {
        match home {
            Home::Nowhere => {}
            Home::Node(node) => {
                let node = node as usize;
                if node >= self.nodes.len() {
                    self.nodes.resize(node + 1, NIL);
                }
                self.nodes[node] = first;
            }
            Home::Tail(tail) => self.tails[tail as usize] = first,
        }
    }

    /// Appends to `hits` the resident blocks of `home` from block `lo` on, up to `hi`, without a gap. Returns where the
    /// contiguous stretch ends.
    pub fn find(&self, home: Home, lo: u32, hi: u32, hits: &mut Vec<Hit>) -> u32 {
        let mut at = lo;
        while at < hi {
            // The copy registered first wins; a copy registered earlier may begin later and cut the winner short.
            let (mut best, mut order, mut end) = (NIL, u64::MAX, hi);
            let mut cursor = self.list(home);
            while cursor != NIL {
                let extent = &self.extents[cursor as usize];
                if extent.lo <= at && at < extent.hi && extent.order < order {
                    best = cursor;
                    order = extent.order;
                }
                cursor = extent.sibling;
            }
            if best == NIL {
                break;
            }
            cursor = self.list(home);
            while cursor != NIL {
                let extent = &self.extents[cursor as usize];
                if extent.order < order && extent.lo > at && extent.lo < extent.hi {
                    end = end.min(extent.lo);
                }
                cursor = extent.sibling;
            }
            let extent = &self.extents[best as usize];
            let end = end.min(extent.hi);
            hits.push(Hit { extent: best, lo: at, hi: end, active: extent.owners > 0 });
            at = end;
        }
        at
    }

    /// Takes ownership of the first `blocks` blocks of `hits` and makes room for `fresh` new ones, or changes nothing
    /// and returns `false`. Owned parts are appended to `held`; the fresh blocks are private.
    pub fn acquire(&mut self, hits: &[Hit], blocks: u32, fresh: u32, held: &mut Vec<Held>) -> bool {
        if !self.take(hits, blocks, fresh, held) {
            return false;
        }
        self.resident += fresh;
        true
    }

    /// As [`Self::acquire`], but the fresh blocks are only promised: [`Self::consume_reserved`] makes them private.
    pub fn reserve(&mut self, hits: &[Hit], blocks: u32, fresh: u32, held: &mut Vec<Held>) -> bool {
        if !self.take(hits, blocks, fresh, held) {
            return false;
        }
        self.reserved += fresh;
        true
    }

    /// Turns `blocks` promised blocks into private ones.
    pub fn consume_reserved(&mut self, blocks: u32) {
        self.reserved -= blocks;
        self.resident += blocks;
    }

    /// Gives promised blocks back unused.
    pub fn return_reserved(&mut self, blocks: u32) {
        self.reserved -= blocks;
    }

    fn take(&mut self, hits: &[Hit], blocks: u32, fresh: u32, held: &mut Vec<Held>) -> bool {
        let evict = fresh.saturating_sub(self.free());
        self.waits = false;
        if evict > 0 {
            let mut left = blocks;
            let mut protected = 0;
            for hit in hits {
                let n = hit.blocks().min(left);
                left -= n;
                if !hit.active {
                    protected += n;
                }
            }
            if evict > self.cached - protected + self.leaving {
                return false;
            }
        }
        let begun = held.len();
        let mut left = blocks;
        for hit in hits {
            if left == 0 {
                break;
            }
            let n = hit.blocks().min(left);
            left -= n;
            held.push(self.own(hit.extent, hit.lo, hit.lo + n));
        }
        if self.tiers.is_none() {
            self.evict(evict);
            return true;
        }
        self.evict_downwards(fresh.saturating_add(self.claims));
        self.waits = self.free() < fresh;
        if self.waits {
            self.claims += fresh;
            for part in held.drain(begun..).rev() {
                self.release(part);
            }
        }
        !self.waits
    }

    /// Evicts until `wanted` blocks are free or will be once copies to a lower tier are over, as far as there are any.
    fn evict_downwards(&mut self, wanted: u32) {
        while self.free() + self.leaving < wanted && self.cached > 0 {
            let Some(oldest) = self.extents.get(self.oldest as usize) else { break };
            let key = match oldest.home {
                Home::Node(node) => Some((node, oldest.hi - 1)),
                Home::Nowhere | Home::Tail(_) => None,
            };
            self.evict(1);
            if self.tiers.as_mut().is_some_and(|tiers| tiers.evict(key)) {
                self.leaving += 1;
            }
        }
        if let Some(tiers) = &mut self.tiers {
            tiers.flush();
        }
        self.free_copied();
    }

    /// Adds an owner to blocks `lo..hi`, reached through `extent`.
    fn own(&mut self, extent: u32, lo: u32, hi: u32) -> Held {
        let mut first = extent;
        // An earlier hit of the same lookup may have split this extent.
        while self.extents[first as usize].hi <= lo {
            first = self.extents[first as usize].split;
        }
        if self.extents[first as usize].lo < lo {
            first = self.split(first, lo);
        }
        let mut part = first;
        loop {
            if self.extents[part as usize].hi > hi {
                self.split(part, hi);
            }
            if self.extents[part as usize].owners == 0 {
                self.unlink_lru(part);
                self.cached -= self.extents[part as usize].hi - self.extents[part as usize].lo;
            }
            let e = &mut self.extents[part as usize];
            e.owners += 1;
            if e.hi >= hi {
                break;
            }
            part = e.split;
        }
        self.changes += 1;
        Held { extent: first, lo, hi }
    }

    /// Cuts `extent` at `at`; returns the part that begins there.
    fn split(&mut self, extent: u32, at: u32) -> u32 {
        let head = &mut self.extents[extent as usize];
        let mut rest = head.clone();
        rest.lo = at;
        head.hi = at;
        let unowned = head.owners == 0;
        let id = self.new_extent(rest);
        self.extents[extent as usize].split = id;
        let home = self.extents[id as usize].home;
        if home != Home::Nowhere {
            self.extents[id as usize].sibling = self.list(home);
            self.set_list(home, id);
        }
        if unowned {
            // Deeper blocks are evicted earlier: the rest goes between its head's older neighbour and its head.
            let older = self.extents[extent as usize].older;
            self.extents[id as usize].older = older;
            self.extents[id as usize].newer = extent;
            self.extents[extent as usize].older = id;
            if older == NIL {
                self.oldest = id;
            } else {
                self.extents[older as usize].newer = id;
            }
        }
        id
    }

    fn new_extent(&mut self, extent: Extent) -> u32 {
        if let Some(id) = self.vacant.pop() {
            self.extents[id as usize] = extent;
            id
        } else {
            self.extents.push(extent);
            (self.extents.len() - 1) as u32
        }
    }

    /// Makes private blocks `lo..hi` findable at `home`, still owned by the one request.
    pub fn register(&mut self, home: Home, lo: u32, hi: u32) -> Held {
        let sibling = self.list(home);
        let order = self.next_order;
        self.next_order += 1;
        let id =
            self.new_extent(Extent { lo, hi, owners: 1, home, order, sibling, split: NIL, older: NIL, newer: NIL });
        if home != Home::Nowhere {
            self.set_list(home, id);
            self.changes += 1;
        }
        if let Home::Node(node) = home {
            self.events.stored(BlockRun { node, lo, hi });
        }
        Held { extent: id, lo, hi }
    }

    /// Adds the next private blocks, up to `hi`, to what `held` owns alone and nobody can find. Returns whether that was
    /// possible; otherwise they need an extent of their own.
    pub fn extend(&mut self, held: &mut Held, hi: u32) -> bool {
        let extent = &mut self.extents[held.extent as usize];
        let alone = extent.owners == 1 && extent.home == Home::Nowhere && extent.hi == held.hi && extent.lo == held.lo;
        if alone {
            extent.hi = hi;
            held.hi = hi;
        }
        alone
    }

    /// Gives up one ownership. Blocks left without owner enter the LRU list, the deepest first.
    pub fn release(&mut self, held: Held) {
        let first = &self.extents[held.extent as usize];
        if first.hi >= held.hi {
            self.disown(held.extent);
            return;
        }
        let mut parts = Vec::with_capacity(4);
        let mut part = held.extent;
        loop {
            parts.push(part);
            let e = &self.extents[part as usize];
            if e.hi >= held.hi {
                break;
            }
            part = e.split;
        }
        for part in parts.into_iter().rev() {
            self.disown(part);
        }
    }

    fn disown(&mut self, part: u32) {
        let newest = self.newest;
        let e = &mut self.extents[part as usize];
        e.owners -= 1;
        if e.owners > 0 {
            return;
        }
        self.cached += e.hi - e.lo;
        e.older = newest;
        e.newer = NIL;
        if newest == NIL {
            self.oldest = part;
        } else {
            self.extents[newest as usize].newer = part;
        }
        self.newest = part;
    }

    /// Gives private blocks back.
    pub fn release_private(&mut self, blocks: u32) {
        self.resident -= blocks;
    }

    fn unlink_lru(&mut self, id: u32) {
        let (older, newer) = (self.extents[id as usize].older, self.extents[id as usize].newer);
        if older == NIL {
            self.oldest = newer;
        } else {
            self.extents[older as usize].newer = newer;
        }
        if newer == NIL {
            self.newest = older;
        } else {
            self.extents[newer as usize].older = older;
        }
    }

    fn evict(&mut self, blocks: u32) {
        self.evicted += u64::from(blocks);
        self.resident -= blocks;
        self.cached -= blocks;
        let mut left = blocks;
        while left > 0 {
            let id = self.oldest;
            let e = &mut self.extents[id as usize];
            let n = (e.hi - e.lo).min(left);
            e.hi -= n;
            left -= n;
            if let Home::Node(node) = e.home {
                self.events.removed(BlockRun { node, lo: e.hi, hi: e.hi + n });
            }
            if e.hi == e.lo {
                let home = e.home;
                self.unlink_lru(id);
                self.unlink_home(id, home);
                self.vacant.push(id);
            }
        }
    }

    fn unlink_home(&mut self, id: u32, home: Home) {
        if home == Home::Nowhere {
            return;
        }
        let next = self.extents[id as usize].sibling;
        let mut cursor = self.list(home);
        if cursor == id {
            self.set_list(home, next);
            return;
        }
        while self.extents[cursor as usize].sibling != id {
            cursor = self.extents[cursor as usize].sibling;
        }
        self.extents[cursor as usize].sibling = next;
    }

    /// Opens a home for the private blocks of a preempted request.
    pub fn open_tail(&mut self) -> u32 {
        if let Some(tail) = self.vacant_tails.pop() {
            tail
        } else {
            self.tails.push(NIL);
            (self.tails.len() - 1) as u32
        }
    }

    /// Lets blocks that nobody could find be found at `tail`.
    pub fn move_to_tail(&mut self, held: Held, tail: u32) {
        let home = Home::Tail(tail);
        let first = self.list(home);
        let e = &mut self.extents[held.extent as usize];
        if e.home == Home::Nowhere {
            e.home = home;
            e.sibling = first;
            self.set_list(home, held.extent);
        }
    }

    /// Closes a tail: its blocks stay resident until evicted, but nobody can find them again.
    pub fn close_tail(&mut self, tail: u32) {
        let mut cursor = self.tails[tail as usize];
        while cursor != NIL {
            let e = &mut self.extents[cursor as usize];
            e.home = Home::Nowhere;
            cursor = e.sibling;
        }
        self.tails[tail as usize] = NIL;
        self.vacant_tails.push(tail);
    }

    /// Takes `blocks` fresh private blocks, evicting as needed.
    pub fn take_private(&mut self, blocks: u32) -> bool {
        if blocks <= self.free() {
            self.resident += blocks;
            return true;
        }
        let claims = self.claims;
        let taken = self.acquire(&[], 0, blocks, &mut Vec::new());
        // Those who take them together ask again one by one.
        self.claims = claims;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Home = Home::Node(0);

    /// A pool in which a request computed blocks `0..blocks` of the node and left.
    fn pool_with(capacity: u32, blocks: u32) -> KvPool {
        let mut pool = KvPool::new(capacity, 2);
        assert!(pool.take_private(blocks));
        let held = pool.register(NODE, 0, blocks);
        pool.release(held);
        pool
    }

    fn found(pool: &KvPool, blocks: u32) -> Vec<Hit> {
        let mut hits = Vec::new();
        pool.find(NODE, 0, blocks, &mut hits);
        hits
    }

    fn resident(pool: &KvPool, blocks: u32) -> u32 {
        found(pool, blocks).into_iter().map(Hit::blocks).sum()
    }

    #[test]
    fn the_deepest_block_of_a_released_prompt_is_evicted_first() {
        let mut pool = pool_with(8, 8);
        assert!(pool.take_private(3));
        assert_eq!(resident(&pool, 8), 5);
        assert_eq!((pool.active(), pool.cached(), pool.free()), (3, 5, 0));
    }

    #[test]
    fn a_shorter_prompt_takes_a_part_and_the_rest_stays_evictable() {
        let mut pool = pool_with(8, 8);
        let mut held = Vec::new();
        assert!(pool.acquire(&found(&pool, 8), 3, 0, &mut held));
        assert_eq!((pool.active(), pool.cached()), (3, 5));
        assert!(!pool.acquire(&[], 0, 6, &mut Vec::new()), "owned blocks are not evicted");
        assert!(pool.take_private(5));
        assert_eq!(resident(&pool, 8), 3);
        pool.release(held.remove(0));
        assert_eq!(pool.cached(), 3);
    }

    #[test]
    fn an_owner_of_the_whole_gives_everything_back_after_a_split() {
        let mut pool = KvPool::new(8, 1);
        assert!(pool.take_private(6));
        let whole = pool.register(NODE, 0, 6);
        let mut part = Vec::new();
        assert!(pool.acquire(&found(&pool, 6), 2, 0, &mut part));
        pool.release(whole);
        assert_eq!((pool.active(), pool.cached()), (2, 4));
        pool.release(part.remove(0));
        assert_eq!((pool.active(), pool.cached()), (0, 6));
        // Released later, so evicted later, although they come first in the prompt.
        assert!(pool.take_private(6));
        assert_eq!(resident(&pool, 6), 2);
    }

    #[test]
    fn of_two_copies_the_one_registered_first_is_found() {
        let mut pool = pool_with(16, 4);
        assert!(pool.take_private(4));
        let second = pool.register(NODE, 0, 4);
        assert!(found(&pool, 4).iter().all(|hit| !hit.is_active()), "the first copy has no owner");
        // Without the first copy the second is found.
        assert!(pool.take_private(12));
        assert!(found(&pool, 4).iter().all(|hit| hit.is_active()));
        assert_eq!(resident(&pool, 4), 4);
        pool.release(second);
    }
}
