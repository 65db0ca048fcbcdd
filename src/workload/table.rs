//! Rows of a CSV file, and which of their columns hold what.

use std::path::Path;

use crate::scenario::{CsvColumns, TraceFormat};

use super::WorkloadError;
use super::source::lines;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Arrival,
    Input,
    Output,
    Session,
    Delay,
    /// Time from arrival to the end of the answer.
    Elapsed,
}

/// Usual names of columns, in lower case, letters and digits only, the more telling ones first.
const USUAL: [(Role, &[&str]); 4] = [
    (
        Role::Arrival,
        &["arrivaltime", "arrivedat", "arrivaltimestamp", "arrival", "timestamp", "starttime", "createdtime", "time"],
    ),
    (
        Role::Input,
        &[
            "contexttokens",
            "numprefilltokens",
            "requesttokens",
            "inputtokens",
            "inputlength",
            "inputlen",
            "prompttokens",
            "promptlength",
            "promptlen",
            "isl",
        ],
    ),
    (
        Role::Output,
        &[
            "generatedtokens",
            "numdecodetokens",
            "responsetokens",
            "outputtokens",
            "outputlength",
            "outputlen",
            "completiontokens",
            "generationlength",
            "osl",
        ],
    ),
    (Role::Session, &["sessionid", "session", "conversationid"]),
];

/// The names that formats with fixed columns use.
fn fixed(format: TraceFormat) -> &'static [(Role, &'static str)] {
    match format {
        TraceFormat::Azure => {
            &[(Role::Arrival, "timestamp"), (Role::Input, "contexttokens"), (Role::Output, "generatedtokens")]
        }
        TraceFormat::BurstGpt => &[
            (Role::Arrival, "timestamp"),
            (Role::Input, "requesttokens"),
            (Role::Output, "responsetokens"),
            (Role::Session, "sessionid"),
            (Role::Elapsed, "elapsedtime"),
        ],
        _ => &[],
    }
}

/// The places of the columns that matter, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub arrival: Option<usize>,
    pub input: usize,
    pub output: usize,
    pub session: Option<usize>,
    pub delay: Option<usize>,
    pub elapsed: Option<usize>,
    /// Whether the first row names the columns.
    pub has_header: bool,
}

/// The CSV format of a file whose first row is `header`, if it is one that is known.
pub(super) fn recognise(header: &str) -> Option<TraceFormat> {
    let names = split(header, delimiter(header));
    let names: Vec<String> = names.iter().map(|name| plain(name)).collect();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    // Sessions and what follows them came later.
    let all = |format| fixed(format).iter().take(3).all(|(_, name)| has(name));
    let usual = |role| USUAL.iter().any(|(r, known)| *r == role && known.iter().any(|name| has(name)));
    if all(TraceFormat::Azure) {
        Some(TraceFormat::Azure)
    } else if all(TraceFormat::BurstGpt) {
        Some(TraceFormat::BurstGpt)
    } else {
        (usual(Role::Input) && usual(Role::Output)).then_some(TraceFormat::Csv)
    }
}

/// Finds the columns of a file by its first row.
pub(super) fn layout(
    path: &Path,
    line: usize,
    header: &[&str],
    format: TraceFormat,
    columns: &CsvColumns,
) -> Result<Layout, WorkloadError> {
    let names: Vec<String> = header.iter().map(|name| plain(name)).collect();
    let at = |wanted: &str| names.iter().position(|name| name == wanted);
    let find = |role: Role, name: &'static str| -> Result<Option<usize>, WorkloadError> {
        if format != TraceFormat::Csv {
            let known = fixed(format).iter().find(|(r, _)| *r == role);
            return Ok(known.and_then(|(_, name)| at(name)));
        }
        if let Some(given) = columns.get(name) {
            let exact = header.iter().position(|field| field.trim() == given);
            // A column number counts from 1, as people do.
            let number = given.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < header.len());
            return match exact.or_else(|| at(&plain(given))).or(number) {
                Some(found) => Ok(Some(found)),
                None => Err(missing(path, line, name, &format!("there is no column \"{given}\""), header)),
            };
        }
        Ok(USUAL.iter().filter(|(r, _)| *r == role).flat_map(|(_, known)| *known).find_map(|known| at(known)))
    };
    let needed = |role, name| {
        find(role, name)?
            .ok_or_else(|| missing(path, line, name, &format!("no column is known to hold `{name}`"), header))
    };
    let (input, output) = (needed(Role::Input, "input")?, needed(Role::Output, "output")?);
    let layout = Layout {
        arrival: find(Role::Arrival, "arrival")?,
        input,
        output,
        session: find(Role::Session, "session")?,
        delay: find(Role::Delay, "delay")?,
        elapsed: find(Role::Elapsed, "elapsed")?,
        has_header: header.get(input).is_none_or(|field| field.trim().parse::<f64>().is_err()),
    };
    if layout.arrival.is_none() && format != TraceFormat::Csv {
        return Err(missing(path, line, "arrival", "no column `Timestamp`", header));
    }
    Ok(layout)
}

