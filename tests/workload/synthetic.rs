//! The reference's synthetic loads.

use super::*;

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
