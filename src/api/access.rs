//! Access control: peers, the principals in the configuration, and the access service before the API services.
//!
//! A connection belongs to one [`Peer`]. The kernel (a UNIX socket's credentials) or a verified certificate identifies the peer. Nothing
//! that a client claims about itself counts. [`AccessRules`] decides a peer's rights when it connects. [`service`] enforces them on each
//! call, before it reads a byte of the request. When the lists in the configuration change, the rights are decided again. Additional
//! rights apply at once. If a right is revoked, the connection is aborted, together with its calls in flight. Each request carries its
//! [`Peer`] and the [`ConnectionAbort`] of its connection in its extensions.
//!
//! # Group membership
//!
//! To connect to a UNIX socket, a process needs write permission on it. If the socket's mode gives others no write permission, a
//! connected process is the owner, in the group, or allowed to bypass permissions (root). The kernel has then proven membership,
//! including supplementary groups, which the socket's credentials do not contain. If others may write, `group` matches a process whose
//! primary group is the socket's. It also matches a process whose `/proc/<pid>/status` lists the socket's group as a supplementary one.
//! That file is read at the time of the decision. It is used only if the process belongs to the same user, since a process id may be
//! reused. A process can therefore borrow at most the groups of another process of the same user. In another PID namespace the process id
//! is unknown, and supplementary groups do not count.

mod authorization;
mod group;
mod in_flight;
mod log_rate_limit;
mod message;
pub mod service;

pub(super) use self::{group::gid_of, log_rate_limit::LogRateLimit};

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

pub use crate::config::{Principal, Principals};

/// The client of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this node, connected over the UNIX socket, as it was when it connected.
    Process {
        /// The effective user.
        uid: u32,
        /// The effective primary group.
        gid: u32,
        /// The process id; `None` if the process is in another PID namespace than plegd.
        pid: Option<i32>,
    },
    /// A client over TCP.
    Network {
        address: SocketAddr,
        /// URI and DNS names in the verified certificate; `None` without TLS.
        certificate_names: Option<Arc<[String]>>,
    },
}

/// Key for counting requests: the closest known identity to "one program".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKey {
    /// A process, by user and process id.
    Process(u32, i32),
    /// A process of another PID namespace, by its connection. Agents in pods mostly run as root and would otherwise share one key.
    Connection(u64),
    Address(IpAddr),
}

/// The services that a peer may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// `PodLifecycleService`
    pub watch: bool,
    /// `IntrospectionService`
    pub introspection: bool,
}

/// Group and mode of the UNIX socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketBits {
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

/// Aborts a connection with all its calls in flight. For a client that reads nothing, so that no answer reaches it.
#[derive(Clone, Debug, Default)]
pub struct ConnectionAbort(CancellationToken);

/// The access rules of a server.
#[derive(Clone, Debug)]
pub struct AccessRules {
    /// `api.allow_watch`
    pub watch: Principals,
    /// `api.allow_introspection`
    pub introspection: Principals,
    /// The user that plegd runs as. It matches the principal `root` as well.
    pub own_uid: u32,
    pub socket: Option<SocketBits>,
}

// === impl Peer ===

impl Peer {
    /// The key by which the requests of this connection are counted.
    pub fn key(&self, connection: u64) -> PeerKey {
        match self {
            Self::Process { uid, pid: Some(pid), .. } => PeerKey::Process(*uid, *pid),
            Self::Process { pid: None, .. } => PeerKey::Connection(connection),
            Self::Network { address, .. } => PeerKey::Address(host(address.ip())),
        }
    }
}

/// The host of this address. All loopback addresses belong to one host.
pub(super) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        address => address,
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { uid, gid, pid: Some(pid) } => write!(f, "pid {pid} (uid {uid}, gid {gid})"),
            Self::Process { uid, gid, pid: None } => write!(f, "a process (uid {uid}, gid {gid})"),
            Self::Network { address, certificate_names: None } => write!(f, "{address}"),
            Self::Network { address, certificate_names: Some(names) } if names.is_empty() => {
                write!(f, "{address} (a certificate without names)")
            }
            Self::Network { address, certificate_names: Some(names) } => {
                write!(f, "{address} ({})", names.join(", "))
            }
        }
    }
}

// === impl ConnectionAbort ===

impl ConnectionAbort {
    pub fn abort(&self) {
        self.0.cancel();
    }

    /// Waits until the connection is aborted.
    pub(super) async fn aborted(&self) {
        self.0.cancelled().await;
    }
}

// === impl AccessRules ===

impl AccessRules {
    pub fn rights(&self, peer: &Peer) -> Rights {
        let groups = std::cell::OnceCell::new();
        let member_of = |gid: u32| match peer {
            Peer::Process { uid, pid: Some(pid), .. } => {
                groups.get_or_init(|| group::supplementary(*pid, *uid)).contains(&gid)
            }
            _ => false,
        };
        let admits = |principals: &Principals| {
            principals.iter().any(|principal| self.matches(peer, principal, &member_of))
        };
        Rights { watch: admits(&self.watch), introspection: admits(&self.introspection) }
    }

    /// Whether only /proc shows that a peer matches some of the admitted principals.
    fn needs_proc(&self) -> bool {
        let writable_by_others = self.socket.is_some_and(|socket| socket.mode & 0o002 != 0);
        let by_proc = |principal: &Principal| {
            matches!(principal, Principal::Gid(_)) || (*principal == Principal::Group && writable_by_others)
        };
        self.socket.is_some() && self.watch.iter().chain(self.introspection.iter()).any(by_proc)
    }

    /// Logs a warning if /proc is hidden, because clients then get fewer rights than they should.
    pub(super) fn warn_of_hidden_groups(&self) {
        if self.needs_proc() && group::are_hidden() {
            tracing::warn!(
                "Processes of other users are hidden in /proc: api.allow_watch and api.allow_introspection do not match the \
                 supplementary groups of clients, only primary groups. To match supplementary groups, set ProtectProc=default \
                 in the systemd unit, or mount /proc without hidepid."
            );
        }
    }

    /// Whether `peer` matches the principal `principal`. `member_of` checks its supplementary groups, if known.
    fn matches(&self, peer: &Peer, principal: &Principal, member_of: &dyn Fn(u32) -> bool) -> bool {
        match (principal, peer) {
            (Principal::Any, _) => true,
            (Principal::Root, Peer::Process { uid, .. }) => *uid == 0 || *uid == self.own_uid,
            (Principal::Uid(wanted), Peer::Process { uid, .. }) => uid == wanted,
            (Principal::Gid(wanted), Peer::Process { gid, .. }) => gid == wanted || member_of(*wanted),
            (Principal::Group, Peer::Process { gid, .. }) => self.socket.is_some_and(|socket| {
                let proven = socket.mode & 0o002 == 0;
                proven || *gid == socket.gid || member_of(socket.gid)
            }),
            (Principal::Loopback, Peer::Network { address, certificate_names: None }) => {
                address.ip().to_canonical().is_loopback()
            }
            (Principal::Tls, Peer::Network { certificate_names, .. }) => certificate_names.is_some(),
            (Principal::TlsName(wanted), Peer::Network { certificate_names: Some(names), .. }) => {
                names.contains(wanted)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
