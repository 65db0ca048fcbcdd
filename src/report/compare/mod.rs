//! Several runs side by side: one table, one JSON object, one HTML page.
//!
//! | file | idea |
//! |---|---|
//! | `figures` | what is compared: labels, units, which direction is better |
//! | `grid` | the figures of every run, changes against the first, the best |
//! | `curves` | what a run shows over time and over percentiles |
//! | `table` | the table for a terminal |
//! | `page` | the HTML file; looks and behaviour are in `assets/report` |

mod curves;
mod figures;
mod grid;
mod page;
mod table;

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::scenario::Sla;

use super::summary::Report;
use grid::Grid;

pub use curves::{Curves, FleetRecorder};

/// A run to compare.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called.
    pub name: String,
    /// The file it came from: a scenario that was run, or a report.
    pub file: PathBuf,
    /// Its figures.
    pub report: Report,
    /// The bounds behind its goodput; nothing for a report read from a file, which does not hold them.
    pub sla: Option<Sla>,
    /// What only a run shows; nothing for a report read from a file.
    pub curves: Option<Curves>,
}

/// Runs side by side; changes are against the first.
#[derive(Debug, Clone)]
pub struct Comparison {
    candidates: Vec<Candidate>,
    grid: Grid,
}

impl Comparison {
    /// Compares these, in this order.
    pub fn new(candidates: Vec<Candidate>) -> Self {
        let grid = Grid::of(&candidates);
        Self { candidates, grid }
    }

    /// What to know about the figures, one sentence each.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let names = |which: &dyn Fn(&Candidate) -> bool| -> Vec<&str> {
            self.candidates.iter().filter(|c| which(c)).map(|c| c.name.as_str()).collect()
        };
        let arrived: Vec<f64> = self.candidates.iter().filter_map(|c| c.report.number("num_requests")).collect();
        if arrived.windows(2).any(|pair| pair[0] != pair[1]) {
            notes.push("Not all runs were given the same number of requests: their traffic may differ.".to_owned());
        }
        let lossy = names(&|c| figures::lost(&c.report).is_some_and(|lost| lost > 0.0));
        if !lossy.is_empty() {
            notes.push(format!(
                "Not every request completed ({}): latencies and throughput are those of the ones that did.",
                lossy.join(", ")
            ));
        }
        let bounds: Vec<&Sla> = self.candidates.iter().filter_map(|c| c.sla.as_ref()).collect();
        if bounds.windows(2).any(|pair| pair[0] != pair[1]) {
            notes.push("Goodput is judged by different bounds: give --sla-... to judge all by the same.".to_owned());
        }
        let judged = |c: &Candidate| c.report.number("goodput_completed_requests").is_some();
        let foreign = names(&|c| c.sla.is_none() && judged(c));
        if !foreign.is_empty() {
            notes.push(format!(
                "Goodput of {} is judged by the bounds of the run that wrote the report, which it does not name.",
                foreign.join(", ")
            ));
        }
        if !self.candidates.iter().any(judged) {
            notes.push(
                "No bounds are given (--sla-ttft-ms, --sla-itl-ms, --sla-e2e-ms), so there is no goodput.".into(),
            );
        }
        // What holds for several runs or pools is said once.
        let mut basis: Vec<(&str, Vec<&str>)> = Vec::new();
        for candidate in &self.candidates {
            let texts = candidate.report.get("cost_estimate").and_then(|cost| cost["basis"].as_array());
            for text in texts.into_iter().flatten().filter_map(Value::as_str) {
                let text = text.split_once(": ").map_or(text, |(_, rest)| rest);
                match basis.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, names)) if names.last() == Some(&candidate.name.as_str()) => {}
                    Some((_, names)) => names.push(&candidate.name),
                    None => basis.push((text, vec![&candidate.name])),
                }
            }
        }
        notes.extend(basis.into_iter().map(|(text, names)| format!("Estimates ({}): {text}", names.join(", "))));
        notes
    }

    /// One JSON object: per run its figures, their changes against the first and the whole report; the best of each
    /// figure; notes. Two spaces of indent, a newline at the end.
    pub fn to_json(&self) -> String {
        let mut best = Map::new();
        for row in &self.grid.rows {
            let winners = self.candidates.iter().zip(&row.best).filter(|(_, best)| **best);
            let winners: Vec<&str> = winners.map(|(candidate, _)| candidate.name.as_str()).collect();
            if !winners.is_empty() {
                best.insert(row.figure.key.to_owned(), json!(winners));
            }
        }
        let run = |(index, candidate): (usize, &Candidate)| {
            let (mut figures, mut changes) = (Map::new(), Map::new());
            for row in &self.grid.rows {
                figures.insert(row.figure.key.to_owned(), json!(row.values[index]));
                if let Some(change) = row.changes[index] {
                    changes.insert(row.figure.key.to_owned(), json!(change));
                }
            }
            let sla =
                candidate.sla.map(|sla| json!({"e2e_ms": sla.e2e_ms, "itl_ms": sla.itl_ms, "ttft_ms": sla.ttft_ms}));
            let report: Map<String, Value> =
                candidate.report.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
            json!({
                "change_percent": changes,
                "figures": figures,
                "file": candidate.file.to_string_lossy(),
                "kind": if candidate.sla.is_some() { "scenario" } else { "report" },
                "name": candidate.name,
                "report": report,
                "sla": sla,
            })
        };
        let all = json!({
            "baseline": self.candidates.first().map(|first| &first.name),
            "best": best,
            "notes": self.notes(),
            "runs": self.candidates.iter().enumerate().map(run).collect::<Vec<_>>(),
        });
        format!("{all:#}\n")
    }
}
