//! Resource usage of the daemon, and its limits.

use std::fs;

use anyhow::Result;

use super::{
    binary::Daemon,
    process::{Cpu, Memory},
};

/// Allowed growth of memory in addition to the growth of the journal, which counts twice: `journal.bytes` bounds it,
/// and each record has overhead beside its own size. About 3 MiB are tombstones of the last 15 minutes (at most
/// 16,384); the rest is memory that the allocator keeps after a peak.
const SLACK_BYTES: u64 = 16 << 20;
/// Allowed difference in clients and runtime connections at the moment of sampling.
const SLACK_FDS: usize = 8;
/// tokio's threads for blocking work start on demand and end after 10 s.
const SLACK_THREADS: usize = 8;

/// Usage at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    pub(crate) anonymous: u64,
    pub(crate) fds: usize,
    pub(crate) threads: usize,
    pub(crate) cpu: Cpu,
    /// Journal size as reported by the daemon.
    pub(crate) journal_bytes: u64,
}

// === impl Usage ===

impl Usage {
    pub(crate) async fn of(daemon: &Daemon) -> Result<Self> {
        let pid = daemon.pid()?;
        let memory = Memory::of(pid)?;
        let count = |directory: &str| anyhow::Ok(fs::read_dir(format!("/proc/{pid}/{directory}"))?.count());
        Ok(Self {
            resident: memory.resident,
            anonymous: memory.anonymous,
            fds: count("fd")?,
            threads: count("task")?,
            cpu: Cpu::of(pid)?,
            journal_bytes: daemon.metric("plegd_journal_bytes ").await? as u64,
        })
    }

    /// Resources that exceed their limit since `start`, or, for memory, since the warm-up: one line each.
    pub(crate) fn grown_since(&self, start: &Usage, warm: &Usage) -> Vec<String> {
        let mut grown = Vec::new();
        let journal = self.journal_bytes.saturating_sub(warm.journal_bytes);
        let allowed = warm.resident + 2 * journal + SLACK_BYTES;
        if self.resident > allowed {
            grown.push(format!("memory has grown to {} bytes; the limit is {allowed}", self.resident));
        }
        let counts = [
            ("file descriptors", self.fds, start.fds + SLACK_FDS),
            ("threads", self.threads, start.threads + SLACK_THREADS),
        ];
        for (what, count, allowed) in counts {
            if count > allowed {
                grown.push(format!("{what} have grown to {count}; the limit is {allowed}"));
            }
        }
        grown
    }
}
