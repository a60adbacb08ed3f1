//! What the arbiter wants to be read: it never reads itself.

use std::{collections::BTreeSet, time::Duration};

use crate::model::{ObjectId, ReadCause};

/// A read that should be done of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of what.
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
    Whole,
}

// === impl Ask ===

impl Ask {
    pub(super) fn id(id: &ObjectId, cause: ReadCause, after: Duration) -> Self {
        Self { scope: Scope::Ids(BTreeSet::from([id.clone()])), cause, after }
    }
}

// === impl Scope ===

impl Scope {
    /// Both.
    pub fn join(&mut self, other: Scope) {
        match (&mut *self, other) {
            (Scope::Whole, _) => {}
            (Scope::Ids(ids), Scope::Ids(more)) => ids.extend(more),
            (scope, Scope::Whole) => *scope = Scope::Whole,
        }
    }
}
