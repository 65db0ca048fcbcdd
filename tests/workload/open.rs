//! Opening: files, folders, patterns, and the format by content.

use super::*;
use dynosim::workload::{identify, open};

const MOONCAKE: &str = "{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1]}\n";
const SHARD: &str = r#"{"schema":"dynamo.request.trace.v1","event_type":"request_end","event_time_unix_ms":1,"request":{"request_id":"a","request_received_ms":1,"output_tokens":1,"replay":{"trace_block_size":64,"input_length":1,"input_sequence_hashes":[1]}}}"#;

#[test]
fn a_mooncake_trace_needs_no_name_and_gets_no_note() {
    let workload = open_files(&[("t", MOONCAKE.as_bytes())], |_| {}).expect("a trace");
    assert!(workload.notes.is_empty() && matches!(workload.release, Release::Flat));
    // Fields of other formats do not change that.
    let more = "{\"timestamp\":0,\"output_length\":1,\"hash_ids\":[1],\"request_id\":\"a\",\"wait_for\":[],\"tool_wait_ms\":\"x\"}";
    assert!(open_files(&[("t", more.as_bytes())], |_| {}).expect("a trace").notes.is_empty());
}

#[test]
fn rows_that_wait_are_found_anywhere_in_the_file() {
    let rows = |i: u32| format!("{{\"request_id\":\"r{i}\",\"output_length\":1,\"hash_ids\":[{i}]}}\n");
    let plain: String = (0..500).map(rows).collect();
    let text =
        format!("{plain}{{\"request_id\":\"last\",\"output_length\":1,\"hash_ids\":[1],\"wait_for\":[\"r3\"]}}\n");
    let workload = open_files(&[("t", text.as_bytes())], |_| {}).expect("a trace");
    assert_eq!(graph(&workload).waits_for.of(500), [3]);
    assert_eq!(workload.notes, ["the trace was recognised as agentic_mooncake by its content"]);
    // A name forces the format.
    let error = open_as(TraceFormat::Mooncake, &text).expect_err("no timestamps").to_string();
    assert!(error.contains("`timestamp`: missing in the first row of session `request_1`"), "{error}");
}

#[test]
fn folders_and_patterns_stand_for_their_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, id) in [("s.1.jsonl", "b"), ("s.0.jsonl", "a"), ("other.jsonl", "c")] {
        std::fs::write(folder.path().join(name), SHARD.replace("\"a\"", &format!("\"{id}\""))).unwrap();
    }
    std::fs::write(folder.path().join("README.md"), "not a trace").unwrap();
    let count = |path: PathBuf| open(&[path], &TraceOptions::default()).map(|workload| workload.requests.len());
    assert_eq!(count(folder.path().to_owned()).unwrap(), 3);
    assert_eq!(count(folder.path().join("s.*.jsonl")).unwrap(), 2);
    assert_eq!(identify(&[folder.path()]).unwrap(), TraceFormat::Dynamo);
    let error = count(folder.path().join("x*")).expect_err("no match").to_string();
    assert!(error.contains("no file matches the pattern"), "{error}");
    let error = count(folder.path().join("a**b")).expect_err("no pattern").to_string();
    assert!(error.contains("a**b: "), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = count(empty.path().to_owned()).expect_err("empty").to_string();
    assert!(error.contains("the folder holds no trace files"), "{error}");
    // A file whose name looks like a pattern is a file.
    std::fs::write(folder.path().join("t[1].jsonl"), MOONCAKE).unwrap();
    assert_eq!(count(folder.path().join("t[1].jsonl")).unwrap(), 1);
}

#[test]
fn a_single_file_format_refuses_more() {
    let error =
        open_files(&[("a", MOONCAKE.as_bytes()), ("b", MOONCAKE.as_bytes())], |_| {}).expect_err("two").to_string();
    assert!(error.contains("`trace`: names 2 files, but a mooncake trace is one file"), "{error}");
    let none: [&str; 0] = [];
    assert!(open(&none, &TraceOptions::default()).expect_err("none").to_string().contains("names no file"));
}

#[test]
fn any_format_may_be_packed() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(MOONCAKE.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    // The first bytes tell, whatever the name.
    assert_eq!(open_files(&[("t.txt", &packed)], |_| {}).expect("a trace").requests.len(), 1);
}

#[test]
fn a_file_that_unpacks_without_end_is_refused() {
    // A gigabyte and some of zeros takes about a megabyte.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..1_100 {
        encoder.write_all(&zeros).unwrap();
    }
    let error = open_files(&[("t.gz", &encoder.finish().unwrap())], |_| {}).expect_err("a bomb").to_string();
    assert!(error.contains("unpacks to more than"), "{error}");
}

