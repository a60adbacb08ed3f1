//! The `plegd` binary in its own processes: the daemon, and `plegd watch` as a client.
//!
//! | module | contents |
//! | --- | --- |
//! | `daemon` | `plegd run` on a runtime, with a socket that survives it |
//! | `watcher` | `plegd watch` and its output; can be stopped, continued and killed |
//! | `resume` | a client that is killed repeatedly and resumes at its position |
//!
//! Owns its processes and kills them on drop. It depends on no runtime: tests on the simulated and on the real runtimes share it, and
//! so do the benchmarks.

// Each program that includes this module uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
// These processes run in real time.
#![allow(clippy::disallowed_methods)]

mod daemon;
mod resume;
mod watcher;

pub use daemon::Daemon;
pub use resume::{Resumed, killed_and_resumed};
pub use watcher::{Line, Watcher};

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fmt,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    sync::watch,
    time::timeout,
};

/// Deadline of one step of a healthy process; long, because the machine may be under load.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How many lines of standard error are kept.
const LOG_LINES: usize = 100;

/// A process. A task reads its standard error.
#[derive(Debug)]
pub struct Plegd {
    child: Child,
    log: Log,
    /// The number of log lines; closed when the process has ended.
    logged: watch::Receiver<u64>,
}

/// The last lines of standard error.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<VecDeque<String>>>);

// === impl Plegd ===

impl Plegd {
    /// Starts `plegd` with these arguments and only this environment.
    pub fn spawn<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (&'static str, OsString)>,
    ) -> Result<(Self, ChildStdout)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.env_clear().args(arguments).envs(environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting plegd")?;
        let stdout = child.stdout.take().context("plegd has no stdout")?;
        let mut stderr = BufReader::new(child.stderr.take().context("plegd has no stderr")?).lines();
        let (counted, logged) = watch::channel(0);
        let log = Log::default();
        let lines = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                lines.push(line);
                counted.send_modify(|count| *count += 1);
            }
        });
        Ok((Self { child, log, logged }, stdout))
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("plegd has ended:\n{}", self.log))
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for the first log line for which `find` returns a value.
    pub async fn wait_for_line<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut logged = self.logged.clone();
        let search = async {
            loop {
                logged.mark_unchanged();
                if let Some(found) = self.log.lines().iter().find_map(|line| find(line)) {
                    return Ok(found);
                }
                if logged.changed().await.is_err() {
                    bail!("plegd ended before it logged {what}");
                }
            }
        };
        let found = timeout(DEADLINE, search).await;
        let found = found.unwrap_or_else(|_| bail!("plegd has not logged {what}"));
        found.with_context(|| format!("its log:\n{}", self.log))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("plegd's pid is 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills the process with SIGKILL.
    pub async fn kill9(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends the process with SIGTERM, as a service manager does.
    pub async fn stop(mut self) -> Result<()> {
        self.terminate().await
    }

    /// As `stop`, where another process takes its place.
    pub async fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        timeout(DEADLINE, self.child.wait()).await.context("plegd does not end")??;
        Ok(())
    }
}

// === impl Log ===

impl Log {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
