//! Consecutive failed relists: how each is logged, and how long to wait before the next try. Pure: times are arguments.

use std::time::Duration;

use crate::clock::Mono;

const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait while the runtime is unavailable for less than [`ESCALATE_AFTER`]. A runtime that is being restarted refuses a
/// connection at once, so that a try costs next to nothing and plegd notices its return within this time.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(100);
/// After this time a failure is logged as an error: the runtime is not just being restarted.
const ESCALATE_AFTER: Duration = Duration::from_secs(60);

/// The failures since the last successful relist.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailureStreak {
    count: u32,
    since: Option<Mono>,
    escalated: bool,
}

/// How a failure is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogLevel {
    /// Not at all.
    None,
    /// The first failure.
    Warn,
    /// The first failure after [`ESCALATE_AFTER`].
    Error,
}

// === impl FailureStreak ===

impl FailureStreak {
    /// A relist failed; `unavailable` says whether the runtime did not respond at all. Returns how to log it, and the time until the next
    /// try, at most `longest`.
    pub(super) fn failed(&mut self, now: Mono, unavailable: bool, longest: Duration) -> (LogLevel, Duration) {
        let lasted = now.since(*self.since.get_or_insert(now));
        let level = if !self.escalated && lasted >= ESCALATE_AFTER {
            self.escalated = true;
            LogLevel::Error
        } else if self.count == 0 {
            LogLevel::Warn
        } else {
            LogLevel::None
        };
        let being_restarted = unavailable && lasted < ESCALATE_AFTER;
        let longest = if being_restarted { longest.min(RETRY_UNAVAILABLE) } else { longest };
        let wait = (RETRY_FIRST * (1 << self.count.min(16))).min(longest);
        self.count = self.count.saturating_add(1);
        (level, wait)
    }

    /// The number of failures.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A relist succeeded. Returns the number of failures and the time since the first; none if there was no failure.
    pub(super) fn end(&mut self, now: Mono) -> Option<(u32, Duration)> {
        let Self { count, since, .. } = std::mem::take(self);
        since.map(|since| (count, now.since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_a_warning_one_after_a_minute_an_error_and_the_waits_grow() {
        let mut failures = FailureStreak::default();
        assert_eq!(failures.end(Mono::ZERO), None);
        let second = Duration::from_secs(1);
        let start = Mono::ZERO + 100 * second;
        let mut logged = Vec::new();
        for at in 0..200 {
            let (level, wait) = failures.failed(start + at * second, false, second);
            assert_eq!(wait, (Duration::from_millis(50) * 2_u32.pow(at.min(10))).min(second));
            if level != LogLevel::None {
                logged.push((at, level));
            }
        }
        assert_eq!(logged, [(0, LogLevel::Warn), (60, LogLevel::Error)]);
        assert_eq!(failures.count(), 200);
        assert_eq!(failures.end(start + 200 * second), Some((200, 200 * second)));
        assert_eq!(failures.count(), 0);
        assert_eq!(failures.failed(start, false, second).0, LogLevel::Warn);
    }

    #[test]
    fn an_unavailable_runtime_is_retried_every_100_ms_for_a_minute() {
        let mut failures = FailureStreak::default();
        let second = Duration::from_secs(1);
        let waits: Vec<Duration> =
            (0..90).map(|at| failures.failed(Mono::ZERO + at * second, true, second).1).collect();
        assert_eq!(waits[0], RETRY_FIRST);
        assert!(waits[1..60].iter().all(|wait| *wait == RETRY_UNAVAILABLE), "{waits:?}");
        assert!(waits[60..].iter().all(|wait| *wait == second), "{waits:?}");
    }
}
