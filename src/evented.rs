//! The evented path: holds the runtime's event stream and enqueues each event at once.
//!
//! containerd 2.x publishes to its subscribers one after the other and waits for each. A subscriber that does not read makes
//! RunPodSandbox, StartContainer and RemoveContainer hang for the whole node. So the task that holds the stream awaits only the stream,
//! takes no lock and formats no text. If the queue fills, it first strips the payloads and then drops the stream; it never waits. All
//! further work on events is done behind the queue.

mod apply;
mod backoff;
mod order;
mod queue;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::queue::{QueueFull, Sender};
pub use self::{
    apply::EventApplier,
    backoff::Backoff,
    order::{EventCoverage, EventOrder},
    queue::{Queue, SoftLimits, queue},
};
use crate::{
    clock::{Clock, Mono},
    cri::{Client, CriError, EventStream, RawEvent},
    health::Heartbeat,
    metrics::{Channel, DisconnectReason, Metrics, StreamState},
};

/// After this time without an error the stream counts as up: runtimes do not acknowledge a subscription, and a runtime that refuses one
/// does so at once.
pub const UNCONFIRMED_AFTER: Duration = Duration::from_secs(1);
/// How often an idle receiver shows progress.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// A change of the stream, for the supervisor.
#[derive(Clone, Debug)]
pub enum StreamChange {
    /// It is up: an event came, or no error within [`UNCONFIRMED_AFTER`].
    Up {
        /// When plegd subscribed.
        since: Mono,
    },
    /// It is down.
    Lost {
        /// When it was lost.
        at: Mono,
        /// The cause, for the log.
        why: String,
        /// The cause as a metric label.
        reason: DisconnectReason,
    },
}

/// The desired state of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DesiredStream {
    /// Open, and reopened whenever it is lost.
    #[default]
    Open,
    /// Closed for another subscriber of the same channel.
    Yielded,
}

