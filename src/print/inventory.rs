//! The containers and pods that existed before plegd started: a table has one line for all of them.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::text::counted;
use crate::model::{Event, ObjectId, PodIdentity, Subject};

/// The ids in initial events.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    containers: BTreeSet<ObjectId>,
    pods: BTreeSet<PodIdentity>,
}

// === impl Inventory ===

impl Inventory {
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    pub(super) fn add(&mut self, event: &Event) {
        self.pods.insert(event.pod.clone());
        if event.subject == Subject::Container {
            self.containers.insert(event.id.clone());
        }
    }

    /// Prints the line, if there is one to print.
    pub(super) fn print(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let Self { containers, pods } = std::mem::take(self);
        writeln!(
            out,
            "{} in {} already present",
            counted(containers.len() as u64, "container"),
            counted(pods.len() as u64, "pod")
        )
    }
}
