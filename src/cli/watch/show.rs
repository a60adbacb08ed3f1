//! The output of a watch on stdout.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    cli::get::pod_table,
    client::{Update, wall},
    clock::Clock,
    model::Event,
    print::{Printer, Watched, view},
    v1,
};

pub(super) struct Show<W: Write> {
    printer: Printer<W>,
    /// Whether pods of a snapshot are shown.
    snapshots: bool,
    /// A snapshot follows a gap.
    snapshot_due: bool,
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
    Restarted { down_since: String, up_since: String, down_for_seconds: f64, blind: bool },
}

// === impl Show ===

impl<W: Write> Show<W> {
    pub(super) fn new(printer: Printer<W>, snapshots: bool, clock: Clock) -> Self {
        Self { printer, snapshots, snapshot_due: false, pods: Vec::new(), clock }
    }

    /// Prints the table's header, unless a table of pods comes first.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.snapshots { Ok(()) } else { self.printer.begin() }
    }

    /// As [`Printer::wait`].
    pub(super) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> io::Result<T> {
        self.printer.wait(next).await
    }

    /// As [`Printer::end`].
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.printer.end()
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
                // The current pods include the changes of the missing events.
                self.snapshot_due = true;
                if !table {
                    let line = Line::Gap { reason: reason(&gap), from: gap.from, to: gap.to };
                    self.printer.json(&line)?;
                }
            }
            Update::Restarted(restart) if !table => {
                let time =
                    |time: &Option<prost_types::Timestamp>| time.as_ref().map(wall).unwrap_or_default();
                self.printer.json(&Line::Restarted {
                    down_since: time(&restart.down_since).to_string(),
                    up_since: time(&restart.up_since).to_string(),
                    down_for_seconds: seconds(restart.down_for.as_ref()),
                    blind: restart.blind,
                })?;
            }
            Update::Pod(pod) if self.shows_pods() && table => self.pods.push(pod),
            Update::Pod(pod) if self.shows_pods() => self.printer.json(&Line::Pod { pod: (&pod).into() })?,
            Update::SnapshotEnd { .. } if self.shows_pods() && table => {
                self.snapshot_due = false;
                self.table()?;
            }
            Update::SnapshotEnd { position, pods } if self.shows_pods() => {
                self.snapshot_due = false;
                self.printer.json(&Line::SnapshotEnd { pods, position: position.to_string() })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn shows_pods(&self) -> bool {
        self.snapshots || self.snapshot_due
    }

    /// Prints the pods, then the header for the events.
    fn table(&mut self) -> io::Result<()> {
        self.printer.end()?;
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

fn seconds(time: Option<&prost_types::Duration>) -> f64 {
    time.map_or(0.0, |time| time.seconds as f64 + f64::from(time.nanos) / 1e9)
}

fn reason(gap: &v1::Gap) -> &'static str {
    match gap.reason() {
        v1::GapReason::Unspecified => "unspecified",
        v1::GapReason::Compacted => "compacted",
        v1::GapReason::ForeignEpoch => "foreign_epoch",
        v1::GapReason::InFuture => "in_future",
    }
}
