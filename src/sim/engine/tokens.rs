//! Token times without storing tokens.
//!
//! A scheduler logs the end of every pass that emitted tokens. A request that takes part in consecutive passes needs only
//! the indices of the first and the last of them.

use std::collections::VecDeque;

/// A stretch of consecutive logged passes in which a request emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpan {
    /// Log index of its first pass.
    pub first: u64,
    /// Log index of its last pass.
    pub last: u64,
}

/// End times of the passes that emitted tokens.
#[derive(Debug, Clone, Default)]
pub struct PassLog {
    ends: VecDeque<u64>,
    /// Log index of the first end kept.
    base: u64,
}

impl PassLog {
    /// Adds a pass that ends at `ns`; returns its index.
    pub fn push(&mut self, ns: u64) -> u64 {
        self.ends.push_back(ns);
        self.base + self.ends.len() as u64 - 1
    }

    /// End of pass `index`.
    pub fn end(&self, index: u64) -> u64 {
        self.ends.get((index - self.base) as usize).copied().unwrap_or_default()
    }

    /// Number of ends kept.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets passes before `index`.
    pub fn forget_before(&mut self, index: u64) {
        let n = (index.saturating_sub(self.base) as usize).min(self.ends.len());
        self.ends.drain(..n);
        self.base += n as u64;
    }

    /// Shortest and longest gap within each of `spans`, if any has two passes. Gaps between spans are the caller's.
    pub fn extremes(&self, spans: &[TokenSpan]) -> Option<(u64, u64)> {
        let mut extremes: Option<(u64, u64)> = None;
        for span in spans {
            let (from, to) = ((span.first - self.base) as usize, (span.last - self.base) as usize);
            if from >= to || to >= self.ends.len() {
                continue;
            }
            let ends = self.ends.range(from..=to);
            let gaps = ends.clone().skip(1).zip(ends).map(|(end, before)| end - before);
            let (low, high) = gaps.fold((u64::MAX, 0), |(low, high), gap| (low.min(gap), high.max(gap)));
            extremes = Some(extremes.map_or((low, high), |(l, h)| (l.min(low), h.max(high))));
        }
        extremes
    }

    /// The gaps of a request that emitted in `spans`.
    pub fn gaps(&self, spans: &[TokenSpan], out: &mut Vec<(u64, u64)>) {
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
