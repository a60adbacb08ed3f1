//! Why nothing can be listened on, and what to do about it.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error(
        "the socket {path} is taken: another plegd or another program answers there; end it, \
         or choose another path with api.socket (\"off\" for none)"
    )]
    SocketTaken {
        /// The socket.
        path: PathBuf,
    },
    /// Two are started at the same time.
    #[error(
        "another plegd is being started and holds {lock}; end it, or choose another path with api.socket (\"off\" for none)"
    )]
    Locked {
        /// The file beside the socket by which they take turns.
        lock: PathBuf,
    },
    /// Others could replace what is in the socket's folder.
    #[error(
        "the socket's folder {folder} belongs to uid {uid} and has mode {mode:04o}, so that others could put theirs in the \
         socket's place; give it to root or plegd's user, who alone may write to it, or choose another path with \
         api.socket (\"off\" for none)"
    )]
    UnsafeFolder {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Its mode.
        mode: u32,
    },
    /// What is there was not made by a plegd.
    #[error(
        "{path} is not a socket, so it is left alone; move it away, or choose another path with api.socket (\"off\" for none)"
    )]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// A step on the way failed.
    #[error(
        "cannot {step} {path}: {error}; see to it that plegd's user may, or choose another path with api.socket (\"off\" for none)"
    )]
    Socket {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No such group.
    #[error(
        "there is no group {name:?} in /etc/group, to which api.socket_group gives the socket; make it, or give its number"
    )]
    NoGroup {
        /// The group.
        name: String,
    },
    /// The groups cannot be read.
    #[error("cannot look up the group {name:?} in /etc/group: {error}; give its number in api.socket_group")]
    Groups {
        /// The group.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// The group is not plegd's to give.
    #[error(
        "cannot give the socket {path} to group {gid}: {error}; run plegd as root or as a member of that group, \
         or leave api.socket_group empty"
    )]
    Group {
        /// The socket.
        path: PathBuf,
        /// The group's number.
        gid: u32,
        /// What the system says.
        error: io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "the gRPC address {address} is taken: another plegd or another program listens there; end it, \
         or choose another address with api.tcp_address (\"off\" for none)"
    )]
    AddressTaken {
        /// The address.
        address: SocketAddr,
    },
    /// It is an address of another machine, or none yet.
    #[error(
        "the gRPC address {address} is none of this machine's; choose one that is with api.tcp_address (\"off\" for none)"
    )]
    AddressNotHere {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not allow it, or has no means left.
    #[error(
        "cannot listen on the gRPC address {address}: {error}; choose another with api.tcp_address (\"off\" for none)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// TCP without TLS where it is not allowed.
    #[error(
        "the gRPC address {address} would be served without TLS; give api.tls_certificate, api.tls_key and \
         api.tls_client_ca, or set api.tcp_plaintext with a loopback address"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What is wrong with certificates or key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, or not for plegd's user.
    #[error("cannot read {path}, which {key} names: {error}; see to it that plegd's user may")]
    Unreadable {
        /// Which of the keys.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Not PEM, or nothing of the kind in it.
    #[error("{path}, which {key} names, has no {wanted} in it as PEM ({why}); write it as -----BEGIN …-----")]
    Malformed {
        /// Which of the keys.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What the reader says.
        why: String,
    },
    /// An authority that is none.
    #[error(
        "{path}, which api.tls_client_ca names, cannot be used: {why}; put the authorities' certificates into it"
    )]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What the verifier says.
        why: String,
    },
    /// They do not belong together.
    #[error(
        "the certificate in {certificate} and the key in {key} cannot be used: {why}; \
         see to it that api.tls_certificate and api.tls_key belong together"
    )]
    Pair {
        /// File with the certificate.
        certificate: PathBuf,
        /// File with the key.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
}
