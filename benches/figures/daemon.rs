//! `plegd run` as it is shipped, in a process of its own: what it tells on stdout, and what it serves over HTTP.
//!
//! It is killed when it is dropped. Its log is read all the time, and the end of it shown where something goes wrong.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use plegd::clock::{Clock, Mono};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::lab::{PATIENCE, eventually};

/// Lines of its log that are kept.
const LOG_LINES: usize = 20;

/// The process.
pub(crate) struct Daemon {
    child: Child,
    http: SocketAddr,
    told: Told,
    log: Log,
    spawned: Mono,
    clock: Clock,
    /// Where its own socket is.
    _folder: tempfile::TempDir,
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

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

// === impl Daemon ===

impl Daemon {
    /// Starts it, with the defaults for all that is not said here.
    pub(crate) async fn start(clock: &Clock, endpoint: &str, print: Print, stream: Stream) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        // An empty file, so that the machine's own configuration does not count.
        command.env_clear().args(["run", "--config", "/dev/null", "--http-address", "127.0.0.1:0"]);
        command.args(["--runtime-endpoint", endpoint, "--log-format", "json"]);
        let folder = tempfile::tempdir().context("a folder for plegd's socket")?;
        // Served, since that is part of what is measured, but where no other plegd of this machine is.
        command.env("PLEGD_API_SOCKET", folder.path().join("plegd.sock"));
        if print == Print::Json {
            command.args(["--print", "json"]);
        }
        if stream == Stream::Off {
            command.env("PLEGD_STREAM_ENABLED", "false");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let spawned = clock.now();
        let mut child = command.spawn().context("starting plegd")?;
        let (told, log) = (Told::default(), Log::default());
        let stdout = child.stdout.take().context("plegd has no stdout")?;
        tokio::spawn(told.clone().read(BufReader::new(stdout), clock.clone()));
        let mut stderr = BufReader::new(child.stderr.take().context("plegd has no stderr")?).lines();
        let http = async {
            while let Some(line) = stderr.next_line().await? {
                log.push(&line);
                if let Some(address) = address_in(&line) {
                    return Ok(address);
                }
            }
            bail!("plegd ended before it served anything:\n{log}")
        };
        let http = timeout(PATIENCE, http).await.context("plegd serves nothing")??;
        let behind = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                behind.push(&line);
            }
        });
        Ok(Self { child, http, told, log, spawned, clock: clock.clone(), _folder: folder })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("plegd has ended:\n{}", self.log))
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Waits until `/readyz` says so, and says how long after its start that was.
    pub(crate) async fn ready(&self) -> Result<Duration> {
        let ready = async {
            loop {
                if self.get("/readyz").await?.starts_with("HTTP/1.1 200") {
                    return anyhow::Ok(self.clock.now().since(self.spawned));
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        let ready = timeout(PATIENCE, ready).await;
        let ready = ready.unwrap_or_else(|late| Err(late.into()));
        ready.with_context(|| format!("plegd is not ready:\n{}", self.log))
    }

    /// Waits until a sample of its metrics has this value.
    pub(crate) async fn shows(&self, sample: &str, value: f64, patience: Duration) -> Result<()> {
        let shown = eventually(sample, patience, || async {
            sleep(Duration::from_millis(90)).await;
            Ok((self.metric(sample).await? == value).then_some(()))
        });
        shown.await.with_context(|| format!("{sample} is not {value}:\n{}", self.log))
    }

    /// A sample of its metrics, such as `plegd_mode{mode="evented"}`.
    pub(crate) async fn metric(&self, sample: &str) -> Result<f64> {
        let metrics = self.get("/metrics").await?;
        let rest = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        Ok(rest.with_context(|| format!("no {sample} in its metrics"))?.trim().parse()?)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: plegd\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Ends it as a service manager does.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("plegd's pid is 0")?;
        kill_process(pid, Signal::TERM)?;
        timeout(PATIENCE, self.child.wait()).await.context("plegd does not end")??;
        Ok(())
    }
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

// === impl Log ===

impl Log {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
