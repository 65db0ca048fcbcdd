//! Generated workloads: the statistics that were asked for, streams that leave each other alone, documents that are
//! refused with place, cause and cure.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use dynosim::scenario::{Preset, Run, Scenario, TrafficSource};
use dynosim::workload::content::Content;
use dynosim::workload::stats::{StatsOptions, TraceStats};
use dynosim::workload::{self, Release, Workload, WorkloadError};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn run(document: Value) -> Run {
    let scenario = json!({ "version": 1, "seed": 7, "workload": document }).to_string();
    Scenario::from_json(&scenario).and_then(|s| s.resolve(Path::new(""))).unwrap_or_else(|e| panic!("{e}"))
}

fn attempt(mut document: Value) -> Result<Workload, WorkloadError> {
    if document.get("preset").is_none() {
        document["preset"] = json!("generate");
    }
    workload::load(&run(document))
}

fn generate(document: Value) -> Workload {
    attempt(document).unwrap_or_else(|e| panic!("{e}"))
}

/// What the resolver says against a document.
fn refusal(mut document: Value) -> String {
    if document.get("preset").is_none() {
        document["preset"] = json!("generate");
    }
    let scenario = json!({ "version": 1, "workload": document }).to_string();
    let resolved = Scenario::from_json(&scenario).and_then(|s| s.resolve(Path::new("")));
    resolved.err().map(|e| e.to_string()).unwrap_or_default()
}

fn facts(workload: &Workload) -> TraceStats {
    TraceStats::of(workload, &StatsOptions { window_s: Some(10.0), ..StatsOptions::default() })
}

fn close(got: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!((got - wanted).abs() <= tolerance * wanted.abs(), "{what}: {got}, expected {wanted} within {tolerance}");
}

// 20,000 sessions: the mean of n independent gaps is off by cv / sqrt(n), so 3 % is four standard errors up to cv 1.
#[test]
fn arrivals_have_the_rate_and_the_variation_asked_for() {
    let cases = [
        (json!({ "process": "constant", "rate_per_s": 4.0 }), 0.0, 0.001),
        (json!({ "process": "poisson", "rate_per_s": 4.0 }), 1.0, 0.03),
        (json!({ "process": "gamma", "rate_per_s": 4.0, "cv": 0.3 }), 0.3, 0.03),
        (json!({ "process": "gamma", "rate_per_s": 4.0, "cv": 3.0 }), 3.0, 0.09),
        (json!({ "process": "weibull", "rate_per_s": 4.0, "cv": 0.5 }), 0.5, 0.03),
        (json!({ "process": "weibull", "rate_per_s": 4.0, "cv": 2.0 }), 2.0, 0.06),
        // The shape that has a variation of the square root of 5.
        (json!({ "process": "weibull", "rate_per_s": 4.0, "shape": 0.5 }), 5_f64.sqrt(), 0.08),
    ];
    for (arrivals, cv, tolerance) in cases {
        let stats = facts(&generate(json!({ "sessions": 20_000, "arrivals": arrivals })));
        let got = stats.arrivals.unwrap();
        close(got.mean_per_s, 4.0, tolerance, &format!("rate of {arrivals}"));
        assert!((got.gap_cv - cv).abs() <= 2.0 * tolerance * cv.max(0.01), "{arrivals}: cv {}", got.gap_cv);
    }
}

/// Sessions in each of the windows of 10 s from `from` to `to`, per second.
fn rate(stats: &TraceStats, from: usize, to: usize) -> f64 {
    let windows = &stats.arrivals.as_ref().unwrap().windows[from / 10..to / 10];
    windows.iter().map(|w| w.count).sum::<u64>() as f64 / (to - from) as f64
}

