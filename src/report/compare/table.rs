//! The table for a terminal: a column per run, a row per figure.

use tabled::builder::Builder;

use crate::report::table::{decimal, framed};

use super::Comparison;

const TITLE: &str = "DynoSim | Comparison";

impl Comparison {
    /// Title, table and notes as printed on a terminal, each line ended by a newline. `*` marks the best; percentages are
    /// against the first run.
    pub fn table(&self) -> String {
        let mut rows = Builder::default();
        rows.push_record(["Metric"].into_iter().chain(self.candidates.iter().map(|c| c.name.as_str())));
        let columns: Vec<Vec<String>> = (0..self.candidates.len()).map(|index| self.column(index)).collect();
        for (number, row) in self.grid.rows.iter().enumerate() {
            let cells = columns.iter().map(|column| column[number].as_str());
            rows.push_record(std::iter::once(row.figure.label).chain(cells));
        }
        let mut text = format!("{TITLE}\n{}\n", framed(rows));
        if self.candidates.len() > 1 {
            let first = &self.candidates[0].name;
            text.push_str(&format!("* best; percentages are changes against {first}\n"));
        }
        for note in self.notes() {
            text.push_str(&format!("{note}\n"));
        }
        text
    }

    /// Cells of a run: value, change, mark, each below the other.
    fn column(&self, index: usize) -> Vec<String> {
        let parts: Vec<(String, String, bool)> = self
            .grid
            .rows
            .iter()
            .map(|row| {
                let value = row.values[index].map_or("N/A".to_owned(), |value| decimal(value, row.figure.decimals));
                let change = row.changes[index].map_or_else(String::new, |change| format!("{} %", signed(change)));
                (value, change, row.best[index])
            })
            .collect();
        let width = |of: fn(&(String, String, bool)) -> usize| parts.iter().map(of).max().unwrap_or(0);
        let (values, changes) = (width(|part| part.0.len()), width(|part| part.1.len()));
        let marks = parts.iter().any(|part| part.2);
        let cell = |(value, change, best): &(String, String, bool)| {
            let mut text = format!("{value:>values$}");
            if changes > 0 {
                text.push_str(&format!("  {change:>changes$}"));
            }
            if marks {
                text.push_str(if *best { " *" } else { "  " });
            }
            text
        };
        parts.iter().map(cell).collect()
    }
}

/// One decimal and a sign, which nothing has.
fn signed(change: f64) -> String {
    let text = decimal(change, 1);
    match text.as_str() {
        "0.0" | "-0.0" => "0.0".to_owned(),
        _ if change > 0.0 => format!("+{text}"),
        _ => text,
    }
}
