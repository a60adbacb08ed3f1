//! The UNIX socket: created in a safe directory, with group and mode set before clients can connect, and removed at the end.
//!
//! # No early connections
//!
//! A socket that is bound but does not listen yet refuses every connection, whatever its mode. So the socket is bound, gets its group,
//! then its mode, and only then listens. The umask is not changed, since all threads of the process share it.
//!
//! # Ownership of the socket
//!
//! Three steps run under a lock (`flock`): detecting another process, removing a stale socket, and creating the new one. If two daemons
//! start at once, the second thus finds the first. The lock is on a separate file beside the socket, `plegd.sock.lock`, because every
//! user with read access could lock the directory. The lock file stays, since its removal would be a race. A socket is stale if
//! no process listens (ECONNREFUSED). A file that is not a socket is never changed. At the end the socket is removed under the same lock,
//! if it is still the one that was created. Its inode cannot have been reused, since the listener keeps it until then.
//!
//! All this requires that other users cannot replace files in the directory. So the directory must belong to root or to plegd's user.
//! Others may write to it only if it is sticky, as /tmp is. Group and mode are set through a descriptor of the created file, so a change
//! of the path has no effect.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{
            DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{AtFlags, FlockOperation, Gid, OFlags, chownat, flock};
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

/// Timeout for a connection to another process on the socket, and for the lock.
const TIMEOUT: Duration = Duration::from_secs(2);

const LOCK_PAUSE: Duration = Duration::from_millis(20);

const GROUPS: &str = "/etc/group";

/// The listening socket.
pub(super) struct Socket {
    // Dropped in this order: the file while the listener still holds its inode.
    file: SocketFile,
    listener: UnixListener,
    bits: SocketBits,
}

/// The socket's file. On drop, it is removed if it is still the same file.
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
        let directory = path.parent().unwrap_or(Path::new("/"));
        create_directory(directory).map_err(|error| ListenError::Socket {
            step: "create the socket's directory",
            path: directory.into(),
            error,
        })?;
        check_directory(directory)?;
        let lock = lock(path).await?;
        remove_stale(path).await?;

        let socket = UnixSocket::new_stream().map_err(failed("create the socket"))?;
        socket.bind(path).map_err(failed("create the socket"))?;
        let (file, created) = SocketFile::of(path).map_err(failed("inspect the socket"))?;
        let listen = || {
            set_group(&created, gid).map_err(|error| ListenError::Group { path: path.into(), gid, error })?;
            set_mode(&created, mode).map_err(failed("set the mode of the socket"))?;
            socket.listen(BACKLOG).map_err(failed("listen on the socket"))
        };
        let listener = listen();
        // Before the result is used: on failure, the socket is removed under the lock.
        drop(lock);
        Ok(Self { file, listener: listener?, bits: SocketBits { gid, mode } })
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

/// Creates the missing directories, with execute permission for all users. The socket's own mode decides which processes can connect, and
/// the process's umask must not exclude a group. An existing directory stays unchanged.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_directory(parent)?;
    }
    match DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses a directory in which other users could replace the socket.
fn check_directory(directory: &Path) -> Result<(), ListenError> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let metadata = fs::metadata(directory).map_err(|error| ListenError::Socket {
        step: "inspect the socket's directory",
        path: directory.into(),
        error,
    })?;
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let trusted_owner = uid == 0 || uid == own_uid();
    if trusted_owner && (mode & OTHERS_WRITE == 0 || mode & STICKY != 0) {
        Ok(())
    } else {
        Err(ListenError::UnsafeDirectory { directory: directory.into(), uid, mode })
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The lock file for this socket.
fn lock_path(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(".lock");
    path.into()
}

/// Opens the lock file, which must belong to plegd's user.
fn lock_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.uid() == own_uid() && metadata.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("the lock file does not belong to plegd's user; remove it"))
    }
}

async fn lock(socket: &Path) -> Result<File, ListenError> {
    let path = lock_path(socket);
    let failed = |error| ListenError::Socket { step: "open the lock file", path: path.clone(), error };
    let file = lock_file(&path).map_err(failed)?;
    let locked = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => sleep(LOCK_PAUSE).await,
                outcome => break outcome,
            }
        }
    };
    match timeout(TIMEOUT, locked).await {
        Ok(Ok(())) => Ok(file),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(_) => Err(ListenError::Locked { lock: path }),
    }
}

/// Sets the group of the file, unless it is set already. In a sandbox, the call is forbidden even if it changes nothing.
fn set_group(file: &File, gid: u32) -> io::Result<()> {
    if file.metadata()?.gid() == gid {
        return Ok(());
    }
    chownat(file, "", None, Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// Sets the mode of the file. `fchmod` rejects an `O_PATH` descriptor, and a socket file cannot be opened otherwise. glibc uses the same
/// way through /proc.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes a stale socket at `path`. Any other file there is an error.
async fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |step| move |error| ListenError::Socket { step, path: path.into(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("inspect")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    match timeout(TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "Replacing a stale socket: no process listens on it.");
            fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        // Removed in the meantime.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Another process accepts, is too busy to accept, or refuses this user.
        _ => Err(ListenError::SocketTaken { path: path.into() }),
    }
}

// === impl SocketFile ===

impl SocketFile {
    /// The socket just created at `path`, and an `O_PATH` descriptor of it.
    fn of(path: &Path) -> io::Result<(Self, File)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
        let metadata = created.metadata()?;
        if !metadata.file_type().is_socket() || metadata.uid() != own_uid() {
            return Err(io::Error::other("another process has replaced it"));
        }
        Ok((Self { path: path.into(), identity: (metadata.dev(), metadata.ino()) }, created))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock, another process may be replacing the socket. A socket that stays is replaced by the next plegd.
        let Ok(lock) = lock_file(&lock_path(&self.path)) else { return };
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
