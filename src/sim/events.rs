//! The event queues of the runtimes: what GetContainerEvents sends to whom, and what is lost on the way.
//!
//! Owns the queue and its subscribers. Each kind is a set of rules in `queue`, without I/O; this file is the shell that
//! wakes who waits. Like the runtimes' queues it lives in memory only, and a restart empties it.

mod queue;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Status;

use super::{profile::Events, v1::ContainerEventResponse};
use crate::clock::{Clock, Mono};
use queue::{End, Queue};

/// The queue of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventQueue(Arc<Inner>);

/// What became of the events so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Events that the runtime's code began to send.
    pub sent: u64,
    /// Events that a live subscriber's stream took; one that goes to two subscribers counts twice.
    pub delivered: u64,
    /// Events that a subscriber took which was gone already.
    pub eaten: u64,
    /// Events that were dropped because the channel was full, or because nobody can ever subscribe.
    pub dropped: u64,
    /// Events that grew too old while nobody was subscribed.
    pub expired: u64,
}

/// An event that a live subscriber's stream took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub at: Mono,
    /// To whom; subscribers are numbered in the order in which they came.
    pub subscriber: u64,
    /// The container or sandbox.
    pub id: String,
    /// The type's number.
    pub kind: i32,
    /// Its stamp.
    pub created_at: i64,
}

/// A subscriber: a stream of events that the runtime notices the end of only when it sends the next one.
#[derive(Debug)]
pub struct Subscription {
    queue: EventQueue,
    id: u64,
}

/// The wait of a life-cycle call until the queue has taken its event.
#[derive(Debug)]
#[must_use = "a life-cycle call goes on only when the queue has taken its event"]
pub struct Ticket {
    queue: EventQueue,
    era: u64,
    number: u64,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    queue: Mutex<Queue>,
    moved: Notify,
}

// === impl EventQueue ===

impl EventQueue {
    /// An empty queue.
    pub fn new(kind: Events, clock: Clock, seed: u64) -> Self {
        let queue = Mutex::new(Queue::new(kind, fastrand::Rng::with_seed(seed)));
        Self(Arc::new(Inner { clock, queue, moved: Notify::new() }))
    }

    /// Sends an event. Life-cycle calls await the ticket; what happens by itself (an exit) does not hold anybody up.
    pub fn send(&self, event: ContainerEventResponse) -> Ticket {
        let now = self.0.clock.now();
        let (era, number) = self.0.queue.lock().send(event, now);
        self.0.moved.notify_waiters();
        Ticket { queue: self.clone(), era, number }
    }

    /// A new subscriber.
    pub fn subscribe(&self) -> Subscription {
        let now = self.0.clock.now();
        let id = self.0.queue.lock().subscribe(now);
        self.0.moved.notify_waiters();
        Subscription { queue: self.clone(), id }
    }

    /// Ends every stream now, with that status or cleanly.
    pub fn end_streams(&self, status: Option<Status>) {
        self.0.queue.lock().end_all(&status.map_or(End::Clean, End::Failed));
        self.0.moved.notify_waiters();
    }

    /// Empties the queue, as a restart does.
    pub fn reset(&self) {
        self.0.queue.lock().reset();
        self.0.moved.notify_waiters();
    }

    /// What became of the events so far.
    pub fn counts(&self) -> EventCounts {
        self.0.queue.lock().counts
    }

    /// The latest deliveries, oldest first; those before the last 65,536 are forgotten.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.0.queue.lock().deliveries.iter().cloned().collect()
    }

    /// Whether the departure of a client has brought the process down (cri-o#9004).
    pub(super) fn panicked(&self) -> bool {
        self.0.queue.lock().panicked
    }

    /// Subscribers, those included that are gone without the runtime's knowing.
    pub fn subscribers(&self) -> usize {
        self.0.queue.lock().subscribers.len()
    }

    /// Events whose senders are blocked.
    pub fn blocked(&self) -> usize {
        self.0.queue.lock().input.len()
    }
}

// === impl Subscription ===

impl Stream for Subscription {
    type Item = Result<ContainerEventResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let now = self.queue.0.clock.now();
        let polled = self.queue.0.queue.lock().poll(self.id, now, cx.waker());
        if polled.is_ready() {
            // A slot became free, so a sender may go on.
            self.queue.0.moved.notify_waiters();
        }
        polled
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let now = self.queue.0.clock.now();
        self.queue.0.queue.lock().leave(self.id, now);
        self.queue.0.moved.notify_waiters();
    }
}

// === impl Ticket ===

impl Ticket {
    /// Waits until the queue has taken the event, without a limit: the runtimes have none either.
    pub async fn taken(self) {
        loop {
            let mut moved = std::pin::pin!(self.queue.0.moved.notified());
            // Registers before looking, so that no move in between is missed.
            moved.as_mut().enable();
            if self.queue.0.queue.lock().has_taken(self.era, self.number) {
                return;
            }
            moved.await;
        }
    }
}
