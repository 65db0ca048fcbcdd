//! Agent sessions with nested sub-agents.

use super::*;
use dynosim::scenario::SyntheticArrivals as Arrivals;
use serde_json::{Value, json};

fn request(t: f64, tokens: u64, ids: &[u64], api: f64, think: Option<f64>) -> Value {
    json!({ "t": t, "type": "n", "model": "m", "in": tokens, "out": 5, "hash_ids": ids, "api_time": api, "think_time": think })
}

fn session(id: &str, scope: Option<&str>, requests: &[Value]) -> Value {
    json!({ "id": id, "block_size": 64, "hash_id_scope": scope, "requests": requests })
}

/// Two sub-agents at once behind the first request, the second with one of its own; both are over before the third.
fn nested() -> Value {
    let explore = json!({ "t": 30.0, "type": "subagent", "agent_id": "explore", "duration_ms": 18_000, "requests": [
        request(0.0, 130, &[7, 8], 2.0, Some(0.0)),
        request(5.0, 200, &[7, 8, 9], 3.0, Some(3.0)),
    ]});
    let plan = json!({ "t": 40.0, "type": "subagent", "duration_ms": 27_500, "requests": [
        request(0.5, 130, &[7, 8], 1.5, None),
        { "t": 9.0, "type": "subagent", "agent_id": "deep", "duration_ms": 5_000, "requests": [request(0.0, 64, &[1], 2.0, None)] },
        request(20.0, 300, &[7, 8, 10], 4.0, Some(1.0)),
    ]});
    let requests = [
        request(0.0, 150, &[1, 2], 10.0, Some(0.0)),
        explore,
        plan,
        request(60.0, 290, &[1, 2, 3, 4], 5.0, Some(50.0)),
        request(80.0, 330, &[1, 2, 3, 4, 5], 1.0, Some(14.5)),
    ];
    session("s", Some("local"), &requests)
}

fn tester(documents: &[Value], change: impl FnOnce(&mut TraceOptions)) -> Result<Workload, WorkloadError> {
    let texts: Vec<String> = documents.iter().map(|document| format!("{document:#}")).collect();
    let names: Vec<String> = (0..texts.len()).map(|i| format!("{i}.json")).collect();
    let files: Vec<_> = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    open_files(&files, change)
}

#[test]
fn sub_agents_start_behind_their_parent_and_hold_it_up() {
    let workload = tester(&[nested()], |_| {}).expect("a session");
    check_shape(&workload);
    let graph = graph(&workload);
    // Requests: 0 first; 1 2 explore; 3 plan, 4 deep, 5 plan; 6 7 the rest.
    let waits: Vec<&[u32]> = (0..8).map(|request| graph.waits_for.of(request)).collect();
    assert_eq!(waits, [&[][..], &[0], &[1], &[0], &[3], &[3, 4], &[0, 2, 5], &[6]]);
    let named: Vec<_> =
        graph.turns.iter().map(|(session, turn)| (&*graph.sessions[*session as usize], *turn)).collect();
    assert_eq!(
        named,
        [("s", 0), ("s/explore", 0), ("s/explore", 1), ("s/0", 0), ("s/deep", 0), ("s/0", 1), ("s", 1), ("s", 2)]
            .map(|(name, turn)| (if name == "s/0" { "s/3" } else { name }, turn))
    );
    // Explore began at 12 s, plan at 12.5 s, its own sub-agent 4 s later. The last request of plan was over at 36.5 s.
    assert_eq!(delays_ms(&workload), [0.0, 2_000.0, 3_000.0, 3_000.0, 2_000.0, 14_000.0, 23_500.0, 14_500.0]);
    let trie = trie(&workload);
    assert_eq!((trie.block_tokens, trie.shared_blocks(0, 6), trie.shared_blocks(6, 7)), (64, 2, 4));
    assert_eq!((trie.shared_blocks(1, 3), trie.shared_blocks(2, 5), trie.shared_blocks(0, 4)), (2, 2, 1));
    assert!(!workload.timed && !graph.ignores_time_cap);
}

#[test]
fn sessions_without_sub_agents_are_plain_sessions() {
    let plain = |id, first| {
        let requests = [
            request(first, 150, &[1, 2], 10.0, None),
            request(20.0, 200, &[1, 2, 3], 1.0, Some(9.5)),
            request(25.0, 210, &[1, 2, 3], 1.0, None),
        ];
        session(id, Some("local"), &requests)
    };
    let documents = [plain("a", 0.0), plain("b", 0.0)];
    let workload = tester(&documents, |options| options.reading.arrivals = Some(Arrivals::Interval { gap_ms: 700.0 }))
        .expect("sessions");
    check_shape(&workload);
    assert_eq!(names(&workload), [("a", 0, 3), ("b", 3, 3)]);
    assert_eq!((delays_ms(&workload)[..3].to_vec(), arrivals_ms(&workload)[3]), (vec![0.0, 9_500.0, 4_000.0], 700.0));
    assert!(workload.timed);
    // Ids are those of one session.
    assert_eq!((trie(&workload).shared_blocks(0, 1), trie(&workload).shared_blocks(0, 3)), (2, 0));
    let closed = tester(&documents, |options| options.concurrency = Some(1)).expect("sessions");
    assert!(matches!(closed.release, Release::Sessions { concurrency: Some(1), named: true, .. }));
}