#[test]
fn rates_change_over_time_as_asked_for() {
    let of = |arrivals: Value| facts(&generate(json!({ "duration_s": 1000.0, "arrivals": arrivals })));
    // About 2,500 sessions in 250 s: 6 % is three standard errors.
    let wave = of(json!({
        "process": "diurnal", "rate_per_s": 10.0, "amplitude": 0.8, "period_s": 500.0, "peak_s": 125.0,
    }));
    close(rate(&wave, 0, 250), 10.0 * (1.0 + 0.8 * 2.0 / std::f64::consts::PI), 0.06, "upper half of the wave");
    close(rate(&wave, 250, 500), 10.0 * (1.0 - 0.8 * 2.0 / std::f64::consts::PI), 0.08, "lower half of the wave");
    close(rate(&wave, 500, 750), rate(&wave, 0, 250), 0.08, "the next wave");

    let ramp = of(json!({ "process": "ramp", "from_per_s": 2.0, "to_per_s": 20.0, "over_s": 500.0 }));
    close(rate(&ramp, 0, 250), 6.5, 0.08, "first half of the ramp");
    close(rate(&ramp, 250, 500), 15.5, 0.06, "second half of the ramp");
    close(rate(&ramp, 500, 1000), 20.0, 0.04, "after the ramp");

    let spike =
        of(json!({ "process": "spike", "rate_per_s": 5.0, "factor": 8.0, "at_s": 300.0, "for_s": 50.0, "cv": 0.5 }));
    close(rate(&spike, 300, 350), 40.0, 0.06, "in the spike");
    close(rate(&spike, 0, 300), 5.0, 0.06, "before the spike");
    close(rate(&spike, 350, 990), 5.0, 0.06, "after the spike");
    let arrivals = spike.arrivals.unwrap();
    assert_eq!(arrivals.peak_at_s.clamp(300.0, 340.0), arrivals.peak_at_s, "the peak is in the spike");

    // Two states of 2 and 30 per second, a third of the time in the latter: 34/3 on average, and far from even.
    let bursts = facts(&generate(json!({ "sessions": 60_000, "arrivals": { "process": "mmpp", "states": [
        { "rate_per_s": 2.0, "mean_s": 20.0 }, { "rate_per_s": 30.0, "mean_s": 10.0 },
    ] } })));
    let arrivals = bursts.arrivals.unwrap();
    // Some 180 cycles: a tenth is about one and a half standard errors of the time spent in bursts.
    close(arrivals.mean_per_s, 34.0 / 3.0, 0.15, "mean of the states");
    assert!(arrivals.gap_cv > 1.8 && arrivals.peak_per_s > 25.0, "{} {}", arrivals.gap_cv, arrivals.peak_per_s);
}

#[test]
fn batches_begin_at_multiples_of_their_time() {
    let workload =
        generate(json!({ "sessions": 3_000, "batch_s": 2.5, "arrivals": { "process": "poisson", "rate_per_s": 8 } }));
    assert!(workload.requests.iter().all(|r| r.arrival.as_nanos() % 2_500_000_000 == 0));
    close(facts(&workload).arrivals.unwrap().mean_per_s, 8.0, 0.06, "rate in batches");
}

