//! The fleet over time, as CSV.
//!
//! A sample is taken at 0 and at every multiple of the interval, until nothing is left to happen. Each sample gives one
//! row of scope `fleet` and one row per worker, of scope `prefill`, `decode` or `aggregated`:
//!
//! | column | in rows of | meaning |
//! |---|---|---|
//! | `time_s` | all | instant of the sample |
//! | `scope`, `worker`, `state` | all | what the row is about; a worker's stable id and `starting`, `active` or `draining` |
//! | `waiting`, `running` | all | requests in the schedulers (fleet: sum) |
//! | `busy` | all | workers with a forward pass in progress (worker: 0 or 1) |
//! | `kv_active_blocks`, `kv_cached_blocks`, `kv_free_blocks` | all | KV blocks in use or reserved, kept for reuse, free |
//! | `workers_starting`, `workers_active`, `workers_draining` | fleet | number of workers by state |
//! | `arrived`, `finished`, `in_handoff` | fleet | requests so far, so far, and right now |
//! | `requests_per_s`, `output_tokens_per_s` | fleet | requests completed and tokens given out since the sample before |
//! | `ttft_*`, `tpot_*`, `e2e_*` | fleet | percentiles over the requests completed since the sample before |
//!
//! A cell that does not apply is empty: `worker` of the fleet, rates and percentiles of the first sample, percentiles
//! of an interval in which no request completed.

use std::io;
use std::path::Path;

use crate::scenario::Role;
use crate::sim::Simulation;
use crate::sim::metrics::{Outcome, RequestRecord, Snapshot, WorkerSnapshot, WorkerState};
use crate::time::{SimDuration, SimTime};

use super::file::{WriteError, write_atomically};
use super::stats::Summary;
use super::summary::{Latencies, counts};

/// Rows a recording may have; more would not fit the memory of a small machine.
pub const MAX_ROWS: u64 = 10_000_000;

const HEADER: [&str; 27] = [
    "time_s",
    "scope",
    "worker",
    "state",
    "waiting",
    "running",
    "busy",
    "kv_active_blocks",
    "kv_cached_blocks",
    "kv_free_blocks",
    "workers_starting",
    "workers_active",
    "workers_draining",
    "arrived",
    "finished",
    "in_handoff",
    "requests_per_s",
    "output_tokens_per_s",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p99_ms",
    "tpot_p50_ms",
    "tpot_p90_ms",
    "tpot_p99_ms",
    "e2e_p50_ms",
    "e2e_p90_ms",
    "e2e_p99_ms",
];
/// Columns that only fleet rows fill.
const FLEET_ONLY: usize = 17;

/// A time series that cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeseriesError {
    /// The interval is empty.
    #[error("the interval of a time series must be longer than 0")]
    NoInterval,
    /// The interval is too short for the length of the run.
    #[error(
        "a sample every {} s gives more than {MAX_ROWS} rows before the run ends (at {} s so far); use a longer interval",
        seconds(interval.as_nanos()),
        seconds(at.as_nanos())
    )]
    TooManyRows {
        /// The interval asked for.
        interval: SimDuration,
        /// The instant at which the limit was reached.
        at: SimTime,
    },
}

/// Samples a simulation while driving it.
#[derive(Debug, Clone)]
pub struct Recorder {
    interval: SimDuration,
    rows: u64,
    samples: Vec<Snapshot>,
}

impl Recorder {
    /// A recorder with a sample every `interval`.
    ///
    /// # Errors
    /// When the interval is 0.
    pub fn new(interval: SimDuration) -> Result<Self, TimeseriesError> {
        if interval.is_zero() {
            return Err(TimeseriesError::NoInterval);
        }
        Ok(Self { interval, rows: 0, samples: Vec::new() })
    }

    /// Runs `simulation` to its end, sampling on the way. The simulation is left ready to finish.
    ///
    /// # Errors
    /// When the recording would exceed [`MAX_ROWS`].
    pub fn run(&mut self, simulation: &mut Simulation) -> Result<(), TimeseriesError> {
        let mut at = SimTime::ZERO;
        loop {
            simulation.run_until(at);
            self.sample(Snapshot { at, ..simulation.snapshot() })?;
            if simulation.next_event().is_none() {
                return Ok(());
            }
            at += self.interval;
        }
    }

    /// Adds a sample; [`Self::run`] does this at every interval.
    ///
    /// # Errors
    /// When the recording would exceed [`MAX_ROWS`].
    pub fn sample(&mut self, snapshot: Snapshot) -> Result<(), TimeseriesError> {
        self.rows += 1 + snapshot.workers.len() as u64;
        if self.rows > MAX_ROWS {
            return Err(TimeseriesError::TooManyRows { interval: self.interval, at: snapshot.at });
        }
        self.samples.push(snapshot);
        Ok(())
    }

