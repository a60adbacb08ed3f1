//! The table: one line per event, as wide as the terminal.

use std::{
    io::{self, Stdout, Write},
    time::Duration,
};

use super::text::{padded, shorten_end, shorten_middle};
use crate::{
    model::{Event, EventType, Subject},
    printable::{visible, width},
};

/// Minimum width of a table, and its width if the terminal's width is unknown.
const NARROW: usize = 80;

/// Maximum width: wider lines are hard to read.
const WIDE: usize = 160;

const TIME: usize = "hh:mm:ss.mmm".len();
const DELAY: usize = "+59.9s".len();
const KIND: usize = "Removed".len();
const SOURCE: usize = "SOURCE".len();
const GAPS: usize = 6;

/// A table's layout.
#[derive(Clone, Debug)]
pub struct Table {
    pod: usize,
    container: usize,
    detail: usize,
    colour: bool,
}

/// The width of a line: `COLUMNS` if it is set, else the terminal's width, else 80 characters.
pub fn terminal_width(out: &Stdout) -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(out).ok().map(|size| usize::from(size.ws_col));
    columns.or_else(terminal).filter(|&width| width > 0).unwrap_or(NARROW)
}

// === impl Table ===

impl Table {
    /// A table of this width, in characters, from 80 to 160.
    pub fn new(width: usize, colour: bool) -> Self {
        let fixed = TIME + DELAY + KIND + SOURCE + GAPS;
        let free = width.clamp(NARROW, WIDE) - fixed;
        // At 80 these are 16, 9 (for "(sandbox)") and 18 (for "exit 137 OOMKilled"); additional width goes mostly to the pod's name.
        let spare = free - (NARROW - fixed);
        let (pod, container) = (16 + spare / 2, 9 + spare / 4);
        Self { pod, container, detail: free - pod - container, colour }
    }

    pub(super) fn header(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = ["TIME", "DELAY", "EVENT", "NAMESPACE/POD", "CONTAINER", "DETAIL", "SOURCE"];
        self.line(out, columns.map(str::to_owned), None)
    }

    pub(super) fn row(&self, out: &mut impl Write, event: &Event) -> io::Result<()> {
        let container = match event.subject {
            Subject::Sandbox => "(sandbox)",
            Subject::Container if event.container_name.is_empty() => "(unknown)",
            Subject::Container => &event.container_name,
        };
        let (kind, colour) = kind(event);
        let happened = event.occurred_at.unwrap_or(event.observed_at);
        let columns = [
            // Only the time of day fits; it is in UTC, as in logs.
            happened.to_string().get(11..11 + TIME).unwrap_or_default().to_owned(),
            event
                .occurred_at
                .and_then(|at| delay(event.observed_at.seconds_since(at)))
                .unwrap_or_else(|| "-".into()),
            kind.to_owned(),
            shorten_middle(&visible(&format!("{}/{}", event.pod.namespace, event.pod.name)), self.pod),
            shorten_middle(&visible(container), self.container),
            fit(details(event), self.detail),
            event.source.as_str().to_owned(),
        ];
        self.line(out, columns, Some(colour))
    }

    fn line(&self, out: &mut impl Write, columns: [String; 7], colour: Option<&str>) -> io::Result<()> {
        let widths = [TIME, DELAY, KIND, self.pod, self.container, self.detail, 0];
        for (place, (column, width)) in columns.iter().zip(widths).enumerate() {
            if place > 0 {
                out.write_all(b" ")?;
            }
            let column = padded(column, width);
            match colour.filter(|_| self.colour && place == 2) {
                Some(colour) => write!(out, "\x1b[{colour}m{column}\x1b[0m")?,
                None => out.write_all(column.as_bytes())?,
            }
        }
        out.write_all(b"\n")
    }
}

/// The event's short name and colour.
fn kind(event: &Event) -> (&'static str, &'static str) {
    match event.kind {
        EventType::ContainerStarted => ("Started", "32"),
        EventType::ContainerDied if event.exit_code.is_some_and(|code| code != 0) => ("Died", "1;31"),
        EventType::ContainerDied => ("Died", "33"),
        EventType::ContainerRemoved => ("Removed", "2"),
        EventType::ContainerChanged => ("Changed", "36"),
        EventType::PodSync => ("Sync", "35"),
    }
}

/// The details, the most important first.
fn details(event: &Event) -> Vec<String> {
    let mut details = Vec::new();
    details.extend(event.exit_code.map(|code| format!("exit {code}")));
    // With an exit code these two reasons add no information.
    let redundant = event.exit_code.is_some() && ["Completed", "Error"].contains(&event.reason.as_str());
    if !redundant && !event.reason.is_empty() {
        details.push(visible(&event.reason).into_owned());
    }
    if event.inferred {
        details.push("inferred".into());
    }
    if event.late {
        details.push("late".into());
    }
    details
}

/// The time from the event to its observation; `None` if the clock was stepped back in between.
fn delay(seconds: f64) -> Option<String> {
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    Some(match time.as_secs() {
        0 if time.as_micros() < 9_950 => format!("+{:.1}ms", seconds * 1e3),
        0 if time.as_micros() < 999_500 => format!("+{:.0}ms", seconds * 1e3),
        0..60 => format!("+{seconds:.1}s"),
        secs @ 60..3600 => format!("+{}m", secs / 60),
        secs @ 3600..172_800 => format!("+{}h", secs / 3600),
        secs => format!("+{}d", secs / 86_400),
    })
}

/// As many complete parts as fit; a first part that is too long is cut.
fn fit(parts: Vec<String>, columns: usize) -> String {
    let mut text = String::new();
    for part in parts {
        if text.is_empty() {
            text = shorten_end(&part, columns);
        } else if width(&text) + 1 + width(&part) <= columns {
            text.push(' ');
            text.push_str(&part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_short_at_any_length() {
        for (seconds, text) in [
            (0.0, "+0.0ms"),
            (0.000_84, "+0.8ms"),
            (0.009_94, "+9.9ms"),
            (0.009_96, "+10ms"),
            (0.9994, "+999ms"),
            (0.9996, "+1.0s"),
            (59.94, "+59.9s"),
            (61.0, "+1m"),
            (7199.0, "+1h"),
            (172_800.0, "+2d"),
        ] {
            assert_eq!(delay(seconds).as_deref(), Some(text), "{seconds}");
        }
        assert_eq!(delay(-0.001), None);
    }

    #[test]
    fn a_line_has_the_requested_width_from_80_to_160() {
        for (requested, width) in [(0, 80), (80, 80), (81, 81), (132, 132), (160, 160), (500, 160)] {
            let table = Table::new(requested, false);
            assert_eq!(
                TIME + DELAY + KIND + SOURCE + GAPS + table.pod + table.container + table.detail,
                width
            );
        }
    }
}
