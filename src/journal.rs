//! The journal: every lifecycle event, numbered without holes, in a bounded ring; and cursors on it.
//!
//! A subscriber is a cursor and nothing else: it has no queue of its own, so a slow one costs nothing and delays nobody.
//! One that falls off the ring's end is told so ([`Gap`]); there is no silent loss. Knows nothing of gRPC.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::Event;

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

/// A subscriber's place in the journal.
#[derive(Debug)]
pub struct Cursor {
    journal: Journal,
    head: watch::Receiver<u64>,
    next: u64,
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
    /// Gaps told to subscribers so far.
    pub gaps: u64,
}

#[derive(Debug)]
struct Inner {
    epoch: u64,
    capacity: Capacity,
    ring: Mutex<Ring>,
    head: watch::Sender<u64>,
    subscribers: AtomicUsize,
    gaps: AtomicU64,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    next: u64,
}

// === impl Journal ===

impl Journal {
    /// An empty journal. `epoch` tells it from the journal of another run: positions of one mean nothing in another.
    pub fn new(capacity: Capacity, epoch: u64) -> Self {
        let ring = Ring { events: VecDeque::new(), bytes: 0, next: 1 };
        Self(Arc::new(Inner {
            epoch,
            capacity,
            ring: Mutex::new(ring),
            head: watch::Sender::new(0),
            subscribers: AtomicUsize::new(0),
            gaps: AtomicU64::new(0),
        }))
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Appends events, giving each its number, and returns the head. The events are told as one: nobody sees the first
    /// without the last.
    pub fn append(&self, events: impl IntoIterator<Item = Event>) -> u64 {
        let mut ring = self.0.ring.lock();
        for mut event in events {
            event.sequence = ring.next;
            ring.push(Arc::new(event), self.0.capacity);
        }
        let head = ring.next - 1;
        // Under the lock, so that the head never goes back.
        self.0.head.send_if_modified(|told| std::mem::replace(told, head) != head);
        head
    }

    /// Sequence number of the newest event; 0 before the first.
    pub fn head(&self) -> u64 {
        *self.0.head.borrow()
    }

    /// Where the journal stands.
    pub fn extent(&self) -> Extent {
        let ring = self.0.ring.lock();
        Extent {
            oldest: ring.oldest(),
            head: ring.next - 1,
            events: ring.events.len(),
            bytes: ring.bytes,
            evicted: ring.oldest() - 1,
            subscribers: self.0.subscribers.load(Ordering::Relaxed),
            gaps: self.0.gaps.load(Ordering::Relaxed),
        }
    }

    /// A cursor that goes on after event number `after`: 0 for all that is held, the head for what is new.
    pub fn cursor(&self, after: u64) -> Cursor {
        self.0.subscribers.fetch_add(1, Ordering::Relaxed);
        Cursor { journal: self.clone(), head: self.0.head.subscribe(), next: after.saturating_add(1) }
    }
}

// === impl Ring ===

impl Ring {
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    fn push(&mut self, event: Arc<Event>, capacity: Capacity) {
        self.bytes += weight(&event);
        self.events.push_back(event);
        self.next += 1;
        // The newest event always stays, however small the ring.
        while self.events.len() > 1 && (self.events.len() > capacity.events || self.bytes > capacity.bytes) {
            if let Some(evicted) = self.events.pop_front() {
                self.bytes -= weight(&evicted);
            }
        }
    }
}

// === impl Cursor ===

impl Cursor {
    /// The next event, as soon as there is one.
    ///
    /// # Errors
    ///
    /// [`Gap`] if it is no longer held. The next call goes on with the oldest event that is.
    pub async fn next(&mut self) -> Result<Arc<Event>, Gap> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The sender is in the journal that this cursor holds; so it is there.
            let next = self.next;
            if self.head.wait_for(|head| *head >= next).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    ///
    /// As [`Cursor::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Gap> {
        let ring = self.journal.0.ring.lock();
        let oldest = ring.oldest();
        if self.next < oldest {
            let gap = Gap { from: self.next, to: oldest - 1 };
            self.next = oldest;
            self.journal.0.gaps.fetch_add(1, Ordering::Relaxed);
            return Err(gap);
        }
        let event = usize::try_from(self.next - oldest).ok().and_then(|at| ring.events.get(at).cloned());
        self.next += u64::from(event.is_some());
        Ok(event)
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

/// What an event takes in memory. Its pod's identity and names are shared with the cache.
fn weight(event: &Event) -> usize {
    size_of::<Event>() + event.reason.len() + event.id.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Wall,
        model::{EventType, PodIdentity, Source, Subject},
    };