#[test]
fn lengths_have_the_means_and_bounds_asked_for() {
    let cases = [
        (json!(700), 700.0, 0.0, (700.0, 700.0)),
        (json!({ "dist": "uniform", "min": 100, "max": 300 }), 200.0, 0.01, (100.0, 300.0)),
        (json!("lognormal:500:0.8"), 500.0 * (0.32_f64).exp(), 0.03, (1.0, f64::MAX)),
        (json!({ "dist": "lognormal", "mean": 500, "sigma": 0.8 }), 500.0, 0.03, (1.0, f64::MAX)),
        (json!({ "dist": "lognormal", "median": 500, "sigma": 2, "max": 500 }), 0.0, f64::INFINITY, (1.0, 500.0)),
        (json!({ "dist": "normal", "mean": 400, "std": 50, "min": 300 }), 400.0, 0.01, (300.0, f64::MAX)),
        (json!({ "dist": "exponential", "mean": 250 }), 250.0, 0.03, (1.0, f64::MAX)),
        (json!({ "dist": "geometric", "mean": 4 }), 4.0, 0.04, (1.0, f64::MAX)),
        (json!({ "dist": "choice", "values": [10, 90], "weights": [3, 1] }), 30.0, 0.04, (10.0, 90.0)),
    ];
    for (dist, mean, tolerance, (min, max)) in cases {
        let stats = facts(&generate(json!({ "sessions": 20_000, "input": dist, "output": dist })));
        for got in [&stats.prompt, &stats.output] {
            assert!((got.mean - mean).abs() <= tolerance * mean.max(1.0), "{dist}: mean {}", got.mean);
            assert!(got.min >= min && got.max <= max, "{dist}: {} to {}", got.min, got.max);
        }
    }
    let stats = facts(&generate(json!({ "sessions": 20_000, "input": "lognormal:500:0.8" })));
    close(stats.prompt.p50, 500.0, 0.03, "median");
    close(stats.prompt.p90, 500.0 * (0.8 * 1.281_55_f64).exp(), 0.05, "90th percentile");
}

#[test]
fn lengths_from_a_file_are_its_lines_alone_or_in_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let csv: String = (1..=50).map(|i| format!("{i}00,x,{i}\n")).collect();
    std::fs::write(folder.path().join("lengths.csv"), format!("prompt tokens,model,answer\n{csv}")).unwrap();
    let rows: String = (1..=50)
        .map(|i| format!("{{\"timestamp\":{i},\"input_length\":{i}00,\"output_length\":{i},\"hash_ids\":[1,2,3,4,5,6,7,8,9,10]}}\n"))
        .collect();
    std::fs::write(folder.path().join("lengths.jsonl"), rows).unwrap();
    for pairs in
        [json!({ "file": "lengths.csv", "input": "prompt tokens", "output": "3" }), json!({ "file": "lengths.jsonl" })]
    {
        // Relative paths start at the folder of the scenario.
        let scenario = folder.path().join("scenario.json");
        let document =
            json!({ "version": 1, "workload": { "preset": "generate", "lengths": pairs, "sessions": 5_000 } });
        std::fs::write(&scenario, document.to_string()).unwrap();
        let run = Scenario::load(&scenario).and_then(|s| s.resolve(Path::new(""))).unwrap_or_else(|e| panic!("{e}"));
        let workload = workload::load(&run).unwrap();
        assert!(workload.requests.iter().all(|r| r.prompt_tokens == r.output_tokens * 100), "{pairs}");
        close(facts(&workload).output.mean, 25.5, 0.03, "mean of the file");
    }
    let path = folder.path().join("lengths.csv");
    let apart = format!("empirical:{}:answer", path.display());
    let workload = generate(json!({ "input": apart, "output": apart, "sessions": 500 }));
    assert!(workload.requests.iter().all(|r| (1..=50).contains(&r.prompt_tokens)));
    assert!(workload.requests.iter().any(|r| r.prompt_tokens != r.output_tokens));

    let wrong = |column: &str| {
        let dist = json!({ "dist": "empirical", "file": path, "column": column });
        attempt(json!({ "output": dist })).unwrap_err().to_string()
    };
    assert!(
        wrong("answers").contains("has no column `answers`; the columns are \"prompt tokens\", \"model\", \"answer\""),
        "{}",
        wrong("answers")
    );
    assert!(wrong("model").contains("line 2, `output`: \"x\" is no amount"), "{}", wrong("model"));
}

