//! The part of resolving that concerns requests and their timing.

use std::path::Path;

use serde_json::Value;

use crate::time::SimTime;
use crate::workload::generate::{Spec, SpecError};

use super::document::Scenario;
use super::error::ScenarioError;
use super::resolve::at_least_one;
use super::run::{AgentPreset, Preset, SyntheticArrivals, SyntheticLoad, Traffic, TrafficSource};
use super::trace::{CsvColumns, TimeUnit, TraceFormat, TraceReading, TraceSource, TraceWindow};
use super::values::typed;

impl Scenario {
    pub(super) fn traffic(&self, base: &Path, warnings: &mut Vec<String>) -> Result<Traffic, ScenarioError> {
        let concurrency = self.replay_concurrency;
        if concurrency == Some(0) {
            return Err(ScenarioError::new("replay-concurrency", "is 0", "give at least 1, or leave it out"));
        }
        let arrival_speedup = self.arrival_speedup_ratio.unwrap_or(1.0);
        if !arrival_speedup.is_finite() || arrival_speedup <= 0.0 {
            let cause = format!("is {arrival_speedup}");
            return Err(ScenarioError::new("arrival-speedup-ratio", cause, "give a number above zero"));
        }
        if concurrency.is_some() && arrival_speedup != 1.0 {
            warnings.push("`arrival-speedup-ratio` has no effect in a closed loop (`replay-concurrency`).".to_owned());
        }
        if self.benchmark_granularity.is_some() && self.planner_config.is_none() {
            warnings.push("`benchmark-granularity` has no effect without a planner.".to_owned());
        }
        let source = self.source(base, warnings)?;
        Ok(Traffic { source, concurrency, arrival_speedup })
    }

    fn source(&self, base: &Path, warnings: &mut Vec<String>) -> Result<TrafficSource, ScenarioError> {
        let trio = [
            ("input-tokens", self.input_tokens),
            ("output-tokens", self.output_tokens),
            ("request-count", self.request_count),
        ];
        let synthetic = trio.iter().find(|(_, value)| value.is_some()).map(|(key, _)| *key);
        match (!self.trace.is_empty(), synthetic, &self.workload) {
            (true, None, None) => {
                self.warn_idle_keys(true, warnings)?;
                self.trace_source(base, warnings)
            }
            (false, Some(_), None) => {
                self.warn_idle_keys(false, warnings)?;
                let [input, output, count] = trio.map(|(key, value)| match value {
                    Some(_) => at_least_one(key, value),
                    None => {
                        let cause = "is missing; synthetic traffic needs input-tokens, output-tokens and request-count";
                        Err(ScenarioError::new(key, cause, "give all three"))
                    }
                });
                self.synthetic_source(input?, output?, count?, warnings).map(TrafficSource::Synthetic)
            }
            (false, None, Some(document)) => {
                self.refuse_controllers("an embedded generator brings its own arrivals")?;
                self.warn_idle_keys(false, warnings)?;
                let loaded = document.object("workload", base)?;
                preset(loaded.map.clone(), loaded.folder().unwrap_or(base))
                    .map(TrafficSource::Preset)
                    .map_err(|e| loaded.blame(e))
            }
            (false, None, None) => Err(ScenarioError::new(
                "trace",
                "no traffic is given",
                "give a trace file, or input-tokens, output-tokens and request-count, or a workload",
            )),
            (true, Some(key), _) => {
                Err(ScenarioError::new(key, "is given together with a trace", "keep one source of requests"))
            }
            (_, _, Some(_)) => {
                let cause = "is given together with another source of requests";
                Err(ScenarioError::new("workload", cause, "keep one source of requests"))
            }
        }
    }

    fn trace_source(&self, base: &Path, warnings: &mut Vec<String>) -> Result<TrafficSource, ScenarioError> {
        if self.trace.iter().any(String::is_empty) {
            return Err(ScenarioError::new("trace", "is empty", "give a path"));
        }
        let paths = self.trace.iter().map(|path| base.join(path)).collect();
        let trace = TraceSource { paths, reading: self.trace_reading()? };
        // A format that the content has yet to tell is checked when it is known.
        if let Some(format) = trace.reading.format {
            warnings.extend(format.idle_keys(&trace.reading));
        }
        Ok(TrafficSource::Trace(trace))
    }

