//! Errors of the listeners, with their remedies.

use std::{io, net::SocketAddr, path::PathBuf};

/// The reason why a listener cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process answers on the socket.
    #[error(
        "the socket {path} is taken: another plegd or another program answers there; end it, \
         or choose another path with api.socket (\"off\" for none)"
    )]
    SocketTaken {
        /// The socket.
        path: PathBuf,
    },
    /// Two processes are started for the same socket at the same time.
    #[error(
        "another plegd is being started and holds {lock}; end it, or choose another path with api.socket (\"off\" for none)"
    )]
    Locked {
        /// The lock file beside the socket.
        lock: PathBuf,
    },
    /// Other users could replace the files in the socket's directory.
    #[error(
        "the socket's folder {folder} belongs to uid {uid} and has mode {mode:04o}, so that others could put theirs in the \
         socket's place; give it to root or plegd's user, who alone may write to it, or choose another path with \
         api.socket (\"off\" for none)"
    )]
    UnsafeFolder {
        /// The directory.
        folder: PathBuf,
        /// The owner.
        uid: u32,
        /// The mode.
        mode: u32,
    },
    /// The existing file is not a socket.
    #[error(
        "{path} is not a socket, so it is left alone; move it away, or choose another path with api.socket (\"off\" for none)"
    )]
    NotASocket {
        /// The existing file.
        path: PathBuf,
    },
    /// A step of the socket's creation failed.
    #[error(
        "cannot {step} {path}: {error}; see to it that plegd's user may, or choose another path with api.socket (\"off\" for none)"
    )]
    Socket {
        /// The step.
        step: &'static str,
        /// The file of the step.
        path: PathBuf,
        /// The system error.
        error: io::Error,
    },
    /// The group does not exist.
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
        /// The system error.
        error: io::Error,
    },
    /// plegd must not assign the group.
    #[error(
        "cannot give the socket {path} to group {gid}: {error}; run plegd as root or as a member of that group, \
         or leave api.socket_group empty"
    )]
    Group {
        /// The socket.
        path: PathBuf,
        /// The group id.
        gid: u32,
        /// The system error.
        error: io::Error,
    },
    /// Another process listens on the address.
    #[error(
        "the gRPC address {address} is taken: another plegd or another program listens there; end it, \
         or choose another address with api.tcp_address (\"off\" for none)"
    )]
    AddressTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address does not belong to this host, or not yet.
    #[error(
        "the gRPC address {address} is none of this machine's; choose one that is with api.tcp_address (\"off\" for none)"
    )]
    AddressNotHere {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses the address, or lacks resources.
    #[error(
        "cannot listen on the gRPC address {address}: {error}; choose another with api.tcp_address (\"off\" for none)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system error.
        error: io::Error,
    },
    /// TCP without TLS is not allowed on this address.
    #[error(
        "the gRPC address {address} would be served without TLS; give api.tls_certificate, api.tls_key and \
         api.tls_client_ca, or set api.tcp_plaintext with a loopback address"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The reason why certificates or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file does not exist, or plegd's user cannot read it.
    #[error("cannot read {path}, which {key} names: {error}; see to it that plegd's user may")]
    Unreadable {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system error.
        error: io::Error,
    },
    /// The file is not PEM, or lacks the expected entry.
    #[error("{path}, which {key} names, has no {wanted} in it as PEM ({why}); write it as -----BEGIN …-----")]
    Malformed {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The expected entry.
        wanted: &'static str,
        /// The parser's message.
        why: String,
    },
    /// A certificate authority is invalid.
    #[error(
        "{path}, which api.tls_client_ca names, cannot be used: {why}; put the authorities' certificates into it"
    )]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The verifier's message.
        why: String,
    },
    /// Certificate and key do not belong together.
    #[error(
        "the certificate in {certificate} and the key in {key} cannot be used: {why}; \
         see to it that api.tls_certificate and api.tls_key belong together"
    )]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// The reason.
        why: String,
    },
}
