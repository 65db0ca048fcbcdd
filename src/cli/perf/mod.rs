//! `dynosim perf`: what is known about pass times and KV room, before any simulation.
//!
//! | file | does |
//! |---|---|
//! | `list` | which tables, GPUs and models there are |
//! | `show` | one of them in full |
//! | `eval` | milliseconds of given passes |
//! | `plot` | a picture |
//! | `calibrate` | corrections from measurements of a real engine |
//! | `source` | the timing source a KEY names, and what it answers |
//! | `words` | numbers and names as people read them |

mod calibrate;
mod eval;
mod list;
mod plot;
mod show;
mod source;
pub(super) mod words;

use std::path::PathBuf;

use dynosim::perf::{PerfError, TableLibrary};

use super::DONE;
use super::error::CliError;

/// How a KEY may be written, for the help of every subcommand that takes one.
const KEY_HELP: &str = "\
KEY is one of:
  llama-3.1-8b-fp8__h200_sxm__vllm__tp1   a table, as `dynosim perf list` names it
  path/to/table.json                      a table in a file (docs/perf.md)
  path/to/profile.npz                     a planner profile
  roofline:MODEL@GPU[:OPTION...]          an estimate from data sheets; options are tp2, ep8,
                                          vllm, sglang, trtllm, bf16, fp8, kv-bf16, kv-fp8";

/// Flags of `dynosim perf`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder (or file) with timing tables of your own; repeatable
    #[arg(long, global = true, value_name = "DIR")]
    perf_tables: Vec<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List timing tables, GPUs or models
    List(list::Args),
    /// Show where a table, GPU or model comes from, what it covers, memory and example latencies
    #[command(after_help = KEY_HELP)]
    Show(show::Args),
    /// Print milliseconds of passes, as a JSON list
    #[command(after_help = KEY_HELP)]
    Eval(eval::Args),
    /// Draw latencies and throughput as SVG
    #[command(after_help = KEY_HELP)]
    Plot(plot::Args),
    /// Fit a timing model to measurements of a real engine
    Calibrate(Box<calibrate::Args>),
}

/// Does what was asked.
pub fn run(args: &Args) -> Result<u8, CliError> {
    let library = library(&args.perf_tables)?;
    let library = library.as_ref().unwrap_or_else(|| TableLibrary::embedded());
    match &args.command {
        Command::List(args) => list::run(args, library)?,
        Command::Show(args) => show::run(args, library)?,
        Command::Eval(args) => eval::run(args, library)?,
        Command::Plot(args) => plot::run(args, library)?,
        Command::Calibrate(options) => calibrate::run(options, &args.perf_tables)?,
    }
    Ok(DONE)
}

/// The library with the user's tables; none if there are none.
fn library(folders: &[PathBuf]) -> Result<Option<TableLibrary>, PerfError> {
    if folders.is_empty() { Ok(None) } else { TableLibrary::with_folders(folders).map(Some) }
}
