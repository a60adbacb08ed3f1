//! How plegd follows the runtime at the moment: the supervisor reports it, and subscribers and operators read it.

use std::{fmt, time::Duration};

use super::Mode;
use crate::clock::{Mono, Wall};

/// From this many consecutive failures on, failing is no passing error: nothing checks the stream, and served state may be stale.
const PERSISTENT: u32 = 2;

/// Mode, relist period, runtime and stream.
#[derive(Clone, Debug)]
pub struct FollowerStatus {
    /// Whether the first relist is complete.
    pub ready: bool,
    /// The mode.
    pub mode: Mode,
    /// When the mode was entered.
    pub mode_since: Wall,
    /// The relist period in force.
    pub period: Duration,
    /// Name and version of the runtime; none before its first answer.
    pub runtime: Option<RuntimeInfo>,
    /// Since when the stream has been up; none while it is down.
    pub stream_up: Option<Mono>,
    /// Since when the state of the stream has been the current one.
    pub stream_since: Wall,
    /// State of the stream, for the operator.
    pub stream: String,
    /// Relists that failed since the last successful one. A change of this field alone wakes no receiver.
    pub failures: Option<RelistFailures>,
    /// Set while the stream is yielded to another subscriber of the same channel.
    pub yielded: Option<Yielded>,
}

/// The runtime, as its `Version` call reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// `containerd`, `cri-o`, …
    pub name: String,
    /// Version of the runtime, in its own format.
    pub version: String,
    /// Version of CRI.
    pub api_version: String,
}

/// The stream is closed for another subscriber of the same channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yielded {
    /// When it was closed.
    pub since: Wall,
    /// When it is opened again.
    pub retry_at: Wall,
}

/// Consecutive failed relists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelistFailures {
    /// Number of failures.
    pub count: u32,
    /// When the first of them began: the runtime has given no list since then.
    pub since: Wall,
    /// Error of the last one.
    pub last_error: String,
}

// === impl RuntimeInfo ===

impl fmt::Display for RuntimeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

// === impl RelistFailures ===

impl RelistFailures {
    /// Whether the runtime counts as one that cannot be listed. A single failure may be a passing error.
    pub fn persist(&self) -> bool {
        self.count >= PERSISTENT
    }

    /// Whether the last failure is the first one with which they persist.
    pub(crate) fn begin_to_persist(&self) -> bool {
        self.count == PERSISTENT
    }
}
