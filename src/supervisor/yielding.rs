//! What the supervisor does where subscribers share one channel: it closes the stream, polls, and opens it again.

use std::time::Duration;

use super::{Input, Supervisor, Yielded, sharing::Yield};
use crate::{
    clock::{Mono, Wall},
    config::SharedStream,
    evented::Wanted,
    metrics::RelistCause,
    model::{ObjectId, StreamEventType},
};

// === impl Supervisor ===

impl Supervisor {
    /// The order of events shows that the stream has left this one out.
    pub(super) fn left_out(&mut self, id: ObjectId, kind: StreamEventType) {
        if self.stream_up.is_some() && !self.sharing.knows(&id, kind) {
            self.wires.metrics.stream.skipped.inc(kind);
            self.missed(&[(id, kind)]);
        }
    }

    /// Another subscriber shows: it gets the stream.
    pub(super) fn give_way(&mut self, Yield { retry_in }: Yield) {
        let clock = &self.wires.clock;
        let since = clock.now_both().1;
        let nanos = i64::try_from(retry_in.as_nanos()).unwrap_or(i64::MAX);
        let retry_at = Wall::from_nanos(since.as_nanos().saturating_add(nanos));
        tracing::warn!(
            missed = self.sharing.evidence(),
            next_try_in = %humantime::format_duration(retry_in),
            next_try_at = %retry_at,
            relist_every = %humantime::format_duration(self.rhythm.period),
            "Yielding the shared event stream to another subscriber; polling. This runtime delivers each event to one subscriber \
             only, and events that plegd did not receive show that there is another one. Containers that exist for less than a \
             relist period may be missed. Find the other subscriber (a kubelet with EventedPLEG, `crictl events`) and end it, or \
             upgrade to containerd 2.x. To keep the stream all the same, set stream.shared = \"compete\"."
        );
        self.retry = Some(clock.timer(retry_in));
        self.signs.follower_status.send_modify(|it| it.yielded = Some(Yielded { since, retry_at }));
        self.wires.wanted.send_replace(Wanted::Yielded);
        self.yielded();
        self.relist_soon(RelistCause::StreamLost, Duration::ZERO);
    }

    /// The stream is closed, or about to be. Nothing that it says from now on counts.
    pub(super) fn yielded(&mut self) {
        self.stream_up = None;
        self.backlog = None;
        self.last_stream_trouble = None;
        self.wires.arbiter.set_stream_up(None);
        self.judge_order(self.wires.clock.now());
        let retry_at = self.signs.follower_status.borrow().yielded.map(|it| it.retry_at);
        let next = retry_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
        let how = format!("yielded the shared event stream to another subscriber; polling{next}");
        self.show_stream(&how, false);
        self.step(Input::StreamLost);
    }

    /// A stream that was yielded is tried again.
    pub(super) fn open_again(&mut self, why: &str) {
        tracing::info!(
            why,
            "Opening the shared event stream again. It is yielded again if another subscriber still shows."
        );
        self.sharing.retried();
        self.retry = None;
        self.signs.follower_status.send_modify(|it| it.yielded = None);
        self.show_stream("being opened again", false);
        self.wires.wanted.send_replace(Wanted::Open);
    }

    /// Whether the runtime has one channel for all subscribers, and what to do about it, may have changed.
    pub(super) fn share_channel(&mut self, shared: bool) {
        if self.sharing.set(self.rhythm.shared, shared) {
            self.open_again(match self.rhythm.shared {
                SharedStream::Compete => "stream.shared is compete",
                SharedStream::Yield => "each subscriber of this runtime has a channel of its own",
            });
        }
        // What came before was not looked at.
        self.judge_order(self.wires.clock.now());
    }

    /// Has the order of events looked at for as long as it matters: from this moment on, unless it is looked at already.
    pub(super) fn judge_order(&self, from: Mono) {
        let matters = self.stream_up.is_some() && self.sharing.may_yield();
        self.wires.judged.send_if_modified(|judged| {
            let next = matters.then(|| judged.unwrap_or(from));
            std::mem::replace(judged, next) != next
        });
    }
}
