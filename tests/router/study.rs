//! The comparison of docs/router-study.md has the shape that published comparisons have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// The report of one half of the study.
fn report(trace: &Path, half: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/router-study-{half}.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynosim"));
    command.arg("replay").arg(trace).arg("--quiet").arg("--config").arg(config).arg("--report-json").arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn the_kv_router_reuses_more_and_answers_sooner_at_the_price_of_slower_streams() {
    let shared = env::var_os("DYNOSIM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    for name in ["synthetic_trace.jsonl", "conversation_trace.jsonl"] {
        let trace = shared.join("traces").join(name);
        if !trace.is_file() {
            eprintln!("SKIPPED: the router study needs {}", trace.display());
            continue;
        }
        let (turns, kv) = (report(&trace, "round-robin"), report(&trace, "kv"));
        let ratio = |key: &str| kv[key].as_f64().unwrap() / turns[key].as_f64().unwrap();
        assert!(ratio("prefix_cache_reused_ratio") > 1.5, "{name}");
        assert!(ratio("mean_ttft_ms") < 0.8, "{name}");
        assert!(ratio("output_throughput_tok_s") > 1.02, "{name}");
        assert!(ratio("mean_output_token_throughput_per_user") < 1.0, "{name}");
    }
}
