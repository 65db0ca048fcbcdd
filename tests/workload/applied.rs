//! Agent sessions as Applied Compute writes them.

use super::*;

const ROWS: &str = r#"{"num_turns": 2, "input_prompt_length": 1300, "assistant_response_length": [20, 30], "tool_call_output_length": [100, 900], "tool_call_latency": [0.5, 1.25], "final_assistant_response_length": 40}
{"num_turns": 0, "input_prompt_length": 600, "assistant_response_length": [], "tool_call_output_length": [], "tool_call_latency": [], "final_assistant_response_length": 10}

{"num_turns": 1, "input_prompt_length": 2100, "assistant_response_length": [5], "tool_call_output_length": [11], "tool_call_latency": [0.0], "final_assistant_response_length": 7}
"#;

/// Opens the rows with this many prefix groups that share all of a first prompt.
fn grouped(groups: u32) -> Workload {
    open_files(&[("t", ROWS.as_bytes())], |options| {
        options.concurrency = Some(2);
        (options.reading.num_prefix_groups, options.reading.shared_prefix_ratio) = (groups, 1.0);
    })
    .expect("a trace")
}

#[test]
fn every_turn_adds_what_was_said_to_the_prompt() {
    let workload = grouped(0);
    check_shape(&workload);
    assert_eq!(lengths(&workload), [(1300, 20), (1420, 30), (2350, 40), (600, 10), (2100, 5), (2116, 7)]);
    assert_eq!(delays_ms(&workload), [0.0, 500.0, 1250.0, 0.0, 0.0, 0.0]);
    let session = |line| format!("applied_compute_agentic_session_{line}");
    let expected = [(session(1), 0, 3), (session(2), 3, 1), (session(4), 4, 2)];
    assert_eq!(names(&workload), expected.each_ref().map(|(name, first, turns)| (name.as_str(), *first, *turns)));
    let trie = trie(&workload);
    assert_eq!(trie.block_tokens, 512);
    // A block that a prompt fills in part is the same in the longer one.
    assert_eq!(
        [(0, 1), (1, 2), (0, 2), (4, 5), (0, 3), (0, 4)].map(|(a, b)| trie.shared_blocks(a, b)),
        [3, 3, 3, 5, 0, 0]
    );
}

#[test]
fn groups_share_as_much_as_their_prompts_allow() {
    // All in one group: 3, 2 and 5 blocks of it.
    let one = grouped(1);
    check_shape(&one);
    let shared = |workload: &Workload, a, b| trie(workload).shared_blocks(a, b);
    assert_eq!([(0, 3), (0, 4), (3, 4), (2, 5), (1, 3)].map(|(a, b)| shared(&one, a, b)), [2, 3, 2, 3, 2]);
    // Blank lines count: the lines 1, 2 and 4 are in groups 0, 1 and 1 of two, and in 0, 1 and 0 of three.
    let (two, three) = (grouped(2), grouped(3));
    assert_eq!((shared(&two, 0, 4), shared(&two, 3, 4)), (0, 2));
    assert_eq!((shared(&three, 0, 4), shared(&three, 3, 4)), (3, 0));
}

#[test]
fn a_run_needs_a_closed_loop() {
    let mut run = trace_run("nowhere", 512);
    set_format(&mut run, TraceFormat::AppliedComputeAgentic);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    std::fs::write(&path, ROWS).unwrap();
    if let TrafficSource::Trace(trace) = &mut run.traffic.source {
        trace.paths = vec![path];
    }
    let error = load(&run).expect_err("no arrivals").to_string();
    assert!(error.contains("`replay-concurrency`: is missing"), "{error}");
    run.traffic.concurrency = Some(3);
    assert!(!load(&run).expect("a closed loop").timed);
}

#[test]
fn errors_name_line_and_field() {
    let good: serde_json::Value = serde_json::from_str(ROWS.lines().next().unwrap()).unwrap();
    for (field, value, expected) in [
        ("num_turns", "3", "line 1, `assistant_response_length`: has 2 entries, but `num_turns` is 3"),
        ("num_turns", "-1", "`num_turns`: invalid value: integer `-1`"),
        ("num_turns", "2.0", "`num_turns`: invalid type: floating point `2.0`"),
        ("num_turns", "null", "`num_turns`: invalid type: null"),
        ("input_prompt_length", "0", "`input_prompt_length`: is 0"),
        ("input_prompt_length", "1099511627776", "`input_prompt_length`: has 1099511627776 tokens"),
        ("assistant_response_length", "[1]", "`assistant_response_length`: has 1 entries"),
        ("assistant_response_length", "[20,-1]", "`assistant_response_length[1]`: invalid value: integer `-1`"),
        ("tool_call_output_length", "[0,2147483647]", "`tool_call_output_length`: with all before it the session has"),
        ("tool_call_output_length", "[18446744073709551615,0]", "`tool_call_output_length`: with all before it"),
        ("tool_call_latency", "[-1,0]", "`tool_call_latency`: has -1 s"),
        ("tool_call_latency", "[1e300,0]", "`tool_call_latency`: 1"),
        ("final_assistant_response_length", "\"x\"", "`final_assistant_response_length`: invalid type: string"),
    ] {
        let mut row = good.clone();
        row[field] = serde_json::from_str(value).unwrap();
        let error = open_as(TraceFormat::AppliedComputeAgentic, &row.to_string()).expect_err(value).to_string();
        assert!(error.contains(expected) && error.contains("; "), "{field} {value}\n  {error}\n  {expected}");
        row.as_object_mut().unwrap().remove(field);
        let error = open_as(TraceFormat::AppliedComputeAgentic, &row.to_string()).expect_err(field).to_string();
        assert!(error.contains(&format!("missing field `{field}`")), "{error}");
    }
}

proptest! {
    #[test]
    fn spoilt_rows_are_sessions_or_an_error(
        at in 0..ROWS.len(),
        length in 0_usize..8,
        patch in prop::sample::select(vec!["", "\0", "}", "\n", "1e308", "-", "[", "9999999999999", "2147483647,", "0"]),
        groups in 0_u32..4,
    ) {
        let mut bytes = ROWS.as_bytes().to_vec();
        bytes.splice(at..(at + length).min(ROWS.len()), patch.bytes());
        let result = open_files(&[("t", &bytes)], |options| {
            options.reading.format = Some(TraceFormat::AppliedComputeAgentic);
            (options.reading.num_prefix_groups, options.reading.shared_prefix_ratio) = (groups, 0.7);
        });
        if let Ok(workload) = result {
            check_shape(&workload);
        }
    }
}
