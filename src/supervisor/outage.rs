//! Relists that fail one after the other: how loudly each is told of, and how long to wait before the next.

use std::time::Duration;

use crate::clock::Mono;

const RETRY_FIRST: Duration = Duration::from_millis(50);
/// A runtime that is away, or still starting, refuses at once, so that a try costs next to nothing: while it is being
/// restarted it is missed for no longer than this.
const RETRY_AWAY: Duration = Duration::from_millis(100);
/// A runtime that cannot be listed for so long is not just being restarted: somebody should look.
const HELP_AFTER: Duration = Duration::from_secs(60);

/// The failures since the last relist that went well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outage {
    failures: u32,
    since: Option<Mono>,
    called_for_help: bool,
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

    /// It is over. Says after how many failures; none if there was no outage.
    pub(super) fn end(&mut self) -> Option<u32> {
        let failures = std::mem::take(self).failures;
        (failures > 0).then_some(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_news_once_calls_for_help_once_and_is_retried_ever_more_seldom() {
        let mut outage = Outage::default();
        assert_eq!(outage.end(), None);
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
        assert_eq!(outage.end(), Some(200));
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
