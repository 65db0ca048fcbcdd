//! Where requests come from: trace files and generators, reduced to what the simulation needs. No ECS in here.
//!
//! | file | holds |
//! |---|---|
//! | `model` | the result: requests, sessions, how they are released |
//! | [`graph`] | requests that wait for the end of others |
//! | [`content`] | which prompts begin alike |
//! | `trie` | builds the tree of equal beginnings |
//! | `prompts` | the prompts of a trace as lists of numbered blocks |
//! | `intern` | renumbers hash ids |
//! | `options` | how a trace is opened |
//! | `source` | files, folders and patterns; unpacking |
//! | `detect` | the format of a trace from its first rows |
//! | `checks` | rules that rows of every format obey |
//! | `mooncake` | Mooncake JSON Lines traces, whole prompts or deltas |
//! | `row` | one line of such a trace |
//! | `scan` | the same, fast, for lines in the usual form |
//! | `grouping` | collects rows into sessions |
//! | `agentic` | rows that wait for others, and the graph they come to |
//! | `applied` | agent sessions as Applied Compute writes them |
//! | `dynamo` | request traces captured by Dynamo |
//! | `csv` | CSV traces: Azure, BurstGPT, any |
//! | `table` | rows of a CSV file, and which columns hold what |
//! | `instant` | times as CSV traces write them |
//! | `servegen` | ServeGen client profiles |
//! | `kv_cache_tester` | agent sessions with nested sub-agents |
//! | [`convert`] | writes a workload as Mooncake rows |
//! | `intervals` | requests and lengths per interval of time, for load predictors |
//! | `hints` | what requests ask of a router's queue |
//! | `synthetic` | the reference's synthetic loads |
//! | `agent` | the agent-session generator |
//! | [`generate`] | generators of all kinds of sessions |
//! | [`stats`] | what one wants to know of a workload before a run |
//! | `streams` | seeded random draws |
//! | `error` | what can go wrong, where, and what to do about it |

mod agent;
mod agentic;
mod applied;
mod checks;
pub mod content;
pub mod convert;
mod csv;
mod detect;
mod dynamo;
mod error;
pub mod generate;
pub mod graph;
mod grouping;
mod hints;
mod instant;
mod intern;
mod intervals;
mod kv_cache_tester;
mod model;
mod mooncake;
mod options;
mod prompts;
mod row;
mod scan;
mod servegen;
mod source;
pub mod stats;
mod streams;
mod synthetic;
mod table;
mod trie;

use std::path::{Path, PathBuf};

pub use error::WorkloadError;
pub use hints::{Hint, RouterHints};
pub use intervals::{Interval, intervals};
pub use model::{MAX_TOKENS, Release, RequestSpec, Session, Workload};
pub use options::TraceOptions;

use crate::scenario::{Objection, Preset, Run, Topology, TraceFormat, TraceSource, TrafficSource};

use source::Source;

/// Reads or generates the requests of a run.
///
/// # Errors
/// When the trace cannot be read or breaks a rule of its format, or a generator's settings cannot be met.
pub fn load(run: &Run) -> Result<Workload, WorkloadError> {
    match &run.traffic.source {
        TrafficSource::Trace(trace) => load_trace(trace, run),
        TrafficSource::Synthetic(load) => synthetic::generate(load, run),
        TrafficSource::Preset(Preset::Agent(preset)) => agent::generate(preset, run),
        TrafficSource::Preset(Preset::Generate(spec)) => generate::generate(spec, run),
    }
}

