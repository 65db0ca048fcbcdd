//! `dynosim trace convert`: any trace as Mooncake JSON Lines.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dynosim::report::write_atomically;
use dynosim::workload::convert::{ConvertOptions, ConvertSummary, to_mooncake};
use dynosim::workload::stats::block_tokens;
use dynosim::workload::{self, Workload, WorkloadError};

use super::reading::Reading;
use super::stats::check_ids;
use super::words::count_of;
use crate::cli::error::CliError;
use crate::cli::{DONE, output, warn};

/// Flags of `dynosim trace convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace of any format: a file; several files, a folder or a pattern where the format has several files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// File to write
    #[arg(long, short, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Tokens per hash id of the file [default: as in the trace]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    block_size: Option<u32>,
    /// Print no warnings
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Reads the trace and writes the rows.
pub fn run(args: &Args) -> Result<u8, CliError> {
    let workload = workload::open(&args.files, &args.reading.options()?)?;
    workload.notes.iter().for_each(|note| warn(args.quiet, note));
    write(&workload, &args.out, &ConvertOptions { block_size: args.block_size }, args.quiet)
}

/// Writes the rows of a workload into a file and says so.
pub fn write(workload: &Workload, path: &Path, options: &ConvertOptions, quiet: bool) -> Result<u8, CliError> {
    check_ids(workload, options.block_size.or(block_tokens(workload)).unwrap_or(512))?;
    let mut result: Option<Result<ConvertSummary, WorkloadError>> = None;
    let written = write_atomically(path, |out: &mut dyn Write| match to_mooncake(workload, out, options) {
        Err(WorkloadError::Write(error)) => Err(error),
        Err(error) => {
            let text = error.to_string();
            result = Some(Err(error));
            Err(io::Error::other(text))
        }
        Ok(summary) => {
            result = Some(Ok(summary));
            Ok(())
        }
    });
    let summary = match result {
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(summary)) => summary,
        None => return written.map(|()| DONE).map_err(CliError::from),
    };
    written?;
    summary.warnings.iter().for_each(|text| warn(quiet, text));
    let ConvertSummary { requests, format, block_size, .. } = summary;
    let requests = count_of(requests as u64, "request");
    output::to_stdout(&format!("{}: {requests}, {format}, {block_size} tokens per hash id\n", path.display()))?;
    Ok(DONE)
}
