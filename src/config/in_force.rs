//! The effective configuration. A reload replaces it atomically. Components can watch the part that they use.
//!
//! Decides for each key whether the old or the new value applies. Keys that require a restart keep their values after a reload, so that
//! plegd always shows the effective values. This module reads no input.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Change, Config, Key, Loaded, Place};
use crate::live::Live;

/// The effective configuration. Cheap to clone; reading it never blocks.
#[derive(Clone)]
pub struct InForce(Arc<Inner>);

struct Inner {
    now: ArcSwap<Loaded>,
    /// Wakes watchers that must react to a change.
    swaps: watch::Sender<()>,
}

/// A key whose new value differs from the effective value.
#[derive(Clone, Debug)]
pub struct KeyChange {
    /// The key.
    pub key: &'static Key,
    /// The value before the reload.
    pub old: String,
    /// The value after the reload, or after the next restart for keys with [`Change::Restart`].
    pub new: String,
    /// The place of the new value.
    pub place: Place,
}

// === impl InForce ===

impl InForce {
    /// Starts with this configuration.
    pub fn new(loaded: Loaded) -> Self {
        Self(Arc::new(Inner { now: ArcSwap::from_pointee(loaded), swaps: watch::Sender::new(()) }))
    }

    /// A configuration that a program has created.
    pub fn of_program(config: Config) -> Self {
        Self::new(Loaded::of_program(config))
    }

    /// The effective configuration.
    pub fn get(&self) -> Arc<Loaded> {
        self.0.now.load_full()
    }

    /// A live view of one part of the configuration.
    pub fn live<T: 'static>(&self, part: fn(&Config) -> T) -> Live<T> {
        let in_force = self.clone();
        Live::new(self.0.swaps.subscribe(), move || part(&in_force.0.now.load().config))
    }

    /// Applies the reloadable keys of `read`. Returns all changed keys, including those with [`Change::Restart`], which keep their old
    /// values. Calls must not be concurrent.
    pub fn adopt(&self, read: &Loaded) -> Vec<KeyChange> {
        let before = self.get();
        let mut next = read.clone();
        let mut changes = Vec::new();
        for ((key, place), (index, (_, old_place))) in read.origins().zip(before.origins().enumerate()) {
            let (old, new) = (key.text(&before.config), key.text(&read.config));
            if old == new {
                continue;
            }
            if key.change == Change::Restart {
                (key.copy)(&before.config, &mut next.config);
                next.origins[index] = old_place.clone();
            }
            changes.push(KeyChange { key, old, new, place: place.clone() });
        }
        self.0.now.store(Arc::new(next));
        self.0.swaps.send_replace(());
        changes
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InForce").field(&self.get()).finish()
    }
}

// === impl KeyChange ===

impl KeyChange {
    /// The changed keys that require a restart.
    pub fn awaiting_restart(changes: &[Self]) -> Vec<&'static Key> {
        let waits = |change: &&Self| change.key.change == Change::Restart;
        changes.iter().filter(waits).map(|change| change.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::KEYS;

    fn read(change: impl FnOnce(&mut Config)) -> Loaded {
        let mut config = Config::default();
        change(&mut config);
        Loaded::of_program(config)
    }

    fn texts(changes: &[KeyChange]) -> Vec<String> {
        changes.iter().map(|it| format!("{} {} {}", it.key.path(), it.old, it.new)).collect()
    }

    #[test]
    fn reloadable_keys_change_and_keys_that_require_a_restart_keep_value_and_place() {
        let in_force = InForce::new(read(|_| {}));
        let period = in_force.live(|config| config.relist.period);
        let other = read(|it| (it.relist.period, it.journal.events) = (Duration::from_secs(2), 77));
        let changes = in_force.adopt(&other);
        assert_eq!(texts(&changes), ["relist.period 1s 2s", "journal.events 65536 77"]);
        assert_eq!(KeyChange::awaiting_restart(&changes).len(), 1);
        let now = in_force.get();
        assert_eq!((now.config.relist.period.as_secs(), now.config.journal.events), (2, 65_536));
        assert_eq!(period.get(), Duration::from_secs(2));
        // The same configuration again: a pending restart is reported as long as it is pending.
        assert_eq!(texts(&in_force.adopt(&other)), ["journal.events 65536 77"]);
        let set: Vec<String> =
            now.origins().filter(|(_, place)| **place != Place::Default).map(|(key, _)| key.path()).collect();
        assert_eq!(set, ["relist.period"]);
        // With the original value, no restart is pending.
        assert_eq!(texts(&in_force.adopt(&read(|_| {}))), ["relist.period 2s 1s"]);
        assert!(in_force.adopt(&read(|_| {})).is_empty());
    }

    #[test]
    fn every_key_is_copied_unchanged() {
        for key in KEYS.iter().filter(|key| key.change == Change::Restart) {
            let (mut from, mut to) = (Config::default(), Config::default());
            let other =
                ["off", "77", "false", "true", "json", "2MiB", "0600", "root", "changed", "/a/b", "[::1]:1"];
            let set = other.iter().any(|text| {
                let known = (key.set)(&mut from, text).is_ok();
                known && key.text(&from) != key.text(&to)
            });
            assert!(set, "{}: no other value is known", key.path());
            (key.copy)(&from, &mut to);
            assert_eq!(key.text(&from), key.text(&to), "{}", key.path());
            assert_eq!(from, to, "{}", key.path());
        }
    }

    #[tokio::test]
    async fn a_change_wakes_watchers_and_a_constant_never_changes() {
        let in_force = InForce::new(read(|_| {}));
        let mut live = in_force.live(|config| config.api.subscribers);
        let mut fixed = Live::from(3);
        let waiting = tokio::spawn(async move {
            tokio::select! {
                () = live.changed() => live.get(),
                () = fixed.changed() => 0,
            }
        });
        in_force.adopt(&read(|it| it.api.subscribers = 7));
        assert_eq!(waiting.await.unwrap(), 7);
    }
}