/// Opens the trace of a run and checks that it can be run so.
fn load_trace(trace: &TraceSource, run: &Run) -> Result<Workload, WorkloadError> {
    let traffic = &run.traffic;
    let options = TraceOptions {
        reading: trace.reading.clone(),
        concurrency: traffic.concurrency,
        speedup: traffic.arrival_speedup,
        seed: run.seed,
    };
    let objection = |format: TraceFormat| format.objection(trace, traffic.concurrency, &run.topology);
    let (mut workload, format) = open_checked(&trace.paths, &options, objection)?;
    let disaggregated = matches!(run.topology, Topology::Disaggregated { .. });
    if let Release::Graph(graph) = &workload.release {
        if format.is_of_the_reference() && disaggregated {
            let cause = "the trace has requests that wait for others, which needs workers that both prefill and decode";
            return Err(WorkloadError::setting("trace", cause, "use `extra-engine-args` and `num-workers`"));
        }
        if format.is_of_the_reference() && traffic.concurrency.is_some() {
            let cause = "is given, but the requests wait for others";
            return Err(WorkloadError::setting("replay-concurrency", cause, "leave it out"));
        }
        if graph.ignores_time_cap && run.max_sim_time.is_some() {
            let note = "`max-sim-time-seconds` has no effect on requests that wait for others, as in the reference";
            workload.notes.push(note.to_owned());
        }
    }
    if !workload.timed && traffic.concurrency.is_none() {
        let cause = format!("is missing; the {format} trace has no arrival times");
        let cure = "give the number of sessions at a time, or `request-rate` or `arrival-interval-ms`";
        return Err(WorkloadError::setting("replay-concurrency", cause, cure));
    }
    Ok(workload)
}

/// Opens a trace: finds its files and, unless it is given, its format.
///
/// Paths are files; where a format has several files also folders and patterns. The result is what the trace says,
/// whether or not it can be run so: in an open loop a trace without arrival times comes out with all arrivals zero and
/// [`Workload::timed`] false.
///
/// # Errors
/// When the files cannot be read, their format is not recognised, or they break its rules.
pub fn open<P: AsRef<Path>>(paths: &[P], options: &TraceOptions) -> Result<Workload, WorkloadError> {
    open_checked(paths, options, |_| None).map(|(workload, _)| workload)
}

/// The format of a trace by its content.
///
/// # Errors
/// When its first file cannot be read or is not recognised.
pub fn identify<P: AsRef<Path>>(paths: &[P]) -> Result<TraceFormat, WorkloadError> {
    let files = source::expand(paths)?;
    let first = Source::read(first_of(&files)?)?;
    detect::detect(&first.path, first.text(&mut Vec::new())?)
}

fn first_of(files: &[PathBuf]) -> Result<&Path, WorkloadError> {
    let none = || WorkloadError::setting("trace", "names no file", "give a file");
    files.first().map(PathBuf::as_path).ok_or_else(none)
}

/// Opens a trace if nothing speaks against its format.
fn open_checked<P: AsRef<Path>>(
    paths: &[P],
    options: &TraceOptions,
    objection: impl Fn(TraceFormat) -> Option<Objection>,
) -> Result<(Workload, TraceFormat), WorkloadError> {
    let files = source::expand(paths)?;
    let first = Source::read(first_of(&files)?)?;
    let mut notes = Vec::new();
    let format = match options.reading.format {
        Some(format) => format,
        None => {
            let format = detect::detect(&first.path, first.text(&mut Vec::new())?)?;
            notes.extend(format.idle_keys(&options.reading));
            if format != TraceFormat::Mooncake {
                notes.push(format!("the trace was recognised as {format} by its content"));
            }
            format
        }
    };
    if let Some(objection) = format.objection_to_files(files.len()).or_else(|| objection(format)) {
        return Err(WorkloadError::setting(objection.key, objection.cause, objection.cure));
    }
    let mut workload = match format {
        TraceFormat::Mooncake => mooncake::load(&first, false, options)?,
        TraceFormat::MooncakeDelta => mooncake::load(&first, true, options)?,
        TraceFormat::Azure | TraceFormat::BurstGpt | TraceFormat::Csv => csv::load(&files, first, format, options)?,
        TraceFormat::ServeGen => servegen::load(&files, options)?,
        TraceFormat::AgenticMooncake => agentic::load(&first, options)?,
        TraceFormat::AppliedComputeAgentic => applied::load(&first, options)?,
        TraceFormat::Dynamo => dynamo::load(&files, first, options)?,
        TraceFormat::KvCacheTester => kv_cache_tester::load(&files, first, options)?,
    };
    workload.notes.splice(0..0, notes);
    Ok((workload, format))
}
