//! When requests come.

use std::ops::AddAssign;

use serde::Serialize;

use crate::workload::graph::Graph;
use crate::workload::{Release, Workload};

use super::lengths::Distribution;

/// When every request arrives if serving took no time: what a trace with timestamps says, and for a turn that waits
/// for the one before, the earliest it can be.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Per request, nanoseconds; nothing when the trace has no arrival times.
    pub times: Option<Vec<u64>>,
    /// Indices of requests in the order of arrival, ties in the order of the trace.
    pub order: Vec<u32>,
}

impl Schedule {
    pub fn of(workload: &Workload) -> Self {
        let mut times: Vec<u64> = workload.requests.iter().map(|r| r.arrival.as_nanos()).collect();
        let mut order: Vec<u32> = (0..).take(times.len()).collect();
        let closed = match &workload.release {
            Release::Flat => false,
            Release::Sessions { concurrency, .. } => concurrency.is_some(),
            Release::Graph(graph) => graph.closed.is_some(),
        };
        if closed || !workload.timed {
            return Self { times: None, order };
        }
        match &workload.release {
            Release::Flat => {}
            Release::Sessions { sessions, .. } => {
                for session in sessions {
                    for index in session.first + 1..session.first + session.turns {
                        wait(workload, &mut times, index, &[index - 1]);
                    }
                }
            }
            Release::Graph(graph) => {
                for request in in_order_of_waiting(graph) {
                    let others = graph.waits_for.of(request);
                    if !others.is_empty() {
                        wait(workload, &mut times, request, others);
                    }
                }
            }
        }
        order.sort_by_key(|index| times.get(*index as usize).copied());
        Self { times: Some(times), order }
    }
}

/// Sets the time of a request that waits for others: its delay after the last of them.
fn wait(workload: &Workload, times: &mut [u64], request: u32, others: &[u32]) {
    let last = others.iter().filter_map(|other| times.get(*other as usize)).max().copied().unwrap_or(0);
    let delay = workload.requests.get(request as usize).map_or(0, |r| r.delay.as_nanos());
    if let Some(time) = times.get_mut(request as usize) {
        *time = last.saturating_add(delay);
    }
}

/// Requests such that each comes after those that it waits for.
fn in_order_of_waiting(graph: &Graph) -> Vec<u32> {
    let followers = graph.waits_for.reversed();
    let mut missing: Vec<usize> = (0..).take(graph.waits_for.len()).map(|r| graph.waits_for.of(r).len()).collect();
    let mut order: Vec<u32> = (0..).zip(&missing).filter(|(_, n)| **n == 0).map(|(request, _)| request).collect();
    let mut next = 0;
    while let Some(request) = order.get(next).copied() {
        next += 1;
        for follower in followers.of(request) {
            if let Some(count) = missing.get_mut(*follower as usize) {
                *count -= 1;
                if *count == 0 {
                    order.push(*follower);
                }
            }
        }
    }
    order
}

/// A point process: how many, how fast, how unevenly.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Arrivals {
    /// Seconds from the first arrival to the last.
    pub duration_s: f64,
    /// Mean rate: gaps over duration; 0 when all arrive at once.
    pub mean_per_s: f64,
    /// Gaps between one arrival and the next, milliseconds.
    pub gaps_ms: Distribution,
    /// Coefficient of variation of the gaps: 0 evenly spaced, 1 as a Poisson process, above 1 in bursts.
    pub gap_cv: f64,
    /// Seconds per window of the figures below.
    pub window_s: f64,
    /// Rate of the busiest window.
    pub peak_per_s: f64,
    /// Begin of the busiest window, seconds after the first arrival.
    pub peak_at_s: f64,
    /// Peak over mean; 0 when there is no mean.
    pub peak_to_mean: f64,
    /// Counts over time.
    pub windows: Vec<Window>,
}

/// What arrives in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Window {
    /// Arrivals.
    pub count: u64,
    /// Prompt tokens of them.
    pub prompt_tokens: u64,
    /// Output tokens of them.
    pub output_tokens: u64,
    /// Prompt blocks of them.
    pub prompt_blocks: u64,
    /// Prompt blocks of them that an earlier request has used too.
    pub repeated_blocks: u64,
}

impl Window {
    /// One request.
    pub(super) fn of(prompt_tokens: u32, output_tokens: u32, prompt_blocks: u32, repeated_blocks: u32) -> Self {
        Self {
            count: 1,
            prompt_tokens: prompt_tokens.into(),
            output_tokens: output_tokens.into(),
            prompt_blocks: prompt_blocks.into(),
            repeated_blocks: repeated_blocks.into(),
        }
    }
}

