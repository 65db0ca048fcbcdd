//! One line of a Mooncake trace, or of its relative in which rows wait for others.
//!
//! The lists go into buffers that are reused from line to line: a trace of an hour holds some hundred thousand hash ids.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field of a row; aliases are the same field.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    #[serde(alias = "created_time")]
    Timestamp,
    #[serde(alias = "input_tokens")]
    InputLength,
    #[serde(alias = "output_tokens")]
    OutputLength,
    HashIds,
    SessionId,
    #[serde(alias = "delay_ms")]
    Delay,
    RequestId,
    OutputTokenIds,
    Priority,
    StrictPriority,
    PolicyClass,
    ToolWaitMs,
    WaitFor,
    PrefixReset,
    RequestKind,
    Branches,
    ToolEvents,
    #[serde(other)]
    Unknown,
}

impl Field {
    /// Whether only rows that wait for others have the field; in others it is unknown.
    fn is_agentic(self) -> bool {
        self as usize > Self::PolicyClass as usize
    }
}

/// Name, other name and meaning of every known field, in the order of [`Field`].
const FIELDS: [(&str, Option<&str>, &str); 17] = [
    ("timestamp", Some("created_time"), "a number of milliseconds"),
    ("input_length", Some("input_tokens"), "a whole number of tokens"),
    ("output_length", Some("output_tokens"), "a whole number of tokens"),
    ("hash_ids", None, "a list of whole numbers from 0 to 18446744073709551615"),
    ("session_id", None, "a string"),
    ("delay", Some("delay_ms"), "a number of milliseconds"),
    ("request_id", None, "a string"),
    ("output_token_ids", None, "a list of whole numbers from 0 to 4294967295"),
    ("priority", None, "a whole number from -2147483648 to 2147483647"),
    ("strict_priority", None, "a whole number from 0 to 4294967295"),
    ("policy_class", None, "a string"),
    ("tool_wait_ms", None, "a number of milliseconds"),
    ("wait_for", None, "a list of strings"),
    ("prefix_reset", None, "true or false"),
    ("request_kind", None, "a string"),
    ("branches", None, "a list of strings"),
    ("tool_events", None, "a list of objects"),
];

/// Cause of the error that a field and itself or its other name are both there.
pub(super) const TWICE: &str = "given twice";

/// What to do about an error with this cause in `field`.
pub(super) fn cure(field: &str, cause: &str) -> Option<String> {
    let (_, alias, expected) = FIELDS.iter().find(|(name, ..)| *name == field)?;
    Some(match alias {
        _ if cause != TWICE => format!("give {expected}"),
        Some(alias) => format!("keep one of the two (`{alias}` is the same field)"),
        None => "keep one of the two".to_owned(),
    })
}

/// The scalar fields of a row. `null` equals absent.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    pub timestamp: Option<f64>,
    pub input_length: Option<u64>,
    pub output_length: Option<u64>,
    pub session_id: Option<Cow<'a, str>>,
    pub request_id: Option<Cow<'a, str>>,
    pub delay: Option<f64>,
    /// Whether `hash_ids` is there.
    pub hashed: bool,
    pub priority: i32,
    pub strict_priority: u32,
    pub policy_class: Option<Cow<'a, str>>,
    /// Whether `output_token_ids` is there.
    pub authored: bool,
    pub tool_wait_ms: Option<f64>,
    /// Requests that this one waits for.
    pub wait_for: Vec<Cow<'a, str>>,
}

/// Space for the lists of a row, and the place where parsing is.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Whether the fields of rows that wait for others are known.
    pub agentic: bool,
    pub hash_ids: Vec<u64>,
    pub output_token_ids: Vec<u32>,
    /// Field whose value is being read.
    pub field: Option<&'static str>,
}

/// Parses one line. On failure `buffers.field` names the field at fault, if one is.
pub(super) fn parse<'a>(line: &'a str, buffers: &mut Buffers) -> Result<Row<'a>, serde_json::Error> {
    buffers.hash_ids.clear();
    buffers.output_token_ids.clear();
    buffers.field = None;
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let row = deserializer.deserialize_map(RowVisitor(buffers))?;
    deserializer.end()?;
    Ok(row)
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object that is not looked at.
#[derive(Deserialize)]
struct Object {}

