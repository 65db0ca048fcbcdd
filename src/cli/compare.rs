//! `dynosim compare`: several scenarios or reports side by side.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use dynosim::report::{Candidate, Comparison, Curves, FleetRecorder, Report, SessionNames, write_atomically};
use dynosim::scenario::{Document, Scenario};
use dynosim::sim::Simulation;
use dynosim::workload;
use serde_json::{Map, Value};

use super::error::CliError;
use super::{DONE, FAILED, output, warn};

const SLA: &str = "Service-level bounds of all scenarios";

/// Flags of `dynosim compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario files, which are run, and JSON reports, which are read; changes are against the first
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What to call them, separated by commas [default: names of the files]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    names: Vec<String>,
    /// Write one self-contained page with plots
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
    /// Write the comparison as JSON
    #[arg(long, value_name = "PATH")]
    report_json: Option<PathBuf>,
    /// Bound on time to first token for goodput, milliseconds; replaces that of every scenario
    #[arg(long, value_name = "MS", help_heading = SLA, allow_negative_numbers = true)]
    sla_ttft_ms: Option<f64>,
    /// Bound on a request's mean inter-token latency for goodput, milliseconds
    #[arg(long, value_name = "MS", help_heading = SLA, allow_negative_numbers = true)]
    sla_itl_ms: Option<f64>,
    /// Bound on end-to-end latency for goodput, milliseconds
    #[arg(long, value_name = "MS", help_heading = SLA, allow_negative_numbers = true)]
    sla_e2e_ms: Option<f64>,
    /// Estimate money and energy of every scenario, as `replay --cost` does
    #[arg(long, value_name = "NAME|JSON", help_heading = "Cost")]
    cost: Option<Document>,
    /// Print no warnings
    #[arg(long)]
    quiet: bool,
}

impl Args {
    /// What the flags set in every scenario.
    fn flags(&self) -> Scenario {
        Scenario {
            sla_ttft_ms: self.sla_ttft_ms,
            sla_itl_ms: self.sla_itl_ms,
            sla_e2e_ms: self.sla_e2e_ms,
            cost: self.cost.clone(),
            ..Scenario::default()
        }
    }

    /// A name for every file.
    fn names(&self) -> Result<Vec<String>, CliError> {
        if self.names.is_empty() {
            return Ok(names_of(&self.files));
        }
        let (given, needed) = (self.names.len(), self.files.len());
        let fault =
            |cause: String, cure| Err(CliError::Compare { cause: format!("command line, `names`: {cause}"), cure });
        if given != needed {
            return fault(
                format!("holds {given} names for {needed} files"),
                "give one name per file, in the same order",
            );
        }
        let mut sorted: Vec<&String> = self.names.iter().collect();
        sorted.sort_unstable();
        if sorted.first().is_some_and(|name| name.is_empty()) {
            return fault("holds an empty name".to_owned(), "give every file a name");
        }
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => fault(format!("holds \"{}\" twice", pair[0]), "give every file a name of its own"),
            None => Ok(self.names.clone()),
        }
    }
}

/// File names without endings, made unique by the folder or else a number.
fn names_of(files: &[PathBuf]) -> Vec<String> {
    let stem =
        |path: &Path| path.file_stem().map_or_else(|| path.display().to_string(), |s| s.to_string_lossy().into());
    let mut names: Vec<String> = files.iter().map(|path| stem(path)).collect();
    let mut counts = BTreeMap::new();
    for name in &names {
        *counts.entry(name.clone()).or_insert(0_usize) += 1;
    }
    for (name, path) in names.iter_mut().zip(files) {
        if counts.get(name).is_some_and(|count| *count > 1)
            && let Some(folder) = path.parent().and_then(Path::file_name)
        {
            *name = format!("{}/{name}", folder.to_string_lossy());
        }
    }
    for index in 0..names.len() {
        let mut number = 2;
        let plain = names[index].clone();
        while names[..index].contains(&names[index]) {
            names[index] = format!("{plain} ({number})");
            number += 1;
        }
    }
    names
}

/// A finished candidate and the exit code it asks for.
type Finished = Result<(Candidate, u8), CliError>;

