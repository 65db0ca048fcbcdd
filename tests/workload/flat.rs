//! Traces of independent requests.

use super::*;

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
