//! A subscriber's place in the journal.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{Journal, Record};

/// A subscriber's place in the journal.
#[derive(Debug)]
pub struct Cursor {
    journal: Journal,
    /// Tells that there is something to take; what it says may lag behind the journal.
    head: watch::Receiver<u64>,
    next: u64,
    progress: Arc<Progress>,
}

/// How far a cursor has come, for others to see.
#[derive(Debug, Default)]
pub struct Progress {
    sequence: AtomicU64,
}

// === impl Progress ===

impl Progress {
    /// Number of the last event that was taken, or that was to be gone on after.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }
}

/// The events from `from` to `to` are no longer in the ring: read the cache afresh. The cursor goes on after `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events {from} to {to} are no longer held: the subscriber is too slow or came too late")]
pub struct Gap {
    /// First event that is missing.
    pub from: u64,
    /// Last event that is missing.
    pub to: u64,
}

// === impl Cursor ===

impl Cursor {
    /// A cursor that goes on after event number `after`, and is woken up by `head`.
    pub(crate) fn new(journal: Journal, head: watch::Receiver<u64>, after: u64) -> Self {
        journal.0.subscribers.fetch_add(1, Ordering::Relaxed);
        let mut cursor = Self { journal, head, next: 0, progress: Arc::default() };
        cursor.seek(after);
        cursor
    }

    /// The next event, as soon as there is one.
    ///
    /// # Errors
    ///
    /// [`Gap`] if it is no longer held. The next call goes on with the oldest event that is.
    pub async fn next(&mut self) -> Result<Arc<Record>, Gap> {
        loop {
            if let Some(record) = self.try_next()? {
                return Ok(record);
            }
            self.ready().await;
        }
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    ///
    /// As [`Cursor::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Record>>, Gap> {
        let ring = self.journal.0.ring.lock();
        let oldest = ring.oldest();
        if self.next < oldest {
            let gap = Gap { from: self.next, to: oldest - 1 };
            self.next = oldest;
            self.progress.sequence.store(oldest - 1, Ordering::Relaxed);
            self.journal.0.gaps.fetch_add(1, Ordering::Relaxed);
            return Err(gap);
        }
        let record = ring.get(self.next).cloned();
        if record.is_some() {
            self.progress.sequence.store(self.next, Ordering::Relaxed);
            self.next += 1;
        }
        Ok(record)
    }

    /// Goes on after event number `after`.
    pub fn seek(&mut self, after: u64) {
        self.next = after.saturating_add(1);
        self.progress.sequence.store(after, Ordering::Relaxed);
    }

    /// How far it has come, now and later.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Until there is something to take.
    pub async fn ready(&mut self) {
        // The sender is in the journal that this cursor holds, or lives as long as those who serve.
        let next = self.next;
        if self.head.wait_for(|head| *head >= next).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Number of the last event that was taken, or that was to be gone on after.
    pub fn sequence(&self) -> u64 {
        self.next - 1
    }

    /// How many events there are that this cursor has not yet taken.
    pub fn lag(&self) -> u64 {
        (self.journal.head() + 1).saturating_sub(self.next)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.journal.0.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
