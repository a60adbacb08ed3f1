//! Pods, containers, phases, ids and lifecycle events: plain data that every room shares.
//!
//! Knows nothing of protobuf, tokio or locks. What a runtime says is turned into these types in [`crate::cri`]; what
//! subscribers are told is [`Event`].

mod event;
mod labels;
mod observation;
pub mod order;
mod position;
mod status;
mod words;

pub use crate::clock::{Mono, Wall};

pub use self::{
    event::{Event, EventType, Source},
    labels::Labels,
    observation::{Detail, Interval, Observation, Origin, StreamEvent, StreamEventType},
    position::{GapReason, NoPosition, Position},
    status::{ContainerState, ContainerStatus, Phase, Pod, SandboxState, SandboxStatus, Status, Subject},
    words::{Method, Mode, ReadCause, ResumeGap, Verdict},
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
    /// UID of a pod, as the kubelet gives it to the runtime. Where a sandbox has none (a pod made by hand), the id of
    /// its sandbox stands in for it.
    PodUid
}

id! {
    /// Id of a container or of a pod sandbox: the runtime gives both from one space and never gives one twice.
    ObjectId
}

/// Which pod something belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIdentity {
    /// The pod's UID.
    pub uid: PodUid,
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub name: Arc<str>,
}
