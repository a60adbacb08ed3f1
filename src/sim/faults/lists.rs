//! Faults of list answers: items that contradict the statuses, and lists that end early.
//!
//! Owns the kinds of fault and how each changes the items of an answer. [`super::Faults`] decides when one happens.

use h2::Reason;

use super::Dose;
use crate::sim::{
    truth::{ContainerState, Subject},
    v1, wire,
};

/// Which list calls a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// Lists without a filter.
    Full,
    /// Lists with a filter.
    Filtered,
    /// Both.
    All,
}

/// A fault of a list, unary or streamed. A fault that does not fit a list (the id is not in it, it is not longer
/// than the limit) does not reduce its dose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// The item of this id is listed twice.
    Twice(String),
    /// The item of this id is left out.
    LeftOut(String),
    /// The list ends after this many items, with OK.
    Truncated(usize),
    /// The list has no items, with OK.
    Nothing,
    /// The answer breaks off after this many items: instead of a status, the stream is reset (HTTP/2 RST_STREAM).
    Reset {
        /// How many items are sent first.
        after: usize,
        /// The reset's error code.
        reason: ResetReason,
    },
    /// This sandbox is listed as ready, or as not ready, whatever its status is.
    SandboxReady {
        /// The sandbox.
        id: String,
        /// Whether the list shows it as ready.
        ready: bool,
    },
    /// This container is listed in this state, whatever its status is.
    ContainerState {
        /// The container.
        id: String,
        /// The state in the list.
        state: ContainerState,
    },
    /// This container is listed with another `pod_sandbox_id`.
    PodSandboxId {
        /// The container.
        id: String,
        /// The sandbox id in the list.
        pod_sandbox_id: String,
    },
}

/// The error code of an HTTP/2 RST_STREAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// INTERNAL_ERROR.
    InternalError,
    /// CANCEL.
    Cancel,
    /// NO_ERROR: hyper's client reports the end of the body, without an error and without trailers.
    NoError,
}

/// A list as it is sent.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct ListAnswer<I> {
    pub(in crate::sim) items: Vec<I>,
    /// How the answer breaks off after the items.
    pub(in crate::sim) reset: Option<ResetReason>,
}

/// A list fault to inject.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) of: Subject,
    pub(super) lists: Lists,
    pub(super) fault: ListFault,
    pub(super) dose: Dose,
}

/// An item of a list.
pub(in crate::sim) trait Item: Clone {
    /// The kind of object that it describes.
    const SUBJECT: Subject;

    fn id(&self) -> &str;

    /// Changes the item, if the fault concerns this kind of item.
    fn misstate(&mut self, fault: &ListFault);
}

// === impl Order ===

impl Order {
    /// Whether the fault would change this list.
    pub(super) fn fits<I: Item>(&self, is_full: bool, listing: &ListAnswer<I>) -> bool {
        self.of == I::SUBJECT && self.lists.include(is_full) && self.fault.changes(listing)
    }
}

// === impl Lists ===

impl Lists {
    fn include(self, is_full: bool) -> bool {
        match self {
            Self::Full => is_full,
            Self::Filtered => !is_full,
            Self::All => true,
        }
    }
}

// === impl ListFault ===

impl ListFault {
    fn changes<I: Item>(&self, listing: &ListAnswer<I>) -> bool {
        let has = |id: &String| listing.items.iter().any(|item| item.id() == id);
        match self {
            Self::Twice(id) | Self::LeftOut(id) => has(id),
            Self::SandboxReady { id, .. } => I::SUBJECT == Subject::Sandbox && has(id),
            Self::ContainerState { id, .. } | Self::PodSandboxId { id, .. } => {
                I::SUBJECT == Subject::Container && has(id)
            }
            Self::Truncated(after) => listing.items.len() > *after,
            Self::Nothing => !listing.items.is_empty(),
            Self::Reset { .. } => listing.reset.is_none(),
        }
    }

    pub(super) fn apply<I: Item>(&self, listing: &mut ListAnswer<I>) {
        let items = &mut listing.items;
        match self {
            Self::Twice(id) => {
                // At the end, so that other items are in between.
                let copies: Vec<_> = items.iter().filter(|item| item.id() == id).cloned().collect();
                items.extend(copies);
            }
            Self::LeftOut(id) => items.retain(|item| item.id() != id),
            Self::Truncated(after) => items.truncate(*after),
            Self::Nothing => items.clear(),
            Self::Reset { after, reason } => {
                items.truncate(*after);
                listing.reset = Some(*reason);
            }
            Self::SandboxReady { id, .. }
            | Self::ContainerState { id, .. }
            | Self::PodSandboxId { id, .. } => {
                items.iter_mut().filter(|item| item.id() == id).for_each(|item| item.misstate(self));
            }
        }
    }
}

// === impl ResetReason ===

impl ResetReason {
    /// The reason as the error of a body, from which hyper takes the code.
    pub(in crate::sim) fn error(self) -> h2::Error {
        match self {
            Self::InternalError => Reason::INTERNAL_ERROR,
            Self::Cancel => Reason::CANCEL,
            Self::NoError => Reason::NO_ERROR,
        }
        .into()
    }
}

// === impl Item ===

impl Item for v1::PodSandbox {
    const SUBJECT: Subject = Subject::Sandbox;

    fn id(&self) -> &str {
        &self.id
    }

    fn misstate(&mut self, fault: &ListFault) {
        if let ListFault::SandboxReady { ready, .. } = fault {
            self.state = wire::sandbox_state(*ready).into();
        }
    }
}

impl Item for v1::Container {
    const SUBJECT: Subject = Subject::Container;

    fn id(&self) -> &str {
        &self.id
    }

    fn misstate(&mut self, fault: &ListFault) {
        match fault {
            ListFault::ContainerState { state, .. } => self.state = wire::container_state(*state).into(),
            ListFault::PodSandboxId { pod_sandbox_id, .. } => self.pod_sandbox_id.clone_from(pod_sandbox_id),
            _ => {}
        }
    }
}
