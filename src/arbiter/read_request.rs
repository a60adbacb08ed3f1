//! The reads that the arbiter requests: it never reads itself.

use std::{collections::BTreeSet, time::Duration};

use crate::model::{ObjectId, Observation, PodIdentity, ReadCause};

/// The delay of a read that may begin at once.
pub const NOW: Duration = Duration::ZERO;

/// A requested read of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// How much of the pod.
    pub scope: Scope,
    /// Why.
    pub cause: ReadCause,
    /// How long from now.
    pub after: Duration,
}

/// How much of a pod is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The status of these ids.
    Ids(BTreeSet<ObjectId>),
    /// All that the runtime has of the pod.
    Pod,
}

/// A requested read, and the pod.
#[derive(Clone, Debug)]
pub struct PodReadRequest {
    /// The pod.
    pub pod: PodIdentity,
    /// The read.
    pub read: ReadRequest,
}

// === impl ReadRequest ===

impl ReadRequest {
    pub(super) fn of_id(id: &ObjectId, cause: ReadCause, after: Duration) -> Self {
        Self { scope: Scope::Ids(BTreeSet::from([id.clone()])), cause, after }
    }
}

// === impl Scope ===

impl Scope {
    /// Widens the scope by another one.
    pub fn join(&mut self, other: Scope) {
        match (&mut *self, other) {
            (Scope::Pod, _) => {}
            (Scope::Ids(ids), Scope::Ids(more)) => ids.extend(more),
            (scope, Scope::Pod) => *scope = Scope::Pod,
        }
    }
}

// === impl PodReadRequest ===

impl PodReadRequest {
    /// The read that an event waits for; none if the observation is no event.
    pub(super) fn deferring(observation: &Observation) -> Option<Self> {
        let event = observation.stream_event.as_ref()?;
        let read = ReadRequest::of_id(&event.id, ReadCause::Hint, Duration::ZERO);
        Some(Self { pod: observation.pod.clone(), read })
    }
}