#[test]
fn prefixes_form_a_tree_with_uneven_popularity() {
    // 3 system prompts of 2 blocks, 4 sets of tools of 3 blocks after each, then 1 block of a session's own.
    let document = |sessions: u32| {
        json!({
            "sessions": sessions, "block_size": 100, "input": 100,
            "prefix": [
                { "name": "system", "fan_out": 3, "zipf": 1.0, "tokens": 200 },
                { "name": "tools", "fan_out": 4, "zipf": 0.0, "tokens": 300 },
            ],
        })
    };
    let workload = generate(document(2_000));
    assert!(workload.requests.iter().all(|r| r.prompt_tokens == 600));
    let cache = facts(&workload).cache;
    // Distinct: 3 * 2 + 12 * 3 + 2,000.
    assert_eq!((cache.blocks, cache.distinct_blocks), (12_000, 6 + 36 + 2_000));
    let Content::Trie(trie) = &workload.content else { panic!("no tree") };
    let roots: Vec<_> = (0..).zip(&trie.nodes).filter(|(_, n)| n.start == 0).map(|(i, _)| i).collect();
    let below = |root: u32| trie.leaf.iter().filter(|leaf| trie.nodes[**leaf as usize].parent == root).count();
    let mut popularity: Vec<_> = roots.iter().map(|root| below(*root)).collect();
    popularity.sort_unstable();
    // 2,000 in the ratio 6 : 3 : 2, give or take three standard errors.
    for (got, wanted) in popularity.into_iter().zip([364.0, 545.0, 1_091.0]) {
        assert!((got as f64 - wanted).abs() < 70.0, "{got} {wanted}");
    }
    // A prefix that does not end with a block is shared as far as blocks are complete.
    let mut uneven = document(500);
    uneven["prefix"] = json!([{ "tokens": 250 }]);
    let cache = facts(&generate(uneven)).cache;
    assert_eq!((cache.blocks, cache.distinct_blocks), (4 * 500, 2 + 2 * 500));
}

#[test]
fn conversations_repeat_everything_said_before() {
    let workload = generate(json!({
        "sessions": 300, "turns": "geometric:5", "input": 1000, "next_input": 70, "output": 30, "think_ms": "exponential:2000",
        "prefix": [{ "tokens": 500 }], "max_context_tokens": 3000,
    }));
    let Release::Sessions { sessions, .. } = &workload.release else { panic!("no sessions") };
    for session in sessions {
        let turns = &workload.requests[session.first as usize..(session.first + session.turns) as usize];
        for (n, turn) in turns.iter().enumerate() {
            assert_eq!((turn.prompt_tokens, turn.output_tokens), (1500 + 100 * n as u32, 30));
        }
    }
    let stats = facts(&workload);
    assert!(stats.sessions.turns.max <= 15.0, "3000 tokens hold 15 turns");
    close(stats.sessions.turns.mean, 5.0, 0.15, "turns");
    close(stats.sessions.think_ms.mean, 2000.0, 0.1, "think time");
    assert!(workload.notes.iter().any(|note| note.contains("ended at max_context_tokens")));
}

#[test]
fn an_agent_calls_tools_before_it_answers() {
    let workload = generate(json!({
        "sessions": 50, "turns": 2, "input": 100, "output": 400, "think_ms": 9000,
        "tools": { "calls": 3, "output": 20, "result": 500, "wait_ms": 1500 },
    }));
    let first: Vec<_> =
        workload.requests[..8].iter().map(|r| (r.prompt_tokens, r.output_tokens, r.delay.as_ms())).collect();
    let message = |context: u32, wait: f64| {
        [(0, 20, wait), (520, 20, 1500.0), (1040, 20, 1500.0), (1560, 400, 1500.0)].map(|(p, o, w)| (context + p, o, w))
    };
    assert_eq!(first[..4], message(100, 0.0));
    assert_eq!(first[4..], message(2160, 9000.0));
    assert_eq!(workload.requests.len(), 50 * 8);
}

