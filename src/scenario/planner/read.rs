//! Reads values as the live planner does, which takes numbers in quotes and words for truth, and gathers every fault.

use serde_json::{Map, Value};

use crate::scenario::error::ScenarioError;
use crate::scenario::values::kind_of;

/// Largest whole number a double holds exactly.
const MOST: f64 = 9_007_199_254_740_992.0;

/// An object being read; faults are gathered, not thrown.
pub(super) struct Reader<'a> {
    map: &'a Map<String, Value>,
    /// Key that holds the object.
    path: String,
    pub faults: Vec<ScenarioError>,
}

/// A value with the name it was given under.
#[derive(Clone, Copy)]
struct Given<'a> {
    name: &'a str,
    value: &'a Value,
}

impl<'a> Reader<'a> {
    pub fn new(map: &'a Map<String, Value>, path: &str) -> Self {
        Self { map, path: path.to_owned(), faults: Vec::new() }
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub fn fault(&mut self, name: &str, cause: impl Into<String>, cure: impl Into<String>) {
        self.faults.push(ScenarioError::new(self.key(name), cause, cure));
    }

    /// The value under the first of `names` that is there.
    fn find<'n>(&self, names: &[&'n str]) -> Option<Given<'n>>
    where
        'a: 'n,
    {
        names.iter().find_map(|name| self.map.get(*name).map(|value| Given { name, value }))
    }

    fn wrong(&mut self, given: Given, expected: &str) {
        let cause = match given.value {
            Value::Number(number) => format!("is {number}"),
            Value::String(text) => format!("is \"{text}\""),
            Value::Bool(flag) => format!("is {flag}"),
            other => format!("is {}", kind_of(other)),
        };
        self.fault(given.name, cause, format!("give {expected}"));
    }

    /// A value that `read` takes, `default` if it is not given, nothing if it is wrong (the fault is noted).
    fn value<T>(
        &mut self,
        names: &[&str],
        default: T,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let Some(given) = self.find(names) else { return Some(default) };
        let value = read(given.value);
        if value.is_none() {
            self.wrong(given, expected);
        }
        value
    }

    /// A whole number.
    pub fn whole(&mut self, names: &[&str], default: i64) -> Option<i64> {
        self.value(names, default, "a whole number", whole)
    }

    /// A whole number of at least `least`.
    pub fn whole_from(&mut self, names: &[&str], default: i64, least: i64) -> Option<i64> {
        let expected = format!("a whole number of at least {least}");
        self.value(names, default, &expected, |value| whole(value).filter(|n| *n >= least))
    }

    /// A whole number or null.
    pub fn whole_or_null(&mut self, names: &[&str], least: i64) -> Option<Option<i64>> {
        let expected = if least == i64::MIN {
            "a whole number or null".to_owned()
        } else {
            format!("a whole number of at least {least}, or null")
        };
        self.value(names, None, &expected, |value| match value {
            Value::Null => Some(None),
            value => whole(value).filter(|n| *n >= least).map(Some),
        })
    }

    /// A finite number.
    pub fn number(&mut self, names: &[&str], default: f64) -> Option<f64> {
        self.value(names, default, "a number", number)
    }

    /// A finite number above zero.
    pub fn positive(&mut self, names: &[&str], default: f64) -> Option<f64> {
        self.value(names, default, "a number above zero", |value| number(value).filter(|n| *n > 0.0))
    }

    /// A number of a range or null.
    pub fn number_or_null(
        &mut self,
        names: &[&str],
        default: Option<f64>,
        expected: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<Option<f64>> {
        self.value(names, default, expected, |value| match value {
            Value::Null => Some(None),
            value => number(value).filter(|n| fits(*n)).map(Some),
        })
    }

    /// True or false.
    pub fn flag(&mut self, names: &[&str], default: bool) -> Option<bool> {
        self.value(names, default, "true or false", flag)
    }

    /// A string.
    pub fn text(&mut self, names: &[&str], default: &str) -> Option<String> {
        self.value(names, default.to_owned(), "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A string or null.
    pub fn text_or_null(&mut self, names: &[&str]) -> Option<Option<String>> {
        self.value(names, None, "a string or null", |value| match value {
            Value::Null => Some(None),
            value => value.as_str().map(|text| Some(text.to_owned())),
        })
    }

    /// One of `choices`, each a word and what it means.
    pub fn choice<T: Copy>(&mut self, name: &str, default: T, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.value(&[name], default, &words.join(" or "), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
        })
    }

    /// An object, if one is given.
    pub fn value_object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.value(&[name], None, "an object or null", |value| match value {
            Value::Null => Some(None),
            value => value.as_object().cloned().map(Some),
        })?
    }

    /// An object; empty if it is not given or null.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.value(&[name], Map::new(), "an object", |value| match value {
            Value::Null => Some(Map::new()),
            value => value.as_object().cloned(),
        })
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(integral)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse().ok().and_then(integral))
        }
        _ => None,
    }
}

fn integral(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= MOST).then_some(number as i64)
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
            "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
            _ => None,
        },
        _ => None,
    }
}
