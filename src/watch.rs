//! Watching: a snapshot of the pods, then what changes, for one subscriber; or from now, or resumed after a position.
//!
//! The one way to be told: the gRPC service encodes what a [`Watch`] gives, `--print` prints it, and a program that embeds
//! plegd reads it ([`crate::app::App::watch`]). Owns no queue: a watch is a cursor on the journal, a filter, and the rest
//! of its snapshot. It knows nothing of gRPC and never slows what comes before the journal.
//!
//! # Promises
//!
//! With etcd's words, and as the checker in `tests/promises` holds them against recorded streams:
//!
//! | promise | what it means here |
//! | --- | --- |
//! | ordered | events come in the order of their numbers |
//! | unique | none comes twice, nor as an event what a snapshot contained |
//! | atomic | the events of one change of a pod are appended as one, next to each other |
//! | reliable | none that passes the filter is left out, unless a [`Gap`] says so |
//! | resumable | a watch that goes on after a position misses nothing after it |
//! | bookmarkable | all that passes the filter up to a bookmark has been sent |

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
    cri::RuntimeInfo,
    journal::{Journal, Record},
    model::{Mode, Pod, Position},
    model::FollowerStatus,
};
pub use crate::{
    journal::{Detail, Progress},
    model::GapReason,
};

/// The bookmark interval where none is asked for.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// What to watch, from where on, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Where to begin.
    pub start: Start,
    /// What to tell of.
    pub filter: Filter,
    /// What to do when events are no longer held.
    pub slow_policy: SlowPolicy,
    /// How long nothing may come before a bookmark does; none for [`BOOKMARK_INTERVAL`].
    pub bookmark_interval: Option<Duration>,
    /// Wait for the first complete relist instead of failing.
    pub wait_ready: bool,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With all pods as they are, then with what changes.
    #[default]
    Snapshot,
    /// With what changes from now on.
    Now,
    /// With the oldest event that is held.
    Oldest,
    /// With the event that follows this position.
    After(Position),
}

/// What becomes of a watcher for whom events are no longer held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// A [`Gap`], then a fresh snapshot.
    #[default]
    Resync,
    /// Only the events of the newest change of each pod that is at hand; then as [`SlowPolicy::Resync`].
    LatestPerPod,
    /// [`WatchError::OutOfRange`].
    Fail,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Update {
    /// The first of all.
    Hello(Hello),
    /// A pod of the snapshot.
    Pod(Arc<Pod>),
    /// The snapshot is complete: what was known before it is to be replaced.
    SnapshotEnd {
        /// All up to here is in it, and nothing after.
        position: Position,
        /// So many pods were sent.
        pods: usize,
    },
    /// Something has happened.
    Event {
        /// The event, with its pod.
        record: Arc<Record>,
        /// Events of its pod that pass the filter and were left out before it; only with [`SlowPolicy::LatestPerPod`].
        skipped: u64,
    },
    /// Nothing that passes the filter has happened up to here.
    Bookmark(Position),
    /// Events are left out; a snapshot follows.
    Gap(Gap),
    /// The mode has changed.
    Mode {
        /// The new one.
        mode: Mode,
        /// The one before.
        previous: Mode,
    },
}

/// What there is as a watch begins.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The journal's head.
    pub head: Position,
    /// Number of the oldest event that is held; one past the head if none is.
    pub oldest: u64,
    /// The runtime, once it is known.
    pub runtime: Option<RuntimeInfo>,
    /// The mode.
    pub mode: Mode,
}

/// Events that are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Number of the first that may be left out.
    pub from: u64,
    /// Number of the last, if it can be known.
    pub to: Option<u64>,
}

/// Why a watch ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The first relist is not complete.
    #[error("plegd has not yet listed the runtime completely; try again, or ask to wait for it")]
    NotReady,
    /// The request cannot be met, whatever happens.
    #[error("{0}")]
    Invalid(String),
    /// Events that should come next are not held, and the watcher wants to know it so.
    #[error(
        "cannot go on after {asked}: {}; the journal {epoch:016x} holds {oldest} to {head}",
        match reason {
            GapReason::Compacted => "what follows is no longer held",
            GapReason::ForeignEpoch => "it is a position of another run of plegd",
            GapReason::InFuture => "it is past the head",
        }
    )]
    OutOfRange {
        /// Why.
        reason: GapReason,
        /// Where it was to go on.
        asked: Position,
        /// The journal's epoch.
        epoch: u64,
        /// Number of the oldest event that is held.
        oldest: u64,
        /// Number of the newest.
        head: u64,
    },
    /// plegd ends.
    #[error("plegd is shutting down; resume after the last position")]
    Ending,
}

/// What watches are made from. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    journal: Journal,
    cache: Cache,
    follower_status: watch::Receiver<FollowerStatus>,
    waker: Waker,
    clock: Clock,
    stop: CancellationToken,
}

/// Who wakes up watches when there is something to take.
#[derive(Clone)]
enum Waker {
    Journal,
    Relay(Arc<Relay>),
}

/// See [`Feed::relayed`].
struct Relay {
    heads: watch::Sender<u64>,
    /// Somebody watches.
    wanted: Notify,
}

// === impl Feed ===

impl Feed {
    /// What the journal and the cache tell, until `stop`.
    pub fn new(
        journal: Journal,
        cache: Cache,
        follower_status: watch::Receiver<FollowerStatus>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        Self { journal, cache, follower_status, waker: Waker::Journal, clock, stop }
    }

    /// The same feed, whose watches are woken up by a task of their own: whoever appends to the journal then wakes up one
    /// task, however many watch, and none if nobody does. `work` is that task, to be spawned where the watches live.
    pub(crate) fn relayed(self) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let mut source = self.journal.heads();
        let heads = watch::Sender::new(*source.borrow_and_update());
        let relay = Arc::new(Relay { heads, wanted: Notify::new() });
        let (waker, stop) = (Waker::Relay(relay.clone()), self.stop.clone());
        let work = async move {
            let passing_on = async {
                loop {
                    if relay.heads.receiver_count() == 0 {
                        relay.wanted.notified().await;
                    }
                    if source.changed().await.is_err() {
                        return;
                    }
                    relay.heads.send_replace(*source.borrow_and_update());
                }
            };
            // From then on all watches see the token.
            let _ = stop.run_until_cancelled(passing_on).await;
        };
        (Self { waker, ..self }, work)
    }

    /// What wakes up a watch that begins now.
    fn heads(&self) -> watch::Receiver<u64> {
        match &self.waker {
            Waker::Journal => self.journal.heads(),
            Waker::Relay(relay) => {
                let heads = relay.heads.subscribe();
                relay.wanted.notify_one();
                heads
            }
        }
    }

    /// A watch.
    ///
    /// # Errors
    ///
    /// [`WatchError::Invalid`] if the request contradicts itself.
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

    /// The situation, as it changes.
    pub fn follower_status(&self) -> &watch::Receiver<FollowerStatus> {
        &self.follower_status
    }

    /// Ends when plegd does.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// All pods that pass, and the position as of which they are, exactly.
    pub fn snapshot(&self, filter: &Filter) -> (Position, Vec<Arc<Pod>>) {
        let (position, mut pods) = self.journal.at_head(|| self.cache.list());
        pods.retain(|pod| filter.passes_pod(&pod.identity, &pod.labels));
        (position, pods)
    }
}
