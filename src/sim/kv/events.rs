//! What a worker tells a router about its cache: stretches of prompt blocks that were stored or removed.
//!
//! An engine notes events while it forms a pass and *publishes* them with the instant from which a router can see them:
//! vLLM-style engines at the start of the pass, engines with a radix cache at its end. Only blocks that a node of the
//! prompt index names are worth an event, for nobody can ask for others. A block that is resident more than once is
//! stored more than once and gone with its last copy.

use std::collections::VecDeque;

use crate::time::SimTime;

/// Blocks `lo..hi` of the sequences that pass through `node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRun {
    /// Node of the prompt index.
    pub node: u32,
    /// First block.
    pub lo: u32,
    /// One past the last block.
    pub hi: u32,
}

/// One change of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvEvent {
    /// One more copy of these blocks can be found.
    Stored(BlockRun),
    /// One copy less.
    Removed(BlockRun),
}

/// Events of one scheduler on their way to the router.
#[derive(Debug, Clone, Default)]
pub struct KvEvents {
    /// Whether anybody listens.
    wanted: bool,
    noted: Vec<KvEvent>,
    published: VecDeque<(SimTime, KvEvent)>,
}

impl KvEvents {
    /// Keeps events from now on.
    pub fn listen(&mut self) {
        self.wanted = true;
    }

    /// Notes that a copy of blocks became findable.
    pub fn stored(&mut self, run: BlockRun) {
        if self.wanted {
            self.noted.push(KvEvent::Stored(run));
        }
    }

    /// Notes that a copy of blocks is gone.
    pub fn removed(&mut self, run: BlockRun) {
        if self.wanted {
            self.noted.push(KvEvent::Removed(run));
        }
    }

    /// Lets a router see what was noted from `at` on. Instants must not descend.
    pub fn publish(&mut self, at: SimTime) {
        if !self.noted.is_empty() {
            self.published.extend(self.noted.drain(..).map(|event| (at, event)));
        }
    }

    /// Takes the oldest published event if `is_visible` says so of its instant.
    pub fn take_if(&mut self, is_visible: impl Fn(SimTime) -> bool) -> Option<KvEvent> {
        let (at, _) = self.published.front()?;
        if !is_visible(*at) {
            return None;
        }
        self.published.pop_front().map(|(_, event)| event)
    }
}
