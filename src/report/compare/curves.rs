//! What a run shows beyond its figures: latencies over percentiles, latencies and fleet over time.

use crate::report::stats::Summary;
use crate::report::summary::{Latencies, counts, is_good, token_span, tpot_ms};
use crate::scenario::{Role, Run, Topology};
use crate::sim::Simulation;
use crate::sim::metrics::{Outcome, RequestRecord, Snapshot, WorkerState};
use crate::time::{SimDuration, SimTime};

/// Samples of the fleet that are kept; a power of two, so that halving keeps the first and the last.
const MOST: usize = 512;
/// Time between two samples of a short run.
const SHORTEST: SimDuration = SimDuration::from_nanos(125_000_000);

/// The fleet at an instant. Pools: prefill, and decode or aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    ready: [u32; 2],
    /// Starting and draining ones included.
    workers: [u32; 2],
    output_tokens: u64,
}

impl Sample {
    fn of(snapshot: &Snapshot) -> Self {
        let (mut ready, mut workers) = ([0; 2], [0; 2]);
        for worker in &snapshot.workers {
            let pool = usize::from(worker.role != Role::Prefill);
            workers[pool] += 1;
            ready[pool] += u32::from(worker.state == WorkerState::Active);
        }
        Self { ready, workers, output_tokens: snapshot.output_tokens }
    }
}

/// Watches the fleet while driving a simulation, at an interval that grows with the length of the run: between 256 and 512
/// samples of a long one.
#[derive(Debug, Clone)]
pub struct FleetRecorder {
    interval: SimDuration,
    samples: Vec<Sample>,
}

impl Default for FleetRecorder {
    fn default() -> Self {
        Self { interval: SHORTEST, samples: Vec::new() }
    }
}

impl FleetRecorder {
    /// Runs `simulation` to its end, sampling on the way. The simulation is left ready to finish.
    pub fn run(&mut self, simulation: &mut Simulation) {
        let mut at = SimTime::ZERO;
        loop {
            simulation.run_until(at);
            self.samples.push(Sample::of(&simulation.snapshot()));
            if simulation.next_event().is_none() {
                return;
            }
            if self.samples.len() > MOST {
                self.halve();
            }
            at += self.interval;
        }
    }

    fn halve(&mut self) {
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            index % 2 == 1
        });
        self.interval = SimDuration::from_nanos(self.interval.as_nanos().saturating_mul(2));
    }
}

/// A request as plots need it.
#[derive(Debug, Clone, Copy)]
struct Served {
    arrival: SimTime,
    end: SimTime,
    ttft_nanos: Option<u64>,
    tpot_ms: Option<f64>,
    good: bool,
}

/// Latencies over percentiles, latencies and fleet over time.
#[derive(Debug, Clone)]
pub struct Curves {
    interval: SimDuration,
    samples: Vec<Sample>,
    /// GPUs of a worker, by pool.
    gpus: [u64; 2],
    pub(super) pools: Vec<(Role, usize)>,
    /// Percentiles 0 to 100, milliseconds.
    pub(super) ttft: Vec<f64>,
    pub(super) itl: Vec<f64>,
    requests: Vec<Served>,
    /// Whether there are bounds to be good by.
    pub(super) judged: bool,
}

/// Curves on two common time axes. Of requests and tokens value `k` is about the span that ends after `k` spans; of the
/// fleet it is the state after `k` intervals.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline {
    /// 90th percentile of TTFT, milliseconds, over the requests that arrived in the span.
    pub ttft_p90: Vec<Option<f64>>,
    /// The same of their mean inter-token latency.
    pub itl_p90: Vec<Option<f64>>,
    /// Output tokens per second.
    pub tokens: Vec<Option<f64>>,
    /// Requests per second that completed within all bounds.
    pub good: Vec<Option<f64>>,
    /// GPUs of all workers there are.
    pub gpus: Vec<Option<f64>>,
    /// Ready workers, by pool.
    pub ready: [Vec<Option<f64>>; 2],
}

