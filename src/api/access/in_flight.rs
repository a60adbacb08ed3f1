//! Limits the requests in flight: for each peer, and in total.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::PeerKey;
use crate::config::Live;

/// Limit for all peers together, as a multiple of the limit for one peer. A program must not multiply its share by forking.
pub(super) const ALL_PEERS: usize = 16;

/// Counts the requests in flight and limits them.
pub(super) struct InFlightLimit {
    per_peer: Live<usize>,
    counts: Mutex<HashMap<PeerKey, usize>>,
}

/// The permit of a request; released on drop.
pub(super) struct InFlightPermit {
    limit: Arc<InFlightLimit>,
    key: PeerKey,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The limit for one peer.
    Peer(usize),
    /// The limit for all peers.
    All(usize),
}

// === impl InFlightLimit ===

impl InFlightLimit {
    pub(super) fn new(per_peer: impl Into<Live<usize>>) -> Arc<Self> {
        Arc::new(Self { per_peer: per_peer.into(), counts: Mutex::default() })
    }

    pub(super) fn acquire(self: &Arc<Self>, key: PeerKey) -> Result<InFlightPermit, LimitReached> {
        let per_peer = self.per_peer.get();
        let mut counts = self.counts.lock();
        let (all, of_peer) = (per_peer * ALL_PEERS, counts.get(&key).copied().unwrap_or(0));
        if of_peer >= per_peer {
            return Err(LimitReached::Peer(per_peer));
        }
        if counts.values().sum::<usize>() >= all {
            return Err(LimitReached::All(all));
        }
        counts.insert(key, of_peer + 1);
        Ok(InFlightPermit { limit: self.clone(), key })
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut counts = self.limit.counts.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_limit_and_all_peers_have_sixteen_times_that_limit() {
        let limit = InFlightLimit::new(2);
        let mut permits = Vec::new();
        for pid in 0..16 {
            let key = PeerKey::Process(1000, pid);
            permits.extend([limit.acquire(key).ok(), limit.acquire(key).ok()]);
            assert_eq!(limit.acquire(key).err(), Some(LimitReached::Peer(2)));
        }
        assert!(permits.iter().all(Option::is_some));
        assert_eq!(limit.acquire(PeerKey::Process(1000, 16)).err(), Some(LimitReached::All(32)));
        permits.pop();
        assert!(limit.acquire(PeerKey::Process(1000, 16)).is_ok());
        permits.clear();
        assert!(limit.counts.lock().is_empty());
    }
}
