//! Where the runtime listens.

use std::{
    fmt, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

/// Sockets that are looked for, in this order, when no endpoint is given.
pub const WELL_KNOWN: [&str; 3] =
    ["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock"];

/// The UNIX socket of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// Why there is no endpoint to use.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a UNIX socket's address.
    #[error("{0:?} is no UNIX socket: write unix:///path/to/runtime.sock or the absolute path alone")]
    NotUnix(String),
    /// Longer than the kernel takes.
    #[error("{0:?} is longer than the 107 bytes that the path of a UNIX socket may have")]
    TooLong(String),
    /// None of the well-known ones is there.
    #[error(
        "no container runtime was found at {}: is containerd or CRI-O running? Name its socket with --runtime-endpoint",
        WELL_KNOWN.join(", ")
    )]
    NoneFound,
}

// === impl Endpoint ===

impl Endpoint {
    /// Reads `unix:///run/containerd/containerd.sock` or `/run/containerd/containerd.sock`.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] if it is something else.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if !path.starts_with('/') {
            return Err(EndpointError::NotUnix(text.into()));
        }
        if path.len() > 107 {
            return Err(EndpointError::TooLong(text.into()));
        }
        Ok(Self(path.into()))
    }

    /// The first of the well-known sockets that exists.
    ///
    /// # Errors
    ///
    /// [`EndpointError::NoneFound`] if none does.
    pub fn find() -> Result<Self, EndpointError> {
        let is_socket = |path: &&&str| std::fs::metadata(path).is_ok_and(|at| at.file_type().is_socket());
        WELL_KNOWN.iter().find(is_socket).map(|path| Self(path.into())).ok_or(EndpointError::NoneFound)
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What to do when connecting to it fails like this.
    pub fn hint(&self, error: &io::Error) -> &'static str {
        match error.kind() {
            io::ErrorKind::NotFound => "is the runtime running? Name another socket with --runtime-endpoint",
            io::ErrorKind::ConnectionRefused => "the socket is there but nobody listens: is the runtime down?",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_socket_are_read() {
        for text in ["unix:///run/x.sock", "/run/x.sock"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), "unix:///run/x.sock");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_sentence() {
        for text in ["", "tcp://127.0.0.1:1", "run/x.sock", "http://x", "unix:run/x"] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains("unix:///path"), "{error}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(Endpoint::parse(&long).unwrap_err().to_string().contains("107 bytes"));
    }
}
