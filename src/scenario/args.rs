//! Reading engine arguments that have been checked.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::ScenarioError;

/// Checked arguments; a getter gives `None` for a key that is absent or `null`.
pub(super) struct Args<'a> {
    map: &'a Map<String, Value>,
    /// Key that holds them.
    pub path: Cow<'a, str>,
}

impl<'a> Args<'a> {
    pub fn new(map: &'a Map<String, Value>, path: &'a str) -> Self {
        Self { map, path: Cow::Borrowed(path) }
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn whole(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    pub fn count(&self, name: &str) -> Option<u32> {
        self.whole(name).and_then(|n| u32::try_from(n).ok())
    }

    /// A limit: absent gives `default`, `null` gives no limit.
    pub fn limit(&self, name: &str, default: u32) -> Option<u32> {
        if self.map.contains_key(name) { self.count(name) } else { Some(default) }
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(Value::as_f64)
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Whether a word is given, in capitals or not.
    pub fn says(&self, name: &str, word: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// The arguments within an argument that holds an object; none when it is not given.
    pub fn fields(&self, name: &str) -> Args<'a> {
        static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        let map = self.get(name).and_then(Value::as_object).unwrap_or(&EMPTY);
        Args { map, path: Cow::Owned(self.key(name)) }
    }

    pub fn error(&self, name: &str, cause: impl Into<String>, cure: &str) -> ScenarioError {
        ScenarioError::new(self.key(name), cause, cure)
    }
}
