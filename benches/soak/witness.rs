//! The subscriber that sees everything and objects to it as it comes.

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
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// All that it was told.
#[derive(Default)]
pub(crate) struct Seen {
    order: OrderChecker,
    pub(crate) stories: PublishedHistories,
    /// By type and source.
    pub(crate) events: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) inferred: u64,
    pub(crate) mode_changes: u64,
    /// What was told, in the order of its numbers.
    pub(crate) told: Vec<Told>,
    /// What should not have been.
    pub(crate) faults: Vec<String>,
}

/// What two who were told the same agree on: the number, the type and the id.
pub(crate) type Told = (u64, &'static str, Box<str>);

pub(crate) fn told(event: &Event) -> Told {
    (event.sequence, event.kind.as_str(), event.id.as_str().into())
}

// === impl Witness ===

impl Witness {
    pub(crate) fn start(client: &Client) -> Self {
        let options = WatchOptions { since: Since::Oldest, ..WatchOptions::named("witness") };
        let mut watch = client.watch(options);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let into = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                let mut seen = lock(&into);
                if let Err(error) =
                    update.context("the witness' watch has ended").and_then(|it| seen.take(it))
                {
                    seen.faults.push(format!("{error:#}"));
                }
            }
        });
        Self { seen, task }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Seen ===

impl Seen {
    /// Ids that were told removed, and that a read has found again.
    pub(crate) fn returned(&self) -> &BTreeSet<String> {
        self.order.returned()
    }

    fn take(&mut self, update: Update) -> Result<()> {
        match update {
            Update::Event { event, skipped, .. } => {
                let event = Event::try_from(&event)?;
                *self.events.entry((event.kind.as_str(), event.source.as_str())).or_default() += 1;
                self.inferred += u64::from(event.inferred);
                self.told.push(told(&event));
                self.stories.push(&event);
                anyhow::ensure!(skipped == 0, "{skipped} events left out before {}", line(&event));
                self.order.take(&event)
            }
            Update::ModeChange(_) => {
                self.mode_changes += 1;
                Ok(())
            }
            Update::Gap(gap) => anyhow::bail!("the witness, who is never slow, was told of a gap: {gap:?}"),
            Update::Reconnecting { why, .. } => anyhow::bail!("the witness has lost its connection: {why}"),
            _ => Ok(()),
        }
    }
}
