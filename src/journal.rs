//! The journal: every lifecycle event, numbered without holes, in a bounded ring; and cursors on it.
//!
//! A subscriber is a cursor without a queue of its own, so that a slow subscriber costs nothing and delays no other. A cursor whose next
//! event was evicted gets [`Evicted`]; no event is lost silently. Each event is encoded once for all subscribers. The caller encodes: the
//! journal does not depend on gRPC.
//!
//! A pod's new state becomes visible in the cache in the same moment in which its events are appended. [`Journal::at_head`] reads both
//! consistently.

mod cursor;
mod record;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

pub use self::{
    cursor::{Cursor, Progress},
    record::{Detail, Record},
};
use crate::{
    cache::CachedPod,
    model::{Event, Pod, PodIdentity, Position, Restart, ResumeGap},
};

/// How many of the newest events keep their encoded bytes.
const ENCODED_NEAR_HEAD: u64 = 1024;
/// How many restarts are kept for subscribers that resume: more than a node that works has within its journal.
const RESTARTS_KEPT: usize = 64;

/// The journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

/// The limits of the ring. When either is reached, the oldest events are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of events.
    pub events: usize,
    /// Bytes in memory.
    pub bytes: usize,
}

/// Statistics of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sequence number of the oldest event in the ring; the head plus one if the ring is empty.
    pub oldest: u64,
    /// Sequence number of the newest event; 0 before the first.
    pub head: u64,
    /// Events held.
    pub events: usize,
    /// Bytes held.
    pub bytes: usize,
    /// Events evicted so far.
    pub evicted: u64,
    /// Cursors.
    pub subscribers: usize,
    /// Gaps of subscribers that fell behind.
    pub gaps: u64,
    /// Gaps of subscribers that resumed, by [`ResumeGap`].
    pub resume_gaps: [u64; ResumeGap::ALL.len()],
}

#[derive(Debug)]
struct Inner {
    epoch: u64,
    capacity: Capacity,
    ring: Mutex<Ring>,
    head: watch::Sender<Head>,
    subscribers: AtomicUsize,
    gaps: AtomicU64,
    resume_gaps: [AtomicU64; ResumeGap::ALL.len()],
}

/// How far the journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the newest event; 0 before the first.
    pub sequence: u64,
    /// Number of restarts.
    pub restarts: u64,
}

/// One change of a pod that is about to be appended. It holds the journal's lock.
pub(crate) struct Append<'a> {
    journal: &'a Inner,
    ring: MutexGuard<'a, Ring>,
}

/// The contents with which a journal continues after a restart of plegd.
#[derive(Debug, Default)]
pub struct Saved {
    /// The epoch.
    pub epoch: u64,
    /// The newest changes: the events of each, and the pod after it.
    pub changes: Vec<(Vec<Event>, Option<Arc<Pod>>)>,
    /// Sequence number of the next event.
    pub next: u64,
    /// Earlier restarts, the oldest first.
    pub restarts: Vec<Restart>,
}

#[derive(Debug)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    next: u64,
    /// Restarts that a subscriber may still be sent, the oldest first.
    restarts: VecDeque<Restart>,
    /// Number of restarts before these.
    restarts_evicted: u64,
    /// Number of the newest record of each pod.
    newest: HashMap<PodIdentity, u64>,
}

// === impl Journal ===

impl Journal {
    /// An empty journal. Positions of one epoch are invalid in another.
    pub fn new(capacity: Capacity, epoch: u64) -> Self {
        Self::restored(capacity, Saved { epoch, next: 1, ..Saved::default() })
    }

