//! Token times without storing tokens.
//!
//! A scheduler logs the end of every pass that emitted tokens. A request that takes part in consecutive passes needs only
//! the indices of the first and the last of them.

use crate::time::SimTime;

use super::gaps::GapCounts;
use super::scheduler::{Ended, EngineEvent};

/// The pass log is trimmed when it has grown this much beyond what is needed.
const LOG_SLACK: usize = 8_192;

/// A stretch of consecutive logged passes in which a request emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenSpan {
    /// Log index of its first pass.
    first: u64,
    /// Log index of its last pass.
    last: u64,
}

/// End times of the passes that emitted tokens.
#[derive(Debug, Clone, Default)]
struct PassLog {
    ends: Vec<u64>,
    /// Log index of the first end kept.
    base: u64,
}

impl PassLog {
    /// Adds a pass that ends at `ns`.
    fn push(&mut self, ns: u64) {
        self.ends.push(ns);
    }

    /// The last `n` ends.
    fn latest(&self, n: usize) -> &[u64] {
        &self.ends[self.ends.len().saturating_sub(n)..]
    }

    /// End of pass `index`.
    fn end(&self, index: u64) -> u64 {
        self.ends.get((index - self.base) as usize).copied().unwrap_or_default()
    }

    /// Number of ends kept.
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets passes before `index`.
    fn forget_before(&mut self, index: u64) {
        let n = (index.saturating_sub(self.base) as usize).min(self.ends.len());
        self.ends.drain(..n);
        self.base += n as u64;
    }

    /// Shortest and longest gap within each of `spans`, if any has two passes. Gaps between spans are the caller's.
    fn extremes(&self, spans: &[TokenSpan]) -> Option<(u64, u64)> {
        let mut extremes: Option<(u64, u64)> = None;
        for span in spans {
            let (from, to) = ((span.first - self.base) as usize, (span.last - self.base) as usize);
            if from >= to || to >= self.ends.len() {
                continue;
            }
            let (mut low, mut high) = (u64::MAX, 0);
            for pair in self.ends[from..=to].windows(2) {
                let gap = pair[1] - pair[0];
                (low, high) = (low.min(gap), high.max(gap));
            }
            extremes = Some(extremes.map_or((low, high), |(l, h)| (l.min(low), h.max(high))));
        }
        extremes
    }

    /// The gaps of a request that emitted in `spans`.
    fn gaps(&self, spans: &[TokenSpan], out: &mut Vec<(u64, u64)>) {
        let mut previous = None;
        for span in spans {
            for index in span.first..=span.last {
                let end = self.end(index);
                if let Some(before) = previous {
                    out.push((end - before, 1));
                }
                previous = Some(end);
            }
        }
    }
}

/// Tokens one request emitted at this scheduler.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    spans: Vec<TokenSpan>,
    /// Tokens emitted together with another one.
    burst_extra: u32,
    /// Tokens emitted in the last pass of the last stretch.
    burst: u32,
    /// Tokens in all.
    pub emitted: u32,
    /// When the first was emitted.
    pub first: Option<SimTime>,
    /// When the second was emitted.
    pub second: Option<SimTime>,
}

impl Trail {
    /// An empty trail that takes over the memory of this one.
    pub fn reuse(&mut self) -> Self {
        let mut spans = std::mem::take(&mut self.spans);
        spans.clear();
        Self { spans, ..Self::default() }
    }

    /// Step of the first token.
    pub fn begin(&self) -> Option<u64> {
        self.spans.first().map(|span| span.first)
    }

    /// Step of the last token.
    pub fn last_step(&self) -> Option<u64> {
        self.spans.last().map(|span| span.last)
    }

    /// Tokens emitted in `step`, which must be the last step there was.
    pub fn burst_of(&self, step: u64) -> u32 {
        if self.last_step() == Some(step) { self.burst } else { 0 }
    }

    /// Makes the tokens unheard of: their request did not complete.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.emitted = 0;
    }
}

/// A request in flight: its index, tokens emitted, and when the first, the second and the last of them were.
pub type TokensSoFar = (u32, u32, Option<SimTime>, Option<SimTime>, Option<SimTime>);

