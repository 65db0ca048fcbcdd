//! What holds in every run and at every instant, shown on random scenarios; and runs small enough to work out by hand.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dynosim::perf::polynomial::{decode_ms, prefill_ms};
use dynosim::report::{SessionNames, write_rows};
use dynosim::scenario::{Role, Scenario};
use dynosim::sim::Simulation;
use dynosim::sim::metrics::{FinalStatus, Outcome, RequestRecord, Snapshot};
use dynosim::time::{SimDuration, SimTime};
use dynosim::workload;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A prompt in hash blocks of this many tokens.
const HASH_BLOCK: u32 = 32;

fn simulation(document: &Value) -> Simulation {
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    Simulation::new(&run, workload::load(&run).unwrap()).unwrap()
}

fn outcome(document: &Value) -> Outcome {
    let mut simulation = simulation(document);
    simulation.run_to_end();
    simulation.finish()
}

/// A request of a random trace: gap to the one before in ms, prompt tokens, output tokens, first hash id.
type Row = (u32, u32, u32, u64);

/// A scheduler, with the settings that only it has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Vllm,
    TrtLlm,
    /// Longest prefix first or not, pages of a chunk, `clip_max_new_tokens`, conservativeness.
    Sglang(bool, u32, u32, f64),
}

/// A random scenario; `document` makes it one.
#[derive(Debug, Clone)]
struct Case {
    rows: Vec<Row>,
    kind: Kind,
    disaggregated: bool,
    workers: (u32, u32),
    blocks: u32,
    block_size: u32,
    dp: u32,
    max_seqs: Option<u32>,
    budget: Option<u32>,
    max_len: Option<u32>,
    chunked: bool,
    caching: bool,
    fifo: bool,
    speculation: bool,
    concurrency: Option<u32>,
    corrected: bool,
    /// Blocks of host memory, of disk, and whether there is an object store; not with SGLang.
    tiers: Option<(u64, u64, bool)>,
    /// Keys of the router.
    router: Value,
    /// Lengths of the steps in microseconds, used in turn.
    steps: Vec<u64>,
}

impl Case {
    fn document(&self, folder: &TempDir) -> Value {
        let path = folder.path().join("trace.jsonl");
        let (mut lines, mut now) = (String::new(), 0);
        for (index, (gap, input, output, first)) in self.rows.iter().enumerate() {
            now += gap;
            let blocks = u64::from(input.div_ceil(HASH_BLOCK));
            // Equal first ids share their first block only.
            let ids: Vec<u64> =
                (0..blocks).map(|b| if b == 0 { *first } else { 1000 + index as u64 * 50 + b }).collect();
            let row = json!({"timestamp": now, "input_length": input, "output_length": output, "hash_ids": ids});
            lines += &format!("{row}\n");
        }
        fs::write(&path, lines).unwrap();
        let mut engine = json!({
            "num_gpu_blocks": self.blocks, "block_size": self.block_size, "max_num_seqs": self.max_seqs,
            "max_num_batched_tokens": self.budget, "enable_chunked_prefill": self.chunked,
            "enable_prefix_caching": self.caching, "preemption_mode": if self.fifo { "fifo" } else { "lifo" },
        });
        match self.kind {
            Kind::Vllm => engine["max_model_len"] = json!(self.max_len),
            Kind::TrtLlm => engine["engine_type"] = json!("trtllm"),
            Kind::Sglang(longest_prefix, pages, clip, conservativeness) => {
                engine["engine_type"] = json!("sglang");
                engine["sglang"] = json!({
                    "schedule_policy": if longest_prefix { "lpm" } else { "fifo" },
                    "chunked_prefill_size": pages * self.block_size, "clip_max_new_tokens": clip,
                    "schedule_conservativeness": conservativeness,
                });
            }
        }
        if self.speculation {
            engine["aic_nextn"] = json!(2);
            engine["aic_nextn_accept_rates"] = json!("0.7,0.4");
        }
        if let Some((host, disk, objects)) = self.tiers() {
            engine["num_g2_blocks"] = json!(host);
            engine["num_g3_blocks"] = json!(disk);
            engine["enable_g4_storage"] = json!(objects);
            engine["kv_bytes_per_token"] = json!(100_000);
            engine["offload_batch_size"] = json!(if self.fifo { 1 } else { 5 });
            engine["bandwidth_g1_to_g2_gbps"] = json!(if self.chunked { 0.5 } else { 0.0 });
            engine["bandwidth_g2_to_g1_gbps"] = json!(if self.corrected { 0.7 } else { 0.0 });
            engine["bandwidth_g3_to_g2_gbps"] = json!(if self.fifo { 0.0 } else { 0.4 });
        }
        let mut document = Map::new();
        let mut set = |key: &str, value: Value| document.insert(key.to_owned(), value);
        set("trace", json!(path));
        set("trace-block-size", json!(HASH_BLOCK));
        set("replay-concurrency", json!(self.concurrency));
        set("semantics", json!(if self.corrected { "corrected" } else { "dynamo" }));
        for (key, value) in self.router.as_object().unwrap() {
            set(key, value.clone());
        }
        if self.is_disaggregated() {
            engine["kv_bytes_per_token"] = json!(100_000);
            engine["kv_transfer_bandwidth"] = json!(if self.fifo { 0.0 } else { 1.0 });
            engine["kv_transfer_contention"] = json!(if self.chunked { "shared" } else { "independent" });
            set("num-prefill-workers", json!(self.workers.0));
            set("num-decode-workers", json!(self.workers.1));
            set("prefill-engine-args", engine.clone());
            set("decode-engine-args", engine);
        } else {
            engine["dp_size"] = json!(self.dp);
            // A KV router must have something to choose.
            let least = if self.router["router-mode"] == "kv_router" { 2 } else { 1 };
            set("num-workers", json!(self.workers.0.max(least)));
            set("extra-engine-args", engine);
        }
        Value::Object(document)
    }