impl Curves {
    /// What `recorder` and the outcome of the same run show.
    pub fn new(run: &Run, outcome: &Outcome, recorder: FleetRecorder) -> Self {
        let latencies = Latencies::of(outcome.records.iter().filter(|r| counts(r)));
        let (gpus, pools) = match &run.topology {
            Topology::Aggregated { engine, .. } => ([0, engine.gpus_per_worker()], vec![(Role::Aggregated, 1)]),
            Topology::Disaggregated { prefill, decode, .. } => {
                let gpus = [prefill.gpus_per_worker(), decode.gpus_per_worker()];
                (gpus, vec![(Role::Prefill, 0), (Role::Decode, 1)])
            }
        };
        let served = |record: &RequestRecord| Served {
            arrival: record.arrival,
            end: record.terminal.unwrap_or_default(),
            ttft_nanos: token_span(record).map(|(first, _)| first.since(record.arrival).as_nanos()),
            tpot_ms: tpot_ms(record),
            good: is_good(record, &run.sla),
        };
        Self {
            interval: recorder.interval,
            samples: recorder.samples,
            gpus,
            pools,
            ttft: percentiles(!latencies.ttft.is_empty(), |p| latencies.ttft.percentile(p)),
            itl: percentiles(outcome.itl.count() > 0, |p| outcome.itl.percentile(f64::from(p))),
            requests: outcome.records.iter().filter(|r| counts(r)).map(served).collect(),
            judged: run.sla.is_given(),
        }
    }

    /// The interval that fits all of these: the longest, of which every other is a part.
    pub(super) fn common_interval<'a>(all: impl Iterator<Item = &'a Self>) -> SimDuration {
        all.map(|curves| curves.interval).max().unwrap_or(SHORTEST)
    }

    /// Samples there are at `interval`.
    pub(super) fn len_at(&self, interval: SimDuration) -> usize {
        self.sampled(interval).len()
    }

    /// The samples at `interval`, a multiple of their own by a power of two.
    fn sampled(&self, interval: SimDuration) -> Vec<Sample> {
        let step = usize::try_from(interval.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(usize::MAX).max(1);
        let mut samples: Vec<Sample> = self.samples.iter().copied().step_by(step).collect();
        if self.samples.len() % step != 1 % step {
            // Nothing happens after the last sample.
            samples.extend(self.samples.last());
        }
        samples
    }

    /// The curves at `interval`, a multiple of their own by a power of two; requests and tokens over spans of `group`
    /// intervals, since short spans hold too few requests to tell a trend.
    pub(super) fn over_time(&self, interval: SimDuration, group: usize) -> Timeline {
        let samples = self.sampled(interval);
        let span = SimDuration::from_nanos(interval.as_nanos().saturating_mul(group as u64).max(1));
        let bins = samples.len().saturating_sub(1).div_ceil(group) + 1;
        let bin = |at: SimTime| {
            let index = at.as_nanos().div_ceil(span.as_nanos()).max(1);
            usize::try_from(index).unwrap_or(usize::MAX).min(bins - 1)
        };
        let (mut ttft, mut tpot, mut good) = (vec![Vec::new(); bins], vec![Vec::new(); bins], vec![0_u64; bins]);
        for request in &self.requests {
            ttft[bin(request.arrival)].extend(request.ttft_nanos);
            tpot[bin(request.arrival)].extend(request.tpot_ms);
            good[bin(request.end)] += u64::from(request.good);
        }
        let p90 = |summary: Summary| (!summary.is_empty()).then(|| summary.percentile(90));
        let per_second = |count: u64| count as f64 / span.as_secs();
        let rate = |counts: Vec<u64>| {
            counts.into_iter().enumerate().map(|(k, count)| (k > 0).then(|| per_second(count))).collect()
        };
        let so_far = |k: usize| samples.get(k * group).or(samples.last()).map_or(0, |sample| sample.output_tokens);
        let tokens = (0..bins).map(|k| so_far(k).saturating_sub(if k == 0 { 0 } else { so_far(k - 1) })).collect();
        let count = |of: &dyn Fn(&Sample) -> u64| samples.iter().map(|sample| Some(of(sample) as f64)).collect();
        Timeline {
            ttft_p90: ttft.into_iter().map(|values| p90(Summary::of_nanos(values))).collect(),
            itl_p90: tpot.into_iter().map(|values| p90(Summary::of_ms(values))).collect(),
            tokens: rate(tokens),
            good: if self.judged { rate(good) } else { Vec::new() },
            gpus: count(&|s| u64::from(s.workers[0]) * self.gpus[0] + u64::from(s.workers[1]) * self.gpus[1]),
            ready: [0, 1].map(|pool| count(&|s| u64::from(s.ready[pool]))),
        }
    }
}

fn percentiles(any: bool, of: impl Fn(u8) -> f64) -> Vec<f64> {
    if any { (0..=100).map(of).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_keeps_the_first_and_the_last_sample() {
        let sample = |n| Sample { ready: [0, n], workers: [0, n], output_tokens: 0 };
        let mut recorder = FleetRecorder { interval: SHORTEST, samples: (0..=MOST as u32).map(sample).collect() };
        recorder.halve();
        assert_eq!(recorder.samples.len(), MOST / 2 + 1);
        assert_eq!(recorder.samples.last().map(|s| s.ready[1]), Some(MOST as u32));
        assert_eq!(recorder.interval, SimDuration::from_nanos(250_000_000));
    }
}
