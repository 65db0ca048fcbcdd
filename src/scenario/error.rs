//! What is wrong with a scenario: where, why, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::perf::PerfError;
use crate::text::{nearest, shorten};

/// Where a faulty value was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Not known, or built by a program.
    #[default]
    Unknown,
    /// A flag.
    CommandLine,
    /// A file: the scenario's, or the one a value points at.
    File(PathBuf),
}

/// A scenario that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {cure}{}", self.what(), Further(further))]
pub struct ScenarioError {
    /// Where the value was given.
    pub place: Place,
    /// Path of the key, such as `extra-engine-args.block_size`; empty when the whole document is at fault.
    pub key: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub cure: String,
    /// Further faults that were found in the same go.
    pub further: Vec<ScenarioError>,
}

/// One line per fault.
struct Further<'a>(&'a [ScenarioError]);

impl fmt::Display for Further<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl ScenarioError {
    pub(super) fn new(key: impl Into<String>, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            place: Place::Unknown,
            key: key.into(),
            cause: shorten(cause.into()),
            cure: cure.into(),
            further: Vec::new(),
        }
    }

    /// Several faults as one error, if there are any.
    pub(super) fn all(faults: Vec<Self>) -> Option<Self> {
        let mut faults = faults.into_iter();
        let first = faults.next()?;
        Some(Self { further: faults.collect(), ..first })
    }

    /// A fault in timing data or in what it describes.
    pub(super) fn perf(key: impl Into<String>, error: PerfError) -> Self {
        // Not shortened: a list of what there is is longer than a value somebody gave.
        let cause = match &error {
            // The key names the setting.
            PerfError::Setting { cause, .. } => cause.clone(),
            other => other.what(),
        };
        Self { place: Place::Unknown, key: key.into(), cause, cure: error.cure(), further: Vec::new() }
    }

    /// A feature that is known by name but has not landed.
    pub(super) fn not_yet(key: impl Into<String>, what: impl fmt::Display, cure: impl Into<String>) -> Self {
        Self::new(key, format!("{what} is not supported yet"), cure)
    }

    /// The same error, with the place filled in unless it is known already.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.further = self.further.into_iter().map(|error| error.at(place.clone())).collect();
        if self.place == Place::Unknown {
            self.place = place;
        }
        self
    }

    /// The top-level key at fault, if any.
    pub(super) fn top_key(&self) -> &str {
        self.key.split(['.', '[']).next().unwrap_or_default()
    }

    /// Place, key and cause, without the cure, for reports that show the two apart.
    pub fn what(&self) -> String {
        let place = match &self.place {
            Place::Unknown => String::new(),
            Place::CommandLine => "command line".to_owned(),
            Place::File(path) => path.display().to_string(),
        };
        match (place.is_empty(), self.key.is_empty()) {
            (true, true) => self.cause.clone(),
            (true, false) => format!("`{}`: {}", self.key, self.cause),
            (false, true) => format!("{place}: {}", self.cause),
            (false, false) => format!("{place}, `{}`: {}", self.key, self.cause),
        }
    }
}

/// The error for a key nobody knows.
pub(super) fn unknown_key<'a>(path: String, given: &str, known: impl IntoIterator<Item = &'a str>) -> ScenarioError {
    let cure = match nearest(given, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "remove it; `dynosim scenario schema` lists every key".to_owned(),
    };
    ScenarioError::new(shorten(path), "unknown key", cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_place_key_cause_and_cure() {
        let e = ScenarioError::new("extra-engine-args.block_size", "is 1", "give 2 or more");
        assert_eq!(e.to_string(), "`extra-engine-args.block_size`: is 1; give 2 or more");
        assert_eq!(e.top_key(), "extra-engine-args");
        let e = e.at(Place::File("a.json".into())).at(Place::CommandLine);
        assert_eq!(e.to_string(), "a.json, `extra-engine-args.block_size`: is 1; give 2 or more");
    }
}
