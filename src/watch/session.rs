//! One watch: from its beginning through its snapshot to what changes.

use std::{collections::HashMap, sync::Arc, time::Duration, vec};

use futures::Stream;
use tokio::{sync::watch, time::Instant};

use super::{
    BOOKMARK_INTERVAL, Feed, Filter, Gap, GapReason, Hello, Progress, Request, SlowPolicy, Start, Update,
    WatchError,
};
use crate::{
    journal::{Cursor, Extent, Record},
    model::{Mode, Pod, PodIdentity, Position},
    model::FollowerStatus,
};

/// After so many events that do not pass the filter there is a bookmark, however soon: a watcher who resumes is not to
/// find that its position has left the journal.
const PASSED_OVER_AT_MOST: usize = 1024;

const BOOKMARK_SHORTEST: Duration = Duration::from_millis(100);
const BOOKMARK_LONGEST: Duration = Duration::from_secs(3600);

/// One subscriber's watch. Dropping it ends it.
pub struct Watch {
    feed: Feed,
    filter: Filter,
    slow_policy: SlowPolicy,
    interval: Duration,
    stage: Stage,
    cursor: Cursor,
    follower_status: watch::Receiver<FollowerStatus>,
    /// The mode that was told last.
    mode: Mode,
    /// When a bookmark is due; set anew whenever something was sent.
    bookmark: Option<Instant>,
    /// Events since the last update that the filter did not let through.
    passed_over: usize,
    /// How many there may be without a bookmark.
    passed_over_at_most: usize,
    /// How many events of a pod were left out for a newer one, which is still to be told.
    skipped: HashMap<PodIdentity, u64>,
}

enum Stage {
    /// Nothing has been told.
    Begin { start: Start, wait_ready: bool },
    /// Hello has been told; a snapshot comes next. Before it a gap, if what follows this position is not held.
    Greeted(Option<(GapReason, Position)>),
    /// The pods of a snapshot are being told, as of a position.
    Snapshot { position: Position, pods: vec::IntoIter<Arc<Pod>>, count: usize },
    /// What changes is being told.
    Following,
    /// The last bookmark has been told.
    Ending,
    /// It has ended, for this reason.
    Over(WatchError),
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(feed: Feed, request: Request) -> Result<Self, WatchError> {
        let Request { start, filter, slow_policy, bookmark_interval, wait_ready } = request;
        let interval = bookmark_interval.unwrap_or(BOOKMARK_INTERVAL);
        if !(BOOKMARK_SHORTEST..=BOOKMARK_LONGEST).contains(&interval) {
            let message = format!("the bookmark interval is {interval:?}; allowed is from 100ms to 1h");
            return Err(WatchError::Invalid(message));
        }
        if slow_policy == SlowPolicy::LatestPerPod && filter.splits_pods() {
            let message = "the newest event of each pod cannot be had of some types or of containers only: what the filter \
                           lets through may be left out for a newer one that it does not; filter by pod, or choose \
                           another policy";
            return Err(WatchError::Invalid(message.into()));
        }
        let cursor = Cursor::new(feed.journal.clone(), feed.heads(), feed.journal.head());
        let follower_status = feed.follower_status.clone();
        let mode = follower_status.borrow().mode;
        let stage = Stage::Begin { start, wait_ready };
        let passed_over_at_most = PASSED_OVER_AT_MOST.min(feed.journal.capacity().events / 4);
        Ok(Self {
            feed,
            filter,
            slow_policy,
            interval,
            stage,
            cursor,
            follower_status,
            mode,
            bookmark: None,
            passed_over: 0,
            passed_over_at_most,
            skipped: HashMap::new(),
        })
    }

    /// What comes next, as soon as it does.
    ///
    /// # Errors
    ///
    /// Why the watch ends; it has nothing to tell after that.
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

    /// What comes next, if it is at hand.
    ///
    /// # Errors
    ///
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Update>, WatchError> {
        let update = self.step().inspect_err(|error| self.stage = Stage::Over(error.clone()))?;
        if update.is_some() {
            self.bookmark = None;
            self.passed_over = 0;
        }
        Ok(update)
    }

