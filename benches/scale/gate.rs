//! Lets plegd run one relist at a time, and measures the cost of each.
//!
//! The runtime's first list call blocks, so plegd is idle. When it is released, plegd lists, compares, reads the
//! differences and publishes them, and then blocks in the next list call. All CPU time in between belongs to this
//! relist. plegd runs unmodified.

use std::time::Duration;

use anyhow::{Context, Result};
use plegd::sim::{Method, Target};
use tokio::time::{sleep, timeout};

use super::{
    binary::DEADLINE,
    daemon::Daemon,
    node::{Lists, Node},
    process::Cpu,
};

/// plegd is finished when it has not read anything for this time.
const REST: Duration = Duration::from_millis(40);
const GLIMPSE: Duration = Duration::from_millis(1);

/// The environment to start plegd with.
pub(crate) const VARIABLES: [(&str, &str); 3] = [
    ("PLEGD_RELIST_PERIOD", "100ms"),
    ("PLEGD_RELIST_MAX_PERIOD", "100ms"),
    // A blocked call must not count as a runtime that hangs.
    ("PLEGD_RUNTIME_REQUEST_TIMEOUT", "300s"),
];

/// The gate, closed.
pub(crate) struct Gate {
    lists: [Method; 2],
    pid: u32,
}

// === impl Gate ===

impl Gate {
    /// Lets a new plegd list once, and waits until all reads are done and the next list call blocks. Returns the time
    /// from start to ready.
    /// `listed` is the number of earlier container lists.
    pub(crate) async fn close(
        node: &Node,
        lists: Lists,
        daemon: &Daemon,
        listed: u64,
    ) -> Result<(Self, Duration)> {
        let gate = Self { lists: lists.methods(), pid: daemon.pid()? };
        let [first, second] = gate.lists;
        gate.until(node, || node.calls(second) > listed).await?;
        let before = node.calls(first);
        node.sim.faults().hang(gate.target());
        let ready = daemon.ready_within(5 * DEADLINE).await?;
        gate.arrived(node, before).await?;
        Ok((gate, ready))
    }

    /// Lets one relist through; returns the CPU time of plegd.
    pub(crate) async fn relist(&self, node: &Node) -> Result<Duration> {
        let [first, second] = self.lists;
        let (before, after) = (node.calls(first), node.calls(second));
        let cpu = Cpu::of(self.pid)?;
        node.sim.faults().release(&self.target());
        self.until(node, || node.calls(second) > after).await?;
        node.sim.faults().hang(self.target());
        self.arrived(node, before).await?;
        Ok(Cpu::of(self.pid)?.since(&cpu))
    }

    /// Runs this many relists one after the other.
    pub(crate) async fn relists(&self, node: &Node, rounds: usize) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            seconds.push(self.relist(node).await?.as_secs_f64());
        }
        Ok(seconds)
    }

    fn target(&self) -> Target {
        Target::Method(self.lists[0])
    }

    /// Waits until the next list call blocks and all reads are done.
    async fn arrived(&self, node: &Node, before: u64) -> Result<()> {
        self.until(node, || node.calls(self.lists[0]) > before).await?;
        let mut calls = node.sim.calls();
        loop {
            sleep(REST).await;
            let now = node.sim.calls();
            if now == calls {
                return Ok(());
            }
            calls = now;
        }
    }

    async fn until(&self, node: &Node, condition: impl Fn() -> bool) -> Result<()> {
        let met = async {
            while !condition() {
                sleep(GLIMPSE).await;
            }
        };
        timeout(2 * DEADLINE, met).await.with_context(|| format!("no relist; calls: {:?}", node.sim.calls()))
    }
}
