//! What the targets do with the bytes they are given.
//!
//! Nothing may panic, run out of memory or run on. What is accepted must have the shape that the simulation relies on,
//! and come back as it was when it is written as Mooncake rows and read again.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use dynosim::scenario::{Scenario, TraceFormat, TraceReading};
use dynosim::workload::convert::{ConvertOptions, to_mooncake};
use dynosim::workload::{MAX_TOKENS, Release, TraceOptions, Workload, open};
use tempfile::TempDir;

/// Most blocks of a workload that is written and read again.
const MAX_BLOCKS: u64 = 20_000;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

/// Writes a file into the folder of this process.
fn write(name: &str, data: &[u8]) -> PathBuf {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join(name);
        fs::write(&path, data).expect("room for a small file");
        path
    })
}

fn options(format: Option<TraceFormat>) -> TraceOptions {
    TraceOptions { reading: TraceReading { format, ..TraceReading::default() }, ..TraceOptions::default() }
}

/// Opens `data` as a trace, in an open and in a closed loop.
pub fn trace(format: Option<TraceFormat>, data: &[u8]) {
    let path = write("trace", data);
    let mut options = options(format);
    if let Ok(workload) = open(&[&path], &options) {
        check(&workload, None);
    }
    options.concurrency = Some(2);
    if let Ok(workload) = open(&[&path], &options) {
        check(&workload, Some(2));
    }
}

/// Opens `data` as the two files of a ServeGen client, a line of three dashes between them.
pub fn profile(data: &[u8]) {
    let at = data.windows(5).position(|window| window == b"\n---\n").unwrap_or(data.len());
    let path = write("client-trace.csv", data.get(..at).unwrap_or_default());
    write("client-dataset.json", data.get(at + 5..).unwrap_or_default());
    let mut options = options(Some(TraceFormat::ServeGen));
    options.reading.window = "0..10".parse().ok();
    // A thousand requests a second and more only cost time.
    if rates(data) < 1e3
        && let Ok(workload) = open(&[&path], &options)
    {
        check(&workload, None);
    }
}

/// The largest number in the second column.
fn rates(data: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(data);
    let rate = |line: &str| line.split(',').nth(1)?.trim().parse::<f64>().ok();
    text.lines().filter_map(rate).fold(0.0, f64::max)
}

/// Reads `data` as a scenario; what resolves must say itself in full and resolve to the same again.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(scenario) = Scenario::from_json(text) else { return };
    // A file that the document names is not there, wherever this runs.
    let nowhere = FOLDER.with_borrow(|folder| folder.path().join("nowhere"));
    if let Ok(run) = scenario.resolve(&nowhere) {
        let spelled_out = Scenario::describe(&run).expect("paths are Unicode here").to_json();
        let again = Scenario::from_json(&spelled_out).expect("what is written can be read");
        let mut again = again.resolve(Path::new("")).expect("what is spelled out is valid");
        again.warnings.clone_from(&run.warnings);
        assert_eq!(again, run);
    }
}

/// The shape of a workload, and its way through Mooncake rows.
fn check(workload: &Workload, concurrency: Option<u32>) {
    let n = workload.requests.len();
    assert!(n > 0);
    for request in &workload.requests {
        assert!((1..=MAX_TOKENS).contains(&request.prompt_tokens) && request.output_tokens <= MAX_TOKENS);
    }
    match &workload.release {
        Release::Flat => assert!(workload.requests.is_sorted_by_key(|request| request.arrival)),
        Release::Sessions { sessions, .. } => {
            assert_eq!(sessions.iter().map(|session| session.turns as usize).sum::<usize>(), n);
        }
        Release::Graph(graph) => assert_eq!((graph.waits_for.len(), graph.waits_for.cycle()), (n, None)),
    }
    let blocks: u64 = workload.requests.iter().map(|request| u64::from(request.prompt_tokens) / 16 + 1).sum();
    if blocks > MAX_BLOCKS || concurrency.is_some() {
        return;
    }
    let mut rows = Vec::new();
    let summary = to_mooncake(workload, &mut rows, &ConvertOptions::default()).expect("memory takes every row");
    let mut options = options(Some(summary.format));
    options.reading.block_size = Some(summary.block_size);
    if !workload.timed {
        options.concurrency = Some(1);
    }
    let again = open(&[write("rows", &rows)], &options).expect("what was written can be read");
    // Beyond 26 days milliseconds do not hold every nanosecond.
    let long = workload.requests.iter().any(|r| r.arrival.as_nanos().max(r.delay.as_nanos()) > 1 << 51);
    if !long && workload.timed {
        assert_eq!(again.requests.len(), n);
        let first = workload.requests.iter().map(|request| request.arrival.as_nanos()).min().unwrap_or(0);
        if first == 0 {
            assert_eq!(again.requests, workload.requests);
        }
    }
}