/// Runs and reads everything; what fails is told and left out. The exit code is the worst of all.
pub fn run(args: &Args) -> Result<u8, CliError> {
    let names = args.names()?;
    if let (Some(html), Some(json)) = (&args.html, &args.report_json)
        && html == json
        && !html.starts_with("/dev")
    {
        let cause = "command line, `report-json`: names the same file as `html`".to_owned();
        return Err(CliError::Compare { cause, cure: "give each output a file of its own" });
    }
    let flags = args.flags();
    let results: Vec<Mutex<Option<Finished>>> = args.files.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(args.files.len());
    // Every simulation runs on one thread and is the same on any; only who is first differs.
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(file), Some(slot)) = (args.files.get(index), results.get(index)) else { return };
                    let finished = candidate(file, &names[index], &flags, args.html.is_some());
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(finished);
                    }
                }
            });
        }
    });
    let (mut code, mut candidates) = (DONE, Vec::new());
    for result in results {
        // Every slot was filled: the threads have ended.
        let Some(finished) = result.into_inner().ok().flatten() else { continue };
        match finished {
            Ok((candidate, exit)) => {
                code = code.max(exit);
                tell(args, &candidate);
                candidates.push(candidate);
            }
            Err(error) => {
                code = code.max(error.exit_code());
                error.show();
            }
        }
    }
    if candidates.is_empty() {
        return Ok(code);
    }
    let comparison = Comparison::new(candidates);
    let mut text = comparison.table();
    let mut write = |path: &Option<PathBuf>, what: &str, content: &dyn Fn() -> String| -> Result<(), CliError> {
        if let Some(path) = path {
            let content = content();
            write_atomically(path, |out: &mut dyn Write| out.write_all(content.as_bytes()))?;
            text.push_str(&format!("Saved {what} to: {}\n", path.display()));
        }
        Ok(())
    };
    // The table is shown also when a file cannot be written.
    let written = write(&args.report_json, "comparison", &|| comparison.to_json())
        .and_then(|()| write(&args.html, "page", &|| comparison.html()));
    output::to_stdout(&text)?;
    written.map(|()| code)
}

/// Passes on the warnings of a run; those of a report were told when it was made.
fn tell(args: &Args, candidate: &Candidate) {
    if candidate.sla.is_none() {
        return;
    }
    let warnings = candidate.report.get("warnings").and_then(Value::as_array);
    for text in warnings.into_iter().flatten().filter_map(Value::as_str) {
        warn(args.quiet, &format!("{}: {text}", candidate.name));
    }
}

/// Runs the scenario or reads the report in `file`, whichever it holds.
fn candidate(file: &Path, name: &str, flags: &Scenario, curves: bool) -> Finished {
    let text = fs::read_to_string(file).map_err(|error| CliError::Compare {
        cause: format!("cannot read {}: {error}", file.display()),
        cure: "check that the path names a scenario or a JSON report",
    })?;
    let is_report = serde_json::from_str::<Map<String, Value>>(text.trim_start_matches('\u{feff}'))
        .is_ok_and(|object| Report::is_like(&object));
    if !is_report {
        return simulated(file, name, flags, curves);
    }
    let report = Report::from_json(&text).map_err(|error| CliError::Compare {
        cause: format!("{}, {error}", file.display()),
        cure: "give a report as `--report-json` writes it",
    })?;
    let candidate = Candidate { name: name.to_owned(), file: file.to_path_buf(), report, sla: None, curves: None };
    Ok((candidate, DONE))
}

fn simulated(file: &Path, name: &str, flags: &Scenario, curves: bool) -> Finished {
    let scenario = Scenario::load(file)?.overlaid(flags)?;
    let run = scenario.resolve(Path::new("")).map_err(|error| Scenario::locate(error, flags, Some(file)))?;
    let workload = workload::load(&run)?;
    let sessions = SessionNames::of(&workload);
    let notes = workload.notes.clone();
    let mut simulation = Simulation::new(&run, workload)?;
    let mut recorder = curves.then(FleetRecorder::default);
    let start = Instant::now();
    match &mut recorder {
        Some(recorder) => recorder.run(&mut simulation),
        None => simulation.run_to_end(),
    }
    let wall = start.elapsed();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &notes, wall);
    let code = if outcome.dead_ends.is_empty() { DONE } else { FAILED };
    let candidate = Candidate {
        name: name.to_owned(),
        file: file.to_path_buf(),
        report,
        sla: Some(run.sla),
        curves: recorder.map(|recorder| Curves::new(&run, &outcome, recorder)),
    };
    Ok((candidate, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files_made_unique() {
        let names = |files: &[&str]| names_of(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["a.json", "x/b.json"]), ["a", "b"]);
        assert_eq!(names(&["x/a.json", "y/a.json", "y/a.json"]), ["x/a", "y/a", "y/a (2)"]);
        assert_eq!(names(&["a.json", "a.json"]), ["a", "a (2)"]);
    }
}
