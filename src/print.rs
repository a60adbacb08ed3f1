//! Writes lifecycle events to stdout, as a table or as one JSON object per line.
//!
//! Every call returns the writer's result, so that the caller can exit when the pipe is closed. A write blocks while the reader
//! does not read, so do not call it in a task that other tasks wait for.

pub(crate) mod answer;
pub(crate) mod columns;
mod inventory;
pub(crate) mod sheet;
mod table;
pub(crate) mod text;
pub(crate) mod view;

pub use self::table::{Table, terminal_width};

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout, Write},
    pin::pin,
    time::Duration,
};

use serde::Serialize;

use self::inventory::Inventory;
use crate::{
    clock::Wall,
    config::{EventTypes, Print, PrintFormat},
    model::{Event, Position},
    printable, v1,
};

/// Time without an event after which the initial inventory counts as complete.
const INVENTORY_PAUSE: Duration = Duration::from_secs(1);

/// Prints events.
pub struct Printer<W: Write> {
    out: W,
    style: Style,
    types: EventTypes,
    /// The initial events for which the table has no line yet.
    inventory: Inventory,
}

/// The output style of an event.
#[derive(Clone, Debug)]
pub enum Style {
    /// As a line of a table.
    Table(Table),
    /// As one JSON object per line.
    Json,
}

/// The fields of a JSON line. Programs depend on these names: none is ever renamed or removed.
#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    r#type: &'static str,
    subject: &'static str,
    pod_uid: &'a str,
    namespace: &'a str,
    pod_name: &'a str,
    container_id: &'a str,
    container_name: &'a str,
    source: &'static str,
    occurred_at: Option<String>,
    observed_at: String,
    exit_code: Option<i32>,
    reason: &'a str,
    inferred: bool,
    initial: bool,
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_status: Option<view::Pod<'a>>,
}

/// Additional data of a watch for an event.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// The position at which to resume after it.
    pub position: Position,
    /// The pod after it, if requested.
    pub pod: Option<&'a v1::Pod>,
}

// === impl Printer ===

impl<W: Write> Printer<W> {
    /// Prints events of these types in this style.
    pub fn new(out: W, style: Style, types: EventTypes) -> Self {
        Self { out, style, types, inventory: Inventory::default() }
    }

    /// Prints the table's header.
    ///
    /// # Errors
    ///
    /// The writer's error; `BrokenPipe` if the reader has closed the pipe.
    pub fn begin(&mut self) -> io::Result<()> {
        if let Style::Table(table) = &self.style {
            table.header(&mut self.out)?;
        }
        self.out.flush()
    }

    /// Prints an event if its type is selected. The output may stay in a buffer until [`Printer::flush`]. A table has one line for all
    /// initial events.
    ///
    /// # Errors
    ///
    /// The writer's error; `BrokenPipe` if the reader has closed the pipe.
    pub fn print(&mut self, event: &Event) -> io::Result<()> {
        if !self.types.contains(event.kind) {
            return Ok(());
        }
        match &self.style {
            Style::Table(_) if event.initial => {
                self.inventory.add(event);
                Ok(())
            }
            Style::Table(table) => {
                self.inventory.print(&mut self.out)?;
                table.row(&mut self.out, event)
            }
            Style::Json => self.json(&Line::from(event)),
        }
    }

    /// Prints an event like [`Printer::print`]; a JSON line also has the watch's additional data.
    ///
    /// # Errors
    ///
    /// The writer's error; `BrokenPipe` if the reader has closed the pipe.
    pub fn print_watched(&mut self, event: &Event, watched: Watched<'_>) -> io::Result<()> {
        match &self.style {
            Style::Json if self.types.contains(event.kind) => self.json(&Line {
                position: Some(watched.position.to_string()),
                pod_status: watched.pod.map(view::Pod::from),
                ..Line::from(event)
            }),
            _ => self.print(event),
        }
    }

    /// Flushes the buffer, and waits for the next update. If none comes for a second, the initial inventory is printed.
    ///
    /// # Errors
    ///
    /// The writer's error; `BrokenPipe` if the reader has closed the pipe.
    pub async fn wait<T>(&mut self, next: impl Future<Output = T>) -> io::Result<T> {
        self.flush()?;
        let mut next = pin!(next);
        if !self.inventory.is_empty() {
            if let Ok(update) = tokio::time::timeout(INVENTORY_PAUSE, &mut next).await {
                return Ok(update);
            }
            self.end()?;
        }
        Ok(next.await)
    }

    /// Prints the initial inventory, and flushes the buffer: no event follows, or something else is printed.
    ///
    /// # Errors
    ///
    /// The writer's error; `BrokenPipe` if the reader has closed the pipe.
    pub fn end(&mut self) -> io::Result<()> {
        self.inventory.print(&mut self.out)?;
        self.flush()
    }

    /// Prints another JSON line.
    pub(crate) fn json(&mut self, line: &impl Serialize) -> io::Result<()> {
        writeln!(self.out, "{}", printable::json(line)?)
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.style, Style::Table(_))
    }

    /// The writer.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Flushes the buffer. Call it whenever no further event is available at once.
    ///
    /// # Errors
    ///
    /// The writer's error; `BrokenPipe` if the reader has closed the pipe.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Printer<BufWriter<Stdout>> {
    /// Prints to stdout as configured; `None` if printing is off. The table has the terminal's width. It is coloured on a terminal, unless
    /// `NO_COLOR` is set.
    pub fn to_stdout(print: &Print) -> Option<Self> {
        let style = match print.format {
            PrintFormat::None => return None,
            PrintFormat::Json => Style::Json,
            PrintFormat::Table => Style::table_for(&io::stdout()),
        };
        Some(Self::new(BufWriter::new(io::stdout()), style, print.types.clone()))
    }
}

// === impl Style ===

impl Style {
    /// A table for this terminal's width and colours; 80 characters and no colours if stdout is no terminal.
    pub fn table_for(out: &Stdout) -> Self {
        Style::Table(Table::new(terminal_width(out), coloured(out.is_terminal())))
    }
}

/// Whether to write colours, for a terminal or another output: <https://no-color.org>.
pub fn coloured(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

// === impl Line ===

impl<'a> From<&'a Event> for Line<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            sequence: event.sequence,
            r#type: event.kind.as_str(),
            subject: event.subject.as_str(),
            pod_uid: event.pod.uid.as_str(),
            namespace: &event.pod.namespace,
            pod_name: &event.pod.name,
            container_id: event.id.as_str(),
            container_name: &event.container_name,
            source: event.source.as_str(),
            occurred_at: event.occurred_at.as_ref().map(Wall::to_string),
            observed_at: event.observed_at.to_string(),
            exit_code: event.exit_code,
            reason: &event.reason,
            inferred: event.inferred,
            initial: event.initial,
            late: event.late,
            position: None,
            pod_status: None,
        }
    }
}

#[cfg(test)]
mod tests;
