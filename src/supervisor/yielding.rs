//! How the supervisor yields the stream on a runtime with one channel for all subscribers: it closes the stream, polls, and reopens it.

use std::time::Duration;

use super::{Input, Supervisor, sharing::Yield};
use crate::{
    clock::{Mono, Wall},
    config::SharedStream,
    evented::DesiredStream,
    metrics::RelistCause,
    model::{ObjectId, StreamEventType, Yielded},
};

// === impl Supervisor ===

impl Supervisor {
    /// The order of events shows that the stream has left out an event.
    pub(super) fn on_left_out(&mut self, id: ObjectId, kind: StreamEventType) {
        if self.stream_up.is_some() && !self.sharing.is_recorded(&id, kind) {
            self.deps.metrics.stream.skipped.inc(kind);
            self.on_missed(&[(id, kind)]);
        }
    }

    /// There is another subscriber: closes the stream for it.
    pub(super) fn yield_stream(&mut self, Yield { retry_in }: Yield) {
        let clock = &self.deps.clock;
        let since = clock.now_both().1;
        let nanos = i64::try_from(retry_in.as_nanos()).unwrap_or(i64::MAX);
        let retry_at = Wall::from_nanos(since.as_nanos().saturating_add(nanos));
        tracing::warn!(
            missed = self.sharing.evidence(),
            next_try_in = %humantime::format_duration(retry_in),
            next_try_at = %retry_at,
            relist_every = %humantime::format_duration(self.config.period),
            "Yielding the shared event stream to another subscriber; polling. This runtime delivers each event to one subscriber \
             only, and events that plegd did not receive show that there is another one. Containers that exist for less than a \
             relist period may be missed. Find the other subscriber (a kubelet with EventedPLEG, `crictl events`) and end it, or \
             upgrade to containerd 2.x. To keep the stream all the same, set stream.shared = \"compete\"."
        );
        self.reopen_at = Some(clock.timer(retry_in));
        self.reporters.follower_status.send_modify(|it| it.yielded = Some(Yielded { since, retry_at }));
        self.deps.desired.send_replace(DesiredStream::Yielded);
        self.on_yielded();
        self.relist_soon(RelistCause::StreamLost, Duration::ZERO);
    }

    /// The stream is closed, or is being closed. Its events do not count from now on.
    pub(super) fn on_yielded(&mut self) {
        self.stream_up = None;
        self.backlog_passed = None;
        self.last_stream_error = None;
        self.deps.arbiter.set_stream_up(None);
        self.update_order_check(self.deps.clock.now());
        let retry_at = self.reporters.follower_status.borrow().yielded.map(|it| it.retry_at);
        let next = retry_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
        let how = format!("yielded the shared event stream to another subscriber; polling{next}");
        self.report_stream(&how, false);
        self.step(Input::StreamLost);
    }

    /// Opens a yielded stream again.
    pub(super) fn reopen_stream(&mut self, why: &str) {
        tracing::info!(
            why,
            "Opening the shared event stream again. plegd yields it again if there still is another subscriber."
        );
        self.sharing.reopened();
        self.reopen_at = None;
        self.reporters.follower_status.send_modify(|it| it.yielded = None);
        self.report_stream("being opened again", false);
        self.deps.desired.send_replace(DesiredStream::Open);
    }

    /// Whether the runtime has one channel for all subscribers, or the configuration for it, may have changed.
    pub(super) fn set_channel_shared(&mut self, shared: bool) {
        if self.sharing.set(self.config.shared, shared) {
            self.reopen_stream(match self.config.shared {
                SharedStream::Compete => "stream.shared is compete",
                SharedStream::Yield => "each subscriber of this runtime has a channel of its own",
            });
        }
        // The order of earlier events was not checked.
        self.update_order_check(self.deps.clock.now());
    }

    /// Has the order of events checked while plegd may yield: from `from` on, unless it is checked already.
    pub(super) fn update_order_check(&self, from: Mono) {
        let enabled = self.stream_up.is_some() && self.sharing.may_yield();
        self.deps.order_since.send_if_modified(|since| {
            let next = enabled.then(|| since.unwrap_or(from));
            std::mem::replace(since, next) != next
        });
    }
}
