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
        let mut size = event.bytes();
        let cut_down = messages >= self.limits.messages || bytes + size > self.limits.bytes;
        if cut_down {
            event.strip_payload();
            size = event.bytes();
        }
        if messages >= 2 * self.limits.messages || bytes + size > 2 * self.limits.bytes {
            return Err(Full);
        }
        self.metrics.stream.queue_trimmed.inc_by(cut_down.into());
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
    async fn past_the_first_limit_events_are_cut_down_and_past_the_second_refused() {
        let metrics = Arc::new(Metrics::new());
        let (sender, mut queue) = queue(Limits { messages: 3, bytes: usize::MAX / 4 }, metrics.clone());
        let sent: Vec<_> = (0..8).map(|_| sender.send(event())).collect();
        assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), 6);
        assert_eq!(sent[6..], [Err(Full), Err(Full)]);
        assert_eq!(metrics.stream.queue_trimmed.get(), 3);
        use Detail::{Full as Whole, Minimal};
        assert_eq!(details(&mut queue).await, [Whole, Whole, Whole, Minimal, Minimal, Minimal]);
        assert_eq!(queue.load()(), (0, 0));
        assert_eq!(sender.send(event()), Ok(()));
        assert_eq!(details(&mut queue).await, [Whole], "room again");
    }

    #[tokio::test]
    async fn bytes_are_limited_too() {
        let size = event().bytes();
        let (sender, mut queue) = queue(Limits { messages: 1000, bytes: 2 * size }, Arc::new(Metrics::new()));
        let taken = (0..1000).take_while(|_| sender.send(event()).is_ok()).count();
        let (messages, bytes) = queue.load()();
        assert_eq!(messages, taken);
        assert!((3 * size..=4 * size).contains(&bytes), "{bytes} of {size} each");
        assert!(taken > 4, "what is cut down takes less: {taken}");
        assert_eq!(details(&mut queue).await.iter().filter(|detail| **detail == Detail::Full).count(), 2);
    }

    #[tokio::test]
    async fn what_is_cut_down_still_tells_the_life_of_its_container() {
        let (sender, mut queue) = queue(Limits { messages: 0, bytes: 1 << 20 }, Arc::new(Metrics::new()));
        assert_eq!(sender.send(event()), Err(Full), "twice nothing is nothing");
        let mut cut = event();
        cut.strip_payload();
        let parts = cut.into_parts();
        assert_eq!(parts.event.id.as_str(), "a");
        let [container] = &parts.containers[..] else { panic!("only its own: {:?}", parts.containers) };
        assert_eq!((container.state, container.exit_code), (ContainerState::Exited, Some(3)));
        assert_eq!((container.reason.as_str(), &*container.name, container.attempt), ("Error", "c", 2));
        assert_eq!((container.message.as_str(), container.image_ref.as_str()), ("", ""));
        drop(sender);
        assert!(queue.next().await.is_none(), "ends with its sender");
    }
}
