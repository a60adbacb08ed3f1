//! The event queues of the runtimes: which subscriber of GetContainerEvents gets which events, and which are lost.
//!
//! Owns the queue and its subscribers. The rules of each kind are in `queue`, without I/O; this file adds locking and
//! wakeups. Like the runtimes' queues it is in memory only, and a restart empties it.

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

/// Counts of events by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Events passed to the queue.
    pub sent: u64,
    /// Events that a live subscriber received; an event for two subscribers counts twice.
    pub delivered: u64,
    /// Events handed to a subscriber whose client is gone, or to none.
    pub lost: u64,
    /// Events dropped because the channel was full, or because no client can subscribe.
    pub dropped: u64,
    /// Events that expired while there was no subscriber.
    pub expired: u64,
}

/// An event that a live subscriber received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When it was received.
    pub at: Mono,
    /// The subscriber; subscribers are numbered in the order of their subscription.
    pub subscriber: u64,
    /// The container or sandbox.
    pub id: String,
    /// The type's number.
    pub kind: i32,
    /// Its timestamp.
    pub created_at: i64,
}

/// A subscriber's stream. The runtime notices its end only when it sends the next event.
#[derive(Debug)]
pub struct Subscription {
    queue: EventQueue,
    id: u64,
}

/// Lets a life-cycle call wait until the queue has taken its event.
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

    /// Sends an event. Life-cycle calls await the ticket; spontaneous events (an exit) block no caller.
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

    /// Ends every stream now, with this status or with OK.
    pub fn end_streams(&self, status: Option<Status>) {
        self.0.queue.lock().end_all(&status.map_or(End::Clean, End::Failed));
        self.0.moved.notify_waiters();
    }

    /// Empties the queue, as a restart does.
    pub fn reset(&self) {
        self.0.queue.lock().reset();
        self.0.moved.notify_waiters();
    }

    /// Counts of events by outcome.
    pub fn counts(&self) -> EventCounts {
        self.0.queue.lock().counts
    }

    /// The latest 65,536 deliveries, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.0.queue.lock().deliveries.iter().cloned().collect()
    }

    /// Whether the departure of a client has crashed the process (cri-o#9004).
    pub(super) fn panicked(&self) -> bool {
        self.0.queue.lock().panicked
    }

    /// Subscribers, including those whose end the runtime has not noticed.
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
            // A slot became free: a sender may go on.
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
    /// Waits until the queue has taken the event. No timeout: the runtimes have none either.
    pub async fn taken(self) {
        loop {
            let mut moved = std::pin::pin!(self.queue.0.moved.notified());
            // Registers before the check, so that no move in between is missed.
            moved.as_mut().enable();
            if self.queue.0.queue.lock().has_taken(self.era, self.number) {
                return;
            }
            moved.await;
        }
    }
}
