//! Flags that say how a trace is read: those of `dynosim replay`.

use dynosim::scenario::{Scenario, ScenarioError};
use dynosim::workload::TraceOptions;

/// Flags for reading a trace.
#[derive(Debug, Clone, clap::Args)]
pub struct Reading {
    /// Format of the trace, as for `dynosim replay` [default: found out from the content]
    #[arg(long, value_name = "FORMAT", help_heading = HEADING)]
    trace_format: Option<String>,
    /// Tokens per hash id of the trace [default: what the file says, else 512]
    #[arg(long, value_name = "TOKENS", help_heading = HEADING)]
    trace_block_size: Option<u32>,
    /// Share of the first prompt that a prefix group has in common; applied_compute_agentic only
    #[arg(long, value_name = "RATIO", help_heading = HEADING)]
    trace_shared_prefix_ratio: Option<f64>,
    /// Number of prefix groups; applied_compute_agentic only
    #[arg(long, value_name = "N", help_heading = HEADING)]
    trace_num_prefix_groups: Option<u32>,
    /// Columns of a CSV trace: arrival=..,input=..,output=..,session=..,delay=..
    #[arg(long, value_name = "COLUMNS", help_heading = HEADING)]
    csv_columns: Option<String>,
    /// Unit of plain numbers in the time columns of a CSV trace: s, ms, us or ns
    #[arg(long, value_name = "UNIT", help_heading = HEADING)]
    csv_time_unit: Option<String>,
    /// Only what begins in this part of the trace, seconds since its first arrival: START..END
    #[arg(long, value_name = "START..END", help_heading = HEADING)]
    trace_window: Option<String>,
    /// Requests per second for traces without arrival times, and the rate of ServeGen clients
    #[arg(long, value_name = "RPS", help_heading = HEADING, conflicts_with = "arrival_interval_ms")]
    request_rate: Option<f64>,
    /// Milliseconds between arrivals for traces without arrival times
    #[arg(long, value_name = "MS", help_heading = HEADING)]
    arrival_interval_ms: Option<f64>,
    /// Seed of the arrival process [default: 42]
    #[arg(long, value_name = "SEED", help_heading = HEADING)]
    arrival_seed: Option<u64>,
}

const HEADING: &str = "Reading the trace";

impl Reading {
    /// The options, checked by the rules of scenarios.
    pub fn options(&self) -> Result<TraceOptions, ScenarioError> {
        let flags = self.clone();
        let scenario = Scenario {
            trace_format: flags.trace_format,
            trace_block_size: flags.trace_block_size,
            trace_shared_prefix_ratio: flags.trace_shared_prefix_ratio,
            trace_num_prefix_groups: flags.trace_num_prefix_groups,
            csv_columns: flags.csv_columns,
            csv_time_unit: flags.csv_time_unit,
            trace_window: flags.trace_window,
            request_rate: flags.request_rate,
            arrival_interval_ms: flags.arrival_interval_ms,
            arrival_seed: flags.arrival_seed,
            ..Scenario::default()
        };
        let located = |error| Scenario::locate(error, &scenario, None);
        Ok(TraceOptions { reading: scenario.trace_reading().map_err(located)?, ..TraceOptions::default() })
    }
}
