//! The stream of one page: a watch as server-sent events, with figures in between.
//!
//! | event | contents | id |
//! | --- | --- | --- |
//! | `hello` | the node and this plegd | |
//! | `pod` | a pod of a snapshot | |
//! | `synced` | the snapshot is complete and replaces the previous pods; with recent events before it | its position |
//! | `change` | an event; with the pod if the event ends a change, `null` if the pod is gone | its position |
//! | `gap` | events are left out, and a snapshot follows | |
//! | `bookmark` | nothing happened up to this position | its position |
//! | `mode`, `figures` | the mode and the figures, at least every [`BEAT`] | |
//! | `ended` | an operator has disconnected the page | |
//!
//! Ids are positions, so a browser that reconnects resumes at its last one. Only a message at which a watch can resume has an id. A
//! browser that disconnects within a snapshot gets a new snapshot.
//!
//! Nothing is queued: a message is built when the connection can take it. A browser that reads nothing is disconnected like any other
//! HTTP client. The figures are the heartbeat that detects it.

use std::{convert::Infallible, fmt::Write as _, sync::atomic::Ordering, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::{Page, words};
use crate::{
    api::subscribers::Enlisted,
    clock::Mono,
    model::Position,
    watch::{GapReason, Update, Watch, WatchError},
};

/// Interval of the figures.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// Size in bytes at which a chunk is sent. The last message may exceed it.
const CHUNK: usize = 32 * 1024;

/// Recent events that come with a snapshot: the last minutes of a busy node.
const LATELY: usize = 600;

/// The browser's delay before it reconnects, in milliseconds.
const RETRY: u32 = 1500;

/// The stream of one page.
pub(super) struct Telling {
    page: Page,
    watch: Watch,
    subscriber: Enlisted,
    /// Released when the page is closed.
    _place: OwnedSemaphorePermit,
    begun: bool,
    over: bool,
    /// When figures are due.
    due: Mono,
    /// The number of the last relist sent.
    relist: u64,
    chunk: String,
}

// === impl Telling ===

impl Telling {
    pub(super) fn new(page: Page, watch: Watch, subscriber: Enlisted, place: OwnedSemaphorePermit) -> Self {
        let due = page.0.clock.now();
        let chunk = String::new();
        Self { page, watch, subscriber, _place: place, begun: false, over: false, due, relist: 0, chunk }
    }

    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.begun {
            self.begun = true;
            let _ = write!(self.chunk, "retry: {RETRY}\n\n");
            let who = self.page.0.who();
            self.say(None, "hello", &who);
        }
        loop {
            if self.subscriber.disconnect.is_cancelled() {
                return self.last(json!({ "why": "an operator has disconnected this page" }));
            }
            if self.page.0.clock.now() >= self.due {
                self.say_figures();
            }
            if let Err(error) = self.gather() {
                return self.last_of(&error);
            }
            if !self.chunk.is_empty() {
                return Some(self.taken());
            }
            let wait = self.due.since(self.page.0.clock.now());
            let update = tokio::select! {
                update = self.watch.next() => update,
                () = tokio::time::sleep(wait) => continue,
                () = self.subscriber.disconnect.cancelled() => continue,
            };
            match update {
                Ok(update) => self.tell(update),
                Err(error) => return self.last_of(&error),
            }
        }
    }

    /// Adds the available updates to the chunk, up to its size limit.
    fn gather(&mut self) -> Result<(), WatchError> {
        while self.chunk.len() < CHUNK {
            match self.watch.try_next()? {
                Some(update) => self.tell(update),
                None => break,
            }
        }
        Ok(())
    }

    fn tell(&mut self, update: Update) {
        match update {
            // `who` and the figures contain the same data.
            Update::Hello(_) => {}
            Update::Pod(pod) => self.say(None, "pod", &words::pod(&pod)),
            Update::SnapshotEnd { position, pods } => {
                let lately = self.page.0.feed.journal().recent(position.sequence, LATELY);
                let lately: Vec<Value> = lately.iter().map(|record| words::event(record)).collect();
                self.say(Some(position), "synced", &json!({ "pods": pods, "lately": lately }));
            }
            Update::Event { record, .. } => {
                let mut change = words::event(&record);
                match &record.pod {
                    Some(pod) if pod.sequence == record.event.sequence => change["pod"] = words::pod(pod),
                    Some(_) => {}
                    None => change["pod"] = Value::Null,
                }
                let position = self.page.0.feed.journal().position(record.event.sequence);
                self.say(Some(position), "change", &change);
                self.subscriber.events.fetch_add(1, Ordering::Relaxed);
            }
            Update::Restarted(restart) => {
                let restart = json!({
                    "down_since": restart.down_since.to_string(),
                    "up_since": restart.up_since.to_string(),
                    "blind": restart.blind,
                });
                self.say(None, "restarted", &restart);
            }
            Update::Bookmark(position) => self.say(Some(position), "bookmark", &json!({})),
            Update::Gap(gap) => {
                let reason = match gap.reason {
                    GapReason::Compacted => "compacted",
                    GapReason::ForeignEpoch => "foreign_epoch",
                    GapReason::InFuture => "in_future",
                };
                self.say(None, "gap", &json!({ "reason": reason, "from": gap.from, "to": gap.to }));
                self.subscriber.gap(gap.reason);
            }
            Update::Mode { mode, previous } => {
                let mode = json!({ "mode": mode.as_str(), "previous": previous.as_str() });
                self.say(None, "mode", &mode);
                self.say_figures();
            }
        }
    }

    fn say_figures(&mut self) {
        self.due = self.page.0.clock.now() + BEAT;
        let relists = self.page.0.metrics.relists.ended_after(self.relist);
        self.relist = relists.last().map_or(self.relist, |last| last.number);
        let figures = self.page.0.figures(&relists);
        self.say(None, "figures", &figures);
    }

    /// Adds a message. JSON has no line breaks here, so a single `data` line is enough.
    fn say(&mut self, id: Option<Position>, event: &str, data: &Value) {
        if let Some(id) = id {
            let _ = writeln!(self.chunk, "id: {id}");
        }
        let _ = write!(self.chunk, "event: {event}\ndata: {data}\n\n");
    }

    /// Ends the stream. If plegd stops, there is no `ended` message, since the browser must reconnect.
    fn last_of(&mut self, error: &WatchError) -> Option<Bytes> {
        self.over = true;
        match error {
            WatchError::Ending => (!self.chunk.is_empty()).then(|| self.taken()),
            other => self.last(json!({ "why": other.to_string() })),
        }
    }

    fn last(&mut self, why: Value) -> Option<Bytes> {
        self.over = true;
        self.say(None, "ended", &why);
        Some(self.taken())
    }

    fn taken(&mut self) -> Bytes {
        let chunk = std::mem::take(&mut self.chunk);
        self.subscriber.sent(chunk.len());
        chunk.into()
    }
}

impl IntoResponse for Telling {
    fn into_response(self) -> Response {
        let chunks = futures::stream::unfold(self, |mut telling| async {
            let chunk = telling.next().await?;
            Some((Ok::<_, Infallible>(chunk), telling))
        });
        ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(chunks))
            .into_response()
    }
}
