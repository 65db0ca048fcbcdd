//! Converting to Mooncake and reading it back.

use super::*;
use dynosim::sim::Simulation;
use dynosim::workload::convert::{ConvertOptions, ConvertSummary, to_mooncake};

/// The workload's Mooncake rows.
fn rows(workload: &Workload, block_size: Option<u32>) -> (String, ConvertSummary) {
    let mut bytes = Vec::new();
    let summary = to_mooncake(workload, &mut bytes, &ConvertOptions { block_size }).expect("rows");
    (String::from_utf8(bytes).expect("text"), summary)
}

/// Reads rows back as their summary says.
fn back(text: &str, summary: &ConvertSummary, concurrency: Option<u32>) -> Workload {
    open_files(&[("t", text.as_bytes())], |options| {
        options.reading.format = Some(summary.format);
        options.reading.block_size = Some(summary.block_size);
        options.concurrency = concurrency;
    })
    .expect("what was written can be read")
}

/// Everything a run can tell apart, but for the names of hash ids.
fn essence(workload: &Workload) -> String {
    let n = workload.requests.len() as u32;
    let pairs = || (0..n).flat_map(|a| (0..a).map(move |b| (a, b)));
    let shared: Vec<u32> = match &workload.content {
        Content::Unique => Vec::new(),
        Content::Trie(trie) => pairs().map(|(a, b)| trie.shared_blocks(a, b)).collect(),
        Content::Streams(_) => Vec::new(),
    };
    let shared = if shared.iter().all(|blocks| *blocks == 0) { Vec::new() } else { shared };
    let streams = match &workload.content {
        Content::Streams(streams) => format!("{} {:?}", streams.delta, tokens(streams)),
        _ => String::new(),
    };
    let hints: Vec<_> = (0..n)
        .map(|index| {
            let hint = workload.hints.get(index);
            (hint.priority, hint.strict_priority, hint.class.map(|class| &workload.hints.classes[class as usize]))
        })
        .collect();
    format!("{:?}\n{:?}\n{shared:?}\n{streams}\n{hints:?}", workload.requests, workload.release)
}

/// Token streams with tokens named by first appearance.
fn tokens(streams: &TokenStreams) -> Vec<(Vec<(u32, u32)>, Option<Vec<u32>>)> {
    let mut names = std::collections::HashMap::new();
    let mut name = |token: u32| {
        let next = names.len() as u32;
        *names.entry(token).or_insert(next)
    };
    let prompts: Vec<Vec<(u32, u32)>> =
        streams.prompts.iter().map(|runs| runs.iter().map(|(token, count)| (name(*token), *count)).collect()).collect();
    let outputs = streams.outputs.iter().map(|list| list.as_ref().map(|list| list.iter().map(|t| name(*t)).collect()));
    prompts.into_iter().zip(outputs).collect()
}

/// Requests as a run of two workers measures them.
fn measured(workload: Workload) -> Vec<String> {
    let mut run = run(TrafficSource::Preset(Preset::Agent(AgentPreset::default())));
    run.topology = Topology::Aggregated { workers: 2, engine: EngineConfig { num_gpu_blocks: 400, ..engine(64) } };
    let mut simulation = Simulation::new(&run, workload).expect("a simulation");
    simulation.run_to_end();
    simulation.finish().records.iter().map(|record| format!("{record:?}")).collect()
}

fn check_round_trip(workload: &Workload, concurrency: Option<u32>) {
    let (text, summary) = rows(workload, None);
    assert_eq!(summary.requests, text.lines().count());
    let again = back(&text, &summary, concurrency);
    assert_eq!(essence(&again), essence(workload), "{text}");
    assert_eq!(measured(again), measured(workload.clone()));
    // The second time nothing changes at all.
    assert_eq!(rows(&back(&text, &summary, concurrency), None).0, text);
}

const FLAT: &str = r#"{"timestamp": 12.345678, "input_length": 1300, "output_length": 3, "hash_ids": [9, 8, 7, 99]}
{"timestamp": 3, "input_length": 600, "output_length": 0, "hash_ids": [9, 8]}
{"timestamp": 3, "output_length": 4, "hash_ids": [9]}
{"timestamp": 400, "input_length": 1, "output_length": 5, "hash_ids": [9, 9]}
"#;

