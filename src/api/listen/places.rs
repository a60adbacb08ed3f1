//! How many connections there may be: over each listener, and of each peer.
//!
//! A connection takes its place before anything is known of what it may do, so places are shared out such that whoever is
//! not admitted cannot keep out whoever is. TCP has at most half of them, and never those of the UNIX socket. Of a
//! listener's places one user of this node, or one address, has at most half; root is no exception, since most agents are
//! root, and one of them that forgets to close its connections must leave some to others.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{api::access::Seldom, clock::Clock};

/// How often it is told that clients are turned away.
const TELLING: Duration = Duration::from_secs(60);

/// Descriptors for all that is not a connection of the API: listeners, the runtime, metrics, the log.
const OTHER_FILES: usize = 128;

/// Connections that are tried whatever the limit on open files is.
const LEAST_CONNECTIONS: usize = 16;

/// Who holds a place: the most that is known of a connection before it has said anything, and not easily multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A user of this node.
    User(u32),
    /// A machine.
    Address(IpAddr),
}

/// The places of one listener.
pub(super) struct Places {
    listener: &'static str,
    limit: usize,
    taken: Mutex<HashMap<Holder, usize>>,
    told: Seldom<()>,
}

/// The place of a connection; free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    holder: Holder,
}

// === impl Places ===

impl Places {
    /// So many, over the listener of this name.
    pub(super) fn new(listener: &'static str, limit: usize) -> Arc<Self> {
        let told = Seldom::new(TELLING, Clock::system());
        Arc::new(Self { listener, limit, taken: Mutex::default(), told })
    }

    /// A place for `holder`, if there is one.
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

/// How many of the connections that are wanted can be had where so many files may be open.
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
