//! One watch: its start, its snapshot, and the changes after it.

use std::{collections::HashMap, sync::Arc, time::Duration, vec};

use futures::Stream;
use tokio::{sync::watch, time::Instant};

use super::{
    BOOKMARK_INTERVAL, Feed, Filter, Gap, GapReason, Hello, Progress, Request, SlowPolicy, Start, Update,
    WatchError,
};
use crate::{
    journal::{Cursor, Record, Stats},
    model::{FollowerStatus, Mode, Pod, PodIdentity, Position},
};

/// After this many events that do not pass the filter a bookmark follows at once. Otherwise the position of a subscriber that resumes
/// could leave the journal.
const FILTERED_LIMIT: usize = 1024;

const MIN_BOOKMARK_INTERVAL: Duration = Duration::from_millis(100);
const MAX_BOOKMARK_INTERVAL: Duration = Duration::from_secs(3600);

/// One subscriber's watch. Dropping it ends it.
pub struct Watch {
    feed: Feed,
    filter: Filter,
    slow_policy: SlowPolicy,
    interval: Duration,
    state: State,
    cursor: Cursor,
    follower_status: watch::Receiver<FollowerStatus>,
    /// The mode that was delivered last.
    mode: Mode,
    /// When a bookmark is due; reset by each update.
    bookmark: Option<Instant>,
    /// Number of events since the last update that did not pass the filter.
    filtered_since_update: usize,
    /// How many such events lead to a bookmark.
    filtered_limit: usize,
    /// Number of events of a pod that were left out for a newer event, which is still to be delivered.
    skipped: HashMap<PodIdentity, u64>,
}

enum State {
    Start {
        start: Start,
        wait_ready: bool,
    },
    /// Hello was delivered, and a snapshot follows. Before it a gap, if the watch cannot continue after this position.
    HelloSent(Option<(GapReason, Position)>),
    /// The pods of a snapshot, which are left to be delivered.
    Snapshot {
        position: Position,
        pods: vec::IntoIter<Arc<Pod>>,
        count: usize,
    },
    /// Changes are delivered.
    Streaming,
    /// The last bookmark was delivered.
    Closing,
    /// The watch has ended with this error.
    Closed(WatchError),
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(feed: Feed, request: Request) -> Result<Self, WatchError> {
        let Request { start, filter, slow_policy, bookmark_interval, wait_ready } = request;
        let interval = bookmark_interval.unwrap_or(BOOKMARK_INTERVAL);
        if !(MIN_BOOKMARK_INTERVAL..=MAX_BOOKMARK_INTERVAL).contains(&interval) {
            let message = format!("the bookmark interval is {interval:?}; allowed is from 100ms to 1h");
            return Err(WatchError::Invalid(message));
        }
        if slow_policy == SlowPolicy::LatestPerPod && filter.splits_pods() {
            let message = "the newest event of each pod cannot be determined with a filter by event type or by containers: an event \
                           that passes could be left out for a newer one that does not; filter by pod, or choose another policy";
            return Err(WatchError::Invalid(message.into()));
        }
        let cursor = Cursor::new(feed.journal.clone(), feed.heads(), feed.journal.head());
        let follower_status = feed.follower_status.clone();
        let mode = follower_status.borrow().mode;
        let state = State::Start { start, wait_ready };
        let filtered_limit = FILTERED_LIMIT.min(feed.journal.capacity().events / 4);
        Ok(Self {
            feed,
            filter,
            slow_policy,
            interval,
            state,
            cursor,
            follower_status,
            mode,
            bookmark: None,
            filtered_since_update: 0,
            filtered_limit,
            skipped: HashMap::new(),
        })
    }

    /// The next update, when there is one.
    ///
    /// # Errors
    ///
    /// [`WatchError`] when the watch ends. Further calls return the same error.
    pub async fn next(&mut self) -> Result<Update, WatchError> {
        loop {
            if let Some(update) = self.try_next()? {
                return Ok(update);
            }
            if let Some(update) = self.ready().await {
                return Ok(update);
            }
        }
    }

    /// The next update, if there is one already.
    ///
    /// # Errors
    ///
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Update>, WatchError> {
        let update = self.step().inspect_err(|error| self.state = State::Closed(error.clone()))?;
        if update.is_some() {
            self.bookmark = None;
            self.filtered_since_update = 0;
        }
        Ok(update)
    }