struct RowVisitor<'b>(&'b mut Buffers);

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
        let mut row = Row::default();
        let mut seen = 0_u32;
        while let Some(field) = map.next_key::<Field>()? {
            let field = if field.is_agentic() && !self.0.agentic { Field::Unknown } else { field };
            if let Some((name, ..)) = FIELDS.get(field as usize) {
                self.0.field = Some(name);
                if seen & (1 << field as u32) != 0 {
                    return Err(A::Error::custom(TWICE));
                }
                seen |= 1 << field as u32;
            }
            match field {
                Field::Timestamp => row.timestamp = map.next_value()?,
                Field::InputLength => row.input_length = map.next_value()?,
                Field::OutputLength => row.output_length = map.next_value()?,
                Field::HashIds => row.hashed = map.next_value_seed(List(&mut self.0.hash_ids))?,
                Field::SessionId => row.session_id = map.next_value::<Option<Text<'de>>>()?.map(|t| t.0),
                Field::Delay => row.delay = map.next_value()?,
                Field::OutputTokenIds => row.authored = map.next_value_seed(List(&mut self.0.output_token_ids))?,
                Field::RequestId => row.request_id = map.next_value::<Option<Text<'de>>>()?.map(|t| t.0),
                Field::PolicyClass => row.policy_class = map.next_value::<Option<Text<'de>>>()?.map(|t| t.0),
                Field::ToolWaitMs => row.tool_wait_ms = map.next_value()?,
                Field::WaitFor => {
                    let names = map.next_value::<Option<Vec<Text<'de>>>>()?.unwrap_or_default();
                    row.wait_for.extend(names.into_iter().map(|name| name.0));
                }
                // Not used, but a wrong type is an error all the same.
                Field::RequestKind => {
                    map.next_value::<Option<Text<'de>>>()?;
                }
                Field::PrefixReset => {
                    map.next_value::<Option<bool>>()?;
                }
                Field::Branches => {
                    map.next_value::<Option<Vec<Text<'de>>>>()?;
                }
                Field::ToolEvents => {
                    map.next_value::<Option<Vec<Object>>>()?;
                }
                Field::Priority => row.priority = map.next_value::<Option<i32>>()?.unwrap_or_default(),
                Field::StrictPriority => row.strict_priority = map.next_value::<Option<u32>>()?.unwrap_or_default(),
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            self.0.field = None;
        }
        Ok(row)
    }
}

/// Appends a list to a buffer; tells whether there was one.
struct List<'b, T>(&'b mut Vec<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while let Some(value) = seq.next_element()? {
            self.0.push(value);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(line: &str) -> (Option<&'static str>, String) {
        let mut buffers = Buffers::default();
        let error = parse(line, &mut buffers).expect_err(line);
        (buffers.field, error.to_string())
    }

    #[test]
    fn aliases_name_the_same_field() {
        let mut buffers = Buffers::default();
        let line = r#"{"created_time":1.5,"input_tokens":2,"output_tokens":3,"delay_ms":4,"hash_ids":[5]}"#;
        let row = parse(line, &mut buffers).expect("a row");
        assert_eq!((row.timestamp, row.input_length, row.output_length), (Some(1.5), Some(2), Some(3)));
        assert_eq!((row.delay, buffers.hash_ids.as_slice()), (Some(4.0), [5].as_slice()));
        for (twice, name) in [
            (r#"{"timestamp":1,"created_time":1}"#, "timestamp"),
            (r#"{"input_length":null,"input_tokens":1}"#, "input_length"),
            (r#"{"hash_ids":[1],"hash_ids":[1]}"#, "hash_ids"),
        ] {
            let (field, message) = failure(twice);
            assert_eq!(field, Some(name));
            assert!(message.contains(TWICE), "{message}");
        }
    }

    #[test]
    fn null_equals_absent_and_lists_do_not_leak_into_the_next_row() {
        let mut buffers = Buffers::default();
        parse(r#"{"hash_ids":[1,2],"output_token_ids":[3]}"#, &mut buffers).expect("a row");
        let nulls = r#"{"timestamp":null,"input_length":null,"hash_ids":null,"output_token_ids":null,
            "session_id":null,"delay":null,"priority":null,"strict_priority":null,"policy_class":null}"#;
        let row = parse(nulls, &mut buffers).expect("a row");
        assert!(row.timestamp.is_none() && row.session_id.is_none() && !row.authored);
        assert!(buffers.hash_ids.is_empty() && buffers.output_token_ids.is_empty());
    }

    #[test]
    fn wrong_types_are_errors_even_in_fields_that_are_not_used() {
        for (line, name) in [
            (r#"{"priority":2147483648}"#, "priority"),
            (r#"{"strict_priority":-1}"#, "strict_priority"),
            (r#"{"policy_class":7}"#, "policy_class"),
            (r#"{"request_id":7}"#, "request_id"),
            (r#"{"session_id":7}"#, "session_id"),
            (r#"{"input_length":1.0}"#, "input_length"),
            (r#"{"timestamp":"0"}"#, "timestamp"),
            (r#"{"output_token_ids":[4294967296]}"#, "output_token_ids"),
        ] {
            assert_eq!(failure(line).0, Some(name), "{line}");
        }
    }

    #[test]
    fn fields_of_rows_that_wait_are_unknown_elsewhere() {
        let line = r#"{"request_id":"b","wait_for":["a"],"tool_wait_ms":5,"tool_events":[{}],"branches":["c"]}"#;
        let mut buffers = Buffers { agentic: true, ..Buffers::default() };
        let row = parse(line, &mut buffers).expect("a row");
        assert_eq!((row.wait_for, row.tool_wait_ms), (vec!["a".into()], Some(5.0)));
        let odd =
            r#"{"wait_for":7,"tool_wait_ms":"x","tool_events":1,"prefix_reset":3,"request_kind":0,"branches":{}}"#;
        parse(odd, &mut Buffers::default()).expect("unknown fields are passed over");
        assert!(parse(odd, &mut buffers).is_err());
        assert_eq!(buffers.field, Some("wait_for"));
    }

    #[test]
    fn every_known_field_has_a_name_at_its_place() {
        assert_eq!(FIELDS[Field::PolicyClass as usize].0, "policy_class");
        assert_eq!(FIELDS[Field::ToolEvents as usize].0, "tool_events");
        assert_eq!(FIELDS.len(), Field::Unknown as usize);
    }
}
