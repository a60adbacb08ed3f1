//! Writes lifecycle events to stdout: a table for people or one JSON object a line for programs.
//!
//! Every call returns what the writer says, so that the caller may take a closed pipe for a wish to end. Writing blocks as
//! long as the reader does: not for a task that others wait for.

pub(crate) mod answer;
pub(crate) mod columns;
pub(crate) mod sheet;
mod table;
pub(crate) mod text;
pub(crate) mod view;

pub use self::table::{Table, terminal_width};

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write};

use serde::Serialize;

use crate::{
    clock::Wall,
    config::{EventTypes, Print, PrintFormat},
    model::{Event, Position},
    printable, v1,
};

/// Prints events.
pub struct Printer<W: Write> {
    out: W,
    style: Style,
    types: EventTypes,
}

/// How an event is printed.
#[derive(Clone, Debug)]
pub enum Style {
    /// As a line of a table.
    Table(Table),
    /// As a JSON object on a line.
    Json,
}

/// The fields of a JSON line. Programs read them by these names: none is ever renamed or taken away.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_status: Option<view::Pod<'a>>,
}

/// What a watch knows of an event beside it.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// Where to resume after it.
    pub position: Position,
    /// The pod after it, where that was asked for.
    pub pod: Option<&'a v1::Pod>,
}

// === impl Printer ===

impl<W: Write> Printer<W> {
    /// Prints events of these types in this style.
    pub fn new(out: W, style: Style, types: EventTypes) -> Self {
        Self { out, style, types }
    }

    /// Prints what comes before the first event: the table's header.
    ///
    /// # Errors
    ///
    /// The writer's; `BrokenPipe` where nobody reads any more.
    pub fn begin(&mut self) -> io::Result<()> {
        if let Style::Table(table) = &self.style {
            table.header(&mut self.out)?;
        }
        self.out.flush()
    }

    /// Prints an event, if its type was asked for. What is printed may stay in a buffer until [`Printer::flush`].
    ///
    /// # Errors
    ///
    /// The writer's; `BrokenPipe` where nobody reads any more.
    pub fn print(&mut self, event: &Event) -> io::Result<()> {
        if !self.types.contains(event.kind) {
            return Ok(());
        }
        match &self.style {
            Style::Table(table) => table.row(&mut self.out, event),
            Style::Json => self.json(&Line::from(event)),
        }
    }

    /// Prints an event as [`Printer::print`] does; a JSON line says also what the watch knows beside it.
    ///
    /// # Errors
    ///
    /// The writer's; `BrokenPipe` where nobody reads any more.
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

    /// One JSON line of whatever else there is to say.
    pub(crate) fn json(&mut self, line: &impl Serialize) -> io::Result<()> {
        writeln!(self.out, "{}", printable::json(line)?)
    }

    /// Whether it prints a table.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.style, Style::Table(_))
    }

    /// Where it prints to.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Shows all that was printed. To be called whenever no further event is at hand.
    ///
    /// # Errors
    ///
    /// The writer's; `BrokenPipe` where nobody reads any more.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Printer<BufWriter<Stdout>> {
    /// Prints to stdout as configured; none where nothing is to be printed. The table is as wide as the terminal and, where
    /// it is one and `NO_COLOR` does not forbid it, coloured.
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
    /// A table as wide and as coloured as this terminal wants it; 80 characters and no colours where it is none.
    pub fn table_for(out: &Stdout) -> Self {
        Style::Table(Table::new(terminal_width(out), coloured(out.is_terminal())))
    }
}

/// Whether to write colours to something that is a terminal or not: <https://no-color.org>.
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
            position: None,
            pod_status: None,
        }
    }
}

#[cfg(test)]
mod tests;
