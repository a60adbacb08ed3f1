//! The one file that survives a reboot. It is written when plegd is stopped in order, and deleted before its contents are used, so that they
//! are never used twice.

#[cfg(any(test, feature = "internals"))]
use std::sync::Arc;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

#[cfg(any(test, feature = "internals"))]
use parking_lot::Mutex;

use super::storage::read_own;

const NAME: &str = "state.wal";
const TEMPORARY: &str = "state.wal.new";

/// The file.
#[derive(Clone, Debug)]
pub enum PersistentFile {
    /// In a directory.
    Directory(PathBuf),
    /// In memory, for tests.
    #[cfg(any(test, feature = "internals"))]
    Memory(Arc<Mutex<Option<Vec<u8>>>>),
}

// === impl PersistentFile ===

impl PersistentFile {
    /// Replaces the file: after a crash of the machine it has the old contents or the new.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, contents: &[u8]) -> io::Result<()> {
        let directory = match self {
            Self::Directory(directory) => directory,
            #[cfg(any(test, feature = "internals"))]
            Self::Memory(file) => {
                *file.lock() = Some(contents.to_vec());
                return Ok(());
            }
        };
        DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
        let (temporary, path) = (directory.join(TEMPORARY), directory.join(NAME));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()
    }

    /// Deletes the file and returns its contents; none if there is no file.
    ///
    /// # Errors
    ///
    /// If it cannot be read or deleted: then it must not be used.
    pub fn take(&self) -> io::Result<Option<Vec<u8>>> {
        let directory = match self {
            Self::Directory(directory) => directory,
            #[cfg(any(test, feature = "internals"))]
            Self::Memory(file) => return Ok(file.lock().take()),
        };
        let path = directory.join(NAME);
        let contents = match read_own(&path) {
            Ok(contents) => contents,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        fs::remove_file(&path)?;
        File::open(directory)?.sync_all()?;
        Ok(Some(contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = PersistentFile::Directory(directory.path().join("a/b"));
        assert_eq!(file.take().unwrap(), None);
        file.save(b"one").unwrap();
        file.save(b"two").unwrap();
        assert_eq!(file.take().unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(file.take().unwrap(), None);
    }

    #[test]
    fn a_link_is_not_followed_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("other"), "other").unwrap();
        std::os::unix::fs::symlink("other", directory.path().join(NAME)).unwrap();
        assert!(PersistentFile::Directory(directory.path().to_owned()).take().is_err());
        assert!(directory.path().join(NAME).is_symlink());
    }

    #[test]
    fn a_file_that_cannot_be_deleted_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(NAME)).unwrap();
        assert!(PersistentFile::Directory(directory.path().to_owned()).take().is_err());
    }
}
