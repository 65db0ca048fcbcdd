//! `dynosim trace`: files written by `generate` and `convert` are what `stats` and `replay` read.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

fn dynosim(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dynosim").expect("the binary");
    command.current_dir(folder).args(args);
    command
}

fn stdout(folder: &Path, args: &[&str]) -> String {
    let output = dynosim(folder, args).assert().success().get_output().stdout.clone();
    String::from_utf8(output).expect("text")
}

fn stats(folder: &Path, args: &[&str]) -> Value {
    let text = stdout(folder, &[&["trace", "stats", "--json"], args].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// Everything in a report but the wall clock.
fn report(folder: &Path, args: &[&str]) -> (Value, String) {
    let files = ["--report-json", "report.json", "--report-jsonl", "rows.jsonl", "--quiet"];
    stdout(folder, &[&["replay"], args, &files].concat());
    let mut report: Value =
        serde_json::from_slice(&fs::read(folder.join("report.json")).expect("a report")).expect("JSON");
    for key in ["wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s", "warnings", "scenario"] {
        report.as_object_mut().expect("an object").remove(key);
    }
    // Request ids are drawn from the file's name or the generator's; everything else is the same.
    let rows = fs::read_to_string(folder.join("rows.jsonl")).unwrap_or_default();
    (report, rows)
}

const CHAT: &str = r#"{
  "preset": "generate", "sessions": 120, "block_size": 64, "seed": 5, "arrivals": "gamma:3:2",
  "prefix": [{"name": "system", "fan_out": 3, "tokens": "uniform:100:900"}, {"name": "examples", "fan_out": 2, "tokens": 130}],
  "input": "lognormal:300:0.8", "output": "lognormal:60:0.7", "turns": "geometric:3", "think_ms": "exponential:4000",
  "tools": {"calls": "choice:0:1:2", "output": 20, "result": "lognormal:200:1", "wait_ms": "exponential:700"}
}"#;

#[test]
fn a_run_of_a_document_and_a_run_of_its_file_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("chat.json"), CHAT).unwrap();
    let single = r#"{"preset": "toolagent", "sessions": 150, "turns": 1, "classes": [{"input": 2000, "prefix": [{"tokens": 1024}]}]}"#;
    for (document, blocks) in [(CHAT, "64"), (single, "512")] {
        fs::write(folder.join("document.json"), document).unwrap();
        stdout(folder, &["trace", "generate", "document.json", "--out", "trace.jsonl", "--quiet"]);
        for rule in [["--arrival-speedup-ratio", "2"], ["--replay-concurrency", "7"], ["--num-workers", "2"]] {
            let file = [&["trace.jsonl", "--trace-block-size", blocks], rule.as_slice()].concat();
            let embedded = [&["--workload", "document.json"], rule.as_slice()].concat();
            let (a, b) = (report(folder, &file), report(folder, &embedded));
            assert_eq!(a.0, b.0, "{document} {rule:?}");
            assert_eq!(a.1, b.1, "{document} {rule:?}");
            assert!(a.0["completed_requests"].as_u64().is_some_and(|n| n >= 120));
        }
    }
}

#[test]
fn the_facts_of_a_file_are_those_of_the_document_for_every_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for process in [
        "constant:5",
        "poisson:5",
        "gamma:5:2.5",
        "weibull:5:0.6",
        "mmpp:1:30:20:10",
        "diurnal:5:0.9:120",
        "ramp:1:9:60",
        "spike:3:6:20:10",
    ] {
        let flags = [
            "--arrivals",
            process,
            "--sessions",
            "600",
            "--input",
            "lognormal:900:1",
            "--output",
            "uniform:5:50",
            "--system-tokens",
            "700",
            "--turns",
            "geometric:2",
            "--think-ms",
            "exponential:900",
            "--seed",
            "3",
        ];
        stdout(folder, &[&["trace", "generate", "--out", "a.jsonl"], flags.as_slice()].concat());
        let document = stdout(folder, &[&["trace", "generate", "--print"], flags.as_slice()].concat());
        let mut of_file = stats(folder, &["a.jsonl"])["traces"][0].clone();
        let mut of_document = stats(folder, &["--workload", &document, "--seed", "3"])["traces"][0].clone();
        for facts in [&mut of_file, &mut of_document] {
            let facts = facts.as_object_mut().unwrap();
            facts.remove("name");
            facts.remove("format");
        }
        assert_eq!(of_file, of_document, "{process}");
        let starts = &of_file["sessions"]["starts"];
        assert_eq!(of_file["sessions"]["count"], json!(600));
        assert_eq!(of_file["requests"].as_u64().unwrap(), of_file["prompt"]["count"].as_u64().unwrap());
        assert!(starts["peak_to_mean"].as_f64().unwrap() >= 1.0, "{process}: {starts}");
    }
}

