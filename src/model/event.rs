//! The lifecycle event, which subscribers receive.

use std::sync::Arc;

use super::{Labels, ObjectId, PodIdentity, Subject};
use crate::clock::Wall;

/// One change of one container or sandbox, published exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number in the journal: grows by one with each event, without holes.
    pub sequence: u64,
    /// Type of the change.
    pub kind: EventType,
    /// Whether a container or a sandbox changed.
    pub subject: Subject,
    /// Its pod.
    pub pod: PodIdentity,
    /// Labels of the pod, as [`crate::model::Pod::labels`]; empty if none of its sandboxes was observed.
    pub labels: Labels,
    /// Id of the container or, for a sandbox's event, of the sandbox (as CRI's events and the kubelet's do).
    pub id: ObjectId,
    /// Name of the container; empty for a sandbox, and for a container of which only the removal was observed.
    pub container_name: Arc<str>,
    /// The path that detected the change first.
    pub source: Source,
    /// When it happened, by the runtime's clock: `started_at` of a start, `finished_at` of a death, the event's timestamp of a removal
    /// and of the start of a sandbox. None where the runtime gives no time.
    pub occurred_at: Option<Wall>,
    /// When plegd observed it.
    pub observed_at: Wall,
    /// The timestamp of the CRI event that reported it, if one did.
    pub stamped_at: Option<Wall>,
    /// Exit code of a death or of a removal after it; none if it is not known.
    pub exit_code: Option<i32>,
    /// The runtime's short reason, such as `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Found by the first relist after a start without saved state: it may have happened long before. It counts in no latency and in
    /// no comparison of the paths.
    pub initial: bool,
    /// It happened before plegd was restarted, mostly while it was down, and was published after that; or the runtime gives no time, and
    /// plegd has not observed the id since the restart. It counts in no latency.
    pub late: bool,
    /// Concluded from a later observation and not observed itself: the start of a container that was first observed exited, or the
    /// death of a container that is gone.
    pub inferred: bool,
}

/// Types of pod lifecycle events, with the kubelet's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// A container was started; a sandbox is ready.
    ContainerStarted,
    /// A container ended; a sandbox is no longer ready.
    ContainerDied,
    /// The runtime has removed it.
    ContainerRemoved,
    /// Any other change: a creation, a state that becomes unknown or known again, another reason of an exit.
    ContainerChanged,
    /// An earlier event was wrong and has been corrected: the subscriber should reconcile the pod.
    PodSync,
}

/// The path that detected a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The runtime's event stream.
    Event,
    /// The generic relist.
    Relist,
    /// A targeted read: after an undecided observation, of changes without an event, or for a client that needs fresh state.
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

    /// The kubelet's name.
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
