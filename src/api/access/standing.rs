//! What a peer may do as long as its connection is there: the rules as the configuration has them, and what becomes of a
//! peer when they change.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Peer, Principals, Rights, SocketBits};
use crate::config::{Config, InForce, Live};

/// The rules of a server, as they change.
#[derive(Clone)]
pub(super) struct Rules {
    admitted: Live<Admitted>,
    own_uid: u32,
    socket: Option<SocketBits>,
}

/// Whom the configuration admits.
#[derive(Clone, Debug)]
struct Admitted {
    watch: Principals,
    introspection: Principals,
}

/// Follows what the peer of one connection may do.
pub(in crate::api) struct Standing {
    rules: Rules,
    peer: Peer,
    rights: Arc<Mutex<Rights>>,
}

// === impl Rules ===

impl Rules {
    /// Those of this configuration. `socket` is the UNIX socket's.
    pub(super) fn new(in_force: &InForce, socket: Option<SocketBits>) -> Self {
        let admitted = in_force.live(|Config { api, .. }| Admitted {
            watch: api.allow_watch.clone(),
            introspection: api.allow_introspection.clone(),
        });
        Self { admitted, own_uid: rustix::process::geteuid().as_raw(), socket }
    }

    /// As they are now.
    pub(super) fn now(&self) -> Access {
        let Admitted { watch, introspection } = self.admitted.get();
        Access { watch, introspection, own_uid: self.own_uid, socket: self.socket }
    }

    /// What `peer` may do from now on.
    pub(super) fn standing(&self, peer: &Peer) -> Standing {
        // It follows them from before it asks them, so that no change is missed in between.
        let rules = self.clone();
        let rights = Arc::new(Mutex::new(rules.now().rights(peer)));
        Standing { rules, peer: peer.clone(), rights }
    }
}

// === impl Standing ===

impl Standing {
    /// What the peer may do, kept up to date as long as somebody awaits [`Standing::lessened`].
    pub(super) fn rights(&self) -> Arc<Mutex<Rights>> {
        self.rights.clone()
    }

    /// Has each other configuration decide anew what the peer may do, and returns when one has taken a right from it.
    pub(in crate::api) async fn lessened(&mut self) {
        loop {
            self.rules.admitted.changed().await;
            let now = self.rules.now().rights(&self.peer);
            let before = std::mem::replace(&mut *self.rights.lock(), now);
            if (before.watch && !now.watch) || (before.introspection && !now.introspection) {
                return;
            }
        }
    }
}
