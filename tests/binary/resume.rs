//! A client that stores its position, is killed at random moments, and resumes at that position.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::{sleep, timeout};

use super::{Line, Watcher};

/// Upper bounds of each client's run time, and of the pause between two clients.
const MAX_RUN: Duration = Duration::from_millis(600);
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// The output of all clients together.
pub struct Resumed {
    pub received: Vec<Line>,
    /// How often a client was killed before the last event.
    pub kills: usize,
}

/// Watches from the oldest event to event number `last`. Each client is killed with SIGKILL and resumes at the position of the last line
/// that the previous one printed.
pub async fn killed_and_resumed(socket: &Path, seed: u64, last: u64) -> Result<Resumed> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut resumed = Resumed { received: Vec::new(), kills: 0 };
    let mut since = "oldest".to_owned();
    loop {
        let client = Watcher::start(socket, &["--since", &since])?;
        let run = MAX_RUN.mul_f64(rng.f64());
        // An error means that the watch ended by itself; the comparison of the events detects that.
        let _ = timeout(run, client.until_event(last)).await;
        let received = client.kill9().await?;
        if let Some(position) = received.last().and_then(|line| line.position.clone()) {
            since = position;
        }
        resumed.received.extend(received);
        if resumed.received.last().and_then(|line| line.sequence) >= Some(last) {
            return Ok(resumed);
        }
        resumed.kills += 1;
        sleep(MAX_PAUSE.mul_f64(rng.f64())).await;
    }
}

// === impl Resumed ===

impl Resumed {
    /// Checks that the events across all kills equal those of an uninterrupted watcher, each once.
    pub fn same_as(&self, uninterrupted: &[Line]) -> Result<()> {
        ensure!(self.kills >= 3, "killed only {} times", self.kills);
        let numbers = uninterrupted.iter().map(|line| line.sequence);
        ensure!(
            numbers.eq((1..).map(Some).take(uninterrupted.len())),
            "the uninterrupted watcher has a hole"
        );
        ensure!(uninterrupted.len() >= self.received.len(), "more events than the uninterrupted watcher has");
        for (number, (received, due)) in self.received.iter().zip(uninterrupted).enumerate() {
            ensure!(
                received.event() == due.event(),
                "{:?} instead of {:?}, after {number} events and {} kills",
                received.event(),
                due.event(),
                self.kills
            );
        }
        Ok(())
    }
}
