//! The UNIX socket: made where nobody else's is, with its group and mode before anybody can connect, and removed at the end.
//!
//! # Why nobody can connect too early
//!
//! A socket that is bound but does not listen yet refuses every connection, whatever its mode. So the socket is bound, then
//! given its group, then its mode, and only then listens. No mask of the process is touched, which all its threads share.
//!
//! # Whose socket it is
//!
//! Looking who is there, removing what is stale and making the new socket happen under a lock (`flock`) on the folder, so
//! that of two that are started at once the second finds the first. A socket is stale if nobody listens (ECONNREFUSED);
//! what is not a socket is never touched. At the end it is removed, under the same lock, if it is still the one that was
//! made: its inode cannot have been given out again, as the listener holds it until then.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{
    net::{UnixListener, UnixSocket, UnixStream},
    time::{sleep, timeout},
};

use super::ListenError;
use crate::{
    api::access::{SocketBits, gid_of},
    config::SocketGroup,
};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// For whoever answers at the path, and for whoever holds the folder's lock.
const PATIENCE: Duration = Duration::from_secs(2);

const LOCK_PAUSE: Duration = Duration::from_millis(20);

const GROUPS: &str = "/etc/group";

/// The socket, listening.
pub(super) struct Socket {
    // Dropped in this order: the file while the listener still holds its inode.
    file: SocketFile,
    listener: UnixListener,
    bits: SocketBits,
}

/// The socket's file. It is removed when this is dropped, if it is still the same.
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

// === impl Socket ===

impl Socket {
    pub(super) async fn bind(path: &Path, mode: u32, group: &SocketGroup) -> Result<Self, ListenError> {
        let failed = |step| move |error| ListenError::Socket { step, path: path.into(), error };
        let gid = gid(group)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_folder(folder).map_err(|error| ListenError::Socket {
            step: "make the socket's folder",
            path: folder.into(),
            error,
        })?;
        let _lock = lock(folder).await?;
        clear(path).await?;

        let socket = UnixSocket::new_stream().map_err(failed("make the socket"))?;
        socket.bind(path).map_err(failed("make the socket"))?;
        let file = SocketFile::of(path).map_err(failed("look at the socket"))?;
        chown(path, None, Some(gid)).map_err(|error| ListenError::Group { path: path.into(), gid, error })?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of the socket"))?;
        let listener = socket.listen(BACKLOG).map_err(failed("listen on the socket"))?;
        Ok(Self { file, listener, bits: SocketBits { gid, mode } })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn bits(&self) -> SocketBits {
        self.bits
    }
}

fn gid(group: &SocketGroup) -> Result<u32, ListenError> {
    match group {
        SocketGroup::Own => Ok(rustix::process::getegid().as_raw()),
        SocketGroup::Number(gid) => Ok(*gid),
        SocketGroup::Name(name) => gid_of(Path::new(GROUPS), name)
            .map_err(|error| ListenError::Groups { name: name.clone(), error })?
            .ok_or_else(|| ListenError::NoGroup { name: name.clone() }),
    }
}

/// Makes the folders that are missing, each for all to pass: the socket's own mode decides who connects, and a mask that
/// the process was started with must not keep a group from it. A folder that is there is left as it is.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn lock(folder: &Path) -> Result<File, ListenError> {
    let failed = |error| ListenError::Socket { step: "open the socket's folder", path: folder.into(), error };
    let file = File::open(folder).map_err(failed)?;
    let locked = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => sleep(LOCK_PAUSE).await,
                outcome => break outcome,
            }
        }
    };
    match timeout(PATIENCE, locked).await {
        Ok(Ok(())) => Ok(file),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(_) => Err(ListenError::FolderLocked { folder: folder.into() }),
    }
}

/// Sees to it that nothing is at `path`: a stale socket is removed, and all else an error.
async fn clear(path: &Path) -> Result<(), ListenError> {
    let failed = |step| move |error| ListenError::Socket { step, path: path.into(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    match timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "A socket that nobody listens on was left behind; it is replaced.");
            fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        // Gone meanwhile.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody answers, is too busy to, or would not have us.
        _ => Err(ListenError::SocketTaken { path: path.into() }),
    }
}

// === impl SocketFile ===

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        // Without the lock somebody else may be replacing it right now; a socket that stays is replaced by the next plegd.
        let Ok(lock) = File::open(folder) else { return };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && identity(&self.path).is_ok_and(|identity| identity == self.identity)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
