//! A watch that outlives its connection.
//!
//! [`WatchState`] has the state and the pure rules: the next request, and the meaning of a message. This module connects, waits, and
//! detects a lost connection.

mod state;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming, transport::Channel};

use self::state::WatchState;
use super::{CallError, backoff::Backoff};
use crate::{
    model::Position,
    v1::{self, pod_lifecycle_service_client::PodLifecycleServiceClient},
};

/// An idle watch gets one bookmark per interval. After this many consecutive missing bookmarks, the connection counts as lost.
const BOOKMARKS_MISSED: u32 = 3;

/// Options of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// The start of the watch.
    pub since: Since,
    /// The events to deliver; all by default.
    pub filter: v1::Filter,
    /// Whether an event includes its pod; by default it does not.
    pub detail: v1::Detail,
    /// The policy if events are no longer held; by default a gap and a new snapshot. With [`v1::SlowPolicy::Fail`] the watch ends with
    /// [`CallError::PositionLost`].
    pub slow_policy: v1::SlowPolicy,
    /// The time without events after which plegd sends a bookmark; from 100 ms to 1 h, by default 15 s. After three intervals without a
    /// message the watch connects again.
    pub bookmark_interval: Duration,
    /// The watcher's name in the list of subscribers; at most 64 characters.
    pub client_name: String,
}

/// The start of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// A snapshot of all pods, then changes.
    #[default]
    Snapshot,
    /// Changes from now on.
    Now,
    /// The oldest event that is held.
    Oldest,
    /// The event that follows this position: the end of an earlier watch.
    After(Position),
}

/// An update of a watch.
///
/// Store the position of the last [`Update::Event`], [`Update::Bookmark`] or [`Update::SnapshotEnd`] together with your own state. A later
/// watch with [`Since::After`] resumes there.
#[derive(Clone, Debug)]
#[non_exhaustive]
// The largest variant is the most frequent one: a box would cost more than the size of the others.
#[allow(clippy::large_enum_variant)]
pub enum Update {
    /// Connected, to start as [`Since`] defines. After an interrupted snapshot it starts again: discard the pods that arrived without
    /// [`Update::SnapshotEnd`].
    Connected(v1::Hello),
    /// Connected, to resume after this position. No event is missed unless [`Update::Gap`] follows.
    Resumed {
        /// The Hello message of plegd.
        hello: v1::Hello,
        /// The position.
        after: Position,
    },
    /// A pod of a snapshot.
    Pod(v1::Pod),
    /// The snapshot is complete: replace your state with the pods that arrived since [`Update::Connected`] or since the last
    /// [`Update::Gap`].
    SnapshotEnd {
        /// The snapshot includes everything up to this position, and nothing after it.
        position: Position,
        /// The number of pods in it.
        pods: u32,
    },
    /// An event. No event is delivered twice.
    Event {
        /// The event.
        event: v1::Event,
        /// The position at which to resume after this event was processed.
        position: Position,
        /// With [`v1::SlowPolicy::LatestPerPod`]: the number of events of this pod that were left out before it.
        skipped: u64,
    },
    /// Up to this position, no further event passes the filter.
    Bookmark(Position),
    /// Events are missing: the watch was disconnected for too long, or plegd has lost its state on disk. Keep your state until the
    /// snapshot that follows is complete.
    Gap(v1::Gap),
    /// plegd's mode has changed.
    ModeChange(v1::ModeChange),
    /// plegd was restarted, and no event was lost. Not delivered twice for one restart.
    Restarted(v1::Restarted),
    /// The connection is lost or failed; the watch reconnects automatically.
    Reconnecting {
        /// The cause.
        why: CallError,
        /// The wait before the next attempt.
        wait: Duration,
    },
}

/// A watch. It connects at the first call of `next`, and ends only in three cases: plegd rejects the request, plegd does not have this
/// call, or the position is lost and the slow policy is to fail.
///
/// Also a [`Stream`].
#[must_use = "a watch does nothing until `next` is called"]
pub struct Watch {
    service: PodLifecycleServiceClient<Channel>,
    options: WatchOptions,
    state: WatchState,
    backoff: Backoff,
    stage: Stage,
}

/// A watch that is being opened.
type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<v1::WatchResponse>>, Status>> + Send>>;

enum Stage {
    Waiting(Pin<Box<Sleep>>),
    Opening(Opening),
    /// There is no timeout before the first message, because plegd may not be ready yet.
    Open {
        stream: Box<Streaming<v1::WatchResponse>>,
        silence: Option<Pin<Box<Sleep>>>,
    },
    Ended,
}

