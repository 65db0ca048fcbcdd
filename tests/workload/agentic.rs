//! Rows that wait for the end of others.

use super::*;

const ROWS: &str = r#"{"request_id": "join", "session_id": "m", "input_length": 2048, "output_length": 8, "hash_ids": [1, 2, 4, 5], "wait_for": ["c1", "c2"], "delay": 10}
{"request_id": "root", "session_id": "m", "timestamp": 1000, "input_length": 1024, "output_length": 20, "hash_ids": [1, 2], "delay": 7}

{"request_id": "c1", "timestamp": 900.5, "input_length": 1500, "output_length": 30, "hash_ids": [1, 2, 3], "wait_for": ["root"], "delay": -10, "tool_wait_ms": 75, "prefix_reset": true, "branches": ["x"], "tool_events": [{}]}
{"request_id": "c2", "created_time": 9999, "output_length": 10, "hash_ids": [1, 7], "wait_for": ["root", "root"], "tool_wait_ms": 80}
{"request_id": "free", "output_length": 3, "hash_ids": [9]}
"#;

fn agentic(text: &str) -> Result<Workload, WorkloadError> {
    open_as(TraceFormat::AgenticMooncake, text)
}

#[test]
fn rows_wait_for_those_they_name_whatever_their_order() {
    let workload = agentic(ROWS).expect("a trace");
    check_shape(&workload);
    let graph = graph(&workload);
    let waits: Vec<&[u32]> = (0..5).map(|request| graph.waits_for.of(request)).collect();
    assert_eq!(waits, [&[2, 3][..], &[], &[1], &[1, 1], &[]]);
    // The clock begins at the earliest timestamp, also of a row that waits; a row without one comes first. What waits
    // for nobody ignores its delay.
    assert_eq!(arrivals_ms(&workload), [0.0, 99.5, 0.0, 0.0, 0.0]);
    assert_eq!(delays_ms(&workload), [10.0, 0.0, 65.0, 80.0, 0.0]);
    assert_eq!(lengths(&workload), [(2048, 8), (1024, 20), (1500, 30), (1024, 10), (512, 3)]);
    let names: Vec<_> = graph.sessions.iter().map(|name| &**name).collect();
    assert_eq!(
        (names, &graph.turns[..]),
        (vec!["m", "request_4", "request_5", "request_6"], &[(0, 0), (0, 1), (1, 0), (2, 0), (3, 0)][..])
    );
    assert_eq!((trie(&workload).shared_blocks(0, 1), trie(&workload).shared_blocks(0, 3)), (2, 1));
    assert!(graph.ignores_time_cap && graph.closed.is_none() && workload.timed);
}

#[test]
fn the_speed_up_divides_times_and_delays() {
    let fast = open_files(&[("t", ROWS.as_bytes())], |options| options.speedup = 4.0).expect("a trace");
    assert_eq!((arrivals_ms(&fast)[1], delays_ms(&fast)[0]), (24.875, 2.5));
}

#[test]
fn a_chain_of_200_000_links_is_read_in_linear_time() {
    let count = 200_000;
    let row = |i: usize| {
        let wait = if i + 1 < count { format!(",\"wait_for\":[\"r{}\"],\"delay\":1", i + 1) } else { String::new() };
        format!("{{\"request_id\":\"r{i}\",\"output_length\":1,\"hash_ids\":[{}]{wait}}}\n", i % 7)
    };
    // The first row waits for the second and so on: no order of rows helps.
    let text: String = (0..count).map(row).collect();
    let workload = agentic(&text).expect("a trace");
    assert_eq!((workload.requests.len(), graph(&workload).waits_for.cycle()), (count, None));
    let cyclic = text.replacen("{\"request_id\":\"r199999\"", "{\"request_id\":\"r199999\",\"wait_for\":[\"r0\"]", 1);
    let error = agentic(&cyclic).expect_err("a cycle").to_string();
    assert!(
        error.contains("`wait_for`: the request would wait for itself by way of others; break the cycle"),
        "{error}"
    );
}

