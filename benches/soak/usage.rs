//! What the daemon uses, and how much more of it an hour may take.

use std::fs;

use anyhow::Result;

use super::{
    binary::Daemon,
    process::{Cpu, Memory},
};

/// Memory may grow by what the journal has grown, which is bounded by `journal.bytes`, once more for what each of its
/// records takes beside its own weight, and by this much: some 3 MiB are tombstones of the last quarter of an hour, 16,384
/// at most, and the rest is what an allocator keeps of the pages of a peak.
const SLACK_BYTES: u64 = 16 << 20;
/// A client or a connection to the runtime more or less at the moment of looking.
const SLACK_FDS: usize = 8;
/// tokio's threads for blocking work come when they are needed and go after ten seconds.
const SLACK_THREADS: usize = 8;

/// At one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    pub(crate) anonymous: u64,
    pub(crate) fds: usize,
    pub(crate) threads: usize,
    pub(crate) cpu: Cpu,
    /// What the daemon says that its journal weighs.
    pub(crate) journal_bytes: u64,
}

// === impl Usage ===

impl Usage {
    pub(crate) async fn of(daemon: &Daemon) -> Result<Self> {
        let pid = daemon.pid()?;
        let memory = Memory::of(pid)?;
        let count = |folder: &str| anyhow::Ok(fs::read_dir(format!("/proc/{pid}/{folder}"))?.count());
        Ok(Self {
            resident: memory.resident,
            anonymous: memory.anonymous,
            fds: count("fd")?,
            threads: count("task")?,
            cpu: Cpu::of(pid)?,
            journal_bytes: daemon.metric("plegd_journal_bytes ").await? as u64,
        })
    }

    /// What has grown without bound from `start`, or, for memory, from when the daemon had warmed up: one line each.
    pub(crate) fn grown_since(&self, start: &Usage, warm: &Usage) -> Vec<String> {
        let mut grown = Vec::new();
        let journal = self.journal_bytes.saturating_sub(warm.journal_bytes);
        let allowed = warm.resident + 2 * journal + SLACK_BYTES;
        if self.resident > allowed {
            grown.push(format!("memory has grown to {} bytes, {allowed} are allowed", self.resident));
        }
        let counts = [
            ("file descriptors", self.fds, start.fds + SLACK_FDS),
            ("threads", self.threads, start.threads + SLACK_THREADS),
        ];
        for (what, count, allowed) in counts {
            if count > allowed {
                grown.push(format!("{what} have grown to {count}, {allowed} are allowed"));
            }
        }
        grown
    }
}
