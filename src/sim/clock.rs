//! The virtual clock and the agenda of what is due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bevy::prelude::*;

use crate::scenario::Role;
use crate::time::SimTime;

/// Where the run stands.
#[derive(Resource, Debug)]
pub struct VirtualClock {
    /// The instant being processed.
    pub now: SimTime,
    /// Nothing later than this may happen yet.
    pub limit: SimTime,
    /// Last instant at which anything happened.
    pub last_event: SimTime,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self { now: SimTime::ZERO, limit: SimTime::ZERO, last_event: SimTime::ZERO }
    }
}

/// Something due at a known time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A worker's forward pass ends.
    PassEnd(Entity),
    /// A KV transfer arrives.
    Transfer(u32),
    /// The next transfer over the link of a prefill worker arrives; moves when others join.
    Link(Entity),
    /// A copy between KV tiers of a worker ends; moves when others join.
    Copies(Entity),
    /// A copy over a link that the workers of a pool share ends; moves when others join.
    SharedCopies(Role),
    /// A worker has started.
    WorkerReady(Entity),
    /// The scaling script is consulted.
    ScalingTick,
}

impl Due {
    /// Scaling ticks come last at their instant.
    fn rank(self) -> u8 {
        u8::from(self == Self::ScalingTick)
    }

    /// Whether its time may change after it was entered.
    fn moves(self) -> bool {
        matches!(self, Self::Link(_) | Self::Copies(_) | Self::SharedCopies(_))
    }

    /// Whether a request moves on by it; a run is not over before.
    fn is_work(self) -> bool {
        matches!(self, Self::PassEnd(_) | Self::Transfer(_) | Self::Link(_))
    }
}

/// An entry taken out of the agenda, with its place in the order.
#[derive(Debug, Clone, Copy)]
pub struct Entry((SimTime, u8, u64, Slot));

/// What is due, ordered by time, scaling ticks last, then in the order in which it was entered.
#[derive(Resource, Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(SimTime, u8, u64, Slot)>>,
    entered: u64,
    work: usize,
    /// Sequence numbers of the entries that may move: an older entry of the same kind does not count.
    moving: BTreeMap<Due, (u64, SimTime)>,
}

/// Carries a [`Due`] through the heap without taking part in its order (the sequence number is unique).
#[derive(Debug, Clone, Copy)]
struct Slot(Due);

impl PartialEq for Slot {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Slot {}
impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Slot {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Agenda {
    /// Enters `due` at `at`.
    pub fn enter(&mut self, at: SimTime, due: Due) {
        self.work += usize::from(due.is_work());
        self.heap.push(Reverse((at, due.rank(), self.entered, Slot(due))));
        self.entered += 1;
    }

    /// Enters `due` at `at`, or nowhere, in place of the entry it has.
    pub fn move_to(&mut self, at: Option<SimTime>, due: Due) {
        if self.moving.get(&due).map(|(_, at)| *at) == at {
            return;
        }
        if self.moving.remove(&due).is_some() {
            self.work -= usize::from(due.is_work());
        }
        if let Some(at) = at {
            self.moving.insert(due, (self.entered, at));
            self.enter(at, due);
        }
        self.drop_moved();
    }

    /// Keeps entries that have moved away from the head.
    fn drop_moved(&mut self) {
        while let Some(Reverse((_, _, sequence, Slot(due)))) = self.heap.peek() {
            if !due.moves() || self.moving.get(due).is_some_and(|(current, _)| current == sequence) {
                return;
            }
            self.heap.pop();
        }
    }

    /// When anything but the end of a pass is due next.
    pub fn next_besides_passes(&self) -> Option<SimTime> {
        let others = self.heap.iter().filter(|Reverse((_, _, _, slot))| !matches!(slot.0, Due::PassEnd(_)));
        others.map(|Reverse((at, ..))| *at).min()
    }

    /// The next entry.
    pub fn peek(&self) -> Option<(SimTime, Due)> {
        self.heap.peek().map(|Reverse((at, _, _, slot))| (*at, slot.0))
    }

    /// Takes the next entry, whatever it is, for a caller that may [`Self::put_back`] it in its old place.
    pub fn take(&mut self) -> Option<Entry> {
        let Reverse(entry) = self.heap.pop()?;
        self.work -= usize::from(entry.3.0.is_work());
        self.drop_moved();
        Some(Entry(entry))
    }

    /// Undoes [`Self::take`].
    pub fn put_back(&mut self, entry: Entry) {
        self.work += usize::from(entry.0.3.0.is_work());
        self.heap.push(Reverse(entry.0));
    }

    /// Takes the next entry if it is due at `at` and `wanted`.
    pub fn take_if(&mut self, at: SimTime, wanted: impl Fn(Due) -> bool) -> Option<Due> {
        let (due_at, due) = self.peek()?;
        if due_at != at || !wanted(due) {
            return None;
        }
        self.heap.pop();
        self.work -= usize::from(due.is_work());
        if due.moves() {
            self.moving.remove(&due);
        }
        self.drop_moved();
        Some(due)
    }

    /// Whether KV is being copied between tiers, which a request may wait for.
    pub fn has_copies(&self) -> bool {
        self.moving.keys().any(|due| matches!(due, Due::Copies(_) | Due::SharedCopies(_)))
    }

    /// Whether anything that moves a request is due.
    pub fn has_work(&self) -> bool {
        self.work > 0
    }
}
