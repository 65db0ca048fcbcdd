//! A planner configuration with every default filled in and nothing left to check.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::workload::Interval;

/// Which pools the planner scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlannerMode {
    /// One pool whose workers prefill and decode.
    Aggregated,
    /// A prefill pool and a decode pool.
    Disaggregated,
}

impl PlannerMode {
    /// The word in a planner configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aggregated => "agg",
            Self::Disaggregated => "disagg",
        }
    }
}

/// What the planner strives for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Bounds on TTFT and ITL, with estimates from a performance model.
    Sla,
    /// Fixed thresholds that let queues and caches fill up.
    Throughput,
    /// Fixed thresholds that keep queues empty.
    Latency,
    /// Thresholds of the user's own.
    Load,
}

impl Target {
    /// The word in a planner configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sla => "sla",
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Load => "load",
        }
    }

    /// Whether fixed thresholds decide, not estimates.
    pub fn is_easy(self) -> bool {
        self != Self::Sla
    }
}

/// How the load of the next interval is predicted from those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictorKind {
    /// The next interval is like the last.
    Constant,
    /// Autoregressive integrated moving average of automatic order.
    Arima,
    /// Kalman filter of a local linear trend.
    Kalman,
    /// Prophet's piecewise linear trend.
    Prophet,
}

impl PredictorKind {
    /// The word in a planner configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Arima => "arima",
            Self::Kalman => "kalman",
            Self::Prophet => "prophet",
        }
    }
}

/// Two thresholds, `down` below `up`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// From here on a pool grows.
    pub up: f64,
    /// Up to here a pool may shrink.
    pub down: f64,
}

/// The load predictors.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictorConfig {
    /// Which one.
    pub kind: PredictorKind,
    /// Whether logarithms `ln(1 + x)` are modelled.
    pub log1p: bool,
    /// Points that Prophet keeps.
    pub prophet_window: usize,
    /// Variance that the Kalman filter's level gains per interval.
    pub kalman_q_level: f64,
    /// Variance that the Kalman filter's trend gains per interval.
    pub kalman_q_trend: f64,
    /// Variance of the Kalman filter's measurements.
    pub kalman_r: f64,
    /// Intervals from which the predictors learn before the run.
    pub warmup: Vec<Interval>,
}

/// The regression from forward-pass metrics to pass times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegressionConfig {
    /// Observations kept per kind of pass, and the window of the moving averages.
    pub max_samples: usize,
    /// Buckets over the observed range, a square number; the fullest bucket gives way first.
    pub buckets: usize,
    /// Observations before anything is fitted.
    pub min_observations: usize,
}

/// The diagnostics report.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagnosticsConfig {
    /// Whether one is written.
    pub enabled: bool,
    /// Folder it goes to.
    pub folder: PathBuf,
    /// Its name; otherwise a dated one.
    pub file: Option<String>,
    /// Whether a compressed log goes beside it.
    pub log: bool,
}

/// Everything the planner is told.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannerConfig {
    /// Pools.
    pub mode: PlannerMode,
    /// Goal.
    pub target: Target,
    /// Whether the slow loop, which predicts load, runs; only with [`Target::Sla`].
    pub throughput_scaling: bool,
    /// Whether the fast loop, which reacts to load, runs.
    pub load_scaling: bool,
    /// Seconds between runs of the slow loop.
    pub throughput_interval_s: f64,
    /// Seconds between runs of the fast loop and between looks at forward-pass metrics.
    pub load_interval_s: f64,
    /// Seconds between ticks; divides both intervals.
    pub tick_s: f64,
    /// Bound on TTFT, milliseconds, above zero.
    pub ttft_ms: f64,
    /// Bound on ITL, milliseconds.
    pub itl_ms: f64,
    /// Most GPUs; negative for no bound.
    pub max_gpus: i64,
    /// Fewest GPUs; negative for no bound.
    pub min_gpus: i64,
    /// Fewest replicas of a pool.
    pub min_endpoint: i64,
    /// GPUs of a prefill replica, for the GPU-hours of the diagnostics report only; 0 if not told.
    pub prefill_gpus: i64,
    /// GPUs of a decode (or aggregated) replica, for the same.
    pub decode_gpus: i64,
    /// Percentage of a bound that must be kept after a replica went.
    pub down_sensitivity: i64,
    /// Queued prompt tokens of a prefill worker; given with [`Target::Load`] in disaggregated mode.
    pub queue_tokens: Option<Thresholds>,
    /// Share of KV tokens in use of a decode worker, 0 to 1; given with [`Target::Load`].
    pub kv_share: Option<Thresholds>,
    /// Draft tokens of speculative decoding where the engine does not say.
    pub speculative_nextn: u32,
    /// Load predictors.
    pub predictor: PredictorConfig,
    /// Performance regression.
    pub regression: RegressionConfig,
    /// Points per axis of what an analytical timing model teaches the regression before the run.
    pub benchmark_granularity: u64,
    /// Diagnostics report.
    pub diagnostics: DiagnosticsConfig,
    /// The configuration as it was given.
    pub given: Map<String, Value>,
}
