//! The scenarios of a pod, and their frequencies.

use super::ContainerSpec;

/// A scenario of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodScenario {
    /// One container that ends within 0.5 s.
    Short,
    /// Two containers that run until they are stopped.
    Long,
    /// One container that fails and is created again, three to five times.
    CrashLoop,
    /// A container whose program does not exist, and one that runs.
    FailedStart,
    /// A container that exceeds its memory limit.
    OutOfMemory,
    /// A sandbox that is stopped and followed by another one.
    NewSandbox,
    /// Several containers at once.
    Several,
}

// === impl PodScenario ===

impl PodScenario {
    /// A random scenario: mostly short ones, rarely out of memory.
    pub fn drawn(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..20) {
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

/// A container that ends within 0.5 s.
pub(super) fn short_container(name: &str, exit_code: u8, rng: &mut fastrand::Rng) -> ContainerSpec {
    let milliseconds = rng.u32(20..500);
    ContainerSpec::sleeping(name, f64::from(milliseconds) / 1e3, exit_code)
}
