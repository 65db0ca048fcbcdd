//! What can go wrong with a workload: where, why, and what to do about it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::text::{json_cause, shorten};

/// A workload that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// The file cannot be read.
    #[error("cannot read the trace {}: {source}", path.display())]
    Read {
        /// The trace file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A converted trace cannot be written.
    #[error("cannot write the trace: {0}")]
    Write(std::io::Error),
    /// The file as a whole is unusable.
    #[error("{}: {cause}; {cure}", path.display())]
    File {
        /// The trace file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// One row breaks a rule.
    #[error("{}, line {line}{}{}: {cause}; {cure}", path.display(), column_text(*column), field_text(field.as_deref()))]
    Row {
        /// The trace file.
        path: PathBuf,
        /// Line number, from 1, blank lines included.
        line: usize,
        /// Column in bytes, from 1, where it is known.
        column: Option<usize>,
        /// Field at fault, where one is.
        field: Option<Cow<'static, str>>,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// Part of a document that is not made of lines breaks a rule.
    #[error("{}, {part}{}: {cause}; {cure}", path.display(), field_text(field.as_deref()))]
    Part {
        /// The trace file.
        path: PathBuf,
        /// Which part, in words.
        part: String,
        /// Field at fault, where one is.
        field: Option<Cow<'static, str>>,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// A setting cannot be met.
    #[error("`{field}`: {cause}; {cure}")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
}

impl WorkloadError {
    /// What to do about it, for reports that show the cure apart from the cause.
    pub fn cure(&self) -> &str {
        match self {
            Self::Read { .. } => "check that the path names a readable file",
            Self::Write(_) => "check that there is room and that the place can be written to",
            Self::File { cure, .. } | Self::Row { cure, .. } | Self::Part { cure, .. } | Self::Setting { cure, .. } => {
                cure
            }
        }
    }

    pub(super) fn file(path: &Path, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), cause: shorten(cause.into()), cure: cure.into() }
    }

    /// An error in `field` of the row at `line`.
    pub(super) fn field(
        path: &Path,
        line: usize,
        field: &'static str,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (cause, cure) = (shorten(cause.into()), cure.into());
        Self::Row { path: path.to_owned(), line, column: None, field: Some(field.into()), cause, cure }
    }

    /// An error found while parsing the row at `line`; `field` is the one being read, if any.
    pub(super) fn json(path: &Path, line: usize, field: Option<&'static str>, error: &serde_json::Error) -> Self {
        let cause = json_cause(error);
        let cure = field
            .and_then(|field| super::row::cure(field, &cause))
            .unwrap_or_else(|| "every line must hold one JSON object and nothing else".to_owned());
        Self::Row {
            path: path.to_owned(),
            line,
            column: Some(error.column()).filter(|c| *c > 0),
            field: field.map(Cow::Borrowed),
            cause: shorten(cause),
            cure,
        }
    }

    /// An error found while reading `text`, the row at `line`, as a `T`; finds out at which field.
    pub(super) fn typed<'de, T: serde::Deserialize<'de>>(path: &Path, line: usize, text: &'de str) -> Self {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let error = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Ok(_) => {
                return Self::field(path, line, "row", "has something after its object", "put it on a line of its own");
            }
            Err(error) => error,
        };
        let path_of_field = error.path().to_string();
        // A question mark stands for what the parser did not get to know.
        let field = path_of_field.trim_end_matches(['?', '.']).to_owned();
        let inner = error.into_inner();
        let cure = match inner.classify() {
            serde_json::error::Category::Data => "correct the value; the description of the format says what it takes",
            _ => "every line must hold one JSON object and nothing else",
        };
        Self::Row {
            path: path.to_owned(),
            line,
            column: Some(inner.column()).filter(|c| *c > 0),
            field: Some(field).filter(|f| !f.is_empty()).map(|f| shorten(f).into()),
            cause: shorten(json_cause(&inner)),
            cure: cure.to_owned(),
        }
    }

    /// An error found while parsing a file that is one JSON document.
    pub(super) fn document(path: &Path, error: &serde_json::Error) -> Self {
        Self::Row {
            path: path.to_owned(),
            line: error.line(),
            column: Some(error.column()).filter(|c| *c > 0),
            field: None,
            cause: shorten(json_cause(error)),
            cure: "correct the JSON text".to_owned(),
        }
    }

    /// An error in `field` of a part of a document.
    pub(super) fn part(
        path: &Path,
        part: impl Into<String>,
        field: &'static str,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (cause, cure, part) = (shorten(cause.into()), cure.into(), shorten(part.into()));
        Self::Part { path: path.to_owned(), part, field: Some(field.into()), cause, cure }
    }

    pub(super) fn setting(field: &'static str, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Setting { field, cause: shorten(cause.into()), cure: cure.into() }
    }
}

fn column_text(column: Option<usize>) -> String {
    column.map_or_else(String::new, |c| format!(", column {c}"))
}

fn field_text(field: Option<&str>) -> String {
    field.map_or_else(String::new, |f| format!(", `{f}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_error_names_file_line_field_cause_and_cure() {
        let e = WorkloadError::field(Path::new("t.jsonl"), 7, "delay", "is -1", "give a wait of zero or more");
        assert_eq!(e.to_string(), "t.jsonl, line 7, `delay`: is -1; give a wait of zero or more");
        assert_eq!(e.cure(), "give a wait of zero or more");
    }
}
