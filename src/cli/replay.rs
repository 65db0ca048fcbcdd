//! `dynosim replay`: run a scenario and print the report.

use std::io::{self, IsTerminal, Write};
use std::time::{Instant, SystemTime};

use dynosim::report::{DecisionFile, Diagnostics, Recorder, Report, SessionNames, write_atomically, write_requests};
use dynosim::sim::Simulation;
use dynosim::workload;
use serde_json::Value;

use super::error::CliError;
use super::scenario_args::ScenarioArgs;
use super::{DONE, FAILED, drive, output, warn};

/// Flags of `dynosim replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Show a progress bar on a terminal
    #[arg(long)]
    progress: bool,
    /// Print no warnings and no progress
    #[arg(long)]
    quiet: bool,
}

/// Runs the scenario; 1 when requests were lost to a dead end.
pub fn run(args: &Args) -> Result<u8, CliError> {
    let (run, outputs) = args.scenario.resolve()?;
    let workload = workload::load(&run)?;
    let sessions = SessionNames::of(&workload);
    let notes = workload.notes.clone();
    let mut simulation = Simulation::new(&run, workload)?;
    let mut recorder = match outputs.timeseries {
        Some(_) => Some(Recorder::new(outputs.timeseries_interval)?),
        None => None,
    };
    let decisions = outputs.decisions.as_deref().map(DecisionFile::create).transpose()?;
    if let Some(file) = &decisions {
        simulation.send_decisions(file.sink());
    }
    let progress = args.progress && !args.quiet && io::stderr().is_terminal();
    let start = Instant::now();
    drive::to_end(&mut simulation, recorder.as_mut().map(|r| (r, outputs.timeseries_interval)), progress)?;
    let wall = start.elapsed();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &notes, wall);

    // The report names everything worth a warning: the scenario's, the loader's, rejections and dead ends.
    let warnings = report.get("warnings").and_then(Value::as_array);
    for text in warnings.into_iter().flatten().filter_map(Value::as_str) {
        warn(args.quiet, text);
    }
    if let Some(path) = &outputs.report_jsonl {
        write_requests(path, &outcome, &sessions)?;
    }
    if let Some(file) = decisions {
        file.finish()?;
    }
    if let (Some(recorder), Some(path)) = (&recorder, &outputs.timeseries) {
        recorder.write(path, &outcome)?;
    }
    let path = output::report_path(outputs.report_json.as_deref(), SystemTime::now());
    let json = report.to_json();
    write_atomically(&path, |out: &mut dyn Write| out.write_all(json.as_bytes()))?;
    let ticks = outcome.planner.as_ref().map_or_else(String::new, |log| format!("Planner ticks: {}\n", log.ticks));
    let diagnostics = Diagnostics::of(&run, &outcome, &report).map(|diagnostics| diagnostics.write()).transpose()?;
    let written =
        diagnostics.map_or_else(String::new, |path| format!("Planner diagnostics report: {}\n", path.display()));
    output::to_stdout(&format!("{}Saved full report to: {}\n{ticks}{written}", report.table(), path.display()))?;
    Ok(if outcome.dead_ends.is_empty() { DONE } else { FAILED })
}
