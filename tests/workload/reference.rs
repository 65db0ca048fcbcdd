//! The reference's own runs.

use super::*;

/// The folder of shared reference data, if it is there.
fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("DYNOSIM_SHARED").unwrap_or_else(|| "../shared".into());
    let path = Path::new(&root).join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn golden_runs_count_the_same_tokens() {
    let Some(folder) = shared("fixtures/golden") else { return };
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("a golden file");
        let cli = |key: &str| golden["cli"].get(key);
        let format = match cli("trace-format").and_then(|f| f.as_str()) {
            None | Some("mooncake") => TraceFormat::Mooncake,
            // A delta session's reported prompt includes what was said before.
            Some(_) => continue,
        };
        let Some(trace) = golden["trace"].as_str() else { continue };
        let file = [format!("fixtures/{trace}"), format!("traces/{trace}")].iter().find_map(|name| shared(name));
        let Some(file) = file else { continue };
        let mut run = trace_run(file, cli("trace-block-size").and_then(|v| v.as_u64()).unwrap_or(512) as u32);
        set_format(&mut run, format);
        run.traffic.concurrency = cli("replay-concurrency").and_then(|v| v.as_u64()).map(|v| v as u32);
        run.traffic.arrival_speedup = cli("arrival-speedup-ratio").and_then(|v| v.as_f64()).unwrap_or(1.0);
        let workload = load(&run).expect("a trace");
        check_shape(&workload);
        let sum = |of: fn(&(u32, u32)) -> u32| lengths(&workload).iter().map(|l| u64::from(of(l))).sum::<u64>();
        let expected = &golden["expected"];
        assert_eq!(expected["num_requests"], workload.requests.len(), "{}", path.display());
        if expected["rejected_requests"].as_u64().unwrap_or(0) == 0
            && expected["completed_requests"] == expected["num_requests"]
        {
            assert_eq!(expected["total_input_tokens"], sum(|l| l.0), "{}", path.display());
            assert_eq!(expected["total_output_tokens"], sum(|l| l.1), "{}", path.display());
        }
        if let (Some(rows), None) = (golden["expected_requests"].as_array(), run.traffic.concurrency) {
            // Rows of the single-worker runtime do not tell turns apart.
            let flat = matches!(workload.release, Release::Flat);
            if !flat && rows.iter().any(|row| row["turn_index"].is_null()) {
                continue;
            }
            let first = |row: &&serde_json::Value| flat || row["turn_index"] == 0;
            let mut theirs: Vec<_> =
                rows.iter().filter(first).filter_map(|row| row["arrival_time_ms"].as_f64()).collect();
            theirs.sort_by(f64::total_cmp);
            let mut ours = match &workload.release {
                Release::Flat => arrivals_ms(&workload),
                Release::Sessions { sessions, .. } => {
                    sessions.iter().map(|s| workload.requests[s.first as usize].arrival.as_ms()).collect()
                }
                Release::Graph(_) => unreachable!("Mooncake rows wait for nobody"),
            };
            ours.sort_by(f64::total_cmp);
            let equal = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 + 1e-9 * a.abs();
            assert!(ours.len() == theirs.len() && ours.iter().zip(&theirs).all(equal), "{}", path.display());
        }
        checked += 1;
    }
    assert!(checked > 10, "{checked} golden files checked");
}

#[test]
fn the_tree_of_a_real_trace_is_that_of_its_ids() {
    let Some(path) = shared("traces/mooncake_trace_1000.jsonl") else { return };
    let text = std::fs::read_to_string(&path).expect("a file");
    let rows: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("a row")).collect();
    let ids: Vec<Vec<u64>> = rows
        .iter()
        .map(|r| r["hash_ids"].as_array().expect("ids").iter().filter_map(|v| v.as_u64()).collect())
        .collect();
    let workload = load(&trace_run(path, 512)).expect("a trace");
    let trie = trie(&workload);
    for (a, one) in ids.iter().enumerate() {
        for (b, other) in ids.iter().enumerate().skip(a + 1).step_by(7) {
            let naive = one.iter().zip(other).take_while(|(x, y)| x == y).count();
            assert_eq!(trie.shared_blocks(a as u32, b as u32) as usize, naive, "rows {a} and {b}");
        }
    }
}
