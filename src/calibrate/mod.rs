//! Corrections of timing models from measurements of a real engine.
//!
//! A timing model says how long kernels take; a real engine adds a host, a driver and other habits. Given when requests
//! arrived at a real engine and when their tokens came, the same arrivals are replayed, and a few named corrections are
//! fitted until the latencies agree:
//!
//! ```text
//!   requests.jsonl --> Measurements --+--> first half: Fit --> corrections --> a file any run can use
//!   meta.json ------> Settings (Run) -+--> second half: errors before and after
//! ```
//!
//! The whole run is replayed every time, so that the second half meets the load that the first half left behind; only the
//! latencies of the first half are compared in the fit, only those of the second half judge it.
//!
//! | file | holds |
//! |---|---|
//! | `measured` | reads requests, brings clocks together |
//! | `meta` | reads what the measured engine was set to |
//! | `settings` | completes a scenario by it |
//! | `replay` | simulates the arrivals with given corrections |
//! | `score` | how far latencies are apart |
//! | `parameter` | what can be fitted, and in which coordinates |
//! | `fit` | the search for the best corrections |
//! | `report` | what came out, as text, as JSON, as a correction file |
//! | `error` | what can go wrong |

mod error;
mod fit;
mod measured;
mod meta;
mod parameter;
mod replay;
mod report;
mod score;
mod settings;

pub use error::CalibrateError;
pub use fit::{Fit, Fitted};
pub use measured::{Clock, MeasuredRequest, Measurements};
pub use parameter::Parameter;
pub use replay::{Knobs, Replay};
pub use report::Calibration;
pub use score::{Comparison, Figures, Latencies, Metric, compare};
pub use settings::{Setting, Settings};

use parameter::Origin;

use crate::scenario::{EngineConfig, Topology};

/// Fits `parameters`, or what makes sense if none are named, and compares before and after.
///
/// Without names these are the prefill scale, the decode scale and the host time of a pass, and the KV blocks where their
/// number is an estimate. An empty list fits nothing and only compares.
///
/// # Errors
/// When a parameter cannot be fitted because the engine arguments outrank it, or the simulation cannot be set up.
pub fn calibrate(
    measured: &Measurements,
    settings: Settings,
    parameters: Option<&[Parameter]>,
) -> Result<Calibration, CalibrateError> {
    let engines: Vec<&EngineConfig> = match &settings.run.topology {
        Topology::Aggregated { engine, .. } => vec![engine],
        Topology::Disaggregated { prefill, decode, .. } => vec![prefill, decode],
    };
    let outranked = [
        (Parameter::NumGpuBlocks, settings.blocks_given, "extra-engine-args.num_gpu_blocks"),
        (Parameter::PerPassOverhead, settings.overhead_given, "extra-engine-args.timing.per_pass_overhead_ms"),
    ];
    let wanted: Vec<Parameter> = match parameters {
        Some(named) => {
            for (parameter, given, key) in outranked {
                if given && named.contains(&parameter) {
                    let cause =
                        format!("names `{}`, but `{key}` is given, which outranks a correction file", parameter.name());
                    return Err(CalibrateError::setting("fit", cause, "leave one of them out"));
                }
            }
            named.to_vec()
        }
        None => {
            let estimated = engines.iter().any(|engine| engine.timing.capacity.is_some());
            let all = Parameter::ALL.into_iter().filter(|p| estimated || *p != Parameter::NumGpuBlocks);
            all.filter(|p| !outranked.iter().any(|(parameter, given, _)| parameter == p && *given)).collect()
        }
    };
    let (blocks, fewest) = engines.iter().fold((1, 1), |(_, fewest), engine| {
        let longest = measured.requests.iter().map(|r| r.input_tokens + r.output_tokens).max().unwrap_or(1);
        (engine.num_gpu_blocks, fewest.max(longest.div_ceil(engine.block_size)))
    });
    let start = Knobs { num_gpu_blocks: settings.known_blocks, ..Knobs::of(&settings.run) };
    let mut fit = fit::fit(&settings.run, measured, Origin { knobs: start, blocks, fewest }, &wanted)?;
    if parameters.is_none() {
        // Nobody asked for them, and a pool that never fills is the usual case.
        fit.unidentified.retain(|parameter| *parameter != Parameter::NumGpuBlocks);
    }
    let replay = Replay::new(&settings.run, &measured.requests);
    let before = replay.simulate(fit.start)?;
    let after = replay.simulate(fit.best)?;
    Ok(Calibration::new(measured, settings, fit, &before, &after))
}