#[test]
fn mooncake_rows_come_back_as_they_were() {
    for text in [FLAT, super::sessions::SESSIONS] {
        check_round_trip(&read(text).expect("a trace"), None);
    }
    let (text, summary) = rows(&read(FLAT).expect("a trace"), None);
    assert_eq!((summary.format, summary.block_size, summary.warnings.len()), (TraceFormat::Mooncake, 512, 0));
    assert_eq!(
        text.lines().next(),
        Some(r#"{"timestamp": 0, "input_length": 600, "output_length": 0, "hash_ids": [0, 1]}"#)
    );
}

#[test]
fn deltas_and_given_outputs_come_back_as_they_were() {
    let rows_ = concat!(
        r#"{"session_id": "a", "timestamp": 7, "input_length": 1100, "output_length": 3, "hash_ids": [5, 5, 6], "output_token_ids": [1, 0, 77]}"#,
        "\n",
        r#"{"timestamp": 5, "input_length": 512, "output_length": 2, "hash_ids": [8]}"#,
        "\n",
        r#"{"session_id": "a", "delay": 20.5, "input_length": 600, "output_length": 4, "hash_ids": [6, 7], "output_token_ids": [1, 1, 2, 3]}"#,
    );
    check_round_trip(&read(rows_).expect("a trace"), None);
    let delta = open_as(TraceFormat::MooncakeDelta, rows_).expect("a trace");
    check_round_trip(&delta, None);
    let (_, summary) = rows(&delta, None);
    assert_eq!(summary.format, TraceFormat::MooncakeDelta);
    assert!(summary.warnings[0].contains("--trace-format mooncake-delta"));
}

#[test]
fn every_other_format_comes_back_through_mooncake() {
    let agentic = "{\"request_id\":\"a\",\"timestamp\":4,\"output_length\":9,\"hash_ids\":[1,2],\"session_id\":\"x \\\"y\\\"\"}\n{\"request_id\":\"b\",\"output_length\":1,\"hash_ids\":[1,3],\"wait_for\":[\"a\"],\"delay\":2.000001}\n{\"request_id\":\"c\",\"timestamp\":9,\"output_length\":1,\"hash_ids\":[1]}\n";
    let graph = open_as(TraceFormat::AgenticMooncake, agentic).expect("a trace");
    check_round_trip(&graph, None);
    // The timestamp of a row that waits says nothing of its own arrival, but all others are counted from it.
    let early = "{\"request_id\":\"a\",\"timestamp\":900,\"output_length\":9,\"hash_ids\":[1,2]}\n{\"request_id\":\"b\",\"timestamp\":5,\"output_length\":1,\"hash_ids\":[1,3],\"wait_for\":[\"a\"]}\n";
    let early = open_as(TraceFormat::AgenticMooncake, early).expect("a trace");
    assert_eq!(early.requests[0].arrival.as_ms(), 895.0);
    check_round_trip(&early, None);
    let (_, summary) = rows(&graph, None);
    assert!(summary.warnings[0].contains("--trace-format agentic_mooncake"), "{:?}", summary.warnings);

    let csv = "time,input_tokens,output_tokens,session\n0.123456789,700,3,a\n9,64,1,\n9.5,100,2,a\n";
    check_round_trip(&open_as(TraceFormat::Csv, csv).expect("a trace"), None);

    let applied = r#"{"num_turns": 1, "input_prompt_length": 700, "assistant_response_length": [5], "tool_call_output_length": [11], "tool_call_latency": [0.25], "final_assistant_response_length": 7}"#;
    let format = |options: &mut TraceOptions| {
        options.reading.format = Some(TraceFormat::AppliedComputeAgentic);
        options.reading.block_size = Some(100);
        options.concurrency = Some(2);
    };
    let closed = open_files(&[("t", applied.as_bytes())], format).expect("a trace");
    check_round_trip(&closed, Some(2));
    let warnings = rows(&closed, None).1.warnings;
    assert!(
        warnings[0].contains("--trace-block-size 100") && warnings[1].contains("--replay-concurrency 2"),
        "{warnings:?}"
    );

    // Complete blocks have ids, what is left of the prompt has none.
    let session = r#"{"id": "s", "block_size": 64, "hash_id_scope": "local", "requests": [
        {"t": 0, "in": 150, "out": 5, "hash_ids": [1, 2], "api_time": 1},
        {"t": 9, "in": 300, "out": 5, "hash_ids": [1, 2, 3, 4], "api_time": 1, "think_time": 0.5}]}"#;
    let workload = open_files(&[("t", session.as_bytes())], |options| {
        options.reading.arrivals = Some(SyntheticArrivals::Interval { gap_ms: 0.0 });
    });
    check_round_trip(&workload.expect("a session"), None);
    let untimed = open_files(&[("t", session.as_bytes())], |_| {}).expect("a session");
    assert!(rows(&untimed, None).1.warnings[1].contains("There are no arrival times"));
}

