//! The position of a subscriber in the journal.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{Head, Journal, Record};
use crate::model::Restart;

/// The position of a subscriber in the journal.
#[derive(Debug)]
pub struct Cursor {
    journal: Journal,
    /// Wakes up the subscriber. Its value may lag behind the journal.
    head: watch::Receiver<Head>,
    next: u64,
    /// Number of restarts that the subscriber was sent, or that are before its position.
    restarts: u64,
    progress: Arc<Progress>,
}

/// The progress of a cursor, for other tasks.
#[derive(Debug, Default)]
pub struct Progress {
    sequence: AtomicU64,
}

// === impl Progress ===

impl Progress {
    /// Number of the last event that was taken, or after which the cursor continues.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }
}

/// The ring has evicted the events from `from` to `to`: read the cache again. The cursor continues after `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events {from} to {to} were evicted: the subscriber is too slow or was disconnected for too long")]
pub struct Evicted {
    /// First event that is missing.
    pub from: u64,
    /// Last event that is missing.
    pub to: u64,
}

// === impl Cursor ===

impl Cursor {
    /// A cursor that continues after event number `after`, and that `head` wakes up.
    pub(crate) fn new(journal: Journal, head: watch::Receiver<Head>, after: u64) -> Self {
        journal.0.subscribers.fetch_add(1, Ordering::Relaxed);
        let mut cursor = Self { journal, head, next: 0, restarts: 0, progress: Arc::default() };
        cursor.seek(after);
        cursor
    }

    /// The next event, as soon as there is one. Restarts of plegd are skipped.
    ///
    /// # Errors
    ///
    /// [`Evicted`] if it was evicted. The next call continues with the oldest event in the ring.
    pub async fn next(&mut self) -> Result<Arc<Record>, Evicted> {
        loop {
            if let Some(record) = self.try_next()? {
                return Ok(record);
            }
            while self.next_restart().is_some() {}
            self.ready().await;
        }
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    ///
    /// As [`Cursor::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Record>>, Evicted> {
        let ring = self.journal.0.ring.lock();
        let oldest = ring.oldest();
        if self.next < oldest {
            let evicted = Evicted { from: self.next, to: oldest - 1 };
            self.next = oldest;
            self.progress.sequence.store(oldest - 1, Ordering::Relaxed);
            self.journal.0.gaps.fetch_add(1, Ordering::Relaxed);
            return Err(evicted);
        }
        let record = ring.get(self.next).cloned();
        if record.is_some() {
            self.progress.sequence.store(self.next, Ordering::Relaxed);
            self.next += 1;
        }
        Ok(record)
    }

    /// The next restart of plegd, if it comes before the next event. A cursor that begins at the event before a restart gets the restart.
    pub fn next_restart(&mut self) -> Option<Restart> {
        let restart = self.journal.0.ring.lock().restart(self.restarts, self.next - 1)?;
        self.restarts += 1;
        Some(restart)
    }

    /// Resumes after event number `after`: restarts after it are delivered.
    pub fn seek(&mut self, after: u64) {
        let restarts = self.journal.0.ring.lock().restarts_before(after);
        self.move_to(after, restarts);
    }

    /// Continues after event number `after`, of which the subscriber has a snapshot: only restarts from now on are delivered.
    pub fn begin(&mut self, after: u64) {
        let restarts = self.journal.0.ring.lock().head().restarts;
        self.move_to(after, restarts);
    }

    fn move_to(&mut self, after: u64, restarts: u64) {
        self.restarts = restarts;
        self.next = after.saturating_add(1);
        self.progress.sequence.store(after, Ordering::Relaxed);
    }

    /// Its progress, now and later.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Waits until there may be an event.
    pub async fn ready(&mut self) {
        // The sender is in the journal of this cursor, or exists as long as the servers.
        let (next, restarts) = (self.next, self.restarts);
        let is_ahead = |head: &Head| head.sequence >= next || head.restarts > restarts;
        if self.head.wait_for(is_ahead).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Number of the last event that was taken, or after which the cursor continues.
    pub fn sequence(&self) -> u64 {
        self.next - 1
    }

    /// How many events the cursor has not taken yet.
    pub fn lag(&self) -> u64 {
        (self.journal.head() + 1).saturating_sub(self.next)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.journal.0.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
