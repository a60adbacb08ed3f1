//! A client that stores its position, is killed at any moment, and goes on where it was.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::{sleep, timeout};

use super::{Line, Watcher};

/// How long each of them lives, and how long nobody is there in between: at most.
const LIFE: Duration = Duration::from_millis(600);
const AWAY: Duration = Duration::from_millis(200);

/// What its lives were told together.
pub struct Resumed {
    pub told: Vec<Line>,
    /// How often it was killed with more to come.
    pub kills: usize,
}

/// Watches from the oldest event on until event number `last`, killed with `kill -9` time and again. What it stores is the
/// position of the last line that it has printed.
pub async fn killed_and_resumed(socket: &Path, seed: u64, last: u64) -> Result<Resumed> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut resumed = Resumed { told: Vec::new(), kills: 0 };
    let mut since = "oldest".to_owned();
    loop {
        let client = Watcher::start(socket, &["--since", &since])?;
        let life = LIFE.mul_f64(dice.f64());
        // An error is a watch that ended by itself, which what was told will show.
        let _ = timeout(life, client.until_event(last)).await;
        let told = client.kill9().await?;
        if let Some(position) = told.last().and_then(|line| line.position.clone()) {
            since = position;
        }
        resumed.told.extend(told);
        if resumed.told.last().and_then(|line| line.sequence) >= Some(last) {
            return Ok(resumed);
        }
        resumed.kills += 1;
        sleep(AWAY.mul_f64(dice.f64())).await;
    }
}

// === impl Resumed ===

impl Resumed {
    /// Holds what was told, through all deaths, against what one who was never interrupted was told: the same, each once.
    pub fn same_as(&self, uninterrupted: &[Line]) -> Result<()> {
        ensure!(self.kills >= 3, "killed {} times only", self.kills);
        let numbers = uninterrupted.iter().map(|line| line.sequence);
        ensure!(numbers.eq((1..).map(Some).take(uninterrupted.len())), "a hole in what the other was told");
        ensure!(uninterrupted.len() >= self.told.len(), "told more than there was");
        for (number, (told, due)) in self.told.iter().zip(uninterrupted).enumerate() {
            ensure!(
                told.told() == due.told(),
                "{:?} where {:?} was due, after {number} events and {} kills",
                told.told(),
                due.told(),
                self.kills
            );
        }
        Ok(())
    }
}
