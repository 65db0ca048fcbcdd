//! Request traces captured by Dynamo.

use super::*;
use serde_json::{Value, json};

/// A request of 100 tokens in blocks of 64, received at `start`.
fn end(id: &str, start: u64, total: f64, hashes: [u64; 2]) -> Value {
    json!({
        "schema": "dynamo.request.trace.v1", "event_type": "request_end", "event_time_unix_ms": start + 7,
        "request": {
            "request_id": id, "request_received_ms": start, "total_time_ms": total, "output_tokens": 3, "model": "m",
            "replay": { "trace_block_size": 64, "input_length": 100, "input_sequence_hashes": hashes },
        },
    })
}

/// The same as a turn of `session`, a child of `parent`.
fn turn(id: &str, start: u64, total: f64, session: &str, parent: Option<&str>) -> Value {
    let mut record = end(id, start, total, [1, 2]);
    record["agent_context"] = json!({ "session_id": session, "parent_session_id": parent });
    record
}

fn tool(session: &str, source: &str, consumer: Option<&str>, child: Option<&str>) -> Value {
    json!({
        "schema": "dynamo.request.trace.v1", "event_type": "tool_end", "event_time_unix_ms": 5,
        "agent_context": { "session_id": session },
        "tool": { "tool_call_id": "t", "tool_class": "agent", "claude": {
            "source_request_id": source, "consumer_request_id": consumer, "child_session_id": child,
            "execution_mode": "blocking" } },
    })
}

