//! Round robin: workers in turn, and the ranks of each worker in turn. Load is ignored.

use crate::sim::metrics::WorkerState;
use crate::sim::worker::{Member, Pool};

/// Whose turn it is.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    /// Position among the active workers.
    cursor: usize,
    /// Next rank by worker number.
    ranks: Vec<u32>,
}

impl RoundRobin {
    /// The next worker among the active ones, at index `cursor mod n` in ascending order of number, and its next rank.
    pub fn next(&mut self, pool: &Pool) -> Option<(Member, u32)> {
        let mut active = pool.members.iter().filter(|m| m.state == WorkerState::Active);
        let n = active.clone().count();
        if n == 0 {
            return None;
        }
        let index = self.cursor % n;
        self.cursor = index + 1;
        let member = *active.nth(index)?;
        let ranks = pool.config.dp_size;
        if ranks == 1 {
            return Some((member, 0));
        }
        let worker = member.id as usize;
        if worker >= self.ranks.len() {
            self.ranks.resize(worker + 1, 0);
        }
        let rank = self.ranks[worker] % ranks;
        self.ranks[worker] = rank + 1;
        Some((member, rank))
    }
}
