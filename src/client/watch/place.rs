//! Where a watch stands: what to ask for on the next connection, and what a message means here.

use super::{Since, Update};
use crate::{
    client::CallError,
    model::Position,
    v1::{self, watch_response::Update as Wire},
};

/// The state of a watch that outlives its connections.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Where to begin while there is no position.
    begin: v1::Start,
    /// All up to here has been told.
    after: Option<Position>,
    /// The run of plegd that the present stream is of, once it has said so.
    epoch: Option<u64>,
}

// === impl Place ===

impl Place {
    pub(super) fn new(since: Since) -> Self {
        let (begin, after) = match since {
            Since::Snapshot => (v1::Start::Snapshot, None),
            Since::Now => (v1::Start::Now, None),
            Since::Oldest => (v1::Start::Oldest, None),
            Since::After(position) => (v1::Start::Unspecified, Some(position)),
        };
        Self { begin, after, epoch: None }
    }

    /// All up to here has been told.
    pub(super) fn after(&self) -> Option<Position> {
        self.after
    }

    /// What to ask for on a new connection.
    pub(super) fn start(&self) -> (v1::Start, Option<Position>) {
        match self.after {
            Some(after) => (v1::Start::Unspecified, Some(after)),
            None => (self.begin, None),
        }
    }

    /// What a message means: nothing, where it is not known or was told before.
    pub(super) fn take(&mut self, message: v1::WatchResponse) -> Result<Option<Update>, CallError> {
        let skipped = message.skipped;
        let update = match message.update {
            // A newer plegd may say more than is known here.
            None => return Ok(None),
            Some(Wire::Hello(hello)) => self.greeted(hello)?,
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
                // What follows is a snapshot. Should it be interrupted, another one is wanted, and not the gap again.
                self.after = None;
                self.begin = v1::Start::Snapshot;
                Update::Gap(gap)
            }
            Some(Wire::ModeChange(change)) => Update::ModeChange(change),
        };
        Ok(Some(update))
    }

    fn greeted(&mut self, hello: v1::Hello) -> Result<Update, CallError> {
        let head: Position = hello.head.ok_or_else(|| CallError::missing("head"))?.into();
        self.epoch = Some(head.epoch);
        if let Some(after) = self.after {
            return Ok(Update::Resumed { hello, after });
        }
        // From here on a lost connection must not cost events that come between.
        self.after = match self.begin {
            v1::Start::Now => Some(head),
            v1::Start::Oldest => {
                Some(Position { epoch: head.epoch, sequence: hello.oldest.saturating_sub(1) })
            }
            v1::Start::Snapshot | v1::Start::Unspecified => None,
        };
        Ok(Update::Connected(hello))
    }

    /// Goes on to a position, and says whether that is new.
    fn advance(&mut self, to: Position) -> bool {
        let told = self.after.is_some_and(|after| after.epoch == to.epoch && after.sequence >= to.sequence);
        if !told {
            self.after = Some(to);
        }
        !told
    }
}