    fn event(id: &str) -> Event {
        Event {
            sequence: 0,
            kind: EventType::ContainerStarted,
            subject: Subject::Container,
            pod: PodIdentity { uid: "uid".into(), namespace: "ns".into(), name: "pod".into() },
            id: id.into(),
            container_name: "c".into(),
            source: Source::Event,
            occurred_at: None,
            observed_at: Wall::default(),
            stamped_at: None,
            exit_code: None,
            reason: String::new(),
            inferred: false,
        }
    }

    fn journal(events: usize) -> Journal {
        Journal::new(Capacity { events, bytes: usize::MAX }, 7)
    }

    #[tokio::test]
    async fn events_are_numbered_without_holes_and_come_in_order() {
        let journal = journal(100);
        let mut cursor = journal.cursor(0);
        assert_eq!(journal.append([event("a"), event("b")]), 2);
        assert_eq!(journal.append([]), 2);
        assert_eq!(journal.append([event("c")]), 3);
        for (sequence, id) in [(1, "a"), (2, "b"), (3, "c")] {
            let event = cursor.next().await.unwrap();
            assert_eq!((event.sequence, event.id.as_str()), (sequence, id));
        }
        assert_eq!(cursor.try_next(), Ok(None));
        assert_eq!(cursor.lag(), 0);
    }

    #[tokio::test]
    async fn a_cursor_wakes_up_when_there_is_something() {
        let journal = journal(100);
        let mut cursor = journal.cursor(journal.head());
        let waiting = tokio::spawn(async move { cursor.next().await.unwrap().sequence });
        tokio::task::yield_now().await;
        journal.append([event("a")]);
        assert_eq!(waiting.await.unwrap(), 1);
    }

    #[test]
    fn what_falls_off_the_ring_is_a_gap_that_is_told_once() {
        let journal = journal(3);
        let mut cursor = journal.cursor(0);
        journal.append((0..10).map(|n| event(&n.to_string())));
        assert_eq!(cursor.try_next(), Err(Gap { from: 1, to: 7 }));
        let left: Vec<_> =
            std::iter::from_fn(|| cursor.try_next().unwrap()).map(|event| event.sequence).collect();
        assert_eq!(left, [8, 9, 10]);
        let extent = journal.extent();
        assert_eq!(
            (extent.oldest, extent.head, extent.events, extent.evicted, extent.gaps),
            (8, 10, 3, 7, 1)
        );
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_too() {
        let one = weight(&event("x"));
        let journal = Journal::new(Capacity { events: 1000, bytes: 5 * one }, 7);
        journal.append((0..100).map(|_| event("x")));
        assert_eq!((journal.extent().events, journal.extent().bytes), (5, 5 * one));
        let journal = Journal::new(Capacity { events: 1000, bytes: 1 }, 7);
        journal.append([event("x"), event("y")]);
        assert_eq!(journal.extent().events, 1);
    }

    #[test]
    fn subscribers_are_counted_while_they_live() {
        let journal = journal(3);
        let cursors = [journal.cursor(0), journal.cursor(0)];
        assert_eq!(journal.extent().subscribers, 2);
        drop(cursors);
        assert_eq!(journal.extent().subscribers, 0);
    }
}
