//! The log as the arbiter uses it.
//!
//! After an error nothing more is written: the log is deleted, and a new checkpoint is tried after [`RETRY_AFTER`]. plegd itself goes on.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    frame::{self, FrameKind},
    log::Log,
    messages::{self, note, part},
    persistent::PersistentFile,
};
use crate::{health::Note, metrics::Metrics};

/// How long after an error the state is written again.
pub const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Writes the state. Cheap to clone.
#[derive(Clone)]
pub struct StateWriter(Arc<Inner>);

struct Inner {
    log: Mutex<Log>,
    /// Whether the log has everything.
    active: AtomicBool,
    checkpoint_due: Notify,
    /// A checkpoint is due and not begun.
    is_due: AtomicBool,
    identity: messages::Header,
    persistent: Option<PersistentFile>,
    is_failing: AtomicBool,
    metrics: Arc<Metrics>,
    note: Note,
}

/// A checkpoint that is being written.
pub struct Checkpoint<'a> {
    writer: &'a StateWriter,
    is_complete: bool,
}

// === impl StateWriter ===

impl StateWriter {
    /// A writer of this log. `identity` has the fields of each header that do not change.
    pub fn new(
        log: Log,
        identity: messages::Header,
        persistent: Option<PersistentFile>,
        metrics: Arc<Metrics>,
        note: Note,
    ) -> Self {
        Self(Arc::new(Inner {
            log: Mutex::new(log),
            active: AtomicBool::new(false),
            checkpoint_due: Notify::new(),
            is_due: AtomicBool::new(false),
            identity,
            persistent,
            is_failing: AtomicBool::new(false),
            metrics,
            note,
        }))
    }

    /// Whether changes are written.
    pub fn is_active(&self) -> bool {
        self.0.active.load(Ordering::Acquire)
    }

    /// Writes a change.
    pub fn append(&self, change: &messages::Change) {
        self.write(FrameKind::Append, change);
    }

    /// Writes an entry that changes no record.
    pub fn note(&self, note: note::Note) {
        self.write(FrameKind::Note, &messages::Note { note: Some(note) });
    }

    fn write(&self, kind: FrameKind, message: &impl prost::Message) {
        let mut log = self.0.log.lock();
        if !self.is_active() {
            return;
        }
        match log.append(kind, encoded(message)) {
            Ok(()) => {
                self.set_bytes(&log);
                if log.is_rotation_due() && !self.0.is_due.swap(true, Ordering::Relaxed) {
                    self.0.checkpoint_due.notify_one();
                }
            }
            Err(error) => self.suspend(&mut log, &error),
        }
    }

    /// Begins a segment with a checkpoint. None if that fails: nothing is written then.
    pub fn begin_checkpoint(&self, header: messages::Header) -> Option<Checkpoint<'_>> {
        let header = self.identified(header);
        let mut log = self.0.log.lock();
        self.0.is_due.store(false, Ordering::Relaxed);
        match log.begin_segment(header.next_sequence, encoded(&header)) {
            Ok(()) => {
                self.set_active(true);
                Some(Checkpoint { writer: self, is_complete: false })
            }
            Err(error) => {
                self.suspend(&mut log, &error);
                None
            }
        }
    }

    /// A header with the fields that do not change.
    fn identified(&self, header: messages::Header) -> messages::Header {
        let messages::Header { boot_id, endpoint, began_at, restarts, .. } = self.0.identity.clone();
        messages::Header { boot_id, endpoint, began_at, restarts, ..header }
    }

    /// Returns when a checkpoint is to be written: the segment is full, or the state was suspended for [`RETRY_AFTER`].
    pub async fn checkpoint_due(&self) {
        loop {
            if !self.is_active() {
                return tokio::time::sleep(RETRY_AFTER).await;
            }
            self.0.checkpoint_due.notified().await;
            if self.is_active() {
                return;
            }
        }
    }

    fn set_active(&self, active: bool) {
        self.0.active.store(active, Ordering::Release);
        self.0.metrics.persistence.active.set(active.into());
    }

    fn set_bytes(&self, log: &Log) {
        self.0.metrics.persistence.bytes.set(i64::try_from(log.bytes()).unwrap_or(i64::MAX));
    }

    /// Deletes the log, so that it is never loaded, and writes nothing until the next checkpoint.
    fn suspend(&self, log: &mut Log, error: &io::Error) {
        self.set_active(false);
        self.0.metrics.persistence.errors.inc();
        let mut text = error.to_string();
        if let Err(error) = log.discard() {
            text = format!("{text}; and the old log cannot be deleted: {error}");
        }
        self.set_bytes(log);
        self.0.note.set_failed(format!("not written: {text}; a restart would begin a new epoch"));
        if !self.0.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = text,
                "The state cannot be written; plegd continues without it. A restart now begins a new epoch, and subscribers get a gap. \
                 Check the space and the mode of state.directory; plegd tries again every minute."
            );
        }
        self.0.checkpoint_due.notify_one();
    }

    /// Writes the file for a reboot: a header, the parts of a checkpoint, and the time of the stop.
    pub fn save_for_reboot(
        &self,
        header: messages::Header,
        parts: Vec<part::Part>,
        stopped: messages::Alive,
    ) {
        let Some(file) = &self.0.persistent else { return };
        let header = self.identified(header);
        let mut contents = Vec::new();
        frame::begin(&mut contents);
        frame::push(&mut contents, FrameKind::Header, encoded(&header));
        for part in parts {
            frame::push(&mut contents, FrameKind::Checkpoint, encoded(&messages::Part { part: Some(part) }));
        }
        frame::push(&mut contents, FrameKind::CheckpointEnd, |_| {});
        let note = messages::Note { note: Some(note::Note::Stopped(stopped)) };
        frame::push(&mut contents, FrameKind::Note, encoded(&note));
        if let Err(error) = file.save(&contents) {
            tracing::warn!(
                %error,
                "The state for a reboot cannot be written: after a reboot subscribers get a gap. Check state.persistent_directory."
            );
        }
    }
}

// === impl Checkpoint ===

impl Checkpoint<'_> {
    /// Writes a part.
    pub fn write(&mut self, part: part::Part) {
        self.writer.write(FrameKind::Checkpoint, &messages::Part { part: Some(part) });
    }

    /// Ends it.
    pub fn finish(mut self) {
        self.is_complete = true;
        let mut log = self.writer.0.log.lock();
        // Suspended in between: the log is deleted.
        if !self.writer.is_active() {
            return;
        }
        match log.finish_checkpoint() {
            Ok(()) => {
                self.writer.set_bytes(&log);
                if self.writer.0.is_failing.swap(false, Ordering::Relaxed) {
                    self.writer.0.note.set_ok("written again after an error");
                    tracing::info!("The state is written again.");
                }
            }
            Err(error) => self.writer.suspend(&mut log, &error),
        }
    }
}

impl Drop for Checkpoint<'_> {
    fn drop(&mut self) {
        debug_assert!(self.is_complete || std::thread::panicking(), "a checkpoint is finished");
    }
}

/// Appends an encoded message. Writing to a `Vec` cannot fail.
fn encoded(message: &impl prost::Message) -> impl FnOnce(&mut Vec<u8>) + '_ {
    |out| {
        let _ = message.encode(out);
    }
}