    /// The updates as a stream, which ends after the error that ends the watch.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, WatchError>> + Send {
        futures::stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(update) => Some((Ok(update), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The position up to which updates were delivered. During a snapshot, its position.
    pub fn position(&self) -> Position {
        self.feed.journal.position(self.cursor.sequence())
    }

    /// Its progress, now and later.
    pub fn progress(&self) -> &Arc<Progress> {
        self.cursor.progress()
    }

    fn step(&mut self) -> Result<Option<Update>, WatchError> {
        match &mut self.state {
            State::Start { start, wait_ready } => {
                let (start, wait_ready) = (*start, *wait_ready);
                if !self.follower_status.borrow_and_update().ready {
                    if self.feed.stop.is_cancelled() {
                        return Err(WatchError::Ending);
                    }
                    return if wait_ready { Ok(None) } else { Err(WatchError::NotReady) };
                }
                let stats = self.feed.journal.stats();
                self.state = self.beginning(start, stats);
                Ok(Some(Update::Hello(self.hello(stats))))
            }
            State::HelloSent(Some((reason, position))) => {
                let (reason, position) = (*reason, *position);
                let update = self.resync(reason, position)?;
                self.feed.journal.count_resume_gap(reason.resume_gap());
                Ok(update)
            }
            State::HelloSent(None) => {
                self.take_snapshot();
                self.step()
            }
            State::Snapshot { position, pods, count } => match pods.next() {
                Some(pod) => Ok(Some(Update::Pod(pod))),
                None => {
                    let end = Update::SnapshotEnd { position: *position, pods: *count };
                    self.state = State::Streaming;
                    Ok(Some(end))
                }
            },
            State::Streaming => self.follow(),
            State::Closing => Err(WatchError::Ending),
            State::Closed(error) => Err(error.clone()),
        }
    }

    fn hello(&mut self, stats: Stats) -> Hello {
        let follower_status = self.follower_status.borrow_and_update();
        self.mode = follower_status.mode;
        let head = self.feed.journal.position(stats.head);
        Hello {
            head,
            oldest: stats.oldest,
            runtime: follower_status.runtime.clone(),
            mode: follower_status.mode,
        }
    }

    /// The state after hello. `stats` are those of hello: all later events are delivered, and events evicted meanwhile are a gap.
    fn beginning(&mut self, start: Start, stats: Stats) -> State {
        let after = match start {
            Start::Snapshot => return State::HelloSent(None),
            Start::Now => {
                self.cursor.begin(stats.head);
                return State::Streaming;
            }
            Start::Oldest => stats.oldest - 1,
            Start::After(position) => {
                let reason = if position.epoch != self.feed.journal.epoch() {
                    Some(GapReason::ForeignEpoch)
                } else if position.sequence > stats.head {
                    Some(GapReason::InFuture)
                } else if position.sequence + 1 < stats.oldest {
                    Some(GapReason::Compacted)
                } else {
                    None
                };
                if let Some(reason) = reason {
                    return State::HelloSent(Some((reason, position)));
                }
                position.sequence
            }
        };
        self.cursor.seek(after);
        State::Streaming
    }

    /// The watch cannot continue after a position: applies the slow policy.
    fn resync(&mut self, reason: GapReason, after: Position) -> Result<Option<Update>, WatchError> {
        if self.slow_policy == SlowPolicy::Fail {
            let stats = self.feed.journal.stats();
            let (epoch, oldest, head) = (self.feed.journal.epoch(), stats.oldest, stats.head);
            return Err(WatchError::OutOfRange { reason, position: after, epoch, oldest, head });
        }
        let position = self.take_snapshot();
        let from = after.sequence.saturating_add(1);
        let to = (reason == GapReason::Compacted).then_some(position.sequence);
        Ok(Some(Update::Gap(Gap { reason, from, to })))
    }

    fn take_snapshot(&mut self) -> Position {
        let (position, pods) = self.feed.snapshot(&self.filter);
        self.cursor.begin(position.sequence);
        self.skipped.clear();
        let count = pods.len();
        self.state = State::Snapshot { position, pods: pods.into_iter(), count };
        position
    }

    fn follow(&mut self) -> Result<Option<Update>, WatchError> {
        if self.follower_status.has_changed().unwrap_or(false) {
            let mode = self.follower_status.borrow_and_update().mode;
            let previous = std::mem::replace(&mut self.mode, mode);
            if mode != previous {
                return Ok(Some(Update::Mode { mode, previous }));
            }
        }
        loop {
            if let Some(restart) = self.cursor.next_restart() {
                return Ok(Some(Update::Restarted(restart)));
            }
            let position = self.position();
            match self.cursor.try_next() {
                Ok(Some(record)) if !self.filter.passes(&record) => {
                    self.filtered_since_update += 1;
                    // No bookmark before the newer event for which others were left out.
                    if self.filtered_since_update >= self.filtered_limit && self.skipped.is_empty() {
                        return Ok(Some(Update::Bookmark(self.position())));
                    }
                }
                Ok(Some(record)) if self.is_superseded(&record) => {
                    *self.skipped.entry(record.event.pod.clone()).or_default() += 1;
                }
                Ok(Some(record)) => {
                    let skipped = self.skipped.remove(&record.event.pod).unwrap_or_default();
                    return Ok(Some(Update::Event { record, skipped }));
                }
                Ok(None) if self.feed.stop.is_cancelled() => {
                    self.state = State::Closing;
                    return Ok(Some(Update::Bookmark(self.position())));
                }
                Ok(None) => return Ok(None),
                Err(_) => return self.resync(GapReason::Compacted, position),
            }
        }
    }

    /// Whether a newer event of the same pod is available and passes the filter.
    fn is_superseded(&self, record: &Record) -> bool {
        self.slow_policy == SlowPolicy::LatestPerPod
            && self.feed.journal.newer_change(record).is_some_and(|newest| self.filter.passes(&newest))
    }

    /// Waits until there may be an update. Returns a bookmark if one is due.
    async fn ready(&mut self) -> Option<Update> {
        let stop = &self.feed.stop;
        if let State::Start { .. } = self.state {
            tokio::select! {
                changed = self.follower_status.changed() => if changed.is_err() { stop.cancelled().await },
                () = stop.cancelled() => {}
            }
            return None;
        }
        let due = *self.bookmark.get_or_insert_with(|| self.feed.clock.timer(self.interval));
        tokio::select! {
            () = self.cursor.ready() => None,
            changed = self.follower_status.changed() => {
                // The supervisor is gone only at shutdown.
                if changed.is_err() { stop.cancelled().await } else { self.follower_status.mark_changed() }
                None
            }
            () = tokio::time::sleep_until(due) => {
                self.bookmark = None;
                self.filtered_since_update = 0;
                Some(Update::Bookmark(self.position()))
            }
            () = stop.cancelled() => None,
        }
    }
}
