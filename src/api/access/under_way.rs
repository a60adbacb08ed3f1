//! The requests in flight: for each peer, and in total.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::PeerKey;
use crate::config::Live;

/// Limit for all peers together, as a multiple of the limit for one peer. A program must not multiply its share by forking.
const ALL_PEERS: usize = 16;

/// Counts the requests in flight.
pub(super) struct UnderWay {
    per_peer: Live<usize>,
    counts: Mutex<HashMap<PeerKey, usize>>,
}

/// The place of a request; freed on drop.
pub(super) struct Place {
    under_way: Arc<UnderWay>,
    key: PeerKey,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The limit for one peer.
    Peer(usize),
    /// The limit for all peers.
    All(usize),
}

// === impl UnderWay ===

impl UnderWay {
    pub(super) fn new(per_peer: impl Into<Live<usize>>) -> Arc<Self> {
        Arc::new(Self { per_peer: per_peer.into(), counts: Mutex::default() })
    }

    pub(super) fn place(self: &Arc<Self>, key: PeerKey) -> Result<Place, Full> {
        let per_peer = self.per_peer.get();
        let mut counts = self.counts.lock();
        let (all, of_peer) = (per_peer * ALL_PEERS, counts.get(&key).copied().unwrap_or(0));
        if of_peer >= per_peer {
            return Err(Full::Peer(per_peer));
        }
        if counts.values().sum::<usize>() >= all {
            return Err(Full::All(all));
        }
        counts.insert(key, of_peer + 1);
        Ok(Place { under_way: self.clone(), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.under_way.counts.lock();
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
    fn a_peer_has_so_many_places_and_all_together_sixteen_times_as_many() {
        let under_way = UnderWay::new(2);
        let mut places = Vec::new();
        for pid in 0..16 {
            let key = PeerKey::Process(1000, pid);
            places.extend([under_way.place(key).ok(), under_way.place(key).ok()]);
            assert_eq!(under_way.place(key).err(), Some(Full::Peer(2)));
        }
        assert!(places.iter().all(Option::is_some));
        assert_eq!(under_way.place(PeerKey::Process(1000, 16)).err(), Some(Full::All(32)));
        places.pop();
        assert!(under_way.place(PeerKey::Process(1000, 16)).is_ok());
        places.clear();
        assert!(under_way.counts.lock().is_empty());
    }
}