#[test]
fn generated_loads_come_back_through_mooncake() {
    let preset = AgentPreset {
        sessions: 12,
        system_tokens: 200,
        mean_turns: 3.0,
        turn_tokens: 90,
        output_tokens: 9,
        ..AgentPreset::default()
    };
    let agents = load(&run(TrafficSource::Preset(Preset::Agent(preset)))).expect("sessions");
    check_round_trip(&agents, None);
}

#[test]
fn smaller_blocks_say_the_same() {
    let workload = read(FLAT).expect("a trace");
    let (text, summary) = rows(&workload, Some(64));
    let again = back(&text, &summary, None);
    // 600 tokens of 1300: two blocks of 512, the second cut short.
    assert_eq!((trie(&workload).shared_blocks(0, 2), trie(&again).shared_blocks(0, 2)), (2, 10));
    assert_eq!(measured(again), measured(workload.clone()));
    for wrong in [0, 100, 1_024] {
        let error = to_mooncake(&workload, &mut Vec::new(), &ConvertOptions { block_size: Some(wrong) });
        assert!(error.expect_err("no divisor").to_string().contains("`block-size`: is "), "{wrong}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = to_mooncake(&read(FLAT).expect("a trace"), &mut Full, &ConvertOptions::default()).expect_err("full");
    assert_eq!(error.to_string(), "cannot write the trace: full");
}

/// Rows of a Mooncake trace: session, timestamp, tokens, ids, output tokens, given outputs, what a router is asked.
fn any_rows() -> impl Strategy<Value = String> {
    let row = (
        prop::option::of(0_u32..3),
        0_u64..2_000_000_000,
        prop::collection::vec(0_u64..6, 1..5),
        0_u32..40,
        0_u32..5,
        prop::option::of(prop::collection::vec(0_u32..8, 0..4)),
        prop::option::of((-2_i32..3, 0_u32..3, 0_u32..3)),
    );
    (prop::collection::vec(row, 1..10), any::<bool>()).prop_map(|(rows, authored)| {
        let mut text = String::new();
        let mut begun = HashSet::new();
        for (session, nanos, ids, cut, output, tokens, hint) in rows {
            let at = nanos as f64 / 1e6;
            // The first row of a session has a time, the others have a wait.
            let place = match session {
                Some(s) if begun.insert(s) => format!("\"session_id\":\"s{s}\",\"timestamp\":{at}"),
                Some(s) => format!("\"session_id\":\"s{s}\",\"delay\":{at}"),
                None => format!("\"timestamp\":{at}"),
            };
            let input = (ids.len() as u32 * 100).saturating_sub(cut).max(1);
            let (output, tokens) = match tokens.filter(|_| authored) {
                Some(tokens) => (tokens.len() as u32, format!(",\"output_token_ids\":{tokens:?}")),
                None => (output, String::new()),
            };
            let hint = hint.map_or_else(String::new, |(priority, strict, class)| {
                format!(",\"priority\":{priority},\"strict_priority\":{strict},\"policy_class\":\"{class}\"")
            });
            text += &format!(
                "{{{place},\"input_length\":{input},\"output_length\":{output},\"hash_ids\":{ids:?}{tokens}{hint}}}\n"
            );
        }
        text
    })
}

proptest! {
    #[test]
    fn what_is_read_and_written_is_read_again(text in any_rows(), delta in any::<bool>(), closed in any::<bool>()) {
        let format = if delta { TraceFormat::MooncakeDelta } else { TraceFormat::Mooncake };
        let concurrency = closed.then_some(2);
        let workload = open_files(&[("t", text.as_bytes())], |options| {
            options.reading.format = Some(format);
            options.reading.block_size = Some(100);
            options.concurrency = concurrency;
        });
        if let Ok(workload) = workload {
            check_round_trip(&workload, concurrency);
        }
    }
}
