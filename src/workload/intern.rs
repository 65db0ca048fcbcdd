//! Renumbers hash ids in order of first appearance.

use std::collections::HashMap;

use super::content::NO_NODE;

/// Not seen yet.
const UNSEEN: u32 = u32::MAX;

/// Hash ids to consecutive numbers.
///
/// Published traces number their blocks from zero, so small ids use a table; ids that are real hashes use a map.
#[derive(Debug)]
pub(super) struct Interner {
    table: Vec<u32>,
    table_limit: u64,
    map: HashMap<u64, u32>,
    next: u32,
}

impl Interner {
    /// An interner whose table never exceeds `table_limit` entries. The size of the file in bytes is a good limit: the
    /// table then takes memory in proportion to the input, whatever the ids are.
    pub fn new(table_limit: usize) -> Self {
        Self { table: Vec::new(), table_limit: table_limit as u64, map: HashMap::new(), next: 0 }
    }

    /// The number of `id`, or nothing when the numbers are used up.
    pub fn number(&mut self, id: u64) -> Option<u32> {
        let mut next = self.next;
        let number = self.number_from(id, &mut next);
        self.next = next;
        number
    }

    /// The number of `id`, a new one being `next`, which several interners may share.
    pub fn number_from(&mut self, id: u64, next: &mut u32) -> Option<u32> {
        if id >= self.table_limit {
            if let Some(number) = self.map.get(&id) {
                return Some(*number);
            }
            let number = take(next)?;
            self.map.insert(id, number);
            return Some(number);
        }
        let index = id as usize;
        if index >= self.table.len() {
            self.table.resize(index + 1, UNSEEN);
        }
        let slot = self.table.get_mut(index)?;
        if *slot == UNSEEN {
            *slot = take(next)?;
        }
        Some(*slot)
    }

    /// How many different ids there were.
    pub fn len(&self) -> u32 {
        self.next
    }
}

fn take(next: &mut u32) -> Option<u32> {
    // The last number marks "no node" and "not seen".
    (*next < NO_NODE).then(|| {
        *next += 1;
        *next - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_first_appearance_in_table_and_map_alike() {
        let mut interner = Interner::new(10);
        let ids = [u64::MAX, 3, 10, 3, u64::MAX, 0, 9, 10];
        let numbers: Vec<_> = ids.iter().filter_map(|id| interner.number(*id)).collect();
        assert_eq!(numbers, [0, 1, 2, 1, 0, 3, 4, 2]);
        assert_eq!(interner.len(), 5);
    }
}
