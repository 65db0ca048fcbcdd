//! Simple rules to compare a router with. They are no part of the reference.
//!
//! | `router-mode` | where a request goes |
//! |---|---|
//! | `random` | to any worker, each equally likely |
//! | `least_loaded` | to the worker with the fewest requests in flight |
//! | `power_of_two` | two different workers are drawn, each pair equally likely; the one with fewer requests in flight |
//! | `session_affinity` | where the session's turns before went; a session's first turn, and a request without a session, to the next worker in turn |
//!
//! A *worker* here is a data-parallel rank where workers have several. Only active workers are chosen: a session whose
//! worker is draining or gone moves to the next one in turn and stays there. *In flight* are the requests that the router
//! sent to a worker and has not heard the end of (`router-load-delay-ms` makes it hear later); on a prefill worker a
//! request ends when its hand-off is over, and a prefill and a decode pool each have a router of their own. Equal numbers
//! are a tie (`router-ties`).

use std::collections::HashMap;

use super::Target;
use super::draws::Draws;

/// Requests in flight by rank.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    ranks: Vec<u32>,
    sent: HashMap<u32, u32>,
    /// Of the targets of the last choice.
    pub counts: Vec<u32>,
    /// Indices of the targets drawn last.
    pub pair: [usize; 2],
}

impl InFlight {
    fn count(&mut self, targets: &[Target]) {
        self.counts.clear();
        self.counts.extend(targets.iter().map(|t| self.ranks.get(t.number as usize).copied().unwrap_or(0)));
    }

    /// The target with the fewest requests, and how many have as few.
    pub fn least(&mut self, targets: &[Target], draws: &mut Draws) -> (usize, u32) {
        self.count(targets);
        let least = self.counts.iter().min().copied().unwrap_or(0);
        let tied = self.counts.iter().filter(|count| **count == least).count();
        let nth = draws.tie(tied);
        let index = (0..).zip(&self.counts).filter(|(_, count)| **count == least).nth(nth).map_or(0, |(i, _)| i);
        (index, tied as u32)
    }

    /// The better of two targets drawn at random, and how many of the two are as good.
    pub fn better_of_two(&mut self, targets: &[Target], draws: &mut Draws) -> (usize, u32) {
        self.count(targets);
        let one = draws.below(targets.len());
        let Some(others) = targets.len().checked_sub(1).filter(|others| *others > 0) else {
            self.pair = [one, one];
            return (one, 1);
        };
        let other = draws.below(others);
        let other = other + usize::from(other >= one);
        let (low, high) = (one.min(other), one.max(other));
        self.pair = [low, high];
        match self.counts[low].cmp(&self.counts[high]) {
            std::cmp::Ordering::Less => (low, 1),
            std::cmp::Ordering::Greater => (high, 1),
            std::cmp::Ordering::Equal => ([low, high][draws.tie(2)], 2),
        }
    }

    /// A request goes to `rank`.
    pub fn add(&mut self, request: u32, rank: u32) {
        let slot = rank as usize;
        if slot >= self.ranks.len() {
            self.ranks.resize(slot + 1, 0);
        }
        self.ranks[slot] += 1;
        self.sent.insert(request, rank);
    }

    /// A request is over.
    pub fn free(&mut self, request: u32) {
        if let Some(rank) = self.sent.remove(&request) {
            self.ranks[rank as usize] -= 1;
        }
    }
}