/// What explains the time since the step before to the members of the decode batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lap {
    /// A decode step at this KV occupancy, in units of the timer, and nothing else.
    Occupancy(u32),
    /// A decode step of a steady stretch; the next one will take about as long.
    Steady,
    /// Anything.
    Other,
}

/// What a scheduler emits: the ends of its emitting passes, the gaps between tokens, counts.
///
/// A *step* is a pass in which the scheduler emits; steps are numbered from 0. On a prefill worker of a disaggregated run
/// nothing is *visible*: steps pass, but no client sees a token and nothing is recorded.
#[derive(Debug, Default)]
pub struct TokenLog {
    visible: bool,
    /// Number of the next step.
    pub step: u64,
    /// Ends of all steps that are still referred to, if tokens are visible.
    log: PassLog,
    gaps: GapCounts,
    /// Steps of the steady stretch in progress, whose gaps are counted when it ends.
    steady: usize,
    /// Tokens emitted to clients.
    pub emitted: u64,
    /// Gaps of requests that failed after they had emitted.
    removed: Vec<(u64, u64)>,
    /// Length of the pass log at which it is trimmed next.
    limit: usize,
}

impl TokenLog {
    /// Nothing emitted so far. `ranging`: see [`GapCounts::new`].
    pub fn new(visible: bool, ranging: bool) -> Self {
        Self { visible, gaps: GapCounts::new(ranging), limit: LOG_SLACK, ..Self::default() }
    }

    /// Whether clients see the tokens.
    pub fn is_visible(&self) -> bool {
        self.visible
    }

    /// Token gaps so far.
    pub fn gaps(&self) -> &GapCounts {
        &self.gaps
    }

    /// Begins a step whose tokens come out at `end`; returns its number. The `members` of the decode batch emit one token
    /// each, as they did in the step before; `lap` explains the time since then. After the last steady step comes
    /// [`Self::end_stretch`].
    #[inline]
    pub fn begin_step(&mut self, end: SimTime, members: u32, lap: Lap) -> u64 {
        let step = self.step;
        self.step += 1;
        if self.visible {
            self.emitted += u64::from(members);
            if members > 0 {
                let members = u64::from(members);
                match lap {
                    Lap::Occupancy(units) => self.gaps.add_step(units, members),
                    Lap::Steady => self.steady += 1,
                    Lap::Other => self.gaps.add(end.as_nanos() - self.log.end(step - 1), members),
                }
            }
            self.log.push(end.as_nanos());
        }
        step
    }

    /// Begins a steady step for each of `ends`, one after the other; see [`Self::begin_step`].
    pub fn begin_steps(&mut self, ends: &[SimTime], members: u32) {
        self.step += ends.len() as u64;
        if self.visible {
            self.emitted += ends.len() as u64 * u64::from(members);
            self.steady += ends.len();
            self.log.ends.extend(ends.iter().map(|end| end.as_nanos()));
        }
    }

    /// Ends a stretch of steady steps with `members` in the decode batch.
    pub fn end_stretch(&mut self, members: u32) {
        let steady = std::mem::take(&mut self.steady);
        self.gaps.add_run(self.log.latest(steady + 1), u64::from(members));
    }

    /// End of a step; 0 if tokens are not visible.
    pub fn end(&self, step: u64) -> u64 {
        self.log.end(step)
    }

    /// Records one token of a request outside the decode batch; `before` is when its last token was emitted elsewhere.
    pub fn note(&mut self, trail: &mut Trail, before: Option<SimTime>, step: u64, end: SimTime) {
        trail.emitted += 1;
        if !self.visible {
            return;
        }
        self.emitted += 1;
        trail.burst += 1;
        let before = match trail.spans.last_mut() {
            Some(span) if span.last == step => {
                trail.burst_extra += 1;
                Some(end.as_nanos())
            }
            Some(span) => {
                let before = self.log.end(span.last);
                trail.burst = 1;
                if span.last + 1 == step {
                    span.last = step;
                } else {
                    trail.spans.push(TokenSpan { first: step, last: step });
                }
                Some(before)
            }
            None => {
                trail.burst = 1;
                trail.spans.push(TokenSpan { first: step, last: step });
                before.map(SimTime::as_nanos)
            }
        };
        if let Some(before) = before {
            self.gaps.add(end.as_nanos() - before, 1);
        }
        if trail.first.is_none() {
            trail.first = Some(end);
        } else if trail.second.is_none() {
            trail.second = Some(end);
        }
    }

