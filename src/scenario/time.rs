//! Times and durations in scenario files.

use std::time::Duration;

use serde_json::Value;

use super::json::{FormatError, Parse, expected};
use crate::clock::Wall;

const NANOS: f64 = 1e9;

/// A wall-clock time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// This many nanoseconds after the time of the step, or before it if negative.
    FromNow(i64),
    /// This many nanoseconds after 1970. Any value is allowed, as in CRI.
    At(i64),
}

/// A number of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

/// A number of seconds that may be negative, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shift(pub(super) i64);

// === impl Time ===

impl Time {
    /// The time in nanoseconds since 1970, for a step at `now`.
    pub fn nanos(self, now: Wall) -> i64 {
        match self {
            Self::FromNow(offset) => now.as_nanos().saturating_add(offset),
            Self::At(nanos) => nanos,
        }
    }

    /// The same time as an absolute one.
    pub(super) fn fixed(self, now: Wall) -> Self {
        Self::At(self.nanos(now))
    }

    fn of_text(text: &str) -> Option<Self> {
        if let Some(offset) = text.strip_prefix("now") {
            return offset_nanos(offset).map(Self::FromNow);
        }
        if let Ok(nanos) = text.parse() {
            return Some(Self::At(nanos));
        }
        rfc_3339_nanos(text).map(Self::At)
    }
}

impl Parse for Time {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let time = match value {
            Value::String(text) => Self::of_text(text),
            value => value.as_i64().map(Self::At),
        };
        let what = "a time (now, now-60, now+3600, nanoseconds since 1970 or RFC 3339)";
        time.ok_or_else(|| expected(what, value, place))
    }
}

fn offset_nanos(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    if !text.starts_with(['+', '-']) {
        return None;
    }
    nanos(text.parse().ok()?)
}

fn nanos(seconds: f64) -> Option<i64> {
    let nanos = (seconds * NANOS).round();
    // NaN fails this comparison too.
    (nanos.abs() < i64::MAX as f64).then_some(nanos as i64)
}

/// RFC 3339 in UTC or with an offset, as crictl prints it.
fn rfc_3339_nanos(text: &str) -> Option<i64> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let at = text.len().checked_sub("+00:00".len())?;
            let (local, offset) = text.split_at_checked(at)?;
            let (sign, rest) = (offset.get(..1)?, offset.get(1..)?);
            let (hours, minutes) = rest.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            (local, if sign == "-" { -minutes } else { minutes })
        }
    };
    let utc = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let since = utc.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()?.checked_sub(offset * 60 * 1_000_000_000)
}

// === impl Seconds ===

impl Parse for Seconds {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.map(Self).ok_or_else(|| expected("a number of seconds, not negative", value, place))
    }
}

// === impl Shift ===

impl Parse for Shift {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let shift = value.as_f64().and_then(nanos).map(Self);
        shift.ok_or_else(|| expected("a number of seconds", value, place))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_relative_absolute_or_as_crictl_prints_them() {
        let second = 1_000_000_000;
        for (value, time) in [
            (json!("now"), Time::FromNow(0)),
            (json!("now-60"), Time::FromNow(-60 * second)),
            (json!("now+3600"), Time::FromNow(3600 * second)),
            (json!("now-0.25"), Time::FromNow(-second / 4)),
            (json!(0), Time::At(0)),
            (json!(-6_795_364_578_871_345_152_i64), Time::At(-6_795_364_578_871_345_152)),
            (json!("1800000000000000001"), Time::At(1_800_000_000_000_000_001)),
            (json!("2027-01-15T08:00:00.5Z"), Time::At(1_800_000_000 * second + second / 2)),
            (json!("2027-01-15T10:00:00+02:00"), Time::At(1_800_000_000 * second)),
            (json!("2027-01-15T03:30:00-04:30"), Time::At(1_800_000_000 * second)),
        ] {
            assert_eq!(Time::parse(&value, "t"), Ok(time), "{value}");
        }
        for value in [json!("soon"), json!("now60"), json!("now-"), json!(1.5), json!(true), json!("é+00:00")]
        {
            assert!(Time::parse(&value, "t").is_err(), "{value}");
        }
    }
}