#[test]
fn streams_leave_each_other_alone() {
    let base = json!({
        "sessions": 200, "arrivals": { "process": "gamma", "rate_per_s": 2.0, "cv": 2.0 }, "turns": "geometric:3",
        "input": "lognormal:500:1", "output": "lognormal:100:1", "think_ms": "exponential:1000",
        "prefix": [{ "fan_out": 5, "tokens": "uniform:100:900" }],
    });
    let with = |changes: Value| {
        let mut document = base.clone();
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        generate(document)
    };
    let starts = |w: &Workload| -> Vec<f64> {
        let Release::Sessions { sessions, .. } = &w.release else { panic!("no sessions") };
        sessions.iter().map(|s| w.requests[s.first as usize].arrival.as_ms()).collect()
    };
    let first_prompts = |w: &Workload| -> Vec<u32> {
        let Release::Sessions { sessions, .. } = &w.release else { panic!("no sessions") };
        sessions.iter().map(|s| w.requests[s.first as usize].prompt_tokens).collect()
    };
    let before = with(json!({}));
    let longer = with(json!({ "output": "uniform:5:9", "think_ms": 5, "turns": 4 }));
    assert_eq!((starts(&before), first_prompts(&before)), (starts(&longer), first_prompts(&longer)));
    let other_pace = with(json!({ "arrivals": { "process": "constant", "rate_per_s": 1.0 } }));
    let lengths =
        |w: &Workload| w.requests.iter().map(|r| (r.prompt_tokens, r.output_tokens, r.delay)).collect::<Vec<_>>();
    assert_eq!(lengths(&before), lengths(&other_pace));
    let more = with(json!({ "sessions": 400 }));
    let n = before.requests.len();
    assert_eq!(before.requests, more.requests[..n]);
    let (Content::Trie(a), Content::Trie(b)) = (&before.content, &more.content) else { panic!("no trees") };
    for one in (0..n as u32).step_by(7) {
        for other in (0..n as u32).step_by(11).filter(|other| *other != one) {
            assert_eq!(a.shared_blocks(one, other), b.shared_blocks(one, other));
        }
    }
    let other_seed = with(json!({ "seed": 8 }));
    assert_ne!((starts(&before), lengths(&before)), (starts(&other_seed), lengths(&other_seed)));
    assert_eq!(format!("{:?}", with(json!({ "seed": 7 }))), format!("{before:?}"), "the scenario's seed is 7");
}

#[test]
fn the_toolagent_mix_is_the_published_one() {
    // An hour: 23,608 requests of 8,596 tokens in the full trace; 49 % chat (14.1 k / 393), 36 % tools (6.75 k / 14),
    // 15 % (3.35 k / 20) in its first 1,000 rows; reuse 59 %.
    let workload = generate(json!({ "preset": "toolagent" }));
    let stats = facts(&workload);
    close(stats.requests as f64, 23_608.0, 0.03, "requests");
    close(stats.sessions.starts.as_ref().unwrap().duration_s, 3_600.0, 0.01, "an hour");
    close(stats.cache.ideal_reuse, 0.59, 0.03, "ideal reuse");
    let Release::Sessions { sessions, .. } = &workload.release else { panic!("no sessions") };
    for (class, share, input, output) in
        [("chat", 0.49, 14_100.0, 393.0), ("tool", 0.36, 6_750.0, 14.0), ("agent", 0.15, 3_350.0, 20.0)]
    {
        let of_class = sessions.iter().filter(|s| s.name.starts_with(class));
        let requests: Vec<_> =
            of_class.flat_map(|s| &workload.requests[s.first as usize..(s.first + s.turns) as usize]).collect();
        let n = requests.len() as f64;
        close(n / stats.requests as f64, share, 0.04, class);
        close(requests.iter().map(|r| f64::from(r.prompt_tokens)).sum::<f64>() / n, input, 0.04, class);
        close(requests.iter().map(|r| f64::from(r.output_tokens)).sum::<f64>() / n, output, 0.04, class);
    }
    assert!(
        sessions.iter().all(|s| workload.requests[s.first as usize].arrival.as_nanos().is_multiple_of(3_053_000_000))
    );
}

