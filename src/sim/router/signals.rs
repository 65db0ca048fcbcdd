//! What comes back from workers: prefills that are over and requests that ended. It may take a while to reach the router.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::time::{SimDuration, SimTime};

/// News of a request that a router sent to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Its prefill is over.
    PrefillDone(u32),
    /// It is over.
    Ended(u32),
}

/// Signals on their way to a router.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    delay: SimDuration,
    sent: u64,
    ready: VecDeque<Signal>,
    under_way: BinaryHeap<Reverse<(SimTime, u64, Signal)>>,
}

impl Signals {
    /// Signals that take `delay` to arrive.
    pub fn new(delay: SimDuration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A worker sends `signal` at `at`.
    pub fn send(&mut self, at: SimTime, signal: Signal) {
        if self.delay.is_zero() {
            self.ready.push_back(signal);
            return;
        }
        self.under_way.push(Reverse((at.saturating_add(self.delay), self.sent, signal)));
        self.sent += 1;
    }

    /// When the next one of those that take a while arrives.
    pub fn next(&self) -> Option<SimTime> {
        self.under_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next one that has arrived by `now`.
    pub fn take(&mut self, now: SimTime) -> Option<Signal> {
        if let Some(signal) = self.ready.pop_front() {
            return Some(signal);
        }
        if self.next()? > now {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, signal))| signal)
    }
}
