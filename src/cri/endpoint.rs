//! The runtime's socket.

pub(crate) mod discovery;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::socket_path;

/// Sockets that are tried when no endpoint is configured. plegd follows the first one that answers as a runtime.
pub(crate) const WELL_KNOWN: [&str; 3] =
    ["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock"];

/// The UNIX socket of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint(PathBuf);

// === impl Endpoint ===

impl Endpoint {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A hint for this connection error.
    pub fn hint(&self, error: &io::Error) -> &'static str {
        match error.kind() {
            io::ErrorKind::NotFound => "is the runtime running? Name another socket with --runtime-endpoint",
            io::ErrorKind::ConnectionRefused => "no process listens on the socket: is the runtime down?",
            io::ErrorKind::PermissionDenied => "run as root or in the group that owns the socket",
            _ => "check that this is the socket of a container runtime",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    /// Parses `unix:///run/containerd/containerd.sock` or `/run/containerd/containerd.sock`. The error is a clause
    /// that names the problem.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some(("unix", path)) => path,
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme:?} is not supported: a runtime is reached over its UNIX socket only"
                ));
            }
            // `unix:/run/x.sock` is an old spelling that gRPC and crictl accept.
            None => text.strip_prefix("unix:").unwrap_or(text),
        };
        socket_path::check(path)?;
        Ok(Self(path.into()))
    }
}