    /// Writes the series to a file that is complete or absent. Latencies come from the outcome of the same run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path, outcome: &Outcome) -> Result<(), WriteError> {
        write_atomically(path, |out| self.write_csv(out, outcome))
    }

    /// Writes the series.
    ///
    /// # Errors
    /// When `out` refuses it.
    pub fn write_csv(&self, out: &mut dyn io::Write, outcome: &Outcome) -> io::Result<()> {
        let mut completed: Vec<(SimTime, &RequestRecord)> =
            outcome.records.iter().filter(|r| counts(r)).filter_map(|r| Some((r.terminal?, r))).collect();
        completed.sort_unstable_by_key(|(end, record)| (*end, record.request));
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(HEADER)?;
        let mut done = 0;
        for (index, sample) in self.samples.iter().enumerate() {
            let before = index.checked_sub(1).map(|previous| &self.samples[previous]);
            let mut since = &completed[..0];
            // A pass without duration may complete at the very start; it belongs to the first interval.
            if before.is_some() {
                let end = done + completed[done..].partition_point(|(end, _)| *end <= sample.at);
                since = &completed[done..end];
                done = end;
            }
            csv.write_record(fleet_row(sample, before, since))?;
            for worker in &sample.workers {
                csv.write_record(worker_row(sample.at, worker))?;
            }
        }
        csv.flush()
    }
}

fn fleet_row(sample: &Snapshot, before: Option<&Snapshot>, since: &[(SimTime, &RequestRecord)]) -> Vec<String> {
    let workers = &sample.workers;
    let sum = |of: fn(&WorkerSnapshot) -> u64| workers.iter().map(of).sum::<u64>().to_string();
    let in_state = |state| workers.iter().filter(|w| w.state == state).count().to_string();
    let mut row = vec![seconds(sample.at.as_nanos()), "fleet".to_owned(), String::new(), String::new()];
    row.extend([
        sum(|w| u64::from(w.waiting)),
        sum(|w| u64::from(w.running)),
        workers.iter().filter(|w| is_busy(w, sample.at)).count().to_string(),
        sum(|w| w.kv_active),
        sum(|w| w.kv_cached),
        sum(|w| w.kv_free),
        in_state(WorkerState::Starting),
        in_state(WorkerState::Active),
        in_state(WorkerState::Draining),
        sample.arrived.to_string(),
        sample.finished.to_string(),
        sample.in_handoff.to_string(),
    ]);
    let per_second = |count: u64| {
        let span = sample.at.since(before?.at);
        (!span.is_zero()).then(|| count as f64 / span.as_secs())
    };
    let tokens = before.map_or(0, |before| sample.output_tokens.saturating_sub(before.output_tokens));
    row.push(cell(per_second(since.len() as u64)));
    row.push(cell(per_second(tokens)));
    let latencies = Latencies::of(since.iter().map(|(_, record)| *record));
    for summary in [&latencies.ttft, &latencies.tpot, &latencies.e2e] {
        row.extend([50, 90, 99].map(|p| cell(percentile(summary, p))));
    }
    row
}

fn worker_row(at: SimTime, worker: &WorkerSnapshot) -> Vec<String> {
    let scope = match worker.role {
        Role::Aggregated => "aggregated",
        Role::Prefill => "prefill",
        Role::Decode => "decode",
    };
    let state = match worker.state {
        WorkerState::Starting => "starting",
        WorkerState::Active => "active",
        WorkerState::Draining => "draining",
    };
    let mut row = vec![seconds(at.as_nanos()), scope.to_owned(), worker.id.to_string(), state.to_owned()];
    row.extend([
        worker.waiting.to_string(),
        worker.running.to_string(),
        u8::from(is_busy(worker, at)).to_string(),
        worker.kv_active.to_string(),
        worker.kv_cached.to_string(),
        worker.kv_free.to_string(),
    ]);
    row.extend(std::iter::repeat_n(String::new(), FLEET_ONLY));
    row
}

/// Whether a pass is in progress: one that ends at the instant itself is over.
fn is_busy(worker: &WorkerSnapshot, at: SimTime) -> bool {
    worker.busy_until.is_some_and(|end| end > at)
}

fn percentile(summary: &Summary, p: u8) -> Option<f64> {
    (!summary.is_empty()).then(|| summary.percentile(p))
}

/// The shortest decimal that reads back as the same number; nothing for nothing.
fn cell(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Nanoseconds as seconds, exact, without trailing zeros.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
