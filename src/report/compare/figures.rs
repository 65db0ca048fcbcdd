//! What is compared: every figure has a key, a label, a unit and a direction.

use serde_json::Value;

use crate::report::summary::Report;

/// Which of two values is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    Lower,
    Higher,
    /// Neither is a virtue.
    Neither,
}

impl Better {
    /// The word for it in data.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Neither => "",
        }
    }
}

/// A figure of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    /// Name in JSON.
    pub key: &'static str,
    /// Heading over it and those that follow in a page; empty under the heading before.
    pub group: &'static str,
    /// What people read.
    pub label: &'static str,
    pub better: Better,
    /// Decimals that are shown.
    pub decimals: usize,
    /// Nothing where the report does not say.
    pub of: fn(&Report) -> Option<f64>,
}

const fn figure(
    group: &'static str,
    key: &'static str,
    label: &'static str,
    better: Better,
    decimals: usize,
    of: fn(&Report) -> Option<f64>,
) -> Figure {
    Figure { key, group, label, better, decimals, of }
}

use Better::{Higher, Lower, Neither};

/// All figures, in the order in which they are shown.
pub(super) const FIGURES: [Figure; 30] = [
    figure("Requests", "completed_requests", "Requests completed", Neither, 0, |r| r.number("completed_requests")),
    figure("", "lost_requests", "Requests not completed", Lower, 0, lost),
    figure("Time to first token", "mean_ttft_ms", "TTFT mean (ms)", Lower, 2, |r| latency(r, "mean_ttft_ms")),
    figure("", "median_ttft_ms", "TTFT p50 (ms)", Lower, 2, |r| latency(r, "median_ttft_ms")),
    figure("", "p90_ttft_ms", "TTFT p90 (ms)", Lower, 2, |r| latency(r, "p90_ttft_ms")),
    figure("", "p99_ttft_ms", "TTFT p99 (ms)", Lower, 2, |r| latency(r, "p99_ttft_ms")),
    figure("Inter-token latency", "mean_itl_ms", "ITL mean (ms)", Lower, 2, |r| latency(r, "mean_itl_ms")),
    figure("", "p90_itl_ms", "ITL p90 (ms)", Lower, 2, |r| latency(r, "p90_itl_ms")),
    figure("", "p99_itl_ms", "ITL p99 (ms)", Lower, 2, |r| latency(r, "p99_itl_ms")),
    figure("Request latency", "mean_e2e_latency_ms", "E2E mean (ms)", Lower, 2, |r| latency(r, "mean_e2e_latency_ms")),
    figure("", "p90_e2e_latency_ms", "E2E p90 (ms)", Lower, 2, |r| latency(r, "p90_e2e_latency_ms")),
    figure("", "p99_e2e_latency_ms", "E2E p99 (ms)", Lower, 2, |r| latency(r, "p99_e2e_latency_ms")),
    figure("Throughput", "request_throughput_rps", "Requests per second", Higher, 3, |r| {
        r.number("request_throughput_rps")
    }),
    figure("", "output_throughput_tok_s", "Output tokens per second", Higher, 1, |r| {
        r.number("output_throughput_tok_s")
    }),
    figure("Goodput", "goodput_request_throughput_rps", "Goodput (requests per second)", Higher, 3, |r| {
        r.number("goodput_request_throughput_rps")
    }),
    figure("", "goodput_output_throughput_tok_s", "Goodput (output tokens per second)", Higher, 1, |r| {
        r.number("goodput_output_throughput_tok_s")
    }),
    figure("", "sla_attainment_percent", "SLA attainment (%)", Higher, 2, attainment),
    figure("Fleet", "aggregated_gpu_hours", "GPU-hours, aggregated", Lower, 4, |r| {
        pool_gpu_hours(r, false).filter(|_| !is_split(r))
    }),
    figure("", "prefill_gpu_hours", "GPU-hours, prefill", Lower, 4, |r| {
        pool_gpu_hours(r, true).filter(|_| is_split(r))
    }),
    figure("", "decode_gpu_hours", "GPU-hours, decode", Lower, 4, |r| pool_gpu_hours(r, false).filter(|_| is_split(r))),
    figure("", "gpu_hours", "GPU-hours, total", Lower, 4, |r| r.number("gpu_hours")),
    figure("", "goodput_per_gpu_hour", "Good requests per GPU-hour", Higher, 1, |r| {
        per(r.number("goodput_completed_requests"), r.number("gpu_hours"))
    }),
    figure("", "output_tokens_per_gpu_hour", "Output tokens per GPU-hour", Higher, 0, |r| {
        per(r.number("total_output_tokens"), r.number("gpu_hours"))
    }),
    figure("", "scaling_events", "Scaling events", Neither, 0, scaling_events),
    figure("Estimates", "busy_percent", "GPU time in forward passes (%)", Neither, 1, |r| {
        per(estimate(r, "busy_gpu_hours"), estimate(r, "gpu_hours")).map(|share| share * 100.0)
    }),
    figure("", "estimated_usd", "Cost, estimate (USD)", Lower, 3, |r| estimate(r, "estimated_usd")),
    figure(
        "",
        "estimated_usd_per_million_output_tokens",
        "Cost per million output tokens, estimate (USD)",
        Lower,
        3,
        |r| per(estimate(r, "estimated_usd"), r.number("total_output_tokens")).map(|usd| usd * 1e6),
    ),
    figure("", "estimated_usd_per_1000_good_requests", "Cost per 1,000 good requests, estimate (USD)", Lower, 3, |r| {
        per(estimate(r, "estimated_usd"), r.number("goodput_completed_requests")).map(|usd| usd * 1e3)
    }),
    figure("", "estimated_kwh", "Energy, estimate (kWh)", Lower, 3, |r| estimate(r, "estimated_kwh")),
    figure("", "estimated_busy_kwh", "Energy of forward passes, estimate (kWh)", Lower, 3, |r| {
        estimate(r, "estimated_busy_kwh")
    }),
];

