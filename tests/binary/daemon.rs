//! `plegd run` on a runtime. Its socket is in a temporary directory that the next daemon reuses.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use plegd::{
    api::v1,
    client::{Address, CallError, Client},
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{DEADLINE, Plegd};

/// A daemon and its addresses.
pub struct Daemon {
    plegd: Plegd,
    endpoint: String,
    config: PathBuf,
    http: SocketAddr,
    dir: tempfile::TempDir,
}

// === impl Daemon ===

impl Daemon {
    /// Starts the daemon with the defaults, and waits until it has listed the runtime.
    pub async fn start(endpoint: &str) -> Result<Self> {
        // An empty file, so that plegd does not read the machine's own configuration.
        Self::configured(endpoint, Path::new("/dev/null")).await
    }

    /// Like `start`, with this file. Flags and environment set the runtime's and the server's addresses.
    pub async fn configured(endpoint: &str, config: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let plegd = spawn(endpoint, socket_in(&dir), config)?;
        let http = http_of(&plegd).await?;
        let daemon = Self { plegd, endpoint: endpoint.to_owned(), config: config.to_owned(), http, dir };
        daemon.ready().await?;
        Ok(daemon)
    }

    pub fn socket(&self) -> PathBuf {
        socket_in(&self.dir)
    }

    pub fn pid(&self) -> Result<u32> {
        self.plegd.pid()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.plegd.signal(signal)
    }

    /// The last lines of its log.
    pub fn log_text(&self) -> String {
        self.plegd.log().to_string()
    }

    /// Waits for a log line that contains all of these.
    pub async fn wait_for_log(&self, words: &[&str]) -> Result<String> {
        let line = |line: &str| words.iter().all(|word| line.contains(word)).then(|| line.to_owned());
        self.plegd.wait_for_line(&format!("{words:?}"), line).await
    }

    /// The HTTP response of `path`, head and body; an error after `limit`.
    pub async fn get(&self, path: &str, limit: Duration) -> Result<String> {
        let answer = async {
            let mut stream = TcpStream::connect(self.http).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: plegd\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        timeout(limit, answer).await.with_context(|| format!("{path} is not answered"))?
    }

    /// For each name, the sum of the samples that begin with it.
    pub async fn metrics<const N: usize>(&self, samples: [&str; N]) -> Result<[f64; N]> {
        let text = self.get("/metrics", DEADLINE).await?;
        Ok(samples.map(|sample| {
            let values = text.lines().filter(|line| line.starts_with(sample));
            values.filter_map(|line| line.rsplit(' ').next()?.trim().parse::<f64>().ok()).sum()
        }))
    }

    pub async fn metric(&self, sample: &str) -> Result<f64> {
        let [value] = self.metrics([sample]).await?;
        Ok(value)
    }

    pub fn client(&self) -> Client {
        Client::lazy(&Address::Unix(self.socket()))
    }

    /// The sequence of the newest event.
    pub async fn head(&self) -> Result<u64> {
        Ok(self.client().list_pods(v1::Filter::default()).await?.position.sequence)
    }

    /// The connected subscribers.
    pub async fn subscribers(&self) -> Result<Vec<v1::Subscriber>> {
        let client = self.client();
        let answer =
            client.call(client.introspection().list_subscribers(v1::ListSubscribersRequest {})).await?;
        Ok(answer.subscribers)
    }

    /// Kills the daemon with SIGKILL; the socket file stays.
    pub async fn kill9(&mut self) -> Result<()> {
        self.plegd.kill9().await
    }

    /// Ends the daemon in order.
    pub async fn terminate(&mut self) -> Result<()> {
        self.plegd.terminate().await
    }

    /// Starts the next daemon at the same socket.
    pub async fn restart(&mut self) -> Result<()> {
        self.plegd = spawn(&self.endpoint, self.socket(), &self.config)?;
        self.http = http_of(&self.plegd).await?;
        self.ready().await
    }

    pub async fn stop(self) -> Result<()> {
        self.plegd.stop().await
    }

    async fn ready(&self) -> Result<()> {
        self.plegd
            .wait_for_line("the API's address", |line| {
                line.contains("Serving the pod lifecycle API").then_some(())
            })
            .await?;
        let end = Instant::now() + DEADLINE;
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

fn socket_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("plegd.sock")
}

async fn http_of(plegd: &Plegd) -> Result<SocketAddr> {
    let address = |line: &str| {
        let rest = line.split_once("Serving metrics and health over HTTP.")?.1;
        rest.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
    };
    plegd.wait_for_line("the HTTP address", address).await
}

fn spawn(endpoint: &str, socket: PathBuf, config: &Path) -> Result<Plegd> {
    let config = config.to_str().context("the configuration's path")?;
    let arguments =
        ["run", "--config", config, "--http-address", "127.0.0.1:0", "--runtime-endpoint", endpoint];
    let environment = [("PLEGD_API_SOCKET", OsString::from(socket))];
    Ok(Plegd::spawn(arguments, environment).context("the daemon")?.0)
}
