//! Limits on connections: for each listener, and for each peer.
//!
//! A connection takes its place before its rights are known. The places are divided so that clients without rights cannot block clients
//! with rights. TCP has at most half of the places, and never those of the UNIX socket. One user of this node, or one address, has at
//! most half of a listener's places. This includes root: most agents run as root, and an agent that leaks connections must leave places
//! to the others.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{api::access::Seldom, clock::Clock};

/// Time between two log lines about refused connections.
const TELLING: Duration = Duration::from_secs(60);

/// File descriptors for everything but API connections: listeners, the runtime, metrics, the log.
const OTHER_FILES: usize = 128;

/// The minimum number of connections, whatever the limit on open files.
const LEAST_CONNECTIONS: usize = 16;

/// The holder of a place: the identity that is known before the client sends data. It is hard to multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A user of this node.
    User(u32),
    /// A host.
    Address(IpAddr),
}

/// The places of one listener.
pub(super) struct Places {
    listener: &'static str,
    limit: usize,
    taken: Mutex<HashMap<Holder, usize>>,
    told: Seldom<()>,
}

/// The place of a connection; freed on drop.
pub(super) struct Place {
    places: Arc<Places>,
    holder: Holder,
}

// === impl Places ===

impl Places {
    /// Creates `limit` places for the listener of this name.
    pub(super) fn new(listener: &'static str, limit: usize) -> Arc<Self> {
        let told = Seldom::new(TELLING, Clock::system());
        Arc::new(Self { listener, limit, taken: Mutex::default(), told })
    }

    /// Takes a place for `holder`, if one is free.
    pub(super) fn take(self: &Arc<Self>, holder: Holder) -> Option<Place> {
        let mut taken = self.taken.lock();
        let (all, of_holder) = (taken.values().sum::<usize>(), taken.get(&holder).copied().unwrap_or(0));
        if all < self.limit && of_holder < self.limit.div_ceil(2) {
            taken.insert(holder, of_holder + 1);
            return Some(Place { places: self.clone(), holder });
        }
        drop(taken);
        if self.told.is_due(&()) {
            tracing::warn!(
                listener = self.listener,
                connections = all,
                limit = self.limit,
                ?holder,
                of_holder,
                "Clients are turned away: this listener's share of api.connections is taken, or this one holds half of \
                 it. Raise it, or see with `ss -xtp` who holds them. It is not told again within the next minute."
            );
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(count) = taken.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

/// The number of connections that the limit on open files allows, `wanted` at most.
pub(super) fn affordable(wanted: usize, open_files: usize) -> usize {
    wanted.min(open_files.saturating_sub(OTHER_FILES).max(LEAST_CONNECTIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_has_half_of_the_places_and_they_become_free_again() {
        let places = Places::new("test", 5);
        let take = |holder, count| -> Vec<Place> { (0..count).map_while(|_| places.take(holder)).collect() };
        let first = take(Holder::User(0), 9);
        assert_eq!(first.len(), 3);
        let second = take(Holder::User(1), 9);
        assert_eq!(second.len(), 2);
        assert!(places.take(Holder::User(2)).is_none());
        drop(first);
        assert_eq!(take(Holder::User(2), 9).len(), 3);
        drop(second);
        assert!(places.taken.lock().is_empty());
        let single = Places::new("test", 1);
        let _place = single.take(Holder::User(0)).unwrap();
        assert!(single.take(Holder::User(1)).is_none());
    }

    #[test]
    fn connections_leave_files_for_all_else() {
        assert_eq!(affordable(2048, 1 << 20), 2048);
        assert_eq!(affordable(2048, 1024), 896);
        assert_eq!(affordable(2048, 64), 16);
        assert_eq!(affordable(8, 64), 8);
    }
}
