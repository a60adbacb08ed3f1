//! The recordings: the journal of each run of plegd, and the messages that one subscriber received.

use std::sync::Arc;

use plegd::{
    api::v1,
    journal::Record,
    model::{Event, Position},
    watch::{Filter, Gap, GapReason, SlowPolicy, Start, Update, WatchError},
};

/// The journal of one run of plegd: every event, read by a cursor that never fell behind. Event n is at index n - 1.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub epoch: u64,
    /// How many events the ring holds.
    pub capacity: u64,
    pub published: Vec<Published>,
    /// The heads at which its processes have ended.
    pub ends: Vec<u64>,
    /// The last event that a restarted process does not have any more: the state on disk was too small, or the machine booted.
    pub forgotten: u64,
}

/// An event, and the pod after the change that the event belongs to.
#[derive(Clone, Debug)]
pub struct Published {
    pub event: Event,
    pub pod: Option<Arc<v1::Pod>>,
}

/// The source of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A watch within the process: an event has the labels of its pod.
    Embedded,
    /// Messages of the API: an event has no labels.
    Wire,
}

/// Everything that one subscriber received, over all its connections.
#[derive(Clone, Debug)]
pub struct Recording {
    pub name: String,
    pub layer: Layer,
    pub filter: Filter,
    pub policy: SlowPolicy,
    /// Whether events come with their pods.
    pub pods: bool,
    pub connections: Vec<Connection>,
    /// Whether it read until the end.
    pub drained: bool,
}

/// The messages of one connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub start: Start,
    pub items: Vec<Item>,
    pub end: End,
}

/// One message.
#[derive(Clone, Debug)]
pub enum Item {
    Hello {
        epoch: u64,
        head: u64,
        oldest: u64,
        mode: v1::Mode,
    },
    Pod(Arc<v1::Pod>),
    SnapshotEnd {
        position: Position,
        pods: u64,
    },
    Event {
        event: Event,
        pod: Option<Arc<v1::Pod>>,
        skipped: u64,
    },
    Bookmark(Position),
    Gap(Gap),
    Mode {
        mode: v1::Mode,
        previous: v1::Mode,
    },
    /// plegd was restarted after this event.
    Restarted {
        after: u64,
    },
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Closed by either side, at any point.
    Cut,
    /// plegd has ended.
    Ending,
    /// The next event is not held any more, and the slow policy is to fail.
    Lost { reason: GapReason, oldest: u64 },
}

// === impl Published ===

impl Published {
    pub fn of(record: &Record) -> Self {
        Self { event: record.event.clone(), pod: record.pod.as_deref().map(|pod| Arc::new(pod.into())) }
    }
}

// === impl Run ===

impl Run {
    pub fn head(&self) -> u64 {
        self.published.len() as u64
    }

    /// The events after number `after`, up to number `to`.
    pub fn between(&self, after: u64, to: u64) -> &[Published] {
        let end = to.min(self.head()) as usize;
        &self.published[(after as usize).min(end)..end]
    }

    pub fn get(&self, sequence: u64) -> Option<&Published> {
        self.published.get(usize::try_from(sequence.checked_sub(1)?).ok()?)
    }

    /// Whether a state as of this sequence would contain only a part of a change.
    pub fn is_within_a_change(&self, sequence: u64) -> bool {
        let pod = self.get(sequence).and_then(|published| published.pod.as_deref());
        pod.is_some_and(|pod| pod.sequence > sequence)
    }
}

// === impl Item ===

impl Item {
    pub fn of(update: Update) -> Self {
        match update {
            Update::Hello(hello) => Self::Hello {
                epoch: hello.head.epoch,
                head: hello.head.sequence,
                oldest: hello.oldest,
                mode: hello.mode.into(),
            },
            Update::Pod(pod) => Self::Pod(Arc::new(pod.as_ref().into())),
            Update::SnapshotEnd { position, pods } => Self::SnapshotEnd { position, pods: pods as u64 },
            Update::Event { record, skipped } => Self::Event {
                event: record.event.clone(),
                pod: record.pod.as_deref().map(|pod| Arc::new(pod.into())),
                skipped,
            },
            Update::Bookmark(position) => Self::Bookmark(position),
            Update::Gap(gap) => Self::Gap(gap),
            Update::Restarted(restart) => Self::Restarted { after: restart.after },
            Update::Mode { mode, previous } => Self::Mode { mode: mode.into(), previous: previous.into() },
        }
    }

