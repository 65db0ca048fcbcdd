//! What somebody who watches an engine from outside sees of its forward passes: the last one that is over.
//!
//! Passes are settled when they start, so the one in progress is kept apart from the one before until it ends.

use crate::time::{SimDuration, SimTime};

/// Requests that wait at an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queued {
    /// Requests that were never scheduled.
    pub prefills: u64,
    /// Their whole prompts, tokens.
    pub prefill_tokens: u64,
    /// Requests that gave way, or whose KV is on its way.
    pub decodes: u64,
    /// Their contexts, tokens.
    pub decode_tokens: u64,
}

impl Queued {
    /// Counts a waiting request of so many prompt and generated tokens.
    pub(super) fn count(&mut self, prompt: u32, generated: u32, is_new: bool) {
        if is_new {
            self.prefills += 1;
            self.prefill_tokens += u64::from(prompt);
        } else {
            self.decodes += 1;
            self.decode_tokens += u64::from(prompt) + u64::from(generated);
        }
    }
}

/// A forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassRecord {
    /// When it ends.
    pub end: SimTime,
    /// How long it takes.
    pub duration: SimDuration,
    /// Requests that compute prompt tokens.
    pub prefills: u64,
    /// Prompt tokens computed.
    pub prefill_tokens: u64,
    /// Prompt tokens of those requests that were there before.
    pub prefix_tokens: u64,
    /// Requests that decode.
    pub decodes: u64,
    /// Their contexts, tokens.
    pub decode_tokens: u64,
    /// Who waits once it is put together.
    pub queued: Queued,
    /// Tokens emitted so far, this pass included.
    pub emitted: u64,
    /// How often a request emitted anything in a pass so far, this pass included.
    pub forwards: u64,
}

/// The last passes of a scheduler, if anybody watches.
#[derive(Debug, Clone, Default)]
pub struct PassWatch {
    watched: bool,
    /// Over when the pass after it began.
    last: Option<PassRecord>,
    /// Perhaps in progress.
    latest: Option<PassRecord>,
    /// Being put together.
    pub(super) forming: PassRecord,
    forwards: u64,
    /// What names the state of the waiting queue that `queued` counts.
    queue: Option<(usize, u32, u32)>,
    queued: Queued,
    /// The last instants at which a pass began or ended, all different, the latest last.
    borders: [SimTime; 4],
}

impl PassWatch {
    /// Watches from now on.
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// Whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Who waits in a queue of this length with these requests at its ends; counted again when that changed.
    pub(super) fn queued(&mut self, queue: Option<(usize, u32, u32)>, count: impl FnOnce() -> Queued) -> Queued {
        if queue != self.queue {
            self.queued = if queue.is_some() { count() } else { Queued::default() };
            self.queue = queue;
        }
        self.queued
    }

    /// The pass being put together takes from `start` to `end`; `emitting` requests emit in it, `emitted` tokens are out
    /// by its end.
    pub(super) fn settle(&mut self, start: SimTime, end: SimTime, emitting: u64, emitted: u64) {
        self.forwards += emitting;
        let (duration, forwards) = (end - start, self.forwards);
        let record = PassRecord { end, duration, emitted, forwards, ..self.forming };
        self.last = self.latest.replace(record);
        for border in [start, end] {
            if border > self.borders[3] {
                self.borders.rotate_left(1);
                self.borders[3] = border;
            }
        }
    }

    /// The pass that was put together last; it may be in progress.
    pub fn latest(&self) -> Option<PassRecord> {
        self.latest
    }

    /// The last instant before `at` at which a pass began or ended.
    pub fn border_before(&self, at: SimTime) -> Option<SimTime> {
        self.borders.iter().rev().copied().find(|border| *border < at && *border > SimTime::ZERO)
    }

    /// Other ranks of the same worker run a pass from `start` to `end`; nothing waits here.
    pub fn pause(&mut self, start: SimTime, end: SimTime) {
        if self.watched {
            self.forming = PassRecord::default();
            let emitted = self.latest.map_or(0, |latest| latest.emitted);
            self.settle(start, end, 0, emitted);
        }
    }

    /// `passes` decode passes of the same `members` were run: the last but one began at the first of `times`, the last one
    /// at the second, and ends at the third. The contexts were `contexts` together before the first pass; `emitted` tokens
    /// are out after the last, and `queued` wait.
    pub(super) fn stretch(
        &mut self,
        passes: u64,
        times: (SimTime, SimTime, SimTime),
        members: u64,
        contexts: u64,
        emitted: u64,
        queued: Queued,
    ) {
        self.forwards += passes.saturating_sub(2) * members;
        let mut settle = |nth: u64, start: SimTime, end: SimTime| {
            self.forming = PassRecord {
                decodes: members,
                decode_tokens: contexts + nth * members,
                queued,
                ..PassRecord::default()
            };
            // A prefill worker gives nothing to clients.
            self.settle(start, end, members, emitted.saturating_sub((passes - 1 - nth) * members));
        };
        if passes > 1 {
            settle(passes - 2, times.0, times.1);
        }
        if passes > 0 {
            settle(passes - 1, times.1, times.2);
        }
    }

    /// The last pass that is over by `now`.
    pub fn seen(&self, now: SimTime) -> Option<PassRecord> {
        self.latest.filter(|record| record.end <= now).or(self.last.filter(|record| record.end <= now))
    }
}
