//! `dynosim perf calibrate`: fit a timing model to measurements of a real engine.

use std::io::Write;
use std::path::{Path, PathBuf};

use dynosim::calibrate::{Measurements, Parameter, Settings, calibrate};
use dynosim::report::write_atomically;
use dynosim::scenario::{Document, Scenario};

use crate::cli::error::CliError;
use crate::cli::{output, warn};

/// Flags of `dynosim perf calibrate`. Those about the engine are keys of a scenario and replace the file's.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with `requests.jsonl` and, if known, `meta.json`; or a file of requests (docs/calibration.md)
    #[arg(long, value_name = "PATH")]
    measured: PathBuf,
    /// Scenario file with the engines; what it says about requests is ignored
    #[arg(long, value_name = "FILE", visible_alias = "config")]
    scenario: Option<PathBuf>,
    /// Engine of workers that both prefill and decode: inline JSON or a path
    #[arg(long, value_name = "JSON")]
    extra_engine_args: Option<Document>,
    /// Workers that both prefill and decode
    #[arg(long, value_name = "N")]
    num_workers: Option<u32>,
    /// Engine of the prefill workers
    #[arg(long, value_name = "JSON")]
    prefill_engine_args: Option<Document>,
    /// Prefill workers
    #[arg(long, value_name = "N")]
    num_prefill_workers: Option<u32>,
    /// Engine of the decode workers
    #[arg(long, value_name = "JSON")]
    decode_engine_args: Option<Document>,
    /// Decode workers
    #[arg(long, value_name = "N")]
    num_decode_workers: Option<u32>,
    /// When no timing table fits an engine's model and GPU: error, or roofline for an estimate [default: error]
    #[arg(long, value_name = "WHAT")]
    on_missing_timing: Option<String>,
    /// Corrections to begin with: inline JSON or a path
    #[arg(long, value_name = "JSON")]
    timing_correction: Option<Document>,
    /// Whose behaviour counts: dynamo, corrected, or an object of switches [default: corrected]
    #[arg(long, value_name = "NAME|JSON")]
    semantics: Option<Document>,
    /// What to fit, separated by commas: prefill_scale, decode_scale, per_pass_overhead_ms, num_gpu_blocks; or none, to
    /// compare only [default: the first three, and KV blocks that are only estimated]
    #[arg(long, value_name = "LIST")]
    fit: Option<String>,
    /// Correction file to write, for `--timing-correction`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Print no warnings
    #[arg(long)]
    quiet: bool,
}

impl Args {
    /// The scenario without requests, from file and flags together.
    fn scenario(&self, perf_tables: &[PathBuf]) -> Result<Scenario, CliError> {
        let flags = Scenario {
            extra_engine_args: self.extra_engine_args.clone(),
            num_workers: self.num_workers,
            prefill_engine_args: self.prefill_engine_args.clone(),
            num_prefill_workers: self.num_prefill_workers,
            decode_engine_args: self.decode_engine_args.clone(),
            num_decode_workers: self.num_decode_workers,
            on_missing_timing: self.on_missing_timing.clone(),
            timing_correction: self.timing_correction.clone(),
            semantics: self.semantics.clone(),
            perf_tables: perf_tables.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            ..Scenario::default()
        };
        Ok(match &self.scenario {
            Some(path) => Scenario::load(path)?.overlaid(&flags)?,
            None => flags,
        })
    }
}

/// Fits, reports, and writes the correction file.
pub fn run(args: &Args, perf_tables: &[PathBuf]) -> Result<(), CliError> {
    let parameters = match args.fit.as_deref() {
        None => None,
        Some("none") => Some(Vec::new()),
        Some(list) => Some(Parameter::parse_list(list)?),
    };
    let scenario = args.scenario(perf_tables)?;
    let measured = Measurements::load(&args.measured)?;
    // Paths of the file start at its folder already; those of flags start at the working folder.
    let settings = Settings::complete(&scenario, Path::new(""), &measured)?;
    let calibration = calibrate(&measured, settings, parameters.as_deref())?;
    for text in calibration.warnings() {
        warn(args.quiet, &text);
    }
    if let Some(path) = &args.out {
        let document = calibration.document();
        write_atomically(path, |out: &mut dyn Write| out.write_all(document.as_bytes()))?;
    }
    let text = if args.json { calibration.to_json() } else { calibration.text() };
    output::to_stdout(&text)
}
