//! What is wrong with a generator's document: where, why, and what to do about it.

use crate::text::nearest;

/// A document that no workload can be generated from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{cause}; {cure}", prefix(key))]
pub struct SpecError {
    /// Path of the key within the document, such as `classes[1].input.sigma`; empty when the whole is at fault.
    pub key: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub cure: String,
}

impl SpecError {
    pub(super) fn new(key: impl Into<String>, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { key: key.into(), cause: cause.into(), cure: cure.into() }
    }

    /// The error for a key nobody knows.
    pub(super) fn unknown<'a>(key: String, given: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let cure = match nearest(given, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("remove it; known here are {}", known.join(", ")),
        };
        Self::new(key, "unknown key", cure)
    }

    /// From the parser's words about what stands at `path`.
    pub(super) fn parsed(path: &str, message: &str) -> Self {
        let at = if path == "." { "" } else { path };
        // Derived parsers name what they met first and what they know after it, all in backticks.
        let mut quoted = message.split('`').skip(1).step_by(2);
        match (message.starts_with("unknown field"), message.starts_with("unknown variant"), quoted.next()) {
            (true, _, Some(given)) => {
                let inside = at.ends_with(given) && (at.len() == given.len() || at.ends_with(&format!(".{given}")));
                let key = match (inside, at.is_empty()) {
                    (true, _) => at.to_owned(),
                    (false, true) => given.to_owned(),
                    (false, false) => format!("{at}.{given}"),
                };
                Self::unknown(key, given, quoted)
            }
            (_, true, Some(given)) => {
                let known: Vec<&str> = quoted.collect();
                let cure = match nearest(given, known.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("use one of {}", known.join(", ")),
                };
                Self::new(at, format!("`{given}` is unknown"), cure)
            }
            // Our own messages say what to do after a semicolon.
            _ => match message.split_once("; ") {
                Some((cause, cure)) => Self::new(at, cause, cure),
                None => Self::new(at, message, "see `dynosim scenario schema` for what it takes"),
            },
        }
    }
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}
