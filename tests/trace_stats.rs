//! `trace stats`: facts of traces against published ones and against the definitions spelled out.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::env;
use std::path::{Path, PathBuf};

use dynosim::scenario::Scenario;
use dynosim::time::{SimDuration, SimTime};
use dynosim::workload::content::{Content, PromptTrie, TokenStreams};
use dynosim::workload::stats::{StatsOptions, TraceStats};
use dynosim::workload::{self, Release, RequestSpec, RouterHints, Session, Workload};
use proptest::prelude::*;
use serde_json::json;

/// Prompts of whole blocks of 4 tokens, one session each list, a second between requests.
fn workload(sessions: &[Vec<Vec<u32>>]) -> Workload {
    let prompts: Vec<&[u32]> = sessions.iter().flatten().map(Vec::as_slice).collect();
    let ids = prompts.iter().flat_map(|p| p.iter()).max().map_or(0, |m| m + 1);
    let requests = prompts
        .iter()
        .map(|prompt| RequestSpec {
            arrival: SimTime::ZERO,
            delay: SimDuration::ZERO,
            prompt_tokens: prompt.len() as u32 * 4,
            output_tokens: 1,
        })
        .collect();
    let mut first = 0;
    let sessions = sessions
        .iter()
        .map(|turns| {
            let turns = turns.len() as u32;
            first += turns;
            Session { name: "s".into(), first: first - turns, turns }
        })
        .collect();
    Workload {
        requests,
        // A closed loop has no times: requests come in the order of the trace.
        release: Release::Sessions { sessions, concurrency: Some(1), named: true },
        content: Content::Trie(PromptTrie::build(4, ids, prompts)),
        planned_outputs: true,
        timed: true,
        hints: RouterHints::default(),
        notes: Vec::new(),
    }
}

/// Blocks found in an LRU cache of `capacity` blocks, by the definition: look all up, then use all, the last first.
fn lru(prompts: &[&Vec<u32>], capacity: usize) -> u64 {
    let mut stack: Vec<&[u32]> = Vec::new();
    let mut found = 0;
    for prompt in prompts {
        // A block is what it holds and all before it.
        let blocks: Vec<&[u32]> = (1..=prompt.len()).map(|n| &prompt[..n]).collect();
        found += blocks.iter().filter(|b| stack.contains(b)).count() as u64;
        stack.retain(|b| !blocks.contains(b));
        stack.splice(0..0, blocks);
        stack.truncate(capacity);
    }
    found
}

fn some_sessions() -> impl Strategy<Value = Vec<Vec<Vec<u32>>>> {
    let prompt = prop::collection::vec(0_u32..3, 1..7);
    prop::collection::vec(prop::collection::vec(prompt, 1..5), 1..8)
}

proptest! {
    #[test]
    fn the_curve_is_that_of_a_cache_spelled_out(sessions in some_sessions()) {
        let sizes: Vec<u64> = (0..60).collect();
        let options = StatsOptions { cache_blocks: sizes, ..StatsOptions::default() };
        let stats = TraceStats::of(&workload(&sessions), &options).cache;
        let prompts: Vec<&Vec<u32>> = sessions.iter().flatten().collect();
        let all = prompts.iter().map(|p| p.len() as u64).sum::<u64>();
        prop_assert_eq!(stats.blocks, all);
        for point in stats.curve.iter().filter(|p| p.asked_for) {
            let naive = lru(&prompts, point.blocks as usize);
            prop_assert_eq!((point.reuse * all as f64).round() as u64, naive, "size {}", point.blocks);
        }
        let ideal = lru(&prompts, usize::MAX);
        prop_assert_eq!((stats.ideal_reuse * all as f64).round() as u64, ideal);
        for size in stats.sizes.iter().filter(|_| ideal > 0) {
            let wanted = (ideal as f64 * size.of_ideal).ceil() as u64;
            prop_assert!(lru(&prompts, size.blocks as usize) >= wanted);
            prop_assert!(lru(&prompts, size.blocks as usize - 1) < wanted);
        }
    }

    #[test]
    fn sharing_is_what_counting_gives(sessions in some_sessions()) {
        let stats = TraceStats::of(&workload(&sessions), &StatsOptions::default()).cache;
        let mut users: HashMap<&[u32], HashSet<usize>> = HashMap::new();
        let (mut within, mut all) = (0, 0_u64);
        for (session, turns) in sessions.iter().enumerate() {
            let mut own = HashSet::new();
            for prompt in turns {
                let blocks: Vec<&[u32]> = (1..=prompt.len()).map(|n| &prompt[..n]).collect();
                all += blocks.len() as u64;
                within += blocks.iter().filter(|b| own.contains(*b)).count();
                for block in blocks {
                    own.insert(block);
                    users.entry(block).or_default().insert(session);
                }
            }
        }
        let blocks = sessions.iter().flatten().flat_map(|p| (1..=p.len()).map(|n| &p[..n]));
        let elsewhere = blocks.filter(|b| users[b].len() > 1).count();
        let shared = users.values().filter(|u| u.len() > 1).count();
        let close = |got: f64, part: usize, of: usize| (got - part as f64 / of as f64).abs() < 1e-12;
        prop_assert_eq!((stats.blocks, stats.distinct_blocks), (all, users.len() as u64));
        prop_assert!(close(stats.within_sessions, within, all as usize));
        prop_assert!(close(stats.seen_in_other_sessions, elsewhere, all as usize));
        prop_assert!(close(stats.distinct_shared, shared, users.len()));
    }
}

