//! Traces and generators: what is read is what the rules say, and nothing a file holds brings the program down.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use dynosim::scenario::{
    AgentPreset, EngineConfig, PreemptionMode, Preset, Role, Run, Semantics, Sla, SyntheticArrivals, SyntheticLoad,
    Topology, TraceFormat, Traffic, TrafficSource, TransferTiming,
};
use dynosim::time::{SimDuration, SimTime};
use dynosim::workload::content::{Content, NO_NODE, PromptTrie, TokenStreams};
use dynosim::workload::{MAX_TOKENS, Release, Session, Workload, WorkloadError, load};
use proptest::prelude::*;

fn engine(block_size: u32) -> EngineConfig {
    EngineConfig {
        role: Role::Aggregated,
        num_gpu_blocks: 16_384,
        block_size,
        max_model_len: None,
        max_num_seqs: Some(256),
        max_num_batched_tokens: Some(8_192),
        enable_prefix_caching: true,
        enable_chunked_prefill: true,
        speedup_ratio: 1.0,
        decode_speedup_ratio: 1.0,
        dp_size: 1,
        startup_time: SimDuration::ZERO,
        speculation: None,
        kv_bytes_per_token: None,
        kv_transfer_bandwidth: None,
        kv_transfer_timing: TransferTiming::FullPrompt,
        preemption_mode: PreemptionMode::Lifo,
        tp_size: 1,
    }
}

fn run(source: TrafficSource) -> Run {
    Run {
        traffic: Traffic { source, concurrency: None, arrival_speedup: 1.0 },
        topology: Topology::Aggregated { workers: 1, engine: engine(64) },
        semantics: Semantics::dynamo(),
        sla: Sla::default(),
        max_sim_time: None,
        scaling: None,
        seed: 1,
        warnings: Vec::new(),
    }
}

fn trace_run(path: impl Into<PathBuf>, block_size: u32) -> Run {
    run(TrafficSource::Trace { path: path.into(), format: TraceFormat::Mooncake, block_size })
}

fn set_format(run: &mut Run, new: TraceFormat) {
    if let TrafficSource::Trace { format, .. } = &mut run.traffic.source {
        *format = new;
    }
}

/// Loads `bytes` as a trace with 512 tokens per hash id, after `change` to the run.
fn read_with(bytes: &[u8], change: impl FnOnce(&mut Run)) -> Result<Workload, WorkloadError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room on the disk");
    let mut run = trace_run(file.path(), 512);
    change(&mut run);
    load(&run)
}

fn read(text: &str) -> Result<Workload, WorkloadError> {
    read_with(text.as_bytes(), |_| {})
}

fn trie(workload: &Workload) -> &PromptTrie {
    match &workload.content {
        Content::Trie(trie) => trie,
        other => panic!("no tree but {other:?}"),
    }
}

fn streams(workload: &Workload) -> &TokenStreams {
    match &workload.content {
        Content::Streams(streams) => streams,
        other => panic!("no streams but {other:?}"),
    }
}

fn sessions(workload: &Workload) -> &[Session] {
    match &workload.release {
        Release::Sessions { sessions, .. } => sessions,
        Release::Flat => panic!("a flat list"),
    }
}

fn names(workload: &Workload) -> Vec<(&str, u32, u32)> {
    sessions(workload).iter().map(|s| (&*s.name, s.first, s.turns)).collect()
}

fn arrivals_ms(workload: &Workload) -> Vec<f64> {
    workload.requests.iter().map(|r| r.arrival.as_ms()).collect()
}

fn lengths(workload: &Workload) -> Vec<(u32, u32)> {
    workload.requests.iter().map(|r| (r.prompt_tokens, r.output_tokens)).collect()
}

/// Everything a user can see of a workload.
fn picture(workload: &Workload) -> String {
    format!("{workload:?}")
}

// ---------------------------------------------------------------------------------------------------------------------
// Flat lists

