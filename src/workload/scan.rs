//! A fast reader for rows in the usual form.
//!
//! Nearly all of a trace is hash ids in plain decimal. This reader takes rows made of the known fields, plain numbers and
//! texts without escapes, several times faster than a general parser; at anything else it gives up, and the general
//! parser reads the line again and says what is wrong, if anything is.

use std::borrow::Cow;

use super::row::{Buffers, Row};

/// The smallest number with twenty digits.
const TEN_TO_19: u64 = 10_000_000_000_000_000_000;

/// Reads `line` if it has the usual form. `buffers` holds its hash ids then, and anything otherwise.
pub(super) fn parse<'a>(line: &'a str, buffers: &mut Buffers) -> Option<Row<'a>> {
    buffers.hash_ids.clear();
    buffers.output_token_ids.clear();
    let mut scan = Scan { text: line, at: 0 };
    let mut row = Row::default();
    scan.token(b'{')?;
    loop {
        scan.token(b'"')?;
        let key = scan.text()?;
        scan.token(b':')?;
        scan.space();
        match key {
            "timestamp" | "created_time" => set(&mut row.timestamp, scan.number()?)?,
            "input_length" | "input_tokens" => set(&mut row.input_length, scan.integer()?)?,
            "output_length" | "output_tokens" => set(&mut row.output_length, scan.integer()?)?,
            "delay" | "delay_ms" => set(&mut row.delay, scan.number()?)?,
            "session_id" => {
                scan.token(b'"')?;
                set(&mut row.session_id, Cow::Borrowed(scan.text()?))?;
            }
            "request_id" => {
                scan.token(b'"')?;
                set(&mut row.request_id, Cow::Borrowed(scan.text()?))?;
            }
            "tool_wait_ms" if buffers.agentic => set(&mut row.tool_wait_ms, scan.number()?)?,
            "wait_for" if buffers.agentic && row.wait_for.is_empty() => scan.names(&mut row.wait_for)?,
            // An empty list would hide a second one; it is an error anyhow.
            "hash_ids" if buffers.hash_ids.is_empty() => {
                scan.list(&mut buffers.hash_ids)?;
                row.hashed = true;
            }
            _ => return None,
        }
        scan.space();
        match scan.take()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scan.space();
    (scan.at == line.len()).then_some(row)
}

/// Reads `text` if it is a list of plain whole numbers below 2^64 and nothing else. `into` holds them then, and anything
/// otherwise.
pub(super) fn list_of(text: &str, into: &mut Vec<u64>) -> bool {
    into.clear();
    let mut scan = Scan { text, at: 0 };
    let read = scan.list(into);
    scan.space();
    read.is_some() && scan.at == text.len()
}

