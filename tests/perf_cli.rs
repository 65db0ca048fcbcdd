//! `dynosim perf` as a user types it: every subcommand, its errors, and its pictures.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use dynosim::perf::{ForwardPassTable, TableLibrary};
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use serde_json::{Value, json};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const KEY: &str = "llama-3.1-8b-fp8__h200_sxm__vllm__tp1";
const ESTIMATE: &str = "roofline:llama-3.1-8b@h200_sxm:fp8:kv-fp8";

fn perf(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.arg("perf").args(args);
    command
}

/// Standard output of a command that succeeds and says nothing else.
fn stdout(args: &[&str]) -> String {
    let output = perf(args).assert().success().stderr("").get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// A file of the repository.
fn asset(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn table_file(key: &str) -> PathBuf {
    asset("assets/perf").join(format!("{key}.json"))
}

/// A folder with a table of the user's: the shipped one with `change` made.
fn user_table(change: impl FnOnce(&mut Value)) -> TempDir {
    let mut table: Value = serde_json::from_str(&fs::read_to_string(table_file(KEY)).unwrap()).unwrap();
    change(&mut table);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.json"), table.to_string()).unwrap();
    folder
}

fn eval(key: &str, points: &Value) -> Vec<f64> {
    let output = perf(&["eval", key, "--points", "-"]).write_stdin(points.to_string()).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

fn prefill(count: u64, new: u64, prefix: u64) -> Value {
    json!({"phase": "prefill", "count": count, "new": new, "prefix": prefix})
}

fn decode(count: u64, context: u64) -> Value {
    json!({"phase": "decode", "count": count, "context": context})
}

#[test]
fn list_shows_every_table_in_the_program() {
    let text = stdout(&["list"]);
    let keys: Vec<&str> = text.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    let files = fs::read_dir(asset("assets/perf")).unwrap().map(|entry| entry.unwrap().path());
    let mut shipped: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    shipped.sort();
    assert_eq!(keys, shipped);
    let line = text.lines().find(|line| line.starts_with(KEY)).unwrap();
    for cell in
        ["nvidia/Llama-3.1-8B-Instruct-FP8", "h200_sxm", "vllm 0.24.0", "fp8_static/fp8", "1,871,961", "114.3 GiB"]
    {
        assert!(line.contains(cell), "{cell} in {line}");
    }
}

#[test]
fn list_as_json_holds_the_figures_of_the_tables() {
    let list: Vec<Value> = serde_json::from_str(&stdout(&["list", "--json"])).unwrap();
    assert_eq!(list.len(), TableLibrary::embedded().entries().count());
    for entry in &list {
        let file: Value =
            serde_json::from_str(&fs::read_to_string(table_file(entry["key"].as_str().unwrap())).unwrap()).unwrap();
        for field in ["model", "system", "backend", "backend_version", "tp", "moe_tp", "moe_ep", "quant", "source"] {
            assert_eq!(entry[field], file["meta"][field], "{field} of {}", entry["key"]);
        }
        for field in ["kv_tokens", "kv_bytes_per_token"] {
            assert_eq!(entry[field], file["memory"][field], "{field} of {}", entry["key"]);
        }
    }
}

#[test]
fn words_narrow_a_list_and_gpus_and_models_have_lists_of_their_own() {
    let list: Vec<Value> = serde_json::from_str(&stdout(&["list", "QWEN3-32b", "h100", "--json"])).unwrap();
    assert_eq!(
        list.iter().map(|e| e["key"].as_str().unwrap()).collect::<Vec<_>>(),
        ["qwen3-32b-fp8__h100_sxm__vllm__tp2"]
    );
    perf(&["list", "nonsense"]).assert().code(2).stdout("").stderr(contains("no table has a name with \"nonsense\""));

    let line = |args: &[&str], name: &str| {
        let text = stdout(args);
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
    };
    assert!(line(&["list", "--gpus"], "h200_sxm").contains("4.80 TB/s"));
    assert!(line(&["list", "--models"], "qwen3-30b-a3b").contains("8 of 128"));
    let gpus: Vec<Value> = serde_json::from_str(&stdout(&["list", "--gpus", "--json", "h100"])).unwrap();
    assert!(gpus.iter().any(|gpu| gpu["name"] == "h100_sxm" && gpu["memory_bytes"] == 85_899_345_920_u64));
    let models: Vec<Value> = serde_json::from_str(&stdout(&["list", "--models", "--json", "llama-3.1-8b"])).unwrap();
    assert_eq!(models[0]["shape"]["layers"], 32);
    // A list holds nothing that cannot be used.
    for model in serde_json::from_str::<Vec<Value>>(&stdout(&["list", "--models", "--json"])).unwrap() {
        eval(&format!("roofline:{}@b200_sxm", model["name"].as_str().unwrap()), &json!([decode(1, 100)]));
    }
}

#[test]
fn a_users_table_is_listed_shown_and_evaluated_like_the_others() {
    let folder = user_table(|table| {
        table["meta"]["slug"] = json!("mine");
        table["meta"]["source"] = json!({"package": "my bench", "version": "7", "license": "private"});
        table["logits"]["ms"].as_array_mut().unwrap().iter_mut().for_each(|ms| *ms = json!(100.0));
    });
    let (key, tables) = ("mine__h200_sxm__vllm__tp1", folder.path().to_str().unwrap());
    let list: Vec<Value> = serde_json::from_str(&stdout(&["list", "--json", "--perf-tables", tables])).unwrap();
    assert_eq!((&list[0]["key"], list.len()), (&json!(key), TableLibrary::embedded().entries().count() + 1));
    assert!(list[0]["file"].as_str().unwrap().ends_with("mine.json"));
    let shown = stdout(&["show", key, "--perf-tables", tables]);
    assert!(shown.contains("my bench 7") && shown.contains("private") && shown.contains("mine.json"), "{shown}");
    let output = perf(&["--perf-tables", tables, "eval", key, "--points", "-"])
        .write_stdin(json!([decode(1, 128)]).to_string())
        .assert()
        .success();
    let ms: Vec<f64> = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert!(ms[0] > 100.0, "{ms:?}");

    let folder = user_table(|table| table["linear"]["tokens"][3] = json!(1));
    let wrong = contains("mine.json").and(contains("linear.tokens[3]"));
    perf(&["list", "--perf-tables", folder.path().to_str().unwrap()]).assert().code(2).stdout("").stderr(wrong);
    perf(&["list", "--perf-tables", "no/such/folder"]).assert().code(2).stderr(contains("no/such/folder"));
}

#[test]
fn eval_gives_the_published_milliseconds_in_order() {
    let checks = [
        (prefill(1, 512, 0), 8.29312),
        (decode(64, 4096), 9.45220),
        (prefill(1, 8192, 0), 127.14907),
        (prefill(4, 2048, 0), 109.17980),
        (prefill(1, 2048, 6144), 38.50155),
        (prefill(1, 16384, 0), 306.66376),
        (decode(1, 128), 3.51295),
        (decode(8, 2048), 3.92410),
        (decode(256, 1024), 12.69851),
        (decode(256, 8192), 52.01772),
    ];
    compare(KEY, &checks);
    let estimates = [
        (prefill(1, 512, 0), 10.4303),
        (prefill(1, 8192, 0), 156.1848),
        (prefill(1, 2048, 6144), 45.8693),
        (decode(1, 128), 3.4286),
        (decode(64, 4096), 8.3154),
        (decode(256, 8192), 41.5725),
    ];
    compare(ESTIMATE, &estimates);
}

fn compare(key: &str, checks: &[(Value, f64)]) {
    let points: Vec<&Value> = checks.iter().map(|(point, _)| point).collect();
    let times = eval(key, &json!(points));
    assert_eq!(times.len(), checks.len());
    for ((point, expected), ms) in checks.iter().zip(times) {
        assert!((ms / expected - 1.0).abs() < 1e-3, "{key} {point}: {ms}, expected {expected}");
    }
}

#[test]
fn eval_prints_full_precision_and_nothing_but_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let points = folder.path().join("points.json");
    fs::write(&points, json!([prefill(3, 777, 1234), decode(17, 3333)]).to_string()).unwrap();
    let points = points.to_str().unwrap();
    let file = table_file(KEY);
    let table = ForwardPassTable::parse(&fs::read_to_string(&file).unwrap(), "t").unwrap();
    let text = stdout(&["eval", KEY, "--points", points]);
    assert!(text.starts_with('[') && text.ends_with("]\n") && text.lines().count() == 1, "{text}");
    let times: Vec<f64> = serde_json::from_str(&text).unwrap();
    assert_eq!(times, [table.prefill_ms(3, 777, 1_234), table.decode_ms(17, 3_333)]);
    // The same table by every name.
    let upper = KEY.to_uppercase();
    for name in [upper.as_str(), &format!("{KEY}.json"), file.to_str().unwrap()] {
        assert_eq!(stdout(&["eval", name, "--points", points]), text, "{name}");
    }
    assert_eq!(eval(KEY, &json!([])), [0.0; 0]);
}

#[test]
fn eval_clamps_as_runs_do() {
    let points = json!([prefill(1, 0, 4096), prefill(0, 512, 0), decode(0, 4096)]);
    assert_eq!(eval(KEY, &points), [0.0, 0.0, 0.0]);
    // A table whose parts take next to nothing.
    let folder = user_table(|table| {
        for part in ["linear", "logits"] {
            table[part]["ms"].as_array_mut().unwrap().iter_mut().for_each(|ms| *ms = json!(0.0));
        }
        for row in table["decode_attention"]["ms"].as_array_mut().unwrap() {
            row.as_array_mut().unwrap().iter_mut().for_each(|ms| *ms = json!(0.25));
        }
    });
    let file = folder.path().join("mine.json");
    assert_eq!(eval(file.to_str().unwrap(), &json!([decode(4, 100)])), [1.0]);
}

#[test]
fn a_bad_point_ends_eval_with_its_index_and_field() {
    let good = decode(1, 1);
    let cases = [
        (json!({"phase": "decode", "count": 1}), "`[1].context`: is missing"),
        (json!({"phase": "prefil", "count": 1}), "`[1].phase`: is \"prefil\""),
        (json!({"count": 1}), "`[1].phase`: is missing"),
        (json!({"phase": "prefill", "count": 1, "new": -5, "prefix": 0}), "`[1].new`: is -5"),
        (json!({"phase": "prefill", "count": 1.5, "new": 5, "prefix": 0}), "`[1].count`: is 1.5"),
        (json!({"phase": "decode", "count": 1, "context": 5, "prefix": 0}), "`[1].prefix`: is unknown"),
        (json!([]), "`[1]`: is []"),
    ];
    for (point, message) in cases {
        let input = json!([good, point]).to_string();
        perf(&["eval", KEY, "--points", "-"]).write_stdin(input).assert().code(2).stdout("").stderr(contains(message));
    }
    let not_a_list = [("{}", "is no list"), ("[", "is not JSON"), ("", "is not JSON")];
    for (input, message) in not_a_list {
        perf(&["eval", KEY, "--points", "-"]).write_stdin(input).assert().code(2).stdout("").stderr(contains(message));
    }
    perf(&["eval", KEY, "--points", "none.json"]).assert().code(2).stderr(contains("cannot read none.json"));
    perf(&["eval", KEY]).assert().code(2).stderr(contains("--points"));
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_ones() {
    for command in [vec!["show"], vec!["plot", "--out", "never.svg"], vec!["eval", "--points", "never.json"]] {
        let key = "llama-3.1-8b-fp8__h200_sxm__vllm__tp3";
        let nearest = contains(format!("{KEY} (nvidia"));
        perf(&command).arg(key).assert().code(2).stdout("").stderr(contains(key).and(nearest));
        assert!(!Path::new("never.svg").exists());
    }
    let cases = [
        ("roofline:llama-3.1-8b", "names no model and GPU"),
        ("roofline:llama-3.1-8b@h300_sxm", "h200_sxm"),
        ("roofline:llama-9@h200_sxm", "llama-3.1-8b"),
        ("roofline:llama-3.1-8b@h200_sxm:tq2", "unknown option \"tq2\""),
        ("roofline:llama-3.1-8b@h200_sxm:tp3", "does not divide"),
        ("roofline:deepseek-v3@h200_sxm", "latent attention"),
        ("missing.npz", "cannot read missing.npz"),
        ("no/such/table.json", "cannot read no/such/table.json"),
    ];
    for (key, message) in cases {
        perf(&["show", key]).assert().code(2).stdout("").stderr(contains(message));
    }
    perf(&["show", "gpt-17"]).assert().code(2).stderr(contains("no table, GPU or model is called \"gpt-17\""));
    perf(&["show", "deepseek-v3"]).assert().code(2).stderr(contains("latent attention"));
}

#[test]
fn show_tells_source_terms_coverage_memory_and_latencies() {
    let text = stdout(&["show", KEY]);
    for words in [
        "nvidia/Llama-3.1-8B-Instruct-FP8",
        "vLLM 0.24.0",
        "AIConfigurator 0.12.0",
        "Apache-2.0",
        "NVIDIA Corporation & Affiliates",
        "decode: 1 to 2,048 requests, context 0 to 262,143",
        "1,871,961 tokens of 65,536 bytes",
        "114.3 GiB",
        "prefix 8,192",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    // 127.149 ms for 8,192 tokens without prefix.
    let row: Vec<&str> =
        text.lines().find(|l| l.trim_start().starts_with("8,192 ")).unwrap().split_whitespace().collect();
    assert_eq!(row[1], "127");
    assert!(stdout(&["show", "qwen3-30b-a3b-fp8block__h200_sxm__vllm__tp1"]).contains("launch floor"));
}

#[test]
fn show_knows_gpus_models_estimates_and_files() {
    let gpu = stdout(&["show", "H200"]);
    assert!(gpu.starts_with("h200_sxm\n") && gpu.contains("151,397,597,184 bytes") && gpu.contains(KEY), "{gpu}");
    assert_eq!(stdout(&["show", asset("assets/gpus/h200_sxm.json").to_str().unwrap()]), gpu);
    let model = stdout(&["show", "Qwen3-32B-FP8"]);
    // As the table of that model on one H200 says.
    let line = model.lines().find(|line| line.starts_with("h200_sxm")).unwrap();
    assert!(model.contains("64 layers") && line.contains(" 737,808 "), "{model}");
    let estimate = stdout(&["show", ESTIMATE]);
    assert!(estimate.contains("roofline estimate") && estimate.contains("1,871,961 tokens"), "{estimate}");
    // 762 GiB in 80 GiB: times, but no room.
    assert!(stdout(&["show", "roofline:llama-3.1-405b@h100_sxm"]).contains("leaves no room for the KV cache"));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), asset_text("assets/models/qwen3-8b.json")).unwrap();
    assert!(stdout(&["show", folder.path().to_str().unwrap()]).contains("36 layers"));
}

fn asset_text(path: &str) -> String {
    fs::read_to_string(asset(path)).unwrap()
}

/// Writes a planner profile whose times grow linearly: prefill 0.1 ms per token, decode 1 ms + 0.001 ms per KV token.
fn profile(path: &Path) {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let arrays: [(&str, &str, &[f64]); 5] = [
        ("prefill_isl", "(2,)", &[100.0, 10_000.0]),
        ("prefill_ttft_ms", "(2,)", &[10.0, 1_000.0]),
        ("decode_active_kv_tokens", "(2,)", &[1_000.0, 100_000.0]),
        ("decode_context_length", "(2,)", &[100.0, 20_000.0]),
        ("decode_itl", "(2, 2)", &[2.0, 2.0, 101.0, 101.0]),
    ];
    for (name, shape, values) in arrays {
        let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}").into_bytes();
        header.resize((header.len() + 11).next_multiple_of(64) - 11, b' ');
        header.push(b'\n');
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(&header).unwrap();
        values.iter().for_each(|value| archive.write_all(&value.to_le_bytes()).unwrap());
    }
    fs::write(path, archive.finish().unwrap().into_inner()).unwrap();
}

#[test]
fn a_planner_profile_is_a_source_like_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.npz");
    profile(&path);
    let key = path.to_str().unwrap();
    // The tokens of all prompts count together, prefixes do not; 8 requests of 1,000 tokens hold 8,000.
    let times = eval(key, &json!([prefill(2, 500, 9_999), prefill(1, 20, 0), decode(8, 1_000)]));
    for (ms, expected) in times.iter().zip([100.0, 2.0, 9.0]) {
        assert!((ms - expected).abs() < 1e-9, "{times:?}");
    }
    let shown = stdout(&["show", key]);
    assert!(
        shown.contains("prefill: 100 to 10,000 new tokens") && shown.contains("1,000 to 100,000 KV tokens"),
        "{shown}"
    );
    plot(key, &folder.path().join("p.svg"));
}

