//! `dynosim scenario`: check a scenario file, print the schema.

use std::path::{Path, PathBuf};

use dynosim::scenario::Scenario;
use dynosim::workload;

use super::error::CliError;
use super::{DONE, output, warn};

/// Subcommands of `dynosim scenario`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check a scenario file and the trace it names; print it with every default filled in
    Check {
        /// Scenario file
        file: PathBuf,
    },
    /// Print the JSON schema of scenario files
    Schema,
}

/// Does what was asked.
pub fn run(command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Schema => output::to_stdout(&Scenario::schema_json())?,
        Command::Check { file } => check(file)?,
    }
    Ok(DONE)
}

fn check(file: &Path) -> Result<(), CliError> {
    let scenario = Scenario::load(file)?;
    let locate = |error| Scenario::locate(error, &Scenario::default(), Some(file));
    let run = scenario.resolve(Path::new("")).map_err(locate)?;
    let workload = workload::load(&run)?;
    for text in run.warnings.iter().chain(&workload.notes) {
        warn(false, text);
    }
    let spelled_out = Scenario {
        report_json: scenario.report_json.clone(),
        report_jsonl: scenario.report_jsonl.clone(),
        decisions: scenario.decisions.clone(),
        timeseries: scenario.timeseries.clone(),
        timeseries_interval: scenario.timeseries_interval,
        ..Scenario::describe(&run).map_err(locate)?
    };
    output::to_stdout(&spelled_out.to_json())
}