#[test]
fn keys_beside_the_classes_hold_for_all_that_have_none_of_their_own() {
    let workload = generate(json!({
        "sessions": 400, "output": 9, "input": 50, "classes": [{ "weight": 3, "name": "a" }, { "input": 70, "name": "b" }],
    }));
    assert!(workload.requests.iter().all(|r| r.output_tokens == 9));
    let long = workload.requests.iter().filter(|r| r.prompt_tokens == 70).count();
    assert!((75..125).contains(&long), "{long} of 400, expected a quarter");
    assert_eq!(
        refusal(json!({ "preset": "toolagent", "output": 9 })),
        "`workload.output`: has no effect: every class has its own; leave it out, or change it within `classes`"
    );
}

#[test]
fn a_document_survives_being_spelled_out() {
    for document in [
        json!({ "preset": "toolagent", "sessions": 5 }),
        json!({ "preset": "generate", "tools": {}, "input": "uniform:1:5", "arrivals": { "process": "diurnal", "rate_per_s": 2, "amplitude": 0.5 } }),
    ] {
        let run = run(document);
        let again = Scenario::describe(&run).and_then(|s| s.resolve(Path::new(""))).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(run.traffic, again.traffic);
        assert!(matches!(run.traffic.source, TrafficSource::Preset(Preset::Generate(_))));
    }
}

#[test]
fn a_faulty_document_is_refused_with_place_cause_and_cure() {
    for (document, message) in [
        (json!({ "sesions": 5 }), "`workload.sesions`: unknown key; did you mean `sessions`?"),
        (json!({ "outputs": 5 }), "`workload.outputs`: unknown key; did you mean `output`?"),
        (json!({ "sessions": 0 }), "`workload.sessions`: is 0; give at least 1"),
        (json!({ "sessions": -1 }), "`workload.sessions`: invalid value: integer `-1`, expected u32"),
        (
            json!({ "input": { "dist": "lognormal", "medain": 5, "sigma": 1 } }),
            "`workload.input.medain`: unknown key; did you mean `median`?",
        ),
        (
            json!({ "input": { "dist": "lognormal", "sigma": 1 } }),
            "`workload.input`: a log-normal distribution has either a median or a mean; give",
        ),
        (
            json!({ "input": { "dist": "log_normal", "sigma": 1 } }),
            "`workload.input.dist`: `log_normal` is unknown; did you mean `lognormal`?",
        ),
        (
            json!({ "input": "uniform:1" }),
            "`workload.input`: \"uniform:1\" is no distribution; give a number, uniform:MIN:MAX",
        ),
        (
            json!({ "input": { "dist": "uniform", "min": 9, "max": 3 } }),
            "`workload.input.max`: is 3, below min 9; swap the two",
        ),
        (
            json!({ "input": [1] }),
            "`workload.input`: invalid type: sequence, expected a number or a distribution such as",
        ),
        (
            json!({ "arrivals": { "process": "poison" } }),
            "`workload.arrivals.process`: `poison` is unknown; did you mean `poisson`?",
        ),
        (
            json!({ "arrivals": { "process": "poisson", "rate": 4 } }),
            "`workload.arrivals.rate`: unknown key; did you mean `rate_per_s`?",
        ),
        (
            json!({ "arrivals": { "process": "poisson", "rate_per_s": 0 } }),
            "`workload.arrivals.rate_per_s`: is 0; give a number from 0.000000001 to 1000000000",
        ),
        (
            json!({ "arrivals": { "process": "weibull", "rate_per_s": 1 } }),
            "`workload.arrivals`: Weibull gaps have one parameter; give `cv` or `shape`",
        ),
        (
            json!({ "arrivals": { "process": "mmpp", "states": [{ "rate_per_s": 1, "mean_s": 0 }] } }),
            "`workload.arrivals.states[0].mean_s`: is 0; give a number from 0.001",
        ),
        (
            json!({ "classes": [{}, { "prefix": [{ "fan_out": 0 }] }] }),
            "`workload.classes[1].prefix[0].fan_out`: is 0; give at least 1",
        ),
        (json!({ "classes": [{ "wieght": 1 }] }), "`workload.classes[0].wieght`: unknown key; did you mean `weight`?"),
        (
            json!({ "classes": [{ "weight": 0 }] }),
            "`workload.classes`: the weights add up to 0; give one of them a weight above 0",
        ),
        (
            json!({ "tools": { "calls": { "dist": "geometric", "mean": 0.5 } } }),
            "`workload.tools.calls.mean`: is less than 1; counts begin at 1",
        ),
        (json!({ "input": "uniform:1:1e999" }), "`workload.input`: \"1e999\" is no number; "),
        (json!({ "arrivals": "poisson:inf" }), "`workload.arrivals`: \"inf\" is no number; "),
        (json!({ "preset": "toolagents" }), "`workload.preset`: is \"toolagents\"; use agent, generate or toolagent"),
    ] {
        let refusal = refusal(document.clone());
        assert!(refusal.starts_with(message), "{document}: {refusal}");
    }
}

