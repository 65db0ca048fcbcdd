//! CSV traces.

use super::*;
use dynosim::scenario::{CsvColumns, SyntheticArrivals as Arrivals, TimeUnit};

fn columns(text: &str) -> impl FnOnce(&mut TraceOptions) {
    let columns: CsvColumns = text.parse().expect("columns");
    move |options| {
        options.reading.format = Some(TraceFormat::Csv);
        options.reading.csv_columns = columns;
    }
}

fn csv(text: &str, change: impl FnOnce(&mut TraceOptions)) -> Result<Workload, WorkloadError> {
    open_files(&[("t.csv", text.as_bytes())], change)
}

fn nanos(workload: &Workload) -> Vec<u64> {
    workload.requests.iter().map(|r| r.arrival.as_nanos()).collect()
}

#[test]
fn azure_rows_of_either_year_are_exact_to_the_tick() {
    let old = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:04.0319600,3180,8\r\n2023-11-16 18:17:03.9799601,4808,10\r\n";
    let workload = csv(old, |_| {}).expect("a trace");
    check_shape(&workload);
    assert!(matches!((&workload.release, &workload.content), (Release::Flat, Content::Unique)));
    assert_eq!((nanos(&workload), lengths(&workload)), (vec![0, 51_999_900], vec![(4808, 10), (3180, 8)]));
    assert_eq!(workload.notes, ["the trace was recognised as azure by its content"]);
    let new = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n";
    assert_eq!(nanos(&csv(new, |_| {}).expect("a trace")), [0, 990_070_000]);
}

#[test]
fn burstgpt_sessions_wait_as_long_as_they_did_and_failures_are_left_out() {
    let old = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,0,0,0,API log\n46,GPT-4,9,1,10,API log\n";
    let workload = csv(old, |_| {}).expect("a trace");
    assert_eq!((arrivals_ms(&workload), lengths(&workload)), (vec![0.0, 41_000.0], vec![(472, 18), (9, 1)]));
    assert_eq!(
        workload.notes[1],
        "1 row was left out because the request failed (no response tokens), first at line 3"
    );

    let new = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n19440110.0,a,43,GPT-4,906,446,1352,Conversation log\n19440111.0,,2,ChatGPT,36,29,65,API log\n19440200.5,a,1,GPT-4,906,446,1352,Conversation log\n19440201.0,a,1,GPT-4,1,1,2,Conversation log\n";
    let workload = csv(new, |_| {}).expect("a trace");
    check_shape(&workload);
    assert_eq!(names(&workload), [("a", 0, 3), ("request_2", 3, 1)]);
    // Turns that overlap in the record follow each other at once.
    assert_eq!(delays_ms(&workload), [0.0, 47_500.0, 0.0, 0.0]);
    assert_eq!(arrivals_ms(&workload)[3], 1_000.0);
}

#[test]
fn columns_are_found_by_usual_name_by_name_or_by_number() {
    let usual = "user,arrival_time,prompt_tokens,output_tokens\nx,1.5,10,2\ny,1.25,20,3.0\n";
    let workload = csv(usual, |_| {}).expect("a trace");
    assert_eq!((arrivals_ms(&workload), lengths(&workload)), (vec![0.0, 250.0], vec![(20, 3), (10, 2)]));
    let odd = "When;Who;In, tokens;Out\n1.5;x;10;2\n2;x;20;3\n";
    let named = csv(odd, |options| {
        columns("arrival=when,input=3,output=Out,session=Who")(options);
        options.reading.csv_time_unit = TimeUnit::Milliseconds;
    });
    let workload = named.expect("a trace");
    assert_eq!((names(&workload), delays_ms(&workload)), (vec![("x", 0, 2)], vec![0.0, 0.5]));
    let bare = csv("7,0.1,5\n8,0.3,6\n", columns("arrival=2,input=1,output=3")).expect("a trace");
    assert_eq!((arrivals_ms(&bare), lengths(&bare)), (vec![0.0, 200.0], vec![(7, 5), (8, 6)]));
    let quoted = csv("\"time\",\"input_tokens\",\"output_tokens\"\n\"2024-01-01 00:00:00\",\"7\",\"1\"\n", |_| {});
    assert_eq!(lengths(&quoted.expect("a trace")), [(7, 1)]);
}

#[test]
fn explicit_waits_count_instead_of_the_times_between_rows() {
    let text = "time,input_len,output_len,session_id,pause\n0,1,1,a,\n9,1,1,a,0.25\n5,1,1,a,\n";
    let error = csv(text, columns("delay=pause")).expect_err("back in time").to_string();
    assert!(
        error.contains("line 4, `arrival`: lies before the arrival of the row before it in session `a`"),
        "{error}"
    );
    let workload = csv(&text.replace("5,1,1,a,", "12,1,1,a,"), columns("delay=pause")).expect("a trace");
    assert_eq!(delays_ms(&workload), [0.0, 250.0, 3_000.0]);
    let fast = csv(&text.replace("5,1,1,a,", "12,1,1,a,"), |options| {
        columns("delay=pause")(options);
        options.speedup = 2.0;
    });
    assert_eq!(delays_ms(&fast.expect("a trace")), [0.0, 125.0, 1_500.0]);
}

