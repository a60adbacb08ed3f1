//! The output of a watch on stdout.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    cli::get::pod_table,
    client::Update,
    clock::Clock,
    model::Event,
    print::{Printer, Watched, view},
    v1,
};

pub(super) struct Show<W: Write> {
    printer: Printer<W>,
    /// Whether pods of a snapshot are shown.
    snapshots: bool,
    /// The pods of the incomplete snapshot, for a table of them.
    pods: Vec<v1::Pod>,
    clock: Clock,
}

/// JSON lines other than events. Programs depend on these names: none is ever renamed or removed.
#[derive(Serialize)]
#[serde(tag = "type")]
enum Line<'a> {
    Pod { pod: view::Pod<'a> },
    SnapshotEnd { pods: u32, position: String },
    Gap { reason: &'static str, from: u64, to: Option<u64> },
}

// === impl Show ===

impl<W: Write> Show<W> {
    pub(super) fn new(printer: Printer<W>, snapshots: bool, clock: Clock) -> Self {
        Self { printer, snapshots, pods: Vec::new(), clock }
    }

    /// Prints the table's header, unless a table of pods comes first.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.snapshots { Ok(()) } else { self.printer.begin() }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.printer.flush()
    }

    pub(super) fn update(&mut self, update: Update) -> io::Result<()> {
        let table = self.printer.is_table();
        match update {
            // An interrupted snapshot starts again.
            Update::Connected(_) => self.pods.clear(),
            Update::Event { event, position, .. } => {
                // Its type is known only to a newer plegd.
                let Ok(known) = Event::try_from(&event) else { return Ok(()) };
                let watched = Watched { position, pod: event.pod_status.as_ref() };
                self.printer.print_watched(&known, watched)?;
            }
            Update::Gap(gap) => {
                self.pods.clear();
                if !table {
                    let line = Line::Gap { reason: reason(&gap), from: gap.from, to: gap.to };
                    self.printer.json(&line)?;
                }
            }
            Update::Pod(pod) if self.snapshots && table => self.pods.push(pod),
            Update::Pod(pod) if self.snapshots => self.printer.json(&Line::Pod { pod: (&pod).into() })?,
            Update::SnapshotEnd { .. } if self.snapshots && table => self.table()?,
            Update::SnapshotEnd { position, pods } if self.snapshots => {
                self.printer.json(&Line::SnapshotEnd { pods, position: position.to_string() })?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Prints the pods, then the header for the events.
    fn table(&mut self) -> io::Result<()> {
        let mut pods = std::mem::take(&mut self.pods);
        pods.sort_by_cached_key(|pod| {
            let identity = pod.identity.clone().unwrap_or_default();
            (identity.namespace, identity.name)
        });
        pod_table(&pods, false, true, self.clock.wall()).write(self.printer.out())?;
        self.printer.out().write_all(b"\n")?;
        self.printer.begin()
    }
}

fn reason(gap: &v1::Gap) -> &'static str {
    match gap.reason() {
        v1::GapReason::Unspecified => "unspecified",
        v1::GapReason::Compacted => "compacted",
        v1::GapReason::ForeignEpoch => "foreign_epoch",
        v1::GapReason::InFuture => "in_future",
    }
}
