//! Files that are either whole or as before.
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use super::error::ReportError;

/// Replaces `path` by what `fill` writes, through a file beside it that takes its place once it is on the disk. On any
/// error that file is removed and `path` is as before.
pub(super) fn replace(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), ParquetError>,
) -> Result<(), ReportError> {
    let fault = |source| ReportError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| ReportError::File { path: folder.to_owned(), source })?;
    }
    let unfinished = Unfinished(beside(path));
    let mut writer = BufWriter::new(File::create(&unfinished.0).map_err(fault)?);
    fill(&mut writer).map_err(|error| typed(path, error))?;
    let file = writer.into_inner().map_err(|error| fault(error.into_error()))?;
    // Some file systems tell only now that there is no room.
    file.sync_all().map_err(fault)?;
    fs::rename(&unfinished.0, path).map_err(fault)
}

/// [`replace`] by these bytes.
pub(super) fn replace_with(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    replace(path, |writer| Ok(writer.write_all(bytes)?))
}

/// The encoder wraps what the system says; the caller wants to know which of the two it was.
fn typed(path: &Path, error: ParquetError) -> ReportError {
    let path = path.to_owned();
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => ReportError::File { path, source: *source },
            Err(inner) => ReportError::Parquet { path, source: ParquetError::External(inner) },
        },
        source => ReportError::Parquet { path, source },
    }
}

/// A name in the same folder, so that the rename stays on one file system; the process in it, so that two programs
/// writing the same report don't write into each other's file.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

/// Removes the file when dropped, unless it has been renamed away.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After success there is nothing to remove; after a failure nothing more can be done about a second one.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cells.csv");
        replace_with(&path, b"old").unwrap();
        let error = replace(&path, |writer| {
            writer.write_all(b"half of the n")?;
            writer.flush()?;
            Err(io::Error::from(io::ErrorKind::StorageFull).into())
        })
        .unwrap_err();
        let ReportError::File { path: named, source } = error else { panic!("{error}") };
        assert_eq!((named, source.kind()), (path.clone(), io::ErrorKind::StorageFull));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["cells.csv"]);
        replace_with(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["cells.csv"]);
    }

    #[test]
    fn an_encoders_own_error_keeps_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cells.parquet");
        let error = replace(&path, |_| Err(ParquetError::General("no".to_owned()))).unwrap_err();
        assert!(matches!(error, ReportError::Parquet { .. }), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_file_in_the_way_of_the_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("plots");
        fs::write(&blocked, b"a file").unwrap();
        let error = replace_with(&blocked.join("matrix.svg"), b"x").unwrap_err();
        assert!(matches!(&error, ReportError::File { path, .. } if *path == blocked), "{error}");
    }
}
