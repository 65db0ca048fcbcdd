//! Rules that rows of every format obey, and counts of rows that are worth a note.

use std::path::Path;

use crate::scenario::TraceWindow;
use crate::time::TimeRangeError;

use super::WorkloadError;
use super::model::MAX_TOKENS;

/// A count of tokens within the limit.
pub(super) fn tokens(path: &Path, line: usize, field: &'static str, count: u64) -> Result<u32, WorkloadError> {
    match u32::try_from(count) {
        Ok(tokens) if tokens <= MAX_TOKENS => Ok(tokens),
        _ => Err(WorkloadError::field(path, line, field, over_limit(count), "shorten it, or leave the row out")),
    }
}

/// The output length of a row that must have one.
pub(super) fn output_tokens(path: &Path, line: usize, given: Option<u64>) -> Result<u32, WorkloadError> {
    let field = "output_length";
    match given {
        Some(count) => tokens(path, line, field, count),
        None => Err(WorkloadError::field(path, line, field, "missing", "give the number of tokens to generate")),
    }
}

/// A prompt length: within the limit and not zero.
pub(super) fn prompt_tokens(path: &Path, line: usize, field: &'static str, count: u64) -> Result<u32, WorkloadError> {
    match count {
        0 => Err(WorkloadError::field(path, line, field, "is 0", "a prompt has at least one token")),
        _ => tokens(path, line, field, count),
    }
}

/// Authored output tokens must be as many as the output is long.
pub(super) fn authored(path: &Path, line: usize, listed: &[u32], output: u32) -> Result<(), WorkloadError> {
    if listed.len() as u64 == u64::from(output) {
        return Ok(());
    }
    let cause = format!("{} output tokens are listed, but `output_length` is {output}", listed.len());
    Err(WorkloadError::field(path, line, "output_token_ids", cause, "list exactly `output_length` tokens"))
}

/// A wait in milliseconds: finite and not negative.
pub(super) fn wait_ms(path: &Path, line: usize, field: &'static str, ms: f64) -> Result<f64, WorkloadError> {
    if ms.is_finite() && ms >= 0.0 {
        return Ok(ms);
    }
    Err(WorkloadError::field(path, line, field, format!("is {ms} ms"), "give a wait of zero or more"))
}

/// What is wrong with an arrival that the clock cannot reach.
pub(super) fn too_late(TimeRangeError(ms): TimeRangeError) -> String {
    format!("puts the arrival {ms} ms after the first one, beyond the clock (1.8e13 ms)")
}

/// There must be rows, and not more than can be numbered.
pub(super) fn row_count(path: &Path, count: usize) -> Result<u32, WorkloadError> {
    let cause = match u32::try_from(count) {
        Ok(0) => "no rows",
        Ok(count) => return Ok(count),
        Err(_) => "more than 4294967295 rows",
    };
    Err(WorkloadError::file(path, cause, "a trace holds one request or session per row"))
}

/// Nothing begins in the part of the trace that is wanted.
pub(super) fn empty_window(window: &TraceWindow) -> WorkloadError {
    WorkloadError::setting("trace-window", format!("nothing begins in {window} s"), "choose another part of the trace")
}

pub(super) fn over_limit(length: u64) -> String {
    format!("has {length} tokens, more than the limit of {MAX_TOKENS}")
}

/// Rows that were shortened, skipped or otherwise worth a note.
#[derive(Debug, Default)]
pub(super) struct Tally {
    count: usize,
    /// Where the first one is.
    first: String,
}

impl Tally {
    /// Counts the row at `line` of the only file.
    pub fn add(&mut self, line: usize) {
        if self.count == 0 {
            self.first = format!("line {line}");
        }
        self.count += 1;
    }

    /// Counts the row at `line` of one of several files.
    pub fn add_in(&mut self, path: &Path, line: usize) {
        if self.count == 0 {
            self.first = format!("{}, line {line}", path.display());
        }
        self.count += 1;
    }

    /// A sentence about them, if there are any.
    pub fn note(&self, what: &str) -> Option<String> {
        let rows = if self.count == 1 { "row was" } else { "rows were" };
        (self.count > 0).then(|| format!("{} {rows} {what}, first at {}", self.count, self.first))
    }
}
