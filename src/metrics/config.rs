//! What became of the configuration when it was read again. The names are those that Prometheus has for its own.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::{
    Family,
    family::{Maker, label},
    runtime::timestamp,
};
use crate::clock::Wall;

label! {
    /// What came of a reload.
    Reload {
        /// Something differs, and is in force as far as it can change.
        Success = "success",
        /// It is not valid; the old one holds on.
        Failure = "failure",
        /// It says what is in force already.
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
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            reloads: make.counters(
                "plegd_config_reloads_total",
                "Reloads of the configuration, at SIGHUP or because its file has changed, by what came of them.",
                &["result"],
            ),
            successful: make.gauge(
                "plegd_config_last_reload_successful",
                "Whether the configuration was valid when it was last read: 1 if it was, 0 if the old one is kept since.",
            ),
            succeeded_at: make.seconds_gauge(
                "plegd_config_last_reload_success_timestamp_seconds",
                "When a valid configuration was last read, at the start or at a reload, in seconds since 1970.",
            ),
            awaiting_restart: make.gauge(
                "plegd_config_keys_awaiting_restart",
                "Keys whose values were changed and hold only after a restart.",
            ),
        }
    }

    /// A valid configuration was read at the start.
    pub fn started(&self, at: Wall) {
        self.successful.set(1);
        self.succeeded_at.set(timestamp(at));
    }

    /// A valid one was read again, and so many of its keys wait for a restart.
    pub fn reloaded(&self, result: Reload, awaiting_restart: usize, at: Wall) {
        self.started(at);
        self.reloads.inc(result);
        self.awaiting_restart.set(i64::try_from(awaiting_restart).unwrap_or(i64::MAX));
    }

    /// Whether the one that was read last is not valid.
    pub fn rejected(&self) -> bool {
        self.successful.get() == 0
    }

    /// How many keys wait for a restart.
    pub fn awaiting_restart(&self) -> u32 {
        u32::try_from(self.awaiting_restart.get()).unwrap_or(0)
    }

    /// One that is not valid was read again.
    pub fn failed(&self) {
        self.successful.set(0);
        self.reloads.inc(Reload::Failure);
    }
}
