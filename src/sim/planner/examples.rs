//! Every single decision that was taken from the reference.

use serde_json::{Value, json};

use super::*;
use crate::scenario::{PredictorConfig, Scenario};

const EXAMPLES: &str = include_str!("../../../tests/fixtures/planner/decisions.json");

/// The examples of a kind; there must be some.
fn examples(kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(EXAMPLES).unwrap();
    let examples = all["examples"].as_array().unwrap().iter().filter(|e| e["kind"] == kind).cloned();
    let examples: Vec<Value> = examples.collect();
    assert!(!examples.is_empty(), "no examples of {kind}");
    examples
}

fn config(example: &Value) -> PlannerConfig {
    Scenario::planner_config_of(example["config"].as_object().unwrap()).unwrap()
}

fn capabilities(value: &Value) -> Capabilities {
    Capabilities {
        gpus: value["num_gpu"].as_i64().unwrap_or(0),
        max_num_batched_tokens: value["max_num_batched_tokens"].as_u64(),
        max_num_seqs: value["max_num_seqs"].as_u64(),
        context_length: value["context_length"].as_u64(),
        max_kv_tokens: value["max_kv_tokens"].as_u64(),
        speculative_nextn: value["speculative_nextn"].as_u64().map(|n| n as u32),
    }
}

fn pass(value: &Value) -> ForwardPassMetrics {
    let count = |key: &str| value[key].as_u64().unwrap_or(0);
    ForwardPassMetrics {
        wall_s: value["wall"].as_f64().unwrap_or(0.0),
        prefills: count("n_pf"),
        prefill_tokens: count("pf_tok"),
        prefix_tokens: 0,
        decodes: count("n_dec"),
        decode_kv_tokens: count("dec_kv"),
        queued_prefills: count("q_n_pf"),
        queued_prefill_tokens: count("q_pf_tok"),
        queued_decodes: count("q_n_dec"),
        queued_decode_kv_tokens: count("q_dec_kv"),
    }
}

fn passes(value: &Value) -> Vec<ForwardPassMetrics> {
    value.as_array().into_iter().flatten().map(pass).collect()
}

fn planner(example: &Value) -> Planner {
    let engines = Engines {
        prefill: capabilities(&example["prefill_capabilities"]),
        decode: capabilities(&example["decode_capabilities"]),
    };
    let mut planner = Planner::new(config(example), engines, PlannerSemantics::default());
    let points = &example["bootstrap_fpms"];
    planner.bootstrap(&passes(&points["prefill"]), &[passes(&points["decode"]), passes(&points["agg"])].concat());
    planner
}

/// Each worker's record in its place.
fn cache(value: &Value) -> FpmCache {
    let mut cache = FpmCache::default();
    let records = passes(value).into_iter().zip(0..).map(|(pass, worker)| (EngineId { worker, rank: 0 }, pass));
    cache.update(records, |_| true);
    cache
}

fn targets(targets: Option<Targets>) -> Value {
    targets.map_or(Value::Null, |t| json!({"num_prefill": t.prefill, "num_decode": t.decode}))
}

#[track_caller]
fn close(example: &Value, what: &str, expected: &Value, got: Option<f64>) {
    let agree = match (expected.as_f64(), got) {
        (Some(expected), Some(got)) => (expected - got).abs() <= 1e-9 + 1e-6 * expected.abs(),
        (None, None) => true,
        _ => false,
    };
    assert!(agree, "{}: {what}: expected {expected}, got {got:?}", example["id"]);
}

#[test]
fn the_fast_loop_decides_as_the_reference() {
    for example in examples("load_decision") {
        let mut planner = planner(&example);
        let counts = |ready: &str, expected: &str| {
            let number = |key: &str| example["worker_counts"][key].as_i64();
            number(ready).map(|ready| PoolCounts { ready, expected: number(expected).unwrap_or(ready), draining: 0 })
        };
        planner.prefill = counts("ready_num_prefill", "expected_num_prefill").unwrap_or_default();
        planner.decode = counts("ready_num_decode", "expected_num_decode").unwrap_or_default();
        if let Some(bounds) = example["lower_bounds_prefill_decode"].as_array() {
            planner.lower_bounds = (bounds[0].as_i64().unwrap(), bounds[1].as_i64().unwrap());
        }
        planner.remember(example["last_kv_hit_rate"].as_f64(), example["observed_accept_length"].as_f64());
        let (prefill, decode) = (cache(&example["fpm_prefill"]), cache(&example["fpm_decode"]));
        let outcome = planner.advance_load(Some(FpmObservations { prefill: &prefill, decode: &decode }));
        let expected = &example["expected"];
        assert_eq!(targets(outcome.decision), expected["decision"], "{}: {outcome:#?}", example["id"]);
        for (key, reason) in [
            ("reason", outcome.reason),
            ("reason_prefill", outcome.reason_prefill),
            ("reason_decode", outcome.reason_decode),
        ] {
            assert_eq!(json!(reason.map(LoadReason::name)), expected[key], "{} {key}", example["id"]);
        }
        close(&example, "TTFT", &expected["estimated_ttft_ms"], outcome.estimated_ttft_ms);
        close(&example, "ITL", &expected["estimated_itl_ms"], outcome.estimated_itl_ms);
    }
}

