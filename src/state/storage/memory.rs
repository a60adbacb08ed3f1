//! Files in memory that outlive a simulated process, with faults.
//!
//! A simulated process ends in the write during which it is killed: the write unwinds, so that nothing after it happens.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use super::Storage;

/// The files. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Vec<u8>>,
    fault: Option<Fault>,
    /// Number of the process that may write.
    process: u64,
    writes: u64,
    deletions: u64,
}

/// A fault of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends within write number `at`, after `bytes` bytes of it.
    Kill {
        /// Number of the write, from the time when the fault is set.
        at: u64,
        /// How much of it is written.
        bytes: usize,
    },
    /// From write number `at` on, the disk is full. Deletions succeed.
    Full {
        /// Number of the write, from the time when the fault is set.
        at: u64,
    },
    /// Nothing can be written, renamed or deleted.
    ReadOnly,
    /// The process ends before deletion number `at`. A renaming counts as one.
    KillBeforeDeletion {
        /// Number of the deletion, from the time when the fault is set.
        at: u64,
    },
}

/// What the unwinding of a killed process carries.
pub const KILLED: &str = "the process was killed";

/// The files as one process sees them.
#[derive(Debug)]
pub struct MemoryStorage {
    disk: Disk,
    process: u64,
    open: Option<String>,
}

// === impl Disk ===

impl Disk {
    /// Opens the files for a new process. An earlier one can no longer change them.
    pub fn open(&self) -> MemoryStorage {
        let mut contents = self.0.lock();
        contents.process += 1;
        contents.fault = contents.fault.filter(|fault| matches!(fault, Fault::Full { .. } | Fault::ReadOnly));
        MemoryStorage { disk: self.clone(), process: contents.process, open: None }
    }

    /// The process that has opened the files is killed: it changes them no more.
    pub fn kill(&self) {
        self.0.lock().process += 1;
    }

    /// Sets a fault, or none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut contents = self.0.lock();
        (contents.writes, contents.deletions) = (0, 0);
        contents.fault = fault;
    }

    /// All files with their contents.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().files.clone()
    }

    /// Replaces all files.
    pub fn set_files(&self, files: BTreeMap<String, Vec<u8>>) {
        self.0.lock().files = files;
    }
}

// === impl MemoryStorage ===

impl MemoryStorage {
    fn contents<R>(&self, change: impl FnOnce(&mut Contents) -> io::Result<R>) -> io::Result<R> {
        let mut contents = self.disk.0.lock();
        if contents.process == self.process {
            let result = change(&mut contents);
            if contents.process == self.process {
                return result;
            }
        }
        drop(contents);
        std::panic::resume_unwind(Box::new(KILLED))
    }
}

impl Storage for MemoryStorage {
    fn names(&mut self) -> io::Result<Vec<String>> {
        self.contents(|it| Ok(it.files.keys().cloned().collect()))
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        self.contents(|it| it.files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.contents(|it| it.begin_write(&mut Vec::new(), &[]))?;
        self.contents(|it| {
            it.files.insert(name.to_owned(), Vec::new());
            Ok(())
        })?;
        self.open = Some(name.to_owned());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(open) = self.open.clone() else { return Err(io::Error::other("no segment is open")) };
        self.contents(|it| {
            let mut file = it.files.remove(&open).unwrap_or_default();
            let process = it.process;
            let written = it.begin_write(&mut file, bytes);
            if written.is_ok() && process == it.process {
                file.extend_from_slice(bytes);
            }
            it.files.insert(open, file);
            written
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.contents(Contents::begin_deletion)?;
        self.contents(|it| {
            let file = it.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            it.files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.contents(Contents::begin_deletion)?;
        self.contents(|it| it.files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

// === impl Contents ===

impl Contents {
    /// Counts a write, and fails if a fault is due. Of a write in which the process is killed, a part is kept.
    fn begin_write(&mut self, file: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
        let number = self.writes;
        self.writes += 1;
        match self.fault {
            Some(Fault::Kill { at, bytes: kept }) if number == at => {
                file.extend_from_slice(&bytes[..kept.min(bytes.len())]);
                self.process += 1;
                self.fault = None;
                Ok(())
            }
            Some(Fault::Full { at }) if number >= at => {
                file.extend_from_slice(&bytes[..bytes.len() / 2]);
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(Fault::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(()),
        }
    }

    /// Counts a deletion, and fails if a fault is due.
    fn begin_deletion(&mut self) -> io::Result<()> {
        let number = self.deletions;
        self.deletions += 1;
        match self.fault {
            Some(Fault::KillBeforeDeletion { at }) if number == at => {
                self.process += 1;
                self.fault = None;
                Ok(())
            }
            Some(Fault::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(()),
        }
    }
}
