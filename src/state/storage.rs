//! The file operations that the log needs.

#[cfg(any(test, feature = "internals"))]
mod memory;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::StorageError;

#[cfg(any(test, feature = "internals"))]
pub use self::memory::{Disk, Fault, MemoryStorage};

/// Files in one flat directory, of which one at a time is written.
pub trait Storage: Send {
    /// The names of all files.
    fn names(&mut self) -> io::Result<Vec<String>>;
    /// The contents of a file.
    fn read(&mut self, name: &str) -> io::Result<Vec<u8>>;
    /// Creates an empty file. Later writes go there.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Appends to the file that was created last.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file, and replaces one that has this name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A directory that one process uses.
#[derive(Debug)]
pub struct DirectoryStorage {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    open: Option<File>,
}

// === impl DirectoryStorage ===

impl DirectoryStorage {
    /// Opens a directory, which is created if it is missing, and locks it.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error| StorageError::Directory { path: path.to_owned(), error };
        if let Err(error) = DirBuilder::new().mode(0o700).recursive(true).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        check(path)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(NO_FOLLOW)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock, open: None }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// `O_NOFOLLOW`: a link in place of a file is an error.
#[allow(clippy::cast_possible_wrap)]
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// Nobody but this user may be able to change the state.
fn check(path: &Path) -> Result<(), StorageError> {
    let metadata = fs::symlink_metadata(path)
        .map_err(|error| StorageError::Directory { path: path.to_owned(), error })?;
    let (owner, own, mode) =
        (metadata.uid(), rustix::process::geteuid().as_raw(), metadata.permissions().mode() & 0o777);
    let problem = if metadata.is_symlink() {
        "it is a symbolic link; set state.directory to its target".to_owned()
    } else if !metadata.is_dir() {
        "it is no directory; remove it or set state.directory".to_owned()
    } else if owner != own {
        format!(
            "it belongs to user {owner}, and plegd runs as {own}; remove the directory or change its owner"
        )
    } else if mode & 0o022 != 0 {
        format!("others can write to it (mode {mode:03o}); set its mode to 0700")
    } else {
        return Ok(());
    };
    Err(StorageError::Unsafe { path: path.to_owned(), problem })
}

impl Storage for DirectoryStorage {
    fn names(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // plegd gives no file another name.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(self.path.join(name))?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(bytes)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(NO_FOLLOW);
        self.open = Some(options.open(self.path.join(name))?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("no segment is open")),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_second_process_gets_no_lock_and_the_lock_ends_with_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/state");
        let first = DirectoryStorage::open(&path).unwrap();
        assert!(matches!(DirectoryStorage::open(&path), Err(StorageError::Locked { .. })));
        drop(first);
        DirectoryStorage::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn links_and_directories_of_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let refused = |path: &Path| DirectoryStorage::open(path).unwrap_err().to_string();
        assert!(refused(&link).contains("symbolic link"));
        fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&real).contains("mode 777"));
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(refused(&directory.path().join("file")).contains("file"));
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(&real, fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&real, Some(4242), None).unwrap();
            assert!(refused(&real).contains("user 4242"));
        }
    }

    #[test]
    fn files_are_written_in_order_and_a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let mut storage = DirectoryStorage::open(directory.path()).unwrap();
        storage.create("1.wal").unwrap();
        storage.write(b"one").unwrap();
        storage.write(b"two").unwrap();
        assert_eq!(storage.read("1.wal").unwrap(), b"onetwo");
        storage.rename("1.wal", "1.damaged").unwrap();
        symlink("1.damaged", directory.path().join("2.wal")).unwrap();
        assert!(storage.read("2.wal").is_err() && storage.create("2.wal").is_err());
        storage.remove("1.damaged").unwrap();
        let mut names = storage.names().unwrap();
        names.sort();
        assert_eq!(names, ["2.wal", "lock"]);
    }
}
