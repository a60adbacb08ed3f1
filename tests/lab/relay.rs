//! A socket that forwards connections to a runtime until a test cuts them.
//!
//! Owns the socket and its connections. With it plegd loses its stream while the runtime continues.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::broadcast,
    task::JoinHandle,
    time::sleep,
};

/// Dropping it cuts all connections.
#[derive(Debug)]
pub struct Relay {
    socket: PathBuf,
    cut: broadcast::Sender<()>,
    accepting: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

// === impl Relay ===

impl Relay {
    /// Forwards to the runtime at `socket`, which may be absent at times.
    pub fn to(socket: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (here, there) = (directory.path().join("runtime.sock"), socket.to_owned());
        let listener = UnixListener::bind(&here)?;
        let (cut, _) = broadcast::channel(1);
        let cuts = cut.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (there, mut cut) = (there.clone(), cuts.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connect(near, &there) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Ok(Self { socket: here, cut, accepting, _directory: directory })
    }

    /// The socket in the format of `--runtime-endpoint`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Closes all connections. New ones are accepted at once.
    pub fn cut(&self) {
        // An error means that there is no connection.
        let _ = self.cut.send(());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards until either side closes.
async fn connect(mut near: UnixStream, there: &Path) {
    let Ok(mut far) = UnixStream::connect(there).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
