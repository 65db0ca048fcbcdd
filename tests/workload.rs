//! Traces and generators: what is read is what the rules say, and nothing a file holds brings the program down.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use dynosim::perf::Timing;
use dynosim::scenario::{
    AgentPreset, EngineConfig, PreemptionMode, Preset, Role, Router, Run, SchedulerKind, Semantics, Sla,
    SyntheticArrivals, SyntheticLoad, TimingOptions, Topology, TraceFormat, TraceReading, TraceSource, Traffic,
    TrafficSource, TransferContention, TransferTiming,
};
use dynosim::time::{SimDuration, SimTime};
use dynosim::workload::content::{Content, NO_NODE, PromptTrie, TokenStreams};
use dynosim::workload::graph::Graph;
use dynosim::workload::{MAX_TOKENS, Release, RequestSpec, Session, TraceOptions, Workload, WorkloadError, load};
use proptest::prelude::*;
use serde_json::Map;

#[path = "workload/agentic.rs"]
mod agentic;
#[path = "workload/agents.rs"]
mod agents;
#[path = "workload/applied.rs"]
mod applied;
#[path = "workload/convert.rs"]
mod convert;
#[path = "workload/csv.rs"]
mod csv;
#[path = "workload/dynamo.rs"]
mod dynamo;
#[path = "workload/flat.rs"]
mod flat;
#[path = "workload/hostile.rs"]
mod hostile;
#[path = "workload/kv_cache_tester.rs"]
mod kv_cache_tester;
#[path = "workload/open.rs"]
mod open;
#[path = "workload/reference.rs"]
mod reference;
#[path = "workload/servegen.rs"]
mod servegen;
#[path = "workload/sessions.rs"]
mod sessions;
#[path = "workload/synthetic.rs"]
mod synthetic;

fn engine(block_size: u32) -> EngineConfig {
    EngineConfig {
        role: Role::Aggregated,
        scheduler: SchedulerKind::Vllm,
        num_gpu_blocks: 16_384,
        block_size,
        max_model_len: None,
        max_num_seqs: Some(256),
        max_num_batched_tokens: Some(8_192),
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
        dp_size: 1,
        startup_time: SimDuration::ZERO,
        speculation: None,
        kv_bytes_per_token: None,
        kv_transfer_bandwidth: None,
        kv_transfer_timing: TransferTiming::FullPrompt,
        kv_transfer_contention: TransferContention::Independent,
        tiers: None,
        preemption_mode: PreemptionMode::Lifo,
        tp_size: 1,
        timing: Timing::default(),
        timing_args: Map::new(),
        router_queue_policy: None,
    }
}

fn run(source: TrafficSource) -> Run {
    Run {
        traffic: Traffic { source, concurrency: None, arrival_speedup: 1.0 },
        topology: Topology::Aggregated { workers: 1, engine: engine(64) },
        timing: TimingOptions::default(),
        router: Router::default(),
        semantics: Semantics::dynamo(),
        sla: Sla::default(),
        max_sim_time: None,
        scaling: None,
        planner: None,
        cost: None,
        seed: 1,
        warnings: Vec::new(),
    }
}

fn trace_run(path: impl Into<PathBuf>, block_size: u32) -> Run {
    let format = Some(TraceFormat::Mooncake);
    let reading = TraceReading { format, block_size: Some(block_size), ..TraceReading::default() };
    run(TrafficSource::Trace(TraceSource { paths: vec![path.into()], reading }))
}

/// How the trace of a run is read.
fn reading(run: &mut Run) -> &mut TraceReading {
    match &mut run.traffic.source {
        TrafficSource::Trace(trace) => &mut trace.reading,
        other => panic!("no trace but {other:?}"),
    }
}

fn set_format(run: &mut Run, new: TraceFormat) {
    reading(run).format = Some(new);
}

/// Loads `bytes` as a trace with 512 tokens per hash id, after `change` to the run.
fn read_with(bytes: &[u8], change: impl FnOnce(&mut Run)) -> Result<Workload, WorkloadError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room on the disk");
    let mut run = trace_run(file.path(), 512);
    change(&mut run);
    load(&run)
}