    /// Adds the `tokens` tokens that a request emitted in the steps after `since` as a member of the decode batch.
    pub fn catch_up(&self, trail: &mut Trail, since: u64, tokens: u32) {
        trail.emitted += tokens;
        if self.visible
            && let Some(span) = trail.spans.last_mut()
        {
            span.last += u64::from(tokens);
            if tokens > 0 {
                trail.burst = 1;
            }
            if trail.second.is_none() && tokens > 0 {
                trail.second = Some(SimTime::from_nanos(self.log.end(since + 1)));
            }
        }
    }

    /// When a request emitted last.
    fn last(&self, trail: &Trail) -> Option<SimTime> {
        trail.spans.last().map(|span| SimTime::from_nanos(self.log.end(span.last)))
    }

    /// The end of a request as others are told; `before` is when it emitted last elsewhere.
    pub fn ended(&mut self, request: u32, how: Ended, trail: &Trail, before: Option<SimTime>) -> EngineEvent {
        if how == Ended::Completed && self.visible && !self.gaps.extremes_are_final() {
            self.note_extremes(trail, before);
        }
        let tokens = if self.visible { trail.emitted } else { 0 };
        EngineEvent::Ended { request, how, tokens, first: trail.first, second: trail.second, last: self.last(trail) }
    }

    /// Notes the shortest and longest gap of a request that completes.
    fn note_extremes(&mut self, trail: &Trail, before: Option<SimTime>) {
        let mut note = |low, high| self.gaps.note_extremes(low, high);
        if let Some((low, high)) = self.log.extremes(&trail.spans) {
            note(low, high);
        }
        for pair in trail.spans.windows(2) {
            let gap = self.log.end(pair[1].first) - self.log.end(pair[0].last);
            note(gap, gap);
        }
        if let (Some(before), Some(first)) = (before, trail.first) {
            let gap = first.as_nanos() - before.as_nanos();
            note(gap, gap);
        }
        if trail.burst_extra > 0 {
            note(0, 0);
        }
    }

    /// What a request in flight emitted so far.
    pub fn so_far(&self, request: u32, trail: &Trail) -> TokensSoFar {
        (request, trail.emitted, trail.first, trail.second, self.last(trail))
    }

    /// Whether it is time to [`Self::trim`].
    pub fn is_long(&self) -> bool {
        self.log.len() >= self.limit
    }

    /// Forgets step ends before `needed`, the first step that a request in flight refers to.
    pub fn trim(&mut self, needed: u64) {
        self.log.forget_before(needed.min(self.step.saturating_sub(1)));
        self.limit = self.log.len() * 2 + LOG_SLACK;
    }

    /// Takes the gaps of a request that will not complete out of the statistics.
    pub fn remove(&mut self, trail: &Trail, before: Option<SimTime>) {
        let mut gaps = std::mem::take(&mut self.removed);
        self.gaps_of(trail, before, &mut gaps);
        self.removed = gaps;
    }

    /// The gaps taken out.
    pub fn removed(&self) -> &[(u64, u64)] {
        &self.removed
    }

    /// Appends the gaps of a request, each with its count.
    pub fn gaps_of(&self, trail: &Trail, before: Option<SimTime>, gaps: &mut Vec<(u64, u64)>) {
        if trail.emitted == 0 || !self.visible {
            return;
        }
        if let (Some(before), Some(first)) = (before, trail.first) {
            gaps.push((first.as_nanos() - before.as_nanos(), 1));
        }
        self.log.gaps(&trail.spans, gaps);
        if trail.burst_extra > 0 {
            gaps.push((0, u64::from(trail.burst_extra)));
        }
    }
}
