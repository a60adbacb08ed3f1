//! The rights of a peer during its connection: the current rules, and the effect of a configuration change.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{AccessRules, Peer, Principals, Rights, SocketBits};
use crate::config::{Config, InForce, Live};

/// The access rules of a server, which follow changes of the configuration.
#[derive(Clone)]
pub(super) struct LiveRules {
    admitted: Live<Admitted>,
    own_uid: u32,
    socket: Option<SocketBits>,
}

/// The principals that the configuration admits.
#[derive(Clone, Debug)]
struct Admitted {
    watch: Principals,
    introspection: Principals,
}

/// The rights of one connection's peer. They follow changes of the rules.
pub(in crate::api) struct PeerAuthorization {
    rules: LiveRules,
    peer: Peer,
    rights: Arc<Mutex<Rights>>,
}

// === impl LiveRules ===

impl LiveRules {
    /// The rules of this configuration. `socket` has the group and mode of the UNIX socket.
    pub(super) fn new(in_force: &InForce, socket: Option<SocketBits>) -> Self {
        let admitted = in_force.live(|Config { api, .. }| Admitted {
            watch: api.allow_watch.clone(),
            introspection: api.allow_introspection.clone(),
        });
        let rules = Self { admitted, own_uid: rustix::process::geteuid().as_raw(), socket };
        rules.now().warn_of_hidden_groups();
        rules
    }

    pub(super) fn now(&self) -> AccessRules {
        let Admitted { watch, introspection } = self.admitted.get();
        AccessRules { watch, introspection, own_uid: self.own_uid, socket: self.socket }
    }

    /// The rights of `peer` from now on.
    pub(super) fn authorize(&self, peer: &Peer) -> PeerAuthorization {
        // Subscribe before the first evaluation, so that no change in between is missed.
        let rules = self.clone();
        let rights = Arc::new(Mutex::new(rules.now().rights(peer)));
        PeerAuthorization { rules, peer: peer.clone(), rights }
    }
}

// === impl PeerAuthorization ===

impl PeerAuthorization {
    /// The peer's rights. They are up to date only while a task awaits [`PeerAuthorization::revoked`].
    pub(super) fn rights(&self) -> Arc<Mutex<Rights>> {
        self.rights.clone()
    }

    /// Decides the peer's rights again for each new configuration, and returns when one revokes a right.
    pub(in crate::api) async fn revoked(&mut self) {
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
