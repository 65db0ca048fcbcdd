//! Advances a simulation to its end, with a time series or a progress bar on the way. Neither changes the result: the
//! simulation gives the same one however it is cut into slices.

use std::time::{Duration, Instant};

use dynosim::report::{Recorder, TimeseriesError};
use dynosim::sim::Simulation;
use dynosim::time::{SimDuration, SimTime};
use indicatif::{ProgressBar, ProgressStyle};

/// Real time one slice of simulated time should take: short enough for a lively bar, long enough to cost nothing.
const SLICE: Duration = Duration::from_millis(40);

/// Runs to the end; `recorder` takes a sample every `interval` of simulated time, `progress` shows a bar.
pub fn to_end(
    simulation: &mut Simulation,
    recorder: Option<(&mut Recorder, SimDuration)>,
    progress: bool,
) -> Result<(), TimeseriesError> {
    if !progress {
        match recorder {
            Some((recorder, _)) => recorder.run(simulation)?,
            None => simulation.run_to_end(),
        }
        return Ok(());
    }
    let bar = bar(simulation);
    let result = match recorder {
        Some((recorder, interval)) => record(simulation, recorder, interval, &bar),
        None => {
            slices(simulation, &bar);
            Ok(())
        }
    };
    bar.finish_and_clear();
    result
}

fn bar(simulation: &Simulation) -> ProgressBar {
    let bar = ProgressBar::new(u64::from(simulation.progress().1));
    let template = "{bar:40} {pos}/{len} requests  {msg} simulated  {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn show(simulation: &Simulation, bar: &ProgressBar) {
    bar.set_position(u64::from(simulation.progress().0));
    bar.set_message(format!("{:.0} s", simulation.now().as_secs()));
}

fn slices(simulation: &mut Simulation, bar: &ProgressBar) {
    let mut span = SimDuration::from_nanos(1_000_000_000);
    let mut limit = SimTime::ZERO;
    while let Some(next) = simulation.next_event() {
        limit = limit.max(next) + span;
        if limit == SimTime::MAX {
            break;
        }
        let start = Instant::now();
        simulation.run_until(limit);
        let took = start.elapsed();
        if took < SLICE / 2 {
            span = SimDuration::from_nanos(span.as_nanos().saturating_mul(2));
        } else if took > SLICE * 2 {
            span = SimDuration::from_nanos((span.as_nanos() / 2).max(1));
        }
        show(simulation, bar);
    }
    simulation.run_to_end();
}

fn record(
    simulation: &mut Simulation,
    recorder: &mut Recorder,
    interval: SimDuration,
    bar: &ProgressBar,
) -> Result<(), TimeseriesError> {
    let mut at = SimTime::ZERO;
    loop {
        simulation.run_until(at);
        let mut snapshot = simulation.snapshot();
        snapshot.at = at;
        recorder.sample(snapshot)?;
        show(simulation, bar);
        if simulation.next_event().is_none() {
            return Ok(());
        }
        at += interval;
    }
}
