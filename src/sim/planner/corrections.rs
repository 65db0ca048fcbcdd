//! What each correction of the reference's planner changes.

use serde_json::json;

use super::*;
use crate::scenario::Scenario;

const ENGINE: Capabilities = Capabilities {
    gpus: 1,
    max_num_batched_tokens: Some(8_192),
    max_num_seqs: Some(256),
    context_length: None,
    max_kv_tokens: Some(100_000),
    speculative_nextn: None,
};

fn planner(config: serde_json::Value, quirks: PlannerSemantics) -> Planner {
    let config = Scenario::planner_config_of(config.as_object().unwrap()).unwrap();
    Planner::new(config, Engines { prefill: ENGINE, decode: ENGINE }, quirks)
}

fn model(quirks: PlannerSemantics) -> EngineModel {
    let regression = Scenario::planner_config_of(json!({"mode": "agg"}).as_object().unwrap()).unwrap().regression;
    EngineModel::new(Role::Aggregated, regression, &ENGINE, quirks)
}

fn prefill(tokens: u64, wall_s: f64) -> ForwardPassMetrics {
    ForwardPassMetrics { wall_s, prefills: 1, prefill_tokens: tokens, ..Default::default() }
}

fn decode(decodes: u64, kv: u64, wall_s: f64) -> ForwardPassMetrics {
    ForwardPassMetrics { wall_s, decodes, decode_kv_tokens: kv, ..Default::default() }
}

/// One record per worker, from number 0.
fn cache(records: &[ForwardPassMetrics]) -> FpmCache {
    let mut cache = FpmCache::default();
    let records = records.iter().zip(0..).map(|(record, worker)| (EngineId { worker, rank: 0 }, *record));
    cache.update(records, |_| true);
    cache
}

/// What a tick decides with these records and counts, the target being throughput.
fn decide(quirks: PlannerSemantics, records: &[ForwardPassMetrics], ready: i64, expected: i64) -> Decision {
    let mut planner = planner(json!({"mode": "agg"}), quirks);
    let (none, engines) = (FpmCache::default(), cache(records));
    let workers = WorkerCounts { prefill: None, decode: PoolCounts { ready, expected, draining: 0 } };
    let fpm = Some(FpmObservations { prefill: &none, decode: &engines });
    planner.tick(&planner.next_tick(), &TickInput { workers, fpm, traffic: None })
}

#[test]
fn whole_prompts_are_not_thinned_by_passes_without_any() {
    let learnt = |whole_prompts| {
        let mut model = model(PlannerSemantics { whole_prompts, ..Default::default() });
        model.learn(&[prefill(1_000, 0.1), decode(1, 100, 0.01)]);
        model.next_prompt()
    };
    assert_eq!((learnt(false), learnt(true)), (500.0, 1_000.0));
}

#[test]
fn an_engine_without_prompts_is_not_charged_for_those_of_others() {
    let estimate = |own_prefill| {
        let mut model = model(PlannerSemantics { own_prefill, ..Default::default() });
        let passes: Vec<_> = (1..=6_u64)
            .flat_map(|n| {
                let mixed = ForwardPassMetrics {
                    prefills: 1,
                    prefill_tokens: 1_000 * n,
                    ..decode(n, 500 * n * n, 0.1 * n as f64)
                };
                [mixed, decode(n, 700 * n * n, 0.01 * n as f64)]
            })
            .collect();
        model.learn(&passes);
        model.decode_pass_s(&decode(2, 1_000, 0.0), DecodeQuery { scale: 1.0, with_queued_prompts: false }).unwrap()
    };
    assert!(estimate(true) < 0.05 && estimate(false) > 0.1, "{} {}", estimate(true), estimate(false));
}

#[test]
fn no_work_takes_no_negative_time() {
    let estimate = |positive_intercept| {
        let mut model = model(PlannerSemantics { positive_intercept, ..Default::default() });
        model.learn(&(1..=5).map(|n| prefill(1_000 * n, 0.1 * n as f64 - 0.09)).collect::<Vec<_>>());
        model.pass(&PassLoad { prefills: 1, prefill_tokens: 500, ..Default::default() }).unwrap().as_ms()
    };
    assert!(estimate(false) < 1e-3 && estimate(true) > 40.0, "{} {}", estimate(false), estimate(true));
}

#[test]
fn a_decision_against_starting_workers_takes_effect_only_if_they_count() {
    let mut planners = [false, true].map(|count_starting| {
        let config = json!({
            "mode": "agg", "optimization_target": "sla", "load_predictor": "constant",
            "throughput_adjustment_interval_seconds": 5,
        });
        let mut planner = planner(config, PlannerSemantics { count_starting, ..Default::default() });
        let mixed = |n: u64| ForwardPassMetrics {
            prefills: 1,
            prefill_tokens: 50 * n,
            ..decode(n, 90 * n * n, 0.001 * n as f64)
        };
        planner.bootstrap(
            &(1..=20).map(|n| prefill(100 * n, 0.001 * n as f64)).collect::<Vec<_>>(),
            &(1..=20).map(mixed).collect::<Vec<_>>(),
        );
        planner
    });
    let traffic = TrafficObservation { duration_s: 5.0, num_req: 1.0, isl: 100.0, osl: 10.0, ..Default::default() };
    let workers = WorkerCounts { prefill: None, decode: PoolCounts { ready: 1, expected: 3, draining: 0 } };
    let decided = planners.each_mut().map(|planner| {
        planner.tick(&planner.next_tick(), &TickInput { workers, fpm: None, traffic: Some(traffic) }).scale_to
    });
    assert_eq!(decided, [None, Some(Targets { prefill: None, decode: Some(1) })]);
}

#[test]
fn a_worker_that_has_not_reported_voids_a_decision_unless_corrected() {
    let busy = decode(10, 150_000, 0.01);
    let reason =
        |partial_reports| decide(PlannerSemantics { partial_reports, ..Default::default() }, &[busy], 2, 2).load.reason;
    assert_eq!(reason(false), Some(LoadReason::WorkerCountMismatch));
    assert_eq!(reason(true), Some(LoadReason::ScaleUp));
}

#[test]
fn a_decision_says_in_one_sentence_what_decided() {
    let decision = decide(PlannerSemantics::default(), &[decode(10, 150_000, 0.01), decode(1, 10, 0.01)], 2, 2);
    assert_eq!(decision.text(), "scaled agg 2 to 3: worker 0 has share of KV tokens in use or waited for 1.5 > 1");
    let plan = decision.to_json();
    let opinion = &plan["load"]["opinions"][0];
    assert_eq!(opinion["options"].as_array().unwrap().len(), 3, "{plan}");
    assert!(opinion["checks"].as_array().unwrap().iter().any(|check| check["holds"] == true), "{plan}");
}
