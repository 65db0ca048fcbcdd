//! `dynosim trace stats`: facts of traces before any simulation.

use std::path::{Path, PathBuf};

use dynosim::report::write_atomically;
use dynosim::scenario::{Document, Scenario, TraceFormat, TraceReading};
use dynosim::workload::stats::{StatsOptions, TraceStats, block_tokens};
use dynosim::workload::{self, TraceOptions, Workload, WorkloadError};
use serde::Serialize;
use serde_json::json;

use super::reading::Reading;
use super::{picture, table};
use crate::cli::error::CliError;
use crate::cli::{DONE, output, warn};

/// Flags of `dynosim trace stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Traces of any format: files, folders or patterns
    #[arg(value_name = "FILE", required_unless_present = "workload", conflicts_with = "workload")]
    files: Vec<PathBuf>,
    /// A generator's document in place of files, as for `dynosim replay`
    #[arg(long, value_name = "JSON")]
    workload: Option<Document>,
    /// Seed of the generator
    #[arg(long, value_name = "SEED", requires = "workload")]
    seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// SVG file with charts
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seconds per window of the rate over time [default: a round number that makes about a hundred]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    window: Option<f64>,
    /// Cache sizes to look at besides the usual ones, in tokens, such as 500k or 3M
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', value_parser = tokens)]
    cache_tokens: Vec<u64>,
    /// Tokens per block of traces that say nothing about the content of prompts
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    block_size: u32,
    /// Print no warnings
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    reading: Reading,
}

/// A trace and its facts.
#[derive(Debug, Serialize)]
pub struct Facts {
    /// What it is called.
    pub name: String,
    /// Format of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The facts.
    #[serde(flatten)]
    pub stats: TraceStats,
}

/// Prints and draws the facts.
pub fn run(args: &Args) -> Result<u8, CliError> {
    let all = match &args.workload {
        Some(document) => vec![generated(args, document)?],
        None => read(args)?,
    };
    if let Some(path) = &args.out {
        let svg = picture::figure(&all).to_svg();
        write_atomically(path, |out| out.write_all(svg.as_bytes()))?;
    }
    let text = if args.json { format!("{:#}\n", json!({ "traces": all })) } else { table::text(&all) };
    output::to_stdout(&text)?;
    Ok(DONE)
}

impl Args {
    fn facts(&self, name: String, format: Option<TraceFormat>, workload: &Workload) -> Facts {
        let options =
            |cache_blocks| StatsOptions { window_s: self.window, block_tokens: Some(self.block_size), cache_blocks };
        let block = u64::from(block_tokens(workload).unwrap_or(self.block_size).max(1));
        let sizes = self.cache_tokens.iter().map(|tokens| tokens / block).collect();
        let stats = TraceStats::of(workload, &options(sizes));
        Facts { name, format: format.map(|f| f.to_string()), stats }
    }
}

fn generated(args: &Args, document: &Document) -> Result<Facts, CliError> {
    let scenario = Scenario { workload: Some(document.clone()), seed: args.seed, ..Scenario::default() };
    let run = scenario.resolve(Path::new("")).map_err(|e| Scenario::locate(e, &scenario, None))?;
    let workload = workload::load(&run)?;
    tell(args, "", &workload);
    Ok(args.facts("generated workload".to_owned(), None, &workload))
}

/// The traces that the files make: where a format has several files each of them and all together, else each alone.
fn read(args: &Args) -> Result<Vec<Facts>, CliError> {
    let options = args.reading.options()?;
    let mut all = Vec::new();
    if let [_] = args.files.as_slice() {
        let (format, workload) = open(&args.files, &options)?;
        tell(args, "", &workload);
        return Ok(vec![args.facts(name(&args.files), Some(format), &workload)]);
    }
    let mut formats = Vec::new();
    let mut alone = Ok(());
    for file in args.files.chunks(1) {
        match open(file, &options) {
            Ok((format, workload)) => {
                tell(args, &format!("{}: ", name(file)), &workload);
                all.push(args.facts(name(file), Some(format), &workload));
                formats.push(format);
            }
            // Some files mean nothing without the others.
            Err(error) => {
                alone = Err(error);
                formats.extend(format_of(file, &options).ok());
            }
        }
    }
    let belong_together = match formats.as_slice() {
        [first, others @ ..] => first.takes_several_files() && others.iter().all(|format| format == first),
        [] => false,
    };
    if !belong_together {
        alone?;
        return Ok(all);
    }
    let (format, workload) = open(&args.files, &options)?;
    let title = match alone {
        Ok(()) => "together".to_owned(),
        Err(_) => {
            all.clear();
            tell(args, "", &workload);
            name(&args.files)
        }
    };
    all.push(args.facts(title, Some(format), &workload));
    Ok(all)
}

fn format_of(files: &[PathBuf], options: &TraceOptions) -> Result<TraceFormat, WorkloadError> {
    options.reading.format.map_or_else(|| workload::identify(files), Ok)
}

/// Opens a trace. Its format is part of what is told, so that nobody needs to be warned of it.
fn open(files: &[PathBuf], options: &TraceOptions) -> Result<(TraceFormat, Workload), WorkloadError> {
    let format = format_of(files, options)?;
    let reading = TraceReading { format: Some(format), ..options.reading.clone() };
    let mut workload = workload::open(files, &TraceOptions { reading, ..options.clone() })?;
    workload.notes.extend(format.idle_keys(&options.reading));
    Ok((format, workload))
}

fn tell(args: &Args, before: &str, workload: &Workload) {
    workload.notes.iter().for_each(|note| warn(args.quiet, &format!("{before}{note}")));
}

/// The last part of the path, or how many files there are.
fn name(files: &[PathBuf]) -> String {
    match files {
        [one] => one.file_name().map_or_else(|| one.display().to_string(), |name| name.to_string_lossy().into_owned()),
        several => format!("{} files", several.len()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("give a number above 0".to_owned()),
    }
}

/// A number of tokens, with a prefix or without.
fn tokens(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 && number * factor < 1e18 => {
            Ok((number * factor).round() as u64)
        }
        _ => Err("give a number of tokens, such as 250000, 500k or 3M".to_owned()),
    }
}

/// The error of a file too large to be read back.
pub fn check_ids(workload: &Workload, block_size: u32) -> Result<(), WorkloadError> {
    let blocks = |tokens: u32| u64::from(tokens.div_ceil(block_size.max(1)));
    let ids: u64 = workload.requests.iter().map(|request| blocks(request.prompt_tokens)).sum();
    if ids < u64::from(u32::MAX) {
        return Ok(());
    }
    Err(WorkloadError::Setting {
        field: "block_size",
        cause: format!("the file would hold {ids} hash ids, more than can be read back ({})", u32::MAX),
        cure: "choose larger blocks, fewer requests or shorter prompts".to_owned(),
    })
}
