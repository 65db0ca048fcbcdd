//! What can go wrong with a calibration: where, why, and what to do about it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::scenario::ScenarioError;
use crate::sim::SimError;
use crate::text::shorten;

/// A calibration that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// A file or folder cannot be read.
    #[error("cannot read the measurements {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A measurement breaks a rule of the format.
    #[error("{}; {cure}", data_text(path, *line, field, cause))]
    Data {
        /// The file.
        path: PathBuf,
        /// Line number, from 1, blank lines included, where one is at fault.
        line: Option<usize>,
        /// Field at fault; empty for the whole line or file.
        field: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// What was asked for cannot be met.
    #[error("`{field}`: {cause}; {cure}")]
    Setting {
        /// Name of the setting.
        field: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// The scenario that the measurements are compared with cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Its simulation cannot be set up.
    #[error(transparent)]
    Simulation(#[from] SimError),
}

impl CalibrateError {
    /// What to do about it, where it is told apart from the cause.
    pub fn cure(&self) -> Option<&str> {
        match self {
            Self::Read { .. } => Some("give a folder with a `requests.jsonl`, or such a file"),
            Self::Data { cure, .. } | Self::Setting { cure, .. } => Some(cure),
            Self::Scenario(error) => Some(&error.cure),
            Self::Simulation(_) => None,
        }
    }

    pub(super) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// An error in `field` of the line `line` of `path`; leave out what is not known.
    pub(super) fn data(
        path: &Path,
        line: impl Into<Option<usize>>,
        field: impl Into<String>,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (field, cause) = (shorten(field.into()), shorten(cause.into()));
        Self::Data { path: path.to_owned(), line: line.into(), field, cause, cure: cure.into() }
    }

    pub(super) fn setting(field: impl Into<String>, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Setting { field: field.into(), cause: shorten(cause.into()), cure: cure.into() }
    }
}

fn data_text(path: &Path, line: Option<usize>, field: &str, cause: &str) -> String {
    let mut text = path.display().to_string();
    if let Some(line) = line {
        let _ = write!(text, ", line {line}");
    }
    if !field.is_empty() {
        let _ = write!(text, ", `{field}`");
    }
    text + ": " + cause
}
