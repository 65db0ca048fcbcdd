//! The parts that take the time of a replay: reading a trace, the KV block pool, the passes of one engine.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::{fs, iter};

use criterion::{BatchSize, Criterion, Throughput};
use dynosim::perf::PassTimer;
use dynosim::scenario::{EngineConfig, Run, Scenario, Topology};
use dynosim::sim::engine::{Job, Scheduler};
use dynosim::sim::kv::{Home, KvPool, PromptIndex};
use dynosim::time::SimTime;
use dynosim::workload;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    trace_loading(&mut criterion);
    kv_pool(&mut criterion);
    engine_passes(&mut criterion);
    criterion.final_summary();
}

fn resolve(scenario: &str) -> Run {
    let scenario = Scenario::from_json(scenario).expect("the scenario is valid");
    scenario.resolve(Path::new("")).expect("the scenario resolves")
}

/// A Mooncake trace of independent requests: every prompt begins with one of a few common stretches.
fn trace(rows: u64) -> String {
    let mut text = String::new();
    let mut fresh = 10_000_u64;
    for row in 0..rows {
        let shared = row % 16;
        let own = 4 + row * 7 % 23;
        let common = (0..8).map(|block| shared * 8 + block);
        let ids: Vec<String> = common.chain(fresh..fresh + own).map(|id| id.to_string()).collect();
        fresh += own;
        let tokens = (8 + own) * 512 - row % 512;
        let ids = ids.join(", ");
        writeln!(
            text,
            r#"{{"timestamp": {}, "input_length": {tokens}, "output_length": {}, "hash_ids": [{ids}]}}"#,
            row * 290,
            50 + row % 400,
        )
        .expect("a string takes everything");
    }
    text
}

/// From a file on disk (in the page cache) to requests with their tree of equal beginnings.
fn trace_loading(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("trace.jsonl");
    let text = trace(10_000);
    fs::write(&path, &text).expect("the trace is written");
    let run = resolve(&format!(r#"{{"version": 1, "trace": {}}}"#, serde_json::json!(path)));
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
    group.bench_function("load_10000_rows", |bencher| {
        bencher.iter(|| workload::load(&run).expect("the trace is valid"));
    });
    group.finish();
}

/// Prompts of 128 blocks, taken and given back in turn: found again in a pool that holds all of them; gone when their turn
/// comes in one that holds half of them.
fn kv_pool(criterion: &mut Criterion) {
    const PROMPTS: u32 = 64;
    const BLOCKS: u32 = 128;
    let mut group = criterion.benchmark_group("kv_pool");
    group.throughput(Throughput::Elements(u64::from(PROMPTS)));
    for (name, capacity) in [("all_resident", PROMPTS * BLOCKS), ("all_evicted", PROMPTS * BLOCKS / 2)] {
        let mut pool = KvPool::new(capacity, PROMPTS as usize);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for prompt in 0..PROMPTS {
                    take_and_release(&mut pool, Home::Node(prompt), BLOCKS);
                }
            });
        });
    }
    group.finish();
}

fn take_and_release(pool: &mut KvPool, home: Home, blocks: u32) {
    let (mut hits, mut held) = (Vec::new(), Vec::new());
    let found = pool.find(home, 0, blocks, &mut hits);
    assert!(pool.acquire(&hits, found, blocks - found, &mut held), "one prompt always fits");
    if found < blocks {
        held.push(pool.register(home, found, blocks));
    }
    for part in held {
        pool.release(black_box(part));
    }
}

/// One scheduler serves 256 requests that are there from the start: pass by pass, and with steady decode passes run on.
fn engine_passes(criterion: &mut Criterion) {
    let run = resolve(
        r#"{"version": 1, "input-tokens": 1024, "output-tokens": 256, "request-count": 256, "arrival-interval-ms": 0.0}"#,
    );
    let Topology::Aggregated { engine, .. } = &run.topology else { unreachable!("there is one pool of workers") };
    let mut load = workload::load(&run).expect("the load can be made");
    let jobs: Vec<Job> = iter::zip(0.., &load.requests)
        .map(|(request, spec)| Job {
            request,
            prompt: spec.prompt_tokens,
            output: spec.output_tokens,
            generated: 0,
            last_token: None,
            hold: false,
        })
        .collect();
    let prompts = PromptIndex::new(&mut load, engine.block_size);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(jobs.iter().map(|job| u64::from(job.output)).sum())).sample_size(20);
    for (name, steady) in [("pass_by_pass", false), ("running_on", true)] {
        group.bench_function(name, |bencher| {
            let ready = || scheduler(&run, engine, &prompts, &jobs);
            bencher.iter_batched(ready, |mut scheduler| serve(&mut scheduler, steady), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn scheduler(run: &Run, engine: &EngineConfig, prompts: &PromptIndex, jobs: &[Job]) -> Scheduler {
    let mut scheduler =
        Scheduler::new(engine, run.semantics, PassTimer::new(&engine.timing, engine.timer_setup()), prompts, 0);
    for job in jobs {
        scheduler.submit(*job, prompts);
    }
    scheduler
}

/// Runs passes until nothing is left; returns when the last one ends.
fn serve(scheduler: &mut Scheduler, steady: bool) -> SimTime {
    let mut now = SimTime::ZERO;
    while scheduler.has_work() {
        if steady {
            now = scheduler.run_on(now, SimTime::MAX);
        }
        let pass = scheduler.form(now);
        assert!(pass.worked, "an engine with room for its requests gets on");
        scheduler.emit(&pass, pass.end);
        black_box(scheduler.drain_events().count());
        now = pass.end;
    }
    now
}
