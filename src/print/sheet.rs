//! Text output of a limited width: lines with labels, paragraphs and tables.
//!
//! Pure: the result is a text. All unsafe characters are escaped here.

use super::text::{Paint, Tone, shorten_end, wrap};
use crate::printable::{self, visible};

/// The first column of texts, after their labels.
const INDENT: usize = 10;

#[derive(Debug)]
pub(crate) struct Sheet {
    text: String,
    width: usize,
    paint: Paint,
}

/// A text with a tone: a part of a line, or a cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StyledText {
    tone: Tone,
    text: String,
}

/// The alignment of a cell in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Left-aligned, for names.
    Left,
    /// Right-aligned, for numbers.
    Right,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) heading: &'static str,
    /// Its alignment.
    pub(crate) side: Side,
    /// The minimum width to which it may be cut if the table is too wide; `None` if it is never cut.
    pub(crate) least: Option<usize>,
}

// === impl StyledText ===

impl StyledText {
    /// A text in its tone. Unsafe characters in it are escaped.
    pub(crate) fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        Self { tone, text: visible(text.as_ref()).into_owned() }
    }

    /// The beginning, as much as fits into `width` columns.
    pub(crate) fn cut(&self, width: usize) -> Self {
        Self { tone: self.tone, text: shorten_end(&self.text, width) }
    }

    /// The number of columns.
    pub(crate) fn width(&self) -> usize {
        printable::width(&self.text)
    }
}