#[test]
fn a_growing_session_shares_what_was_said_and_generated() {
    // 6 tokens, then 2 generated and 4 more, then 2 generated and 6 more: 6, 12, 20 tokens in blocks of 4.
    let mut workload = workload(&[vec![vec![0], vec![0], vec![0]], vec![vec![0]]]);
    for (request, (own, output)) in workload.requests.iter_mut().zip([(6, 2), (4, 2), (6, 2), (6, 0)]) {
        (request.prompt_tokens, request.output_tokens) = (own, output);
    }
    let runs = |runs: &[(u32, u32)]| runs.into();
    workload.content = Content::Streams(TokenStreams {
        block_tokens: 4,
        delta: true,
        prompts: vec![runs(&[(1, 6)]), runs(&[(2, 4)]), runs(&[(3, 6)]), runs(&[(1, 6)])],
        outputs: vec![None; 4],
    });
    let stats = TraceStats::of(&workload, &StatsOptions::default());
    assert_eq!(stats.prompt_tokens, 6 + 12 + 20 + 6);
    // Blocks 2 + 3 + 5 + 2. The second turn finds one, the third three, the other session two (its last is not full).
    assert_eq!(stats.cache.blocks, 12);
    assert_eq!((stats.cache.ideal_reuse * 12.0).round(), 6.0);
    assert_eq!((stats.cache.within_sessions * 12.0).round(), 4.0);
}

#[test]
fn a_session_of_a_hundred_thousand_turns_is_no_problem() {
    // Turn n repeats all before: 5e9 blocks in all, walked in far less steps.
    let turns = 100_000_u32;
    let mut workload = workload(&[vec![vec![0]]]);
    let nodes =
        (0..turns).map(|i| dynosim::workload::content::TrieNode { parent: i.wrapping_sub(1), start: i, end: i + 1 });
    workload.content =
        Content::Trie(PromptTrie { block_tokens: 4, nodes: nodes.collect(), leaf: (0..turns).collect() });
    workload.requests = (1..=turns).map(|n| RequestSpec { prompt_tokens: n * 4, ..workload.requests[0] }).collect();
    workload.release = Release::Sessions {
        sessions: vec![Session { name: "s".into(), first: 0, turns }],
        concurrency: Some(1),
        named: true,
    };
    let cache = TraceStats::of(&workload, &StatsOptions::default()).cache;
    let (n, all) = (f64::from(turns), f64::from(turns) * f64::from(turns + 1) / 2.0);
    assert_eq!((cache.blocks as f64, cache.distinct_blocks), (all, u64::from(turns)));
    assert!((cache.ideal_reuse - (all - n) / all).abs() < 1e-12);
}

/// A large public trace, where the folder of traces is at hand.
fn shared_trace(name: &str) -> Option<Workload> {
    let shared = env::var_os("DYNOSIM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("traces").join(name);
    if !path.is_file() {
        eprintln!("SKIPPED: {name} is not at {}; set DYNOSIM_SHARED to the folder above", path.display());
        return None;
    }
    let scenario = Scenario::from_json(&json!({"version": 1, "trace": path}).to_string()).expect("a scenario");
    let run = scenario.resolve(Path::new("")).expect("a run");
    Some(workload::load(&run).expect("a trace"))
}

#[test]
fn published_facts_of_the_public_traces_come_out() {
    // name, requests, mean prompt and output, ideal reuse, share of it with one cache of 3 M, 30 M and 50 M tokens
    let facts = [
        ("conversation_trace.jsonl", 12_031, (12_035, 343), "0.3664", ["0.371", "0.979", "0.992"]),
        ("synthetic_trace.jsonl", 3_993, (15_325, 149), "0.6396", ["0.484", "1.000", "1.000"]),
        ("mooncake_trace_1000.jsonl", 1_000, (9_792, 199), "0.3799", ["0.902", "1.000", "1.000"]),
    ];
    for (name, requests, lengths, ideal, shares) in facts {
        let Some(workload) = shared_trace(name) else { continue };
        let cache_blocks = [3, 30, 50].map(|millions| millions * 1_000_000 / 512).to_vec();
        let stats = TraceStats::of(&workload, &StatsOptions { cache_blocks, ..StatsOptions::default() });
        let means = (stats.prompt.mean.round() as u64, stats.output.mean.round() as u64);
        assert_eq!((stats.requests, means), (requests, lengths), "{name}");
        assert_eq!(format!("{:.4}", stats.cache.ideal_reuse), ideal, "{name}");
        let asked = stats.cache.curve.iter().filter(|point| point.asked_for);
        let got: Vec<String> = asked.map(|point| format!("{:.3}", point.of_ideal)).collect();
        assert_eq!(got, shares, "{name}");
    }
}
