//! What a source says, and how much is known about when it was true.

use std::sync::Arc;

use super::{ContainerStatus, ObjectId, PodIdentity, SandboxStatus, Source};
use crate::clock::{Mono, Wall, slewed_in};

/// When a view was true: at some moment in `[lower, upper]` of plegd's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Not before this; unknown for an event, whose statuses were read at some time before it was stamped.
    pub lower: Option<Mono>,
    /// Not after this.
    pub upper: Mono,
}

/// What one source says of one pod at one time.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Who says it.
    pub origin: Origin,
    /// When it was true.
    pub stamp: Stamp,
    /// The moment that the event's own timestamp claims, at most `stamp.upper`. It may be wrong by any amount: it only makes a view
    /// look old, which a read then confirms. For a read it is `stamp.upper`.
    pub claimed: Mono,
    /// When plegd came to know, on the wall clock.
    pub observed_at: Wall,
    /// The pod, where the source says which.
    pub pod: PodIdentity,
    /// Sandboxes that were seen.
    pub sandboxes: Vec<Arc<SandboxStatus>>,
    /// Containers that were seen.
    pub containers: Vec<Arc<ContainerStatus>>,
    /// Ids that a read looked for and did not find. An event never has any: what is missing in one says nothing.
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
    /// What a read that plegd began itself shows of a pod; nothing yet.
    pub fn read(source: Source, stamp: Stamp, observed_at: Wall, pod: PodIdentity) -> Self {
        Self::new(Origin::Read(source), stamp, observed_at, pod)
    }

    /// What an event shows of a pod that it was received about at `received`; nothing yet.
    pub fn event(signal: Signal, received: Mono, observed_at: Wall, pod: PodIdentity) -> Self {
        Self::new(Origin::Event(signal), Stamp { lower: None, upper: received }, observed_at, pod)
    }

    /// Whether an event claims for certain to be no older than a moment, however its clock was slewed since.
    pub fn is_newer_than(&self, moment: Mono) -> bool {
        let slewed = slewed_in(self.stamp.upper.since(self.claimed));
        // The claim is as late as slewing allows, which works in both directions; a tenth more, since the age is measured from it.
        self.claimed - slewed.mul_f64(2.1) >= moment
    }

    fn new(origin: Origin, stamp: Stamp, observed_at: Wall, pod: PodIdentity) -> Self {
        Self {
            origin,
            stamp,
            claimed: stamp.upper,
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
    /// All that the runtime said.
    Full,
    /// The state, the times and the exit only: the list of a relist has no more, and a stream that runs ahead of plegd
    /// is cut down to it.
    Lean,
}

/// Where an observation comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An event of the stream, and what it signals.
    Event(Signal),
    /// A read that plegd began itself: as part of a relist or targeted.
    Read(Source),
}

/// The head of a CRI event: what happened to which id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The container or the sandbox.
    pub id: ObjectId,
    /// What happened to it.
    pub kind: SignalType,
    /// `created_at` of the event, where it is a time at all.
    pub stamped_at: Option<Wall>,
}

/// CRI's `ContainerEventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalType {
    /// `CONTAINER_CREATED_EVENT`
    Created,
    /// `CONTAINER_STARTED_EVENT`
    Started,
    /// `CONTAINER_STOPPED_EVENT`
    Stopped,
    /// `CONTAINER_DELETED_EVENT`
    Deleted,
}

// === impl SignalType ===

impl SignalType {
    /// All types.
    pub const ALL: [SignalType; 4] =
        [SignalType::Created, SignalType::Started, SignalType::Stopped, SignalType::Deleted];

    /// `created`, `started`, `stopped` or `deleted`.
    pub fn as_str(self) -> &'static str {
        match self {
            SignalType::Created => "created",
            SignalType::Started => "started",
            SignalType::Stopped => "stopped",
            SignalType::Deleted => "deleted",
        }
    }
}
