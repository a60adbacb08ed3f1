//! The subscriber that checks every event on arrival.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use plegd::{
    client::{Client, Since, Update, WatchOptions},
    model::Event,
};
use tokio::task::JoinHandle;

use super::lab::{OrderChecker, PublishedHistories, line};

/// Follows a daemon until it is dropped.
pub(crate) struct Checker {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

/// All received updates.
#[derive(Default)]
pub(crate) struct Received {
    order: OrderChecker,
    pub(crate) stories: PublishedHistories,
    /// By type and source.
    pub(crate) events: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) inferred: u64,
    pub(crate) mode_changes: u64,
    /// The received events, in order.
    pub(crate) keys: Vec<EventKey>,
    /// Violated invariants.
    pub(crate) violations: Vec<String>,
}

/// What two subscribers must agree on: sequence number, type and id.
pub(crate) type EventKey = (u64, &'static str, Box<str>);

pub(crate) fn event_key(event: &Event) -> EventKey {
    (event.sequence, event.kind.as_str(), event.id.as_str().into())
}

// === impl Checker ===

impl Checker {
    pub(crate) fn start(client: &Client) -> Self {
        let options = WatchOptions { since: Since::Oldest, ..WatchOptions::named("checker") };
        let mut watch = client.watch(options);
        let received = Arc::new(Mutex::new(Received::default()));
        let into = received.clone();
        let task = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                let mut received = lock(&into);
                if let Err(error) =
                    update.context("the checker's watch has ended").and_then(|it| received.take(it))
                {
                    received.violations.push(format!("{error:#}"));
                }
            }
        });
        Self { received, task }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        lock(&self.received)
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Received ===

impl Received {
    /// Ids that were published as removed and found again by a read.
    pub(crate) fn returned(&self) -> &BTreeSet<String> {
        self.order.returned()
    }

    fn take(&mut self, update: Update) -> Result<()> {
        match update {
            Update::Event { event, skipped, .. } => {
                let event = Event::try_from(&event)?;
                *self.events.entry((event.kind.as_str(), event.source.as_str())).or_default() += 1;
                self.inferred += u64::from(event.inferred);
                self.keys.push(event_key(&event));
                self.stories.push(&event);
                anyhow::ensure!(skipped == 0, "{skipped} events skipped before {}", line(&event));
                self.order.take(&event)
            }
            Update::ModeChange(_) => {
                self.mode_changes += 1;
                Ok(())
            }
            Update::Gap(gap) => anyhow::bail!("the checker, which is never slow, received a gap: {gap:?}"),
            Update::Reconnecting { why, .. } => anyhow::bail!("the checker has lost its connection: {why}"),
            _ => Ok(()),
        }
    }
}