fn text(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

fn dynamo(records: &[Value]) -> Result<Workload, WorkloadError> {
    open_as(TraceFormat::Dynamo, &text(records))
}

#[test]
fn requests_without_agents_are_independent_and_sorted() {
    let records = [
        json!({ "timestamp": 3, "event": end("z", 1_500, 9.0, [1, 3]) }),
        json!({ "event": "nothing" }),
        json!(null),
        end("b", 1_000, 9.0, [1, 2]),
        end("a", 1_000, 9.0, [u64::MAX, u64::MAX - 1]),
        json!({ "schema": "dynamo.request.trace.v1", "event_type": "request_payload", "event_time_unix_ms": 0, "request": 7 }),
        json!({ "schema": "dynamo.request.trace.v1", "event_type": "tool_start", "event_time_unix_ms": 0, "tool": 7 }),
    ];
    let workload = dynamo(&records).expect("a trace");
    check_shape(&workload);
    assert!(matches!(workload.release, Release::Flat));
    assert_eq!(arrivals_ms(&workload), [0.0, 0.0, 500.0]);
    let trie = trie(&workload);
    assert_eq!((trie.block_tokens, trie.shared_blocks(1, 2), trie.shared_blocks(0, 1)), (64, 1, 0));
    let closed =
        open_files(&[("t", text(&records).as_bytes())], |options| options.concurrency = Some(1)).expect("a trace");
    assert_eq!(names(&closed), [("request_1", 0, 1), ("request_2", 1, 1), ("request_3", 2, 1)]);
}

#[test]
fn shards_may_be_packed_in_several_members() {
    let pack = |text: String| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let (one, two) = (pack(text(&[end("b", 1_010, 1.0, [1, 2])])), pack(text(&[end("a", 1_000, 1.0, [1, 3])])));
    let plain = text(&[end("c", 1_020, 1.0, [4, 5])]);
    let packed = [one, two].concat();
    let workload = open_files(&[("s.1.jsonl", plain.as_bytes()), ("s.0.jsonl.gz", &packed)], |_| {}).expect("shards");
    assert_eq!(arrivals_ms(&workload), [0.0, 10.0, 20.0]);
    let error = open_files(&[("a", plain.as_bytes()), ("b", plain.as_bytes())], |_| {}).expect_err("twice").to_string();
    assert!(
        error.contains("b, line 1, `request_id`: `c` is the id of the request at ") && error.contains("a, line 1, too"),
        "{error}"
    );
    let cut = packed.get(..packed.len() - 9).unwrap();
    let error = open_files(&[("s.gz", cut)], |_| {}).expect_err("cut off").to_string();
    assert!(error.contains("s.gz: the gzip data cannot be unpacked"), "{error}");
}

#[test]
fn turns_wait_for_the_one_before_and_children_for_their_parent() {
    let records = [
        turn("p1", 1_000, 100.4, "P", None),
        turn("k1", 1_200, 50.0, "K", Some("P")),
        turn("k2", 1_300, 99.5, "K", None),
        turn("p2", 1_350, 20.0, "P", None),
        turn("p3", 1_400, 1.0, "P", None),
        turn("lone", 1_050, -5.0, "L", Some("nowhere")),
    ];
    let workload = dynamo(&records).expect("a trace");
    check_shape(&workload);
    let graph = graph(&workload);
    // Sorted: p1 lone k1 k2 p2 p3.
    let waits: Vec<&[u32]> = (0..6).map(|request| graph.waits_for.of(request)).collect();
    assert_eq!(waits, [&[][..], &[], &[0], &[2], &[0], &[3, 4]]);
    assert_eq!(arrivals_ms(&workload), [0.0, 50.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(delays_ms(&workload), [0.0, 0.0, 100.0, 50.0, 250.0, 0.0]);
    assert_eq!(graph.turns, [(0, 0), (1, 0), (2, 0), (2, 1), (0, 1), (0, 2)]);
    assert!(graph.ignores_time_cap);
}

#[test]
fn tool_events_that_name_both_ends_of_a_child_session_count_instead() {
    let mut records = vec![
        turn("p1", 1_000, 10.0, "P", None),
        turn("p2", 2_000, 10.0, "P", None),
        turn("p3", 3_000, 10.0, "P", None),
        turn("p4", 4_000, 10.0, "P", None),
        turn("k1", 2_100, 10.0, "K", Some("P")),
    ];
    // Sorted: p1 p2 k1 p3 p4.
    let waits = |records: &[Value]| {
        let workload = dynamo(records).expect("a trace");
        (graph(&workload).waits_for.of(2).to_vec(), [3, 4].map(|r| graph(&workload).waits_for.of(r).contains(&2)))
    };
    assert_eq!(waits(&records), (vec![1], [true, false]));
    records.push(tool("P", "p1", Some("p4"), Some("K")));
    assert_eq!(waits(&records), (vec![0], [false, true]));
    records[5] = tool("P", "p1", None, Some("K"));
    assert_eq!(waits(&records), (vec![0], [false, false]));
    records[5] = tool("P", "p1", None, Some("nowhere"));
    assert_eq!(waits(&records), (vec![1], [true, false]));

    for (event, expected) in [
        (tool("P", "zz", None, None), "line 6, `source_request_id`: of tool `t`: there is no request `zz`"),
        (
            tool("P", "p1", Some("k1"), None),
            "line 6, `consumer_request_id`: of tool `t`: request `k1` belongs to another session",
        ),
        (
            tool("K", "k1", None, Some("K")),
            "line 6, `source_request_id`: the request that called it is not in session `P`",
        ),
        (tool("P", "p4", Some("p1"), Some("K")), "`p1` would wait for itself by way of others"),
    ] {
        records[5] = event;
        let error = dynamo(&records).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\n  {expected}");
    }
    records[5] = tool("P", "p1", None, Some("K"));
    records.push(records[5].clone());
    let error = dynamo(&records).expect_err("twice").to_string();
    assert!(error.contains("line 7, `child_session_id`: another tool event names session `K`, too"), "{error}");
    records[6]["tool"]["claude"]["execution_mode"] = json!("lazy");
    assert!(dynamo(&records).expect_err("lazy").to_string().contains("`execution_mode`: of tool `t` is \"lazy\""));
}

#[test]
fn errors_name_file_line_and_field() {
    for (pointer, value, expected) in [
        ("/schema", json!("v2"), "line 2, `schema`: is \"v2\""),
        ("/schema", Value::Null, "line 2, `schema`: missing"),
        ("/event_type", json!("weird"), "line 2, `event_type`: is \"weird\""),
        ("/event_type", Value::Null, "line 2, `event_type`: missing"),
        ("/event_time_unix_ms", json!(1.5), "`event_time_unix_ms`: invalid type: floating point `1.5`"),
        ("/request", Value::Null, "line 2, `request`: missing"),
        ("/request/request_id", json!(3), "`request_id`: invalid type: integer `3`"),
        ("/request/request_received_ms", json!(-1), "`request_received_ms`: invalid value: integer `-1`"),
        ("/request/output_tokens", json!(1e12), "`output_tokens`: invalid type: floating point"),
        ("/request/output_tokens", json!(1_000_000_000_000_u64), "line 2, `output_tokens`: has 1000000000000 tokens"),
        ("/request/replay", Value::Null, "`replay`: invalid type: null"),
        ("/request/replay/trace_block_size", json!(0), "line 2, `trace_block_size`: is 0"),
        (
            "/request/replay/trace_block_size",
            json!(32),
            "`input_sequence_hashes`: 2 hashes are listed for 100 tokens in blocks of 32",
        ),
        ("/request/replay/input_length", json!(0), "`input_sequence_hashes`: 2 hashes are listed for 0 tokens"),
        ("/request/replay/input_sequence_hashes", json!([1, -2]), "`[1]`: invalid value: integer `-2`"),
        ("/agent_context", json!({}), "`agent_context`: missing field `session_id`"),
        ("/agent_context", json!({ "session_id": "s" }), "line 1, `agent_context`: missing, but 1 requests have one"),
    ] {
        let mut record = end("b", 1_000, 1.0, [1, 2]);
        match record.pointer_mut(pointer) {
            Some(place) => *place = value.clone(),
            None => record[pointer.trim_start_matches('/')] = value.clone(),
        }
        let error = dynamo(&[end("a", 1_000, 1.0, [1, 2]), record]).expect_err(pointer).to_string();
        assert!(error.contains(expected) && error.contains("; "), "{pointer} {value}\n  {error}\n  {expected}");
    }
    for (line, expected) in
        [("{", "line 1, column 1: EOF"), ("x", "line 1, column 1: expected value"), ("\"x\"", "no requests")]
    {
        let error = open_as(TraceFormat::Dynamo, line).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let conflict =
        [turn("p", 1, 1.0, "P", None), turn("k1", 2, 1.0, "K", Some("P")), turn("k2", 3, 1.0, "K", Some("Q"))];
    let error = dynamo(&conflict).expect_err("two parents").to_string();
    assert!(error.contains("line 3, `parent_session_id`: session `K` belongs to `P` and to `Q`"), "{error}");
    assert!(dynamo(&[turn("p", 1, 1.0, "P", Some("P"))]).expect_err("itself").to_string().contains("wait for itself"));
    let other = |options: &mut TraceOptions| options.reading.block_size = Some(512);
    let error = open_files(&[("t", text(&conflict[..1]).as_bytes())], other).expect_err("another size").to_string();
    assert!(error.contains("`trace_block_size`: is 64, but 512 was given"), "{error}");
}

#[test]
fn sessions_of_200_000_turns_are_linked_in_linear_time() {
    let count = 200_000_u64;
    let line = |i: u64| {
        format!(
            r#"{{"schema":"dynamo.request.trace.v1","event_type":"request_end","event_time_unix_ms":{i},"agent_context":{{"session_id":"s"}},"request":{{"request_id":"r{i}","request_received_ms":{i},"output_tokens":1,"replay":{{"trace_block_size":64,"input_length":1,"input_sequence_hashes":[{i}]}}}}}}
"#
        )
    };
    let text: String = (0..count).map(line).collect();
    let workload = open_as(TraceFormat::Dynamo, &text).expect("a trace");
    assert_eq!(graph(&workload).waits_for.of(199_999), [199_998]);
}

proptest! {
    #[test]
    fn spoilt_records_are_a_workload_or_an_error(
        at in 0_usize..2_000,
        length in 0_usize..12,
        patch in prop::sample::select(vec!["", "\0", "\"", "}", "\n", "1e308", "-", "null", "[", "18446744073709551615", "K", "p1"]),
    ) {
        let records = [
            turn("p1", 1_000, 10.0, "P", None),
            turn("k1", 2_100, 10.0, "K", Some("P")),
            turn("p2", 3_000, 10.0, "P", None),
            tool("P", "p1", Some("p2"), Some("K")),
        ];
        let mut bytes = text(&records).into_bytes();
        let at = at % bytes.len();
        bytes.splice(at..(at + length).min(bytes.len()), patch.bytes());
        let format = |options: &mut TraceOptions| options.reading.format = Some(TraceFormat::Dynamo);
        if let Ok(workload) = open_files(&[("t", &bytes)], format) {
            check_shape(&workload);
        }
    }
}
