//! `timing.async_scheduling`: a pass is put together while the one before it runs, so whoever comes meanwhile, and whatever
//! becomes free meanwhile, takes part one pass later.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use dynosim::report::{SessionNames, write_rows};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::sim::metrics::RequestRecord;
use dynosim::time::SimTime;
use dynosim::workload;
use serde_json::{Value, json};

/// Arrival in ms, prompt tokens, output tokens.
type Row = (f64, u32, u32);

/// A run of `rows` on one or more workers, in slices of so many nanoseconds if asked.
fn run(rows: &[Row], asynchronous: bool, more: Value, tick: Option<u64>) -> (Vec<RequestRecord>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.jsonl");
    let line = |(i, (at, input, output)): (usize, &Row)| {
        format!("{}\n", json!({"timestamp": at, "input_length": input, "output_length": output, "hash_ids": [i]}))
    };
    fs::write(&trace, rows.iter().enumerate().map(line).collect::<String>()).unwrap();
    let mut document = json!({"trace": [trace], "extra-engine-args": {"timing": {"async_scheduling": asynchronous}}});
    for (key, value) in more.as_object().unwrap() {
        match (&mut document["extra-engine-args"], key.as_str()) {
            (args, "args") => args.as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
            _ => document[key] = value.clone(),
        }
    }
    let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
    let workload = workload::load(&run).unwrap();
    let sessions = SessionNames::of(&workload);
    let mut simulation = Simulation::new(&run, workload).unwrap();
    if let Some(tick) = tick {
        let mut limit = 0;
        while simulation.next_event().is_some() {
            limit += tick;
            simulation.run_until(SimTime::from_nanos(limit));
        }
    }
    simulation.run_to_end();
    let outcome = simulation.finish();
    let mut rows = Vec::new();
    write_rows(&mut rows, &outcome, &sessions).unwrap();
    (outcome.records, rows)
}

fn records(rows: &[Row], asynchronous: bool, more: Value) -> Vec<RequestRecord> {
    run(rows, asynchronous, more, None).0
}

#[test]
fn a_request_that_comes_during_a_pass_joins_the_pass_after_the_next() {
    // The second request comes during the first pass, which ends with the first token.
    let rows = [(0.0, 400, 20), (3.0, 200, 5)];
    let [first, second] = records(&rows, false, json!({})).try_into().unwrap();
    assert_eq!(second.first_admit, first.first_token);
    let [first, second] = records(&rows, true, json!({})).try_into().unwrap();
    assert_eq!(second.first_admit, first.second_token);
    assert!(second.first_admit > first.first_token);
}

#[test]
fn an_idle_engine_takes_a_request_at_once() {
    let rows = [(0.0, 400, 3), (5_000.0, 200, 5), (9_000.0, 100, 2)];
    let both = [false, true].map(|on| run(&rows, on, json!({}), None));
    assert_eq!(both[0], both[1]);
    assert_eq!(both[1].0[1].first_admit, Some(both[1].0[1].arrival));
}

#[test]
fn the_place_of_a_finished_request_is_free_one_pass_later() {
    // Two places: a short request and a long one; the third has waited since long before.
    let rows = [(0.0, 100, 6), (0.0, 100, 60), (1.0, 100, 3)];
    let args = json!({"args": {"max_num_seqs": 2}});
    let [short, _, third] = records(&rows, false, args.clone()).try_into().unwrap();
    assert_eq!(third.first_admit, short.last_token);
    let [short, _, third] = records(&rows, true, args).try_into().unwrap();
    // The pass in between decodes the long request alone: 5.74 ms and a little for its KV.
    let wait = third.first_admit.unwrap().since(short.last_token.unwrap()).as_ms();
    assert!((5.74..6.5).contains(&wait), "{wait}");
}

#[test]
fn one_place_is_never_waited_for_by_an_empty_batch() {
    let rows = [(0.0, 100, 4), (1.0, 100, 4), (1.0, 100, 4)];
    let args = json!({"args": {"max_num_seqs": 1}});
    let records = records(&rows, true, args);
    assert_eq!(records[1].first_admit, records[0].last_token);
    assert_eq!(records[2].first_admit, records[1].last_token);
}

#[test]
fn slices_of_time_and_ways_to_run_change_nothing() {
    let rows: Vec<Row> = (0..60)
        .map(|i| {
            (
                f64::from(i / 4) * 21.7,
                40 + u32::try_from(i * 37 % 300).unwrap(),
                1 + u32::try_from(i * 13 % 40).unwrap(),
            )
        })
        .collect();
    let engines = [
        json!({"args": {"max_num_seqs": 7, "max_num_batched_tokens": 256, "num_gpu_blocks": 40, "block_size": 16}}),
        json!({"args": {"dp_size": 2, "max_num_seqs": 5}}),
        json!({"num-workers": 2, "args": {"max_num_seqs": 5}}),
        json!({"replay-concurrency": 9, "args": {"max_num_seqs": 5}}),
        json!({"args": {"max_num_seqs": 5, "aic_nextn": 2}}),
    ];
    for more in engines {
        let whole = run(&rows, true, more.clone(), None);
        assert_eq!(whole.0.len(), rows.len());
        assert!(whole.0.iter().all(|r| r.output_tokens == r.requested_output_tokens), "{more}");
        for tick in [1_000_000, 333_333_333] {
            assert_eq!(run(&rows, true, more.clone(), Some(tick)).1, whole.1, "{more} in slices of {tick} ns");
        }
        assert_ne!(run(&rows, false, more.clone(), None).1, whole.1, "{more}");
        // A script that scales nothing takes the other way through the simulation.
        if more.get("replay-concurrency").is_none() {
            let mut coupled = more.clone();
            let workers = more.get("num-workers").cloned().unwrap_or(json!(1));
            coupled["scaling"] = json!({"interval_ms": 1e6, "steps": [{"from_ms": 0, "target_decode": workers}]});
            let coupled = run(&rows, true, coupled, None);
            let times = |r: &RequestRecord| (r.first_admit, r.first_token, r.last_token);
            assert_eq!(
                coupled.0.iter().map(times).collect::<Vec<_>>(),
                whole.0.iter().map(times).collect::<Vec<_>>(),
                "{more}"
            );
        }
    }
}

#[test]
fn the_engine_outranks_a_correction_and_reports_say_it() {
    let resolve = |engine: Value| {
        let document = json!({
            "input-tokens": 8, "output-tokens": 2, "request-count": 1, "request-rate": 1.0,
            "timing-correction": {"async_scheduling": true}, "extra-engine-args": engine,
        });
        let run = Scenario::from_json(&document.to_string()).unwrap().resolve(Path::new("")).unwrap();
        let dynosim::scenario::Topology::Aggregated { engine, .. } = run.topology else { panic!("aggregated") };
        (engine.timing.async_scheduling, engine.timing.provenance)
    };
    let (on, provenance) = resolve(json!({}));
    assert!(on && provenance.contains("scheduled one pass ahead"), "{provenance}");
    assert!(!resolve(json!({"timing": {"async_scheduling": false}})).0);
}
