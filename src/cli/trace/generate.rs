//! `dynosim trace generate`: a trace from a generator's document and flags.

use std::path::{Path, PathBuf};

use dynosim::scenario::{Document, Scenario, ScenarioError};
use dynosim::workload;
use dynosim::workload::convert::ConvertOptions;
use serde_json::{Map, Value, json};

use super::convert;
use crate::cli::error::CliError;
use crate::cli::{DONE, output, warn};

/// Examples and short forms.
pub const HELP: &str = "\
A distribution is a number, uniform:MIN:MAX, lognormal:MEDIAN:SIGMA, normal:MEAN:STD, exponential:MEAN,
geometric:MEAN, choice:A:B:C, empirical:FILE:COLUMN, or a JSON object (docs/trace-tools.md).

An arrival process is constant:RATE, poisson:RATE, gamma:RATE:CV, weibull:RATE:CV, mmpp:RATE:STAY:RATE:STAY,
diurnal:RATE:AMPLITUDE:PERIOD, ramp:FROM:TO:OVER, spike:RATE:FACTOR:AT:FOR, or a JSON object; rates are sessions
per second, times are seconds.

  dynosim trace generate --preset toolagent --out toolagent.jsonl
  dynosim trace generate --arrivals gamma:4:2.5 --sessions 5000 --input lognormal:1500:1 --output 250 --out g.jsonl";

/// Flags of `dynosim trace generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Document to start from: a JSON object, or a file that holds one
    #[arg(value_name = "DOCUMENT")]
    document: Option<Document>,
    /// File to write
    #[arg(long, short, value_name = "FILE.jsonl", required_unless_present = "print")]
    out: Option<PathBuf>,
    /// Built-in document to start from: generate, toolagent or agent [default: generate]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Seed of all draws [default: 42]
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Number of sessions
    #[arg(long, value_name = "N")]
    sessions: Option<u64>,
    /// No session begins at this time or later
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// When sessions begin
    #[arg(long, value_name = "PROCESS")]
    arrivals: Option<String>,
    /// Hand sessions over in batches at multiples of this time
    #[arg(long, value_name = "SECONDS")]
    batch: Option<f64>,
    /// Tokens of the first message
    #[arg(long, value_name = "DISTRIBUTION")]
    input: Option<String>,
    /// Tokens of an answer
    #[arg(long, value_name = "DISTRIBUTION")]
    output: Option<String>,
    /// Messages of the user per session
    #[arg(long, value_name = "DISTRIBUTION")]
    turns: Option<String>,
    /// Wait of the user between an answer and the next message, milliseconds
    #[arg(long, value_name = "DISTRIBUTION")]
    think_ms: Option<String>,
    /// Tokens of a system prompt that all sessions share
    #[arg(long, value_name = "TOKENS")]
    system_tokens: Option<u32>,
    /// Tokens per block that prompts can share
    #[arg(long, value_name = "TOKENS")]
    block_size: Option<u32>,
    /// Print the document with every value written out, instead of writing a trace
    #[arg(long)]
    print: bool,
    /// Print no warnings
    #[arg(long)]
    quiet: bool,
}

/// Generates and writes the trace.
pub fn run(args: &Args) -> Result<u8, CliError> {
    let mut map = args.document.as_ref().map_or_else(|| Ok(Map::new()), |document| document.keys("DOCUMENT"))?;
    if args.seed.is_some() {
        map.shift_remove("seed");
    }
    map.extend(args.keys());
    map.entry("preset").or_insert_with(|| json!("generate"));
    // The same way a scenario goes, so that a run of the document and a run of the file are one.
    let scenario = Scenario { workload: Some(map.into()), seed: args.seed, ..Scenario::default() };
    let resolved = scenario.resolve(Path::new("")).map_err(without_prefix)?;
    if args.print {
        let spelled_out = Scenario::describe(&resolved)?.workload;
        let text = spelled_out.map(|document| format!("{:#}\n", json!(document))).unwrap_or_default();
        output::to_stdout(&text)?;
        return Ok(DONE);
    }
    let workload = workload::load(&resolved)?;
    workload.notes.iter().for_each(|note| warn(args.quiet, note));
    let out = args.out.as_deref().unwrap_or(Path::new("trace.jsonl"));
    convert::write(&workload, out, &ConvertOptions::default(), args.quiet)
}

impl Args {
    /// The keys that flags set.
    fn keys(&self) -> Map<String, Value> {
        let text = |value: &Option<String>| {
            value.as_ref().map(|text| match text.trim().starts_with('{') {
                true => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
                false => text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number)),
            })
        };
        let keys = [
            ("preset", self.preset.as_ref().map(|name| json!(name))),
            ("sessions", self.sessions.map(|n| json!(n))),
            ("duration_s", self.duration.map(|s| json!(s))),
            ("arrivals", text(&self.arrivals)),
            ("batch_s", self.batch.map(|s| json!(s))),
            ("input", text(&self.input)),
            ("output", text(&self.output)),
            ("turns", text(&self.turns)),
            ("think_ms", text(&self.think_ms)),
            ("prefix", self.system_tokens.map(|tokens| json!([{ "name": "system prompt", "tokens": tokens }]))),
            ("block_size", self.block_size.map(|tokens| json!(tokens))),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

/// The document is all there is: its keys need no `workload` before them.
fn without_prefix(mut error: ScenarioError) -> ScenarioError {
    if let Some(key) = error.key.strip_prefix("workload.") {
        error.key = key.to_owned();
    }
    error
}
