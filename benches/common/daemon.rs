//! The shipped `plegd run` in its own process: the events on its stdout, and its HTTP server.
//!
//! It is killed on drop. Errors contain the end of its log.

// Each bench is its own crate and uses a part.
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
    events: PrintedEvents,
    /// The directory of its API socket and of its state.
    directory: tempfile::TempDir,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
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

/// A printed line.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) r#type: String,
    pub(crate) container_id: String,
    pub(crate) source: String,
    pub(crate) inferred: bool,
    /// When it was read.
    #[serde(skip)]
    pub(crate) read_at: Mono,
}

/// The printed events so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrintedEvents(Arc<Mutex<Vec<Line>>>);

// === impl Daemon ===

impl Daemon {
    /// Starts it with defaults for all other settings.
    pub(crate) async fn start(clock: &Clock, endpoint: &str, print: Print, stream: Stream) -> Result<Self> {
        Self::configured(clock, endpoint, print, stream, []).await
    }

    /// Starts it with these environment variables, such as `PLEGD_RELIST_PERIOD`.
    pub(crate) async fn configured(
        clock: &Clock,
        endpoint: &str,
        print: Print,
        stream: Stream,
        variables: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Result<Self> {
        // The state is on tmpfs, as in a deployment.
        let shared_memory = std::path::Path::new("/dev/shm");
        let directory = match shared_memory.is_dir() {
            true => tempfile::tempdir_in(shared_memory)?,
            false => tempfile::tempdir()?,
        };
        // An empty file: the machine's own configuration must not apply.
        let mut arguments = vec!["run", "--config", "/dev/null", "--http-address", "127.0.0.1:0"];
        arguments.extend(["--runtime-endpoint", endpoint, "--log-format", "json"]);
        if print == Print::Json {
            arguments.extend(["--print", "json"]);
        }
        // Enabled, since it is part of what is measured, but at a path that no other plegd uses.
        let mut environment = vec![("PLEGD_API_SOCKET", OsString::from(socket_in(&directory)))];
        environment.extend(variables.into_iter().map(|(name, value)| (name, OsString::from(value))));
        if stream == Stream::Off {
            environment.push(("PLEGD_STREAM_ENABLED", "false".into()));
        }
        let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        let spawned = clock.now();
        let (plegd, http, events) = spawn(&arguments, &environment, clock).await?;
        Ok(Self { plegd, http, events, directory, arguments, environment, spawned, clock: clock.clone() })
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.plegd.kill9().await
    }

    /// Starts the next process, with the same socket and state.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.spawned = self.clock.now();
        (self.plegd, self.http, self.events) = spawn(&self.arguments, &self.environment, &self.clock).await?;
        Ok(())
    }

    /// When the process was started.
    pub(crate) fn spawned(&self) -> Mono {
        self.spawned
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.plegd.pid()
    }

    /// The socket of the pod lifecycle API.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }

    pub(crate) fn events(&self) -> &PrintedEvents {
        &self.events
    }

    /// Waits for `/readyz`; returns the time since the start.
    pub(crate) async fn ready(&self) -> Result<Duration> {
        self.ready_within(DEADLINE).await
    }

    /// As [`Self::ready`], with a timeout for larger nodes.
    pub(crate) async fn ready_within(&self, limit: Duration) -> Result<Duration> {
        let ready = async {
            loop {
                if self.get("/readyz").await?.starts_with("HTTP/1.1 200") {
                    return anyhow::Ok(self.clock.now().since(self.spawned));
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        let ready = timeout(limit, ready).await;
        let ready = ready.unwrap_or_else(|late| Err(late.into()));
        ready.with_context(|| format!("plegd is not ready:\n{}", self.plegd.log()))
    }

    /// Waits until a metric sample has this value.
    pub(crate) async fn shows(&self, sample: &str, value: f64, limit: Duration) -> Result<()> {
        let shown = async {
            while self.metric(sample).await? != value {
                sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        let shown = timeout(limit, shown).await.unwrap_or_else(|late| Err(late.into()));
        shown.with_context(|| format!("{sample} is not {value}:\n{}", self.plegd.log()))
    }

    /// A metric sample, such as `plegd_mode{mode="evented"}`.
    pub(crate) async fn metric(&self, sample: &str) -> Result<f64> {
        let metrics = self.get("/metrics").await?;
        let rest = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        Ok(rest.with_context(|| format!("no {sample} in its metrics"))?.trim().parse()?)
    }

    /// The whole response of its HTTP server.
    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: plegd\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Stops it as a service manager does.
    pub(crate) async fn stop(self) -> Result<()> {
        self.plegd.stop().await
    }
}

async fn spawn(
    arguments: &[OsString],
    environment: &[(&'static str, OsString)],
    clock: &Clock,
) -> Result<(Plegd, SocketAddr, PrintedEvents)> {
    let (plegd, stdout) = Plegd::spawn(arguments, environment.iter().cloned())?;
    let events = PrintedEvents::default();
    tokio::spawn(events.clone().read(BufReader::new(stdout), clock.clone()));
    let http = plegd.wait_for_line("where it serves", address_in).await?;
    Ok((plegd, http, events))
}

fn socket_in(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("plegd.sock")
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("address")?.as_str()?.parse().ok()
}

// === impl PrintedEvents ===

impl PrintedEvents {
    async fn read(self, stdout: impl tokio::io::AsyncBufRead + Unpin, clock: Clock) {
        let mut lines = stdout.lines();
        while let Ok(Some(text)) = lines.next_line().await {
            let read_at = clock.now();
            if let Ok(line) = serde_json::from_str::<Line>(&text) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Line { read_at, ..line });
            }
        }
    }

    /// The published events of these containers.
    pub(crate) fn of(&self, ids: &[String], kind: &str) -> Vec<Line> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.r#type == kind && ids.contains(&line.container_id)).cloned().collect()
    }
}