#[test]
fn ids_mean_the_same_within_their_scope() {
    let shared = |scope| {
        let child = json!({ "t": 1.0, "type": "subagent", "requests": [request(0.0, 64, &[1], 1.0, None)] });
        let document = |id| session(id, scope, &[request(0.0, 64, &[1], 1.0, None), child.clone()]);
        let workload = tester(&[document("a"), document("b")], |_| {}).expect("sessions");
        // Own sub-agent; another session.
        (trie(&workload).shared_blocks(0, 1), trie(&workload).shared_blocks(0, 2))
    };
    assert_eq!(
        [Some("local"), Some("global"), Some("per_context"), None].map(shared),
        [(1, 0), (1, 1), (0, 0), (0, 0)]
    );
}

#[test]
fn a_closed_loop_counts_sessions_with_their_sub_agents() {
    let workload = tester(&[nested(), nested()], |options| options.concurrency = Some(1)).expect("sessions");
    let closed = graph(&workload).closed.clone().expect("a closed loop");
    assert_eq!((closed.concurrency, closed.trees), (1, vec![0, 8]));
    let rate = |options: &mut TraceOptions| options.reading.arrivals = Some(Arrivals::Interval { gap_ms: 700.0 });
    let open = tester(&[nested(), nested()], rate).expect("sessions");
    assert_eq!((arrivals_ms(&open)[0], arrivals_ms(&open)[8]), (0.0, 700.0));
}

#[test]
fn errors_name_session_entry_and_field() {
    let change = |pointer: &str, value: Value| {
        let mut document = nested();
        *document.pointer_mut(pointer).expect(pointer) = value;
        tester(&[document], |_| {}).expect_err(pointer).to_string()
    };
    for (pointer, value, expected) in [
        ("/block_size", json!(0), "0.json, session `s`, `block_size`: is 0"),
        ("/hash_id_scope", json!("odd"), "session `s`, `hash_id_scope`: is \"odd\""),
        ("/requests", json!([]), "session `s`, `requests`: no requests"),
        ("/requests", json!(3), "invalid type: integer `3`"),
        ("/requests/0/in", json!(0), "session `s`, entry 1, `in`: is 0"),
        ("/requests/0/in", json!(-1), "invalid value: integer `-1`"),
        ("/requests/0/in", Value::Null, "session `s`, entry 1, `in`: missing"),
        ("/requests/0/out", json!(3_000_000_000_u64), "session `s`, entry 1, `out`: has 3000000000 tokens"),
        ("/requests/3/t", json!(-1), "session `s`, entry 4, `t`: is -1"),
        ("/requests/1/duration_ms", json!(1e300), "session `s`, entry 2, `duration_ms`: is 1"),
        (
            "/requests/1/requests/1/think_time",
            json!(-2),
            "session `s`, sub-agent `s/explore`, entry 2, `think_time`: is -2",
        ),
        ("/requests/3/hash_ids", json!(["a"]), "invalid type: string \"a\""),
    ] {
        let error = change(pointer, value);
        assert!(error.contains(expected) && error.contains("; "), "{pointer}\n  {error}\n  {expected}");
    }
    let other = json!({ "id": "o", "block_size": 16, "requests": [request(0.0, 64, &[1], 1.0, None)] });
    let error = tester(&[nested(), other], |_| {}).expect_err("two sizes").to_string();
    assert!(error.contains("1.json, session `o`, `block_size`: is 16, but 64 was given"), "{error}");
}

proptest! {
    #[test]
    fn spoilt_sessions_are_a_workload_or_an_error(
        at in 0_usize..4_000,
        length in 0_usize..12,
        patch in prop::sample::select(vec!["", "\0", "\"", "}", "[", "1e308", "-", "null", "subagent", "9999999999999", "1e14"]),
        closed in any::<bool>(),
    ) {
        let mut bytes = nested().to_string().into_bytes();
        let at = at % bytes.len();
        bytes.splice(at..(at + length).min(bytes.len()), patch.bytes());
        let result = open_files(&[("t", &bytes)], |options| {
            options.reading.format = Some(TraceFormat::KvCacheTester);
            options.concurrency = closed.then_some(2);
        });
        if let Ok(workload) = result {
            check_shape(&workload);
        }
    }
}
