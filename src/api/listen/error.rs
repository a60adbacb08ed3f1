//! Errors of the listeners, with their remedies.

use std::{io, net::SocketAddr, path::PathBuf};

/// The reason reason a listener cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens on the socket.
    #[error(
        "the socket {path} is in use by another process: stop it, or choose another path with api.socket (\"off\" disables \
         the socket)"
    )]
    SocketTaken {
        /// The socket.
        path: PathBuf,
    },
    /// Two processes are started for the same socket at the same time.
    #[error(
        "another plegd is starting and holds {lock}: stop it, or choose another path with api.socket (\"off\" disables the \
         socket)"
    )]
    Locked {
        /// The lock file beside the socket.
        lock: PathBuf,
    },
    /// Other users could replace the files in the socket's directory.
    #[error(
        "the socket's directory {directory} (uid {uid}, mode {mode:04o}) is unsafe, because other users could replace the socket: it \
         must belong to root or plegd's user, and other users must not write to it. Change its owner or mode, or choose another \
         path with api.socket (\"off\" disables the socket)"
    )]
    UnsafeDirectory {
        /// The directory.
        directory: PathBuf,
        /// The owner.
        uid: u32,
        /// The mode.
        mode: u32,
    },
    /// The existing file is not a socket.
    #[error(
        "{path} exists and is not a socket: remove it, or choose another path with api.socket (\"off\" disables the socket)"
    )]
    NotASocket {
        /// The existing file.
        path: PathBuf,
    },
    /// A step of the socket's creation failed.
    #[error(
        "cannot {step} {path}: {error}. Check the permissions of plegd's user, or choose another path with api.socket (\"off\" \
         disables the socket)"
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
        "the group {name:?} of api.socket_group does not exist in /etc/group: create it, or set its number"
    )]
    NoGroup {
        /// The group.
        name: String,
    },
    /// The groups cannot be read.
    #[error("cannot look up the group {name:?} in /etc/group: {error}; set its number in api.socket_group")]
    Groups {
        /// The group.
        name: String,
        /// The system error.
        error: io::Error,
    },
    /// plegd must not assign the group.
    #[error(
        "cannot set the group of the socket {path} to {gid}: {error}; run plegd as root or as a member of that group, \
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
        "the gRPC address {address} is in use by another process: stop it, or choose another address with api.tcp_address \
         (\"off\" disables TCP)"
    )]
    AddressTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address does not belong to this host, at least at present.
    #[error(
        "the gRPC address {address} does not belong to this host: choose another one with api.tcp_address (\"off\" disables TCP)"
    )]
    AddressNotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses the address, or lacks resources.
    #[error(
        "cannot listen on the gRPC address {address}: {error}; choose another one with api.tcp_address (\"off\" disables TCP)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system error.
        error: io::Error,
    },
    /// TCP without TLS is not allowed on this address.
    #[error(
        "the gRPC address {address} would be served without TLS: set api.tls_certificate, api.tls_key and api.tls_client_ca, \
         or set api.tcp_plaintext and a loopback address"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The reason reason certificates or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file does not exist, or plegd's user cannot read it.
    #[error("cannot read {path} ({key}): {error}; check the permissions of plegd's user")]
    Unreadable {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system error.
        error: io::Error,
    },
    /// The file is not PEM, or lacks the expected entry.
    #[error("{path} ({key}) contains no {expected} in PEM format: {reason}")]
    Malformed {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The expected entry.
        expected: &'static str,
        /// The parser's message.
        reason: String,
    },
    /// A certificate authority is invalid.
    #[error("the certificate authorities in {path} (api.tls_client_ca) cannot be used: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The verifier's message.
        reason: String,
    },
    /// Certificate and key do not belong together.
    #[error(
        "the certificate in {certificate} and the key in {key} cannot be used: {reason}; api.tls_certificate and api.tls_key must \
         belong together"
    )]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// The reason.
        reason: String,
    },
}