#[test]
fn errors_name_the_row() {
    let good = "{\"request_id\":\"a\",\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1]}\n\n";
    for (row, expected) in [
        (r#"{"output_length":1,"hash_ids":[1]}"#, "line 3, `request_id`: missing or empty"),
        (r#"{"request_id":" ","output_length":1,"hash_ids":[1]}"#, "line 3, `request_id`: missing or empty"),
        (r#"{"request_id":7,"output_length":1,"hash_ids":[1]}"#, "`request_id`: invalid type: integer `7`"),
        (
            r#"{"request_id":"a","output_length":1,"hash_ids":[1]}"#,
            "line 3, `request_id`: `a` is the id of the row at line 1",
        ),
        (r#"{"request_id":"b","output_length":1}"#, "line 3, `hash_ids`: missing"),
        (r#"{"request_id":"b","output_length":1,"hash_ids":[]}"#, "line 3, `input_length`: is 0"),
        (r#"{"request_id":"b","hash_ids":[1]}"#, "line 3, `output_length`: missing"),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"input_length":513}"#,
            "line 3, `input_length`: is 513, but 1 hash ids stand for 512 tokens",
        ),
        (r#"{"request_id":"b","output_length":1,"hash_ids":[1],"timestamp":-1}"#, "line 3, `timestamp`: is -1 ms"),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"delay":1,"tool_wait_ms":-2}"#,
            "line 3, `delay`: is -1 ms",
        ),
        (r#"{"request_id":"b","output_length":1,"hash_ids":[1],"wait_for":["a"],"delay":1e300}"#, "line 3, `delay`: 1"),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"timestamp":1e300}"#,
            "line 3, `timestamp`: puts the arrival 1",
        ),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"wait_for":["z"]}"#,
            "line 3, `wait_for`: there is no request `z`",
        ),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"wait_for":["b"]}"#,
            "line 3, `wait_for`: `b` would wait for itself",
        ),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"wait_for":"a"}"#,
            "`wait_for`: invalid type: string \"a\"",
        ),
        (
            r#"{"request_id":"b","output_length":1,"hash_ids":[1],"tool_events":[1]}"#,
            "`tool_events`: invalid type: integer `1`",
        ),
        (
            r#"{"request_id":"b","output_length":2,"hash_ids":[1],"output_token_ids":[1]}"#,
            "`output_token_ids`: 1 output tokens are listed",
        ),
    ] {
        let error = agentic(&format!("{good}{row}")).expect_err(row).to_string();
        assert!(error.contains(expected) && error.contains("; "), "{row}\n  {error}\n  {expected}");
    }
    assert!(agentic("\n").expect_err("no rows").to_string().contains("no rows"));
    let window = |options: &mut TraceOptions| options.reading.window = "0..1".parse().ok();
    let error = open_files(&[("t", ROWS.as_bytes())], window).expect_err("a window").to_string();
    assert!(error.contains("`trace-window`: is given, but requests wait for others"), "{error}");
}

proptest! {
    #[test]
    fn spoilt_rows_are_a_graph_or_an_error(
        at in 0..ROWS.len(),
        length in 0_usize..12,
        patch in prop::sample::select(vec!["", "\0", "\"", "}", "\n", "1e999", "-", "null", "[[", "é", "99999999999999999999",
            ",\"delay\":1e308", "\"wait_for\":[\"free\"],", "join", "root"]),
    ) {
        let mut bytes = ROWS.as_bytes().to_vec();
        bytes.splice(at..(at + length).min(ROWS.len()), patch.bytes());
        let format = |options: &mut TraceOptions| options.reading.format = Some(TraceFormat::AgenticMooncake);
        if let Ok(workload) = open_files(&[("t", &bytes)], format) {
            check_shape(&workload);
        }
    }
}