    /// Converts a message of the API.
    pub fn of_message(message: v1::WatchResponse) -> Self {
        use v1::watch_response::Update as Wire;
        let position = |position: Option<v1::Position>| position.expect("a position").into();
        match message.update.expect("a known message") {
            Wire::Hello(hello) => Self::of_hello(&hello),
            Wire::Pod(pod) => Self::Pod(Arc::new(pod)),
            Wire::SnapshotEnd(end) => {
                Self::SnapshotEnd { position: position(end.position), pods: end.pods.into() }
            }
            Wire::Event(event) => Self::of_event(event, message.skipped),
            Wire::Restarted(restarted) => Self::Restarted { after: position(restarted.position).sequence },
            Wire::Bookmark(bookmark) => Self::Bookmark(position(bookmark.position)),
            Wire::Gap(gap) => Self::of_gap(&gap),
            Wire::ModeChange(change) => Self::of_mode(&change),
        }
    }

    pub fn of_hello(hello: &v1::Hello) -> Self {
        let head = Position::from(hello.head.expect("a head"));
        Self::Hello { epoch: head.epoch, head: head.sequence, oldest: hello.oldest, mode: hello.mode() }
    }

    pub fn of_event(event: v1::Event, skipped: u64) -> Self {
        let read = Event::try_from(&event).expect("a known event");
        Self::Event { event: read, pod: event.pod_status.map(Arc::new), skipped }
    }

    pub fn of_gap(gap: &v1::Gap) -> Self {
        let reason = match gap.reason() {
            v1::GapReason::Compacted => GapReason::Compacted,
            v1::GapReason::ForeignEpoch => GapReason::ForeignEpoch,
            v1::GapReason::InFuture => GapReason::InFuture,
            v1::GapReason::Unspecified => panic!("a gap without a reason"),
        };
        Self::Gap(Gap { reason, from: gap.from, to: gap.to })
    }

    pub fn of_mode(change: &v1::ModeChange) -> Self {
        Self::Mode { mode: change.mode(), previous: change.previous() }
    }

    /// Short text for a trace.
    pub fn word(&self) -> String {
        let uid = |pod: &v1::Pod| pod.identity.as_ref().map(|pod| pod.uid.clone()).unwrap_or_default();
        match self {
            Self::Hello { epoch, head, oldest, .. } => format!("hello {epoch:x} {oldest}..{head}"),
            Self::Pod(pod) => format!("pod {} @{}", uid(pod), pod.sequence),
            Self::SnapshotEnd { position, pods } => format!("snapshot of {pods} @{}", position.sequence),
            Self::Event { event, skipped, .. } => {
                let skipped = if *skipped == 0 { String::new() } else { format!(" skipped {skipped}") };
                format!("{} {} {}{skipped}", event.sequence, event.kind.as_str(), event.pod.uid)
            }
            Self::Bookmark(position) => format!("bookmark {}", position.sequence),
            Self::Gap(gap) => format!("gap {:?} {}..{:?}", gap.reason, gap.from, gap.to),
            Self::Mode { mode, previous } => format!("mode {previous:?} to {mode:?}"),
            Self::Restarted { .. } => "restarted".into(),
        }
    }
}

// === impl End ===

impl From<WatchError> for End {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Ending => Self::Ending,
            WatchError::OutOfRange { reason, oldest, .. } => Self::Lost { reason, oldest },
            error => panic!("a valid watch ended with {error}"),
        }
    }
}

// === impl Recording ===

impl Recording {
    /// The last messages of each connection.
    pub fn trace(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: {} {:?}", self.name, self.filter, self.policy)];
        for (n, Connection { start, items, end }) in self.connections.iter().enumerate() {
            let from = items.len().saturating_sub(12);
            let words: Vec<String> = items[from..].iter().map(Item::word).collect();
            let dots = if from > 0 { "… " } else { "" };
            lines.push(format!("  {n}: {start:?}: {dots}{}; {end:?}", words.join(", ")));
        }
        lines
    }

    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.connections.iter().flat_map(|connection| &connection.items)
    }
}
