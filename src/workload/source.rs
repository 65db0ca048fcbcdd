//! The files of a trace: names, folders and patterns to a list; bytes to text.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::WorkloadError;

/// First bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Unpacked text may always have this size.
const ALWAYS_UNPACKED: u64 = 1 << 30;
/// Beyond that, text may be this many times the size of its packed form. Traces shrink to a tenth or so; only files made
/// to fill the memory exceed this.
const UNPACKED_RATIO: u64 = 200;
/// Endings of the files that are taken from a folder.
const ENDINGS: [&str; 6] = [".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz"];

/// The files that `paths` name, in order: a folder stands for its trace files by name, a pattern for what it matches.
pub(super) fn expand<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<PathBuf>, WorkloadError> {
    let mut files = Vec::new();
    for path in paths {
        let path = path.as_ref();
        if path.is_dir() {
            files.extend(folder(path)?);
        } else if let Some(found) = pattern(path)? {
            files.extend(found);
        } else {
            files.push(path.to_owned());
        }
    }
    Ok(files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, WorkloadError> {
    let read = |source| WorkloadError::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending)) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        let cure = format!("name a folder with files that end in {}", ENDINGS.join(", "));
        return Err(WorkloadError::file(path, "the folder holds no trace files", cure));
    }
    files.sort();
    Ok(files)
}

/// The files that match, sorted; nothing when the path is no pattern or names a file as it stands.
fn pattern(path: &Path) -> Result<Option<Vec<PathBuf>>, WorkloadError> {
    let Some(text) = path.to_str().filter(|text| text.contains(['*', '?', '['])) else { return Ok(None) };
    if path.exists() {
        return Ok(None);
    }
    let cure = "use * for any part of a name, ? for a character, ** for any folders";
    let entries = glob::glob(text).map_err(|e| WorkloadError::file(path, e.to_string(), cure))?;
    // The matches come sorted.
    let files: Vec<PathBuf> = entries.filter_map(Result::ok).filter(|file| file.is_file()).collect();
    if files.is_empty() {
        return Err(WorkloadError::file(path, "no file matches the pattern", cure));
    }
    Ok(Some(files))
}

/// A file in memory, unpacked.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl Source {
    /// Reads a file, and unpacks it if its first bytes are those of gzip.
    pub fn read(path: &Path) -> Result<Self, WorkloadError> {
        let bytes = fs::read(path).map_err(|source| WorkloadError::Read { path: path.to_owned(), source })?;
        let bytes = if bytes.starts_with(&GZIP) { unpack(path, &bytes)? } else { bytes };
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// The text, without a byte-order mark.
    pub fn text(&self, notes: &mut Vec<String>) -> Result<&str, WorkloadError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|error| self.not_text(error.valid_up_to()))?;
        Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => {
                notes.push("the byte-order mark at the beginning of the trace was skipped".to_owned());
                rest
            }
            None => text,
        })
    }

    fn not_text(&self, valid: usize) -> WorkloadError {
        let before = self.bytes.get(..valid).unwrap_or_default();
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        WorkloadError::Row {
            path: self.path.clone(),
            line: before.iter().filter(|b| **b == b'\n').count() + 1,
            column: Some(before.len() - line_start + 1),
            field: None,
            cause: "not UTF-8".to_owned(),
            cure: "a trace is a text file in UTF-8, as it is or packed with gzip".to_owned(),
        }
    }
}

fn unpack(path: &Path, packed: &[u8]) -> Result<Vec<u8>, WorkloadError> {
    let limit = ALWAYS_UNPACKED.max(UNPACKED_RATIO.saturating_mul(packed.len() as u64));
    let mut bytes = Vec::with_capacity(packed.len().saturating_mul(4));
    let mut decoder = MultiGzDecoder::new(packed).take(limit + 1);
    decoder.read_to_end(&mut bytes).map_err(|error| {
        WorkloadError::file(path, format!("the gzip data cannot be unpacked: {error}"), "pack the file anew")
    })?;
    if bytes.len() as u64 > limit {
        let cause = format!("unpacks to more than {limit} bytes");
        return Err(WorkloadError::file(path, cause, "unpack it yourself, and split it if it really is a trace"));
    }
    Ok(bytes)
}

/// The lines of a text that are not blank, with their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = Some(0);
    let split = std::iter::from_fn(move || {
        let rest = text.get(start?..)?;
        let end = memchr::memchr(b'\n', rest.as_bytes());
        start = end.and_then(|end| Some(start? + end + 1));
        rest.get(..end.unwrap_or(rest.len()))
    });
    // Blank lines still count for line numbers.
    (1..).zip(split).filter(|(_, line)| !is_blank(line))
}

fn is_blank(line: &str) -> bool {
    // Nearly every line tells by its first character.
    !line.as_bytes().first().is_some_and(u8::is_ascii_graphic) && line.trim_start().is_empty()
}