/// Fills `slot`; a second value is for the general parser to refuse.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn token(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.take()? == byte).then_some(())
    }

    /// The rest of a text whose opening quote is taken.
    fn text(&mut self) -> Option<&'a str> {
        let start = self.at;
        loop {
            match self.take()? {
                b'"' => return self.text.get(start..self.at - 1),
                b'\\' | 0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn integer(&mut self) -> Option<u64> {
        let start = self.at;
        let mut value = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        // Nineteen digits always fit; JSON allows no leading zeros.
        match self.at - start {
            1 => Some(value),
            2..=19 if self.text.as_bytes().get(start) != Some(&b'0') => Some(value),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<f64> {
        let start = self.at;
        let whole = self.integer()?;
        if self.peek() != Some(b'.') {
            // Rounds to nearest, as parsing does.
            return Some(whole as f64);
        }
        self.at += 1;
        let fraction = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == fraction { None } else { self.text.get(start..self.at)?.parse().ok() }
    }

    /// A list of texts that is not empty: an empty one would hide a second one.
    fn names(&mut self, into: &mut Vec<Cow<'a, str>>) -> Option<()> {
        self.token(b'[')?;
        loop {
            self.token(b'"')?;
            into.push(Cow::Borrowed(self.text()?));
            self.space();
            match self.take()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A list of whole numbers. Written out over an iterator because this loop sees nine tenths of a file.
    fn list(&mut self, into: &mut Vec<u64>) -> Option<()> {
        self.token(b'[')?;
        let rest = self.text.as_bytes().get(self.at..)?;
        let mut bytes = rest.iter().copied();
        loop {
            let mut byte = after_space(&mut bytes)?;
            let first = byte.wrapping_sub(b'0');
            if first > 9 {
                return None;
            }
            let mut value = u64::from(first);
            let start = bytes.len();
            loop {
                byte = bytes.next()?;
                let digit = byte.wrapping_sub(b'0');
                if digit > 9 {
                    break;
                }
                value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            }
            // As in `integer`: all bytes since the first digit but the last are digits.
            let digits = start - bytes.len();
            // Twenty digits fit if they begin with 1 and did not wrap: hashes often have as many.
            let long = digits > 20 || (digits == 20 && (first != 1 || value < TEN_TO_19));
            if long || (first == 0 && digits > 1) {
                return None;
            }
            into.push(value);
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                byte = after_space(&mut bytes)?;
            }
            match byte {
                b',' => {}
                b']' => break,
                _ => return None,
            }
        }
        self.at += rest.len() - bytes.len();
        Some(())
    }
}

/// The next byte that is not white space.
fn after_space(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    bytes.find(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workload::row;

    /// What both readers make of a line; nothing where the reader gives up or refuses.
    fn both(line: &str) -> (Option<String>, Option<String>) {
        let buffers = || Buffers { agentic: true, ..Buffers::default() };
        let (mut fast, mut general) = (buffers(), buffers());
        let quick = parse(line, &mut fast).map(|row| format!("{row:?} {:?}", fast.hash_ids));
        let full = row::parse(line, &mut general).ok().map(|row| format!("{row:?} {:?}", general.hash_ids));
        (quick, full)
    }

    #[test]
    fn the_usual_rows_are_read() {
        for line in [
            r#"{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}"#,
            r#"{"created_time":500.5,"input_tokens":800,"output_tokens":12,"hash_ids":[9999999999999999999]}  "#,
            r#"{"output_length": 1, "hash_ids": [18446744073709551615, 10000000000000000000]}"#,
            r#"{"session_id": "ä", "delay": 12345678901234567, "output_length": 1, "hash_ids": [ 7 ,8 ]}"#,
            r#"{"delay_ms": 0.1, "output_length": 1, "hash_ids": [7]}"#,
            r#"{"request_id": "b", "wait_for": ["a" , "c"], "tool_wait_ms": 3, "hash_ids": [7]}"#,
        ] {
            let (quick, full) = both(line);
            assert!(quick.is_some(), "{line}");
            assert_eq!(quick, full, "{line}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_general_parser() {
        for line in [
            "",
            "{}",
            "{",
            "[]",
            r#"{"timestamp":-1}"#,
            r#"{"timestamp":1e3}"#,
            r#"{"timestamp":01}"#,
            r#"{"timestamp":1.}"#,
            r#"{"timestamp":1,"timestamp":1}"#,
            r#"{"timestamp":1,"created_time":1}"#,
            r#"{"input_length":1.0}"#,
            r#"{"hash_ids":[]}"#,
            r#"{"hash_ids":[1],"hash_ids":[1]}"#,
            r#"{"hash_ids":[1,]}"#,
            r#"{"hash_ids":[18446744073709551616]}"#,
            r#"{"hash_ids":[19999999999999999999]}"#,
            r#"{"hash_ids":[30000000000000000000]}"#,
            r#"{"hash_ids":[100000000000000000000]}"#,
            r#"{"session_id":"a\"b"}"#,
            r#"{"timestamp":1} x"#,
            r#"{"timestamp":1,}"#,
            r#"{"other":1}"#,
            r#"{"wait_for":[]}"#,
            r#"{"wait_for":["a",]}"#,
        ] {
            assert_eq!(both(line).0, None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_general_parser_reads(
            fields in prop::collection::vec((
                prop::sample::select(vec!["timestamp", "created_time", "input_length", "output_tokens", "hash_ids",
                    "session_id", "delay", "priority", "request_id", "wait_for", "tool_wait_ms"]),
                prop::sample::select(vec!["0", "00", "7", "1.5", "1.", ".5", "-1", "1e2", "12345678901234567890",
                    "9007199254740993", "0.1234567890123456789", "null", "\"a\"", "\"\\u0041\"", "[1]", "[1, 2 ,3]",
                    "[]", "[01]", "[18446744073709551615]", "[18446744073709551620]", "[10000000000000000000]", "[1.0]", "{}", "[\"a\"]", "[\"a\", \"b\" ]"]),
            ), 0..5),
            space in prop::sample::select(vec!["", " ", "\t", "\r"]),
            end in prop::sample::select(vec!["}", "", "}}", "} ", ",}"]),
        ) {
            let body: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\"{space}:{space}{v}{space}")).collect();
            let line = format!("{space}{{{space}{}{end}", body.join(","));
            let (quick, full) = both(&line);
            if quick.is_some() {
                prop_assert_eq!(quick, full, "{}", line);
            }
        }
    }
}
