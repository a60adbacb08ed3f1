//! `plegd watch` as a client process, and its output.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStdout,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{DEADLINE, Plegd};

/// The process, and the lines that it printed.
#[derive(Debug)]
pub struct Watcher {
    plegd: Plegd,
    lines: Arc<Mutex<Vec<Line>>>,
    /// The number of lines.
    printed: watch::Receiver<usize>,
    reading: JoinHandle<()>,
}

/// A JSON line: an event, a part of a snapshot, or a gap.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub r#type: String,
    pub sequence: Option<u64>,
    pub container_id: Option<String>,
    pub position: Option<String>,
    pub observed_at: Option<String>,
    /// Reason of a death or of a gap.
    pub reason: Option<String>,
    /// Whether it happened while plegd was down.
    pub late: Option<bool>,
    /// Of a restart: whether short-lived containers may be missing.
    pub blind: Option<bool>,
    /// Set in a snapshot.
    pub pod: Option<serde_json::Value>,
    /// When this test read the line.
    #[serde(skip, default = "SystemTime::now")]
    pub read_at: SystemTime,
}

// === impl Watcher ===

impl Watcher {
    /// Starts `plegd watch` with JSON output and all types of events.
    pub fn start(socket: &Path, arguments: &[&str]) -> Result<Self> {
        let socket = socket.to_string_lossy();
        let usual = ["watch", "--socket", &socket, "--output", "json", "--types", "all"];
        let (plegd, stdout) = Plegd::spawn(usual.iter().chain(arguments), [])?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (counted, printed) = watch::channel(0);
        let reading = tokio::spawn(read(stdout, lines.clone(), counted));
        Ok(Self { plegd, lines, printed, reading })
    }

    /// The lines printed so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events printed so far.
    pub fn events(&self) -> Vec<Line> {
        self.lines().into_iter().filter(|line| line.sequence.is_some()).collect()
    }

    /// Its messages on standard error.
    pub fn log_lines(&self) -> Vec<String> {
        self.plegd.log().lines()
    }

    /// Waits until the printed lines satisfy `is`, and returns them.
    pub async fn until(&self, what: &str, is: impl Fn(&[Line]) -> bool) -> Result<Vec<Line>> {
        let mut printed = self.printed.clone();
        let waited = timeout(DEADLINE, async {
            while !is(&self.lines.lock().unwrap_or_else(PoisonError::into_inner)) {
                if printed.changed().await.is_err() {
                    bail!("plegd watch ended");
                }
            }
            Ok(())
        });
        match waited.await {
            Ok(Ok(())) => Ok(self.lines()),
            failed => {
                let lines = self.lines();
                let last: Vec<_> = lines.iter().rev().take(3).collect();
                bail!(
                    "plegd watch has not printed {what} ({failed:?}): {} lines, the last ones {last:#?}\n{}",
                    lines.len(),
                    self.plegd.log()
                )
            }
        }
    }

    /// Waits until it has printed the event with this sequence, or a later one.
    pub async fn until_event(&self, sequence: u64) -> Result<Vec<Line>> {
        let reached = |lines: &[Line]| lines.iter().rev().find_map(|line| line.sequence) >= Some(sequence);
        self.until(&format!("event {sequence}"), reached).await
    }

    /// Stops the process with SIGSTOP: it does not read, and its connection stays open.
    pub fn freeze(&self) -> Result<()> {
        self.plegd.signal(Signal::STOP)
    }

    /// Continues the process with SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.plegd.signal(Signal::CONT)
    }

    pub fn pid(&self) -> Result<u32> {
        self.plegd.pid()
    }

    /// Kills the process, and returns the complete lines that it printed.
    pub async fn kill9(mut self) -> Result<Vec<Line>> {
        self.plegd.kill9().await?;
        timeout(Duration::from_secs(10), &mut self.reading).await??;
        Ok(self.lines())
    }
}

// === impl Line ===

impl Line {
    /// Seconds from plegd's observation until this test read the line.
    pub fn latency_seconds(&self) -> Option<f64> {
        let observed_at = humantime::parse_rfc3339(self.observed_at.as_ref()?).ok()?;
        // Negative after a clock step.
        Some(self.read_at.duration_since(observed_at).map_or(0.0, |latency| latency.as_secs_f64()))
    }

    /// The part in which two watchers of the same events agree.
    pub fn event(&self) -> (Option<u64>, &str, Option<&str>) {
        (self.sequence, &self.r#type, self.container_id.as_deref())
    }
}

async fn read(stdout: ChildStdout, into: Arc<Mutex<Vec<Line>>>, counted: watch::Sender<usize>) {
    let mut stdout = BufReader::new(stdout).lines();
    while let Ok(Some(text)) = stdout.next_line().await {
        // The last line of a killed process may be incomplete and does not count.
        let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
        let mut lines = into.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
        counted.send_replace(lines.len());
    }
}
