//! What a run is turned into: the summary report (table and JSON), one row per request, a time series.
//!
//! Everything here is a pure function of the [`Run`](crate::scenario::Run) and its
//! [`Outcome`](crate::sim::metrics::Outcome), so equal scenarios give equal bytes. The exceptions are the three figures
//! that say how fast the simulator itself was (`wall_time_ms`, `processed_tokens_per_s`,
//! `processed_output_tokens_per_s`): their value is handed in by whoever held the watch.
//!
//! | part | gives |
//! |---|---|
//! | [`Report`] | totals, rates, latency statistics, goodput, cost; keys and definitions of the reference, plus ours |
//! | [`Comparison`] | several reports side by side: table, JSON, HTML |
//! | [`write_requests`] | JSON Lines, one object per request that ended |
//! | [`DecisionFile`] | JSON Lines, one object per decision of a router |
//! | [`Diagnostics`] | HTML, what the planner saw and why it decided so |
//! | [`Recorder`] | CSV, the fleet and every worker at a fixed interval of simulated time |
//! | [`write_atomically`] | the way all of them reach the disk: complete or not at all |

mod compare;
mod cost;
mod decisions;
mod diagnostics;
mod file;
mod html;
mod requests;
mod stats;
mod summary;
mod table;
mod tiers;
mod timeseries;

pub use compare::{Candidate, Comparison, Curves, FleetRecorder};
pub use decisions::{DecisionFile, write_decision};
pub use diagnostics::Diagnostics;
pub use file::{AtomicFile, WriteError, write_atomically};
pub use requests::{SessionNames, write_requests, write_rows};
pub use summary::{Report, ReportError, counts, is_good, token_span, tpot_ms};
pub use timeseries::{MAX_ROWS, Recorder, TimeseriesError};
