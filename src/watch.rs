//! Watching, for one subscriber: a snapshot of the pods and then their changes, or changes from now on or after a position.
//!
//! Everything that receives events uses a [`Watch`]: the gRPC service encodes its updates, `--print` prints them, and a program that
//! embeds plegd reads them ([`crate::app::App::watch`]). A watch owns no queue. It is a cursor on the journal, a filter, and the rest of
//! its snapshot. It does not depend on gRPC, and it delays nothing before the journal.
//!
//! # Guarantees
//!
//! In etcd's terms. The checker in `tests/promises` checks them on recorded streams:
//!
//! | guarantee | meaning |
//! | --- | --- |
//! | ordered | events are delivered in the order of their numbers |
//! | unique | no event is delivered twice, and none that a snapshot includes |
//! | atomic | the events of one change of a pod are appended together, with consecutive numbers |
//! | reliable | every event that passes the filter is delivered, unless a [`Gap`] reports it as missing |
//! | resumable | a watch that resumes after a position misses no event after it |
//! | bookmarkable | all events up to a bookmark that pass the filter were delivered before it |

mod filter;
mod selector;
mod session;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::{
    filter::Filter,
    selector::{Selector, SelectorError},
    session::Watch,
};
use crate::{
    cache::Cache,
    clock::Clock,
    journal::{Head, Journal},
    model::{FollowerStatus, Mode, Pod, Position, Restart, RuntimeInfo},
};
pub use crate::{
    journal::{Detail, Progress, Record},
    model::GapReason,
};

/// The default bookmark interval.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// A request for a watch.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Where the watch begins.
    pub start: Start,
    /// The pods and events to deliver.
    pub filter: Filter,
    /// What to do when the next event was evicted.
    pub slow_policy: SlowPolicy,
    /// A bookmark follows after this time without an update; none for [`BOOKMARK_INTERVAL`].
    pub bookmark_interval: Option<Duration>,
    /// Wait for the first complete relist instead of failing.
    pub wait_ready: bool,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With a snapshot of all pods, then changes.
    #[default]
    Snapshot,
    /// With changes from now on.
    Now,
    /// With the oldest event in the journal.
    Oldest,
    /// With the event that follows this position.
    After(Position),
}

/// What happens to a subscriber whose next event was evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// A [`Gap`], then a new snapshot.
    #[default]
    Resync,
    /// Only the events of the newest available change of each pod; then as [`SlowPolicy::Resync`].
    LatestPerPod,
    /// [`WatchError::OutOfRange`].
    Fail,
}

/// An update of a watch.
#[derive(Clone, Debug)]
pub enum Update {
    /// The first update.
    Hello(Hello),
    /// A pod of the snapshot.
    Pod(Arc<Pod>),
    /// The snapshot is complete, and replaces all earlier state.
    SnapshotEnd {
        /// The snapshot includes all events up to here, and none after it.
        position: Position,
        /// Number of pods in the snapshot.
        pods: usize,
    },
    /// A pod has changed.
    Event {
        /// The event, with its pod.
        record: Arc<Record>,
        /// Number of events of its pod before it that pass the filter and were left out; only with [`SlowPolicy::LatestPerPod`].
        skipped: u64,
    },
    /// All events up to here that pass the filter were delivered.
    Bookmark(Position),
    /// Events are missing; a snapshot follows.
    Gap(Gap),
    /// plegd was restarted, and has lost no event that it had published. Not sent before or within a snapshot.
    Restarted(Restart),
    /// The mode has changed.
    Mode {
        /// The new mode.
        mode: Mode,
        /// The previous mode.
        previous: Mode,
    },
}

/// The state when a watch begins.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The journal's head.
    pub head: Position,
    /// Number of the oldest event in the journal; the head plus one if the journal is empty.
    pub oldest: u64,
    /// The runtime; none before its first answer.
    pub runtime: Option<RuntimeInfo>,
    /// The mode.
    pub mode: Mode,
}

/// Missing events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why they are missing.
    pub reason: GapReason,
    /// Number of the first event that may be missing.
    pub from: u64,
    /// Number of the last one, if it is known.
    pub to: Option<u64>,
}