    fn is_disaggregated(&self) -> bool {
        self.disaggregated && self.kind != Kind::TrtLlm
    }

    fn tiers(&self) -> Option<(u64, u64, bool)> {
        self.tiers.filter(|_| !matches!(self.kind, Kind::Sglang(..)))
    }

    fn ranks(&self) -> u64 {
        if self.is_disaggregated() { 1 } else { u64::from(self.dp) }
    }

    /// Whether requests may get fewer output tokens than they asked for.
    fn cuts_outputs(&self) -> bool {
        match self.kind {
            Kind::Vllm => self.max_len.is_some(),
            Kind::TrtLlm => true,
            Kind::Sglang(..) => false,
        }
    }
}

/// Routers of all kinds, half of them round robin.
fn routers() -> impl Strategy<Value = Value> {
    let queue = (prop::sample::select(vec![0.0, 0.2, 1.0]), prop::sample::select(vec!["fcfs", "lcfs", "wspt"]));
    let kv = (prop::option::of(queue), prop::bool::ANY, 0..2_u32, 0..2_u32).prop_map(|(queue, warm, late, blind)| {
        let mut config =
            json!({"router_temperature": if warm { 0.5 } else { 0.0 }, "decode_active_request_weight": 1.5});
        if let Some((threshold, policy)) = queue {
            config["router_queue_threshold"] = json!(threshold);
            config["router_queue_policy"] = json!(policy);
        }
        json!({
            "router-mode": "kv_router", "router-config": config, "router-kv-event-delay-ms": 30 * late,
            "router-load-delay-ms": 20 * blind,
        })
    });
    let simple = prop::sample::select(vec!["random", "least_loaded", "power_of_two", "session_affinity"]);
    prop_oneof![
        4 => Just(json!({})),
        3 => kv,
        1 => simple.prop_map(|mode| json!({"router-mode": mode})),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let rows = prop::collection::vec((0..60_u32, 1..200_u32, 0..50_u32, 0..4_u64), 1..25);
    let fleet =
        (any::<bool>(), (1..4_u32, 1..4_u32), 4..40_u32, prop::sample::select(vec![4_u32, 16, 20, 64]), 1..3_u32);
    let limits = (
        prop::option::of(1..6_u32),
        prop::option::of(8..300_u32),
        prop::option::weighted(0.25, 40..200_u32),
        any::<(bool, bool, bool)>(),
    );
    let sglang = (any::<bool>(), 1..12_u32, prop::sample::select(vec![0_u32, 5, 4_096]), 0.0..=1.0_f64);
    let kind = prop_oneof![
        2 => Just(Kind::Vllm),
        1 => Just(Kind::TrtLlm),
        3 => sglang.prop_map(|(longest, pages, clip, share)| Kind::Sglang(longest, pages, clip, share)),
    ];
    let rest = (
        prop::bool::weighted(0.25),
        prop::option::of(1..6_u32),
        prop::bool::weighted(0.3),
        prop::collection::vec(1..200_000_u64, 1..6),
        routers(),
        prop::option::weighted(0.3, (1..60_u64, 0..60_u64, any::<bool>())),
    );
    (rows, kind, fleet, limits, rest).prop_map(|(rows, kind, fleet, limits, rest)| Case {
        rows,
        kind,
        disaggregated: fleet.0,
        workers: fleet.1,
        blocks: fleet.2,
        block_size: fleet.3,
        dp: fleet.4,
        max_seqs: limits.0,
        budget: limits.1,
        max_len: limits.2,
        chunked: limits.3.0,
        caching: limits.3.1,
        fifo: limits.3.2,
        speculation: rest.0,
        concurrency: rest.1,
        corrected: rest.2,
        steps: rest.3,
        router: rest.4,
        tiers: rest.5,
    })
}

/// What holds at every instant.
fn check_instant(case: &Case, now: &Snapshot, before: &Snapshot, total: u32) -> Result<(), TestCaseError> {
    let capacity = u64::from(case.blocks) * case.ranks();
    for worker in &now.workers {
        let blocks = worker.kv_active + worker.kv_cached + worker.kv_free;
        prop_assert_eq!(blocks, capacity, "blocks of {:?}", worker);
    }
    prop_assert!(now.at >= before.at, "the clock went from {} to {}", before.at, now.at);
    prop_assert!(now.arrived >= before.arrived && now.finished >= before.finished);
    prop_assert!(now.arrived <= total);
    // Requests that ended within the pass in progress, or are between two workers, are neither waiting nor running.
    let held: u32 = now.workers.iter().map(|w| w.waiting + w.running).sum();
    prop_assert!(held + now.finished <= now.arrived, "{held} in workers, {now:?}");
    Ok(())
}

/// The stamps of a completed request are in order.
fn check_order(record: &RequestRecord) -> Result<(), TestCaseError> {
    let mut stamps = vec![Some(record.arrival), record.first_admit];
    if record.output_tokens > 0 {
        stamps.extend([record.first_token, record.last_token]);
    }
    stamps.push(record.terminal);
    prop_assert!(stamps.iter().all(Option::is_some), "a stamp is missing: {record:?}");
    prop_assert!(stamps.is_sorted(), "stamps are out of order: {record:?}");
    Ok(())
}

/// What moved between tiers is what was asked for, and no tier holds more than it can.
fn check_tiers(case: &Case, outcome: &Outcome) -> Result<(), TestCaseError> {
    let Some((host, disk, objects)) = case.tiers() else {
        prop_assert!(outcome.tiers.is_empty() && outcome.records.iter().all(|r| r.tiers.is_none()));
        return Ok(());
    };
    let up: u128 = outcome.tiers.iter().map(|pool| pool.links[1].0).sum();
    let from_below = |tier: usize| -> u128 {
        let tokens = outcome.records.iter().filter_map(|r| r.tiers).map(|tiers| tiers.tokens[tier]);
        tokens.map(u128::from).sum::<u128>() * 100_000
    };
    // All requests have ended, so what was asked for has arrived.
    prop_assert_eq!(up, (0..3).map(from_below).sum::<u128>());
    for (tier, lane) in [(1, 3), (2, 5)] {
        prop_assert_eq!(outcome.tiers.iter().map(|pool| pool.links[lane].0).sum::<u128>(), from_below(tier));
    }
    for pool in &outcome.tiers {
        let workers = if pool.role == Role::Decode { case.workers.1 } else { case.workers.0.max(2) };
        let schedulers = u64::from(workers) * case.ranks();
        prop_assert!(pool.blocks[0] <= host * schedulers && pool.blocks[1] <= disk * schedulers);
        let block = u128::from(case.block_size) * 100_000;
        // Nothing is below host memory that did not pass through it, and a block that is there has been copied.
        prop_assert!(u128::from(pool.blocks[0]) * block <= pool.links[0].0 + pool.links[3].0 + pool.links[5].0);
        prop_assert!(pool.links[2].0 <= pool.links[0].0 && pool.links[4].0 <= pool.links[0].0);
        prop_assert!(objects || pool.blocks[2] == 0 && pool.links[4].0 == 0);
        prop_assert_eq!(u128::from(pool.blocks[2]) * block, pool.links[4].0);
        prop_assert!(pool.links.iter().all(|(_, share)| (0.0..=1.0 + 1e-9).contains(share)), "{:?}", pool.links);
    }
    Ok(())
}

/// What holds in the end.
fn check_end(case: &Case, outcome: &Outcome, total: u32) -> Result<(), TestCaseError> {
    check_tiers(case, outcome)?;
    let count = |status| outcome.records.iter().filter(|r| r.status == status).count() as u32;
    prop_assert_eq!(outcome.records.len() as u32, total);
    prop_assert_eq!(count(FinalStatus::Unfinished), 0);
    let ended = count(FinalStatus::Completed) + count(FinalStatus::Rejected) + count(FinalStatus::Failed);
    prop_assert_eq!(ended, total);
    let completed = || outcome.records.iter().filter(|r| r.status == FinalStatus::Completed);
    let mut gaps = 0;
    for record in completed() {
        check_order(record)?;
        prop_assert!(record.output_tokens <= record.requested_output_tokens, "{record:?}");
        if !case.cuts_outputs() {
            prop_assert_eq!(record.output_tokens, record.requested_output_tokens, "{:?}", record);
        }
        gaps += u64::from(record.output_tokens.saturating_sub(1));
    }
    prop_assert_eq!(outcome.itl.count(), gaps, "gaps between tokens");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_requests_and_tokens_are_conserved_at_every_step_and_at_the_end(case in cases()) {
        let folder = tempfile::tempdir().unwrap();
        let mut simulation = simulation(&case.document(&folder));
        let (_, total) = simulation.progress();
        let mut before = simulation.snapshot();
        let mut limit = 0;
        for step in case.steps.iter().cycle().take(300) {
            if simulation.next_event().is_none() {
                break;
            }
            limit += step * 1000;
            simulation.run_until(SimTime::from_nanos(limit));
            let now = simulation.snapshot();
            check_instant(&case, &now, &before, total)?;
            prop_assert!(now.at <= SimTime::from_nanos(limit), "the clock is ahead");
            before = now;
        }
        simulation.run_to_end();
        let end = simulation.snapshot();
        check_instant(&case, &end, &before, total)?;
        prop_assert_eq!((end.arrived, end.finished), (total, total));
        for worker in &end.workers {
            prop_assert_eq!((worker.kv_active, worker.waiting, worker.running), (0, 0, 0), "{:?}", worker);
        }
        prop_assert!(simulation.next_event().is_none());
        let stepped = simulation.finish();
        check_end(&case, &stepped, total)?;
        // Random steps, with a look at the fleet after each, lead to the same end as none at all.
        let straight = outcome(&case.document(&folder));
        prop_assert_eq!(&stepped.records, &straight.records);
        let rest = |o: &Outcome| (o.end, o.passes, o.preemptions, o.dead_ends.clone());
        prop_assert_eq!(rest(&stepped), rest(&straight));
    }
}

#[test]
fn speculation_in_a_crowded_prefill_pool_comes_to_an_end() {
    let rows = [(0, 126, 8), (47, 124, 8), (47, 1, 2), (47, 136, 8), (47, 102, 32), (47, 174, 1), (47, 1, 1)];
    let lines = (0_u32..).zip(rows).map(|(index, (at, input, output))| {
        let ids: Vec<u32> = (0..u32::div_ceil(input, HASH_BLOCK)).map(|b| index * 50 + b).collect();
        format!("{}\n", json!({"timestamp": at, "input_length": input, "output_length": output, "hash_ids": ids}))
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    fs::write(&path, lines.collect::<String>()).unwrap();
    let engine = json!({"num_gpu_blocks": 6, "block_size": 64, "aic_nextn": 2, "aic_nextn_accept_rates": "0.7,0.4"});
    let document = json!({
        "trace": path, "trace-block-size": HASH_BLOCK, "prefill-engine-args": engine, "decode-engine-args": engine,
    });
    // A run that never ends must not keep the test from ending.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(outcome(&document).records.len()));
    assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(rows.len()), "the run does not end");
}

#[test]
fn both_schedules_leave_no_order_of_systems_open() {
    // Both schedules are built with ambiguity detection as an error, and building them is part of setting up a
    // simulation: that it succeeds shows that no two systems which touch the same data are unordered.
    let load = json!({"input-tokens": 10, "output-tokens": 2, "request-count": 1, "request-rate": 1.0});
    simulation(&load);
    let mut split = load;
    split["prefill-engine-args"] = json!({"num_gpu_blocks": 8});
    split["decode-engine-args"] = json!({"num_gpu_blocks": 8});
    simulation(&split);
    // Routers that listen, and such that hold requests back, have systems of their own.
    for config in [json!({}), json!({"router_queue_threshold": 1.0})] {
        split["router-mode"] = json!("kv_router");
        split["router-config"] = config;
        simulation(&split);
    }
}

/// A scenario with one request at time 0.
fn one_request(input: u32, output: u32, keys: Value) -> Value {
    let mut document = json!({
        "input-tokens": input, "output-tokens": output, "request-count": 1, "arrival-interval-ms": 1.0,
        "extra-engine-args": {"num_gpu_blocks": 40, "block_size": 16},
    });
    for (key, value) in keys.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

/// Nanoseconds of a duration in milliseconds.
fn ns(ms: f64) -> u64 {
    SimDuration::from_ms(ms).unwrap().as_nanos()
}

/// Nanoseconds of a decode step with `tokens` tokens in a pool of 40 blocks of 16.
fn decode_step(tokens: u32) -> u64 {
    ns(decode_ms(u64::from(tokens.div_ceil(16) * 16), 40 * 16))
}

#[test]
fn one_request_takes_what_the_two_polynomials_say() {
    let outcome = outcome(&one_request(200, 30, json!({})));
    let [record] = outcome.records[..] else { panic!("one request") };
    let start = record.arrival.as_nanos();
    let first = start + ns(prefill_ms(200)) + decode_step(200);
    assert_eq!(record.first_admit, Some(record.arrival));
    assert_eq!(record.first_token, Some(SimTime::from_nanos(first)));
    let second = first + decode_step(201);
    assert_eq!(record.second_token, Some(SimTime::from_nanos(second)));
    // The pass that makes token k + 1 holds the prompt and the k tokens before it.
    let last = first + (1..30).map(|k| decode_step(200 + k)).sum::<u64>();
    assert_eq!(record.last_token, Some(SimTime::from_nanos(last)));
    assert_eq!(record.terminal, record.last_token);
    assert_eq!((outcome.passes, outcome.preemptions, outcome.itl.count()), (30, 0, 29));
}

#[test]
fn a_prompt_in_three_chunks_takes_three_prefill_passes() {
    let engine = json!({"num_gpu_blocks": 40, "block_size": 16, "max_num_batched_tokens": 80});
    let outcome = outcome(&one_request(200, 1, json!({"extra-engine-args": engine})));
    let [record] = outcome.records[..] else { panic!("one request") };
    let prefill = ns(prefill_ms(80)) + ns(prefill_ms(80)) + ns(prefill_ms(40));
    let first = record.arrival.as_nanos() + prefill + decode_step(200);
    assert_eq!(record.first_token, Some(SimTime::from_nanos(first)));
    assert_eq!(outcome.passes, 3);
}

#[test]
fn workers_that_get_no_request_change_nothing() {
    let rows = |workers: u32| {
        let mut rows = Vec::new();
        let outcome = outcome(&one_request(200, 30, json!({"num-workers": workers})));
        write_rows(&mut rows, &outcome, &SessionNames::default()).unwrap();
        let mut row: Value = serde_json::from_slice(&rows).unwrap();
        // A single worker is not named.
        row["decode_worker_idx"] = Value::Null;
        row
    };
    let alone = rows(1);
    assert_eq!(alone, rows(2));
    assert_eq!(alone, rows(5));
}

#[test]
fn twice_the_speed_takes_half_the_time() {
    let times = |speed: f64| {
        let engine = json!({"num_gpu_blocks": 40, "block_size": 16, "speedup_ratio": speed});
        let outcome = outcome(&one_request(200, 30, json!({"extra-engine-args": engine})));
        let record = outcome.records[0];
        let since = |time: Option<SimTime>| time.unwrap().since(record.arrival).as_nanos();
        [since(record.first_token), since(record.second_token), since(record.last_token)]
    };
    for (one, two) in times(1.0).into_iter().zip(times(2.0)) {
        // Every part of a pass is rounded to a nanosecond.
        assert!(one.abs_diff(2 * two) <= 2 * 31, "{one} ns, {two} ns at twice the speed");
    }
}