#[test]
fn aliases_missing_lengths_surplus_ids_and_unsorted_rows() {
    let workload = read(concat!(
        r#"{"created_time": 500.5, "input_tokens": 800, "output_tokens": 12, "hash_ids": [100, 101]}"#,
        "\n\n",
        r#"{"timestamp": 10, "output_length": 7, "hash_ids": [100, 102]}"#,
        "\r\n   \n",
        r#"{"timestamp": 20, "input_length": 5000, "output_length": 9, "hash_ids": [100]}"#,
        "\n",
        r#"{"timestamp": 30, "input_length": 100, "output_length": 3, "hash_ids": [100, 101, 102], "type": "text"}"#,
        "\n",
        r#"{"timestamp": 10, "input_length": 1, "output_length": 0, "hash_ids": [18446744073709551615]}"#,
    ))
    .expect("a trace");
    assert!(matches!(workload.release, Release::Flat));
    assert!(workload.planned_outputs);
    assert_eq!(arrivals_ms(&workload), [0.0, 0.0, 10.0, 20.0, 490.5]);
    assert_eq!(lengths(&workload), [(1_024, 7), (1, 0), (512, 9), (100, 3), (800, 12)]);
    assert_eq!(
        workload.notes,
        [
            "1 row was shortened to the capacity of the hash ids, first at line 5",
            "1 row was without output tokens, first at line 7"
        ]
    );
    // The surplus ids of the fourth row share nothing.
    let trie = trie(&workload);
    assert_eq!(trie.block_tokens, 512);
    assert_eq!((trie.shared_blocks(0, 2), trie.shared_blocks(3, 4), trie.shared_blocks(0, 1)), (1, 1, 0));
    assert_eq!(trie.leaf.iter().filter(|l| **l == NO_NODE).count(), 1);
}

#[test]
fn arrivals_are_moved_divided_and_rounded_once() {
    let rows = concat!(
        r#"{"timestamp": -3.5, "output_length": 1, "hash_ids": [1]}"#,
        "\n",
        r#"{"timestamp": 6.8, "output_length": 1, "hash_ids": [1]}"#,
    );
    let workload = read_with(rows.as_bytes(), |run| run.traffic.arrival_speedup = 3.0).expect("a trace");
    let expected = ((6.8 - -3.5) / 3.0_f64 * 1e6).round_ties_even() as u64;
    assert_eq!(workload.requests[1].arrival, SimTime::from_nanos(expected));
    assert_eq!(workload.notes, ["timestamps begin at -3.5 ms and were moved to begin at 0"]);
}

#[test]
fn simultaneous_rows_stay_in_file_order() {
    let rows: String = (0..100)
        .map(|i| format!("{{\"timestamp\":{},\"output_length\":{i},\"hash_ids\":[1]}}\n", 5 - i / 50 * 5))
        .collect();
    let workload = read(&rows).expect("a trace");
    let outputs: Vec<_> = workload.requests.iter().map(|r| r.output_tokens).collect();
    assert_eq!(outputs, (50..100).chain(0..50).collect::<Vec<_>>());
}

// ---------------------------------------------------------------------------------------------------------------------
// Sessions

const SESSIONS: &str = r#"{"session_id": "a", "timestamp": 7, "input_length": 1000, "output_length": 20, "hash_ids": [1, 2]}
{"session_id": "b", "timestamp": 107, "input_length": 700, "output_length": 30, "hash_ids": [1, 9]}
{"session_id": "a", "delay": 250, "input_length": 1500, "output_length": 10, "hash_ids": [1, 2, 3]}
{"session_id": "b", "timestamp": 907, "input_length": 1200, "output_length": 15, "hash_ids": [1, 9, 10]}
{"session_id": "a", "delay_ms": 0, "input_length": 2048, "output_length": 5, "hash_ids": [1, 2, 3, 4]}
{"timestamp": 57, "input_length": 300, "output_length": 40, "hash_ids": [7]}
{"session_id": "b", "input_length": 1600, "output_length": 1, "hash_ids": [1, 9, 10, 11]}
{"timestamp": 57, "input_length": 513, "output_length": 2, "hash_ids": [7, 8]}
"#;

