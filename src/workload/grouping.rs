//! Collects rows into sessions.

use std::borrow::Cow;
use std::collections::HashMap;

/// A session as far as it has been read.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// Name given in the file; rows without one form sessions named after their line.
    name: Option<Cow<'a, str>>,
    /// Line of its first row.
    pub line: usize,
    /// Timestamp of its first row, milliseconds.
    pub first_ms: Option<f64>,
    /// Last timestamp seen, milliseconds.
    pub last_ms: Option<f64>,
    /// Rows so far.
    pub turns: u32,
}

impl Group<'_> {
    /// Name in per-request rows.
    pub fn name(&self) -> Box<str> {
        match &self.name {
            Some(name) => name.as_ref().into(),
            None => format!("{LINE_NAME}{}", self.line).into(),
        }
    }
}

/// Rows without a session id belong to a session of this name and their line number.
const LINE_NAME: &str = "request_";

/// Sessions in order of first appearance.
///
/// Most traces have no session ids at all; their names are never spelled out here. A file may still spell out the name
/// of such a session and thereby join it.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    /// The sessions.
    pub all: Vec<Group<'a>>,
    by_name: HashMap<Cow<'a, str>, u32>,
    /// Sessions whose spelled-out name is that of an unnamed row on the given line.
    by_line: HashMap<usize, u32>,
}

impl<'a> Groups<'a> {
    /// Index of the session of the row at `line`; a new one has no turns yet. Nothing when there are 2^32 sessions.
    pub fn find(&mut self, line: usize, name: Option<Cow<'a, str>>) -> Option<u32> {
        let Some(name) = name else {
            return match self.by_line.get(&line) {
                Some(found) => Some(*found),
                None => self.open(line, None),
            };
        };
        if let Some(named_line) = line_of(&name) {
            if let Some(found) = self.by_line.get(&named_line) {
                return Some(*found);
            }
            // Each line opens at most one session, so their lines ascend.
            if let Ok(at) = self.all.binary_search_by_key(&named_line, |g| g.line)
                && self.all.get(at).is_some_and(|g| g.name.is_none())
            {
                return u32::try_from(at).ok();
            }
            let index = self.open(line, Some(name))?;
            self.by_line.insert(named_line, index);
            return Some(index);
        }
        if let Some(found) = self.by_name.get(&name) {
            return Some(*found);
        }
        let index = self.open(line, Some(name.clone()))?;
        self.by_name.insert(name, index);
        Some(index)
    }

    fn open(&mut self, line: usize, name: Option<Cow<'a, str>>) -> Option<u32> {
        let index = u32::try_from(self.all.len()).ok()?;
        self.all.push(Group { name, line, first_ms: None, last_ms: None, turns: 0 });
        Some(index)
    }
}

/// The line whose unnamed row has this session name.
fn line_of(name: &str) -> Option<usize> {
    let digits = name.strip_prefix(LINE_NAME)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rows: &[(usize, Option<&'static str>)]) -> (Vec<u32>, Vec<String>) {
        let mut groups = Groups::default();
        let found = rows.iter().filter_map(|(line, name)| groups.find(*line, name.map(Cow::Borrowed))).collect();
        (found, groups.all.iter().map(|g| g.name().into_string()).collect())
    }

    #[test]
    fn sessions_keep_the_order_of_first_appearance() {
        let (found, names) = group(&[(1, Some("b")), (2, None), (3, Some("a")), (5, Some("b"))]);
        assert_eq!(found, [0, 1, 2, 0]);
        assert_eq!(names, ["b", "request_2", "a"]);
    }

    #[test]
    fn a_spelled_out_default_name_is_the_same_session() {
        let (found, names) = group(&[
            (1, None),
            (2, Some("request_1")),
            (3, Some("request_5")),
            (4, Some("request_05")),
            (5, None),
            (6, Some("request_5")),
        ]);
        assert_eq!(found, [0, 0, 1, 2, 1, 1]);
        assert_eq!(names, ["request_1", "request_5", "request_05"]);
    }
}
