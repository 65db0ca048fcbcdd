//! Rows and files that break the rules.

use super::sessions::SESSIONS;
use super::*;

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
        ("{\"output_length\":1,\"hash_ids\":[1],\"a\0b\":1}", "line 3, column 37: control character"),
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
    let error = read_with(row.as_bytes(), |run| reading(run).block_size = Some(u32::MAX));
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
