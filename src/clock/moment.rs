//! Moments of the monotonic clock and of the wall clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, UNIX_EPOCH},
};

/// Maximum drift of a slewed wall clock from the monotonic clock, per second: NTP slews by up to 500 ppm, chrony by more.
const SLEW_PER_SECOND: Duration = Duration::from_millis(1);

/// A moment on plegd's monotonic clock, in nanoseconds since a week before the clock was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub(super) u64);

/// A moment of the wall clock, in nanoseconds since 1970-01-01T00:00:00Z. It may be stepped in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub(super) i64);

// === impl Mono ===

impl Mono {
    /// The earliest moment.
    pub const ZERO: Mono = Mono(0);

    /// The moment `nanos` nanoseconds after the earliest.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time since `earlier`, or zero if that is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, by: Duration) -> Mono {
        Mono(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;

    fn sub(self, by: Duration) -> Mono {
        Mono(self.0.saturating_sub(nanos(by)))
    }
}

// === impl Wall ===

impl Wall {
    /// A moment from the nanoseconds of a CRI timestamp.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// A CRI timestamp, if it is valid: `None` for 0 (unset), for a negative one (containerd 2.x sends the year 1754 for a sandbox that it
    /// does not find), and for seconds instead of nanoseconds (CRI-O up to 1.31.0).
    pub fn from_cri(nanos: i64) -> Option<Self> {
        // 10^12 ns is a quarter of an hour past 1970; as seconds it is the year 33658.
        (nanos >= 1_000_000_000_000).then_some(Self(nanos))
    }

    /// Seconds from `earlier` to this, negative when the wall clock was stepped back between them.
    pub fn seconds_since(self, earlier: Wall) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with nanoseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No timestamp of a container is before 1970, and the formatter has no earlier year.
        let time = UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.0).unwrap_or(0));
        humantime::format_rfc3339_nanos(time).fmt(f)
    }
}

/// Maximum drift of a slewed wall clock from the monotonic clock in this time.
pub(crate) fn slewed_in(time: Duration) -> Duration {
    time.mul_f64(SLEW_PER_SECOND.as_secs_f64())
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
