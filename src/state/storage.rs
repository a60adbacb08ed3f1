//! The file operations that the log needs.

#[cfg(any(test, feature = "internals"))]
mod memory;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::StorageError;

#[cfg(any(test, feature = "internals"))]
pub use self::memory::{Disk, Fault, KILLED, MemoryStorage};

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

/// `O_NOFOLLOW`: a link in place of a file is an error. `O_NONBLOCK`: opening a named pipe does not wait for its other end.
#[allow(clippy::cast_possible_wrap)]
const NO_FOLLOW: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// The largest file that is read, as large as `state.max_bytes` can be. plegd writes no file of this size.
const MAX_FILE: u64 = 1 << 30;

/// The contents of a regular file that belongs to this user.
///
/// # Errors
///
/// If it cannot be read, is no such file, or is larger than 1 GiB.
pub(super) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path)?;
    let metadata = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file; remove it"));
    }
    if metadata.uid() != own {
        let owner = metadata.uid();
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, and plegd runs as {own}; remove it"
        )));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

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
        read_own(&self.path.join(name))
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
    fn what_is_no_file_of_this_user_is_not_read_and_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let mut storage = DirectoryStorage::open(directory.path()).unwrap();
        let at = |name: &str| directory.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(storage.read("pipe").unwrap_err().to_string().contains("no regular file"));
        fs::create_dir(at("directory")).unwrap();
        assert!(storage.read("directory").unwrap_err().to_string().contains("no regular file"));
        File::create(at("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert_eq!(storage.read("large").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::write(at("other"), "").unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(at("other"), Some(4242), None).unwrap();
            assert!(storage.read("other").unwrap_err().to_string().contains("user 4242"));
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
