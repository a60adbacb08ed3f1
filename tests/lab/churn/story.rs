//! What may become of a pod, and how often.

use super::ContainerSpec;

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    /// One container that ends soon.
    Short,
    /// Two containers that go on until they are stopped.
    Long,
    /// One container that fails and is made again, a few times.
    CrashLoop,
    /// A container of which the program is not there, beside one that runs.
    FailedStart,
    /// A container that wants more memory than it may have.
    OutOfMemory,
    /// A sandbox that is stopped and followed by another one.
    NewSandbox,
    /// Several containers at once.
    Several,
}

// === impl Story ===

impl Story {
    /// As often as on a node: mostly short ones, seldom one that is out of memory.
    pub fn drawn(dice: &mut fastrand::Rng) -> Self {
        match dice.u32(..20) {
            0..8 => Self::Short,
            8..11 => Self::Long,
            11..13 => Self::CrashLoop,
            13..15 => Self::FailedStart,
            15 => Self::OutOfMemory,
            16..18 => Self::NewSandbox,
            _ => Self::Several,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::CrashLoop => "crash-loop",
            Self::FailedStart => "failed-start",
            Self::OutOfMemory => "out-of-memory",
            Self::NewSandbox => "new-sandbox",
            Self::Several => "several",
        }
    }
}

/// A container that ends within half a second.
pub(super) fn soon(name: &str, exit_code: u8, dice: &mut fastrand::Rng) -> ContainerSpec {
    let milliseconds = dice.u32(20..500);
    ContainerSpec::living(name, f64::from(milliseconds) / 1e3, exit_code)
}
