//! `plegd watch` as a client that somebody runs, and all that it has printed.

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

use super::{PATIENCE, Plegd};

/// The process, and what it has printed.
#[derive(Debug)]
pub struct Watcher {
    plegd: Plegd,
    lines: Arc<Mutex<Vec<Line>>>,
    /// Counts them.
    printed: watch::Receiver<usize>,
    reading: JoinHandle<()>,
}

/// A JSON line: an event, or what comes with snapshots and gaps.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub r#type: String,
    pub sequence: Option<u64>,
    pub container_id: Option<String>,
    pub position: Option<String>,
    pub observed_at: Option<String>,
    /// Of a death, or of a gap.
    pub reason: Option<String>,
    /// Of a snapshot.
    pub pod: Option<serde_json::Value>,
    /// When it was read here.
    #[serde(skip, default = "SystemTime::now")]
    pub read_at: SystemTime,
}

// === impl Watcher ===

impl Watcher {
    /// Starts it. It prints JSON lines, events of all types.
    pub fn start(socket: &Path, arguments: &[&str]) -> Result<Self> {
        let socket = socket.to_string_lossy();
        let usual = ["watch", "--socket", &socket, "--output", "json", "--types", "all"];
        let (plegd, stdout) = Plegd::spawn(usual.iter().chain(arguments), [])?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (counted, printed) = watch::channel(0);
        let reading = tokio::spawn(read(stdout, lines.clone(), counted));
        Ok(Self { plegd, lines, printed, reading })
    }

    /// What it has printed so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events among that.
    pub fn events(&self) -> Vec<Line> {
        self.lines().into_iter().filter(|line| line.sequence.is_some()).collect()
    }

    /// What it has said beside it, for people.
    pub fn said(&self) -> Vec<String> {
        self.plegd.log().lines()
    }

    /// Waits until what it has printed satisfies `is`, and returns it.
    pub async fn until(&self, what: &str, is: impl Fn(&[Line]) -> bool) -> Result<Vec<Line>> {
        let mut printed = self.printed.clone();
        let waited = timeout(PATIENCE, async {
            while !is(&self.lines.lock().unwrap_or_else(PoisonError::into_inner)) {
                if printed.changed().await.is_err() {
                    bail!("it ended");
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
                    "a watcher was to print {what}, and has not ({failed:?}): {} lines, the last ones {last:#?}\n{}",
                    lines.len(),
                    self.plegd.log()
                )
            }
        }
    }

    /// Waits until it has printed the event of that number, or a later one.
    pub async fn until_event(&self, sequence: u64) -> Result<Vec<Line>> {
        let reached = |lines: &[Line]| lines.iter().rev().find_map(|line| line.sequence) >= Some(sequence);
        self.until(&format!("event {sequence}"), reached).await
    }

    /// Stops the process: it neither reads nor answers, and its connection stays.
    pub fn freeze(&self) -> Result<()> {
        self.plegd.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.plegd.signal(Signal::CONT)
    }

    pub fn pid(&self) -> Result<u32> {
        self.plegd.pid()
    }

    /// Kills it and returns all that it has printed whole until then.
    pub async fn kill9(mut self) -> Result<Vec<Line>> {
        self.plegd.kill9().await?;
        timeout(Duration::from_secs(10), &mut self.reading).await??;
        Ok(self.lines())
    }
}

// === impl Line ===

impl Line {
    /// From when plegd saw it until it was read here, in seconds.
    pub fn latency_seconds(&self) -> Option<f64> {
        let observed_at = humantime::parse_rfc3339(self.observed_at.as_ref()?).ok()?;
        // A negative one means that the clock was stepped.
        Some(self.read_at.duration_since(observed_at).map_or(0.0, |latency| latency.as_secs_f64()))
    }

    /// What two watchers that were told the same agree on.
    pub fn told(&self) -> (Option<u64>, &str, Option<&str>) {
        (self.sequence, &self.r#type, self.container_id.as_deref())
    }
}

async fn read(stdout: ChildStdout, into: Arc<Mutex<Vec<Line>>>, counted: watch::Sender<usize>) {
    let mut stdout = BufReader::new(stdout).lines();
    while let Ok(Some(text)) = stdout.next_line().await {
        // The last one of a process that was killed may be cut off: it counts as never printed.
        let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
        let mut lines = into.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
        counted.send_replace(lines.len());
    }
}
