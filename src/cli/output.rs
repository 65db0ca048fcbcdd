//! Standard output, and where the report goes.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use dynosim::time::civil;

use super::error::CliError;

/// Prints results. A reader that stopped reading (`| head`) is no error.
pub fn to_stdout(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Stdout(error)),
        _ => Ok(()),
    }
}

/// Prints for the user's eyes; nobody there to read it is no error.
pub fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The file for the report: the one asked for, or a dated name in the folder asked for or the working one.
pub fn report_path(asked: Option<&Path>, now: SystemTime) -> PathBuf {
    match asked {
        Some(path) if !path.is_dir() => path.to_path_buf(),
        Some(folder) => folder.join(dated_name(now)),
        None => PathBuf::from(dated_name(now)),
    }
}

fn dated_name(now: SystemTime) -> String {
    // A clock before 1970 gives 1970.
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("dynosim_report_{year:04}{month:02}{day:02}_{hour:02}{minute:02}{second:02}.json")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_default_report_name_holds_date_and_time_in_utc() {
        let name = |seconds| dated_name(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(name(0), "dynosim_report_19700101_000000.json");
        assert_eq!(name(951_782_399), "dynosim_report_20000228_235959.json");
        assert_eq!(name(951_782_400), "dynosim_report_20000229_000000.json");
        assert_eq!(name(1_709_251_200), "dynosim_report_20240301_000000.json");
        assert_eq!(name(1_798_761_599), "dynosim_report_20261231_235959.json");
    }

    #[test]
    fn a_folder_gets_the_default_name_inside() {
        let folder = tempfile::tempdir().unwrap();
        let path = report_path(Some(folder.path()), UNIX_EPOCH);
        assert_eq!(path, folder.path().join("dynosim_report_19700101_000000.json"));
        assert_eq!(report_path(Some(Path::new("a/b.json")), UNIX_EPOCH), Path::new("a/b.json"));
    }
}
