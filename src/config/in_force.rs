//! The configuration in force: replaced as a whole by a reload. Users of a part of it can follow that part.
//!
//! Decides which of two configurations applies to which key. Keys that need a restart keep their values after a reload, so that the
//! displayed values are really in force. Reads no input, and notifies only the followers.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Change, Config, Key, Loaded, Place};
use crate::live::Live;

/// The configuration in force. Cheap to clone; reading it never waits.
#[derive(Clone)]
pub struct InForce(Arc<Inner>);

struct Inner {
    now: ArcSwap<Loaded>,
    /// Wakes followers that must react at once.
    swaps: watch::Sender<()>,
}

/// A key whose value differs from that in force.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The key.
    pub key: &'static Key,
    /// The value that is in force, or was until the reload.
    pub old: String,
    /// The value that was read.
    pub new: String,
    /// The place of the new value.
    pub place: Place,
}

// === impl InForce ===

impl InForce {
    /// This configuration, until another one is adopted.
    pub fn new(loaded: Loaded) -> Self {
        Self(Arc::new(Inner { now: ArcSwap::from_pointee(loaded), swaps: watch::Sender::new(()) }))
    }

    /// A configuration that a program has created.
    pub fn of_program(config: Config) -> Self {
        Self::new(Loaded::of_program(config))
    }

    /// The present configuration.
    pub fn get(&self) -> Arc<Loaded> {
        self.0.now.load_full()
    }

    /// A part of the configuration, for a user of only that part.
    pub fn live<T: 'static>(&self, part: fn(&Config) -> T) -> Live<T> {
        let in_force = self.clone();
        Live::new(self.0.swaps.subscribe(), move || part(&in_force.0.now.load().config))
    }

    /// Puts the reloadable keys of `read` in force. Returns all differences from the previous configuration: keys whose [`Change`] is
    /// [`Change::Restart`] still differ. Calls must not be concurrent.
    pub fn adopt(&self, read: &Loaded) -> Vec<Difference> {
        let before = self.get();
        let mut next = read.clone();
        let mut differences = Vec::new();
        for ((key, place), (index, (_, old_place))) in read.origins().zip(before.origins().enumerate()) {
            let (old, new) = (key.text(&before.config), key.text(&read.config));
            if old == new {
                continue;
            }
            if key.change == Change::Restart {
                (key.copy)(&before.config, &mut next.config);
                next.origins[index] = old_place.clone();
            }
            differences.push(Difference { key, old, new, place: place.clone() });
        }
        self.0.now.store(Arc::new(next));
        self.0.swaps.send_replace(());
        differences
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InForce").field(&self.get()).finish()
    }
}

// === impl Difference ===

impl Difference {
    /// The keys of these differences that need a restart.
    pub fn awaiting_restart(differences: &[Self]) -> Vec<&'static Key> {
        let waits = |difference: &&Self| difference.key.change == Change::Restart;
        differences.iter().filter(waits).map(|difference| difference.key).collect()
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

    fn told(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(|it| format!("{} {} {}", it.key.path(), it.old, it.new)).collect()
    }

    #[test]
    fn keys_that_can_change_do_and_those_that_need_a_restart_keep_value_and_origin() {
        let in_force = InForce::new(read(|_| {}));
        let period = in_force.live(|config| config.relist.period);
        let other = read(|it| (it.relist.period, it.journal.events) = (Duration::from_secs(2), 77));
        let differences = in_force.adopt(&other);
        assert_eq!(told(&differences), ["relist.period 1s 2s", "journal.events 65536 77"]);
        assert_eq!(Difference::awaiting_restart(&differences).len(), 1);
        let now = in_force.get();
        assert_eq!((now.config.relist.period.as_secs(), now.config.journal.events), (2, 65_536));
        assert_eq!(period.get(), Duration::from_secs(2));
        // The same configuration again: a pending restart is reported as long as it is pending.
        assert_eq!(told(&in_force.adopt(&other)), ["journal.events 65536 77"]);
        let set: Vec<String> =
            now.origins().filter(|(_, place)| **place != Place::Default).map(|(key, _)| key.path()).collect();
        assert_eq!(set, ["relist.period"]);
        // With the original value, no restart is pending.
        assert_eq!(told(&in_force.adopt(&read(|_| {}))), ["relist.period 2s 1s"]);
        assert!(in_force.adopt(&read(|_| {})).is_empty());
    }

    #[test]
    fn every_key_is_copied_as_it_is() {
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
    async fn who_waits_is_woken_and_what_is_fixed_never_changes() {
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