    /// As a stream, which ends with the error that ends the watch.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, WatchError>> + Send {
        futures::stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(update) => Some((Ok(update), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// What was told includes all up to here; of a snapshot that is being told, as soon as its end has been.
    pub fn position(&self) -> Position {
        self.feed.journal.position(self.cursor.sequence())
    }

    /// How far it has come, now and later.
    pub fn progress(&self) -> &Arc<Progress> {
        self.cursor.progress()
    }

    fn step(&mut self) -> Result<Option<Update>, WatchError> {
        match &mut self.stage {
            Stage::Begin { start, wait_ready } => {
                let (start, wait_ready) = (*start, *wait_ready);
                if !self.follower_status.borrow_and_update().ready {
                    if self.feed.stop.is_cancelled() {
                        return Err(WatchError::Ending);
                    }
                    return if wait_ready { Ok(None) } else { Err(WatchError::NotReady) };
                }
                let extent = self.feed.journal.stats();
                self.stage = self.beginning(start, extent);
                Ok(Some(Update::Hello(self.hello(extent))))
            }
            Stage::Greeted(Some((reason, asked))) => {
                let (reason, asked) = (*reason, *asked);
                let update = self.resync(reason, asked)?;
                self.feed.journal.count_resume_gap(reason.resume_gap());
                Ok(update)
            }
            Stage::Greeted(None) => {
                self.take_snapshot();
                self.step()
            }
            Stage::Snapshot { position, pods, count } => match pods.next() {
                Some(pod) => Ok(Some(Update::Pod(pod))),
                None => {
                    let end = Update::SnapshotEnd { position: *position, pods: *count };
                    self.stage = Stage::Following;
                    Ok(Some(end))
                }
            },
            Stage::Following => self.follow(),
            Stage::Ending => Err(WatchError::Ending),
            Stage::Over(error) => Err(error.clone()),
        }
    }

    fn hello(&mut self, extent: Extent) -> Hello {
        let follower_status = self.follower_status.borrow_and_update();
        self.mode = follower_status.mode;
        let head = self.feed.journal.position(extent.head);
        Hello { head, oldest: extent.oldest, runtime: follower_status.runtime.clone(), mode: follower_status.mode }
    }

    /// Where to begin in the journal that hello speaks of: all that is appended after it is told, and what has left the
    /// journal before it is taken is a gap like any other.
    fn beginning(&mut self, start: Start, extent: Extent) -> Stage {
        let after = match start {
            Start::Snapshot => return Stage::Greeted(None),
            Start::Now => extent.head,
            Start::Oldest => extent.oldest - 1,
            Start::After(position) => {
                let reason = if position.epoch != self.feed.journal.epoch() {
                    Some(GapReason::ForeignEpoch)
                } else if position.sequence > extent.head {
                    Some(GapReason::InFuture)
                } else if position.sequence + 1 < extent.oldest {
                    Some(GapReason::Compacted)
                } else {
                    None
                };
                if let Some(reason) = reason {
                    return Stage::Greeted(Some((reason, position)));
                }
                position.sequence
            }
        };
        self.cursor.seek(after);
        Stage::Following
    }

    /// What follows this position is not held: as the watcher has chosen.
    fn resync(&mut self, reason: GapReason, asked: Position) -> Result<Option<Update>, WatchError> {
        if self.slow_policy == SlowPolicy::Fail {
            let extent = self.feed.journal.stats();
            let (epoch, oldest, head) = (self.feed.journal.epoch(), extent.oldest, extent.head);
            return Err(WatchError::OutOfRange { reason, asked, epoch, oldest, head });
        }
        let position = self.take_snapshot();
        let from = asked.sequence.saturating_add(1);
        let to = (reason == GapReason::Compacted).then_some(position.sequence);
        Ok(Some(Update::Gap(Gap { reason, from, to })))
    }

    fn take_snapshot(&mut self) -> Position {
        let (position, pods) = self.feed.snapshot(&self.filter);
        self.cursor.seek(position.sequence);
        self.skipped.clear();
        let count = pods.len();
        self.stage = Stage::Snapshot { position, pods: pods.into_iter(), count };
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
            let position = self.position();
            match self.cursor.try_next() {
                Ok(Some(record)) if !self.filter.passes(&record) => {
                    self.passed_over += 1;
                    // What has been left out for a newer event comes with that, and before any bookmark.
                    if self.passed_over >= self.passed_over_at_most && self.skipped.is_empty() {
                        return Ok(Some(Update::Bookmark(self.position())));
                    }
                }
                Ok(Some(record)) if self.is_to_be_skipped(&record) => {
                    *self.skipped.entry(record.event.pod.clone()).or_default() += 1;
                }
                Ok(Some(record)) => {
                    let skipped = self.skipped.remove(&record.event.pod).unwrap_or_default();
                    return Ok(Some(Update::Event { record, skipped }));
                }
                Ok(None) if self.feed.stop.is_cancelled() => {
                    self.stage = Stage::Ending;
                    return Ok(Some(Update::Bookmark(self.position())));
                }
                Ok(None) => return Ok(None),
                Err(_) => return self.resync(GapReason::Compacted, position),
            }
        }
    }

    /// Whether a newer event of the same pod is at hand, and will be told.
    fn is_to_be_skipped(&self, record: &Record) -> bool {
        self.slow_policy == SlowPolicy::LatestPerPod
            && self.feed.journal.newer_change(record).is_some_and(|newest| self.filter.passes(&newest))
    }

    /// Until there may be something to tell; a bookmark, if that is what it is.
    async fn ready(&mut self) -> Option<Update> {
        let stop = &self.feed.stop;
        if let Stage::Begin { .. } = self.stage {
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
                // Without a supervisor there is no mode to tell, and plegd ends.
                if changed.is_err() { stop.cancelled().await } else { self.follower_status.mark_changed() }
                None
            }
            () = tokio::time::sleep_until(due) => {
                self.bookmark = None;
                self.passed_over = 0;
                Some(Update::Bookmark(self.position()))
            }
            () = stop.cancelled() => None,
        }
    }
}