fn missing(path: &Path, line: usize, role: &'static str, cause: &str, header: &[&str]) -> WorkloadError {
    let names: Vec<_> = header.iter().take(20).map(|name| format!("\"{}\"", name.trim().escape_debug())).collect();
    let cause = format!("{cause}; the columns are {}", names.join(", "));
    WorkloadError::field(path, line, role, cause, "say which it is, such as `csv-columns` arrival=1,input=2,output=3")
}

/// A name as it is compared: lower case, letters and digits only.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The character between the fields of a row: whichever of the usual ones it has most of.
pub(super) fn delimiter(row: &str) -> u8 {
    let count = |byte: u8| row.bytes().filter(|b| *b == byte).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|byte| count(*byte)).unwrap_or(b',')
}

/// Fields of a single row.
fn split(row: &str, delimiter: u8) -> Vec<String> {
    let mut fields = Vec::new();
    let _ = rows(row, delimiter, |_, row| {
        fields.extend(row.iter().map(|field| (*field).to_owned()));
        Err::<(), ()>(())
    });
    fields
}

/// Calls `take` with line and fields of every row that is not blank.
pub(super) fn rows<E>(
    text: &str,
    delimiter: u8,
    mut take: impl FnMut(usize, &[&str]) -> Result<(), E>,
) -> Result<(), E> {
    if memchr::memchr(b'"', text.as_bytes()).is_none() {
        let mut fields: Vec<&str> = Vec::new();
        for (line, row) in lines(text) {
            let row = row.strip_suffix('\r').unwrap_or(row);
            fields.clear();
            let mut start = 0;
            for end in memchr::memchr_iter(delimiter, row.as_bytes()) {
                fields.extend(row.get(start..end));
                start = end + 1;
            }
            fields.extend(row.get(start..));
            take(line, &fields)?;
        }
        return Ok(());
    }
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let (mut line, mut counted) = (1, 0);
    // The text is UTF-8 and in memory, so nothing can fail.
    while let Ok(true) = reader.read_record(&mut record) {
        // The position is that of the blank lines before the row.
        let at = record.position().map_or(0, |p| p.byte() as usize);
        let blank = text.as_bytes().get(at..).unwrap_or_default().iter().take_while(|b| matches!(b, b'\r' | b'\n'));
        let start = at + blank.count();
        line += memchr::memchr_iter(b'\n', text.as_bytes().get(counted..start).unwrap_or_default()).count();
        counted = start;
        let fields: Vec<&str> = record.iter().collect();
        take(line, &fields)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let delimiter = delimiter(text.lines().next().unwrap_or_default());
        let _ = rows(text, delimiter, |line, row| {
            found.push((line, row.iter().map(|f| (*f).to_owned()).collect()));
            Ok::<(), ()>(())
        });
        found
    }

    #[test]
    fn quoted_fields_may_hold_anything() {
        let rows = all("a,\"b,\n\"\"c\",d\r\n\n1,2,3\n");
        assert_eq!(
            rows,
            [(1, vec!["a".into(), "b,\n\"c".into(), "d".into()]), (4, ["1", "2", "3"].map(String::from).to_vec())]
        );
        assert_eq!(all("a;b,c;d\n1;2\n")[0].1, ["a", "b,c", "d"]);
        assert_eq!(all("a\tb\n")[0].1, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn rows_without_quotes_are_those_of_the_general_reader(text in "[a-c1-3,\n\r]{0,60}") {
            let quick = all(&text);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            // A lone carriage return ends a row there and not here; no trace has any.
            if !text.replace("\r\n", "\n").contains('\r') {
                let general: Vec<Vec<String>> = reader
                    .records()
                    .map(|r| r.expect("a record").iter().map(str::to_owned).collect())
                    .collect();
                let quick: Vec<Vec<String>> = quick.into_iter().map(|(_, row)| row).collect();
                prop_assert_eq!(quick, general, "{:?}", text);
            }
        }
    }
}
