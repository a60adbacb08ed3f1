//! The messages of one watch, encoded and counted.

use std::sync::atomic::Ordering;

use futures::Stream;
use tonic::Status;

use super::Lifecycle;
use crate::{
    api::{subscribers::Registration, wire::Encoded},
    watch::{Update, Watch},
};

struct Messages {
    watch: Watch,
    subscriber: Registration,
    service: Lifecycle,
}

/// The messages, until the watch ends or its subscriber is disconnected.
pub(super) fn messages(
    watch: Watch,
    subscriber: Registration,
    service: Lifecycle,
) -> impl Stream<Item = Result<Encoded, Status>> + Send {
    let messages = Messages { watch, subscriber, service };
    futures::stream::unfold(Some(messages), |messages| async {
        let mut messages = messages?;
        match messages.next().await {
            Ok(message) => Some((Ok(message), Some(messages))),
            Err(status) => Some((Err(status), None)),
        }
    })
}

// === impl Messages ===

impl Messages {
    async fn next(&mut self) -> Result<Encoded, Status> {
        if self.subscriber.disconnect.is_cancelled() {
            return Err(disconnected());
        }
        // An update that is available needs neither waiting nor its setup.
        let update = match self.watch.try_next()? {
            Some(update) => update,
            None => tokio::select! {
                update = self.watch.next() => update?,
                () = self.subscriber.disconnect.cancelled() => return Err(disconnected()),
            },
        };
        Ok(self.encode(&update))
    }

    fn encode(&self, update: &Update) -> Encoded {
        let inner = &self.service.0;
        let message = Encoded::of(update, self.subscriber.info.detail, inner.feed.journal(), &inner.node);
        match update {
            Update::Event { .. } => {
                self.subscriber.events.fetch_add(1, Ordering::Relaxed);
            }
            Update::Gap(gap) => self.subscriber.gap(gap.reason),
            _ => {}
        }
        self.subscriber.sent(message.0.len());
        message
    }
}

fn disconnected() -> Status {
    Status::aborted("an operator disconnected this subscriber; it can resume after its last position")
}
