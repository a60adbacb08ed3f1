//! What the arbiter wants to be read: it never reads itself.

use std::{collections::BTreeSet, time::Duration};

use crate::model::{ObjectId, Source};

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

/// Why something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadCause {
    /// A relist found it to differ from the cache.
    Relist,
    /// Two views of it could not be ordered, or contradict each other.
    Undecided,
    /// An event says that something happened which its payload does not show.
    Hint,
    /// Its exit may yet turn out to be an OOM kill.
    Oom,
    /// It was made and never started, which may mean that its start failed.
    Start,
    /// It is said to be going, or to be gone.
    Deletion,
    /// A reader wants a state that is not older than its request.
    Fresh,
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

// === impl ReadCause ===

impl ReadCause {
    /// All causes.
    pub const ALL: [ReadCause; 7] = [
        ReadCause::Relist,
        ReadCause::Undecided,
        ReadCause::Hint,
        ReadCause::Oom,
        ReadCause::Start,
        ReadCause::Deletion,
        ReadCause::Fresh,
    ];

    /// The cause as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            ReadCause::Relist => "relist",
            ReadCause::Undecided => "undecided",
            ReadCause::Hint => "hint",
            ReadCause::Oom => "oom",
            ReadCause::Start => "start",
            ReadCause::Deletion => "deletion",
            ReadCause::Fresh => "fresh",
        }
    }

    /// The path to which a change is put down that such a read finds first.
    pub fn source(self) -> Source {
        match self {
            ReadCause::Relist => Source::Relist,
            _ => Source::Read,
        }
    }
}