#[test]
fn what_a_detected_format_does_not_use_is_noted() {
    let csv = "time,input_tokens,output_tokens\n1,2,3\n";
    let workload =
        open_files(&[("t", csv.as_bytes())], |options| options.reading.block_size = Some(64)).expect("a trace");
    assert_eq!(workload.notes[0], "`trace-block-size` has no effect on csv traces.");
}

#[test]
fn rules_of_a_detected_format_hold_as_those_of_a_named_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let graph = "{\"request_id\":\"a\",\"output_length\":1,\"hash_ids\":[1]}\n{\"request_id\":\"b\",\"output_length\":1,\"hash_ids\":[1],\"wait_for\":[\"a\"]}\n";
    let agents = SHARD.replace("\"event_type\"", "\"agent_context\":{\"session_id\":\"s\"},\"event_type\"");
    let split =
        || Topology::Disaggregated { prefill_workers: 1, decode_workers: 1, prefill: engine(64), decode: engine(64) };
    let with = |text: &str, change: &dyn Fn(&mut Run)| {
        std::fs::write(&path, text).unwrap();
        let mut run = trace_run(&path, 64);
        reading(&mut run).format = None;
        change(&mut run);
        load(&run).map(|workload| workload.notes).map_err(|error| error.to_string())
    };
    for (text, change, expected) in [
        (
            graph,
            (&|run: &mut Run| run.traffic.concurrency = Some(1)) as &dyn Fn(&mut Run),
            "`replay-concurrency`: is given",
        ),
        (graph, &|run| run.topology = split(), "`trace-format`: is agentic_mooncake, which needs workers"),
        (&agents, &|run| run.topology = split(), "`trace`: the trace has requests that wait for others"),
        (
            &agents,
            &|run| run.traffic.concurrency = Some(1),
            "`replay-concurrency`: is given, but the requests wait for others",
        ),
        (
            MOONCAKE,
            &|run| reading(run).arrivals = Some(SyntheticArrivals::Interval { gap_ms: 1.0 }),
            "`arrival-interval-ms`: is for synthetic",
        ),
        (
            "input_tokens,output_tokens\n1,1\n",
            &|_| {},
            "`replay-concurrency`: is missing; the csv trace has no arrival times",
        ),
    ] {
        let error = with(text, change).expect_err(expected);
        assert!(error.contains(expected), "{error}\n  {expected}");
    }
    let notes = with(graph, &|run| run.max_sim_time = Some(SimTime::ZERO)).expect("a run");
    assert!(notes.last().unwrap().contains("`max-sim-time-seconds` has no effect on requests that wait"), "{notes:?}");
}

#[test]
fn the_examples_of_the_description_are_what_their_titles_say() {
    let text = include_str!("../../docs/traces.md");
    let mut seen = Vec::new();
    for block in text.split("\n```").filter(|block| block.contains(" title=")) {
        let (info, example) = block.split_once('\n').expect("lines");
        let format: TraceFormat = info.split_once(" title=").expect("a title").1.parse().expect("a format");
        // Deltas look like whole prompts, and must be named.
        let looks = if format == TraceFormat::MooncakeDelta { TraceFormat::Mooncake } else { format };
        let name = if format == TraceFormat::ServeGen { "a-trace.csv" } else { "a" };
        let dataset = r#"{"0": {"input_tokens": "{7: 1.0}", "output_tokens": "{5: 1.0}"}}"#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, example).unwrap();
        std::fs::write(folder.path().join("a-dataset.json"), dataset).unwrap();
        assert_eq!(identify(&[&path]).expect("known"), looks);
        let mut options = TraceOptions::default();
        options.reading.format = Some(format);
        options.reading.window = (format == TraceFormat::ServeGen).then(|| "0..60".parse().unwrap());
        check_shape(&open(&[&path], &options).unwrap_or_else(|error| panic!("{format}: {error}")));
        seen.push(format);
    }
    assert_eq!(seen, TraceFormat::ALL);
}

proptest! {
    #[test]
    fn any_bytes_are_a_workload_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = open_files(&[("t", &bytes)], |_| {});
    }

    #[test]
    fn any_table_like_text_is_a_workload_or_an_error(text in "[a-z0-9,;{}\\[\\]\":.\n-]{0,120}") {
        let _ = open_files(&[("t", text.as_bytes())], |_| {});
    }
}
