//! The time line of a whole run: what happened in each of up to a thousand or so equal spans.

use crate::report::{counts, is_good, token_span, tpot_ms};
use crate::scenario::{Role, Run};
use crate::sim::Simulation;
use crate::sim::metrics::{RequestRecord, Snapshot, WorkerState};
use crate::time::{SimDuration, SimTime};

use super::extract::sla_at;
use super::notes;

/// Most buckets of a track; when there would be more, each becomes twice as wide.
pub const MAX_BUCKETS: usize = 1_024;
/// The narrowest bucket, 50 ms.
const NARROWEST: u64 = 50_000_000;

/// A run in equal spans of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Track {
    /// How wide a bucket is. Bucket `k` covers what comes after `k` times that, up to and including `k + 1` times that;
    /// the first one also covers the start.
    pub width: SimDuration,
    /// What happened, bucket by bucket.
    pub buckets: Vec<Bucket>,
    /// What stands out, oldest first.
    pub markers: Vec<Marker>,
    /// Up to where the run is known.
    pub reached: SimTime,
    /// The end of the run, once it is known.
    pub end: Option<SimTime>,
}

/// A span of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bucket {
    /// Requests that arrived.
    pub arrivals: u32,
    /// Requests that completed.
    pub completed: u32,
    /// Of those, how many missed the SLA.
    pub missed: u32,
    /// Requests that were rejected or failed.
    pub lost: u32,
    /// Median time to first token of requests that completed and whose first token came here, milliseconds.
    pub ttft_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub ttft_p99_ms: Option<f64>,
    /// Median of the mean inter-token latencies of requests that completed here, milliseconds.
    pub itl_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub itl_p99_ms: Option<f64>,
    /// Output tokens emitted.
    pub output_tokens: u64,
    /// Requests in flight at the end of the bucket.
    pub in_flight: u32,
    /// Requests at the router at the end of the bucket.
    pub at_router: u32,
    /// The pools at the end of the bucket: the aggregated one alone, or prefill first and decode second.
    pub pools: Vec<PoolSample>,
}

/// A pool at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolSample {
    /// Part it plays.
    pub role: Role,
    /// Workers that are starting, active, draining.
    pub replicas: [u32; 3],
    /// Requests that wait in schedulers.
    pub waiting: u32,
    /// Requests in running batches.
    pub running: u32,
    /// Share of the KV blocks that are owned or promised, 0 to 1.
    pub kv_used: f32,
    /// Share of the KV blocks that are kept for reuse only, 0 to 1.
    pub kv_cached: f32,
}

/// What a marker stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MarkerKind {
    /// The number of replicas asked for changed.
    Scaling,
    /// A worker became ready, or was gone.
    Worker,
    /// A user intervened.
    Intervention,
}

/// Something that stands out.
#[derive(Debug, Clone, PartialEq)]
pub struct Marker {
    /// When.
    pub at: SimTime,
    /// What it stands for.
    pub kind: MarkerKind,
    /// Pool it concerns.
    pub role: Option<Role>,
    /// In one sentence.
    pub text: String,
    /// Replicas before and after, if those changed.
    pub change: Option<(u32, u32)>,
}

impl Track {
    /// The bucket that covers an instant.
    pub fn bucket_at(&self, at: SimTime) -> Option<usize> {
        let width = self.width.as_nanos();
        let index = at.as_nanos().saturating_sub(1).checked_div(width)? as usize;
        (index < self.buckets.len()).then_some(index)
    }

    /// The end of a bucket.
    pub fn end_of(&self, index: usize) -> SimTime {
        SimTime::from_nanos(self.width.as_nanos().saturating_mul(index as u64 + 1))
    }

    /// The end of the bucket with the most requests in flight, the first of several.
    pub fn busiest(&self) -> Option<SimTime> {
        let best = (0..self.buckets.len()).rev().max_by_key(|index| self.buckets[*index].in_flight)?;
        Some(self.end_of(best).min(self.end.unwrap_or(SimTime::MAX)))
    }
}

