//! What the targets do with the bytes they are given.
//!
//! Nothing may panic, run out of memory or run on. What is accepted must have the properties that the rest of the program
//! relies on.
//!
//! | module | readers |
//! |---|---|
//! | [`trace`] | trace formats, detection of the format |
//! | [`scenario`] | scenario documents, engine arguments, corrections, generators; short runs of what they say |
//! | [`timing`] | models, GPUs, tables, profiles |
//! | [`measured`] | measured requests and the settings beside them |
//! | [`report`] | reports that are compared |
//! | [`short`] | short forms of distributions, windows, columns |

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

pub mod measured;
pub mod report;
pub mod scenario;
pub mod short;
pub mod timing;
pub mod trace;

/// What separates two files within the bytes of one input.
const SEPARATOR: &[u8] = b"\n---\n";

/// Longest message, in bytes: a cause, a cure, a path, and a list of what there is to choose from.
const LONGEST_MESSAGE: usize = 2_500;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

/// What a user is told must be short, however long the input is.
fn told(message: &impl std::fmt::Display) {
    let text = message.to_string();
    assert!(text.len() < LONGEST_MESSAGE, "a message of {} bytes", text.len());
}

/// The path of a file in the folder of this process.
fn path(name: &str) -> PathBuf {
    FOLDER.with_borrow(|folder| folder.path().join(name))
}

/// Writes a file into the folder of this process.
fn write(name: &str, data: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, data).expect("room for a small file");
    path
}

/// The two files that an input holds; the second is empty unless there is a separator.
fn two_files(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR).unwrap_or(data.len());
    let second = data.get(at + SEPARATOR.len()..).unwrap_or_default();
    (data.get(..at).unwrap_or_default(), second)
}
