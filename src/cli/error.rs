//! What went wrong, how it is shown, and the exit code.

use std::fmt;
use std::io::{self, IsTerminal};

use dynosim::calibrate::CalibrateError;
use dynosim::perf::PerfError;
use dynosim::report::{TimeseriesError, WriteError};
use dynosim::scenario::ScenarioError;
use dynosim::sim::SimError;
use dynosim::workload::WorkloadError;

use super::{FAILED, USAGE, output};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The scenario cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The trace or the generator is at fault.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A timing table, a GPU, a model or a question to them is at fault.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// Measurements, or what is to be fitted to them, are at fault.
    #[error(transparent)]
    Calibrate(CalibrateError),
    /// The simulation cannot be set up.
    #[error(transparent)]
    Simulation(#[from] SimError),
    /// The time series cannot be recorded.
    #[error("`timeseries-interval`: {0}")]
    Timeseries(#[from] TimeseriesError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// This program was built without a viewer.
    #[cfg(not(feature = "gui"))]
    #[error("this dynosim was built without the viewer; build it with: cargo run --release --features gui -- view ...")]
    NoViewer,
    /// The run cannot be opened.
    #[cfg(feature = "gui")]
    #[error(transparent)]
    Open(#[from] dynosim::view::OpenError),
    /// There is no window or no picture.
    #[cfg(feature = "gui")]
    #[error(transparent)]
    View(#[from] dynosim::view::window::app::ViewError),
    /// What is to be compared cannot be.
    #[error("{cause}; {cure}")]
    Compare {
        /// The file or flag and what is wrong with it.
        cause: String,
        /// What to do.
        cure: &'static str,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
}

impl From<CalibrateError> for CliError {
    fn from(error: CalibrateError) -> Self {
        match error {
            CalibrateError::Scenario(error) => Self::Scenario(error),
            CalibrateError::Simulation(error) => Self::Simulation(error),
            error => Self::Calibrate(error),
        }
    }
}

impl CliError {
    /// 2 when the user can cure it by different input, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Workload(WorkloadError::Write(_)) => FAILED,
            Self::Scenario(_) | Self::Workload(_) | Self::Perf(_) | Self::Calibrate(_) | Self::Timeseries(_) => USAGE,
            Self::Compare { .. } => USAGE,
            Self::Simulation(SimError::TooManyRanks { .. }) => USAGE,
            #[cfg(not(feature = "gui"))]
            Self::NoViewer => USAGE,
            #[cfg(feature = "gui")]
            Self::Open(_) => USAGE,
            #[cfg(feature = "gui")]
            Self::View(_) => FAILED,
            Self::Simulation(_) | Self::Write(_) | Self::Stdout(_) => FAILED,
        }
    }

    /// Shows the error on standard error: in full dress on a terminal, as one line elsewhere.
    pub fn show(&self) {
        let text = if io::stderr().is_terminal() {
            format!("{:?}\n", miette::Report::new(Dressed::of(self)))
        } else {
            format!("error: {self}\n")
        };
        output::to_stderr(&text);
    }
}

/// Cause and cure apart, for the rich report.
#[derive(Debug)]
struct Dressed {
    cause: String,
    cure: Option<String>,
}

impl Dressed {
    fn of(error: &CliError) -> Self {
        match error {
            CliError::Scenario(e) => Self { cause: e.what(), cure: Some(e.cure.clone()) },
            CliError::Workload(e) => {
                let (text, cure) = (e.to_string(), e.cure());
                let cause = text.strip_suffix(cure).map_or(text.as_str(), |t| t.trim_end_matches("; ")).to_owned();
                Self { cause, cure: Some(cure.to_owned()) }
            }
            CliError::Calibrate(e) => {
                let (text, cure) = (e.to_string(), e.cure());
                let cause = cure.and_then(|cure| text.strip_suffix(cure)).unwrap_or(&text).trim_end_matches("; ");
                Self { cause: cause.to_owned(), cure: cure.map(str::to_owned) }
            }
            CliError::Compare { cause, cure } => Self { cause: cause.clone(), cure: Some((*cure).to_owned()) },
            CliError::Perf(e) => Self { cause: e.what(), cure: Some(e.cure().to_owned()) },
            other => Self { cause: other.to_string(), cure: None },
        }
    }
}

impl fmt::Display for Dressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Dressed {}

impl miette::Diagnostic for Dressed {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.cure.as_ref().map(|cure| Box::new(cure) as Box<dyn fmt::Display>)
    }
}