// === impl WatchOptions ===

impl WatchOptions {
    /// The defaults, with this name.
    pub fn named(client_name: impl Into<String>) -> Self {
        Self { client_name: client_name.into(), ..Self::default() }
    }

    fn silence(&self) -> Duration {
        self.bookmark_interval.saturating_mul(BOOKMARKS_MISSED) + Duration::from_secs(1)
    }
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            since: Since::Snapshot,
            filter: v1::Filter::default(),
            detail: v1::Detail::Event,
            slow_policy: v1::SlowPolicy::Resync,
            bookmark_interval: Duration::from_secs(15),
            client_name: String::new(),
        }
    }
}

// === impl Watch ===

impl Watch {
    pub(super) fn new(service: PodLifecycleServiceClient<Channel>, options: WatchOptions) -> Self {
        let state = WatchState::new(options.since);
        let mut watch = Self { service, options, state, backoff: Backoff::default(), stage: Stage::Ended };
        watch.stage = watch.opening();
        watch
    }

    /// The next update; `None` after an error, which ends the watch. The future may be dropped while it waits: no update is lost.
    pub async fn next(&mut self) -> Option<Result<Update, CallError>> {
        tokio_stream::StreamExt::next(self).await
    }

    /// The position at which another watch can resume this one; `None` before it is known.
    pub fn position(&self) -> Option<Position> {
        self.state.after()
    }

    fn opening(&self) -> Stage {
        let (start, after) = self.state.start();
        let request = v1::WatchRequest {
            start: start.into(),
            after: after.map(v1::Position::from),
            filter: Some(self.options.filter.clone()),
            detail: self.options.detail.into(),
            slow_policy: self.options.slow_policy.into(),
            bookmark_interval: prost_types::Duration::try_from(self.options.bookmark_interval).ok(),
            wait_ready: true,
            client_name: self.options.client_name.clone(),
        };
        let mut service = self.service.clone();
        Stage::Opening(Box::pin(async move { service.watch(request).await }))
    }

    /// Handles an error: waits for the next attempt, or ends.
    fn on_error(&mut self, why: CallError) -> Result<Update, CallError> {
        if !why.is_transient() {
            self.stage = Stage::Ended;
            return Err(why);
        }
        let wait = self.backoff.failed();
        self.stage = Stage::Waiting(Box::pin(sleep(wait)));
        Ok(Update::Reconnecting { why, wait })
    }

    fn on_message(&mut self, message: v1::WatchResponse) -> Option<Result<Update, CallError>> {
        match self.state.take(message).transpose()? {
            Ok(update) => {
                // A Hello message alone does not reset the backoff: a watch that is closed after each Hello must back off.
                if matches!(update, Update::Event { .. } | Update::Bookmark(_) | Update::SnapshotEnd { .. }) {
                    self.backoff.succeeded();
                }
                Some(Ok(update))
            }
            Err(error) => Some(self.on_error(error)),
        }
    }
}

impl Stream for Watch {
    type Item = Result<Update, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = self.get_mut();
        let timeout = watch.options.silence();
        let status = |status: Status| CallError::of(&status, Duration::ZERO);
        loop {
            let error = match &mut watch.stage {
                Stage::Ended => return Poll::Ready(None),
                Stage::Waiting(wait) => {
                    ready!(wait.as_mut().poll(context));
                    watch.stage = watch.opening();
                    continue;
                }
                Stage::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(stream) => {
                        watch.stage = Stage::Open { stream: Box::new(stream.into_inner()), silence: None };
                        continue;
                    }
                    Err(refused) => status(refused),
                },
                Stage::Open { stream, silence } => match Pin::new(stream.as_mut()).poll_next(context) {
                    Poll::Ready(Some(Ok(message))) => {
                        match silence {
                            Some(silence) => silence.set(sleep(timeout)),
                            None => *silence = Some(Box::pin(sleep(timeout))),
                        }
                        match watch.on_message(message) {
                            Some(update) => return Poll::Ready(Some(update)),
                            None => continue,
                        }
                    }
                    Poll::Ready(Some(Err(cut))) => status(cut),
                    Poll::Ready(None) => CallError::Lost { why: "the stream has ended".into() },
                    Poll::Pending => {
                        let Some(silence) = silence else { return Poll::Pending };
                        ready!(silence.as_mut().poll(context));
                        CallError::Silent { silence: timeout }
                    }
                },
            };
            return Poll::Ready(Some(watch.on_error(error)));
        }
    }
}
