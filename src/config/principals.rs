//! Whom a configuration can name.

use std::fmt;

/// One, or a kind of, peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// A process of uid 0, or of the user that plegd itself runs as: who could do as it likes with plegd anyway.
    Root,
    /// A process that the socket's group and mode let in; see `api.allow_watch`.
    Group,
    /// A process of this user.
    Uid(u32),
    /// A process whose primary group this is, or a supplementary one as far as that can be known.
    Gid(u32),
    /// TCP without TLS, from this machine.
    Loopback,
    /// Whoever has a verified certificate.
    Tls,
    /// Whoever has one with exactly this name.
    TlsName(String),
    /// Whoever connects.
    Any,
}

/// Whom a configuration admits; never empty.
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
    /// These. Who is named twice is named once; none is `root`.
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

    /// Each of them.
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
