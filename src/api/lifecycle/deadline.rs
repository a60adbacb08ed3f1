//! The deadline of a call, from the gRPC header `grpc-timeout`.

use std::time::Duration;

use tonic::{Status, metadata::MetadataMap};

use crate::api::truncate;

const HEADER: &str = "grpc-timeout";

/// The time that the caller waits; `None` without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline(Option<Duration>);

/// The deadline in the call's metadata.
pub(super) fn of(metadata: &MetadataMap) -> Result<Deadline, Status> {
    let Some(value) = metadata.get(HEADER) else { return Ok(Deadline(None)) };
    let timeout = value.to_str().ok().and_then(parse);
    timeout.map(|timeout| Deadline(Some(timeout))).ok_or_else(|| {
        Status::invalid_argument(format!("invalid {HEADER}: {}", truncate(&format!("{value:?}"), 32)))
    })
}

/// Parses at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

// === impl Deadline ===

impl Deadline {
    /// Runs `work` until the deadline.
    pub(super) async fn bound<T>(self, work: impl Future<Output = T>) -> Result<T, Status> {
        let Some(timeout) = self.0 else { return Ok(work.await) };
        let exceeded = |_| {
            let time = humantime::format_duration(timeout);
            Status::deadline_exceeded(format!("the call did not complete within its deadline of {time}"))
        };
        tokio::time::timeout(timeout, work).await.map_err(exceeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_parsed_and_nothing_else() {
        for (text, millis) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("4m", 4), ("5000u", 5), ("6000000n", 6)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1.5S", "1ä"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