    /// How the trace is read.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn trace_reading(&self) -> Result<TraceReading, ScenarioError> {
        let key = "trace-format";
        let format = self.trace_format.as_deref().map(|word| {
            word.parse::<TraceFormat>().map_err(|cure| ScenarioError::new(key, format!("is \"{word}\""), cure))
        });
        if self.trace_block_size == Some(0) {
            return Err(ScenarioError::new("trace-block-size", "is 0", "give at least 1"));
        }
        let csv_columns = self.csv_columns.as_deref().map(|text| {
            text.parse::<CsvColumns>().map_err(|(cause, cure)| ScenarioError::new("csv-columns", cause, cure))
        });
        let csv_time_unit = self.csv_time_unit.as_deref().map(|word| {
            let error = |cure| ScenarioError::new("csv-time-unit", format!("is \"{word}\""), cure);
            word.parse::<TimeUnit>().map_err(error)
        });
        let window = self.trace_window.as_deref().map(|text| {
            let cure = "give seconds as START..END, such as 600..1200";
            text.parse::<TraceWindow>().map_err(|cause| ScenarioError::new("trace-window", cause, cure))
        });
        let arrivals = match (self.request_rate, self.arrival_interval_ms) {
            (None, None) => None,
            _ => self.arrivals()?,
        };
        Ok(TraceReading {
            format: format.transpose()?,
            block_size: self.trace_block_size,
            shared_prefix_ratio: ratio("trace-shared-prefix-ratio", self.trace_shared_prefix_ratio)?,
            num_prefix_groups: self.trace_num_prefix_groups.unwrap_or(0),
            csv_columns: csv_columns.transpose()?.unwrap_or_default(),
            csv_time_unit: csv_time_unit.transpose()?.unwrap_or(TimeUnit::Seconds),
            window: window.transpose()?,
            arrivals,
            arrival_seed: self.arrival_seed.filter(|_| arrivals.is_some()).unwrap_or(42),
        })
    }

    fn synthetic_source(
        &self,
        input_tokens: u32,
        output_tokens: u32,
        request_count: u32,
        warnings: &mut Vec<String>,
    ) -> Result<SyntheticLoad, ScenarioError> {
        let arrivals = self.arrivals()?;
        let turns_per_session = at_least_one("turns-per-session", self.turns_per_session)?;
        let shared_prefix_ratio = ratio("shared-prefix-ratio", self.shared_prefix_ratio)?;
        let num_prefix_groups = self.num_prefix_groups.unwrap_or(0);
        if (num_prefix_groups > 0) != (shared_prefix_ratio > 0.0) {
            let (given, other) = if num_prefix_groups > 0 {
                ("num-prefix-groups", "shared-prefix-ratio")
            } else {
                ("shared-prefix-ratio", "num-prefix-groups")
            };
            warnings.push(format!("`{given}` has no effect without `{other}`: no prompts share a prefix."));
        }
        let inter_turn_delay_ms = time("inter-turn-delay-ms", self.inter_turn_delay_ms.unwrap_or(0.0))?;
        let arrival_seed = self.arrival_seed.unwrap_or(42);
        Ok(SyntheticLoad {
            input_tokens,
            output_tokens,
            request_count,
            arrivals,
            arrival_seed,
            turns_per_session,
            shared_prefix_ratio,
            num_prefix_groups,
            inter_turn_delay_ms,
        })
    }

    /// Exactly one of closed loop, rate and interval.
    fn arrivals(&self) -> Result<Option<SyntheticArrivals>, ScenarioError> {
        let cure = "give exactly one of replay-concurrency, request-rate and arrival-interval-ms";
        match (self.replay_concurrency, self.request_rate, self.arrival_interval_ms) {
            (Some(_), None, None) => Ok(None),
            (None, Some(rate_per_s), None) => {
                if !rate_per_s.is_finite() || rate_per_s <= 0.0 {
                    let cause = format!("is {rate_per_s}");
                    return Err(ScenarioError::new("request-rate", cause, "give requests per second above zero"));
                }
                Ok(Some(SyntheticArrivals::Poisson { rate_per_s }))
            }
            (None, None, Some(gap_ms)) => {
                Ok(Some(SyntheticArrivals::Interval { gap_ms: time("arrival-interval-ms", gap_ms)? }))
            }
            (None, None, None) => {
                Err(ScenarioError::new("request-rate", "nothing says when synthetic requests arrive", cure))
            }
            (_, rate, _) => {
                let key = if rate.is_some() { "request-rate" } else { "arrival-interval-ms" };
                Err(ScenarioError::new(key, "is given together with another arrival rule", cure))
            }
        }
    }

    fn refuse_controllers(&self, reason: &str) -> Result<(), ScenarioError> {
        for (key, value) in [("request-rate", self.request_rate), ("arrival-interval-ms", self.arrival_interval_ms)] {
            if value.is_some() {
                let cure = "leave it out; arrival-speedup-ratio and replay-concurrency change the pace";
                return Err(ScenarioError::new(key, format!("is for synthetic traffic; {reason}"), cure));
            }
        }
        Ok(())
    }

    /// Warns of keys that belong to another source of requests; their ranges still hold.
    fn warn_idle_keys(&self, trace: bool, warnings: &mut Vec<String>) -> Result<(), ScenarioError> {
        ratio("trace-shared-prefix-ratio", self.trace_shared_prefix_ratio)?;
        ratio("shared-prefix-ratio", self.shared_prefix_ratio)?;
        let of_traces = [
            ("trace-format", self.trace_format.is_some()),
            ("trace-block-size", self.trace_block_size.is_some()),
            ("trace-shared-prefix-ratio", self.trace_shared_prefix_ratio.is_some_and(|r| r != 0.0)),
            ("trace-num-prefix-groups", self.trace_num_prefix_groups.is_some_and(|n| n != 0)),
            ("csv-columns", self.csv_columns.is_some()),
            ("csv-time-unit", self.csv_time_unit.is_some()),
            ("trace-window", self.trace_window.is_some()),
        ];
        let of_synthetic = [
            ("arrival-seed", self.arrival_seed.is_some() && (!trace || self.request_rate.is_none())),
            ("turns-per-session", self.turns_per_session.is_some_and(|n| n != 1)),
            ("shared-prefix-ratio", self.shared_prefix_ratio.is_some_and(|r| r != 0.0)),
            ("num-prefix-groups", self.num_prefix_groups.is_some_and(|n| n != 0)),
            ("inter-turn-delay-ms", self.inter_turn_delay_ms.is_some_and(|d| d != 0.0)),
        ];
        let synthetic = self.input_tokens.or(self.output_tokens).or(self.request_count).is_some();
        let idle = of_traces.into_iter().filter(|_| !trace).chain(of_synthetic.into_iter().filter(|_| !synthetic));
        for (key, given) in idle {
            if given {
                warnings.push(format!("`{key}` has no effect with this source of requests."));
            }
        }
        Ok(())
    }
}

