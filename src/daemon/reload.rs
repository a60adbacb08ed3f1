//! Reads the configuration again while plegd runs, and puts the reloadable keys in force.
//!
//! [`Reloader::reload`] is one complete reload: read, check, swap, log. The daemon calls it at SIGHUP, and when [`FileWatch`] reports a
//! change of the file. An invalid configuration changes nothing. This module changes the log level and owns the metrics of reloading. The
//! users of all other keys read them from [`InForce`].

mod file;

pub use self::file::FileWatch;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    api::introspection::SetLogLevel,
    clock::Clock,
    config::{self, Change, Difference, Filter, InForce, Inputs, Loaded},
    health::{Health, Note},
    metrics::{Metrics, Reload},
};

/// Puts a new configuration in force.
pub struct Reloader {
    inputs: Inputs,
    in_force: InForce,
    set_log_level: SetLogLevel,
    metrics: Arc<Metrics>,
    note: Note,
    clock: Clock,
    /// Serializes reloads: each compares the new configuration with the previous one.
    alone: Mutex<()>,
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
    /// The new configuration is in force, except for keys in this list that need a restart.
    Adopted(Vec<Difference>),
    /// The new configuration equals the one in force.
    Unchanged,
    /// The new configuration is not valid; the previous one stays in force.
    Kept,
}

// === impl Reloader ===

impl Reloader {
    /// A reloader for the inputs of the configuration in force.
    pub fn new(
        inputs: Inputs,
        in_force: InForce,
        set_log_level: SetLogLevel,
        metrics: Arc<Metrics>,
        health: &Health,
        clock: Clock,
    ) -> Self {
        let note = health.note("configuration", "");
        note.set_ok("as at the start");
        Self { inputs, in_force, set_log_level, metrics, note, clock, alone: Mutex::default() }
    }

    /// Reads file, environment and flags again. Environment and flags are those of the start, and override the file. All reloadable changes
    /// are in force when this returns. The result is logged and counted.
    pub fn reload(&self, cause: Cause) -> Outcome {
        let _alone = self.alone.lock();
        let outcome = match config::load(&self.inputs) {
            Ok(loaded) => self.adopt(&loaded, cause),
            Err(error) => {
                let problems: Vec<String> = error.0.iter().map(ToString::to_string).collect();
                tracing::error!(
                    cause = cause.as_str(),
                    count = problems.len(),
                    problems = problems.join(" "),
                    "The new configuration is not valid; the old one is kept. Correct it: plegd reads the file again when \
                     it changes, and would not start with it as it is."
                );
                Outcome::Kept
            }
        };
        let at = self.clock.now_both().1;
        let metrics = &self.metrics.config;
        match &outcome {
            Outcome::Adopted(differences) => {
                let waiting = Difference::awaiting_restart(differences).len();
                metrics.reloaded(Reload::Success, waiting, at);
                match waiting {
                    0 => self.note.set_ok(format!("as read at {at}")),
                    _ => self
                        .note
                        .set_failed(format!("as read at {at}; {waiting} of its keys wait for a restart")),
                }
            }
            Outcome::Unchanged => {
                metrics.reloaded(Reload::Unchanged, 0, at);
                self.note.set_ok(format!("as read at {at}"));
            }
            Outcome::Kept => {
                metrics.failed();
                self.note.set_failed(format!("what was read at {at} is not valid; the one before is kept"));
            }
        }
        outcome
    }

    fn adopt(&self, loaded: &Loaded, cause: Cause) -> Outcome {
        let differences = self.in_force.adopt(loaded);
        if differences.is_empty() {
            tracing::info!(cause = cause.as_str(), "The configuration was read again; nothing has changed.");
            return Outcome::Unchanged;
        }
        tracing::info!(
            cause = cause.as_str(),
            changed = differences.len(),
            "The configuration was read again."
        );
        for Difference { key, old, new, place } in &differences {
            match key.change {
                Change::Live => tracing::info!(key = key.path(), old, new, %place, "Changed."),
                Change::Restart => tracing::warn!(key = key.path(), old, new, %place, "Waits for a restart."),
            }
        }
        let waiting = Difference::awaiting_restart(&differences);
        if !waiting.is_empty() {
            let keys: Vec<String> = waiting.iter().map(|key| key.path()).collect();
            tracing::warn!(
                keys = keys.join(", "),
                "These keys have changed and cannot change while plegd runs; their old values hold until then: restart it."
            );
        }
        if let Some(level) = differences.iter().find(|it| it.key.path() == "log.level") {
            self.change_level(&loaded.config.log.level, level);
        }
        Outcome::Adopted(differences)
    }

    /// The level changes last, so that the log of the reload uses the previous level.
    fn change_level(&self, level: &Filter, difference: &Difference) {
        let Difference { key, old, new, .. } = difference;
        match (self.set_log_level)(level) {
            // At a more detailed level, this line confirms the change.
            Ok(_) => tracing::info!(key = key.path(), old, new, "The log's level is changed."),
            Err(error) => tracing::error!(
                key = key.path(),
                new,
                error,
                "The log's level could not be changed; restart plegd to have it."
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
            Self::File => "the file has changed",
        }
    }
}