/// Statistics of no request are 0 in a report, which would win every comparison.
fn latency(report: &Report, key: &str) -> Option<f64> {
    report.number(key).filter(|_| report.number("completed_requests").is_some_and(|completed| completed > 0.0))
}

fn per(value: Option<f64>, unit: Option<f64>) -> Option<f64> {
    let unit = unit.filter(|unit| *unit > 0.0)?;
    Some(value? / unit)
}

/// Requests that arrived and did not complete.
pub(super) fn lost(report: &Report) -> Option<f64> {
    Some(report.number("num_requests")? - report.number("completed_requests")?)
}

/// Share of the requests that arrived which completed within all bounds.
fn attainment(report: &Report) -> Option<f64> {
    per(report.number("goodput_completed_requests"), report.number("num_requests")).map(|share| share * 100.0)
}

/// Whether prefill and decode have workers of their own.
fn is_split(report: &Report) -> bool {
    report.number("prefill_gpus_per_worker").is_some_and(|gpus| gpus > 0.0)
}

fn pool_gpu_hours(report: &Report, prefill: bool) -> Option<f64> {
    let pool = if prefill { "prefill" } else { "decode" };
    let number = |what: &str| report.number(&format!("{pool}_{what}"));
    Some(number("worker_seconds")? * number("gpus_per_worker")? / 3600.0)
}

/// Changes of replica targets; a report of ours that names none had a fleet of fixed size.
fn scaling_events(report: &Report) -> Option<f64> {
    match report.get("scaling_events") {
        Some(Value::Array(events)) => Some(events.len() as f64),
        _ => report.get("semantics").map(|_| 0.0),
    }
}

fn estimate(report: &Report, key: &str) -> Option<f64> {
    report.get("cost_estimate")?.get(key)?.as_f64()
}