#[test]
fn turns_of_a_session_are_neighbours() {
    let workload = read(SESSIONS).expect("a trace");
    assert_eq!(names(&workload), [("a", 0, 3), ("b", 3, 3), ("request_6", 6, 1), ("request_8", 7, 1)]);
    assert!(matches!(workload.release, Release::Sessions { concurrency: None, named: true, .. }));
    let delays: Vec<_> = workload.requests.iter().map(|r| r.delay.as_ms()).collect();
    assert_eq!(delays, [0.0, 250.0, 0.0, 0.0, 800.0, 0.0, 0.0, 0.0]);
    let first: Vec<_> = sessions(&workload).iter().map(|s| arrivals_ms(&workload)[s.first as usize]).collect();
    assert_eq!(first, [0.0, 100.0, 50.0, 50.0]);
    let trie = trie(&workload);
    assert_eq!((trie.shared_blocks(0, 1), trie.shared_blocks(1, 2), trie.shared_blocks(2, 3)), (2, 3, 1));
    assert_eq!((trie.shared_blocks(4, 5), trie.shared_blocks(6, 7), trie.shared_blocks(0, 7)), (3, 1, 0));
}

#[test]
fn the_speed_up_divides_think_times_in_an_open_loop_only() {
    let speed = |run: &mut Run| run.traffic.arrival_speedup = 4.0;
    let open = read_with(SESSIONS.as_bytes(), speed).expect("a trace");
    assert_eq!((open.requests[1].delay.as_ms(), open.requests[3].arrival.as_ms()), (62.5, 25.0));
    let closed = read_with(SESSIONS.as_bytes(), |run| {
        speed(run);
        run.traffic.concurrency = Some(2);
    })
    .expect("a trace");
    assert!(matches!(closed.release, Release::Sessions { concurrency: Some(2), named: true, .. }));
    assert_eq!((closed.requests[1].delay.as_ms(), closed.requests[3].arrival), (250.0, SimTime::ZERO));
}

#[test]
fn a_closed_loop_needs_no_timestamps_and_keeps_single_turns_as_sessions() {
    let rows = "{\"output_length\":1,\"hash_ids\":[1]}\n{\"timestamp\":1e300,\"output_length\":1,\"hash_ids\":[1]}\n";
    let workload = read_with(rows.as_bytes(), |run| run.traffic.concurrency = Some(1)).expect("a trace");
    assert_eq!(names(&workload), [("request_1", 0, 1), ("request_2", 1, 1)]);
    let error = read(rows).expect_err("no timestamp").to_string();
    assert!(error.contains("line 1, `timestamp`: missing in the first row of session `request_1`"), "{error}");
}