/// Fills a track while a simulation goes on.
#[derive(Debug)]
pub(super) struct TrackBuilder {
    width: u64,
    samples: Vec<Sample>,
    cells: Vec<Cell>,
    seen: usize,
}

/// The run at the end of a bucket.
#[derive(Debug, Clone)]
struct Sample {
    arrived: u32,
    finished: u32,
    output_tokens: u64,
    at_router: u32,
    pools: Vec<PoolSample>,
}

/// What ended in a bucket.
#[derive(Debug, Clone, Default)]
struct Cell {
    ttft: Vec<u64>,
    itl: Vec<f64>,
    completed: u32,
    missed: u32,
    lost: u32,
}

impl TrackBuilder {
    /// A track of a run whose last known arrival is at `span`.
    pub(super) fn new(span: SimTime) -> Self {
        let width = span.as_nanos().div_ceil(MAX_BUCKETS as u64 * 3 / 4).max(NARROWEST);
        Self { width: width.div_ceil(NARROWEST) * NARROWEST, samples: Vec::new(), cells: Vec::new(), seen: 0 }
    }

    /// The end of the bucket that is to be sampled next.
    pub(super) fn next(&self) -> SimTime {
        SimTime::from_nanos(self.width.saturating_mul(self.samples.len() as u64 + 1))
    }

    /// Samples a simulation that was run up to [`Self::next`].
    pub(super) fn sample(&mut self, run: &Run, simulation: &mut Simulation) {
        let snapshot = simulation.snapshot();
        self.samples.push(Sample {
            arrived: snapshot.arrived,
            finished: snapshot.finished,
            output_tokens: snapshot.output_tokens,
            at_router: simulation.waiting_at_router(),
            pools: pools(run, &snapshot),
        });
        let fresh = simulation.ended().get(self.seen..).unwrap_or_default();
        self.seen += fresh.len();
        for record in fresh {
            self.add(run, record);
        }
        if self.samples.len() >= MAX_BUCKETS {
            self.widen();
        }
    }

    fn cell(&mut self, at: SimTime) -> &mut Cell {
        let index = (at.as_nanos().saturating_sub(1) / self.width) as usize;
        // Where the simulation ran ahead of the track, the last bucket takes what comes later.
        let index = index.min(MAX_BUCKETS);
        if self.cells.len() <= index {
            self.cells.resize(index + 1, Cell::default());
        }
        &mut self.cells[index]
    }

    fn add(&mut self, run: &Run, record: &RequestRecord) {
        let Some(end) = record.terminal else { return };
        if !counts(record) {
            self.cell(end).lost += 1;
            return;
        }
        let sla = sla_at(run, record.arrival);
        let cell = self.cell(end);
        cell.completed += 1;
        cell.missed += u32::from(sla.is_given() && !is_good(record, &sla));
        cell.itl.extend(tpot_ms(record));
        if let Some((first, _)) = token_span(record) {
            self.cell(first).ttft.push(first.since(record.arrival).as_nanos());
        }
    }

    /// Makes every bucket twice as wide.
    fn widen(&mut self) {
        self.width = self.width.saturating_mul(2);
        self.samples = self.samples.chunks(2).filter_map(|pair| pair.get(1).cloned()).collect();
        let cells = std::mem::take(&mut self.cells);
        let mut cells = cells.into_iter();
        while let Some(mut cell) = cells.next() {
            if let Some(next) = cells.next() {
                cell.ttft.extend(next.ttft);
                cell.itl.extend(next.itl);
                cell.completed += next.completed;
                cell.missed += next.missed;
                cell.lost += next.lost;
            }
            self.cells.push(cell);
        }
    }

