//! The evented path: holds the runtime's event stream and hands over what comes, always at once.
//!
//! containerd 2.x publishes to its subscribers one after the other and waits for each: one that does not read makes
//! RunPodSandbox, StartContainer and RemoveContainer hang for the whole node. So the task that holds the stream awaits
//! nothing but the stream; it takes no lock and formats no text. If what it hands over is not taken away in time, it first
//! cuts down what is in it and then drops the stream, never the pace. Whoever needs something done on the way does it behind the queue.

mod apply;
mod backoff;
mod order;
mod queue;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::queue::{Full, Sender};
pub use self::{
    apply::EventApplier,
    backoff::Backoff,
    order::{Complete, EventOrder},
    queue::{Limits, Queue, queue},
};
use crate::{
    clock::{Clock, Mono},
    cri::{Client, CriError, EventStream, RawEvent},
    health::Heartbeat,
    metrics::{Channel, DisconnectReason, Metrics, StreamState},
};

/// How long a call without an answer counts as refused or pending: the runtimes acknowledge no subscription, and those
/// that refuse do so at once.
pub const UNCONFIRMED_AFTER: Duration = Duration::from_secs(1);
/// How often an idle receiver shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// What becomes of the stream, for the supervisor.
#[derive(Clone, Debug)]
pub enum StreamChange {
    /// It counts as up: an event came, or nothing refused it for a while.
    Up {
        /// When it was subscribed to.
        since: Mono,
    },
    /// It is down.
    Lost {
        /// When.
        at: Mono,
        /// Why, for the log.
        why: String,
        /// What that says about the runtime.
        reason: DisconnectReason,
    },
}

/// Whether the stream is to be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// It is opened, and opened again whenever it is lost.
    #[default]
    Open,
    /// It is closed, for another subscriber of the same channel, until it is wanted again.
    Yielded,
}

/// The receiver: connects, receives, and connects again, for ever.
pub struct Receiver {
    /// The way to the runtime.
    pub client: Client,
    /// Takes what is received.
    pub sender: Sender,
    /// Reports what becomes of the stream.
    pub changes: mpsc::UnboundedSender<StreamChange>,
    /// Whether the stream is to be open.
    pub wanted: watch::Receiver<Wanted>,
    /// The runtime is back: no need to wait any longer.
    pub hurry: Arc<Notify>,
    /// It is alive.
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
        let mut wanted = self.wanted.clone();
        while self.until_wanted(&mut wanted, &stop).await.is_continue() {
            let began = self.clock.now();
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = is(&mut wanted, Wanted::Yielded) => Ended::yielded(),
                ended = self.hold() => ended,
            };
            let at = self.clock.now();
            // A try is progress: where each is over before a beat is due, none would ever come.
            self.heartbeat.beat();
            self.metrics.stream.disconnects.inc(ended.reason);
            let (state, wait) = match ended.reason {
                DisconnectReason::Yielded => (StreamState::Yielded, Duration::ZERO),
                DisconnectReason::Unsupported => (StreamState::Unsupported, backoff.longest()),
                _ => (StreamState::Down, backoff.after(at.since(began))),
            };
            self.metrics.stream.state.set_only(state);
            let _ = self.changes.send(StreamChange::Lost { at, why: ended.why, reason: ended.reason });
            if self.pause(wait, &stop).await.is_break() {
                break;
            }
        }
        self.metrics.stream.disconnects.inc(DisconnectReason::Shutdown);
        self.metrics.stream.state.set_only(StreamState::Down);
    }

    /// Waits, alive, until the next try is due.
    async fn pause(&self, wait: Duration, stop: &CancellationToken) -> ControlFlow<()> {
        let until = tokio::time::sleep(wait);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return ControlFlow::Break(()),
                () = &mut until => return ControlFlow::Continue(()),
                () = self.hurry.notified() => return ControlFlow::Continue(()),
                () = tokio::time::sleep(HEARTBEAT) => self.heartbeat.beat(),
            }
        }
    }

    /// Waits, alive, until the stream is to be open.
    async fn until_wanted(
        &self,
        wanted: &mut watch::Receiver<Wanted>,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return ControlFlow::Break(()),
                () = is(wanted, Wanted::Open) => return ControlFlow::Continue(()),
                () = tokio::time::sleep(HEARTBEAT) => self.heartbeat.beat(),
            }
        }
    }

    /// Subscribes and receives until the stream ends.
    async fn hold(&mut self) -> Ended {
        self.metrics.stream.state.set_only(StreamState::Connecting);
        let client = self.client.clone();
        let since = self.clock.now();
        let mut opening = Box::pin(client.events());
        let mut confirmed = false;
        let opened = loop {
            let patience = if confirmed { HEARTBEAT } else { UNCONFIRMED_AFTER };
            tokio::select! {
                biased;
                opened = &mut opening => break opened,
                () = tokio::time::sleep(patience) => {
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
            Err(error) => Ended::of(&error, &self.metrics),
        }
    }

    fn up(&self, since: Mono, state: StreamState) {
        self.metrics.stream.state.set_only(state);
        self.metrics.stream.connects.inc();
        let _ = self.changes.send(StreamChange::Up { since });
    }

    async fn receive(&mut self, mut stream: EventStream, since: Mono, mut confirmed: bool) -> Ended {
        let mut heard = false;
        let mut beaten = since;
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
                    // Where one event follows on the other, the timer's turn never comes.
                    if received.since(beaten) >= HEARTBEAT {
                        beaten = received;
                        self.heartbeat.beat();
                    }
                    let event = RawEvent::new(message, received, received_at);
                    self.metrics.stream.received(event.kind(), received_at);
                    if !heard {
                        heard = true;
                        if confirmed {
                            self.metrics.stream.state.set_only(StreamState::Up);
                        } else {
                            confirmed = true;
                            self.up(since, StreamState::Up);
                        }
                    }
                    if self.sender.send(event) == Err(Full) {
                        return Ended {
                            reason: DisconnectReason::Overflow,
                            why: "more events wait than plegd may hold: the connection is dropped rather than the \
                                  runtime kept waiting, and everything is listed"
                                .into(),
                        };
                    }
                }
                Ok(None) if !heard && !confirmed => {
                    return Ended::unsupported("the runtime ended it at once");
                }
                Ok(None) => {
                    return Ended { reason: DisconnectReason::Ended, why: "the runtime ended it".into() };
                }
                Err(error) => return Ended::of(&error, &self.metrics),
            }
        }
    }
}

/// Waits until this is wanted; for ever, if it is not and nobody is there any more to want anything.
async fn is(wanted: &mut watch::Receiver<Wanted>, state: Wanted) {
    if wanted.wait_for(|wanted| *wanted == state).await.is_err() {
        std::future::pending().await
    }
}

/// How a stream came to an end.
struct Ended {
    reason: DisconnectReason,
    why: String,
}

// === impl Ended ===

impl Ended {
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
