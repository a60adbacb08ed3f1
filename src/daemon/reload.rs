//! Reloads the configuration while plegd runs, and applies the reloadable keys.
//!
//! [`Reloader::reload`] is one complete reload: read, check, swap, log. The daemon calls it at SIGHUP, and when [`FileWatch`] reports a
//! change of the file. An invalid configuration changes nothing. This module changes the log level and owns the metrics of reloads. The
//! users of all other keys read them from [`InForce`].

mod file;

pub use self::file::FileWatch;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    api::introspection::SetLogLevel,
    clock::Clock,
    config::{self, Change, Filter, InForce, Inputs, KeyChange, Loaded},
    health::{Health, Note},
    metrics::{Metrics, Reload},
};

/// Applies a new configuration.
pub struct Reloader {
    inputs: Inputs,
    in_force: InForce,
    set_log_level: SetLogLevel,
    metrics: Arc<Metrics>,
    note: Note,
    clock: Clock,
    /// Serializes reloads: each compares the new configuration with the previous one.
    serialized: Mutex<()>,
}

/// The cause of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP, also from the service manager.
    Signal,
    /// The file has changed.
    File,
}

/// The outcome of a reload.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The new configuration is effective. The list has all changed keys, including those that require a restart.
    Adopted(Vec<KeyChange>),
    /// The new configuration equals the effective one.
    Unchanged,
    /// The new configuration is invalid; the previous one stays effective.
    Kept,
}

// === impl Reloader ===

impl Reloader {
    /// A reloader for the inputs of the effective configuration.
    pub fn new(
        inputs: Inputs,
        in_force: InForce,
        set_log_level: SetLogLevel,
        metrics: Arc<Metrics>,
        health: &Health,
        clock: Clock,
    ) -> Self {
        let note = health.note("configuration", "");
        note.set_ok("as loaded at startup");
        Self { inputs, in_force, set_log_level, metrics, note, clock, serialized: Mutex::default() }
    }

    /// Reads file, environment and flags again. Environment and flags are those of the start, and override the file. All reloadable changes
    /// are effective when this returns. The result is logged and counted.
    pub fn reload(&self, cause: Cause) -> Outcome {
        let _guard = self.serialized.lock();
        let outcome = match config::load(&self.inputs) {
            Ok(loaded) => self.adopt(&loaded, cause),
            Err(error) => {
                let problems: Vec<String> = error.0.iter().map(ToString::to_string).collect();
                tracing::error!(
                    cause = cause.as_str(),
                    count = problems.len(),
                    problems = problems.join(" "),
                    "The new configuration is invalid; the previous one stays effective. Correct the file: plegd reloads it \
                     when it changes. plegd cannot start with the current file."
                );
                Outcome::Kept
            }
        };
        let at = self.clock.now_both().1;
        let metrics = &self.metrics.config;
        match &outcome {
            Outcome::Adopted(changes) => {
                let waiting = KeyChange::awaiting_restart(changes).len();
                metrics.reloaded(Reload::Success, waiting, at);
                match waiting {
                    0 => self.note.set_ok(format!("as loaded at {at}")),
                    _ => self
                        .note
                        .set_failed(format!("as loaded at {at}; {waiting} changed keys require a restart")),
                }
            }
            Outcome::Unchanged => {
                metrics.reloaded(Reload::Unchanged, 0, at);
                self.note.set_ok(format!("as loaded at {at}"));
            }
            Outcome::Kept => {
                metrics.failed();
                self.note
                    .set_failed(format!("as loaded at {at} is invalid; the previous one stays effective"));
            }
        }
        outcome
    }

    fn adopt(&self, loaded: &Loaded, cause: Cause) -> Outcome {
        let changes = self.in_force.adopt(loaded);
        if changes.is_empty() {
            tracing::info!(cause = cause.as_str(), "Configuration reloaded; no changes.");
            return Outcome::Unchanged;
        }
        tracing::info!(cause = cause.as_str(), changed = changes.len(), "Configuration reloaded.");
        for KeyChange { key, old, new, place } in &changes {
            match key.change {
                Change::Live => {
                    tracing::info!(key = key.path(), old, new, %place, "Configuration key changed.")
                }
                Change::Restart => {
                    tracing::warn!(key = key.path(), old, new, %place, "Configuration key requires a restart.")
                }
            }
        }
        let waiting = KeyChange::awaiting_restart(&changes);
        if !waiting.is_empty() {
            let keys: Vec<String> = waiting.iter().map(|key| key.path()).collect();
            tracing::warn!(
                keys = keys.join(", "),
                "Changed keys require a restart. Their previous values stay effective until plegd is restarted."
            );
        }
        if let Some(level) = changes.iter().find(|it| it.key.path() == "log.level") {
            self.change_level(&loaded.config.log.level, level);
        }
        Outcome::Adopted(changes)
    }

    /// The level changes last, so that the log of the reload uses the previous level.
    fn change_level(&self, level: &Filter, change: &KeyChange) {
        let KeyChange { key, old, new, .. } = change;
        match (self.set_log_level)(level) {
            // This line is logged only if the new level includes it.
            Ok(_) => tracing::info!(key = key.path(), old, new, "Log level changed."),
            Err(error) => tracing::error!(
                key = key.path(),
                new,
                error,
                "Failed to change the log level; restart plegd to apply it."
            ),
        }
    }
}

// === impl Cause ===

impl Cause {
    /// The text for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::File => "file change",
        }
    }
}
