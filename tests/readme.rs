//! What the README says is true: its commands run, its table is the one printed, its code compiles, its links lead
//! somewhere, and the page about results names every key and column there is.
//!
//! Commands are the lines of `sh` blocks that begin with `dynosim ` or `cargo run --release -- `; files they need are the
//! blocks marked `title=NAME` and the folder `configs/`.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;
use std::{error, fs};

use assert_cmd::Command;
use dynosim::report::{Report, SessionNames};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::workload;
use serde_json::{Map, Value};
use tempfile::TempDir;

const README: &str = include_str!("../README.md");
const KV_TIERS: &str = include_str!("../docs/kv-tiers.md");
const COMPARE: &str = include_str!("../docs/compare.md");
const RESULTS: &str = include_str!("../docs/report.md");

/// A fenced block: the words after the fence, and the lines.
struct Block {
    info: &'static str,
    lines: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    blocks_of(README)
}

fn blocks_of(text: &'static str) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, bool) = (Vec::new(), false);
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(info) if !open => {
                blocks.push(Block { info, lines: Vec::new() });
                open = true;
            }
            Some(_) => open = false,
            None if open => blocks.last_mut().expect("a block is open").lines.push(line),
            None => {}
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

/// Arguments of every command that the program can run.
fn commands() -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for block in blocks().iter().filter(|block| block.info == "sh") {
        for line in block.lines.join("\n").replace("\\\n", " ").lines() {
            let rest = line.strip_prefix("dynosim ").or_else(|| line.strip_prefix("cargo run --release -- "));
            commands.extend(rest.map(words));
        }
    }
    commands
}

/// Splits a command as a shell does; single quotes are the only ones used.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            c => word.push(c),
        }
    }
    assert!(!quoted, "open quote in: {line}");
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A working folder with the files that the commands name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for block in blocks() {
        if let Some((_, name)) = block.info.split_once("title=") {
            fs::write(folder.path().join(name), block.lines.join("\n") + "\n").expect("the file is written");
        }
    }
    let configs = folder.path().join("configs");
    fs::create_dir(&configs).expect("a folder for the scenarios");
    for entry in fs::read_dir(root().join("configs")).expect("the scenarios are there") {
        let path = entry.expect("readable entry").path();
        fs::copy(&path, configs.join(path.file_name().expect("a file has a name"))).expect("the scenario is copied");
    }
    folder
}

/// Runs a command that must succeed without a word on standard error; returns its standard output.
fn run(folder: &Path, args: &[String]) -> String {
    let mut command = Command::cargo_bin("dynosim").expect("the program is built");
    let output = command.current_dir(folder).env_remove("DYNOSIM_LOG").args(args).output().expect("the program runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*complaint), (Some(0), ""), "dynosim {}", args.join(" "));
    String::from_utf8(output.stdout).expect("results are text")
}

#[test]
fn every_command_runs() {
    let folder = folder();
    let commands = commands();
    assert!(commands.len() > 10, "only {} commands found", commands.len());
    for args in commands {
        run(folder.path(), &args);
    }
}

#[test]
fn the_quick_start_prints_the_table_shown() {
    let blocks = blocks();
    let shown = blocks.iter().find(|block| block.info == "text").expect("the README shows a table");
    let printed = run(folder().path(), &commands()[0]);
    // These two lines differ from run to run.
    let fixed = |line: &&str| !line.starts_with("Wall Time") && !line.starts_with("Saved full report");
    let printed: Vec<&str> = printed.lines().filter(fixed).collect();
    let shown: Vec<&str> = shown.lines.iter().copied().filter(fixed).collect();
    assert_eq!(shown.join("\n"), printed.join("\n"));
}

#[test]
fn the_code_compiles_and_runs() -> Result<(), Box<dyn error::Error>> {
    let scenario = Scenario::load(Path::new("configs/quickstart.json"))?;
    let run = scenario.resolve(Path::new(""))?;
    let workload = workload::load(&run)?;
    let (sessions, notes) = (SessionNames::of(&workload), workload.notes.clone());
    let mut simulation = Simulation::new(&run, workload)?;
    let start = Instant::now();
    simulation.run_to_end();
    let outcome = simulation.finish();
    let report = Report::build(&run, &outcome, &sessions, &notes, start.elapsed());
    print!("{}", report.table());

    let blocks = blocks();
    let shown = blocks.iter().find(|block| block.info == "rust").expect("the README shows code");
    let here = include_str!("readme.rs").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    assert!(here.contains(&shown.lines.join("\n")), "this test must hold the lines the README shows");
    Ok(())
}

#[test]
fn the_example_of_kv_tiers_gives_the_figures_shown() {
    let blocks = blocks_of(KV_TIERS);
    let of = |info: &str| blocks.iter().find(|block| block.info == info).expect("the page has such a block");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("tiers.json"), of("json title=tiers.json").lines.join("\n")).expect("written");
    let command = of("sh").lines.join("\n").replace("\\\n", " ");
    run(folder.path(), &words(command.strip_prefix("dynosim ").expect("a command")));
    let report = fs::read_to_string(folder.path().join("report.json")).expect("the report was written");
    let report: Value = serde_json::from_str(&report).expect("the report is JSON");
    let shown: Value = serde_json::from_str(&of("json").lines.join("\n")).expect("the figures shown are JSON");
    for (key, value) in shown.as_object().expect("an object") {
        assert_eq!(&report[key], value, "{key}");
    }
}

