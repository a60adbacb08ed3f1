//! The `plegd` binary as it is shipped, in processes of its own: the daemon, and `plegd watch` as somebody's client.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `daemon` | `plegd run` on some runtime, with a socket that outlives it |
//! | `watcher` | `plegd watch`: what it printed; frozen, thawed, killed |
//! | `resume` | a client that is killed time and again and goes on where it was |
//!
//! Owns its processes and kills them when it is dropped. It knows nothing of runtimes: tests on the simulated and on the
//! real ones share it, and so do the figures.

// Each user is a crate of its own and uses a part.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
// These processes live in real time.
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

/// How long anything may take that a healthy process does at once. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of standard error that are kept.
const LOG_LINES: usize = 100;

/// A process. Its standard error is read all the time.
#[derive(Debug)]
pub struct Plegd {
    child: Child,
    log: Log,
    /// Counts the lines of the log; closed when there are no more.
    logged: watch::Receiver<u64>,
}

/// The end of what a process wrote to standard error.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<VecDeque<String>>>);

// === impl Plegd ===

impl Plegd {
    /// Starts `plegd` with these arguments, in this environment and no other.
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

    /// Waits until a line of its log says something to `find`.
    pub async fn said<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut logged = self.logged.clone();
        let said = async {
            loop {
                logged.mark_unchanged();
                if let Some(found) = self.log.lines().iter().find_map(|line| find(line)) {
                    return Ok(found);
                }
                if logged.changed().await.is_err() {
                    bail!("plegd ended before it said {what}");
                }
            }
        };
        let said = timeout(PATIENCE, said).await;
        let said = said.unwrap_or_else(|_| bail!("plegd has not said {what}"));
        said.with_context(|| format!("its log:\n{}", self.log))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("plegd's pid is 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it as nothing can be ended that has a say in it.
    pub async fn kill9(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends it as a service manager does.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        timeout(PATIENCE, self.child.wait()).await.context("plegd does not end")??;
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
