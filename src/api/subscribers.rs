//! The list of subscribers, with counters for each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::access::{ConnectionAbort, Peer};
use crate::{
    accept::DRAIN_TIMEOUT,
    clock::Wall,
    config::Live,
    journal::Journal,
    watch::{Detail, GapReason, Progress, SlowPolicy},
};

/// Time between two checks for subscribers that read nothing.
const STALLED_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// All subscribers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscribers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: Live<usize>,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    last_id: u64,
    by_id: BTreeMap<u64, Arc<Subscriber>>,
}

/// A subscriber's watch.
#[derive(Debug)]
pub struct Subscriber {
    /// The subscriber's number; never reused.
    pub id: u64,
    pub info: SubscriberInfo,
    /// The subscriber's progress.
    pub progress: Arc<Progress>,
    /// Events sent.
    pub events: AtomicU64,
    /// Bytes of messages sent.
    pub bytes: AtomicU64,
    /// Gaps reported to the subscriber.
    pub gaps: AtomicU64,
    /// Gaps that the subscriber did not cause: its position belonged to another epoch.
    pub gaps_of_epoch: AtomicU64,
    /// Ends the stream.
    pub disconnect: CancellationToken,
}

/// A subscriber's identity and request.
#[derive(Debug)]
pub struct SubscriberInfo {
    /// The name that the client gives itself.
    pub client_name: String,
    /// The authenticated peer. `None` without authentication, as over pipes within the process.
    pub peer: Option<Peer>,
    /// Aborts the connection.
    pub abort: Option<ConnectionAbort>,
    /// Start of the watch.
    pub since: Wall,
    /// The filter, as one line.
    pub filter: String,
    pub detail: Detail,
    /// What happens when the subscriber is too slow.
    pub slow_policy: SlowPolicy,
}

/// A subscriber's entry in the list, removed on drop.
#[derive(Debug)]
pub struct Registration {
    subscriber: Arc<Subscriber>,
    list: Subscribers,
}

/// The subscriber limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {0} subscribers is reached (api.subscribers)")]
pub struct SubscriberLimitReached(pub usize);

// === impl Subscribers ===

impl Subscribers {
    /// An empty list. If the limit falls below the number of subscribers, existing ones stay and the next one is refused.
    pub fn new(limit: impl Into<Live<usize>>) -> Self {
        Self(Arc::new(Inner { limit: limit.into(), list: Mutex::default() }))
    }

    /// Adds a subscriber to the list.
    ///
    /// # Errors
    ///
    /// [`SubscriberLimitReached`] if the limit is reached.
    pub fn register(
        &self,
        info: SubscriberInfo,
        progress: Arc<Progress>,
    ) -> Result<Registration, SubscriberLimitReached> {
        let limit = self.0.limit.get();
        let mut list = self.0.list.lock();
        if list.by_id.len() >= limit {
            return Err(SubscriberLimitReached(limit));
        }
        list.last_id += 1;
        let subscriber = Arc::new(Subscriber {
            id: list.last_id,
            info,
            progress,
            events: 0.into(),
            bytes: 0.into(),
            gaps: 0.into(),
            gaps_of_epoch: 0.into(),
            disconnect: CancellationToken::new(),
        });
        list.by_id.insert(subscriber.id, subscriber.clone());
        Ok(Registration { subscriber, list: self.clone() })
    }

    /// All subscribers, from the oldest to the newest.
    pub fn list(&self) -> Vec<Arc<Subscriber>> {
        self.0.list.lock().by_id.values().cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.0.list.lock().by_id.len()
    }

    /// Ends a subscriber's stream, and its connection if it does not read the end of the stream. Returns whether the subscriber existed.
    pub fn disconnect(&self, id: u64) -> bool {
        let Some(subscriber) = self.0.list.lock().by_id.get(&id).cloned() else { return false };
        subscriber.disconnect.cancel();
        let list = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN_TIMEOUT).await;
            if list.0.list.lock().by_id.contains_key(&id) {
                subscriber.abort_connection();
            }
        });
        true
    }

    /// Runs until cancelled. At each interval, aborts connections that read nothing and whose next event has been evicted. They hold a
    /// subscriber slot and the rest of their snapshot, and lose nothing, since they would resume with a gap anyway.
    pub async fn disconnect_stalled(&self, journal: &Journal) {
        let mut before = BTreeMap::new();
        loop {
            tokio::time::sleep(STALLED_CHECK_INTERVAL).await;
            let oldest = journal.stats().oldest;
            let mut now = BTreeMap::new();
            for subscriber in self.list() {
                let bytes = subscriber.bytes.load(Ordering::Relaxed);
                let evicted = subscriber.progress.sequence() + 1 < oldest;
                if evicted && before.get(&subscriber.id) == Some(&bytes) {
                    tracing::info!(
                        id = subscriber.id,
                        client = subscriber.info.client_name,
                        "Disconnecting a subscriber: it reads nothing, and its next event has left the journal."
                    );
                    subscriber.abort_connection();
                }
                now.insert(subscriber.id, bytes);
            }
            before = now;
        }
    }
}

// === impl Registration ===

impl std::ops::Deref for Registration {
    type Target = Subscriber;

    fn deref(&self) -> &Subscriber {
        &self.subscriber
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.list.0.list.lock().by_id.remove(&self.subscriber.id);
    }
}

// === impl Subscriber ===

impl Subscriber {
    fn abort_connection(&self) {
        if let Some(abort) = &self.info.abort {
            abort.abort();
        }
    }

    /// Counts a gap that was reported.
    pub(crate) fn gap(&self, reason: GapReason) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        if !reason.is_caused_by_subscriber() {
            self.gaps_of_epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a message that was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SubscriberInfo {
        SubscriberInfo {
            client_name: "test".into(),
            peer: None,
            abort: None,
            since: Wall::default(),
            filter: String::new(),
            detail: Detail::Event,
            slow_policy: SlowPolicy::Resync,
        }
    }

    #[tokio::test]
    async fn a_subscriber_is_listed_while_it_exists_and_its_number_is_never_reused() {
        let subscribers = Subscribers::new(2);
        let first = subscribers.register(info(), Arc::default()).unwrap();
        let second = subscribers.register(info(), Arc::default()).unwrap();
        assert_eq!(subscribers.register(info(), Arc::default()).unwrap_err(), SubscriberLimitReached(2));
        assert_eq!((first.id, second.id, subscribers.count()), (1, 2, 2));
        drop(second);
        assert_eq!(subscribers.register(info(), Arc::default()).unwrap().id, 3);
        assert!(subscribers.disconnect(1) && first.disconnect.is_cancelled());
        assert!(!subscribers.disconnect(3));
    }
}
