//! Human-readable names, times and numbers; colours; and shortening of texts.
//!
//! Pure: the time and the use of colours come in as values.

use std::time::Duration;

use prost_types::{Duration as WireDuration, Timestamp};

pub(crate) use crate::client::wall;
use crate::{
    clock::Wall,
    printable::{prefix, suffix, width},
};

/// Writes colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

/// The meaning of a text's colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// No colour.
    #[default]
    Plain,
    /// A heading.
    Heading,
    /// A normal state.
    Good,
    /// A state that needs attention.
    Warn,
    /// An error.
    Bad,
    /// A minor detail.
    Dim,
}

// === impl Paint ===

impl Paint {
    /// The text in the colour of its tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
        };
        if !self.0 || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

// === impl Tone ===

impl Tone {
    /// `Warn` if there is any, else `Plain`.
    pub(crate) fn warn_if(any: bool) -> Self {
        if any { Tone::Warn } else { Tone::Plain }
    }
}

/// Keeps the beginning, in at most `columns` columns.
pub(crate) fn shorten_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}…", prefix(text, columns.saturating_sub(1)))
}

/// Keeps both ends: the beginning of a pod's name identifies its workload, the end the pod.
pub(crate) fn shorten_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    format!("{}…{}", prefix(text, kept - kept / 2), suffix(text, kept / 2))
}

/// The text, padded with spaces to `columns` columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let padding = columns.saturating_sub(width(text));
    format!("{text}{:padding$}", "")
}

/// Lines of words, each of at most `columns` columns; a longer word is cut.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = shorten_end(word, columns);
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(&word) <= columns => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// A duration from the API; zero if it is negative or not set.
pub(crate) fn duration(wire: Option<&WireDuration>) -> Duration {
    wire.and_then(|wire| Duration::try_from(*wire).ok()).unwrap_or_default()
}

/// The time since `at`; zero if that is in the future, as after a clock step.
pub(crate) fn age(now: Wall, at: &Timestamp) -> Duration {
    Duration::try_from_secs_f64(now.seconds_since(wall(at))).unwrap_or_default()
}

/// The time until `at`; zero if that is past.
pub(crate) fn until(now: Wall, at: &Timestamp) -> Duration {
    Duration::try_from_secs_f64(wall(at).seconds_since(now)).unwrap_or_default()
}

/// `2027-01-15 08:00:00Z`.
pub(crate) fn date_and_time(at: Wall) -> String {
    let text = at.to_string();
    format!("{} {}Z", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}

/// A span of time by its two largest units: `0.3s`, `23s`, `3m 5s`, `2h 13m`, `3d 4h`.
pub(crate) fn span(time: Duration) -> String {
    let two = |large: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit} {small}{part}"),
    };
    match time.as_secs() {
        0..10 if time.as_millis() >= 9_950 => "10s".into(),
        0..10 => format!("{:.1}", time.as_secs_f64()).trim_end_matches(".0").to_owned() + "s",
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3_600 => two(secs / 60, "m", secs % 60, "s"),
        secs @ 3_600..86_400 => two(secs / 3_600, "h", secs % 3_600 / 60, "m"),
        secs => two(secs / 86_400, "d", secs % 86_400 / 3_600, "h"),
    }
}

/// A short time with about two significant digits: `0.44ms`, `1.5ms`, `12ms`, `1.3s`.
pub(crate) fn latency(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        ..0.995 => format!("{millis:.2}ms"),
        ..9.95 => format!("{millis:.1}ms"),
        ..999.5 => format!("{millis:.0}ms"),
        _ => span(time),
    }
}

/// `1,234,567`.
pub(crate) fn count(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 pod`, `2 pods`.
pub(crate) fn counted(number: impl Into<u64>, one: &str) -> String {
    let number = number.into();
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `812 B`, `3.2 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened_in_the_middle() {
        assert_eq!(shorten_middle("kube-system/coredns", 19), "kube-system/coredns");
        assert_eq!(shorten_middle("kube-system/coredns-7db6d8ff4d-x2x9z", 18), "kube-syst…4d-x2x9z");
        assert_eq!(shorten_middle("ünïcödé/pöd", 6), "ünï…öd");
        assert_eq!(shorten_middle("abc", 1), "…");
    }

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        assert_eq!(
            (shorten_end("漢字漢字", 8), shorten_end("漢字漢字", 6)),
            ("漢字漢字".into(), "漢字…".into())
        );
        assert_eq!(shorten_middle("漢字漢字漢字", 7), "漢…字");
        assert_eq!(shorten_end("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
        assert_eq!((padded("漢", 4), padded("漢字", 2)), ("漢  ".into(), "漢字".into()));
        assert_eq!(wrap("漢字 漢字 x", 9), ["漢字 漢字", "x"]);
    }

    #[test]
    fn spans_have_at_most_two_units() {
        for (millis, text) in [
            (0, "0s"),
            (300, "0.3s"),
            (1_000, "1s"),
            (5_960, "6s"),
            (9_949, "9.9s"),
            (9_960, "10s"),
            (23_400, "23s"),
            (60_000, "1m"),
            (185_000, "3m 5s"),
            (7_980_000, "2h 13m"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text, "{millis}");
        }
        for (micros, text) in [
            (0, "0.00ms"),
            (440, "0.44ms"),
            (1_500, "1.5ms"),
            (12_400, "12ms"),
            (999_400, "999ms"),
            (1_300_000, "1.3s"),
        ] {
            assert_eq!(latency(Duration::from_micros(micros)), text, "{micros}");
        }
    }

    #[test]
    fn numbers_have_separators_and_units() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number as u64), text);
        }
        assert_eq!(counted(1_u32, "pod"), "1 pod");
        assert_eq!(counted(0_u32, "pod"), "0 pods");
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3_355_443, "3.2 MiB"),
            (1 << 41, "2.0 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_out_of_range_are_formatted_without_a_panic() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(date_and_time(wall(&at(1_800_000_000, 5))), "2027-01-15 08:00:00Z");
        assert_eq!(date_and_time(wall(&at(i64::MIN, -5))), "1970-01-01 00:00:00Z");
        assert_eq!(date_and_time(wall(&at(i64::MAX, i32::MAX))).len(), 20);
        let now = Wall::from_nanos(1_800_000_000_000_000_000);
        assert_eq!(age(now, &at(1_799_999_990, 0)), Duration::from_secs(10));
        assert_eq!(age(now, &at(1_900_000_000, 0)), Duration::ZERO);
        assert_eq!(duration(Some(&WireDuration { seconds: -1, nanos: 0 })), Duration::ZERO);
    }

    #[test]
    fn words_are_wrapped_and_never_longer_than_the_line() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("incomprehensible", 5), ["inco…"]);
        assert!(wrap("", 5).is_empty());
    }
}
