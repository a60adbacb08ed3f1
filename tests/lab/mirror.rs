//! What a client of plegd makes of a watch: the pods as they are, kept by snapshots and events alone.
//!
//! Owns one watch, through the client library, which connects again by itself. It objects at once to what must never come:
//! within an epoch a hole in the numbers, anything twice or backward; across epochs anything without a gap before it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use plegd::{
    api::v1,
    client::{Client, Update, WatchOptions},
    model::{Event, Position},
};
use tokio::task::JoinHandle;

use super::{Order, States, states_of};

/// Follows until it is dropped.
#[derive(Debug)]
pub struct Mirror {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pods: BTreeMap<String, v1::Pod>,
    /// Of a snapshot that is not complete.
    coming: BTreeMap<String, v1::Pod>,
    is_coming: bool,
    order: Order,
    /// Up to where all is known.
    pub position: Position,
    pub snapshots: u32,
    pub gaps: Vec<v1::GapReason>,
    pub fault: Option<String>,
}

// === impl Mirror ===

impl Mirror {
    pub fn start(client: &Client) -> Self {
        let options = WatchOptions { detail: v1::Detail::Pod, ..WatchOptions::named("mirror") };
        let mut watch = client.watch(options);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let into = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = update.context("the mirror's watch has ended").and_then(|it| seen.take(it));
                if let Err(error) = taken {
                    // The first one says most.
                    seen.fault = Some(format!("{error:#}"));
                    return;
                }
            }
        });
        Self { seen, task }
    }

    /// What it has seen, unless something of that must not be.
    pub fn seen(&self) -> Result<MutexGuard<'_, Seen>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &seen.fault {
            Some(fault) => bail!("{fault}"),
            None => Ok(seen),
        }
    }

    /// The states of what is there as far as it knows.
    pub fn states(&self) -> Result<States> {
        Ok(states_of(self.seen()?.pods.values()))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Seen ===

impl Seen {
    fn take(&mut self, update: Update) -> Result<()> {
        match update {
            Update::Connected(_) => self.begin(),
            Update::Gap(gap) => {
                self.gaps.push(gap.reason());
                self.begin();
            }
            Update::Pod(pod) => {
                ensure!(self.is_coming, "a pod without a snapshot");
                let uid = pod.identity.clone().unwrap_or_default().uid;
                ensure!(self.coming.insert(uid, pod).is_none(), "a pod twice in a snapshot");
            }
            Update::SnapshotEnd { position, pods } => {
                ensure!(
                    self.is_coming && self.coming.len() == pods as usize,
                    "{pods} pods were said to come"
                );
                let again = position.epoch == self.position.epoch;
                ensure!(!again || position.sequence >= self.position.sequence, "back to {position}");
                self.is_coming = false;
                self.pods = std::mem::take(&mut self.coming);
                self.order = Order::after(position.sequence);
                self.position = position;
                self.snapshots += 1;
            }
            Update::Event { event, position, skipped } => {
                ensure!(!self.is_coming && skipped == 0, "an event that nobody waits for");
                ensure!(position.epoch == self.position.epoch, "another epoch and no gap");
                self.order.take(&Event::try_from(&event)?)?;
                ensure!(
                    self.order.returned().is_empty(),
                    "removed, and there again: {:?}",
                    self.order.returned()
                );
                self.position = position;
                let uid = event.pod.unwrap_or_default().uid;
                match event.pod_status {
                    Some(pod) => self.pods.insert(uid, pod),
                    None => self.pods.remove(&uid),
                };
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.is_coming = true;
        self.coming.clear();
    }
}
