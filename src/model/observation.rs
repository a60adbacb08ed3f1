//! A view of a pod from one source, and when it was true.

use std::sync::Arc;

use super::{ContainerStatus, ObjectId, PodIdentity, SandboxStatus, Source};
use crate::clock::{Mono, Wall, slewed_in};

/// When a view was true: at some moment in `[lower, upper]` of plegd's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Not before this. Unknown for an event: its statuses were read at some time before its timestamp was taken.
    pub lower: Option<Mono>,
    /// Not after this.
    pub upper: Mono,
}

/// A view of one pod, from one source, at one time.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Where the view comes from.
    pub origin: Origin,
    /// The path that events published for this view name as their source.
    pub source: Source,
    /// The event of the stream, if the view comes from one.
    pub stream_event: Option<StreamEvent>,
    /// When it was true.
    pub interval: Interval,
    /// The moment that the event's own timestamp claims, at most `interval.upper`. It may be wrong by any amount: it only makes a view
    /// look old, which a read then confirms. For a read it is `interval.upper`.
    pub claimed: Mono,
    /// When plegd observed it, on the wall clock.
    pub observed_at: Wall,
    /// The pod.
    pub pod: PodIdentity,
    /// Sandboxes in the view.
    pub sandboxes: Vec<Arc<SandboxStatus>>,
    /// Containers in the view.
    pub containers: Vec<Arc<ContainerStatus>>,
    /// Ids that a read did not find. Empty for an event: an event shows a part of the pod only.
    pub absent: Vec<ObjectId>,
    /// How much of the statuses is there.
    pub detail: Detail,
    /// Ids that the first relist found: their first event is initial inventory.
    pub initial: Vec<ObjectId>,
    /// Whether list and status disagree for good about what is in it.
    pub unreadable: bool,
}

// === impl Observation ===

impl Observation {
    /// The status calls of plegd about a pod, still without a status.
    pub fn read(source: Source, interval: Interval, observed_at: Wall, pod: PodIdentity) -> Self {
        Self::new(Origin::Status, source, interval, observed_at, pod)
    }

    /// A list of plegd, still without an object.
    pub fn list(source: Source, interval: Interval, observed_at: Wall, pod: PodIdentity) -> Self {
        let list = Self::new(Origin::List, source, interval, observed_at, pod);
        Self { detail: Detail::Minimal, ..list }
    }

    /// An event of the stream that was received at `received`, still without a payload.
    pub fn event(event: StreamEvent, received: Mono, observed_at: Wall, pod: PodIdentity) -> Self {
        let interval = Interval { lower: None, upper: received };
        let observation = Self::new(Origin::Event, Source::Event, interval, observed_at, pod);
        Self { stream_event: Some(event), ..observation }
    }

    /// Whether an event certainly claims to be no older than a moment, however its clock was slewed since.
    pub fn is_newer_than(&self, moment: Mono) -> bool {
        let slewed = slewed_in(self.interval.upper.since(self.claimed));
        // The claim is as late as slewing allows, which works in both directions; a tenth more, since the age is measured from it.
        self.claimed - slewed.mul_f64(2.1) >= moment
    }

    fn new(origin: Origin, source: Source, interval: Interval, observed_at: Wall, pod: PodIdentity) -> Self {
        Self {
            origin,
            source,
            stream_event: None,
            interval,
            claimed: interval.upper,
            observed_at,
            pod,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            absent: Vec::new(),
            detail: Detail::Full,
            initial: Vec::new(),
            unreadable: false,
        }
    }
}

/// How much of the statuses an observation carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All that the runtime sent.
    Full,
    /// The state, the times and the exit only: a list has no more, and an event is stripped to it when the queue is full.
    Minimal,
}

/// Where a view comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The runtime, in an event: read at an unknown time before the event's timestamp.
    Event,
    /// A list of plegd: phases and metadata only. A list may show an id that is gone.
    List,
    /// Status calls of plegd, between two moments of its own clock.
    Status,
}

/// The head of a CRI event: an id and the type of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// The container or the sandbox.
    pub id: ObjectId,
    /// Type of the event.
    pub kind: StreamEventType,
    /// `created_at` of the event, if it is a valid time.
    pub stamped_at: Option<Wall>,
}

/// CRI's `ContainerEventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamEventType {
    /// `CONTAINER_CREATED_EVENT`
    Created,
    /// `CONTAINER_STARTED_EVENT`
    Started,
    /// `CONTAINER_STOPPED_EVENT`
    Stopped,
    /// `CONTAINER_DELETED_EVENT`
    Deleted,
}

// === impl StreamEventType ===

impl StreamEventType {
    /// All types.
    pub const ALL: [StreamEventType; 4] = [
        StreamEventType::Created,
        StreamEventType::Started,
        StreamEventType::Stopped,
        StreamEventType::Deleted,
    ];

    /// `created`, `started`, `stopped` or `deleted`.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamEventType::Created => "created",
            StreamEventType::Started => "started",
            StreamEventType::Stopped => "stopped",
            StreamEventType::Deleted => "deleted",
        }
    }
}
