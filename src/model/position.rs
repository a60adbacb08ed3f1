//! A place in the journal.

use std::{fmt, str::FromStr};

use super::ResumeGap;

/// A place in the journal of one run of plegd. As text `1f2e3d4c5b6a7988:42`: the epoch in hexadecimal, and the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which run: another one begins another journal, with another epoch.
    pub epoch: u64,
    /// Number of the last event that is included; 0 before the first.
    pub sequence: u64,
}

/// A text is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position; one is 16 hexadecimal digits, a colon and a number, such as 1f2e3d4c5b6a7988:42"
)]
pub struct NoPosition(String);

/// Why events after a position are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// They are no longer held: the watcher is too slow or came too late.
    Compacted,
    /// The position is of another run of plegd.
    ForeignEpoch,
    /// The position is past the head.
    InFuture,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.sequence)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let parse = || {
            let (epoch, sequence) = text.split_once(':')?;
            let digits = |text: &str, all: fn(&char) -> bool| text.chars().all(|c| all(&c));
            let whole = epoch.len() == 16
                && digits(epoch, char::is_ascii_hexdigit)
                && digits(sequence, char::is_ascii_digit);
            whole.then_some(())?;
            Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| NoPosition(text.to_owned()))
    }
}

// === impl GapReason ===

impl GapReason {
    /// The cause of such a gap where a watcher resumes.
    pub(crate) fn of_resume(self) -> ResumeGap {
        match self {
            Self::Compacted => ResumeGap::CameLate,
            Self::ForeignEpoch | Self::InFuture => ResumeGap::OtherEpoch,
        }
    }

    /// Whether the watcher is the cause: it was too slow, or disconnected for too long.
    pub fn is_of_the_watcher(self) -> bool {
        self.of_resume() == ResumeGap::CameLate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (epoch, sequence) in [(0, 0), (1, 42), (u64::MAX, u64::MAX)] {
            let position = Position { epoch, sequence };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!(Position { epoch: 255, sequence: 7 }.to_string(), "00000000000000ff:7");
    }

    #[test]
    fn what_is_no_position_is_refused() {
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
