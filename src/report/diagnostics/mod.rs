//! The planner's diagnostics report: one HTML file that explains every decision, and a compressed log beside it.
//!
//! | file | idea |
//! |---|---|
//! | `snapshot` | a noted tick in the reference's terms |
//! | `page` | the HTML file: its data; looks and behaviour are in `assets/report` |
//! | `log` | the compressed log |

mod log;
mod page;
mod snapshot;

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;

use crate::scenario::{DiagnosticsConfig, Run};
use crate::sim::metrics::Outcome;

use super::file::{WriteError, write_atomically};
use super::summary::Report;

/// Most noted ticks that go into a report; the oldest ones beyond that are left out, as in the reference.
const MOST_TICKS: usize = 50_000;

/// The diagnostics report of a run.
#[derive(Debug)]
pub struct Diagnostics<'a> {
    config: &'a DiagnosticsConfig,
    page: page::Page<'a>,
}

impl<'a> Diagnostics<'a> {
    /// The report of a run, if it had a planner that is to write one and that noted anything.
    pub fn of(run: &'a Run, outcome: &'a Outcome, report: &'a Report) -> Option<Self> {
        let planner = run.planner.as_ref().filter(|planner| planner.diagnostics.enabled)?;
        let log = outcome.planner.as_ref().filter(|log| !log.decisions.is_empty())?;
        let first = log.decisions.len().saturating_sub(MOST_TICKS);
        let ticks = log.decisions.iter().zip(&log.sights).skip(first).collect();
        let page = page::Page { planner, topology: &run.topology, ticks, events: &outcome.scaling_events, report };
        Some(Self { config: &planner.diagnostics, page })
    }

    /// Where it goes: the file asked for, or one named for the simulated instant of the last tick, in the folder asked for.
    pub fn path(&self) -> PathBuf {
        let name = self.config.file.clone().unwrap_or_else(|| {
            let (date, time) = snapshot::clock(self.page.last_at_s());
            format!("planner_report_{}_{}_001.html", date.replace('-', ""), time.replace(':', ""))
        });
        self.config.folder.join(name)
    }

    /// The four lines at the top of the reference's report, joined by ` | `.
    pub fn summary(&self) -> String {
        self.page.summary().join(" | ")
    }

    /// The HTML text.
    pub fn html(&self) -> String {
        self.page.html()
    }

    /// Writes the report, and the log if one is wanted.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self) -> Result<PathBuf, WriteError> {
        let path = self.path();
        let html = self.html();
        write_atomically(&path, |out: &mut dyn Write| out.write_all(html.as_bytes()))?;
        if self.config.log {
            let is_html = path.extension().is_some_and(|end| end.eq_ignore_ascii_case(OsStr::new("html")));
            let mut name = if is_html { path.with_extension("") } else { path.clone() }.into_os_string();
            name.push(".log.jsonl.gz");
            write_atomically(&PathBuf::from(name), |out: &mut dyn Write| log::write(out, &self.page, &path))?;
        }
        Ok(path)
    }
}