#[test]
fn the_slow_loop_decides_as_the_reference() {
    for example in examples("throughput_decision") {
        let mut planner = planner(&example);
        let number = |key: &str| example["prediction"][key].as_f64();
        let prediction = Prediction {
            num_req: number("num_req").unwrap(),
            isl: number("isl").unwrap(),
            osl: number("osl").unwrap(),
            kv_hit_rate: number("kv_hit_rate"),
            accept_length: number("accept_length").unwrap(),
        };
        planner.remember(prediction.kv_hit_rate, Some(prediction.accept_length));
        let duration_s = example["traffic"]["duration_s"].as_f64().unwrap();
        let outcome = planner.advance_throughput(&prediction, duration_s);
        let expected = &example["expected"];
        assert_eq!(targets(outcome.decision), expected["decision"], "{}: {outcome:#?}", example["id"]);
        for (key, reason) in [
            ("reason", outcome.reason),
            ("reason_prefill", outcome.reason_prefill),
            ("reason_decode", outcome.reason_decode),
        ] {
            assert_eq!(json!(reason.map(ThroughputReason::name)), expected[key], "{} {key}", example["id"]);
        }
        let (p, d) = planner.lower_bounds;
        assert_eq!(json!([p, d]), json!([expected["lower_bound_prefill"], expected["lower_bound_decode"]]));
        let mut decision = Decision::new(
            &planner.next_tick(),
            &TickInput { workers: WorkerCounts::default(), fpm: None, traffic: None },
        );
        decision.throughput = outcome;
        let (p, d) = decision.engine_rps();
        close(&example, "prefill rate", &expected["engine_rps_prefill"], p);
        close(&example, "decode rate", &expected["engine_rps_decode"], d);
    }
}

#[test]
fn budgets_clamp_as_the_reference() {
    for example in examples("budget_pair") {
        let number = |key: &str| example["input"][key].as_i64().unwrap();
        let budget =
            Budget { min_gpus: number("min_gpus"), max_gpus: number("max_gpus"), min_endpoint: number("min_endpoint") };
        let (p, d) = budget.pair((number("num_p"), number("num_d")), (number("p_gpu"), number("d_gpu")));
        assert_eq!(json!([p, d]), example["expected"], "{}", example["id"]);
    }
    for example in examples("budget_single") {
        let number = |key: &str| example["input"][key].as_i64().unwrap();
        let budget =
            Budget { min_gpus: number("min_gpus"), max_gpus: number("max_gpus"), min_endpoint: number("min_endpoint") };
        let replicas = budget.single(number("desired"), number("engine_gpu"));
        assert_eq!(json!(replicas), example["expected"], "{}", example["id"]);
    }
}

#[test]
fn predictors_predict_as_the_reference() {
    for example in examples("predictor") {
        let mut map = example["config"].as_object().unwrap().clone();
        map.insert("mode".to_owned(), json!("agg"));
        map.insert("optimization_target".to_owned(), json!("sla"));
        map.insert("load_predictor".to_owned(), example["predictor"].clone());
        let config: PredictorConfig = Scenario::planner_config_of(&map).unwrap().predictor;
        let mut predictor = Predictor::new(&config, 180.0);
        let values = example["values"].as_array().unwrap();
        // Forecasts of statistics libraries agree in kind; how far is said here.
        let relative = match example["id"].as_str().unwrap() {
            "pred_arima_series_informational" => 0.01,
            "pred_prophet_informational" => 1e-5,
            _ => 1e-9,
        };
        for (value, expected) in values.iter().zip(example["expected"].as_array().unwrap()) {
            predictor.add(value.as_f64().unwrap_or(f64::NAN));
            let (got, expected) = (predictor.predict(), expected.as_f64().unwrap());
            assert!(
                (got - expected).abs() <= 1e-9 + relative * expected.abs(),
                "{}: {got} is not {expected}",
                example["id"]
            );
        }
    }
}