/// The receiver: connects, receives, and reconnects without end.
pub struct Receiver {
    /// The client of the runtime.
    pub client: Client,
    /// Takes the events.
    pub sender: Sender,
    /// Takes changes of the stream.
    pub changes: mpsc::UnboundedSender<StreamChange>,
    /// The desired state of the stream.
    pub desired: watch::Receiver<DesiredStream>,
    /// Ends the wait before the next try: the runtime responds again.
    pub retry_now: Arc<Notify>,
    /// Progress of the receiver.
    pub heartbeat: Heartbeat,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

// === impl Receiver ===

impl Receiver {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut desired = self.desired.clone();
        while self.until_desired(&mut desired, &stop).await.is_continue() {
            let began = self.clock.now();
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = until(&mut desired, DesiredStream::Yielded) => StreamEnd::yielded(),
                end = self.hold() => end,
            };
            let at = self.clock.now();
            // A try is progress. Without this, tries that end before a beat is due would show none.
            self.heartbeat.beat();
            self.metrics.stream.disconnects.inc(end.reason);
            let (state, wait) = match end.reason {
                DisconnectReason::Yielded => (StreamState::Yielded, Duration::ZERO),
                DisconnectReason::Unsupported => (StreamState::Unsupported, backoff.longest_delay()),
                _ => (StreamState::Down, backoff.next_delay(at.since(began))),
            };
            self.metrics.stream.state.set_only(state);
            let _ = self.changes.send(StreamChange::Lost { at, why: end.why, reason: end.reason });
            if self.pause(wait, &stop).await.is_break() {
                break;
            }
        }
        self.metrics.stream.disconnects.inc(DisconnectReason::Shutdown);
        self.metrics.stream.state.set_only(StreamState::Down);
    }

    /// Waits until the next try is due, and shows progress.
    async fn pause(&self, wait: Duration, stop: &CancellationToken) -> ControlFlow<()> {
        let due = tokio::time::sleep(wait);
        tokio::pin!(due);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return ControlFlow::Break(()),
                () = &mut due => return ControlFlow::Continue(()),
                () = self.retry_now.notified() => return ControlFlow::Continue(()),
                () = tokio::time::sleep(HEARTBEAT) => self.heartbeat.beat(),
            }
        }
    }

    /// Waits until the stream is to be open, and shows progress.
    async fn until_desired(
        &self,
        desired: &mut watch::Receiver<DesiredStream>,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return ControlFlow::Break(()),
                () = until(desired, DesiredStream::Open) => return ControlFlow::Continue(()),
                () = tokio::time::sleep(HEARTBEAT) => self.heartbeat.beat(),
            }
        }
    }

    /// Subscribes and receives until the stream ends.
    async fn hold(&mut self) -> StreamEnd {
        self.metrics.stream.state.set_only(StreamState::Connecting);
        let client = self.client.clone();
        let since = self.clock.now();
        let mut opening = Box::pin(client.events());
        let mut confirmed = false;
        let opened = loop {
            let beat = if confirmed { HEARTBEAT } else { UNCONFIRMED_AFTER };
            tokio::select! {
                biased;
                opened = &mut opening => break opened,
                () = tokio::time::sleep(beat) => {
                    self.heartbeat.beat();
                    if !confirmed {
                        confirmed = true;
                        self.up(since, StreamState::Unconfirmed);
                    }
                }
            }
        };
        match opened {
            Ok(stream) => self.receive(stream, since, confirmed).await,
            Err(error) => StreamEnd::of(&error, &self.metrics),
        }
    }

    fn up(&self, since: Mono, state: StreamState) {
        self.metrics.stream.state.set_only(state);
        self.metrics.stream.connects.inc();
        let _ = self.changes.send(StreamChange::Up { since });
    }

    async fn receive(&mut self, mut stream: EventStream, since: Mono, mut confirmed: bool) -> StreamEnd {
        let mut received_any = false;
        let mut last_beat = since;
        let mut beat = tokio::time::interval(HEARTBEAT);
        loop {
            let next = tokio::select! {
                biased;
                next = stream.next() => next,
                _ = beat.tick() => {
                    self.heartbeat.beat();
                    continue;
                }
            };
            match next {
                Ok(Some(message)) => {
                    let (received, received_at) = self.clock.now_both();
                    // While events follow each other without a pause, the timer is never polled.
                    if received.since(last_beat) >= HEARTBEAT {
                        last_beat = received;
                        self.heartbeat.beat();
                    }
                    let event = RawEvent::new(message, received, received_at);
                    self.metrics.stream.received(event.kind(), received_at);
                    if !received_any {
                        received_any = true;
                        if confirmed {
                            self.metrics.stream.state.set_only(StreamState::Up);
                        } else {
                            confirmed = true;
                            self.up(since, StreamState::Up);
                        }
                    }
                    if self.sender.send(event) == Err(QueueFull) {
                        return StreamEnd {
                            reason: DisconnectReason::Overflow,
                            why: "the event queue is full: dropped the connection, so that the runtime does not wait, and \
                                  relisting"
                                .into(),
                        };
                    }
                }
                Ok(None) if !received_any && !confirmed => {
                    return StreamEnd::unsupported("the runtime ended it at once");
                }
                Ok(None) => {
                    return StreamEnd { reason: DisconnectReason::Ended, why: "the runtime ended it".into() };
                }
                Err(error) => return StreamEnd::of(&error, &self.metrics),
            }
        }
    }
}

/// Waits until the desired state is `state`; without end if the supervisor has ended.
async fn until(desired: &mut watch::Receiver<DesiredStream>, state: DesiredStream) {
    if desired.wait_for(|desired| *desired == state).await.is_err() {
        std::future::pending().await
    }
}

/// Why a stream ended.
struct StreamEnd {
    reason: DisconnectReason,
    why: String,
}

// === impl StreamEnd ===

impl StreamEnd {
    fn yielded() -> Self {
        Self { reason: DisconnectReason::Yielded, why: "closed for another subscriber".into() }
    }

    fn unsupported(why: &str) -> Self {
        Self { reason: DisconnectReason::Unsupported, why: why.into() }
    }

    fn of(error: &CriError, metrics: &Metrics) -> Self {
        let reason = match error {
            CriError::Unimplemented { .. } => DisconnectReason::Unsupported,
            CriError::Malformed { .. } => {
                metrics.stream.malformed.inc(Channel::Stream);
                DisconnectReason::Malformed
            }
            _ => DisconnectReason::Error,
        };
        Self { reason, why: error.to_string() }
    }
}
