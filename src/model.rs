//! Pods, containers, phases, ids and lifecycle events: plain data that all modules share.
//!
//! It depends on the clock alone, and not on protobuf, tokio or locks. `cri` converts messages of the runtime into these
//! types. [`Event`] is what subscribers receive.

mod event;
mod follower;
mod labels;
mod metric_values;
mod observation;
pub mod order;
mod position;
mod status;

pub use crate::clock::{Mono, Wall};

pub use self::{
    event::{Event, EventType, Source},
    follower::{FollowerStatus, RelistFailures, RuntimeInfo, Yielded},
    labels::Labels,
    metric_values::{Method, Mode, ReadCause, ResumeGap, Verdict},
    observation::{Detail, Interval, Observation, Origin, StreamEvent, StreamEventType},
    position::{GapReason, ParsePositionError, Position, Restart},
    status::{ContainerState, ContainerStatus, Phase, Pod, SandboxState, SandboxStatus, Status, Subject},
};

use std::{borrow::Borrow, fmt, sync::Arc};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// UID of a pod, as the kubelet passes it to the runtime. For a sandbox without one (created by hand), the id of the sandbox.
    PodUid
}

id! {
    /// Id of a container or of a pod sandbox. Both share one space of ids, and a runtime never uses an id twice.
    ObjectId
}

/// Identifies a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIdentity {
    /// The pod's UID.
    pub uid: PodUid,
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub name: Arc<str>,
}