    /// The track so far; `end` is the end of the run, if that is known.
    pub(super) fn track(&self, run: &Run, simulation: Option<&Simulation>, end: Option<SimTime>) -> Track {
        let mut before: Option<&Sample> = None;
        let buckets = self.samples.iter().enumerate().map(|(index, sample)| {
            let since = |value: u32, of: fn(&Sample) -> u32| value.saturating_sub(before.map_or(0, of));
            let arrivals = since(sample.arrived, |sample| sample.arrived);
            let tokens = sample.output_tokens.saturating_sub(before.map_or(0, |sample| sample.output_tokens));
            before = Some(sample);
            bucket(sample, self.cells.get(index), arrivals, tokens)
        });
        let buckets: Vec<Bucket> = buckets.collect();
        let reached = SimTime::from_nanos(self.width.saturating_mul(buckets.len() as u64));
        let markers = simulation
            .map_or_else(Vec::new, |simulation| markers(run, simulation.decisions(), simulation.scaling_events()));
        Track { width: SimDuration::from_nanos(self.width), buckets, markers, reached: end.unwrap_or(reached), end }
    }
}

fn bucket(sample: &Sample, cell: Option<&Cell>, arrivals: u32, output_tokens: u64) -> Bucket {
    let empty = Cell::default();
    let cell = cell.unwrap_or(&empty);
    let (mut ttft, mut itl) = (cell.ttft.clone(), cell.itl.clone());
    ttft.sort_unstable();
    itl.sort_unstable_by(f64::total_cmp);
    let ttft = |p: u8| nearest_rank(&ttft, p).map(|ns| ns as f64 / 1e6);
    let itl = |p: u8| nearest_rank(&itl, p);
    Bucket {
        arrivals,
        completed: cell.completed,
        missed: cell.missed,
        lost: cell.lost,
        ttft_p50_ms: ttft(50),
        ttft_p99_ms: ttft(99),
        itl_p50_ms: itl(50),
        itl_p99_ms: itl(99),
        output_tokens,
        in_flight: sample.arrived - sample.finished,
        at_router: sample.at_router,
        pools: sample.pools.clone(),
    }
}

fn nearest_rank<T: Copy>(sorted: &[T], p: u8) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * usize::from(p) + 50) / 100).copied()
}

/// Changes of replicas as markers.
pub(super) fn markers(
    run: &Run,
    decisions: &[crate::sim::planner::Decision],
    events: &[crate::sim::metrics::ScalingEvent],
) -> Vec<Marker> {
    let notes = notes::between(run, decisions, events, None, SimTime::MAX).into_iter();
    let marker = |note: super::frame::Note| Marker {
        at: note.at,
        kind: MarkerKind::Scaling,
        role: Some(note.role),
        text: note.text,
        change: note.change,
    };
    notes.map(marker).collect()
}

fn pools(run: &Run, snapshot: &Snapshot) -> Vec<PoolSample> {
    let roles: &[Role] = match run.topology {
        crate::scenario::Topology::Aggregated { .. } => &[Role::Aggregated],
        crate::scenario::Topology::Disaggregated { .. } => &[Role::Prefill, Role::Decode],
    };
    let pool = |role: &Role| {
        let workers = || snapshot.workers.iter().filter(|worker| worker.role == *role);
        let count = |state: WorkerState| workers().filter(|worker| worker.state == state).count() as u32;
        let blocks: u64 = workers().map(|w| w.kv_active + w.kv_cached + w.kv_free).sum();
        let share = |part: u64| if blocks > 0 { (part as f64 / blocks as f64) as f32 } else { 0.0 };
        PoolSample {
            role: *role,
            replicas: [count(WorkerState::Starting), count(WorkerState::Active), count(WorkerState::Draining)],
            waiting: workers().map(|worker| worker.waiting).sum(),
            running: workers().map(|worker| worker.running).sum(),
            kv_used: share(workers().map(|worker| worker.kv_active).sum()),
            kv_cached: share(workers().map(|worker| worker.kv_cached).sum()),
        }
    };
    roles.iter().map(pool).collect()
}