impl AddAssign for Window {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.prompt_tokens += other.prompt_tokens;
        self.output_tokens += other.output_tokens;
        self.prompt_blocks += other.prompt_blocks;
        self.repeated_blocks += other.repeated_blocks;
    }
}

/// About so many windows are made unless their length is given.
const WINDOWS: f64 = 120.0;
/// More would be noise in any picture, and a hostile trace must not fill the memory.
const MAX_WINDOWS: f64 = 100_000.0;

impl Arrivals {
    /// Of times in nanoseconds, ascending, and what arrives at each.
    pub(super) fn of(arrivals: &[(u64, Window)], window_s: Option<f64>) -> Self {
        let (Some((first, _)), Some((last, _))) = (arrivals.first(), arrivals.last()) else { return Self::default() };
        let duration_s = (last - first) as f64 / 1e9;
        let gaps: Vec<f64> =
            arrivals.windows(2).filter_map(|w| Some((w.last()?.0 - w.first()?.0) as f64 / 1e6)).collect();
        let gaps_ms = Distribution::of(gaps);
        let mean_per_s = if duration_s > 0.0 { gaps_ms.count as f64 / duration_s } else { 0.0 };
        let window_s =
            window_s.unwrap_or_else(|| round_step(duration_s / WINDOWS)).max(duration_s / MAX_WINDOWS).max(1e-9);
        let mut windows = vec![Window::default(); (duration_s / window_s) as usize + 1];
        for (time, arriving) in arrivals {
            let index = ((time - first) as f64 / 1e9 / window_s) as usize;
            if let Some(window) = windows.get_mut(index) {
                *window += *arriving;
            }
        }
        let peak = windows.iter().enumerate().max_by_key(|(index, window)| (window.count, std::cmp::Reverse(*index)));
        let (at, most) = peak.map_or((0, 0), |(index, window)| (index, window.count));
        let peak_per_s = most as f64 / window_s;
        Self {
            duration_s,
            mean_per_s,
            gap_cv: gaps_ms.cv(),
            gaps_ms,
            window_s,
            peak_per_s,
            peak_at_s: at as f64 * window_s,
            peak_to_mean: if mean_per_s > 0.0 { peak_per_s / mean_per_s } else { 0.0 },
            windows,
        }
    }
}

/// The next round number of seconds: 1, 2 or 5 times a power of ten up to a second, then parts of minutes and hours.
fn round_step(seconds: f64) -> f64 {
    const LONG: [f64; 16] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0,
        43_200.0,
    ];
    if let (true, Some(step)) = (seconds > 0.5, LONG.into_iter().find(|step| *step >= seconds)) {
        return step;
    }
    if seconds > 0.5 {
        // Whole days.
        return (seconds / 86_400.0).ceil() * 86_400.0;
    }
    let decade = 10_f64.powf(seconds.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|step| *step >= seconds).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_round_lengths() {
        for (seconds, step) in
            [(0.013, 0.02), (0.05, 0.05), (0.3, 0.5), (0.7, 1.0), (29.5, 30.0), (50_000.0, 86_400.0), (9e4, 172_800.0)]
        {
            assert!((round_step(seconds) - step).abs() < 1e-12, "{seconds}: {}", round_step(seconds));
        }
    }

    #[test]
    fn even_gaps_have_no_variation_and_no_peak() {
        let arrivals: Vec<_> = (0..1_001).map(|i| (i * 100_000_000, Window::of(10, 1, 1, 0))).collect();
        let a = Arrivals::of(&arrivals, Some(10.0));
        assert_eq!((a.duration_s, a.mean_per_s, a.gap_cv), (100.0, 10.0, 0.0));
        assert_eq!((a.windows.len(), a.peak_per_s, a.peak_to_mean), (11, 10.0, 1.0));
        assert_eq!(a.windows.iter().map(|w| w.prompt_tokens).sum::<u64>(), 10_010);
    }

    #[test]
    fn everything_at_once_has_no_rate() {
        let a = Arrivals::of(&[(5, Window::of(1, 1, 1, 1)); 3], None);
        assert_eq!((a.duration_s, a.mean_per_s, a.gap_cv, a.peak_to_mean), (0.0, 0.0, 0.0, 0.0));
        assert_eq!((a.windows.len(), a.windows[0].count, a.windows[0].repeated_blocks), (1, 3, 3));
    }
}
