//! Escapes text from outside, so that it is safe to print.
//!
//! The names of pods and containers, reasons, messages and errors come from the runtime, and a pod that was created
//! by hand may have any name. This module defines which characters never reach a terminal, and how each output format
//! escapes them. It never drops text: every escape shows the character's code point, and JSON and YAML parse back to
//! the same text.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use serde::Serialize;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};
use unicode_width::UnicodeWidthChar as _;

/// Whether a character must not reach a terminal unescaped, because it controls the terminal or is invisible.
///
/// | characters | general category |
/// | --- | --- |
/// | C0, DEL and C1 controls | `Cc` |
/// | bidirectional and other format controls, tags, soft hyphen, byte order mark | `Cf` |
/// | surrogates, private use and unassigned code points: without a known glyph or width | `Cs`, `Co`, `Cn` |
/// | line and paragraph separator | `Zl`, `Zp` |
/// | invisible letters and marks: fillers, joiners, variation selectors | see [`is_invisible`] |
pub(crate) fn is_unsafe(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = c.general_category();
    c.general_category_group() == GeneralCategoryGroup::Other
        || matches!(category, GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator)
        || is_invisible(c)
}

/// Letters and marks with the Unicode property `Default_Ignorable_Code_Point`; all other characters with it have the
/// category `Cf` or `Cn`.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// The text on one line, with unsafe characters escaped as Rust and `tracing` do: `\n`, `\u{1b}`, `\u{202e}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe, |out, c| write!(out, "{}", c.escape_default()))
}

/// As [`visible`], but keeps line feeds.
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe_in_lines, |out, c| write!(out, "{}", c.escape_default()))
}

/// The value as JSON on one line.
///
/// # Errors
///
/// If it cannot be serialized.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(safe_json(serde_json::to_string(value)?))
}

/// The value as indented JSON.
///
/// # Errors
///
/// If it cannot be serialized.
pub(crate) fn json_pretty(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(safe_json(serde_json::to_string_pretty(value)?))
}

/// Escapes unsafe characters as `\uXXXX`; the JSON parses to the same value. They occur only within strings: outside,
/// JSON is ASCII and has no control character except the line feed.
pub(crate) fn safe_json(json: String) -> String {
    let safe = escaped(&json, is_unsafe_in_lines, |out, c| {
        c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
    });
    match safe {
        Cow::Owned(safe) => safe,
        Cow::Borrowed(_) => json,
    }
}

/// The value as YAML. Strings with unsafe characters become double-quoted scalars.
///
/// # Errors
///
/// If it cannot be serialized.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String, serde_saphyr::ser_error::Error> {
    let yaml = serde_saphyr::to_string(value)?;
    if !yaml.contains(is_unsafe_in_lines) {
        return Ok(yaml);
    }
    // Without block scalars each scalar is on one line, plain or double-quoted, so a line shows where it begins and
    // ends.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let yaml = serde_saphyr::to_string_with_options(value, options)?;
    let mut safe = String::with_capacity(yaml.len() + 64);
    for line in yaml.lines() {
        if line.contains(is_unsafe) {
            yaml_line(&mut safe, line);
        } else {
            safe.push_str(line);
        }
        safe.push('\n');
    }
    Ok(safe)
}

/// The columns that a terminal needs for a text: 2 for a wide character, 0 for a combining mark. Terminals add up the
/// widths of single characters, so this does the same.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The columns that a terminal needs for a character.
pub(crate) fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The longest prefix that fits into this many columns, including combining marks.
pub(crate) fn prefix(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|&(_, c)| {
        used += char_width(c);
        used > columns
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// The longest suffix that fits into this many columns, not beginning with a combining mark.
pub(crate) fn suffix(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        used += char_width(c);
        if used > columns {
            break;
        }
        if char_width(c) > 0 {
            start = at;
        }
    }
    &text[start..]
}

fn is_unsafe_in_lines(c: char) -> bool {
    c != '\n' && is_unsafe(c)
}

fn escaped(
    text: &str,
    is_unsafe: fn(char) -> bool,
    escape: impl Fn(&mut String, char) -> fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a string cannot fail.
            let _ = escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A line of block YAML with unsafe characters: `- key: scalar`, each part optional.
fn yaml_line(out: &mut String, line: &str) {
    let mut rest = line.trim_start_matches(' ');
    while let Some(item) = rest.strip_prefix("- ") {
        rest = item.trim_start_matches(' ');
    }
    out.push_str(&line[..line.len() - rest.len()]);
    // A plain key contains no colon; a plain scalar contains none before a space.
    let key_end = match rest.strip_prefix('"') {
        Some(quoted) => 1 + quoted_end(quoted),
        None => rest.find(": ").or_else(|| rest.strip_suffix(':').map(str::len)).unwrap_or(rest.len()),
    };
    let (first, after) = rest.split_at(key_end);
    yaml_scalar(out, first);
    match after.strip_prefix(": ") {
        Some(value) => {
            out.push_str(": ");
            yaml_scalar(out, value);
        }
        None => out.push_str(after),
    }
}

/// The length of a double-quoted scalar after its opening quote, including the closing quote.
fn quoted_end(quoted: &str) -> usize {
    let mut escaped = false;
    let closing = quoted.char_indices().find(|&(_, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    closing.map_or(quoted.len(), |(at, _)| at + 1)
}

/// Writes a YAML scalar that is plain or already double-quoted.
fn yaml_scalar(out: &mut String, scalar: &str) {
    let escape = |out: &mut String, c: char| match u32::from(c) {
        code @ ..=0xffff => write!(out, "\\u{code:04X}"),
        code => write!(out, "\\U{code:08X}"),
    };
    if !scalar.contains(is_unsafe) {
        out.push_str(scalar);
    } else if scalar.starts_with('"') {
        out.push_str(&escaped(scalar, is_unsafe, escape));
    } else {
        let quoted = scalar.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(out, "\"{}\"", escaped(&quoted, is_unsafe, escape));
    }
}

#[cfg(test)]
pub(crate) mod tests;
