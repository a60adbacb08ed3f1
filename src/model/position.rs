//! A position in the journal.

use std::{fmt, str::FromStr, time::Duration};

use super::ResumeGap;
use crate::clock::Wall;

/// A position in the journal of one epoch. As text `1f2e3d4c5b6a7988:42`: the epoch in hexadecimal, and the sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch: sequence numbers of different epochs cannot be compared.
    pub epoch: u64,
    /// Number of the last event that is included; 0 before the first event.
    pub sequence: u64,
}

/// A text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position; one is 16 hexadecimal digits, a colon and a number, such as 1f2e3d4c5b6a7988:42"
)]
pub struct ParsePositionError(String);

/// Why events after a position are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The journal has evicted them: the subscriber is too slow, or was disconnected for too long.
    Compacted,
    /// The position is of another epoch.
    ForeignEpoch,
    /// The position is past the head.
    InFuture,
}

/// A restart of plegd within an epoch: events continue after it without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Number of the last event that was published before it was known.
    pub after: u64,
    /// The last moment at which the previous process was known to run.
    pub down_since: Wall,
    /// When the new process was started.
    pub up_since: Wall,
    /// The time between these on a clock that is never stepped, and runs while the machine is suspended.
    pub down_for: Duration,
    /// Containers that were created and removed in between may have been missed: the runtime has not replayed its events.
    pub blind: bool,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.sequence)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let parse = || {
            let (epoch, sequence) = text.split_once(':')?;
            let digits = |text: &str, all: fn(&char) -> bool| text.chars().all(|c| all(&c));
            let whole = epoch.len() == 16
                && digits(epoch, char::is_ascii_hexdigit)
                && digits(sequence, char::is_ascii_digit);
            whole.then_some(())?;
            Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| ParsePositionError(text.to_owned()))
    }
}

// === impl GapReason ===

impl GapReason {
    /// The cause of the gap if the subscriber resumes.
    pub(crate) fn resume_gap(self) -> ResumeGap {
        match self {
            Self::Compacted => ResumeGap::CameLate,
            Self::ForeignEpoch | Self::InFuture => ResumeGap::OtherEpoch,
        }
    }

    /// Whether the subscriber is the cause: it was too slow, or disconnected for too long.
    pub fn is_caused_by_subscriber(self) -> bool {
        self.resume_gap() == ResumeGap::CameLate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_parsed_from_its_text() {
        for (epoch, sequence) in [(0, 0), (1, 42), (u64::MAX, u64::MAX)] {
            let position = Position { epoch, sequence };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!(Position { epoch: 255, sequence: 7 }.to_string(), "00000000000000ff:7");
    }

    #[test]
    fn invalid_positions_are_rejected() {
        for text in [
            "",
            ":",
            "1:2",
            "00000000000000ff",
            "00000000000000ff:",
            "00000000000000ff:-1",
            "+0000000000000ff:1",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert!("00000000000000ff:99999999999999999999".parse::<Position>().is_err());
    }
}
