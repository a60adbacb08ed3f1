//! What the runtime has said, if somebody wants to know: tests hold what plegd tells against it.
//!
//! Owns the record. Something counts as said when the answer leaves the service, after all faults: what became of it on the
//! way to the client this room does not know. Off until [`super::SimRuntime::record_said`].

use super::{codec::NOT_UTF_8, v1};
use crate::clock::{Mono, Wall};

/// Something that was said.
#[derive(Clone, Debug)]
pub struct Said {
    /// When.
    pub at: Mono,
    /// When, on the wall clock.
    pub wall: Wall,
    /// What.
    pub what: Saying,
}

/// What was said.
#[derive(Clone, Debug)]
pub enum Saying {
    /// An event, to a client of the service.
    Event(v1::ContainerEventResponse),
    /// All sandboxes.
    Sandboxes(Vec<v1::PodSandbox>),
    /// All containers.
    Containers(Vec<v1::Container>),
    /// A sandbox.
    Sandbox(v1::PodSandboxStatus),
    /// A container.
    Container(v1::ContainerStatus),
    /// Something that does not decode, in place of one of these.
    Garbage,
}

// === impl Saying ===

impl Saying {
    /// Whether it has been made not to decode.
    pub(super) fn is_garbage(&self) -> bool {
        let id = match self {
            Self::Event(event) => &event.container_id,
            Self::Sandboxes(sandboxes) => return sandboxes.iter().any(|sandbox| sandbox.id == NOT_UTF_8),
            Self::Containers(containers) => {
                return containers.iter().any(|container| container.id == NOT_UTF_8);
            }
            Self::Sandbox(status) => &status.id,
            Self::Container(status) => &status.id,
            Self::Garbage => return true,
        };
        id == NOT_UTF_8
    }
}
