//! Which files a run writes. None of it changes a result, so it is no part of a [`Run`](super::Run).

use std::path::{Path, PathBuf};

use crate::time::SimDuration;

use super::document::Scenario;
use super::error::ScenarioError;

/// Files a run writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// The report; `None`: a file with a name made from the date, in the working folder.
    pub report_json: Option<PathBuf>,
    /// One row per request.
    pub report_jsonl: Option<PathBuf>,
    /// The decision log.
    pub decisions: Option<PathBuf>,
    /// The time series.
    pub timeseries: Option<PathBuf>,
    /// Simulated time between two samples of the series.
    pub timeseries_interval: SimDuration,
}

impl Scenario {
    /// The files this scenario asks for; relative paths start at `base`.
    ///
    /// # Errors
    /// When a path is empty or the interval is not a positive span of time.
    pub fn outputs(&self, base: &Path) -> Result<Outputs, ScenarioError> {
        let path = |key: &str, value: &Option<String>| match value {
            Some(text) if text.is_empty() => Err(ScenarioError::new(key, "is empty", "give a path")),
            Some(text) => Ok(Some(base.join(text))),
            None => Ok(None),
        };
        let seconds = self.timeseries_interval.unwrap_or(1.0);
        let timeseries_interval =
            SimDuration::from_ms(seconds * 1_000.0).ok().filter(|span| !span.is_zero()).ok_or_else(|| {
                let cause = format!("is {seconds} s, outside 1e-9 to 1.8e10 s");
                ScenarioError::new("timeseries-interval", cause, "give seconds of simulated time, such as 1")
            })?;
        let outputs = Outputs {
            report_json: path("report-json", &self.report_json)?,
            report_jsonl: path("report-jsonl", &self.report_jsonl)?,
            decisions: path("decisions", &self.decisions)?,
            timeseries: path("timeseries", &self.timeseries)?,
            timeseries_interval,
        };
        let files = [
            ("report-json", &outputs.report_json),
            ("report-jsonl", &outputs.report_jsonl),
            ("decisions", &outputs.decisions),
            ("timeseries", &outputs.timeseries),
        ];
        for (index, (key, file)) in files.iter().enumerate() {
            let twin = files[..index].iter().find(|(_, other)| file.is_some() && file == other && !is_sink(file));
            if let Some((other, _)) = twin {
                let cause = format!("names the same file as `{other}`");
                return Err(ScenarioError::new(*key, cause, "give each output a file of its own"));
            }
        }
        Ok(outputs)
    }
}

/// Whether writing there twice loses nothing.
fn is_sink(file: &Option<PathBuf>) -> bool {
    file.as_deref().is_some_and(|path| path.starts_with("/dev"))
}
