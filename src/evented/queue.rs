//! The queue between the stream and the arbiter. Sending never waits and takes no lock.
//!
//! Two limits, each by number and by bytes, bound it. Past the first limit, payloads are stripped to the phase, times and exit of the one
//! container or sandbox that an event is about. Past the second, events are refused, and the stream is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::{cri::RawEvent, metrics::Metrics};

/// Past these limits payloads are stripped. Past twice these limits events are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftLimits {
    /// Number of waiting events.
    pub messages: usize,
    /// Size of the waiting events.
    pub bytes: usize,
}

/// The sending end.
pub struct Sender {
    events: mpsc::UnboundedSender<(RawEvent, usize)>,
    load: Arc<Load>,
    limits: SoftLimits,
    metrics: Arc<Metrics>,
}

/// The receiving end.
pub struct Queue {
    events: mpsc::UnboundedReceiver<(RawEvent, usize)>,
    load: Arc<Load>,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Debug, Default)]
struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// A queue with these limits.
pub fn queue(limits: SoftLimits, metrics: Arc<Metrics>) -> (Sender, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    (Sender { events: sender, load: load.clone(), limits, metrics }, Queue { events: receiver, load })
}

// === impl Sender ===

impl Sender {
    /// Enqueues an event.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] past twice the limits.
    pub fn send(&self, mut event: RawEvent) -> Result<(), QueueFull> {
        let messages = self.load.messages.load(Ordering::Relaxed);
        let bytes = self.load.bytes.load(Ordering::Relaxed);
        let mut size = event.bytes();
        let strip = messages >= self.limits.messages || bytes + size > self.limits.bytes;
        if strip {
            event.strip_payload();
            size = event.bytes();
        }
        if messages >= 2 * self.limits.messages || bytes + size > 2 * self.limits.bytes {
            return Err(QueueFull);
        }
        self.metrics.stream.queue_trimmed.inc_by(strip.into());
        self.load.messages.fetch_add(1, Ordering::Relaxed);
        self.load.bytes.fetch_add(size, Ordering::Relaxed);
        // The receiver is gone only at shutdown.
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

    /// A function that returns the number and the size of the waiting events.
    pub fn load(&self) -> impl Fn() -> (usize, usize) + Send + Sync + 'static {
        let load = self.load.clone();
        move || (load.messages.load(Ordering::Relaxed), load.bytes.load(Ordering::Relaxed))
    }

    /// Whether no event waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerState, Detail};

    fn event() -> RawEvent {
        RawEvent::of_exit("a", &["a", "another"])
    }

    async fn details(queue: &mut Queue) -> Vec<Detail> {
        let mut details = Vec::new();
        while !queue.is_empty() {
            details.extend(queue.next().await.map(|event| event.into_parts().detail));
        }
        details
    }

    #[tokio::test]
    async fn past_the_first_limit_events_are_stripped_and_past_the_second_refused() {
        let metrics = Arc::new(Metrics::new());
        let (sender, mut queue) = queue(SoftLimits { messages: 3, bytes: usize::MAX / 4 }, metrics.clone());
        let sent: Vec<_> = (0..8).map(|_| sender.send(event())).collect();
        assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), 6);
        assert_eq!(sent[6..], [Err(QueueFull), Err(QueueFull)]);
        assert_eq!(metrics.stream.queue_trimmed.get(), 3);
        use Detail::{Full, Minimal};
        assert_eq!(details(&mut queue).await, [Full, Full, Full, Minimal, Minimal, Minimal]);
        assert_eq!(queue.load()(), (0, 0));
        assert_eq!(sender.send(event()), Ok(()));
        assert_eq!(details(&mut queue).await, [Full], "below the limits again");
    }

    #[tokio::test]
    async fn bytes_are_limited_too() {
        let size = event().bytes();
        let (sender, mut queue) =
            queue(SoftLimits { messages: 1000, bytes: 2 * size }, Arc::new(Metrics::new()));
        let taken = (0..1000).take_while(|_| sender.send(event()).is_ok()).count();
        let (messages, bytes) = queue.load()();
        assert_eq!(messages, taken);
        assert!((3 * size..=4 * size).contains(&bytes), "{bytes} of {size} each");
        assert!(taken > 4, "stripped events are smaller: {taken}");
        assert_eq!(details(&mut queue).await.iter().filter(|detail| **detail == Detail::Full).count(), 2);
    }

    #[tokio::test]
    async fn a_stripped_event_keeps_the_phase_and_exit_of_its_container() {
        let (sender, mut queue) = queue(SoftLimits { messages: 0, bytes: 1 << 20 }, Arc::new(Metrics::new()));
        assert_eq!(sender.send(event()), Err(QueueFull), "twice 0 is 0");
        let mut stripped = event();
        stripped.strip_payload();
        let parts = stripped.into_parts();
        assert_eq!(parts.event.id.as_str(), "a");
        let [container] = &parts.containers[..] else { panic!("only its own: {:?}", parts.containers) };
        assert_eq!((container.state, container.exit_code), (ContainerState::Exited, Some(3)));
        assert_eq!((container.reason.as_str(), &*container.name, container.attempt), ("Error", "c", 2));
        assert_eq!((container.message.as_str(), container.image_ref.as_str()), ("", ""));
        drop(sender);
        assert!(queue.next().await.is_none(), "ends with its sender");
    }
}
