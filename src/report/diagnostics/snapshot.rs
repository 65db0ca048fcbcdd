//! A noted tick in the terms of the reference's recorder.

use serde_json::{Value, json};

use crate::report::html::number;
use crate::scenario::PlannerConfig;
use crate::sim::planner::{Decision, EngineId, ForwardPassMetrics, LoadReason, Sight, ThroughputReason};

/// Date and time of day of a simulated second, taken as seconds since 1970.
pub(super) fn clock(at_s: f64) -> (String, String) {
    let seconds = if at_s > 0.0 { at_s as u64 } else { 0 };
    let (year, month, day) = crate::time::civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}"))
}

fn engines(passes: &[(EngineId, ForwardPassMetrics)]) -> Vec<Value> {
    let engine = |(engine, pass): &(EngineId, ForwardPassMetrics)| {
        json!({
            "worker_id": engine.worker.to_string(),
            "dp_rank": engine.rank,
            "queued_prefill_tokens": pass.queued_prefill_tokens,
            "queued_decode_kv_tokens": pass.queued_decode_kv_tokens,
            "inflight_decode_kv_tokens": pass.decode_kv_tokens,
        })
    };
    passes.iter().map(engine).collect()
}

/// Every field that the reference's recorder keeps. Rates are, as there, requests of whatever window was taken last, divided
/// by the slow loop's interval.
pub(super) fn snapshot(config: &PlannerConfig, decision: &Decision, sight: &Sight) -> Value {
    let taken = sight.taken;
    let per_second = |requests: f64| requests / config.throughput_interval_s;
    let (rps_prefill, rps_decode) = decision.engine_rps();
    let (load, throughput) = (&decision.load, &decision.throughput);
    let (day, time) = clock(decision.tick.at_s);
    let prediction = decision.prediction;
    json!({
        "schema": "planner_diagnostics_snapshot_log_v1",
        "kind": "snapshot",
        "timestamp_s": number(Some(decision.tick.at_s)),
        "timestamp_utc": format!("{day}T{time}+00:00"),
        "num_prefill_replicas": decision.workers.prefill.map(|counts| counts.ready),
        "num_decode_replicas": decision.workers.decode.ready,
        "observed_ttft_ms": number(taken.filter(|w| w.ttft_count > 0.0).map(|w| w.avg_ttft_ms)),
        "observed_itl_ms": number(taken.filter(|w| w.itl_count > 0.0).map(|w| w.avg_itl_ms)),
        "observed_requests_per_second": number(taken.map(|w| per_second(w.num_req))),
        "observed_request_duration_seconds": Value::Null,
        "observed_input_sequence_tokens": number(taken.map(|w| w.avg_isl)),
        "observed_output_sequence_tokens": number(taken.map(|w| w.avg_osl)),
        "observed_kv_hit_rate": number(taken.map(|w| w.avg_kv_hit_rate)),
        "estimated_ttft_ms": number(load.estimated_ttft_ms),
        "estimated_itl_ms": number(load.estimated_itl_ms),
        "predicted_requests_per_second": number(prediction.map(|p| per_second(p.num_req))),
        "predicted_input_sequence_tokens": number(prediction.map(|p| p.isl)),
        "predicted_output_sequence_tokens": number(prediction.map(|p| p.osl)),
        "predicted_kv_hit_rate": number(prediction.and_then(|p| p.kv_hit_rate)),
        "engine_rps_prefill": number(rps_prefill),
        "engine_rps_decode": number(rps_decode),
        "load_decision_reason": load.reason.map(LoadReason::name),
        "load_decision_reason_prefill": load.reason_prefill.map(LoadReason::name),
        "load_decision_reason_decode": load.reason_decode.map(LoadReason::name),
        "throughput_decision_reason": throughput.reason.map(ThroughputReason::name),
        "throughput_decision_reason_prefill": throughput.reason_prefill.map(ThroughputReason::name),
        "throughput_decision_reason_decode": throughput.reason_decode.map(ThroughputReason::name),
        "prefill_engines": engines(&decision.prefill_passes),
        "decode_engines": engines(&decision.decode_passes),
        "throughput_lower_bound_prefill": decision.lower_bounds.0,
        "throughput_lower_bound_decode": decision.lower_bounds.1,
        "scale_to_prefill": decision.scale_to.and_then(|targets| targets.prefill),
        "scale_to_decode": decision.scale_to.and_then(|targets| targets.decode),
        "gpu_hours": number(Some(sight.gpu_hours)),
    })
}
