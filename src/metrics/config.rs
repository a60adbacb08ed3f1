//! Reloads of the configuration. The names follow those of Prometheus' own metrics.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::{
    Family,
    family::{Registry, label},
    runtime::timestamp,
};
use crate::clock::Wall;

label! {
    /// The result of a reload.
    Reload {
        /// The configuration changed; keys that can change at runtime are applied.
        Success = "success",
        /// The new configuration is invalid; the old one stays in force.
        Failure = "failure",
        /// The configuration did not change.
        Unchanged = "unchanged",
    }
}

/// The configuration.
pub struct Configuration {
    /// `plegd_config_reloads_total`
    reloads: Family<Reload, IntCounter>,
    /// `plegd_config_last_reload_successful`
    successful: IntGauge,
    /// `plegd_config_last_reload_success_timestamp_seconds`
    succeeded_at: Gauge,
    /// `plegd_config_keys_awaiting_restart`
    awaiting_restart: IntGauge,
}

// === impl Configuration ===

impl Configuration {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            reloads: registry.counters(
                "plegd_config_reloads_total",
                "Reloads of the configuration, at SIGHUP or after a change of its file, by result.",
                &["result"],
            ),
            successful: registry.gauge(
                "plegd_config_last_reload_successful",
                "1 if the configuration was valid when it was last read, 0 if it was invalid and the old one stays in force.",
            ),
            succeeded_at: registry.seconds_gauge(
                "plegd_config_last_reload_success_timestamp_seconds",
                "Time at which a valid configuration was last read, at the start or at a reload, in seconds since 1970.",
            ),
            awaiting_restart: registry.gauge(
                "plegd_config_keys_awaiting_restart",
                "Configuration keys with a changed value that takes effect after a restart.",
            ),
        }
    }

    /// A valid configuration was read at the start.
    pub fn started(&self, at: Wall) {
        self.successful.set(1);
        self.succeeded_at.set(timestamp(at));
    }

    /// A valid configuration was reloaded; `awaiting_restart` keys need a restart.
    pub fn reloaded(&self, result: Reload, awaiting_restart: usize, at: Wall) {
        self.started(at);
        self.reloads.inc(result);
        self.awaiting_restart.set(i64::try_from(awaiting_restart).unwrap_or(i64::MAX));
    }

    /// Whether the configuration was invalid when it was last read.
    pub fn rejected(&self) -> bool {
        self.successful.get() == 0
    }

    /// How many changed keys need a restart.
    pub fn awaiting_restart(&self) -> u32 {
        u32::try_from(self.awaiting_restart.get()).unwrap_or(0)
    }

    /// A reload found an invalid configuration.
    pub fn failed(&self) {
        self.successful.set(0);
        self.reloads.inc(Reload::Failure);
    }
}