#[test]
fn a_turn_without_timestamp_leaves_the_last_one_in_place() {
    let row = |more: &str| format!("{{\"session_id\":\"s\",\"output_length\":1,\"hash_ids\":[1]{more}}}\n");
    let rows = [
        row(",\"timestamp\":10"),
        row(",\"delay\":5"),
        row(",\"timestamp\":40"),
        row(""),
        row(",\"timestamp\":41,\"delay\":0"),
    ];
    let workload = read(&rows.concat()).expect("a trace");
    let delays: Vec<_> = workload.requests.iter().map(|r| r.delay.as_ms()).collect();
    assert_eq!(delays, [0.0, 5.0, 30.0, 0.0, 0.0]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Token streams

#[test]
fn delta_sessions_are_streams() {
    let rows = concat!(
        r#"{"session_id": "a", "timestamp": 0, "input_length": 700, "output_length": 30, "hash_ids": [5, 5, 6]}"#,
        "\n",
        r#"{"session_id": "a", "delay": 20.0, "input_length": 600, "output_length": 4, "hash_ids": [6, 7]}"#,
    );
    let workload = read_with(rows.as_bytes(), |run| set_format(run, TraceFormat::MooncakeDelta)).expect("a trace");
    let streams = streams(&workload);
    assert!(streams.delta);
    assert_eq!(*streams.prompts[0], [(0, 700)]);
    assert_eq!(*streams.prompts[1], [(1, 512), (2, 88)]);
    assert_eq!(streams.outputs, [None, None]);
    assert_eq!(lengths(&workload), [(700, 30), (600, 4)]);
}

#[test]
fn delta_without_sessions_is_plain() {
    let rows = "{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1]}";
    let workload = read_with(rows.as_bytes(), |run| set_format(run, TraceFormat::MooncakeDelta)).expect("a trace");
    assert!(matches!((&workload.release, &workload.content), (Release::Flat, Content::Trie(_))));
}

#[test]
fn a_delta_session_may_not_outgrow_the_limit() {
    let row =
        format!("{{\"session_id\":\"a\",\"timestamp\":0,\"output_length\":{},\"hash_ids\":[1]}}\n", MAX_TOKENS / 2);
    let delta = |run: &mut Run| set_format(run, TraceFormat::MooncakeDelta);
    let error = read_with(row.repeat(3).as_bytes(), delta).expect_err("too long").to_string();
    assert!(error.contains("line 2, `input_length`: with all before it the session has"), "{error}");
}

#[test]
fn authored_outputs_make_streams() {
    let rows = concat!(
        r#"{"timestamp": 1, "input_length": 3, "output_length": 2, "hash_ids": [9], "output_token_ids": [0, 4294967295]}"#,
        "\n",
        r#"{"timestamp": 0, "output_length": 0, "hash_ids": [9], "output_token_ids": []}"#,
    );
    let workload = read(rows).expect("a trace");
    let streams = streams(&workload);
    assert!(!streams.delta);
    assert_eq!(streams.outputs, [None, Some([0, u32::MAX].into())]);
    assert_eq!(*streams.prompts[1], [(0, 3)]);
    let wrong = read(r#"{"timestamp":0,"output_length":2,"hash_ids":[1],"output_token_ids":[1]}"#);
    let error = wrong.expect_err("one token is missing").to_string();
    assert!(
        error.contains("line 1, `output_token_ids`: 1 output tokens are listed, but `output_length` is 2"),
        "{error}"
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// Wrong rows

#[test]
fn errors_name_line_field_and_cause() {
    let good = "{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1],\"session_id\":\"s\"}\n\n";
    for (row, expected) in [
        ("{", "line 3, column 1: EOF while parsing an object"),
        ("[1]", "line 3: invalid type: sequence, expected a JSON object"),
        ("{} {}", "line 3, column 4: trailing characters"),
        ("{\"output_length\":1}", "line 3, `hash_ids`: missing or empty"),
        ("{\"output_length\":1,\"hash_ids\":[]}", "line 3, `hash_ids`: missing or empty"),
        ("{\"hash_ids\":[1]}", "line 3, `output_length`: missing"),
        ("{\"output_length\":1,\"hash_ids\":[-1]}", "`hash_ids`: invalid value: integer `-1`, expected u64"),
        ("{\"output_length\":1,\"hash_ids\":[1.5]}", "`hash_ids`: invalid type: floating point `1.5`, expected u64"),
        ("{\"output_length\":1,\"hash_ids\":[\"1\"]}", "`hash_ids`: invalid type: string \"1\", expected u64"),
        ("{\"output_length\":1,\"hash_ids\":{}}", "`hash_ids`: invalid type: map"),
        ("{\"output_length\":1,\"hash_ids\":[18446744073709551616]}", "`hash_ids`: invalid type: floating point"),
        ("{\"output_length\":-1,\"hash_ids\":[1]}", "`output_length`: invalid value: integer `-1`, expected u64"),
        (
            "{\"output_length\":1000000000000,\"hash_ids\":[1]}",
            "`output_length`: has 1000000000000 tokens, more than the limit of 2147483647",
        ),
        ("{\"output_length\":1e12,\"hash_ids\":[1]}", "`output_length`: invalid type: floating point"),
        ("{\"output_length\":1,\"input_length\":0,\"hash_ids\":[1]}", "`input_length`: is 0"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"timestamp\":1,\"created_time\":1}", "`timestamp`: given twice"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"hash_ids\":[1]}", "`hash_ids`: given twice"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"timestamp\":1e400}", "`timestamp`: number out of range"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"timestamp\":1e300}", "line 3, `timestamp`: puts the arrival 1"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"delay\":3}", "line 3, `delay`: is 3 in the first row of a session"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"session_id\":\"s\",\"delay\":-3}", "line 3, `delay`: is -3 ms"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"session_id\":\"s\",\"delay\":1e300}", "line 3, `delay`: 1"),
        (
            "{\"output_length\":1,\"hash_ids\":[1],\"session_id\":\"s\",\"timestamp\":-3}",
            "line 3, `timestamp`: -3 lies 3 ms before",
        ),
        ("{\"output_length\":1,\"hash_ids\":[1],\"priority\":1.5}", "`priority`: invalid type: floating point `1.5`"),
        ("{\"output_length\":1,\"hash_ids\":[1],\"a\0b\":1}", "line 3, column 35: control character"),
        ("\0", "line 3, column 1: expected value"),
    ] {
        let error = read(&format!("{good}{row}")).expect_err(row).to_string();
        assert!(error.contains(expected), "{row}\n  {error}\n  {expected}");
        assert!(error.contains("; "), "no cure: {error}");
    }
}

#[test]
fn a_first_timestamp_is_needed_to_count_from() {
    let rows = "{\"output_length\":1,\"hash_ids\":[1],\"session_id\":\"s\"}\n{\"output_length\":1,\"hash_ids\":[1],\"session_id\":\"s\",\"timestamp\":4}";
    let error = read(rows).expect_err("nothing to count from").to_string();
    assert!(error.contains("line 2, `timestamp`: no earlier row"), "{error}");
}

#[test]
fn files_without_rows_and_files_that_are_not_there() {
    for empty in ["", "\n \r\n\t\n", "\u{feff}"] {
        let error = read(empty).expect_err("no rows").to_string();
        assert!(error.contains("no rows"), "{error}");
    }
    let error = load(&trace_run("/nowhere/at/all.jsonl", 512)).expect_err("no file").to_string();
    assert!(error.contains("/nowhere/at/all.jsonl"), "{error}");
    load(&trace_run(std::env::temp_dir(), 512)).expect_err("a folder is no trace");
}

#[test]
fn invalid_utf_8_is_located() {
    let error = read_with(b"{}\n{\"a\":\"\xff\"}", |_| {}).expect_err("not UTF-8").to_string();
    assert!(error.contains("line 2, column 7: not UTF-8"), "{error}");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let workload = read("\u{feff}{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1]}").expect("a trace");
    assert_eq!(workload.notes, ["the byte-order mark at the beginning of the trace was skipped"]);
}

#[test]
fn deep_nesting_in_unknown_fields_is_passed_over() {
    let depth = 1_000_000;
    let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let row = format!("{{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1],\"x\":{nest}}}");
    assert_eq!(read(&row).expect("a trace").requests.len(), 1);
    let open = format!("{{\"x\":{}", "{\"y\":".repeat(depth));
    read(&open).expect_err("never closed");
    let ids = format!("{{\"hash_ids\":{nest}}}");
    read(&ids).expect_err("lists are no ids");
}

#[test]
fn a_single_huge_line_is_an_error_of_ordinary_length() {
    let error = read(&"x".repeat(100_000_000)).expect_err("no JSON").to_string();
    assert!(error.len() < 1_000);
    let text = format!("{{\"output_length\":\"{}\"}}", "9".repeat(100_000_000));
    let error = read(&text).expect_err("no number").to_string();
    assert!(error.len() < 1_000 && error.contains("`output_length`"), "{error}");
}

#[test]
fn a_single_huge_row_is_read() {
    let ids = vec!["7"; 3_000_000].join(",");
    let row = format!("{{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[{ids}]}}");
    assert_eq!(lengths(&read(&row).expect("a trace")), [(3_000_000 * 512, 1)]);
    let error = read_with(row.as_bytes(), |run| {
        if let TrafficSource::Trace { block_size, .. } = &mut run.traffic.source {
            *block_size = u32::MAX;
        }
    });
    let error = error.expect_err("too many tokens").to_string();
    assert!(error.contains("line 1, `input_length`: has 12884901885000000 tokens"), "{error}");
}

proptest! {
    #[test]
    fn random_bytes_are_a_result_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_with(&bytes, |_| {});
    }

    #[test]
    fn spoilt_rows_are_a_result_or_an_error(
        at in 0..SESSIONS.len(),
        length in 0_usize..12,
        patch in prop::sample::select(vec!["", "\0", "\"", "}", "\n", "1e999", "-", "null", "[[", "é", "99999999999999999999",
            ",\"delay\":1e308", "\"timestamp\":-1e308,"]),
        closed in any::<bool>(),
        delta in any::<bool>(),
    ) {
        let mut bytes = SESSIONS.as_bytes().to_vec();
        bytes.splice(at..(at + length).min(SESSIONS.len()), patch.bytes());
        let result = read_with(&bytes, |run| {
            run.traffic.concurrency = closed.then_some(3);
            set_format(run, if delta { TraceFormat::MooncakeDelta } else { TraceFormat::Mooncake });
        });
        if let Ok(workload) = result {
            check_shape(&workload);
        }
    }
}

/// What the simulation may rely on.
fn check_shape(workload: &Workload) {
    let n = workload.requests.len();
    assert!(n > 0);
    assert!(
        workload.requests.iter().all(|r| (1..=MAX_TOKENS).contains(&r.prompt_tokens) && r.output_tokens <= MAX_TOKENS)
    );
    match &workload.release {
        Release::Flat => assert!(workload.requests.is_sorted_by_key(|r| r.arrival)),
        Release::Sessions { sessions, .. } => {
            let mut next = 0;
            for session in sessions {
                assert!(session.turns > 0 && session.first == next);
                assert!(workload.requests[next as usize].delay.is_zero());
                next += session.turns;
            }
            assert_eq!(next as usize, n);
        }
    }
    match &workload.content {
        Content::Unique => {}
        Content::Trie(trie) => {
            assert_eq!(trie.leaf.len(), n);
            for (request, leaf) in workload.requests.iter().zip(&trie.leaf).filter(|(_, l)| **l != NO_NODE) {
                assert!(trie.nodes[*leaf as usize].end <= request.prompt_tokens.div_ceil(trie.block_tokens));
            }
        }
        Content::Streams(streams) => {
            for (request, runs) in workload.requests.iter().zip(&streams.prompts) {
                assert_eq!(runs.iter().map(|(_, count)| count).sum::<u32>(), request.prompt_tokens);
            }
            assert_eq!((streams.prompts.len(), streams.outputs.len()), (n, n));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Synthetic loads

fn synthetic() -> SyntheticLoad {
    SyntheticLoad {
        input_tokens: 1_000,
        output_tokens: 64,
        request_count: 10,
        arrivals: Some(SyntheticArrivals::Poisson { rate_per_s: 20.0 }),
        arrival_seed: 42,
        turns_per_session: 1,
        shared_prefix_ratio: 0.0,
        num_prefix_groups: 0,
        inter_turn_delay_ms: 0.0,
    }
}

fn generate(load_: SyntheticLoad, concurrency: Option<u32>, speedup: f64) -> Result<Workload, WorkloadError> {
    let mut run = run(TrafficSource::Synthetic(load_));
    run.traffic.concurrency = concurrency;
    run.traffic.arrival_speedup = speedup;
    load(&run)
}

#[test]
fn the_simple_form_is_independent_requests() {
    let workload = generate(synthetic(), None, 1.0).expect("a load");
    check_shape(&workload);
    assert!(matches!((&workload.release, &workload.content), (Release::Flat, Content::Unique)));
    assert!(!workload.planned_outputs);
    let first: Vec<_> = workload.requests.iter().take(4).map(|r| r.arrival.as_nanos()).collect();
    assert_eq!(first, [0, 37_386_231, 76_509_770, 127_103_768]);
    let fast = generate(synthetic(), None, 4.0).expect("a load");
    assert_eq!(fast.requests[1].arrival.as_nanos(), 9_346_558);

    let closed = generate(SyntheticLoad { arrivals: None, ..synthetic() }, Some(3), 4.0).expect("a load");
    check_shape(&closed);
    assert!(matches!(closed.release, Release::Sessions { concurrency: Some(3), named: false, .. }));
    assert!(!closed.planned_outputs && closed.requests.iter().all(|r| r.arrival == SimTime::ZERO));
}

#[test]
fn the_session_form_shares_what_its_groups_share() {
    let load_ = SyntheticLoad {
        turns_per_session: 4,
        shared_prefix_ratio: 0.5,
        num_prefix_groups: 8,
        inter_turn_delay_ms: 500.0,
        ..synthetic()
    };
    let workload = generate(load_.clone(), None, 2.0).expect("a load");
    check_shape(&workload);
    assert!(workload.planned_outputs);
    assert_eq!(names(&workload)[..2], [("session_0", 0, 4), ("session_1", 4, 4)]);
    assert_eq!((workload.requests[0].delay.as_ms(), workload.requests[1].delay.as_ms()), (0.0, 250.0));
    // Groups 1 4 1 4 6 5 7 3 7 0; 16 blocks of 64 tokens, 8 of them shared.
    let trie = trie(&workload);
    assert_eq!((trie.block_tokens, trie.nodes.len()), (64, 7));
    assert_eq!((trie.shared_blocks(0, 3), trie.shared_blocks(0, 8), trie.shared_blocks(0, 4)), (8, 8, 0));

    let mut disaggregated = run(TrafficSource::Synthetic(load_));
    disaggregated.topology =
        Topology::Disaggregated { prefill_workers: 1, decode_workers: 1, prefill: engine(100), decode: engine(100) };
    let workload = load(&disaggregated).expect("a load");
    assert!(matches!(&workload.content, Content::Trie(t) if t.block_tokens == 100 && t.nodes[0].end == 5));
}

#[test]
fn groups_of_one_request_and_shares_of_nothing_need_no_tree_nodes() {
    let load_ = SyntheticLoad { shared_prefix_ratio: 1.0, num_prefix_groups: 8, request_count: 2, ..synthetic() };
    let workload = generate(load_.clone(), None, 1.0).expect("a load");
    check_shape(&workload);
    assert!(workload.planned_outputs && trie(&workload).nodes.is_empty());
    let nothing = SyntheticLoad { shared_prefix_ratio: 0.0, ..load_ };
    assert!(matches!(generate(nothing, None, 1.0).expect("a load").content, Content::Unique));
}

#[test]
fn impossible_loads_are_errors() {
    let base = synthetic();
    for (load_, field) in [
        (SyntheticLoad { request_count: u32::MAX, ..base.clone() }, "request_count"),
        (SyntheticLoad { turns_per_session: u32::MAX, ..base.clone() }, "request_count"),
        (SyntheticLoad { input_tokens: u32::MAX, ..base.clone() }, "input_tokens"),
        (SyntheticLoad { output_tokens: 0, ..base.clone() }, "output_tokens"),
        (
            SyntheticLoad { arrivals: Some(SyntheticArrivals::Poisson { rate_per_s: 1e-300 }), ..base.clone() },
            "arrivals",
        ),
        (SyntheticLoad { turns_per_session: 2, inter_turn_delay_ms: 1e300, ..base }, "inter_turn_delay_ms"),
    ] {
        let error = generate(load_, None, 1.0).expect_err(field).to_string();
        assert!(error.contains(field), "{error}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Agent sessions

fn agents(preset: AgentPreset, seed: u64) -> Result<Workload, WorkloadError> {
    let mut run = run(TrafficSource::Preset(Preset::Agent(preset)));
    run.seed = seed;
    load(&run)
}

#[test]
fn agent_sessions_depend_on_the_seed_alone() {
    let preset = AgentPreset::default;
    let workload = agents(preset(), 1).expect("sessions");
    check_shape(&workload);
    assert!(workload.planned_outputs);
    assert_eq!(picture(&workload), picture(&agents(preset(), 1).expect("sessions")));
    assert_ne!(picture(&workload), picture(&agents(preset(), 2).expect("sessions")));
    // Other waits leave lengths and starts alone.
    let patient = agents(AgentPreset { tool_wait_ms: 9_000.0, ..preset() }, 1).expect("sessions");
    assert_eq!((lengths(&workload), arrivals_ms(&workload)), (lengths(&patient), arrivals_ms(&patient)));
}

#[test]
fn agent_prompts_grow_within_the_limit() {
    let preset = AgentPreset { mean_turns: 1e6, max_context_tokens: 20_000, ..AgentPreset::default() };
    let workload = agents(preset, 1).expect("sessions");
    check_shape(&workload);
    let trie = trie(&workload);
    for session in sessions(&workload) {
        let turns = session.first..session.first + session.turns;
        for (this, next) in turns.clone().zip(turns.skip(1)) {
            let (a, b) = (workload.requests[this as usize], workload.requests[next as usize]);
            assert!(b.prompt_tokens > a.prompt_tokens + a.output_tokens);
            assert_eq!(trie.shared_blocks(this, next), a.prompt_tokens / 64);
        }
    }
    assert!(workload.requests.iter().all(|r| r.prompt_tokens + r.output_tokens <= 20_000));
    assert_eq!(workload.notes, ["200 of 200 agent sessions ended at max_context_tokens"]);
    // Sessions of different system prompts share nothing, the others the whole system prompt.
    let shared: HashSet<_> = sessions(&workload).iter().skip(1).map(|s| trie.shared_blocks(0, s.first)).collect();
    assert_eq!(shared, HashSet::from([0, 48]));
}

#[test]
fn wild_agent_parameters_are_a_result_or_an_error() {
    let base = AgentPreset { sessions: 20, ..AgentPreset::default() };
    for (preset, field) in [
        (AgentPreset { sessions: 0, ..base.clone() }, "sessions"),
        (AgentPreset { sessions_per_s: 0.0, ..base.clone() }, "sessions_per_s"),
        (AgentPreset { sessions_per_s: 1e-300, ..base.clone() }, "sessions_per_s"),
        (AgentPreset { mean_turns: f64::NAN, ..base.clone() }, "mean_turns"),
        (AgentPreset { turn_sigma: -1.0, ..base.clone() }, "turn_sigma"),
        (AgentPreset { tool_wait_ms: 1e300, ..base.clone() }, "tool_wait_ms"),
        (AgentPreset { max_context_tokens: 3_073, ..base.clone() }, "max_context_tokens"),
        (AgentPreset { block_size: 0, ..base.clone() }, "block_size"),
    ] {
        let error = agents(preset, 1).expect_err(field).to_string();
        assert!(error.contains(field), "{error}");
    }
    for preset in [
        AgentPreset { burst_every_s: 1e-9, burst_length_s: 1e-10, ..base.clone() },
        AgentPreset { burst_every_s: 10.0, burst_length_s: 1e9, burst_factor: 0.0, ..base.clone() },
        AgentPreset { burst_factor: 1e300, ..base.clone() },
        AgentPreset { turn_sigma: 1e300, output_sigma: 1e300, ..base.clone() },
        AgentPreset { mean_turns: f64::MAX, system_tokens: 0, system_prompts: MAX_TOKENS, ..base.clone() },
        AgentPreset { max_context_tokens: 3_074, block_size: MAX_TOKENS, ..base },
    ] {
        if let Ok(workload) = agents(preset, 1) {
            check_shape(&workload);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The reference's figures

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
