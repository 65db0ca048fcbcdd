//! Figures over the requests that ended so far, kept up to date as a simulation goes forward. They do not depend on how
//! often anybody looked.

use crate::report::{counts, is_good, token_span, tpot_ms};
use crate::scenario::Sla;
use crate::sim::metrics::RequestRecord;
use crate::time::SimTime;

use super::frame::RECENT_ARRIVALS;

/// Values in ascending order, to which more are added in lots.
#[derive(Debug, Clone, Default)]
struct Ascending(Vec<u64>);

impl Ascending {
    fn add(&mut self, mut more: Vec<u64>) {
        if more.is_empty() {
            return;
        }
        more.sort_unstable();
        let mut merged = Vec::with_capacity(self.0.len() + more.len());
        let mut old = std::mem::take(&mut self.0).into_iter().peekable();
        for value in more {
            while let Some(before) = old.next_if(|before| *before <= value) {
                merged.push(before);
            }
            merged.push(value);
        }
        merged.extend(old);
        self.0 = merged;
    }

    /// Percentile by the nearest rank, as in the report.
    fn percentile(&self, p: u8) -> Option<u64> {
        let last = self.0.len().checked_sub(1)?;
        let rank = (last as u128 * u128::from(p) + 50) / 100;
        self.0.get(rank as usize).copied()
    }

    fn count_after(&self, bound: u64) -> usize {
        self.0.len() - self.0.partition_point(|value| *value <= bound)
    }
}

/// What is known of the requests that ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    seen: usize,
    /// Nanoseconds.
    ttft: Ascending,
    /// Picoseconds: mean gaps are no whole nanoseconds.
    itl: Ascending,
    /// Nanoseconds.
    arrivals: Ascending,
    /// The last arrivals, newest first.
    newest: Vec<RequestRecord>,
    completed: u32,
    good: u32,
}

/// Newest first; of those that came together, the one listed later in the workload.
pub(super) fn by_arrival(a: &RequestRecord, b: &RequestRecord) -> std::cmp::Ordering {
    (b.arrival, b.request).cmp(&(a.arrival, a.request))
}

impl Tally {
    /// Takes note of what ended since it looked last; `ended` only ever grows.
    pub(super) fn update(&mut self, ended: &[RequestRecord], sla_of: impl Fn(&RequestRecord) -> Sla) {
        let fresh = ended.get(self.seen..).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        self.seen = ended.len();
        let counted = || fresh.iter().filter(|record| counts(record));
        let ttft = counted().filter_map(|r| token_span(r).map(|(first, _)| first.since(r.arrival).as_nanos()));
        self.ttft.add(ttft.collect());
        self.itl.add(counted().filter_map(|r| tpot_ms(r).map(|ms| (ms * 1e9).round() as u64)).collect());
        self.arrivals.add(fresh.iter().map(|r| r.arrival.as_nanos()).collect());
        self.completed += counted().count() as u32;
        self.good += counted().filter(|r| is_good(r, &sla_of(r))).count() as u32;
        let oldest = self.newest.last().filter(|_| self.newest.len() == RECENT_ARRIVALS).map(|r| r.arrival);
        self.newest.extend(fresh.iter().filter(|r| oldest.is_none_or(|oldest| r.arrival >= oldest)));
        self.newest.sort_unstable_by(by_arrival);
        self.newest.truncate(RECENT_ARRIVALS);
    }

    /// Requests that completed, and those of them that met the SLA.
    pub(super) fn completed(&self) -> (u32, u32) {
        (self.completed, self.good)
    }

    /// Percentile of time to first token, milliseconds.
    pub(super) fn ttft_ms(&self, p: u8) -> Option<f64> {
        self.ttft.percentile(p).map(|ns| ns as f64 / 1e6)
    }

    /// Percentile of mean inter-token latency, milliseconds.
    pub(super) fn itl_ms(&self, p: u8) -> Option<f64> {
        self.itl.percentile(p).map(|ps| ps as f64 / 1e9)
    }

    /// How many of them arrived after `bound`.
    pub(super) fn arrived_after(&self, bound: SimTime) -> usize {
        self.arrivals.count_after(bound.as_nanos())
    }

    /// The last arrivals among them, newest first.
    pub(super) fn newest(&self) -> &[RequestRecord] {
        &self.newest
    }
}