#[test]
fn rows_without_arrivals_take_a_rate_or_a_closed_loop() {
    let text = "num_prefill_tokens,num_decode_tokens\n3772,54\n2015,156\n100,1\n";
    let open = csv(text, |_| {}).expect("a trace");
    assert!(!open.timed && nanos(&open) == [0, 0, 0]);
    let rate = |options: &mut TraceOptions| options.reading.arrivals = Some(Arrivals::Poisson { rate_per_s: 20.0 });
    let workload = csv(text, rate).expect("a trace");
    assert!(workload.timed);
    assert_eq!(nanos(&workload), [0, 37_386_231, 76_509_770]);
    let with_times = "time,input_tokens,output_tokens\n1,2,3\n";
    let error = csv(with_times, rate).expect_err("both").to_string();
    assert!(error.contains("`request-rate`: is for traces without arrivals"), "{error}");
    let closed = csv(text, |options| options.concurrency = Some(2)).expect("a trace");
    assert_eq!(names(&closed), [("request_1", 0, 1), ("request_2", 1, 1), ("request_3", 2, 1)]);
}

#[test]
fn a_window_is_cut_by_arrival_and_begins_anew() {
    let text = "time,input_tokens,output_tokens,session\n100,1,1,\n110,2,1,a\n111,3,1,\n130,4,1,a\n";
    let cut = |window: &str| csv(text, |options| options.reading.window = window.parse().ok());
    let workload = cut("5..11").expect("a part");
    // A session belongs to where it begins, with all its turns.
    assert_eq!((lengths(&workload), names(&workload)), (vec![(2, 1), (4, 1)], vec![("a", 0, 2)]));
    assert_eq!(nanos(&workload)[0], 0);
    assert!(cut("12..").expect_err("nothing").to_string().contains("`trace-window`: nothing begins in 12.. s"));
}

#[test]
fn several_files_are_one_trace() {
    let (a, b) = ("time,input_tokens,output_tokens\n7,1,1\n", "input_tokens,output_tokens,time\n2,2,5\n");
    let workload = open_files(&[("a.csv", a.as_bytes()), ("b.csv", b.as_bytes())], |_| {}).expect("a trace");
    assert_eq!((lengths(&workload), arrivals_ms(&workload)), (vec![(2, 2), (1, 1)], vec![0.0, 2_000.0]));
    let untimed = "input_tokens,output_tokens\n2,2\n";
    let error =
        open_files(&[("a.csv", a.as_bytes()), ("b.csv", untimed.as_bytes())], |_| {}).expect_err("mixed").to_string();
    assert!(error.contains("b.csv: some files have a column of arrivals, others have none"), "{error}");
}

#[test]
fn errors_name_line_column_and_cure() {
    let header = "time,input_tokens,output_tokens\n\n";
    for (row, expected) in [
        ("1,,3", "line 3, `input`: column 2 is missing or empty"),
        ("1,2", "line 3, `output`: column 3 is missing or empty"),
        ("x,2,3", "line 3, `arrival`: \"x\" is no time, or beyond the clock"),
        ("1e300,2,3", "line 3, `arrival`: \"1e300\" is no time, or beyond the clock"),
        ("1,-2,3", "line 3, `input`: \"-2\" is no number of tokens"),
        ("1,2.5,3", "line 3, `input`: \"2.5\" is no number of tokens"),
        ("1,0,3", "line 3, `input`: is 0"),
        ("1,2,99999999999", "line 3, `output`: has 99999999999 tokens"),
    ] {
        let error = csv(&format!("{header}{row}\n"), |_| {}).expect_err(row).to_string();
        assert!(error.contains(expected) && error.contains("; "), "{row}\n  {error}\n  {expected}");
    }
    let spread = format!("{header}-9000000000,1,1\n9000000000,1,1\n");
    let error = csv(&spread, |options| options.speedup = 1e-9).expect_err("too far apart").to_string();
    assert!(error.contains("is beyond the clock"), "{error}");
    for (given, expected) in [
        ("input=prompt", "`input`: there is no column \"prompt\"; the columns are \"time\", \"input_tokens\""),
        ("input=9", "`input`: there is no column \"9\""),
    ] {
        let error = csv(&format!("{header}1,2,3\n"), columns(given)).expect_err(given).to_string();
        assert!(error.contains(expected), "{error}\n  {expected}");
    }
    let error = csv("a,b\n1,2\n", columns("input=a")).expect_err("no output").to_string();
    assert!(error.contains("line 1, `output`: no column is known to hold `output`"), "{error}");
    assert!(csv(header, |_| {}).expect_err("no rows").to_string().contains("no rows"));
}

proptest! {
    #[test]
    fn spoilt_tables_are_requests_or_an_error(
        at in 0_usize..300,
        length in 0_usize..12,
        patch in prop::sample::select(vec!["", "\0", "\"", "\n", "\r\n", ",", ";", "1e308", "-", "2024-02-30 00:00:00", "é", "99999999999999999999"]),
        kind in 0_usize..3,
    ) {
        let texts = [
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n",
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n1.0,a,43,GPT-4,906,446,1352,Conversation log\n9.0,a,43,GPT-4,906,446,1352,Conversation log\n",
            "time,input_tokens,output_tokens,session\n1,2,3,\"a\"\n2,2,3,\"a\"\n",
        ];
        let mut bytes = texts[kind].as_bytes().to_vec();
        let at = at % bytes.len();
        bytes.splice(at..(at + length).min(bytes.len()), patch.bytes());
        let format = [TraceFormat::Azure, TraceFormat::BurstGpt, TraceFormat::Csv][kind];
        if let Ok(workload) = open_files(&[("t", &bytes)], |options| options.reading.format = Some(format)) {
            check_shape(&workload);
        }
    }
}
