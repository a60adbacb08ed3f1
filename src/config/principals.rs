//! Principals in a configuration.

use std::fmt;

/// A peer, or a kind of peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// A process with uid 0 or with plegd's own user, both of which control plegd anyway.
    Root,
    /// A process that the socket's group and mode admit; see `api.allow_watch`.
    Group,
    /// A process of this user.
    Uid(u32),
    /// A process with this primary group, or with this supplementary group if the supplementary groups are known.
    Gid(u32),
    /// TCP without TLS, from this machine.
    Loopback,
    /// Any client with a verified certificate.
    Tls,
    /// A client whose verified certificate has exactly this name.
    TlsName(String),
    /// Any peer.
    Any,
}

/// The principals that a configuration admits; never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Principals(Vec<Principal>);

// === impl Principal ===

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Group => f.write_str("group"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Gid(gid) => write!(f, "gid:{gid}"),
            Self::Loopback => f.write_str("loopback"),
            Self::Tls => f.write_str("tls"),
            Self::TlsName(name) => write!(f, "tls:{name}"),
            Self::Any => f.write_str("any"),
        }
    }
}

// === impl Principals ===

impl Principals {
    /// The set of these principals, without duplicates; `root` if there are none.
    pub fn of(principals: impl IntoIterator<Item = Principal>) -> Self {
        let mut all: Vec<Principal> = Vec::new();
        for principal in principals {
            if !all.contains(&principal) {
                all.push(principal);
            }
        }
        if all.is_empty() {
            all.push(Principal::Root);
        }
        Self(all)
    }

    /// The principals of the set.
    pub fn iter(&self) -> std::slice::Iter<'_, Principal> {
        self.0.iter()
    }
}

impl fmt::Display for Principals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, principal) in self.iter().enumerate() {
            write!(f, "{}{principal}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
