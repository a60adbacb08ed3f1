//! The stream of one page: a watch as server-sent events, with figures in between.
//!
//! | event | contents | id |
//! | --- | --- | --- |
//! | `hello` | the node and this daemon | |
//! | `pod` | a pod of a snapshot | |
//! | `synced` | the snapshot is complete and replaces the previous pods; with recent events before it | its position |
//! | `change` | an event; with the pod if the event ends a change, `null` if the pod is gone | its position |
//! | `gap` | events are missing, and a snapshot follows | |
//! | `restarted` | plegd was restarted: the times of its end and start | |
//! | `bookmark` | no further events up to this position | its position |
//! | `mode`, `figures` | the mode and the figures, at least every [`FIGURES_INTERVAL`] | |
//! | `ended` | an operator disconnected the page, or the watch failed | |
//!
//! Ids are positions, so a browser that reconnects resumes at its last one. Only a message at which a watch can resume has an id. A
//! browser that disconnects within a snapshot gets a new snapshot.
//!
//! Nothing is queued: a message is built when the connection can take it. A browser that reads nothing is disconnected like any other
//! HTTP client. The figures are the heartbeat that detects such a browser.

use std::{convert::Infallible, fmt::Write as _, sync::atomic::Ordering, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::{Page, json as page_json};
use crate::{
    api::subscribers::Registration,
    clock::Mono,
    model::Position,
    watch::{GapReason, Update, Watch, WatchError},
};

/// Interval of the figures.
pub(super) const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// Size in bytes at which a chunk is sent. The last message may exceed it.
const CHUNK_BYTES: usize = 32 * 1024;

/// The number of recent events sent with a snapshot: the last minutes of a busy node.
const RECENT_EVENTS: usize = 600;

/// The browser's delay before it reconnects, in milliseconds.
const RETRY_MILLIS: u32 = 1500;

/// The stream of one page.
pub(super) struct PageStream {
    page: Page,
    watch: Watch,
    subscriber: Registration,
    /// Released when the page is closed.
    _permit: OwnedSemaphorePermit,
    started: bool,
    ended: bool,
    /// When the next figures are due.
    figures_due: Mono,
    /// The number of the last relist sent.
    last_relist: u64,
    chunk: String,
}

// === impl PageStream ===

impl PageStream {
    pub(super) fn new(
        page: Page,
        watch: Watch,
        subscriber: Registration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let figures_due = page.0.clock.now();
        Self {
            page,
            watch,
            subscriber,
            _permit: permit,
            started: false,
            ended: false,
            figures_due,
            last_relist: 0,
            chunk: String::new(),
        }
    }

    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !self.started {
            self.started = true;
            let _ = write!(self.chunk, "retry: {RETRY_MILLIS}\n\n");
            let identity = self.page.0.identity();
            self.write_message(None, "hello", &identity);
        }
        loop {
            if self.subscriber.disconnect.is_cancelled() {
                return self.end(json!({ "why": "an operator disconnected this page" }));
            }
            if self.page.0.clock.now() >= self.figures_due {
                self.write_figures();
            }
            if let Err(error) = self.write_available() {
                return self.end_with_error(&error);
            }
            if !self.chunk.is_empty() {
                return Some(self.take_chunk());
            }
            let wait = self.figures_due.since(self.page.0.clock.now());
            let update = tokio::select! {
                update = self.watch.next() => update,
                () = tokio::time::sleep(wait) => continue,
                () = self.subscriber.disconnect.cancelled() => continue,
            };
            match update {
                Ok(update) => self.write_update(update),
                Err(error) => return self.end_with_error(&error),
            }
        }
    }

    /// Adds the available updates to the chunk, up to its size limit.
    fn write_available(&mut self) -> Result<(), WatchError> {
        while self.chunk.len() < CHUNK_BYTES {
            match self.watch.try_next()? {
                Some(update) => self.write_update(update),
                None => break,
            }
        }
        Ok(())
    }

    fn write_update(&mut self, update: Update) {
        match update {
            // The first message and the figures contain the same data.
            Update::Hello(_) => {}
            Update::Pod(pod) => self.write_message(None, "pod", &page_json::pod(&pod)),
            Update::SnapshotEnd { position, pods } => {
                let recent = self.page.0.feed.journal().recent(position.sequence, RECENT_EVENTS);
                let recent: Vec<Value> = recent.iter().map(|record| page_json::event(record)).collect();
                self.write_message(Some(position), "synced", &json!({ "pods": pods, "lately": recent }));
            }
            Update::Event { record, .. } => {
                let mut change = page_json::event(&record);
                match &record.pod {
                    Some(pod) if pod.sequence == record.event.sequence => change["pod"] = page_json::pod(pod),
                    Some(_) => {}
                    None => change["pod"] = Value::Null,
                }
                let position = self.page.0.feed.journal().position(record.event.sequence);
                self.write_message(Some(position), "change", &change);
                self.subscriber.events.fetch_add(1, Ordering::Relaxed);
            }
            Update::Restarted(restart) => {
                let restart = json!({
                    "down_since": restart.down_since.to_string(),
                    "up_since": restart.up_since.to_string(),
                    "blind": restart.blind,
                });
                self.write_message(None, "restarted", &restart);
            }
            Update::Bookmark(position) => self.write_message(Some(position), "bookmark", &json!({})),
            Update::Gap(gap) => {
                let reason = match gap.reason {
                    GapReason::Compacted => "compacted",
                    GapReason::ForeignEpoch => "foreign_epoch",
                    GapReason::InFuture => "in_future",
                };
                self.write_message(None, "gap", &json!({ "reason": reason, "from": gap.from, "to": gap.to }));
                self.subscriber.gap(gap.reason);
            }
            Update::Mode { mode, previous } => {
                let mode = json!({ "mode": mode.as_str(), "previous": previous.as_str() });
                self.write_message(None, "mode", &mode);
                self.write_figures();
            }
        }
    }

    fn write_figures(&mut self) {
        self.figures_due = self.page.0.clock.now() + FIGURES_INTERVAL;
        let relists = self.page.0.metrics.relists.ended_after(self.last_relist);
        self.last_relist = relists.last().map_or(self.last_relist, |last| last.number);
        let figures = self.page.0.figures(&relists);
        self.write_message(None, "figures", &figures);
    }

    /// Adds a message. JSON has no line breaks here, so a single `data` line is enough.
    fn write_message(&mut self, id: Option<Position>, event: &str, data: &Value) {
        if let Some(id) = id {
            let _ = writeln!(self.chunk, "id: {id}");
        }
        let _ = write!(self.chunk, "event: {event}\ndata: {data}\n\n");
    }

    /// Ends the stream. If plegd stops, there is no `ended` message, since the browser must reconnect.
    fn end_with_error(&mut self, error: &WatchError) -> Option<Bytes> {
        self.ended = true;
        match error {
            WatchError::Ending => (!self.chunk.is_empty()).then(|| self.take_chunk()),
            other => self.end(json!({ "why": other.to_string() })),
        }
    }

    fn end(&mut self, reason: Value) -> Option<Bytes> {
        self.ended = true;
        self.write_message(None, "ended", &reason);
        Some(self.take_chunk())
    }

    fn take_chunk(&mut self) -> Bytes {
        let chunk = std::mem::take(&mut self.chunk);
        self.subscriber.sent(chunk.len());
        chunk.into()
    }
}

impl IntoResponse for PageStream {
    fn into_response(self) -> Response {
        let chunks = futures::stream::unfold(self, |mut stream| async {
            let chunk = stream.next().await?;
            Some((Ok::<_, Infallible>(chunk), stream))
        });
        ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(chunks))
            .into_response()
    }
}
