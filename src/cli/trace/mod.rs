//! `dynosim trace`: what is in a trace, traces of other formats as Mooncake rows, traces made up.
//!
//! | file | does |
//! |---|---|
//! | `stats` | facts of traces before any simulation |
//! | `table` | these facts as text |
//! | `picture` | these facts as a page of charts |
//! | `convert` | any trace as Mooncake JSON Lines |
//! | `generate` | a trace from a generator's document and flags |
//! | `reading` | flags that say how a trace is read |
//! | `words` | numbers as people read them |

mod convert;
mod generate;
mod picture;
mod reading;
mod stats;
mod table;
mod words;

use super::error::CliError;

/// Subcommands of `dynosim trace`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show load, lengths, sessions and prefix reuse of traces, before any run
    Stats(stats::Args),
    /// Write a trace of any format as Mooncake JSON Lines
    Convert(convert::Args),
    /// Write a synthetic trace as Mooncake JSON Lines
    #[command(after_help = generate::HELP)]
    Generate(Box<generate::Args>),
}

/// Does what was asked.
pub fn run(command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Stats(args) => stats::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Generate(args) => generate::run(args),
    }
}
