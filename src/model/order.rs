//! Which sandbox and which container of a pod is the newest.
//!
//! Wall-clock times alone never decide: a clock that was set back, or a runtime that lost `created_at` (containerd#3873), would make
//! the container that runs look older than the one that it replaced (kubernetes#141754, #135762). The order is the sandbox, then the
//! attempt, then the creation time, then the order in which plegd first observed them.
//!
//! [`super::Pod`] lists sandboxes and containers in this order, the newest first. Everything that looks for the current container of a
//! name takes the first one with that name, and sorts nothing again.

use std::cmp::Reverse;

use super::{ContainerStatus, SandboxStatus};
use crate::clock::Wall;

/// Sorts the newest sandbox first.
pub type SandboxKey = Reverse<(u32, Option<Wall>, u64)>;

/// Sorts the newest container first: by the place of its sandbox, then attempt, creation and first observation.
pub type ContainerKey = (usize, Reverse<(u32, Option<Wall>, u64)>);

/// The key of a sandbox that was first observed as number `first_seen`.
pub fn sandbox_key(sandbox: &SandboxStatus, first_seen: u64) -> SandboxKey {
    Reverse((sandbox.attempt, sandbox.created_at, first_seen))
}

/// The key of a container that was first observed as number `first_seen`, among sandboxes that are sorted already. A container of an
/// unknown sandbox is older than all others.
pub fn container_key<'a>(
    container: &ContainerStatus,
    first_seen: u64,
    sandboxes: impl IntoIterator<Item = &'a SandboxStatus>,
) -> ContainerKey {
    let place = sandboxes.into_iter().position(|sandbox| sandbox.id == container.sandbox_id);
    (place.unwrap_or(usize::MAX), Reverse((container.attempt, container.created_at, first_seen)))
}