    /// A journal that continues with the contents of an earlier process.
    pub fn restored(capacity: Capacity, saved: Saved) -> Self {
        let Saved { epoch, changes, next, restarts } = saved;
        let held: usize = changes.iter().map(|(events, _)| events.len()).sum();
        let mut ring = Ring {
            records: VecDeque::new(),
            bytes: 0,
            next: next - held as u64,
            restarts: restarts.into(),
            restarts_evicted: 0,
            newest: HashMap::new(),
        };
        for (events, after) in changes {
            let last = ring.next - 1 + events.len() as u64;
            events.into_iter().for_each(|event| ring.push(event, after.clone(), last, capacity));
        }
        let head = ring.head();
        Self(Arc::new(Inner {
            epoch,
            capacity,
            ring: Mutex::new(ring),
            head: watch::Sender::new(head),
            subscribers: AtomicUsize::new(0),
            gaps: AtomicU64::new(0),
            resume_gaps: Default::default(),
        }))
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Begins to append one change of a pod. Nothing else is appended until the returned value is dropped.
    pub(crate) fn begin(&self) -> Append<'_> {
        Append { journal: &self.0, ring: self.0.ring.lock() }
    }

    /// The restarts that subscribers may still be sent, the oldest first.
    pub fn restarts(&self) -> Vec<Restart> {
        self.0.ring.lock().restarts.iter().copied().collect()
    }

    /// Calls `read` while no event can be appended, and returns its result with the head. `read` must be fast.
    pub fn at_head<R>(&self, read: impl FnOnce() -> R) -> (Position, R) {
        let ring = self.0.ring.lock();
        (self.position(ring.next - 1), read())
    }

    /// The encoded record. The newest 1,024 events keep their bytes. Older events are encoded for each reader, so that one lagging reader
    /// cannot push newer events out of the byte limit.
    pub fn encoded(&self, record: &Record, detail: Detail, encode: impl FnOnce(&Record) -> Bytes) -> Bytes {
        if record.encoded[detail as usize].get().is_none()
            && self.head() > record.event.sequence + ENCODED_NEAR_HEAD
        {
            return encode(record);
        }
        let mut added = 0;
        let bytes = record.encoded[detail as usize].get_or_init(|| {
            let bytes = encode(record);
            added = bytes.len();
            bytes
        });
        if added > 0 {
            self.0.ring.lock().grow(record, added, self.0.capacity);
        }
        bytes.clone()
    }

    /// The newest event of the same pod, if it belongs to a later change than this one.
    pub fn newer_change(&self, record: &Record) -> Option<Arc<Record>> {
        let ring = self.0.ring.lock();
        let newest = *ring.newest.get(&record.event.pod)?;
        (newest > record.last_of_change).then(|| ring.get(newest).cloned())?
    }

    /// Sequence number of the newest event; 0 before the first.
    pub fn head(&self) -> u64 {
        self.0.head.borrow().sequence
    }

    /// The limits of the ring.
    pub fn capacity(&self) -> Capacity {
        self.0.capacity
    }

    /// The position of a sequence number in this journal.
    pub fn position(&self, sequence: u64) -> Position {
        Position { epoch: self.0.epoch, sequence }
    }

    /// Statistics.
    pub fn stats(&self) -> Stats {
        let ring = self.0.ring.lock();
        Stats {
            oldest: ring.oldest(),
            head: ring.next - 1,
            events: ring.records.len(),
            bytes: ring.bytes,
            evicted: ring.oldest() - 1,
            subscribers: self.0.subscribers.load(Ordering::Relaxed),
            gaps: self.0.gaps.load(Ordering::Relaxed),
            resume_gaps: ResumeGap::ALL
                .map(|cause| self.0.resume_gaps[cause as usize].load(Ordering::Relaxed)),
        }
    }

    /// Counts a gap of a subscriber that resumes from a position which this journal cannot continue.
    pub(crate) fn count_resume_gap(&self, cause: ResumeGap) {
        self.0.resume_gaps[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Up to `limit` newest events with a number of at most `up_to`, the oldest first.
    pub fn recent(&self, up_to: u64, limit: usize) -> Vec<Arc<Record>> {
        let ring = self.0.ring.lock();
        let past = ring.records.iter().rev().skip_while(|record| record.event.sequence > up_to);
        let mut records: Vec<_> = past.take(limit).cloned().collect();
        records.reverse();
        records
    }

    /// A cursor that continues after event number `after`: 0 for all events in the ring, the head for new ones.
    pub fn cursor(&self, after: u64) -> Cursor {
        Cursor::new(self.clone(), self.heads(), after)
    }

    /// A receiver of the head's changes.
    pub(crate) fn heads(&self) -> watch::Receiver<Head> {
        self.0.head.subscribe()
    }
}

// === impl Append ===

impl Append<'_> {
    /// The number that the first event gets.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.ring.next
    }