#[test]
fn the_example_of_compare_prints_the_table_shown() {
    let blocks = blocks_of(COMPARE);
    let of = |info: &str| blocks.iter().find(|block| block.info == info).expect("the page has such a block");
    let command = of("sh").lines.join("\n").replace("\\\n", " ");
    let printed = run(folder().path(), &words(command.strip_prefix("dynosim ").expect("a command")));
    assert_eq!(of("text").lines.join("\n"), printed.trim_end());
}

/// Headings as the fragment of a link spells them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    })
}

#[test]
fn every_link_leads_somewhere() {
    for (name, text) in [
        ("README.md", README),
        ("docs/report.md", RESULTS),
        ("docs/kv-tiers.md", KV_TIERS),
        ("docs/compare.md", COMPARE),
    ] {
        let folder = root().join(name);
        let folder = folder.parent().expect("a file has a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if let Some(anchor) = link.strip_prefix('#') {
                assert!(headings(text).any(|heading| heading == anchor), "{name} has no heading for #{anchor}");
            } else if !link.contains("://") {
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let path = folder.join(file);
                assert!(path.exists(), "{name} links to {link}, which is not there");
                if !anchor.is_empty() {
                    let text = fs::read_to_string(path).expect("the file is read");
                    assert!(headings(&text).any(|heading| heading == anchor), "{name}: {link} has no such heading");
                }
            }
        }
    }
    assert!(README.contains("](docs/report.md)"));
}

#[test]
fn every_key_and_column_is_explained() {
    let folder = folder();
    let args = words(
        "replay --config configs/quickstart-disagg.json --report-json r.json --report-jsonl r.jsonl --timeseries r.csv \
         --timeseries-interval 100 --scaling '{\"interval_ms\": 1000, \"steps\": [{\"target_decode\": 3}]}'",
    );
    run(folder.path(), &args);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("the file was written");
    let report: Map<String, Value> = serde_json::from_str(&read("r.json")).expect("the report is an object");
    let rows = read("r.jsonl");
    let row: Map<String, Value> =
        serde_json::from_str(rows.lines().next().expect("a row")).expect("a row is an object");
    let series = read("r.csv");
    let statistics = ["mean_", "min_", "max_", "std_", "median_", "p75_", "p90_", "p95_", "p99_"];
    let name = |key: &str| statistics.iter().find_map(|s| key.strip_prefix(s)).unwrap_or(key).to_owned();
    let keys = report.keys().chain(row.keys()).map(|key| name(key));
    let columns = series.lines().next().expect("a header").split(',').map(str::to_owned);
    for key in keys.chain(columns) {
        assert!(RESULTS.contains(&format!("`{key}`")), "docs/report.md does not explain {key}");
    }
}
