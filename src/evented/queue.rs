//! The queue between the stream and the arbiter. Sending never waits and takes no lock.
//!
//! Bounded in two steps, by number and by bytes: past the first limit events are cut down to what tells the life of the one
//! container they are about; past the second they are refused, and the stream is given up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::{cri::RawEvent, metrics::Metrics};

/// When events are cut down. At twice as much they are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that wait.
    pub messages: usize,
    /// Bytes that they take.
    pub bytes: usize,
}

/// The sending end.
pub struct Sender {
    events: mpsc::UnboundedSender<(RawEvent, usize)>,
    load: Arc<Load>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// The receiving end.
pub struct Queue {
    events: mpsc::UnboundedReceiver<(RawEvent, usize)>,
    load: Arc<Load>,
}

/// No more fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Default)]
struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// A queue with these limits.
pub fn queue(limits: Limits, metrics: Arc<Metrics>) -> (Sender, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    (Sender { events: sender, load: load.clone(), limits, metrics }, Queue { events: receiver, load })
}

// === impl Sender ===

impl Sender {
    /// Hands an event over.
    ///
    /// # Errors
    ///
    /// [`Full`] past twice the limits.
    pub fn send(&self, mut event: RawEvent) -> Result<(), Full> {
        let messages = self.load.messages.load(Ordering::Relaxed);
        let bytes = self.load.bytes.load(Ordering::Relaxed);
        if messages >= 2 * self.limits.messages || bytes >= 2 * self.limits.bytes {
            return Err(Full);
        }
        if messages >= self.limits.messages || bytes >= self.limits.bytes {
            event.trim();
            self.metrics.stream.queue_trimmed.inc();
        }
        let size = event.bytes();
        self.load.messages.fetch_add(1, Ordering::Relaxed);
        self.load.bytes.fetch_add(size, Ordering::Relaxed);
        // Nobody receives any more only at shutdown.
        let _ = self.events.send((event, size));
        Ok(())
    }
}

// === impl Queue ===

impl Queue {
    /// The next event; none once the sending end is gone.
    pub async fn next(&mut self) -> Option<RawEvent> {
        let (event, size) = self.events.recv().await?;
        self.load.messages.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(size, Ordering::Relaxed);
        Some(event)
    }

    /// How many events wait, and how many bytes they take, at any later time.
    pub fn load(&self) -> impl Fn() -> (usize, usize) + Send + Sync + 'static {
        let load = self.load.clone();
        move || (load.messages.load(Ordering::Relaxed), load.bytes.load(Ordering::Relaxed))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
