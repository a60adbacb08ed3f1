//! What is asked for, in types that cannot contradict themselves.

use std::fmt;

use super::timestamp;
use crate::{clock::Wall, v1};

/// Which pod is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRef {
    /// The one with this UID.
    Uid(String),
    /// The one of this name; of several, the one with the newest sandbox.
    Name {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The one that has the container or sandbox with this id, or whose id alone begins so.
    ContainerId(String),
}

/// How young an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// What plegd holds: as new as what it has told.
    #[default]
    Held,
    /// As of some moment after the request: plegd reads from the runtime.
    Now,
    /// As of some moment after this one.
    NewerThan(Wall),
}

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// The container of this name runs; of several, the newest.
    ContainerRunning(String),
    /// The container of this name has ended; of several, the newest.
    ContainerExited(String),
    /// The container of this name is gone from the runtime, or was never there.
    ContainerGone(String),
    /// The pod's newest sandbox is ready.
    SandboxReady,
    /// The pod is gone from the runtime with all that it had, or was never there.
    PodGone,
}

// === impl PodRef ===

impl PodRef {
    /// By namespace and name.
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
    /// The condition as plegd knows it, and the container's name, empty where there is none.
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