fn read(text: &str) -> Result<Workload, WorkloadError> {
    read_with(text.as_bytes(), |_| {})
}

fn trie(workload: &Workload) -> &PromptTrie {
    match &workload.content {
        Content::Trie(trie) => trie,
        other => panic!("no tree but {other:?}"),
    }
}

fn streams(workload: &Workload) -> &TokenStreams {
    match &workload.content {
        Content::Streams(streams) => streams,
        other => panic!("no streams but {other:?}"),
    }
}

fn sessions(workload: &Workload) -> &[Session] {
    match &workload.release {
        Release::Sessions { sessions, .. } => sessions,
        other => panic!("no sessions but {other:?}"),
    }
}

fn graph(workload: &Workload) -> &Graph {
    match &workload.release {
        Release::Graph(graph) => graph,
        other => panic!("no graph but {other:?}"),
    }
}

/// Opens files of these names and contents in a folder of their own, after `change` to the options.
fn open_files(files: &[(&str, &[u8])], change: impl FnOnce(&mut TraceOptions)) -> Result<Workload, WorkloadError> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut paths = Vec::new();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("room on the disk");
        paths.push(path);
    }
    let mut options = TraceOptions::default();
    change(&mut options);
    dynosim::workload::open(&paths, &options)
}

/// Opens one text of the given format.
fn open_as(format: TraceFormat, text: &str) -> Result<Workload, WorkloadError> {
    open_files(&[("trace", text.as_bytes())], |options| options.reading.format = Some(format))
}

fn delays_ms(workload: &Workload) -> Vec<f64> {
    workload.requests.iter().map(|r| r.delay.as_ms()).collect()
}

fn names(workload: &Workload) -> Vec<(&str, u32, u32)> {
    sessions(workload).iter().map(|s| (&*s.name, s.first, s.turns)).collect()
}

fn arrivals_ms(workload: &Workload) -> Vec<f64> {
    workload.requests.iter().map(|r| r.arrival.as_ms()).collect()
}

fn lengths(workload: &Workload) -> Vec<(u32, u32)> {
    workload.requests.iter().map(|r| (r.prompt_tokens, r.output_tokens)).collect()
}

/// Everything a user can see of a workload.
fn picture(workload: &Workload) -> String {
    format!("{workload:?}")
}

/// What the simulation may rely on.
fn check_shape(workload: &Workload) {
    let n = workload.requests.len();
    assert!(n > 0);
    assert!(
        workload.requests.iter().all(|r| (1..=MAX_TOKENS).contains(&r.prompt_tokens) && r.output_tokens <= MAX_TOKENS)
    );
    match &workload.release {
        Release::Flat => assert!(workload.requests.is_sorted_by_key(|r| r.arrival)),
        Release::Sessions { sessions, .. } => {
            let mut next = 0;
            for session in sessions {
                assert!(session.turns > 0 && session.first == next);
                assert!(workload.requests[next as usize].delay.is_zero());
                next += session.turns;
            }
            assert_eq!(next as usize, n);
        }
        Release::Graph(graph) => {
            assert_eq!((graph.waits_for.len(), graph.turns.len(), graph.waits_for.cycle()), (n, n, None));
            assert!(graph.turns.iter().all(|(session, _)| (*session as usize) < graph.sessions.len()));
        }
    }
    match &workload.content {
        Content::Unique => {}
        Content::Trie(trie) => {
            assert_eq!(trie.leaf.len(), n);
            for (request, leaf) in workload.requests.iter().zip(&trie.leaf).filter(|(_, l)| **l != NO_NODE) {
                assert!(trie.nodes[*leaf as usize].end <= request.prompt_tokens.div_ceil(trie.block_tokens));
            }
        }
        Content::Streams(streams) => {
            for (request, runs) in workload.requests.iter().zip(&streams.prompts) {
                assert_eq!(runs.iter().map(|(_, count)| count).sum::<u32>(), request.prompt_tokens);
            }
            assert_eq!((streams.prompts.len(), streams.outputs.len()), (n, n));
        }
    }
}
