//! A client of plegd that keeps the pods by the snapshots and events of a watch only.
//!
//! Owns one watch of the client library, which reconnects by itself. It fails on an invalid update: within an epoch a hole in
//! the sequence, a duplicate or a backward step; across epochs a missing gap.

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

use super::{OrderChecker, States, states_of};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Mirror {
    state: Arc<Mutex<MirrorState>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub struct MirrorState {
    pods: BTreeMap<String, v1::Pod>,
    /// The pods of an incomplete snapshot.
    snapshot: BTreeMap<String, v1::Pod>,
    in_snapshot: bool,
    order: OrderChecker,
    /// The position up to which the state is complete.
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
        let state = Arc::new(Mutex::new(MirrorState::default()));
        let into = state.clone();
        let task = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                let mut state = into.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = update.context("the mirror's watch ended").and_then(|it| state.take(it));
                if let Err(error) = taken {
                    // Keep the first fault.
                    state.fault = Some(format!("{error:#}"));
                    return;
                }
            }
        });
        Self { state, task }
    }

    /// The state, or the first fault.
    pub fn state(&self) -> Result<MutexGuard<'_, MirrorState>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.fault {
            Some(fault) => bail!("{fault}"),
            None => Ok(state),
        }
    }

    /// The states of the known pods.
    pub fn states(&self) -> Result<States> {
        Ok(states_of(self.state()?.pods.values()))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl MirrorState ===

impl MirrorState {
    fn take(&mut self, update: Update) -> Result<()> {
        match update {
            Update::Connected(_) => self.begin(),
            Update::Gap(gap) => {
                self.gaps.push(gap.reason());
                self.begin();
            }
            Update::Pod(pod) => {
                ensure!(self.in_snapshot, "a pod without a snapshot");
                let uid = pod.identity.clone().unwrap_or_default().uid;
                ensure!(self.snapshot.insert(uid, pod).is_none(), "a pod twice in a snapshot");
            }
            Update::SnapshotEnd { position, pods } => {
                ensure!(
                    self.in_snapshot && self.snapshot.len() == pods as usize,
                    "the snapshot does not have {pods} pods"
                );
                let again = position.epoch == self.position.epoch;
                ensure!(!again || position.sequence >= self.position.sequence, "back to {position}");
                self.in_snapshot = false;
                self.pods = std::mem::take(&mut self.snapshot);
                self.order = OrderChecker::after(position.sequence);
                self.position = position;
                self.snapshots += 1;
            }
            Update::Event { event, position, skipped } => {
                ensure!(
                    !self.in_snapshot && skipped == 0,
                    "an event within a snapshot, or after skipped ones"
                );
                ensure!(position.epoch == self.position.epoch, "another epoch without a gap");
                self.order.take(&Event::try_from(&event)?)?;
                ensure!(
                    self.order.returned().is_empty(),
                    "removed, and present again: {:?}",
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
        self.in_snapshot = true;
        self.snapshot.clear();
    }
}
