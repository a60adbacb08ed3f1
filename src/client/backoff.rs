//! The backoff of a watch between connection attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Each wait is shortened by up to this fraction, so that the agents of a node do not reconnect at the same time.
const JITTER: f64 = 0.5;

/// Exponential backoff with jitter: 100 ms, doubled up to 5 s. The number of attempts is not limited.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// The wait after one more failure.
    pub(super) fn failed(&mut self) -> Duration {
        let wait = (FIRST * (1 << self.failures.min(16))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(1.0 - JITTER * fastrand::f64())
    }

    /// Resets: the next wait is the shortest again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_are_reset_after_a_success() {
        let mut backoff = Backoff::default();
        for longest in [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] {
            let wait = backoff.failed().as_secs_f64();
            assert!(wait <= longest && wait >= longest * 0.49, "{wait} of {longest}");
        }
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST);
    }
}
