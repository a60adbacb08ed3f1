//! A record of the messages that the runtime sent: tests compare what plegd publishes with it.
//!
//! A message is recorded when it leaves the service, after all faults. Whether it reached the client is not known
//! here. Nothing is recorded before [`super::SimRuntime::record_exchanges`].

use super::{codec::NOT_UTF_8, v1};
use crate::clock::{Mono, Wall};

/// A message and when it was sent.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// On the monotonic clock.
    pub at: Mono,
    /// On the wall clock.
    pub wall: Wall,
    /// The content.
    pub message: Message,
}

/// A message that the runtime sent.
#[derive(Clone, Debug)]
pub enum Message {
    /// An event, to one client.
    Event(v1::ContainerEventResponse),
    /// A complete list of sandboxes.
    Sandboxes(Vec<v1::PodSandbox>),
    /// A complete list of containers.
    Containers(Vec<v1::Container>),
    /// A sandbox's status.
    Sandbox(v1::PodSandboxStatus),
    /// A container's status.
    Container(v1::ContainerStatus),
    /// A message that does not decode, in place of any of these.
    Garbage,
}

// === impl Message ===

impl Message {
    /// Whether a fault replaced an id by bytes that do not decode.
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
