//! `plegd run` on some runtime. Its socket is in a folder of its own, so that the next daemon can serve at the same path.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use plegd::{
    api::v1,
    client::{Address, CallError, Client},
};
use tokio::time::{Instant, sleep};

use super::{PATIENCE, Plegd};

/// A daemon, and where it serves.
pub struct Daemon {
    plegd: Plegd,
    endpoint: String,
    folder: tempfile::TempDir,
}

// === impl Daemon ===

impl Daemon {
    /// Starts it with the defaults, and waits until it has listed the runtime.
    pub async fn start(endpoint: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plegd = spawn(endpoint, socket_in(&folder))?;
        let daemon = Self { plegd, endpoint: endpoint.to_owned(), folder };
        daemon.ready().await?;
        Ok(daemon)
    }

    pub fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    pub fn client(&self) -> Client {
        Client::lazy(&Address::Unix(self.socket()))
    }

    /// The number of the newest event.
    pub async fn head(&self) -> Result<u64> {
        Ok(self.client().list_pods(v1::Filter::default()).await?.position.sequence)
    }

    /// Those who watch.
    pub async fn subscribers(&self) -> Result<Vec<v1::Subscriber>> {
        let client = self.client();
        let answer =
            client.call(client.introspection().list_subscribers(v1::ListSubscribersRequest {})).await?;
        Ok(answer.subscribers)
    }

    /// Kills it as the kernel does where memory is short; the socket stays behind.
    pub async fn kill9(&mut self) -> Result<()> {
        self.plegd.kill9().await
    }

    /// Starts the next one at the same socket.
    pub async fn start_again(&mut self) -> Result<()> {
        self.plegd = spawn(&self.endpoint, self.socket())?;
        self.ready().await
    }

    pub async fn stop(self) -> Result<()> {
        self.plegd.stop().await
    }

    async fn ready(&self) -> Result<()> {
        self.plegd
            .said("where it serves", |line| line.contains("Serving the pod lifecycle API").then_some(()))
            .await?;
        let end = Instant::now() + PATIENCE;
        loop {
            match self.client().list_pods(v1::Filter::default()).await {
                Ok(_) => return Ok(()),
                Err(CallError::NotReady { .. }) if Instant::now() < end => {
                    sleep(Duration::from_millis(10)).await
                }
                Err(error) => bail!("plegd is not ready: {error}\n{}", self.plegd.log()),
            }
        }
    }
}

fn socket_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("plegd.sock")
}

fn spawn(endpoint: &str, socket: PathBuf) -> Result<Plegd> {
    // An empty file, so that the machine's own configuration does not count.
    let arguments = ["run", "--config", "/dev/null", "--http-address", "off", "--runtime-endpoint", endpoint];
    let environment = [("PLEGD_API_SOCKET", OsString::from(socket))];
    Ok(Plegd::spawn(arguments, environment).context("the daemon")?.0)
}
