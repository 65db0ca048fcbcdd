//! What the load predictors learn before the run: the intervals of a recorded trace.

use std::collections::BTreeMap;

use crate::scenario::{PlannerConfig, Run, Target, TraceReading, TraceSource, Traffic, TrafficSource};
use crate::workload::{self, WorkloadError};

use super::TrafficObservation;

/// The requests of the warm-up trace by interval of the slow loop, empty intervals between the first and the last included.
/// Nothing where no trace is named or nobody predicts.
///
/// # Errors
/// When the trace cannot be read.
pub fn warmup(config: &PlannerConfig, run: &Run) -> Result<Vec<TrafficObservation>, WorkloadError> {
    let Some(path) = &config.predictor.warmup_trace else { return Ok(Vec::new()) };
    if config.target != Target::Sla || !config.throughput_scaling {
        return Ok(Vec::new());
    }
    let source = TraceSource { paths: vec![path.clone()], reading: TraceReading::default() };
    let traffic = Traffic { source: TrafficSource::Trace(source), concurrency: None, arrival_speedup: 1.0 };
    let requests = workload::load(&Run { traffic, ..run.clone() })?.requests;
    let duration_s = config.throughput_interval_s;
    let mut sums: BTreeMap<u64, (f64, f64, f64)> = BTreeMap::new();
    for request in &requests {
        let (count, isl, osl) = sums.entry((request.arrival.as_secs() / duration_s).floor() as u64).or_default();
        *count += 1.0;
        *isl += f64::from(request.prompt_tokens);
        *osl += f64::from(request.output_tokens);
    }
    let (Some(first), Some(last)) = (sums.keys().next().copied(), sums.keys().next_back().copied()) else {
        return Ok(Vec::new());
    };
    let observation = |index: u64| {
        let (num_req, isl, osl) = sums.get(&index).copied().unwrap_or_default();
        let mean = |sum: f64| if num_req > 0.0 { sum / num_req } else { 0.0 };
        TrafficObservation { duration_s, num_req, isl: mean(isl), osl: mean(osl), ..TrafficObservation::default() }
    };
    Ok((first..=last).map(observation).collect())
}
