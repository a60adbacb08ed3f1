//! A socket between plegd and a runtime: whoever connects to it is connected to the runtime, until it is cut.
//!
//! Owns the socket and what goes over it. It is how plegd's stream is lost while the runtime itself goes on.

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

/// Dropping it cuts everything.
#[derive(Debug)]
pub struct Relay {
    socket: PathBuf,
    cut: broadcast::Sender<()>,
    accepting: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

// === impl Relay ===

impl Relay {
    /// To the runtime at `socket`, which need not be there all the time.
    pub fn to(socket: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (here, there) = (folder.path().join("runtime.sock"), socket.to_owned());
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
        Ok(Self { socket: here, cut, accepting, _folder: folder })
    }

    /// As `--runtime-endpoint` takes it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Ends all connections there are; new ones can be made at once.
    pub fn cut(&self) {
        // An error means that there is none.
        let _ = self.cut.send(());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Until either side ends.
async fn connect(mut near: UnixStream, there: &Path) {
    let Ok(mut far) = UnixStream::connect(there).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
