//! What subscribers are told.

use std::sync::Arc;

use super::{Labels, ObjectId, PodIdentity, Subject};
use crate::clock::Wall;

/// One change of one container or sandbox, told exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the journal: grows by one with each event, without holes.
    pub sequence: u64,
    /// What happened.
    pub kind: EventType,
    /// To what kind of thing.
    pub subject: Subject,
    /// In which pod.
    pub pod: PodIdentity,
    /// Labels of the pod, as [`crate::model::Pod::labels`]; empty if none of its sandboxes has been seen.
    pub labels: Labels,
    /// Id of the container or, for a sandbox's event, of the sandbox (as CRI's events and the kubelet's do).
    pub id: ObjectId,
    /// Name of the container; empty for a sandbox, and for a container of which nothing but the removal was ever seen.
    pub container_name: Arc<str>,
    /// Which path saw it first.
    pub source: Source,
    /// When it happened, by the runtime's clock: `started_at` of a start, `finished_at` of a death, the event's timestamp of a removal
    /// and of the start of a sandbox. None where the runtime does not say.
    pub occurred_at: Option<Wall>,
    /// When plegd saw it.
    pub observed_at: Wall,
    /// The stamp of the CRI event that told it, if one did.
    pub stamped_at: Option<Wall>,
    /// Exit code of a death or of a removal after it; none where it could not be had.
    pub exit_code: Option<i32>,
    /// The runtime's short reason, such as `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Found by the first relist after a start without saved state: it may have happened long before. It counts in no latency and in
    /// no comparison of the paths.
    pub initial: bool,
    /// Nobody saw this phase, but what was seen proves that it has been: the start of a container first seen dead, the
    /// death of one that is gone.
    pub inferred: bool,
}

/// Types of pod lifecycle events, with the kubelet's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// A container was started; a sandbox is ready.
    ContainerStarted,
    /// A container ended; a sandbox is no longer ready.
    ContainerDied,
    /// It is gone from the runtime.
    ContainerRemoved,
    /// Something else about it changed: it was created, became unknown or known again, its exit has another reason.
    ContainerChanged,
    /// What was told before was wrong and has been corrected: look at the pod again.
    PodSync,
}

/// Which path a change was seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The runtime's event stream.
    Event,
    /// The generic relist.
    Relist,
    /// A targeted read: of what was undecided, of what changes in silence, or at a reader's request.
    Read,
}

// === impl EventType ===

impl EventType {
    /// All types.
    pub const ALL: [EventType; 5] = [
        EventType::ContainerStarted,
        EventType::ContainerDied,
        EventType::ContainerRemoved,
        EventType::ContainerChanged,
        EventType::PodSync,
    ];

    /// The kubelet's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::ContainerStarted => "ContainerStarted",
            EventType::ContainerDied => "ContainerDied",
            EventType::ContainerRemoved => "ContainerRemoved",
            EventType::ContainerChanged => "ContainerChanged",
            EventType::PodSync => "PodSync",
        }
    }
}

// === impl Source ===

impl Source {
    /// All sources.
    pub const ALL: [Source; 3] = [Source::Event, Source::Relist, Source::Read];

    /// `event`, `relist` or `read`.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Event => "event",
            Source::Relist => "relist",
            Source::Read => "read",
        }
    }
}
