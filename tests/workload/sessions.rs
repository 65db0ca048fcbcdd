//! Traces of sessions, and token streams.

use super::*;

/// Two sessions of three turns, interleaved, and two rows without a session.
pub(crate) const SESSIONS: &str = r#"{"session_id": "a", "timestamp": 7, "input_length": 1000, "output_length": 20, "hash_ids": [1, 2]}
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
