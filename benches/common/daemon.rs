//! `plegd run` as it is shipped, in a process of its own: what it tells on stdout, and what it serves over HTTP.
//!
//! It is killed when it is dropped, and the end of its log is shown where something goes wrong.

// Each user is a crate of its own and uses a part.
#![allow(dead_code)]

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use plegd::clock::{Clock, Mono};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::binary::{DEADLINE, Plegd};

/// The process.
pub(crate) struct Daemon {
    plegd: Plegd,
    http: SocketAddr,
    told: Told,
    /// Where its own socket is.
    folder: tempfile::TempDir,
    spawned: Mono,
    clock: Clock,
}

/// Whether it prints its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Print {
    Json,
    Nothing,
}

/// Whether it subscribes to the runtime's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    On,
    Off,
}

/// A line that it printed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) r#type: String,
    pub(crate) container_id: String,
    pub(crate) source: String,
    pub(crate) inferred: bool,
    /// When it was read here.
    #[serde(skip)]
    pub(crate) read_at: Mono,
}

/// What it has printed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Line>>>);

// === impl Daemon ===

impl Daemon {
    /// Starts it, with the defaults for all that is not said here.
    pub(crate) async fn start(clock: &Clock, endpoint: &str, print: Print, stream: Stream) -> Result<Self> {
        Self::configured(clock, endpoint, print, stream, []).await
    }

    /// Starts it with these variables of its environment, such as `PLEGD_RELIST_PERIOD`.
    pub(crate) async fn configured(
        clock: &Clock,
        endpoint: &str,
        print: Print,
        stream: Stream,
        variables: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // An empty file, so that the machine's own configuration does not count.
        let mut arguments = vec!["run", "--config", "/dev/null", "--http-address", "127.0.0.1:0"];
        arguments.extend(["--runtime-endpoint", endpoint, "--log-format", "json"]);
        if print == Print::Json {
            arguments.extend(["--print", "json"]);
        }
        // Served, since that is part of what is measured, but where no other plegd of this machine is.
        let mut environment = vec![("PLEGD_API_SOCKET", OsString::from(socket_in(&folder)))];
        environment.extend(variables.into_iter().map(|(name, value)| (name, OsString::from(value))));
        if stream == Stream::Off {
            environment.push(("PLEGD_STREAM_ENABLED", "false".into()));
        }
        let spawned = clock.now();
        let (plegd, stdout) = Plegd::spawn(arguments, environment)?;
        let told = Told::default();
        tokio::spawn(told.clone().read(BufReader::new(stdout), clock.clone()));
        let http = plegd.wait_for_line("where it serves", address_in).await?;
        Ok(Self { plegd, http, told, folder, spawned, clock: clock.clone() })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.plegd.pid()
    }

    /// Where it serves the pod lifecycle API.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Waits until `/readyz` says so, and says how long after its start that was.
    pub(crate) async fn ready(&self) -> Result<Duration> {
        self.ready_within(DEADLINE).await
    }

    /// The same, where more than a healthy node's worth of pods is to be read first.
    pub(crate) async fn ready_within(&self, patience: Duration) -> Result<Duration> {
        let ready = async {
            loop {
                if self.get("/readyz").await?.starts_with("HTTP/1.1 200") {
                    return anyhow::Ok(self.clock.now().since(self.spawned));
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        let ready = timeout(patience, ready).await;
        let ready = ready.unwrap_or_else(|late| Err(late.into()));
        ready.with_context(|| format!("plegd is not ready:\n{}", self.plegd.log()))
    }

    /// Waits until a sample of its metrics has this value.
    pub(crate) async fn shows(&self, sample: &str, value: f64, patience: Duration) -> Result<()> {
        let shown = async {
            while self.metric(sample).await? != value {
                sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        let shown = timeout(patience, shown).await.unwrap_or_else(|late| Err(late.into()));
        shown.with_context(|| format!("{sample} is not {value}:\n{}", self.plegd.log()))
    }

    /// A sample of its metrics, such as `plegd_mode{mode="evented"}`.
    pub(crate) async fn metric(&self, sample: &str) -> Result<f64> {
        let metrics = self.get("/metrics").await?;
        let rest = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        Ok(rest.with_context(|| format!("no {sample} in its metrics"))?.trim().parse()?)
    }

    /// The whole answer of its HTTP server.
    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: plegd\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Ends it as a service manager does.
    pub(crate) async fn stop(self) -> Result<()> {
        self.plegd.stop().await
    }
}

fn socket_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("plegd.sock")
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("address")?.as_str()?.parse().ok()
}

// === impl Told ===

impl Told {
    async fn read(self, stdout: impl tokio::io::AsyncBufRead + Unpin, clock: Clock) {
        let mut lines = stdout.lines();
        while let Ok(Some(text)) = lines.next_line().await {
            let read_at = clock.now();
            if let Ok(line) = serde_json::from_str::<Line>(&text) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Line { read_at, ..line });
            }
        }
    }

    /// What it told of these containers.
    pub(crate) fn of(&self, ids: &[String], kind: &str) -> Vec<Line> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.r#type == kind && ids.contains(&line.container_id)).cloned().collect()
    }
}
