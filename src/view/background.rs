//! The whole run, simulated in the background: it fills the track, and gives the report in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::sim::metrics::{Outcome, RequestRecord};
use crate::time::SimTime;

use super::life::Life;
use super::notes;
use super::source::Source;
use super::track::{Track, TrackBuilder, markers};

/// How often the track is handed out while it grows, in real time.
const NEWS_EVERY: Duration = Duration::from_millis(100);

/// A run that is over.
#[derive(Debug)]
pub struct RunResult {
    /// The report, as `replay` writes it.
    pub report: Report,
    /// What was measured.
    pub outcome: Outcome,
    /// The instants at which anything happened to a request, ascending.
    pub request_events: Vec<SimTime>,
    /// The instants at which the router placed a request or replicas changed, ascending.
    pub decisions: Vec<SimTime>,
    /// The instants of planner ticks at which anything was due, ascending.
    pub planner_ticks: Vec<SimTime>,
    /// By request, its place among the records.
    places: Vec<Option<u32>>,
}

impl RunResult {
    fn new(report: Report, outcome: Outcome) -> Self {
        let mut events: Vec<SimTime> = outcome.records.iter().flat_map(Life::instants).collect();
        let mut decisions: Vec<SimTime> = outcome.records.iter().filter_map(|record| record.routed).collect();
        decisions.extend(outcome.scaling_events.iter().map(|event| event.at));
        let log = outcome.planner.as_ref();
        let mut ticks: Vec<SimTime> =
            log.map_or_else(Vec::new, |log| log.decisions.iter().map(notes::time_of).collect());
        for list in [&mut events, &mut decisions, &mut ticks] {
            list.sort_unstable();
            list.dedup();
        }
        let mut places = Vec::new();
        for (place, record) in (0..).zip(&outcome.records) {
            let index = record.request as usize;
            if places.len() <= index {
                places.resize(index + 1, None);
            }
            places[index] = Some(place);
        }
        Self { report, outcome, request_events: events, decisions, planner_ticks: ticks, places }
    }

    /// What was measured of a request; `None` for one that never arrived.
    pub fn record(&self, request: u32) -> Option<&RequestRecord> {
        let place = self.places.get(request as usize).copied().flatten()?;
        self.outcome.records.get(place as usize)
    }
}

#[derive(Debug, Default)]
struct State {
    track: Arc<Track>,
    result: Option<Arc<RunResult>>,
    error: Option<String>,
    progress: (u32, u32),
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    over: Condvar,
    cancelled: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that goes on by itself; dropping it stops it.
#[derive(Debug)]
pub(super) struct Background(Arc<Shared>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Background {
    /// Begins.
    pub fn start(source: Arc<Source>) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            // Whoever waits must hear of a panic too.
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&source, &theirs)));
            let error = match run {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some("the simulation failed; this is a defect of the program".to_owned()),
            };
            let mut state = theirs.state();
            state.error = error.or_else(|| state.result.is_none().then(|| "the run was stopped".to_owned()));
            theirs.over.notify_all();
        });
        Self(shared)
    }

    /// The track so far.
    pub fn track(&self) -> Arc<Track> {
        Arc::clone(&self.0.state().track)
    }

    /// The run, once it is over.
    pub fn result(&self) -> Option<Arc<RunResult>> {
        self.0.state().result.clone()
    }

    /// Requests that ended, and requests in all.
    pub fn progress(&self) -> (u32, u32) {
        self.0.state().progress
    }

    /// Why there will be no result.
    pub fn error(&self) -> Option<String> {
        self.0.state().error.clone()
    }

    /// Waits for the end of the run.
    pub fn wait(&self) -> Option<Arc<RunResult>> {
        let mut state = self.0.state();
        while state.result.is_none() && state.error.is_none() {
            state = self.0.over.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.result.clone()
    }
}

fn run(source: &Source, shared: &Shared) -> Result<(), String> {
    let mut simulation = source.simulation().map_err(|error| error.to_string())?;
    let (start, run) = (Instant::now(), &source.run);
    let mut builder = TrackBuilder::new(source.span());
    let mut told = Instant::now();
    while simulation.next_event().is_some() {
        if shared.cancelled.load(Ordering::Relaxed) {
            return Ok(());
        }
        simulation.run_until(builder.next());
        builder.sample(run, &mut simulation);
        if told.elapsed() >= NEWS_EVERY {
            let track = Arc::new(builder.track(run, Some(&simulation), None));
            let mut state = shared.state();
            (state.track, state.progress) = (track, simulation.progress());
            told = Instant::now();
        }
    }
    simulation.run_to_end();
    let progress = simulation.progress();
    let outcome = simulation.finish();
    let mut track = builder.track(run, None, Some(outcome.end));
    let decisions = outcome.planner.as_ref().map_or(&[][..], |log| &log.decisions);
    track.markers = markers(run, decisions, &outcome.scaling_events);
    let report = Report::build(run, &outcome, &source.sessions, &source.notes, start.elapsed());
    let result = Arc::new(RunResult::new(report, outcome));
    let mut state = shared.state();
    (state.track, state.progress, state.result) = (Arc::new(track), progress, Some(result));
    Ok(())
}