/// Why a watch ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The first relist is not complete.
    #[error("plegd has not yet listed the runtime completely; try again, or set wait_ready")]
    NotReady,
    /// The request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The next events are not in the journal, and the policy is [`SlowPolicy::Fail`].
    #[error(
        "cannot continue after {position}: {}; the journal {epoch:016x} holds {oldest} to {head}",
        match reason {
            GapReason::Compacted => "the events after it were evicted",
            GapReason::ForeignEpoch => "it is a position of another epoch",
            GapReason::InFuture => "it is past the head",
        }
    )]
    OutOfRange {
        /// Why they are not.
        reason: GapReason,
        /// The position after which the watch was to continue.
        position: Position,
        /// The journal's epoch.
        epoch: u64,
        /// Number of the oldest event in the journal.
        oldest: u64,
        /// Number of the newest one.
        head: u64,
    },
    /// plegd is shutting down.
    #[error("plegd is shutting down; resume after the last position")]
    Ending,
}

/// The source of watches. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    journal: Journal,
    cache: Cache,
    follower_status: watch::Receiver<FollowerStatus>,
    heads: HeadWatch,
    clock: Clock,
    stop: CancellationToken,
}

/// What a [`Feed`] needs.
pub struct FeedDeps {
    /// The journal.
    pub journal: Journal,
    /// The cache.
    pub cache: Cache,
    /// The status of the follower.
    pub follower_status: watch::Receiver<FollowerStatus>,
    /// The clock.
    pub clock: Clock,
    /// Ends all watches.
    pub stop: CancellationToken,
}

/// The source of wake-ups for watches.
#[derive(Clone)]
enum HeadWatch {
    Journal,
    Fanout(Arc<HeadFanout>),
}

/// See [`Feed::with_fanout`].
struct HeadFanout {
    heads: watch::Sender<Head>,
    subscriber_added: Notify,
}

// === impl Feed ===

impl Feed {
    /// A feed whose watches the journal wakes up.
    pub fn new(deps: FeedDeps) -> Self {
        let FeedDeps { journal, cache, follower_status, clock, stop } = deps;
        Self { journal, cache, follower_status, heads: HeadWatch::Journal, clock, stop }
    }

    /// The same feed with a task that wakes up its watches. An append to the journal then wakes up one task, however many watches there
    /// are, and none if there is no watch. The returned future is that task; spawn it on the runtime of the watches.
    pub(crate) fn with_fanout(self) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let mut source = self.journal.heads();
        let heads = watch::Sender::new(*source.borrow_and_update());
        let fanout = Arc::new(HeadFanout { heads, subscriber_added: Notify::new() });
        let (heads, stop) = (HeadWatch::Fanout(fanout.clone()), self.stop.clone());
        let task = async move {
            let forward = async {
                loop {
                    if fanout.heads.receiver_count() == 0 {
                        fanout.subscriber_added.notified().await;
                    }
                    if source.changed().await.is_err() {
                        return;
                    }
                    fanout.heads.send_replace(*source.borrow_and_update());
                }
            };
            // After `stop` the watches end by the token themselves.
            let _ = stop.run_until_cancelled(forward).await;
        };
        (Self { heads, ..self }, task)
    }

    /// The receiver that wakes up a new watch.
    fn heads(&self) -> watch::Receiver<Head> {
        match &self.heads {
            HeadWatch::Journal => self.journal.heads(),
            HeadWatch::Fanout(fanout) => {
                let heads = fanout.heads.subscribe();
                fanout.subscriber_added.notify_one();
                heads
            }
        }
    }

    /// A watch.
    ///
    /// # Errors
    ///
    /// [`WatchError::Invalid`] if the request is invalid.
    pub fn watch(&self, request: Request) -> Result<Watch, WatchError> {
        Watch::new(self.clone(), request)
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The status of the follower.
    pub fn follower_status(&self) -> &watch::Receiver<FollowerStatus> {
        &self.follower_status
    }

    /// Cancelled when plegd shuts down.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// All pods that pass the filter, and the position of this state.
    pub fn snapshot(&self, filter: &Filter) -> (Position, Vec<Arc<Pod>>) {
        let (position, mut pods) = self.journal.at_head(|| self.cache.list());
        pods.retain(|pod| filter.passes_pod(&pod.identity, &pod.labels));
        (position, pods)
    }
}