#[test]
fn generating_is_repeatable_and_follows_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |seed: &str, name: &str| {
        stdout(
            folder,
            &["trace", "generate", "--preset", "toolagent", "--sessions", "300", "--seed", seed, "--out", name],
        );
        fs::read(folder.join(name)).unwrap()
    };
    let first = write("1", "a.jsonl");
    assert_eq!(first, write("1", "b.jsonl"));
    assert_ne!(first, write("2", "c.jsonl"));
    let rows = String::from_utf8(first).unwrap();
    let row: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!(row["timestamp"], json!(0));
    assert!(row["session_id"].as_str().is_some_and(|name| name.ends_with("_0")));
}

#[test]
fn a_printed_document_makes_the_same_trace() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("lengths.csv"), "in,out\n100,10\n900,50\n400,7\n").unwrap();
    let args = ["--input", "empirical:lengths.csv:in", "--sessions", "50", "--arrivals", "spike:2:5:10:5"];
    stdout(folder, &[&["trace", "generate", "--out", "a.jsonl"], args.as_slice()].concat());
    let printed = stdout(folder, &[&["trace", "generate", "--print"], args.as_slice()].concat());
    // Kept elsewhere, the document finds its file relative to itself.
    fs::create_dir(folder.join("kept")).unwrap();
    fs::write(folder.join("kept/document.json"), &printed).unwrap();
    fs::copy(folder.join("lengths.csv"), folder.join("kept/lengths.csv")).unwrap();
    fs::remove_file(folder.join("lengths.csv")).unwrap();
    stdout(folder, &["trace", "generate", "kept/document.json", "--out", "b.jsonl"]);
    assert_eq!(fs::read(folder.join("a.jsonl")).unwrap(), fs::read(folder.join("b.jsonl")).unwrap());
}

#[test]
fn conversion_keeps_the_facts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(
        folder.join("azure.csv"),
        concat!(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n",
            "2023-11-16 18:15:46.6805900,374,44\n",
            "2023-11-16 18:15:50.9951690,396,109\n",
            "2023-11-16 18:15:51.2224670,879,55\n",
        ),
    )
    .unwrap();
    let said = stdout(folder, &["trace", "convert", "azure.csv", "--out", "azure.jsonl", "--quiet"]);
    assert_eq!(said, "azure.jsonl: 3 requests, mooncake, 512 tokens per hash id\n");
    let mut facts = [&["azure.csv"], &["azure.jsonl"]].map(|file| stats(folder, file)["traces"][0].clone());
    for facts in &mut facts {
        let facts = facts.as_object_mut().unwrap();
        assert!(facts.remove("name").is_some() && facts.remove("format").is_some());
    }
    assert_eq!(facts[0], facts[1]);
    assert_eq!(facts[0]["arrivals"]["duration_s"], json!(4.541_877));
    assert_eq!(facts[0]["cache"]["ideal_reuse"], json!(0.0));
}

#[test]
fn facts_are_printed_drawn_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    stdout(
        folder,
        &["trace", "generate", "--sessions", "40", "--system-tokens", "1024", "--turns", "2", "--out", "a.jsonl"],
    );
    stdout(folder, &["trace", "generate", "--sessions", "30", "--arrivals", "constant:2", "--out", "b.jsonl"]);
    let one = stdout(folder, &["trace", "stats", "a.jsonl", "--cache-tokens", "3k", "--out", "a.svg"]);
    for part in [
        "a.jsonl (mooncake, 512 tokens per block)",
        "requests    80",
        "Sessions\n",
        "from earlier turns of the session",
        "\n              5   2.56k  ",
    ] {
        assert!(one.contains(part), "{part}:\n{one}");
    }
    let several = stdout(folder, &["trace", "stats", "a.jsonl", "b.jsonl", "--out", "both.svg"]);
    assert_eq!(several.lines().count(), 4, "{several}");
    assert!(several.lines().nth(3).is_some_and(|line| line.starts_with("b.jsonl")), "{several}");
    for (file, texts) in
        [("a.svg", ["Ideal reuse over time", "Gaps, coefficient"]), ("both.svg", ["Prompt lengths", "b.jsonl"])]
    {
        let svg = fs::read_to_string(folder.join(file)).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let written: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        assert!(texts.iter().all(|text| written.iter().any(|w| w.contains(text))), "{file}: {written:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{file}");
    }
}