/// Draws `key` and gives the texts of the picture.
fn plot(key: &str, out: &Path) -> Vec<String> {
    assert_eq!(stdout(&["plot", key, "--out", out.to_str().unwrap()]), "");
    let svg = fs::read_to_string(out).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{key}: {e}"));
    assert_eq!(document.root_element().tag_name().name(), "svg");
    assert!(document.descendants().filter(|node| node.has_tag_name("path")).count() >= 3, "{key} has no lines");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{key} has coordinates that are no numbers");
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.filter_map(|node| node.text().map(str::to_owned)).collect()
}

#[test]
fn every_table_draws_a_well_formed_picture_that_names_its_subject() {
    let folder = tempfile::tempdir().unwrap();
    for entry in TableLibrary::embedded().entries() {
        let texts = plot(&entry.key(), &folder.path().join("new/folder/picture.svg")).join("\n");
        let model = entry.meta.model.rsplit('/').next().unwrap();
        for words in [model, &entry.meta.backend_version, "AIConfigurator 0.12.0", "tensor parallel", "cached prefix"] {
            assert!(texts.contains(words), "{words} in the picture of {}", entry.key());
        }
    }
    // Written under a temporary name first: nothing else is left.
    assert_eq!(fs::read_dir(folder.path().join("new/folder")).unwrap().count(), 1);
}