#[test]
fn traffic_windows_merge_as_the_reference() {
    let window = |value: &Value| {
        let number = |key: &str| value[key].as_f64().unwrap();
        TrafficWindow {
            duration_s: number("duration_s"),
            num_req: number("num_req"),
            avg_isl: number("avg_isl"),
            avg_osl: number("avg_osl"),
            shape_count: number("shape_count"),
            avg_ttft_ms: number("avg_ttft_ms"),
            ttft_count: number("ttft_count"),
            avg_itl_ms: number("avg_itl_ms"),
            itl_count: number("itl_count"),
            avg_kv_hit_rate: number("avg_kv_hit_rate"),
            hit_rate_count: number("hit_rate_count"),
            avg_accept_length: value["avg_accept_length"].as_f64(),
            forward_count: number("accept_length_forward_count"),
        }
    };
    for example in examples("traffic_merge") {
        assert_eq!(window(&example["first"]).merge(&window(&example["second"])), window(&example["expected"]));
    }
}

#[test]
fn the_performance_model_answers_as_the_reference() {
    for example in examples("perf_model") {
        let role = match example["worker_type"].as_str().unwrap() {
            "prefill" => Role::Prefill,
            "decode" => Role::Decode,
            _ => Role::Aggregated,
        };
        let regression = Scenario::planner_config_of(json!({"mode": "agg"}).as_object().unwrap()).unwrap().regression;
        let engine = capabilities(&example["capabilities"]);
        let mut model = EngineModel::new(role, regression, &engine, PlannerSemantics::default());
        model.learn(&passes(&example["tune_fpms"]));
        assert_eq!(json!(model.is_ready()), example["ready"], "{}", example["id"]);
        assert_eq!(json!(model.observations()), example["retained"], "{}", example["id"]);
        close(&example, "next prompt", &example["avg_isl"], Some(model.next_prompt()));
        close(&example, "next context", &example["avg_decode_length"], Some(model.next_context()));
        for query in example["expected"].as_array().unwrap() {
            let record = pass(&query["fpm"]);
            let args = &query["args"];
            let number = |key: &str, default: f64| args[key].as_f64().unwrap_or(default);
            let flag = |key: &str| args[key].as_bool().unwrap_or(false);
            match query["q"].as_str().unwrap() {
                "forward" => {
                    let load = PassLoad {
                        prefills: record.prefills,
                        prefill_tokens: record.prefill_tokens,
                        decodes: record.decodes,
                        decode_kv_tokens: record.decode_kv_tokens,
                    };
                    let got = model.pass(&load).map(|span| span.as_secs());
                    close(&example, &query.to_string(), &query["seconds"], got);
                }
                "queued_prefill" => {
                    let asked = PrefillQuery {
                        kv_hit_rate: args["kv_hit_rate"].as_f64(),
                        queue_scale: number("queue_scale", 1.0),
                        decode_scale: number("decode_scale", 1.0),
                        with_queued_decodes: flag("include_queued_decode"),
                    };
                    close(&example, &query.to_string(), &query["seconds"], model.queued_prefill_s(&record, asked));
                }
                "decode_itl" => {
                    let asked = DecodeQuery {
                        scale: number("decode_scale", 1.0),
                        with_queued_prompts: flag("include_queued_prefill_as_kv"),
                    };
                    close(&example, &query.to_string(), &query["seconds"], model.decode_pass_s(&record, asked));
                }
                "capacity" => {
                    let found = model.capacity(&CapacityQuery {
                        isl: number("isl", 0.0),
                        osl: number("osl", 0.0),
                        ttft_ms: number("ttft_sla_ms", f64::INFINITY),
                        itl_ms: number("itl_sla_ms", f64::INFINITY),
                        kv_hit_rate: args["kv_hit_rate"].as_f64(),
                        accept_length: number("accept_length", 1.0),
                    });
                    let expected = &query["result"];
                    close(&example, "rate", &expected["rps"], found.map(|found| found.rps));
                    close(&example, "TTFT", &expected["ttft_ms"], found.and_then(|found| found.ttft_ms));
                    close(&example, "ITL", &expected["itl_ms"], found.and_then(|found| found.itl_ms));
                    assert_eq!(json!(found.map(|found| found.eligible)), expected["eligible"], "{}", example["id"]);
                }
                other => panic!("unknown query {other}"),
            }
        }
    }
}
