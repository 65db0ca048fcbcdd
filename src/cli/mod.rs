//! The command line: one file per subcommand.
//!
//! | file | does |
//! |---|---|
//! | `replay` | runs a scenario and prints the report |
//! | `view` | watches a run in a window, or draws one picture of it |
//! | `scenario_args` | the flags that say what to run |
//! | `compare` | runs scenarios, or reads their reports, and shows them side by side |
//! | `drive` | advances the simulation, with a time series or a progress bar on the way |
//! | `scenario` | checks a scenario, prints the schema |
//! | `perf` | shows and draws how long passes take, and how many KV tokens fit |
//! | `trace` | tells facts of traces, converts and generates them |
//! | `output` | standard output, the default name of the report |
//! | `error` | what went wrong, how it is shown, and the exit code |
//!
//! Standard output holds results only; warnings, errors, progress and diagnostics go to standard error.

mod compare;
mod drive;
mod error;
mod output;
mod perf;
mod replay;
mod scenario;
mod scenario_args;
mod trace;
mod view;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use error::CliError;

/// Everything went well.
const DONE: u8 = 0;
/// The run failed, or lost requests to a dead end.
const FAILED: u8 = 1;
/// What is told without being asked for. Graphics libraries warn of what is no fault, such as a software driver.
const DIAGNOSTICS: &str =
    "warn,bevy_egui=error,bevy_render=error,bevy_winit=error,naga=error,wgpu_core=error,wgpu_hal=off";
/// Wrong usage or input.
const USAGE: u8 = 2;

/// Simulate how large-language-model serving behaves before anyone rents a GPU.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 120, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a trace, a synthetic load or a scenario file, and report latencies, throughput and cost
    Replay(Box<replay::Args>),
    /// Watch a run in a window, or draw one picture of it
    View(Box<view::Args>),
    /// Run several scenarios, or read their reports, and show them side by side
    Compare(compare::Args),
    /// Show how long forward passes take and how many KV tokens fit
    Perf(perf::Args),
    /// Show what is in a trace, convert traces, make them up
    #[command(subcommand)]
    Trace(Box<trace::Command>),
    /// Check scenario files and describe their format
    #[command(subcommand)]
    Scenario(scenario::Command),
}

impl Cli {
    /// Does what was asked, tells about problems on standard error, and gives the exit code.
    pub fn run(self) -> ExitCode {
        start_diagnostics();
        let result = match self.command {
            Command::Replay(args) => replay::run(&args),
            Command::View(args) => view::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Perf(args) => perf::run(&args),
            Command::Trace(command) => trace::run(&command),
            Command::Scenario(command) => scenario::run(&command),
        };
        ExitCode::from(result.unwrap_or_else(|error: CliError| {
            error.show();
            error.exit_code()
        }))
    }
}

/// Diagnostics on standard error, filtered by `DYNOSIM_LOG` (such as `debug` or `dynosim::sim=trace`).
fn start_diagnostics() {
    let filter = EnvFilter::try_from_env("DYNOSIM_LOG").unwrap_or_else(|_| EnvFilter::new(DIAGNOSTICS));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // It fails only when one is installed already, which then does the job.
    let _ = subscriber.try_init();
}

/// Tells the user something that does not stop the run.
fn warn(quiet: bool, text: &str) {
    if !quiet {
        output::to_stderr(&format!("warning: {text}\n"));
    }
}