#[test]
fn what_would_not_fit_or_never_end_is_refused() {
    let refused = |document: Value| attempt(document).expect_err("refused").to_string();
    let endless = refused(json!({ "duration_s": 1e9, "arrivals": { "process": "constant", "rate_per_s": 1e9 } }));
    assert!(endless.starts_with("`duration_s`: there are more than 50000000 sessions"), "{endless}");
    let long = refused(json!({ "sessions": 2, "turns": 1e9, "input": 1, "output": 1 }));
    assert!(long.starts_with("`turns`: a session has more than 1000000 requests"), "{long}");
    let calls = refused(json!({ "sessions": 2, "tools": { "calls": 1e12, "output": 0, "result": 0 } }));
    assert!(calls.starts_with("`turns`: a session has more than 1000000 requests"), "{calls}");
    let stuck = refused(json!({ "sessions": 2, "arrivals": { "process": "mmpp", "states": [
        { "rate_per_s": 1e-9, "mean_s": 0.001 }, { "rate_per_s": 0, "mean_s": 0.001 },
    ] } }));
    assert!(stuck.starts_with("`arrivals`: the states change more than"), "{stuck}");
    let late = refused(json!({ "sessions": 100_000, "arrivals": { "process": "constant", "rate_per_s": 1e-9 } }));
    assert!(late.starts_with("`arrivals`: ") && late.contains("outside the virtual clock"), "{late}");
    let no_room = refused(json!({ "prefix": [{ "tokens": 1000 }], "max_context_tokens": 1001 }));
    assert!(
        no_room.starts_with("`max_context_tokens`: is 1001, but a session begins with a prefix of 1000"),
        "{no_room}"
    );
    let fading = generate(
        json!({ "sessions": 100, "arrivals": { "process": "ramp", "from_per_s": 2, "to_per_s": 0, "over_s": 10 } }),
    );
    assert!(fading.notes.iter().any(|n| n.contains("of 100 sessions begin: the arrival rate falls to zero")));
}

/// Any number one might write.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(1.0),
        Just(-1.0),
        Just(0.5),
        Just(1e-300),
        Just(1e300),
        Just(4e9),
        Just(1e9),
        Just(1e-9),
        0.0..10.0,
        0.0..1e5,
    ]
}

fn dist() -> impl Strategy<Value = Value> {
    (0_usize..8, number(), number(), number(), any::<bool>()).prop_map(|(kind, a, b, c, bounded)| {
        let mut dist = match kind {
            0 => return json!(a),
            1 => return json!({ "dist": "uniform", "min": a, "max": b }),
            2 => json!({ "dist": "lognormal", "median": a, "sigma": b }),
            3 => json!({ "dist": "lognormal", "mean": a, "sigma": b }),
            4 => json!({ "dist": "normal", "mean": a, "std": b }),
            5 => json!({ "dist": "exponential", "mean": a }),
            6 => return json!({ "dist": "choice", "values": [a, b], "weights": [c, 1] }),
            _ => json!({ "dist": "geometric", "mean": a }),
        };
        if bounded {
            dist["max"] = json!(c);
        }
        dist
    })
}

