//! Files that are complete or absent.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// An output file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Writes `path` through `content`, as an [`AtomicFile`] does.
///
/// # Errors
/// When a folder or the file cannot be created, written or renamed, or when `content` fails.
pub fn write_atomically<F>(path: &Path, content: F) -> Result<(), WriteError>
where
    F: FnOnce(&mut dyn Write) -> io::Result<()>,
{
    let mut file = AtomicFile::create(path)?;
    content(&mut file).map_err(|source| file.error(source))?;
    file.commit()
}

/// A file that is written into a temporary one in the same folder, renamed when complete: a reader never sees half a file,
/// and a failed run leaves the previous one alone. Missing folders are created; a symbolic link keeps pointing at the file
/// it points at. Devices and pipes are written directly.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    /// Where the temporary file goes in the end; nothing for a device.
    target: Option<PathBuf>,
    out: Destination,
}

#[derive(Debug)]
enum Destination {
    Device(BufWriter<File>),
    Temporary(BufWriter<NamedTempFile>),
}

impl AtomicFile {
    /// Opens the temporary file.
    ///
    /// # Errors
    /// When a folder or the file cannot be created, or `path` is a folder.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let opened = if is_device(path) && !path.is_dir() {
            File::options().write(true).open(path).map(|file| (None, Destination::Device(BufWriter::new(file))))
        } else {
            temporary(path)
                .map(|(target, file)| (Some(target), Destination::Temporary(BufWriter::with_capacity(1 << 18, file))))
        };
        match opened {
            Ok((target, out)) => Ok(Self { path: path.to_path_buf(), target, out }),
            Err(source) => Err(WriteError { path: path.to_path_buf(), source }),
        }
    }

    /// Makes what was written the file's content.
    ///
    /// # Errors
    /// When the rest cannot be written or the file cannot be renamed.
    pub fn commit(self) -> Result<(), WriteError> {
        let Self { path, target, out } = self;
        let done = match (out, target) {
            (Destination::Device(mut out), _) => out.flush(),
            (Destination::Temporary(out), target) => out
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.persist(target.as_deref().unwrap_or(&path)).map_err(|failed| failed.error))
                .map(|_| ()),
        };
        done.map_err(|source| WriteError { path, source })
    }

    /// An error with the file's name.
    pub fn error(&self, source: io::Error) -> WriteError {
        WriteError { path: self.path.clone(), source }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Destination::Device(out) => out.write(bytes),
            Destination::Temporary(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Destination::Device(out) => out.flush(),
            Destination::Temporary(out) => out.flush(),
        }
    }
}

/// Where `path` really is, and a temporary file beside it.
fn temporary(path: &Path) -> io::Result<(PathBuf, NamedTempFile)> {
    if path.file_name().is_none() || path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder, a file name is needed"));
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let file = new_file(folder)?;
    Ok((target, file))
}

/// Whether renaming onto `path` would destroy something that is not a file (`/dev/null`, a named pipe).
fn is_device(path: &Path) -> bool {
    path.starts_with("/dev") || fs::metadata(path).is_ok_and(|data| !data.is_file())
}

/// A temporary file with the permissions any other new file gets; the crate's own default is private to the user.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".dynosim-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_previous_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write_atomically(&path, |w| w.write_all(b"first")).unwrap();
        let failed = write_atomically(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::other("stopped"))
        });
        assert!(failed.unwrap_err().to_string().contains("b.json: stopped"));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_not_replaced_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_atomically(folder.path(), |w| w.write_all(b"x")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_keeps_its_target_and_new_files_are_not_private() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"old").unwrap();
        symlink(&file, &link).unwrap();
        write_atomically(&link, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        let plain = folder.path().join("plain");
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&file), mode(&plain));
    }
}
