//! The state on disk: a write-ahead log, so that a restarted plegd continues its epoch without a gap.
//!
//! The state on disk is exact or absent. Each change is written before subscribers can see it. If it cannot be written, the whole log is
//! deleted and plegd continues in memory: the next process then begins a new epoch, and subscribers get an explicit gap. A log that is
//! damaged is set aside and never loaded.
//!
//! | part | purpose |
//! | --- | --- |
//! | [`frame`] | the format of a segment: length, checksums, kind, payload |
//! | [`log`] | segments in order: reading them, appending, rotating, deleting |
//! | [`storage`] | the few file operations that the log needs: a directory, or memory with faults for tests |
//! | [`persistent`] | the one file for a reboot |
//! | [`messages`] | the payloads: `proto/state.proto` |
//! | [`writer`] | the log as the arbiter uses it: it suspends itself after an error |
//!
//! The arbiter knows what the records mean (`arbiter/saving.rs`, `arbiter/restore.rs`).
//!
//! # Guarantees and limits
//!
//! - A write is not followed by `fsync`: after a loss of power, the log counts as lost. On tmpfs it is gone anyway.
//! - A process that is killed leaves at most one incomplete frame, whose change no subscriber has seen. It is ignored.
//! - A log that something else has truncated cannot be distinguished from that.
//! - A log that can neither be written nor deleted stays as it is: a restart in this time loads an old state. plegd tries to delete it
//!   every minute, and before it writes anything else.

pub mod frame;
pub mod log;
pub mod messages;
pub mod persistent;
pub mod storage;
pub mod writer;

use std::path::PathBuf;

pub use self::{
    frame::{Frame, FrameKind},
    log::{Loaded, Log},
    persistent::PersistentFile,
    storage::{DirectoryStorage, Storage},
    writer::StateWriter,
};

/// The place of the state, and the identity of what it belongs to.
pub struct StatePlace {
    /// The files; or why there are none.
    pub storage: Result<Box<dyn Storage>, StorageError>,
    /// The file for a reboot.
    pub persistent: Option<PersistentFile>,
    /// The size limit of all segments.
    pub max_bytes: u64,
    /// The boot of the machine.
    pub boot_id: String,
    /// `runtime.endpoint` of the configuration; empty if the endpoint is discovered.
    pub endpoint: String,
}

/// Why the state cannot be kept in a directory.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The directory cannot be created or opened.
    #[error("cannot use {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The directory belongs to somebody else, or others can write to it.
    #[error("cannot use {path}: {problem}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Another process uses the directory.
    #[error("cannot use {path}: another plegd uses it; give each its own state.directory")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}
