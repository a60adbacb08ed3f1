//! The journal: every lifecycle event, numbered without holes, in a bounded ring; and cursors on it.
//!
//! A subscriber is a cursor and nothing else: it has no queue of its own, so a slow one costs nothing and delays nobody.
//! One that falls off the ring's end is told so ([`Gap`]); there is no silent loss. What is told to many is encoded once
//! and kept with the event; how, is for others to know: this room knows nothing of gRPC.
//!
//! A pod's new state is served to the cache's readers in the moment in which its events are appended. So whoever looks at
//! both within [`Journal::still`] sees them agree.

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
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::{
    cursor::{Cursor, Progress},
    record::{Detail, Record},
};
use crate::{
    cache::CachedPod,
    model::{Event, Pod, PodIdentity, Position, ResumeGap},
};

/// How many of the newest events keep what they were encoded as.
const NEAR_HEAD: u64 = 1024;

/// The journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

/// How much the ring holds; whichever is reached first evicts the oldest events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Events.
    pub events: usize,
    /// Bytes, counted as an event takes in memory.
    pub bytes: usize,
}

/// Where the journal stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Sequence number of the oldest event that is held; one past the head if none is.
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
    /// Gaps so far of subscribers that fell behind.
    pub gaps: u64,
    /// Gaps so far of subscribers that resumed, by [`ResumeGap`].
    pub resume_gaps: [u64; ResumeGap::ALL.len()],
}

#[derive(Debug)]
struct Inner {
    epoch: u64,
    capacity: Capacity,
    ring: Mutex<Ring>,
    head: watch::Sender<u64>,
    subscribers: AtomicUsize,
    gaps: AtomicU64,
    resume_gaps: [AtomicU64; ResumeGap::ALL.len()],
}

#[derive(Debug)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    next: u64,
    /// Number of the newest record that is held of each pod.
    newest: HashMap<PodIdentity, u64>,
}

// === impl Journal ===

impl Journal {
    /// An empty journal. `epoch` tells it from the journal of another run: positions of one mean nothing in another.
    pub fn new(capacity: Capacity, epoch: u64) -> Self {
        let ring = Ring { records: VecDeque::new(), bytes: 0, next: 1, newest: HashMap::new() };
        Self(Arc::new(Inner {
            epoch,
            capacity,
            ring: Mutex::new(ring),
            head: watch::Sender::new(0),
            subscribers: AtomicUsize::new(0),
            gaps: AtomicU64::new(0),
            resume_gaps: Default::default(),
        }))
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Appends the events of one change of a pod, giving each its number, and serves what the pod then is. Both are told as
    /// one: nobody sees the first event without the last, nor the pod without them.
    pub(crate) fn append(&self, events: Vec<Event>, after: Option<Pod>, cached: &CachedPod) {
        let mut ring = self.0.ring.lock();
        let head = ring.next - 1 + events.len() as u64;
        let after = after.map(|pod| Arc::new(Pod { sequence: head, ..pod }));
        for event in events {
            ring.push(event, after.clone(), head, self.0.capacity);
        }
        cached.publish(after);
        // Under the lock, so that the head never goes back.
        self.0.head.send_if_modified(|told| std::mem::replace(told, head) != head);
    }

    /// Looks at something while nothing can be appended, and at the head beside it. `look` must be brief.
    pub fn still<R>(&self, look: impl FnOnce() -> R) -> (Position, R) {
        let ring = self.0.ring.lock();
        (self.position(ring.next - 1), look())
    }

    /// The record as bytes that are sent. Near the head, where many read at the same time, they are made once and then kept
    /// as long as the record is; one who catches up must not evict with them what others have still to read.
    pub fn encoded(&self, record: &Record, detail: Detail, encode: impl FnOnce(&Record) -> Bytes) -> Bytes {
        if record.encoded[detail as usize].get().is_none() && self.head() > record.event.sequence + NEAR_HEAD
        {
            return encode(record);
        }
        let mut made = 0;
        let bytes = record.encoded[detail as usize].get_or_init(|| {
            let bytes = encode(record);
            made = bytes.len();
            bytes
        });
        if made > 0 {
            self.0.ring.lock().grow(record, made, self.0.capacity);
        }
        bytes.clone()
    }

    /// The newest event of the same pod, if it is of a later change than this one.
    pub fn superseding(&self, record: &Record) -> Option<Arc<Record>> {
        let ring = self.0.ring.lock();
        let newest = *ring.newest.get(&record.event.pod)?;
        (newest > record.change_ends).then(|| ring.get(newest).cloned())?
    }

    /// Sequence number of the newest event; 0 before the first.
    pub fn head(&self) -> u64 {
        *self.0.head.borrow()
    }

    /// How much it holds at most.
    pub fn capacity(&self) -> Capacity {
        self.0.capacity
    }

    /// A place in this journal.
    pub fn position(&self, sequence: u64) -> Position {
        Position { epoch: self.0.epoch, sequence }
    }

    /// Where the journal stands.
    pub fn extent(&self) -> Extent {
        let ring = self.0.ring.lock();
        Extent {
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

    /// Counts a gap of a subscriber that resumes after a position that this journal cannot continue.
    pub(crate) fn count_resume_gap(&self, cause: ResumeGap) {
        self.0.resume_gaps[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The newest events up to this number, oldest first: what has been told lately, for whoever only now begins to look.
    pub fn lately(&self, up_to: u64, at_most: usize) -> Vec<Arc<Record>> {
        let ring = self.0.ring.lock();
        let past = ring.records.iter().rev().skip_while(|record| record.event.sequence > up_to);
        let mut records: Vec<_> = past.take(at_most).cloned().collect();
        records.reverse();
        records
    }

    /// A cursor that goes on after event number `after`: 0 for all that is held, the head for what is new.
    pub fn cursor(&self, after: u64) -> Cursor {
        Cursor::new(self.clone(), self.heads(), after)
    }

    /// Tells the head, each time that it has moved.
    pub(crate) fn heads(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe()
    }
}

// === impl Ring ===

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - self.records.len() as u64
    }

    fn get(&self, sequence: u64) -> Option<&Arc<Record>> {
        let at = usize::try_from(sequence.checked_sub(self.oldest())?).ok()?;
        self.records.get(at)
    }

    fn push(&mut self, event: Event, after: Option<Arc<Pod>>, change_ends: u64, capacity: Capacity) {
        let event = Event { sequence: self.next, ..event };
        let before = self.newest.insert(event.pod.clone(), self.next);
        let before = before.and_then(|sequence| self.get(sequence));
        let record = Record::new(event, after, change_ends, before.and_then(|before| before.pod.as_deref()));
        self.bytes += record.weight();
        self.records.push_back(Arc::new(record));
        self.next += 1;
        self.evict(capacity);
    }

    /// A record takes more bytes than before.
    fn grow(&mut self, record: &Record, by: usize, capacity: Capacity) {
        // One that has left the ring is no longer counted.
        if record.event.sequence >= self.oldest() {
            record.add_weight(by);
            self.bytes += by;
            self.evict(capacity);
        }
    }

    fn evict(&mut self, capacity: Capacity) {
        // The newest event always stays, however small the ring.
        while self.records.len() > 1 && (self.records.len() > capacity.events || self.bytes > capacity.bytes)
        {
            let Some(evicted) = self.records.pop_front() else { return };
            self.bytes -= evicted.weight();
            let pod = &evicted.event.pod;
            if self.newest.get(pod) == Some(&evicted.event.sequence) {
                self.newest.remove(pod);
            }
        }
    }
}

#[cfg(test)]
mod tests;
