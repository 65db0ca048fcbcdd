//! Amounts from a file: columns of a CSV file, or the lengths of a trace.

use std::path::Path;

use crate::workload::{TraceOptions, WorkloadError, open};

/// Most lines that are read; more would fill the memory and not change the distribution.
const MAX_LINES: usize = 20_000_000;

/// The columns of a file that are wanted, in the order in which they were asked for.
pub(super) type Columns<const N: usize> = [Vec<f64>; N];

/// Reads `columns` of a CSV file by name or number from 1, or `input` and `output` tokens of any trace.
pub(super) fn read<const N: usize>(
    path: &Path,
    columns: [(&'static str, &str); N],
) -> Result<Columns<N>, WorkloadError> {
    let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let values = if is_csv { csv(path, columns)? } else { trace(path, columns)? };
    match values.first() {
        Some(first) if first.is_empty() => Err(WorkloadError::file(path, "holds no amounts", "give a file with lines")),
        _ => Ok(values),
    }
}

fn trace<const N: usize>(path: &Path, columns: [(&'static str, &str); N]) -> Result<Columns<N>, WorkloadError> {
    let workload = open(&[path], &TraceOptions::default())?;
    let mut values = columns.map(|_| Vec::with_capacity(workload.requests.len()));
    for ((_, column), values) in columns.into_iter().zip(&mut values) {
        match column {
            "input" => values.extend(workload.requests.iter().map(|r| f64::from(r.prompt_tokens))),
            "output" => values.extend(workload.requests.iter().map(|r| f64::from(r.output_tokens))),
            _ => {
                let cause = format!("has no column `{column}`");
                return Err(WorkloadError::file(path, cause, "use `input` or `output`, the lengths of a trace"));
            }
        }
    }
    Ok(values)
}

fn csv<const N: usize>(path: &Path, columns: [(&'static str, &str); N]) -> Result<Columns<N>, WorkloadError> {
    let unreadable = |error: csv::Error| {
        let cause = error.to_string();
        WorkloadError::file(path, cause, "give a text file with one row per line and commas between the columns")
    };
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_path(path).map_err(unreadable)?;
    let header = reader.headers().map_err(unreadable)?.clone();
    let mut places = [0; N];
    for ((_, column), place) in columns.into_iter().zip(&mut places) {
        *place = find(path, &header, column)?;
    }
    let mut values: Columns<N> = columns.map(|_| Vec::new());
    let mut row = csv::StringRecord::new();
    // A first row of numbers is data, not names.
    let headless = places.iter().all(|at| header.get(*at).is_some_and(|text| text.parse::<f64>().is_ok()));
    let mut pending = headless.then_some(header);
    loop {
        if let Some(first) = pending.take() {
            row = first;
        } else if !reader.read_record(&mut row).map_err(unreadable)? {
            return Ok(values);
        }
        let line = row.position().map_or(1, csv::Position::line) as usize;
        for (((role, _), place), values) in columns.into_iter().zip(places).zip(&mut values) {
            let text = row.get(place).unwrap_or_default();
            match text.parse::<f64>() {
                Ok(amount) if amount.is_finite() && amount >= 0.0 => values.push(amount),
                _ => {
                    let cause = format!("\"{}\" is no amount", text.escape_debug());
                    return Err(WorkloadError::field(path, line, role, cause, "give a number of 0 or more"));
                }
            }
        }
        if values.first().is_some_and(|v| v.len() > MAX_LINES) {
            let cause = format!("has more than {MAX_LINES} rows");
            return Err(WorkloadError::file(path, cause, "give a sample of them"));
        }
    }
}

/// The place of a column from 0.
fn find(path: &Path, header: &csv::StringRecord, column: &str) -> Result<usize, WorkloadError> {
    if let Some(place) = header.iter().position(|name| name == column) {
        return Ok(place);
    }
    if let Some(place) = column.parse::<usize>().ok().and_then(|n| n.checked_sub(1))
        && place < header.len()
    {
        return Ok(place);
    }
    let names: Vec<String> = header.iter().take(20).map(|name| format!("\"{}\"", name.escape_debug())).collect();
    let cause = format!("has no column `{column}`; the columns are {}", names.join(", "));
    Err(WorkloadError::file(path, cause, "name one of them, or give its number from 1"))
}
