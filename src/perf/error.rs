//! What can be wrong with timing data: which file and field, why, and what to do about it.

use std::path::{Path, PathBuf};

use crate::text::shorten;

/// Timing data, or a description of a model or GPU, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A file was read but breaks a rule of its format.
    #[error("{}; {cure}", data_text(file, field, cause))]
    Data {
        /// File name, or the name of an embedded file.
        file: String,
        /// Path of the field at fault, such as `linear.tokens[3]`, or the array's name; empty for the whole file.
        field: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// A setting is outside what the model can answer.
    #[error("`{field}`: {cause}; {cure}")]
    Setting {
        /// Name of the setting.
        field: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// No table, model or GPU goes by the name.
    #[error("{cause}; {cure}{}", candidate_text(candidates))]
    NoMatch {
        /// What was asked for and why nothing fits.
        cause: String,
        /// What there is, nearest first, one line each.
        candidates: Vec<String>,
        /// What to do.
        cure: String,
    },
}

impl PerfError {
    /// The path cannot be read.
    pub fn read(path: &Path, error: &std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), cause: error.to_string() }
    }

    /// `field` of `file` breaks a rule; leave `field` empty for the whole file.
    pub fn data(
        file: impl Into<String>,
        field: impl Into<String>,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::Data { file: file.into(), field: shorten(field.into()), cause: shorten(cause.into()), cure: cure.into() }
    }

    /// A setting has a value that cannot be used.
    pub fn setting(field: impl Into<String>, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Setting { field: field.into(), cause: shorten(cause.into()), cure: cure.into() }
    }

    /// Nothing fits; `candidates` is what there is, nearest first.
    pub fn no_match(cause: impl Into<String>, candidates: Vec<String>, cure: impl Into<String>) -> Self {
        Self::NoMatch { cause: shorten(cause.into()), candidates, cure: cure.into() }
    }

    /// What is wrong and where, without the cure, for reports that show the two apart.
    pub fn what(&self) -> String {
        match self {
            Self::Read { path, cause } => format!("cannot read {}: {cause}", path.display()),
            Self::Data { file, field, cause, .. } => data_text(file, field, cause),
            Self::Setting { field, cause, .. } => format!("`{field}`: {cause}"),
            Self::NoMatch { cause, .. } => cause.clone(),
        }
    }

    /// What to do about it, with what there is to choose from.
    pub fn cure(&self) -> String {
        match self {
            Self::Read { .. } => "check that the path names a readable file".to_owned(),
            Self::Data { cure, .. } | Self::Setting { cure, .. } => cure.clone(),
            Self::NoMatch { candidates, cure, .. } => format!("{cure}{}", candidate_text(candidates)),
        }
    }
}

fn data_text(file: &str, field: &str, cause: &str) -> String {
    if field.is_empty() { format!("{file}: {cause}") } else { format!("{file}, `{field}`: {cause}") }
}

fn candidate_text(candidates: &[String]) -> String {
    if candidates.is_empty() {
        return String::new();
    }
    format!("\nnearest first:\n  {}", candidates.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_field_cause_and_cure() {
        let e = PerfError::data("a.json", "linear.tokens[3]", "is -1", "give a count of at least 1");
        assert_eq!(e.to_string(), "a.json, `linear.tokens[3]`: is -1; give a count of at least 1");
        assert_eq!(e.what(), "a.json, `linear.tokens[3]`: is -1");
        let e = PerfError::no_match("no table for x", vec!["y".to_owned(), "z".to_owned()], "take y");
        assert_eq!(e.to_string(), "no table for x; take y\nnearest first:\n  y\n  z");
        assert_eq!((e.what().as_str(), e.cure().as_str()), ("no table for x", "take y\nnearest first:\n  y\n  z"));
    }
}
