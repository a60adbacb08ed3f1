//! The state of a watch: the request for the next connection, and the meaning of a message in this state.

use super::{Since, Update};
use crate::{
    client::CallError,
    model::Position,
    v1::{self, watch_response::Update as Wire},
};

/// The state of a watch that outlives its connections.
#[derive(Clone, Debug)]
pub(super) struct WatchState {
    /// The start to request while there is no position.
    initial_start: v1::Start,
    /// All events up to this position have been delivered.
    after: Option<Position>,
    /// The epoch of the plegd that sends the current stream, once its Hello message has arrived.
    epoch: Option<u64>,
    /// The start time in the last [`Update::Restarted`].
    restarted: Option<prost_types::Timestamp>,
}

// === impl WatchState ===

impl WatchState {
    pub(super) fn new(since: Since) -> Self {
        let (initial_start, after) = match since {
            Since::Snapshot => (v1::Start::Snapshot, None),
            Since::Now => (v1::Start::Now, None),
            Since::Oldest => (v1::Start::Oldest, None),
            Since::After(position) => (v1::Start::Unspecified, Some(position)),
        };
        Self { initial_start, after, epoch: None, restarted: None }
    }

    /// All events up to this position have been delivered.
    pub(super) fn after(&self) -> Option<Position> {
        self.after
    }

    /// The start and the position to request on a new connection.
    pub(super) fn start(&self) -> (v1::Start, Option<Position>) {
        match self.after {
            Some(after) => (v1::Start::Unspecified, Some(after)),
            None => (self.initial_start, None),
        }
    }

    /// The update for a message; `None` if its kind is unknown or it was delivered before.
    pub(super) fn take(&mut self, message: v1::WatchResponse) -> Result<Option<Update>, CallError> {
        let skipped = message.skipped;
        let update = match message.update {
            // A newer plegd may send messages that this version does not know.
            None => return Ok(None),
            Some(Wire::Hello(hello)) => self.on_hello(hello)?,
            Some(Wire::Pod(pod)) => Update::Pod(pod),
            Some(Wire::SnapshotEnd(end)) => {
                let position = end.position.ok_or_else(|| CallError::missing("position"))?.into();
                self.after = Some(position);
                Update::SnapshotEnd { position, pods: end.pods }
            }
            Some(Wire::Event(event)) => {
                let epoch = self.epoch.ok_or_else(|| CallError::missing("Hello"))?;
                let position = Position { epoch, sequence: event.sequence };
                if !self.advance(position) {
                    return Ok(None);
                }
                Update::Event { event, position, skipped }
            }
            Some(Wire::Bookmark(bookmark)) => {
                let position = bookmark.position.ok_or_else(|| CallError::missing("position"))?.into();
                self.advance(position);
                Update::Bookmark(position)
            }
            Some(Wire::Gap(gap)) => {
                // A snapshot follows. If it is interrupted, the next connection requests another snapshot, not the gap again.
                self.after = None;
                self.initial_start = v1::Start::Snapshot;
                Update::Gap(gap)
            }
            Some(Wire::ModeChange(change)) => Update::ModeChange(change),
            Some(Wire::Restarted(restart)) => {
                // plegd sends this message again to a watch that resumes at the same position.
                if self.restarted == restart.up_since {
                    return Ok(None);
                }
                self.restarted = restart.up_since;
                Update::Restarted(restart)
            }
        };
        Ok(Some(update))
    }

    fn on_hello(&mut self, hello: v1::Hello) -> Result<Update, CallError> {
        let head: Position = hello.head.ok_or_else(|| CallError::missing("head"))?.into();
        self.epoch = Some(head.epoch);
        if let Some(after) = self.after {
            return Ok(Update::Resumed { hello, after });
        }
        // From here on, a lost connection must not lose the events in between.
        self.after = match self.initial_start {
            v1::Start::Now => Some(head),
            v1::Start::Oldest => {
                Some(Position { epoch: head.epoch, sequence: hello.oldest.saturating_sub(1) })
            }
            v1::Start::Snapshot | v1::Start::Unspecified => None,
        };
        Ok(Update::Connected(hello))
    }

    /// Advances to a position. Returns whether it is new.
    fn advance(&mut self, to: Position) -> bool {
        let delivered =
            self.after.is_some_and(|after| after.epoch == to.epoch && after.sequence >= to.sequence);
        if !delivered {
            self.after = Some(to);
        }
        !delivered
    }
}
