//! Connections to plegd, and the errors if none can be established.

use std::{
    error::Error,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Uri};

use super::Address;

/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// plegd cannot be reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no such socket.
    #[error("there is no socket at {address}; check that plegd is running and listens on this socket")]
    Missing {
        /// The socket's address.
        address: Address,
    },
    /// No process listens at the address.
    #[error("no process listens on {address}; check that plegd is running")]
    Refused {
        /// The address.
        address: Address,
    },
    /// This user has no permission to open the socket.
    #[error("permission denied for {address}: {rule}")]
    Forbidden {
        /// The socket's address.
        address: Address,
        /// Who has permission to open it: the owner or the group.
        rule: String,
    },
    /// The path is not a socket.
    #[error("{address} is not a socket; check the address of plegd")]
    NoSocket {
        /// The address.
        address: Address,
    },
    /// Another failure.
    #[error("cannot connect to {address}: {why}")]
    Failed {
        /// The address.
        address: Address,
        /// The system's error text.
        why: String,
    },
}

/// A channel that connects at its first use, and again after each lost connection.
pub(super) fn channel(address: Address) -> Channel {
    let plain = Channel::builder(Uri::from_static("http://localhost")).connect_timeout(CONNECT_TIMEOUT);
    let builder = match &address {
        // The kernel reports when the other side of a UNIX socket closes it.
        Address::Unix(_) => plain,
        Address::Loopback { .. } => plain
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true),
    };
    builder.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let address = address.clone();
        async move { open(&address).await.map_err(io::Error::other) }
    }))
}

/// Checks whether plegd can be reached.
pub(super) async fn probe(address: &Address) -> Result<(), ConnectError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open(address)).await {
        Ok(opened) => opened.map(drop),
        Err(_) => Err(ConnectError::Failed {
            address: address.clone(),
            why: format!("timed out after {}", humantime::format_duration(CONNECT_TIMEOUT)),
        }),
    }
}

trait Bytes: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Bytes for T {}

async fn open(address: &Address) -> Result<TokioIo<Box<dyn Bytes>>, ConnectError> {
    let bytes: io::Result<Box<dyn Bytes>> = match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as _),
        Address::Loopback { host, port } => {
            TcpStream::connect((host.as_str(), *port)).await.map(|stream| Box::new(stream) as _)
        }
    };
    bytes.map(TokioIo::new).map_err(|error| ConnectError::of(address, &error))
}

// === impl ConnectError ===

impl ConnectError {
    fn of(address: &Address, error: &io::Error) -> Self {
        let path = address.path();
        let is_socket =
            || path.is_none_or(|path| fs::metadata(path).is_ok_and(|at| at.file_type().is_socket()));
        let address = address.clone();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { address },
            io::ErrorKind::ConnectionRefused if !is_socket() => Self::NoSocket { address },
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            io::ErrorKind::PermissionDenied => {
                let rule = path.map_or_else(|| error.to_string(), permitted_to);
                Self::Forbidden { address, rule }
            }
            _ => Self::Failed { address, why: error.to_string() },
        }
    }

    /// The connect error that caused one of tonic's errors.
    pub(super) fn below<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
            let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            error.downcast_ref().or_else(|| within.and_then(|error| error.downcast_ref()))
        })
    }
}

/// Who has permission to open a socket or to search the directory that denies access: the owner or the group.
fn permitted_to(path: &Path) -> String {
    // Metadata of paths below the directory that denies access cannot be read, so the first readable path is that directory.
    let readable = path.ancestors().find_map(|at| fs::metadata(at).ok().map(|metadata| (at, metadata)));
    let Some((at, metadata)) = readable else { return "run as root".into() };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let mode = metadata.mode();
    let needed = if metadata.is_dir() { 0o010 } else { 0o020 };
    if mode & needed == 0 {
        return format!(
            "only the owner of {} (uid {}) has access; run as root",
            at.display(),
            metadata.uid()
        );
    }
    let group = group_name(&groups, metadata.gid());
    format!("{} is accessible to the group {group}; join the group, or run as root", at.display())
}

/// The name of a group from `/etc/group`; its number if it has no name.
fn group_name(groups: &str, gid: u32) -> String {
    let number = gid.to_string();
    let line = groups.lines().find(|line| line.split(':').nth(2) == Some(&number));
    match line.and_then(|line| line.split(':').next()) {
        Some(name) => format!("{name:?}"),
        None => format!("with the ID {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect_error(path: &Path, kind: io::ErrorKind) -> String {
        ConnectError::of(&Address::Unix(path.into()), &kind.into()).to_string()
    }

    #[tokio::test]
    async fn the_error_for_a_missing_socket_has_a_hint() {
        let address: Address = "/no/such/plegd.sock".parse().unwrap();
        assert_eq!(
            probe(&address).await.unwrap_err().to_string(),
            "there is no socket at unix:///no/such/plegd.sock; check that plegd is running and listens on this socket"
        );
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_and_a_file_have_different_errors() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, file) = (directory.path().join("a.sock"), directory.path().join("file"));
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        fs::write(&file, "").unwrap();
        let error = probe(&Address::Unix(socket)).await.unwrap_err().to_string();
        assert!(
            error.contains("no process listens") && error.contains("check that plegd is running"),
            "{error}"
        );
        let error = probe(&Address::Unix(file)).await.unwrap_err().to_string();
        assert!(error.contains("is not a socket"), "{error}");
    }

    #[test]
    fn the_error_for_a_denied_permission_names_the_owner_or_group() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("a.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mode = |mode| fs::set_permissions(&socket, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o660);
        let error = connect_error(&socket, io::ErrorKind::PermissionDenied);
        assert!(
            error.contains("is accessible to the group ") && error.contains("join the group, or run as root"),
            "{error}"
        );
        mode(0o600);
        let error = connect_error(&socket, io::ErrorKind::PermissionDenied);
        assert!(
            error.contains("only the owner of ") && error.contains("(uid ") && error.contains("run as root"),
            "{error}"
        );
    }

    #[test]
    fn groups_have_names() {
        let groups = "root:x:0:\nplegd:x:998:alice,bob\n";
        assert_eq!(group_name(groups, 998), "\"plegd\"");
        assert_eq!(group_name(groups, 99), "with the ID 99");
    }
}