/// `folder` is where relative paths of the document start.
fn preset(mut map: serde_json::Map<String, Value>, folder: &Path) -> Result<Preset, ScenarioError> {
    let cure = "give {\"preset\":\"generate\"}, \"toolagent\" or \"agent\"";
    match map.shift_remove("preset") {
        Some(Value::String(name)) if name == "agent" => {
            let preset: AgentPreset = typed(map, "workload")?;
            Ok(Preset::Agent(preset))
        }
        Some(Value::String(name)) => match Spec::read(&name, map, folder) {
            Ok(spec) => Ok(Preset::Generate(Box::new(spec))),
            Err(SpecError { key, cause, cure }) => {
                let key = if key.is_empty() { "workload".to_owned() } else { format!("workload.{key}") };
                Err(ScenarioError::new(key, cause, cure))
            }
        },
        Some(Value::Null) | None => Err(ScenarioError::new("workload.preset", "is missing", cure)),
        Some(other) => Err(ScenarioError::new("workload.preset", format!("is {other}"), cure)),
    }
}

fn ratio(key: &str, value: Option<f64>) -> Result<f64, ScenarioError> {
    let value = value.unwrap_or(0.0);
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(ScenarioError::new(key, format!("is {value}"), "give a number from 0 to 1"))
}

/// Milliseconds that fit the clock.
fn time(key: &str, ms: f64) -> Result<f64, ScenarioError> {
    match SimTime::from_ms(ms) {
        Ok(_) => Ok(ms),
        Err(error) => Err(ScenarioError::new(key, error.to_string(), "give milliseconds of zero or more")),
    }
}
