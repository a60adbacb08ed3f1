//! The state on disk.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::{family::Registry, runtime::timestamp};
use crate::clock::Wall;

/// The state on disk.
pub struct Persistence {
    /// `plegd_state_active`
    pub active: IntGauge,
    /// `plegd_state_bytes`
    pub bytes: IntGauge,
    /// `plegd_state_errors_total`
    pub errors: IntCounter,
    /// `plegd_state_damaged_total`
    pub damaged: IntCounter,
    /// `plegd_state_torn_bytes_total`
    pub torn_bytes: IntCounter,
    /// `plegd_state_restored`
    pub restored: IntGauge,
    /// `plegd_epoch_began_timestamp_seconds`
    pub epoch_began: Gauge,
    /// `plegd_epoch_restarts`
    pub restarts: IntGauge,
}

// === impl Persistence ===

impl Persistence {
    /// An epoch that began at this time is continued, after so many restarts within it; or is new.
    pub fn began(&self, at: Wall, restarts: u32, restored: bool) {
        self.epoch_began.set(timestamp(at));
        self.restarts.set(restarts.into());
        self.restored.set(restored.into());
    }

    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            active: registry.gauge(
                "plegd_state_active",
                "1 if each change is written to the state on disk, 0 if a restart would begin a new epoch.",
            ),
            bytes: registry.gauge("plegd_state_bytes", "Size of the state on disk, in bytes."),
            errors: registry.counter(
                "plegd_state_errors_total",
                "Failed writes of the state. After each, the state is deleted and written anew a minute later.",
            ),
            damaged: registry.counter(
                "plegd_state_damaged_total",
                "States that were found at the start and not loaded: damaged, of another boot, endpoint or version. Each begins a new \
                 epoch.",
            ),
            torn_bytes: registry.counter(
                "plegd_state_torn_bytes_total",
                "Bytes of incomplete entries that a killed process left, and that were ignored at the start.",
            ),
            restored: registry.gauge(
                "plegd_state_restored",
                "1 if this process continues the epoch of an earlier one, 0 if it began a new epoch.",
            ),
            epoch_began: registry.seconds_gauge(
                "plegd_epoch_began_timestamp_seconds",
                "Time at which the journal's epoch began, in seconds since 1970. A later epoch is a gap for each subscriber.",
            ),
            restarts: registry.gauge("plegd_epoch_restarts", "Restarts of plegd within the epoch."),
        }
    }
}
