//! The blocks in one tier: found by name, the least recently used gone first.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A block by the node of the prompt index that names it and its place in the sequence; content that nobody can ask for
/// has a name that occurs once.
pub type BlockKey = (u32, u32);

/// Places for blocks, each free, promised to a block on its way, or taken.
#[derive(Debug, Clone, Default)]
pub struct Store {
    capacity: usize,
    /// When each block was used last.
    used: HashMap<BlockKey, u64>,
    /// The same by time.
    order: BTreeMap<u64, BlockKey>,
    coming: HashSet<BlockKey>,
    clock: u64,
}

impl Store {
    /// An empty tier of `capacity` blocks.
    pub fn new(capacity: u64) -> Self {
        Self { capacity: usize::try_from(capacity).unwrap_or(usize::MAX), ..Self::default() }
    }

    /// Whether the block can be read.
    pub fn has(&self, key: BlockKey) -> bool {
        self.used.contains_key(&key)
    }

    /// Whether the block is there or on its way.
    pub fn knows(&self, key: BlockKey) -> bool {
        self.has(key) || self.coming.contains(&key)
    }

    /// Blocks that can be read.
    pub fn blocks(&self) -> u64 {
        self.used.len() as u64
    }

    /// Promises a place to a block that is not known yet, dropping the block used least recently if need be. Returns
    /// whether there was one: places that are promised are not given away.
    pub fn expect(&mut self, key: BlockKey) -> bool {
        if self.used.len() + self.coming.len() >= self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { return false };
            self.used.remove(&oldest);
        }
        self.coming.insert(key)
    }

    /// The block is there, if it was expected.
    pub fn arrive(&mut self, key: BlockKey) {
        if self.coming.remove(&key) {
            self.stamp(key);
        }
    }

    /// The block, if it is there, was used just now.
    pub fn touch(&mut self, key: BlockKey) {
        if let Some(old) = self.used.get(&key) {
            self.order.remove(old);
            self.stamp(key);
        }
    }

    fn stamp(&mut self, key: BlockKey) {
        self.used.insert(key, self.clock);
        self.order.insert(self.clock, key);
        self.clock += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_used_least_recently_makes_room_and_promised_places_do_not() {
        let mut store = Store::new(2);
        for block in [0, 1] {
            assert!(store.expect((7, block)));
            assert!(store.knows((7, block)) && !store.has((7, block)));
        }
        assert!(!store.expect((7, 2)), "both places are promised");
        store.arrive((7, 0));
        store.arrive((7, 1));
        store.touch((7, 0));
        assert!(store.expect((7, 2)));
        assert!(store.has((7, 0)) && !store.knows((7, 1)));
        assert_eq!(store.blocks(), 1);
    }
}
