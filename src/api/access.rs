//! Who may ask for what: peers, the principals that a configuration names, and the gate before the services.
//!
//! A connection belongs to one [`Peer`], of which the kernel (a UNIX socket's credentials) or a certificate that was
//! verified tells who it is; nothing that a client says of itself counts. What it may do is decided when it connects, by
//! [`Access`], and enforced on each call by [`gate`], before a byte of the request is read. When the lists of the
//! configuration change it is decided anew: whoever may do more can at once, and whoever may do less is cut off, with what is
//! under way. Each request carries its [`Peer`] in its extensions, and the [`Cut`] of its connection.
//!
//! # Who is in the group
//!
//! To connect to a UNIX socket a process needs write permission on it. Where the socket's mode gives others none, whoever
//! has connected is thus its owner, in its group, or allowed to pass over permissions (root): the kernel has proven it, and
//! supplementary groups, of which the socket's credentials say nothing, are counted in. Where the mode lets others write,
//! `group` holds for a process whose primary group is the socket's, or in whose `/proc/<pid>/status` it is listed as a
//! supplementary one. That file is read when it is decided, and believed only if it is of the same user, since a process
//! number may be given out again: what that leaves to cheat with is the groups of another process of the same user. In
//! another process namespace the number is unknown, and supplementary groups do not count.

pub mod gate;
mod group;
mod message;
mod seldom;
mod standing;
mod under_way;

pub(super) use self::{group::gid_of, seldom::Seldom};

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

pub use crate::config::{Principal, Principals};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this node, over the UNIX socket: as it was when it connected.
    Process {
        /// Its effective user.
        uid: u32,
        /// Its effective, primary group.
        gid: u32,
        /// Its number; `None` in another process namespace than plegd's.
        pid: Option<i32>,
    },
    /// A client over TCP.
    Network {
        /// Its address.
        address: SocketAddr,
        /// URI and DNS names of its verified certificate; `None` without TLS.
        certificate_names: Option<Arc<[String]>>,
    },
}

/// What requests are counted by: the nearest to "one program" that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKey {
    /// A process, by user and number.
    Process(u32, i32),
    /// A process of another process namespace, by its connection: agents in pods are mostly root and would all be one.
    Connection(u64),
    /// A machine.
    Address(IpAddr),
}

/// What a peer may ask for.
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
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// Ends a connection at once, with all that is under way in it: for a client that takes nothing of what it is sent, which no
/// answer reaches.
#[derive(Clone, Debug, Default)]
pub struct Cut(CancellationToken);

/// The rules of a server.
#[derive(Clone, Debug)]
pub struct Access {
    /// `api.allow_watch`
    pub watch: Principals,
    /// `api.allow_introspection`
    pub introspection: Principals,
    /// The user that plegd runs as, which is `root` too.
    pub own_uid: u32,
    /// The UNIX socket, if there is one.
    pub socket: Option<SocketBits>,
}

// === impl Peer ===

impl Peer {
    /// By what its requests over the connection of this number are counted.
    pub fn key(&self, connection: u64) -> PeerKey {
        match self {
            Self::Process { uid, pid: Some(pid), .. } => PeerKey::Process(*uid, *pid),
            Self::Process { pid: None, .. } => PeerKey::Connection(connection),
            Self::Network { address, .. } => PeerKey::Address(machine(address.ip())),
        }
    }
}

/// The machine at this address. All addresses of loopback are this one.
pub(super) fn machine(address: IpAddr) -> IpAddr {
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

// === impl Cut ===

impl Cut {
    /// Ends the connection.
    pub fn cut(&self) {
        self.0.cancel();
    }

    /// Waits until it is to end.
    pub(super) async fn made(&self) {
        self.0.cancelled().await;
    }
}

// === impl Access ===

impl Access {
    /// What `peer` may do.
    pub fn rights(&self, peer: &Peer) -> Rights {
        let groups = std::cell::OnceCell::new();
        let member_of = |gid: u32| match peer {
            Peer::Process { uid, pid: Some(pid), .. } => {
                groups.get_or_init(|| group::supplementary(*pid, *uid)).contains(&gid)
            }
            _ => false,
        };
        let admits = |principals: &Principals| principals.iter().any(|who| self.is(peer, who, &member_of));
        Rights { watch: admits(&self.watch), introspection: admits(&self.introspection) }
    }

    /// Whether some of those that are admitted can be known by what /proc says of them alone.
    fn looks_into_proc(&self) -> bool {
        let open = self.socket.is_some_and(|socket| socket.mode & 0o002 != 0);
        let by_proc =
            |who: &Principal| matches!(who, Principal::Gid(_)) || (*who == Principal::Group && open);
        self.socket.is_some() && self.watch.iter().chain(self.introspection.iter()).any(by_proc)
    }

    /// Says so if clients will be taken for less than they are: they would look in vain for why.
    pub(super) fn warn_of_hidden_groups(&self) {
        if self.looks_into_proc() && group::are_hidden() {
            tracing::warn!(
                "Processes of other users are hidden in /proc, so that supplementary groups of clients do not count for \
                 api.allow_watch and api.allow_introspection; primary ones do. If they are to count, set ProtectProc=default in \
                 the systemd unit, or mount /proc without hidepid."
            );
        }
    }

    /// Whether `peer` is `who`. `member_of` tells its supplementary groups, as far as they are known.
    fn is(&self, peer: &Peer, who: &Principal, member_of: &dyn Fn(u32) -> bool) -> bool {
        match (who, peer) {
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