fn process() -> impl Strategy<Value = Value> {
    (0_usize..8, number(), number(), number(), number(), number()).prop_map(|(kind, a, b, c, d, cv)| match kind {
        0 => json!({ "process": "constant", "rate_per_s": a }),
        1 => json!({ "process": "poisson", "rate_per_s": a }),
        2 => json!({ "process": "gamma", "rate_per_s": a, "cv": cv }),
        3 => json!({ "process": "weibull", "rate_per_s": a, "cv": cv }),
        4 => json!({ "process": "mmpp", "cv": cv, "states": [{ "rate_per_s": a, "mean_s": b }, { "rate_per_s": c, "mean_s": d }] }),
        5 => json!({ "process": "diurnal", "rate_per_s": a, "amplitude": b, "period_s": c, "peak_s": d, "cv": cv }),
        6 => json!({ "process": "ramp", "from_per_s": a, "to_per_s": b, "over_s": c, "cv": cv }),
        _ => json!({ "process": "spike", "rate_per_s": a, "factor": b, "at_s": c, "for_s": d, "every_s": cv }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_document_of_any_numbers_gives_a_workload_or_an_error(
        arrivals in process(), lengths in prop::collection::vec(dist(), 9), fan_out in prop_oneof![Just(0_u32), Just(1), Just(u32::MAX), 1_u32..9],
        zipf in number(), limit in prop::option::of(0_u32..100_000), batch in prop::option::of(number()), block in 0_u32..2000,
    ) {
        let tools = json!({ "calls": lengths[0], "output": lengths[1], "result": lengths[2], "wait_ms": lengths[3] });
        let mut document = json!({
            "preset": "generate", "sessions": 40, "duration_s": 1e6, "arrivals": arrivals, "batch_s": batch, "block_size": block,
            "input": lengths[4], "output": lengths[5], "turns": lengths[6], "think_ms": lengths[7], "max_context_tokens": limit,
            "prefix": [{ "fan_out": fan_out, "zipf": zipf, "tokens": lengths[8] }, { "fan_out": 3 }],
        });
        if fan_out % 2 == 0 {
            document["tools"] = tools;
            document["max_context_tokens"] = json!(50_000);
        }
        let scenario: Map<String, Value> = Map::from_iter([("version".to_owned(), json!(1)), ("workload".to_owned(), document)]);
        let resolved = Scenario::from_json(&Value::Object(scenario).to_string()).and_then(|s| s.resolve(Path::new("")));
        if let Ok(run) = resolved
            && let Ok(workload) = workload::load(&run)
        {
            prop_assert!(!workload.requests.is_empty());
            prop_assert!(workload.requests.iter().all(|r| r.prompt_tokens > 0 && r.prompt_tokens as u64 + r.output_tokens as u64 <= i32::MAX as u64));
            let Content::Trie(trie) = &workload.content else { panic!("no tree") };
            prop_assert_eq!(trie.leaf.len(), workload.requests.len());
            for (request, leaf) in workload.requests.iter().zip(&trie.leaf) {
                prop_assert!(trie.nodes.get(*leaf as usize).is_none_or(|n| n.end <= request.prompt_tokens / trie.block_tokens));
            }
            // The facts of anything can be told.
            TraceStats::of(&workload, &StatsOptions::default());
        }
    }
}

#[test]
fn the_example_of_the_guide_works() {
    let guide = include_str!("../docs/trace-tools.md");
    let example = guide.split("```json title=support.json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let workload = generate(serde_json::from_str(example).unwrap());
    let stats = facts(&workload);
    close(stats.sessions.count as f64, 3_600.0, 0.06, "sessions in half an hour");
    assert!(stats.cache.within_sessions > 0.6 && stats.cache.across_sessions > 0.1);
}
