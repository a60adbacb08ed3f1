//! Output formats of verbs, and the notation of times and positions in JSON.
//!
//! JSON has the fields of `plegd.v1` by their names. A time is RFC 3339 in UTC with nanoseconds. A duration is a number of seconds, in
//! a field with that unit in its name. A position is text. An unset field is null.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::{
    coloured, terminal_width,
    text::{Paint, duration, wall},
};
use crate::{model::Position, printable::json_pretty, v1};

/// Minimum width of a screen, in characters.
const NARROW: usize = 80;
/// Maximum width: wider lines are hard to read.
const WIDE: usize = 160;

/// The width and the colours if stdout is no terminal.
pub(crate) const PLAIN: (usize, Paint) = (WIDE, Paint(false));

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
}

/// The width of stdout, and whether it has colours.
pub(crate) fn page() -> (usize, Paint) {
    let out = io::stdout();
    (terminal_width(&out).clamp(NARROW, WIDE), Paint(coloured(out.is_terminal())))
}

/// Writes the text to stdout.
pub(crate) fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes the value to stdout as an indented JSON object.
pub(crate) fn show_json(answer: &impl Serialize) -> io::Result<()> {
    show(&json(answer)?)
}

/// An indented JSON object.
pub(crate) fn json(answer: &impl Serialize) -> io::Result<String> {
    Ok(json_pretty(answer)? + "\n")
}

/// A time in the notation for JSON.
pub(crate) fn time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    at.map(|at| wall(at).to_string())
}

/// A duration in seconds.
pub(crate) fn seconds(time: Option<&prost_types::Duration>) -> Option<f64> {
    time.map(|time| duration(Some(time)).as_secs_f64())
}

/// A position: the epoch as 16 hexadecimal digits, a colon, the sequence number.
pub(crate) fn position(position: Option<&v1::Position>) -> Option<String> {
    position.map(|position| Position::from(*position).to_string())
}
