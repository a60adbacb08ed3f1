//! A watch that outlives its connection.
//!
//! Where it stands is [`Place`]: a pure rule that says what to ask for and what a message means. Here is what carries it:
//! connecting, waiting, and noticing that the other side is gone.

mod place;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming, transport::Channel};

use self::place::Place;
use super::{CallError, backoff::Backoff};
use crate::{
    model::Position,
    v1::{self, pod_lifecycle_service_client::PodLifecycleServiceClient},
};

/// A quiet watch gets a bookmark every so often; without three of them in a row, the other side is taken for gone.
const BOOKMARKS_MISSED: u32 = 3;

/// What to watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// Where to begin.
    pub since: Since,
    /// What to tell of; all by default.
    pub filter: v1::Filter,
    /// Whether an event comes with its pod; by default it does not.
    pub detail: v1::Detail,
    /// What to do where events are no longer held; by default a gap and a fresh snapshot. With
    /// [`v1::SlowPolicy::Fail`] the watch ends with [`CallError::PositionLost`].
    pub slow_policy: v1::SlowPolicy,
    /// How long nothing may come before plegd says that nothing has; from 100 ms to 1 h, by default 15 s. After three
    /// times as long without anything the watch connects again.
    pub bookmark_interval: Duration,
    /// What the watcher calls itself, for the list of subscribers; at most 64 characters.
    pub client_name: String,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// With all pods as they are, then what changes.
    #[default]
    Snapshot,
    /// With what changes from now on.
    Now,
    /// With the oldest event that is held.
    Oldest,
    /// With the event that follows this position: where an earlier watch has ended.
    After(Position),
}

/// What a watch tells.
///
/// Keep the position of the last [`Update::Event`], [`Update::Bookmark`] or [`Update::SnapshotEnd`] with whatever was made
/// of it, and a later watch with [`Since::After`] goes on there.
#[derive(Clone, Debug)]
#[non_exhaustive]
// The largest is the one that there is most of: to box it would cost more than the others' size does.
#[allow(clippy::large_enum_variant)]
pub enum Update {
    /// Connected, to begin with what [`Since`] says. After a snapshot was interrupted it begins again: forget the pods that
    /// have come without [`Update::SnapshotEnd`].
    Connected(v1::Hello),
    /// Connected, to go on after this position. Nothing is missed unless [`Update::Gap`] follows.
    Resumed {
        /// What plegd says of itself.
        hello: v1::Hello,
        /// The position.
        after: Position,
    },
    /// A pod of a snapshot.
    Pod(v1::Pod),
    /// The snapshot is complete: what was known is to be replaced by the pods that came since [`Update::Connected`] or
    /// since the last [`Update::Gap`].
    SnapshotEnd {
        /// All up to here is in it, and nothing after it.
        position: Position,
        /// How many pods it has.
        pods: u32,
    },
    /// Something has happened. No event comes twice.
    Event {
        /// What.
        event: v1::Event,
        /// Where to resume once this event is taken care of.
        position: Position,
        /// With [`v1::SlowPolicy::LatestPerPod`]: how many events of this pod were left out before it.
        skipped: u64,
    },
    /// Nothing has happened that passes the filter, up to here.
    Bookmark(Position),
    /// Events are missing: plegd was restarted, or the watch was away for too long. Keep what is known until the snapshot,
    /// which follows, is complete.
    Gap(v1::Gap),
    /// plegd follows the runtime in another way.
    ModeChange(v1::ModeChange),
    /// The connection is lost or could not be made; it is tried again by itself.
    Reconnecting {
        /// Why.
        why: CallError,
        /// When it is tried.
        wait: Duration,
    },
}

/// A watch. It connects when it is first asked for what is next, and goes on for ever, with three exceptions: a request
/// that plegd refuses, a plegd that has no such call, and a position that is lost where that is to be an error.
///
/// Also a [`Stream`].
#[must_use = "nothing is watched before it is asked for what is next"]
pub struct Watch {
    service: PodLifecycleServiceClient<Channel>,
    options: WatchOptions,
    place: Place,
    backoff: Backoff,
    stage: Stage,
}

/// A watch that is being opened.
type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<v1::WatchResponse>>, Status>> + Send>>;

enum Stage {
    Waiting(Pin<Box<Sleep>>),
    Opening(Opening),
    /// Before the first message there is no saying how long a plegd takes that is not ready.
    Open {
        stream: Box<Streaming<v1::WatchResponse>>,
        silence: Option<Pin<Box<Sleep>>>,
    },
    Over,
}

// === impl WatchOptions ===

impl WatchOptions {
    /// The defaults, under this name.
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
        let place = Place::new(options.since);
        let mut watch = Self { service, options, place, backoff: Backoff::default(), stage: Stage::Over };
        watch.stage = watch.opening();
        watch
    }

    /// What is next; none after an error, which is the end. It may be dropped while it waits, nothing is lost by it.
    pub async fn next(&mut self) -> Option<Result<Update, CallError>> {
        tokio_stream::StreamExt::next(self).await
    }

    /// Where a watch that is to go on where this one is would begin; none before that is known.
    pub fn position(&self) -> Option<Position> {
        self.place.after()
    }

    fn opening(&self) -> Stage {
        let (start, after) = self.place.start();
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

    /// What to do about an error: try again, or end.
    fn broken(&mut self, why: CallError) -> Result<Update, CallError> {
        if !why.is_passing() {
            self.stage = Stage::Over;
            return Err(why);
        }
        let wait = self.backoff.failed();
        self.stage = Stage::Waiting(Box::pin(sleep(wait)));
        Ok(Update::Reconnecting { why, wait })
    }

    fn taken(&mut self, message: v1::WatchResponse) -> Option<Result<Update, CallError>> {
        match self.place.take(message).transpose()? {
            Ok(update) => {
                // Not a greeting alone: one who is sent away after it, time and again, must wait longer.
                if matches!(update, Update::Event { .. } | Update::Bookmark(_) | Update::SnapshotEnd { .. }) {
                    self.backoff.succeeded();
                }
                Some(Ok(update))
            }
            Err(error) => Some(self.broken(error)),
        }
    }
}

impl Stream for Watch {
    type Item = Result<Update, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = self.get_mut();
        let patience = watch.options.silence();
        let status = |status: Status| CallError::of(&status, Duration::ZERO);
        loop {
            let error = match &mut watch.stage {
                Stage::Over => return Poll::Ready(None),
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
                            Some(silence) => silence.set(sleep(patience)),
                            None => *silence = Some(Box::pin(sleep(patience))),
                        }
                        match watch.taken(message) {
                            Some(update) => return Poll::Ready(Some(update)),
                            None => continue,
                        }
                    }
                    Poll::Ready(Some(Err(cut))) => status(cut),
                    Poll::Ready(None) => CallError::Lost { why: "the stream has ended".into() },
                    Poll::Pending => {
                        let Some(silence) = silence else { return Poll::Pending };
                        ready!(silence.as_mut().poll(context));
                        CallError::Silent { silence: patience }
                    }
                },
            };
            return Poll::Ready(Some(watch.broken(error)));
        }
    }
}