    /// Appends and numbers the events of the change, and makes the pod after it visible in the cache. This is atomic: no reader observes a
    /// part of it.
    pub(crate) fn commit(mut self, events: Vec<Event>, after: Option<Pod>, cached: &CachedPod) {
        let last = self.ring.next - 1 + events.len() as u64;
        let after = after.map(|pod| Arc::new(Pod { sequence: last, ..pod }));
        for event in events {
            self.ring.push(event, after.clone(), last, self.journal.capacity);
        }
        cached.publish(after);
        self.move_head();
    }

    /// Publishes, after the events appended so far, that plegd was restarted.
    pub(crate) fn commit_restart(mut self, restart: Restart) {
        let oldest = self.ring.oldest();
        self.ring.restarts.push_back(restart);
        // Nobody can resume before the oldest event without a gap.
        while self.ring.restarts.len() > RESTARTS_KEPT
            || self.ring.restarts.front().is_some_and(|first| first.after + 1 < oldest)
        {
            self.ring.restarts.pop_front();
            self.ring.restarts_evicted += 1;
        }
        self.move_head();
    }

    /// Under the lock, so that the head never goes back.
    fn move_head(&self) {
        let head = self.ring.head();
        self.journal.head.send_if_modified(|published| std::mem::replace(published, head) != head);
    }
}

// === impl Ring ===

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - self.records.len() as u64
    }

    fn head(&self) -> Head {
        Head { sequence: self.next - 1, restarts: self.restarts_evicted + self.restarts.len() as u64 }
    }

    /// The first restart that is not before restart number `seen` and comes after event `sequence` or earlier.
    fn restart(&self, seen: u64, sequence: u64) -> Option<Restart> {
        let at = usize::try_from(seen.saturating_sub(self.restarts_evicted)).ok()?;
        self.restarts.get(at).copied().filter(|restart| restart.after <= sequence)
    }

    /// The number of restarts before event `sequence`.
    fn restarts_before(&self, sequence: u64) -> u64 {
        self.restarts_evicted
            + self.restarts.iter().take_while(|restart| restart.after < sequence).count() as u64
    }

    fn get(&self, sequence: u64) -> Option<&Arc<Record>> {
        let at = usize::try_from(sequence.checked_sub(self.oldest())?).ok()?;
        self.records.get(at)
    }

    fn push(&mut self, event: Event, after: Option<Arc<Pod>>, last_of_change: u64, capacity: Capacity) {
        let event = Event { sequence: self.next, ..event };
        let before = self.newest.insert(event.pod.clone(), self.next);
        let before = before.and_then(|sequence| self.get(sequence));
        let record =
            Record::new(event, after, last_of_change, before.and_then(|before| before.pod.as_deref()));
        self.bytes += record.memory_bytes();
        self.records.push_back(Arc::new(record));
        self.next += 1;
        self.evict(capacity);
    }

    /// A record takes `by` more bytes than before.
    fn grow(&mut self, record: &Record, by: usize, capacity: Capacity) {
        // An evicted record is not counted any more.
        if record.event.sequence >= self.oldest() {
            record.add_memory_bytes(by);
            self.bytes += by;
            self.evict(capacity);
        }
    }

    fn evict(&mut self, capacity: Capacity) {
        // The newest event always stays, however small the ring.
        while self.records.len() > 1 && (self.records.len() > capacity.events || self.bytes > capacity.bytes)
        {
            let Some(evicted) = self.records.pop_front() else { return };
            self.bytes -= evicted.memory_bytes();
            let pod = &evicted.event.pod;
            if self.newest.get(pod) == Some(&evicted.event.sequence) {
                self.newest.remove(pod);
            }
        }
    }
}

#[cfg(test)]
mod tests;
