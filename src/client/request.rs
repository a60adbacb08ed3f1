//! Parameters of requests, in types that exclude contradictions.

use std::fmt;

use super::timestamp;
use crate::{clock::Wall, v1};

/// A reference to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRef {
    /// The pod with this UID.
    Uid(String),
    /// The pod with this name; of several, the one with the newest sandbox.
    Name {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The pod that has the container or sandbox with this id, or with the only id that begins with it.
    ContainerId(String),
}

/// The required freshness of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// The pod as plegd holds it: as new as the last published event.
    #[default]
    Held,
    /// As of some moment after the request: plegd reads from the runtime.
    Now,
    /// As of some moment after this one.
    NewerThan(Wall),
}

/// The condition to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// The container with this name runs; of several, the newest.
    ContainerRunning(String),
    /// The container with this name has exited; of several, the newest.
    ContainerExited(String),
    /// The container with this name is removed from the runtime, or never existed.
    ContainerGone(String),
    /// The pod's newest sandbox is ready.
    SandboxReady,
    /// The pod with all its containers and sandboxes is removed from the runtime, or never existed.
    PodGone,
}

// === impl PodRef ===

impl PodRef {
    /// A pod by namespace and name.
    pub fn name(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Name { namespace: namespace.into(), name: name.into() }
    }
}

impl From<&PodRef> for v1::PodReference {
    fn from(pod: &PodRef) -> Self {
        use v1::pod_reference::Pod;
        let pod = match pod.clone() {
            PodRef::Uid(uid) => Pod::Uid(uid),
            PodRef::Name { namespace, name } => Pod::Name(v1::NamespacedName { namespace, name }),
            PodRef::ContainerId(id) => Pod::ContainerId(id),
        };
        Self { pod: Some(pod) }
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PodRef::Uid(uid) => write!(f, "{uid}"),
            PodRef::Name { namespace, name } => write!(f, "{namespace}/{name}"),
            PodRef::ContainerId(id) => write!(f, "{id}"),
        }
    }
}

// === impl Freshness ===

impl From<Freshness> for Option<v1::Freshness> {
    fn from(freshness: Freshness) -> Self {
        Some(match freshness {
            Freshness::Held => return None,
            Freshness::Now => v1::Freshness { now: true, newer_than: None },
            Freshness::NewerThan(wall) => v1::Freshness { now: false, newer_than: Some(timestamp(wall)) },
        })
    }
}

// === impl WaitCondition ===

impl WaitCondition {
    /// The API's condition and the container's name, which is empty for conditions of the pod.
    pub(super) fn parts(&self) -> (v1::Condition, &str) {
        match self {
            WaitCondition::ContainerRunning(name) => (v1::Condition::ContainerRunning, name),
            WaitCondition::ContainerExited(name) => (v1::Condition::ContainerExited, name),
            WaitCondition::ContainerGone(name) => (v1::Condition::ContainerGone, name),
            WaitCondition::SandboxReady => (v1::Condition::SandboxReady, ""),
            WaitCondition::PodGone => (v1::Condition::PodGone, ""),
        }
    }
}
