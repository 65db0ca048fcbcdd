//! Simulate how large-language-model serving behaves before anyone rents a GPU.
//!
//! A [`Scenario`](scenario::Scenario) says everything that determines a run: the load, the workers, the engine, the
//! router. It resolves to a [`Run`](scenario::Run); a [`Simulation`](sim::Simulation) turns that into an
//! [`Outcome`](sim::metrics::Outcome), and a [`Report`](report::Report) into figures.
//!
//! ```text
//!              scenario (one JSON document + flags)
//!                 |
//!   workload ---->|  traces, generators         perf: pass timing
//!                 v                                v
//!        +------------- Simulation: one Bevy World -------------+
//!        |  arrivals -> router -> engines (scheduler + KV pool)  |
//!        |       ^                   |  hand-off                 |
//!        |       +---- sessions <----+----> engines              |
//!        +--------------------------+----------------------------+
//!                                   v
//!             report: table, JSON, JSONL, HTML, time series
//! ```
//!
//! Start reading with [`sim`] (the stages of a step and the plugins that fill them), then `sim::engine` (a forward
//! pass), then `sim::kv` (who owns which blocks).
//!
//! | module | what it holds |
//! |---|---|
//! | [`scenario`] | what a user configures: document, engine arguments, defaults, validation |
//! | [`workload`] | where requests come from: trace formats, synthetic loads, generators (no ECS) |
//! | [`perf`] | how long a forward pass takes, how many KV blocks fit (no ECS) |
//! | [`sim`] | the ECS simulation: arrivals, routers, engines, KV blocks and tiers, hand-off, planner, measurements |
//! | [`calibrate`] | fits corrections of timing models to measurements of a real engine |
//! | [`report`] | summary table, JSON, per-request rows, time series, decision log, HTML reports, comparisons |
//! | [`plot`] | static charts as SVG (no simulation) |
//! | `cli` | one file per subcommand (part of the program, not of the library) |
//! | [`time`] | simulated time in whole nanoseconds |
//! | `text` | reading files that people edit, and saying what is wrong with them (private) |
//! | [`view`] | what a viewer shows of a run at an instant, as data; the window, with feature `gui` |
//! | `sweep` | many runs: to come |
//!
//! Imports point up this table only: `sim` knows nothing of `report`, `plot` or `cli`.
//!
//! ```
//! use dynosim::{scenario::Scenario, sim::Simulation, workload};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scenario: Scenario = serde_json::from_str(
//!     r#"{"version": 1, "input-tokens": 256, "output-tokens": 16, "request-count": 20, "request-rate": 10.0}"#,
//! )?;
//! let run = scenario.resolve(std::path::Path::new("."))?;
//! let mut simulation = Simulation::new(&run, workload::load(&run)?)?;
//! simulation.run_to_end();
//! assert_eq!(simulation.finish().records.len(), 20);
//! # Ok(())
//! # }
//! ```

pub mod calibrate;
pub mod perf;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod sim;
mod text;
pub mod time;
pub mod view;
pub mod workload;
