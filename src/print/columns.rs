//! Columns as in kubectl: each as wide as its widest cell, three spaces between them, never cut.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::text::padded;
use crate::printable::{visible, width};

const GAP: usize = 3;

/// Rows under headers.
pub(crate) struct Columns<const N: usize> {
    headers: Option<[&'static str; N]>,
    rows: Vec<[String; N]>,
    /// The number of columns that are shown.
    shown: usize,
}

// === impl Columns ===

impl<const N: usize> Columns<N> {
    /// A table with these headers, of which the first `shown` columns are shown.
    pub(crate) fn new(headers: [&'static str; N], shown: usize) -> Self {
        Self { headers: Some(headers), rows: Vec::new(), shown }
    }

    /// Removes the headers.
    pub(crate) fn without_headers(self) -> Self {
        Self { headers: None, ..self }
    }

    /// Adds a row. Unsafe characters are escaped, and an empty cell is shown as `-`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| if cell.is_empty() { "-".into() } else { visible(&cell).into_owned() }));
    }

    /// Writes the table.
    pub(crate) fn write(self, out: &mut impl Write) -> io::Result<()> {
        let headers = self.headers.map(|headers| headers.map(str::to_owned));
        let lines: Vec<&[String]> =
            headers.iter().chain(&self.rows).map(|cells| &cells[..self.shown.min(N)]).collect();
        let widest = |column: usize| lines.iter().map(|cells| width(&cells[column])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.shown.min(N)).map(widest).collect();
        for cells in lines {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                line.push_str(&padded(cell, width + GAP));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A time span in kubectl's notation of ages: two units where one is too coarse, otherwise one.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |first: u64, unit: &str, second: u64, small: &str| match second {
        0 => format!("{first}{unit}"),
        second => format!("{first}{unit}{second}{small}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        // The values of HumanDuration in k8s.io/apimachinery/pkg/util/duration.
        for (seconds, text) in [
            (0, "0s"),
            (70, "70s"),
            (119, "119s"),
            (120, "2m"),
            (130, "2m10s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_160, "3h6m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn columns_line_up_and_hold_no_unsafe_characters() {
        let mut columns = Columns::new(["NAME", "X", "HIDDEN"], 2);
        columns.row(["a\u{1b}[31m".into(), String::new(), "h".into()]);
        columns.row(["ünï".into(), "12".into(), "h".into()]);
        columns.row(["漢字🦀".into(), "3".into(), "h".into()]);
        let mut out = Vec::new();
        columns.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME          X\na\\u{1b}[31m   -\nünï           12\n漢字🦀        3\n"
        );
    }
}
