//! Traces: opened in an open and in a closed loop, described, written as Mooncake rows, read again.

use dynosim::scenario::{TraceFormat, TraceReading};
use dynosim::workload::convert::{ConvertOptions, to_mooncake};
use dynosim::workload::stats::{StatsOptions, TraceStats};
use dynosim::workload::{MAX_TOKENS, Release, TraceOptions, Workload, open};

use crate::{told, two_files, write};

/// Most blocks of a workload that is written and read again.
const MAX_BLOCKS: u64 = 20_000;

fn options(format: Option<TraceFormat>) -> TraceOptions {
    TraceOptions { reading: TraceReading { format, ..TraceReading::default() }, ..TraceOptions::default() }
}

/// Opens `data` as a trace, in an open and in a closed loop.
pub fn open_both(format: Option<TraceFormat>, data: &[u8]) {
    let path = write("trace", data);
    let mut options = options(format);
    for concurrency in [None, Some(2)] {
        options.concurrency = concurrency;
        match open(&[&path], &options) {
            Ok(workload) => check(&workload, concurrency),
            Err(error) => told(&error),
        }
    }
}

/// Opens `data` as the two files of a ServeGen client.
pub fn profile(data: &[u8]) {
    let (rates, lengths) = two_files(data);
    let path = write("client-trace.csv", rates);
    write("client-dataset.json", lengths);
    let mut options = options(Some(TraceFormat::ServeGen));
    options.reading.window = "0..10".parse().ok();
    // A thousand requests a second and more only cost time.
    if highest_rate(rates) < 1e3
        && let Ok(workload) = open(&[&path], &options)
    {
        check(&workload, None);
    }
}

/// The largest number in the second column.
fn highest_rate(data: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(data);
    let rate = |line: &str| line.split(',').nth(1)?.trim().parse::<f64>().ok();
    text.lines().filter_map(rate).fold(0.0, f64::max)
}

/// The shape of a workload, and its way through Mooncake rows.
pub fn check(workload: &Workload, concurrency: Option<u32>) {
    let n = workload.requests.len();
    assert!(n > 0);
    workload.notes.iter().for_each(told);
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
    if blocks > MAX_BLOCKS {
        return;
    }
    let stats = TraceStats::of(workload, &StatsOptions::default());
    assert_eq!(stats.requests, n as u64);
    if concurrency.is_some() {
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
            for index in (0..).take(n) {
                assert_eq!(hint(&again, index), hint(workload, index));
            }
        }
    }
}

/// What a request asks of a router's queue.
fn hint(workload: &Workload, index: u32) -> (i32, u32, Option<&str>) {
    let hint = workload.hints.get(index);
    let class = hint.class.map(|class| &*workload.hints.classes[class as usize]);
    (hint.priority, hint.strict_priority, class)
}
