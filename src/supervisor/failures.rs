//! Relists that fail one after the other: how loudly each is told of, and how long to wait before the next.

use std::time::Duration;

use crate::clock::{Mono, Wall};

const RETRY_FIRST: Duration = Duration::from_millis(50);
/// A runtime that is away, or still starting, refuses at once, so that a try costs next to nothing: while it is being
/// restarted it is missed for no longer than this.
const RETRY_AWAY: Duration = Duration::from_millis(100);
/// A runtime that cannot be listed for so long is not just being restarted: somebody should look.
const HELP_AFTER: Duration = Duration::from_secs(60);
/// So many failures in a row are no passing error: nothing checks the stream, and what is served may be stale.
const PERSISTENT: u32 = 2;

/// The failures since the last relist that went well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outage {
    failures: u32,
    since: Option<Mono>,
    called_for_help: bool,
}

/// Relists that have failed one after the other, until one succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelistFailures {
    /// How many.
    pub count: u32,
    /// When the first of them began: since then the runtime gives no lists.
    pub since: Wall,
    /// Why the last one failed.
    pub last_error: String,
}

/// How loudly a failure is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loudness {
    /// Not at all: it was told.
    Silent,
    /// It is news.
    News,
    /// It has lasted for too long.
    CallForHelp,
}

// === impl RelistFailures ===

impl RelistFailures {
    /// Whether the runtime counts as one that cannot be listed. One failure alone may be a passing error.
    pub fn persist(&self) -> bool {
        self.count >= PERSISTENT
    }

    /// Whether this failure is the one that makes the difference.
    pub(super) fn begin_to_persist(&self) -> bool {
        self.count == PERSISTENT
    }
}

// === impl Outage ===

impl Outage {
    /// One more, since the runtime is `away` or gave no list. Says how loudly it is told of, and after how long the next try
    /// is due, which is `longest` at most.
    pub(super) fn failed(&mut self, now: Mono, away: bool, longest: Duration) -> (Loudness, Duration) {
        let since = *self.since.get_or_insert(now);
        let loudness = if !self.called_for_help && now.since(since) >= HELP_AFTER {
            self.called_for_help = true;
            Loudness::CallForHelp
        } else if self.failures == 0 {
            Loudness::News
        } else {
            Loudness::Silent
        };
        let being_restarted = away && now.since(since) < HELP_AFTER;
        let longest = if being_restarted { longest.min(RETRY_AWAY) } else { longest };
        let wait = (RETRY_FIRST * (1 << self.failures.min(16))).min(longest);
        self.failures = self.failures.saturating_add(1);
        (loudness, wait)
    }

    /// How many relists have failed, one after the other.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// It is over. Says after how many failures, and how long after the first; none if there was no outage.
    pub(super) fn end(&mut self, now: Mono) -> Option<(u32, Duration)> {
        let Self { failures, since, .. } = std::mem::take(self);
        since.map(|since| (failures, now.since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_news_once_calls_for_help_once_and_is_retried_ever_more_seldom() {
        let mut outage = Outage::default();
        assert_eq!(outage.end(Mono::ZERO), None);
        let second = Duration::from_secs(1);
        let start = Mono::ZERO + 100 * second;
        let mut told = Vec::new();
        for at in 0..200 {
            let (loudness, wait) = outage.failed(start + at * second, false, second);
            assert_eq!(wait, (Duration::from_millis(50) * 2_u32.pow(at.min(10))).min(second));
            if loudness != Loudness::Silent {
                told.push((at, loudness));
            }
        }
        assert_eq!(told, [(0, Loudness::News), (60, Loudness::CallForHelp)]);
        assert_eq!(outage.failures(), 200);
        assert_eq!(outage.end(start + 200 * second), Some((200, 200 * second)));
        assert_eq!(outage.failures(), 0);
        assert_eq!(outage.failed(start, false, second).0, Loudness::News);
    }

    #[test]
    fn a_runtime_that_is_being_restarted_is_tried_again_and_again_for_a_minute() {
        let mut outage = Outage::default();
        let second = Duration::from_secs(1);
        let waits: Vec<Duration> =
            (0..90).map(|at| outage.failed(Mono::ZERO + at * second, true, second).1).collect();
        assert_eq!(waits[0], RETRY_FIRST);
        assert!(waits[1..60].iter().all(|wait| *wait == RETRY_AWAY), "{waits:?}");
        assert!(waits[60..].iter().all(|wait| *wait == second), "{waits:?}");
    }
}