impl<T: AsRef<str>> From<T> for StyledText {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

// === impl Sheet ===

impl Sheet {
    pub(crate) fn new(width: usize, paint: Paint) -> Self {
        Self { text: String::new(), width, paint }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// An empty line.
    pub(crate) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Adds a line of parts, cut at the width of the sheet.
    pub(crate) fn line(&mut self, parts: &[StyledText]) {
        let mut left = self.width;
        let mut line = String::new();
        for part in parts {
            if left == 0 {
                break;
            }
            let text = shorten_end(&part.text, left);
            left -= printable::width(&text);
            line.push_str(&self.paint.paint(part.tone, &text));
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Adds a line with a label.
    pub(crate) fn labelled(&mut self, label: &str, parts: &[StyledText]) {
        let mut line = vec![StyledText::new(Tone::Heading, format!("{label:INDENT$}"))];
        line.extend_from_slice(parts);
        self.line(&line);
    }

    /// Adds a text with a label, on as many lines as needed.
    pub(crate) fn paragraph(&mut self, label: &str, tone: Tone, text: &str) {
        for (n, line) in wrap(&visible(text), self.width.saturating_sub(INDENT)).iter().enumerate() {
            self.labelled(if n == 0 { label } else { "" }, &[StyledText::new(tone, line)]);
        }
    }

    /// Adds a text with a mark in the margin, on as many lines as needed.
    pub(crate) fn marked(&mut self, mark: &str, tone: Tone, text: &str) {
        let margin = printable::width(mark) + 1;
        for (n, line) in wrap(&visible(text), self.width.saturating_sub(margin)).iter().enumerate() {
            let mark = if n == 0 { mark } else { "" };
            self.line(&[StyledText::new(tone, format!("{mark:margin$}{line}"))]);
        }
    }

    /// Adds a table with headings. Columns are as wide as their content. If the table is too wide, columns that may be cut shrink, the
    /// widest first.
    pub(crate) fn table<const N: usize>(&mut self, columns: &[Column; N], rows: &[[StyledText; N]]) {
        let widths = self.widths(columns, rows);
        let headings = columns.each_ref().map(|column| StyledText::new(Tone::Heading, column.heading));
        for row in std::iter::once(&headings).chain(rows) {
            let mut line = Vec::with_capacity(2 * N);
            for ((column, cell), width) in columns.iter().zip(row).zip(widths) {
                let text = shorten_end(&cell.text, width);
                let padding = StyledText::from(" ".repeat(width - printable::width(&text)));
                let cell = StyledText { tone: cell.tone, text };
                let space = StyledText::from(if line.is_empty() { "" } else { " " });
                line.push(space);
                match column.side {
                    Side::Left => line.extend([cell, padding]),
                    Side::Right => line.extend([padding, cell]),
                }
            }
            self.line(&line);
        }
    }

    fn widths<const N: usize>(&self, columns: &[Column; N], rows: &[[StyledText; N]]) -> [usize; N] {
        let mut widths = columns.each_ref().map(|column| column.heading.len());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let mut excess = (widths.iter().sum::<usize>() + N).saturating_sub(self.width + 1);
        while excess > 0 {
            let spare = |(n, column): (usize, &Column)| {
                let least = column.least?.max(column.heading.len());
                widths[n].checked_sub(least).filter(|spare| *spare > 0).map(|spare| (spare, n))
            };
            let Some((_, widest)) = columns.iter().enumerate().filter_map(spare).max() else { break };
            widths[widest] -= 1;
            excess -= 1;
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::printable::tests::{assert_safe, hostile};

    const COLUMNS: [Column; 3] = [
        Column { heading: "ID", side: Side::Right, least: None },
        Column { heading: "NAME", side: Side::Left, least: Some(4) },
        Column { heading: "FILTER", side: Side::Left, least: Some(6) },
    ];

    fn table(width: usize, paint: Paint) -> String {
        let mut sheet = Sheet::new(width, paint);
        let long =
            ["1234".into(), "a-名-\u{1b}[2J".into(), StyledText::new(Tone::Bad, "namespaces=kube-system")];
        sheet.table(&COLUMNS, &[["7".into(), "short".into(), "".into()], long]);
        sheet.into_text()
    }

    #[test]
    fn a_table_is_as_wide_as_its_content_and_at_most_as_wide_as_the_sheet() {
        assert_eq!(
            table(80, Paint(false)),
            "  ID NAME           FILTER
   7 short
1234 a-名-\\u{1b}[2J namespaces=kube-system
"
        );
        assert_eq!(
            table(30, Paint(false)),
            "  ID NAME        FILTER
   7 short
1234 a-名-\\u{1b… namespaces=k…
"
        );
        assert_eq!(table(16, Paint(false)).lines().map(printable::width).max(), Some(16));
        // A column that is narrower than its minimum stays unchanged.
        let mut sheet = Sheet::new(12, Paint(false));
        let columns = [Column { least: Some(15), ..COLUMNS[1] }, Column { least: Some(6), ..COLUMNS[2] }];
        sheet.table(&columns, &[["short".into(), "namespaces".into()]]);
        assert_eq!(sheet.into_text(), "NAME  FILTER\nshort names…\n");
        // A column that is never cut is cut by the sheet.
        assert_eq!(table(9, Paint(false)).lines().map(printable::width).max(), Some(9));
    }

    #[test]
    fn colours_have_no_width() {
        let text = table(30, Paint(true));
        assert!(text.contains("\x1b[1;31mnamespaces=k…\x1b[0m"), "{text:?}");
        assert!(!text.contains("\x1b[2J"), "{text:?}");
    }

    #[test]
    fn long_texts_are_wrapped_beside_their_label() {
        let mut sheet = Sheet::new(30, Paint(false));
        sheet.paragraph("QUIRKS", Tone::Plain, "one two three four five six seven");
        sheet.marked("!!", Tone::Bad, "one two three four five six seven");
        sheet.labelled("NODE", &["12345678901234567890".into(), "cut".into()]);
        assert_eq!(
            sheet.into_text(),
            "\
QUIRKS    one two three four
          five six seven
!! one two three four five six
   seven
NODE      12345678901234567890
"
        );
    }

    proptest! {
        #[test]
        fn a_sheet_has_no_control_characters_and_is_not_wider_than_the_screen(
            cells in prop::collection::vec([hostile(), hostile(), hostile()], 1..4), wide in 24_usize..100,
        ) {
            let mut sheet = Sheet::new(wide, Paint(false));
            let rows: Vec<[StyledText; 3]> = cells.iter().map(|row| row.each_ref().map(StyledText::from)).collect();
            sheet.table(&COLUMNS, &rows);
            for [label, text, more] in &cells {
                sheet.paragraph("LABEL", Tone::Plain, text);
                sheet.marked("!!", Tone::Bad, more);
                sheet.labelled("LABEL", &[label.into(), text.into()]);
            }
            let text = sheet.into_text();
            assert_safe(&text);
            prop_assert!(text.lines().all(|line| printable::width(line) <= wide), "{}", text);
            prop_assert!(text.lines().count() > cells.len());
        }
    }
}