#[test]
fn wrong_flags_and_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("bad.jsonl"), "{\"timestamp\":0,\"output_length\":5,\"hash_ids\":[1]}\n{\"timestamp\":1}\n")
        .unwrap();
    for (args, message) in [
        (
            ["trace", "generate", "--out", "x.jsonl", "--input", "uniform:5"].as_slice(),
            "error: `input`: \"uniform:5\" is no distribution; give a number",
        ),
        (
            &["trace", "generate", "--out", "x.jsonl", "--arrivals", "poison:5"],
            "error: `arrivals`: \"poison:5\" is no arrival process; give constant:RATE",
        ),
        (
            &["trace", "generate", "--out", "x.jsonl", "--preset", "nobody"],
            "error: `preset`: is \"nobody\"; use agent, generate or toolagent",
        ),
        (&["trace", "generate", "missing.json", "--out", "x.jsonl"], "error: `DOCUMENT`: cannot read missing.json"),
        (
            &["trace", "generate", "--out", "x.jsonl", "--sessions", "2000000", "--input", "2000000"],
            "error: `block_size`: the file would hold 7814000000 hash ids",
        ),
        (&["trace", "stats", "missing.jsonl"], "error: cannot read the trace missing.jsonl"),
        (&["trace", "stats", "bad.jsonl"], "error: bad.jsonl, line 2, `hash_ids`: missing or empty"),
        (
            &["trace", "stats", "bad.jsonl", "--trace-format", "mooncak"],
            "error: command line, `trace-format`: is \"mooncak\"; did you mean mooncake?",
        ),
        (&["trace", "convert", "bad.jsonl", "--out", "x.jsonl"], "error: bad.jsonl, line 2"),
    ] {
        let output = dynosim(folder, args).assert().code(2).get_output().clone();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(message), "{args:?}: {text}");
        assert!(output.stdout.is_empty() && !folder.join("x.jsonl").exists(), "{args:?}");
    }
}

#[test]
fn the_guide_shows_what_its_commands_give() {
    let guide = include_str!("../docs/trace-tools.md");
    let block = |begin: &str| guide.split(begin).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("support.json"), block("```json title=support.json\n")).unwrap();
    stdout(folder, &["trace", "generate", "support.json", "--out", "support.jsonl"]);
    let text = stdout(folder, &["trace", "stats", "support.jsonl", "--out", "trace-stats.svg"]);
    assert_eq!(block("```text\n"), text, "docs/trace-tools.md holds another text");
    let drawn = fs::read_to_string(folder.join("trace-stats.svg")).unwrap();
    let same = drawn == include_str!("../docs/trace-stats.svg");
    assert!(
        same,
        "docs/trace-stats.svg is another picture: look at the new one, then draw it with the commands of the guide"
    );
}

#[test]
fn a_trace_that_shares_nothing_has_no_charts_about_sharing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("t.csv"), "arrival_time,prompt_tokens,output_tokens\n0,10,5\n1,20,6\n5,30,7\n").unwrap();
    stdout(folder, &["trace", "stats", "t.csv", "--out", "t.svg"]);
    let svg = fs::read_to_string(folder.join("t.svg")).unwrap();
    assert!(svg.contains("no shared prefixes") && svg.contains("Gaps, coefficient"), "{svg}");
    assert!(!svg.contains("no data") && !svg.contains("by cache size"), "{svg}");
}

/// A trace in which every request waits for the one before, `count` links long, and the time its links take at least.
fn chain(format: &str, count: u64) -> (String, f64) {
    let agentic = |i: u64| {
        let after = if i == 0 { String::new() } else { format!(r#","wait_for":["r{}"],"delay":5"#, i - 1) };
        format!(r#"{{"request_id":"r{i}","output_length":1,"hash_ids":[{}]{after}}}"#, i % 999)
    };
    let dynamo = |i: u64| {
        let (begin, end) = (i * 100, i * 100 + 95);
        format!(
            r#"{{"schema":"dynamo.request.trace.v1","event_type":"request_end","event_time_unix_ms":{end},"agent_context":{{"session_id":"s"}},"request":{{"request_id":"r{i}","request_received_ms":{begin},"total_time_ms":95,"output_tokens":1,"replay":{{"trace_block_size":64,"input_length":9,"input_sequence_hashes":[{i}]}}}}}}"#
        )
    };
    let line = |i| if format == "dynamo" { dynamo(i) } else { agentic(i) };
    let text = (0..count).map(line).flat_map(|line| [line, "\n".to_owned()]).collect();
    (text, 5.0 * (count - 1) as f64)
}

#[test]
fn chains_of_200_000_links_are_described_converted_and_replayed() {
    let count = 200_000;
    for format in ["agentic_mooncake", "dynamo"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (text, least_ms) = chain(format, count);
        fs::write(folder.join("t.jsonl"), text).unwrap();
        let stats: Value = serde_json::from_str(&stdout(folder, &["trace", "stats", "t.jsonl", "--json"])).unwrap();
        assert_eq!(stats["traces"][0]["requests"], json!(count), "{format}");
        stdout(folder, &["trace", "convert", "t.jsonl", "--out", "rows.jsonl", "--quiet"]);
        assert_eq!(fs::read_to_string(folder.join("rows.jsonl")).unwrap().lines().count() as u64, count, "{format}");
        stdout(folder, &["replay", "t.jsonl", "--report-json", "r.json", "--quiet"]);
        let report: Value = serde_json::from_slice(&fs::read(folder.join("r.json")).unwrap()).unwrap();
        assert_eq!(report["completed_requests"], json!(count), "{format}");
        // Every link takes its wait and a pass.
        assert!(report["duration_ms"].as_f64().unwrap() > least_ms, "{format}: {}", report["duration_ms"]);
    }
}
