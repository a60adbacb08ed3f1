//! Limits on connections: for each listener, and for each client.
//!
//! A connection gets its permit before its rights are known. The permits are divided so that clients without rights cannot block clients
//! with rights. TCP has at most half of the permits, and never those of the UNIX socket. One user of this node, or one address, has at
//! most half of a listener's permits. This includes root: most agents run as root, and an agent that leaks connections must leave permits
//! to the others.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{api::access::LogRateLimit, clock::Clock};

/// Time between two log lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// File descriptors for everything but API connections: listeners, the runtime, metrics, the log.
const OTHER_FILES: usize = 128;

/// The minimum number of connections, whatever the limit on open files.
const MIN_CONNECTIONS: usize = 16;

/// Key for counting connections: the identity that is known before the client sends data. It is hard to multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClientKey {
    /// A user of this node.
    User(u32),
    /// A host.
    Address(IpAddr),
}

/// Counts the connections of one listener and limits them.
pub(super) struct ConnectionLimit {
    listener: &'static str,
    limit: usize,
    counts: Mutex<HashMap<ClientKey, usize>>,
    refusal_log: LogRateLimit<()>,
}

/// The permit of a connection; released on drop.
pub(super) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    client: ClientKey,
}

// === impl ConnectionLimit ===

impl ConnectionLimit {
    /// Allows `limit` connections of the listener of this name.
    pub(super) fn new(listener: &'static str, limit: usize) -> Arc<Self> {
        let refusal_log = LogRateLimit::new(LOG_INTERVAL, Clock::system());
        Arc::new(Self { listener, limit, counts: Mutex::default(), refusal_log })
    }

    /// Acquires a permit for `client`, if the limits allow it.
    pub(super) fn acquire(self: &Arc<Self>, client: ClientKey) -> Option<ConnectionPermit> {
        let mut counts = self.counts.lock();
        let (all, of_client) = (counts.values().sum::<usize>(), counts.get(&client).copied().unwrap_or(0));
        if all < self.limit && of_client < self.limit.div_ceil(2) {
            counts.insert(client, of_client + 1);
            return Some(ConnectionPermit { limit: self.clone(), client });
        }
        drop(counts);
        if self.refusal_log.allow(&()) {
            tracing::warn!(
                listener = self.listener,
                connections = all,
                limit = self.limit,
                ?client,
                of_client,
                "A connection was refused: this listener's share of api.connections is used up, or this client has half of it. \
                 Raise api.connections, or find the clients with `ss -xtp`. Further refusals are not logged for one minute."
            );
        }
        None
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.limit.counts.lock();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// The number of connections that the limit on open files allows, `configured` at most.
pub(super) fn fit_open_file_limit(configured: usize, open_files: usize) -> usize {
    configured.min(open_files.saturating_sub(OTHER_FILES).max(MIN_CONNECTIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_half_of_the_permits_and_they_can_be_acquired_again() {
        let limit = ConnectionLimit::new("test", 5);
        let acquire = |client, count| -> Vec<ConnectionPermit> {
            (0..count).map_while(|_| limit.acquire(client)).collect()
        };
        let first = acquire(ClientKey::User(0), 9);
        assert_eq!(first.len(), 3);
        let second = acquire(ClientKey::User(1), 9);
        assert_eq!(second.len(), 2);
        assert!(limit.acquire(ClientKey::User(2)).is_none());
        drop(first);
        assert_eq!(acquire(ClientKey::User(2), 9).len(), 3);
        drop(second);
        assert!(limit.counts.lock().is_empty());
        let single = ConnectionLimit::new("test", 1);
        let _permit = single.acquire(ClientKey::User(0)).unwrap();
        assert!(single.acquire(ClientKey::User(1)).is_none());
    }

    #[test]
    fn connections_leave_file_descriptors_for_everything_else() {
        assert_eq!(fit_open_file_limit(2048, 1 << 20), 2048);
        assert_eq!(fit_open_file_limit(2048, 1024), 896);
        assert_eq!(fit_open_file_limit(2048, 64), 16);
        assert_eq!(fit_open_file_limit(8, 64), 8);
    }
}