#[test]
fn the_guide_shows_what_the_command_says_and_draws() {
    let guide = asset_text("docs/perf.md");
    let points = guide.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let shown: Vec<f64> = serde_json::from_str(guide.lines().find(|line| line.starts_with("[38.")).unwrap()).unwrap();
    let times = eval(KEY, &serde_json::from_str(points).unwrap());
    let close = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-12;
    assert!(shown.len() == times.len() && shown.iter().zip(&times).all(close), "docs/perf.md has {shown:?}: {times:?}");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("perf.svg");
    plot(KEY, &out);
    let same = fs::read_to_string(out).unwrap() == asset_text("docs/perf.svg");
    assert!(same, "if the change is meant: dynosim perf plot {KEY} --out docs/perf.svg");
}

#[test]
fn equal_questions_give_equal_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for key in [KEY, "qwen3-235b-a22b-fp8block__h200_sxm__vllm__tp8", ESTIMATE] {
        let (a, b) = (folder.path().join("a.svg"), folder.path().join("b.svg"));
        plot(key, &a);
        plot(key, &b);
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap(), "{key}");
    }
}

#[test]
fn a_picture_escapes_what_a_table_says() {
    let folder = user_table(|table| {
        table["meta"]["model"] = json!("<script>&\"'\u{1}");
        table["meta"]["source"]["package"] = json!("</svg>");
    });
    let texts = plot(folder.path().join("mine.json").to_str().unwrap(), &folder.path().join("p.svg"));
    assert!(texts.contains(&"<script>&\"' on H200 SXM".to_owned()), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("</svg> 0.12.0")), "{texts:?}");
}

#[test]
fn no_picture_is_drawn_of_what_does_not_fit_or_where_it_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("p.svg");
    let path = out.to_str().unwrap();
    let no_room = contains("leaves no room for the KV cache");
    perf(&["plot", "roofline:llama-3.1-405b@h100_sxm", "--out", path]).assert().code(2).stderr(no_room);
    assert!(!out.exists());
    let here = folder.path().to_str().unwrap();
    perf(&["plot", KEY, "--out", here]).assert().code(1).stdout("").stderr(starts_with("error: cannot write"));
    perf(&["plot", KEY]).assert().code(2).stderr(contains("--out"));
}
