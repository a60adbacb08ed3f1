//! How long to wait before the stream is tried again.
//!
//! As the rewritten KEP-3386 asks for: at once, then exponentially longer with jitter, up to a minute; from the start again
//! only after the stream has held for a minute. It never gives up.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);
const HEALTHY: Duration = Duration::from_secs(60);
/// Each wait is shortened by up to this part, so that the agents of a fleet do not come back in step.
const JITTER: f64 = 0.3;

/// The waits between tries.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// How long to wait after a try that held for `held`.
    pub fn after(&mut self, held: Duration) -> Duration {
        if held >= HEALTHY {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures = self.failures.saturating_add(1);
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => jittered((FIRST * (1 << doublings.min(16))).min(LONGEST)),
        }
    }

    /// The longest wait: for a runtime that says it has no events, but may be replaced by one that has.
    pub fn longest(&mut self) -> Duration {
        jittered(LONGEST)
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_is_at_once_and_the_waits_grow_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<f64> = (0..30).map(|_| backoff.after(Duration::ZERO).as_secs_f64()).collect();
        assert_eq!(waits[0], 0.0);
        for (wait, longest) in waits[1..].iter().zip([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])
        {
            assert!(*wait <= longest && *wait >= longest * 0.69, "{wait} of {longest}");
        }
        assert!(waits.iter().all(|wait| *wait <= 60.0));
    }

    #[test]
    fn only_a_minute_of_health_starts_it_over() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after(Duration::from_secs(59));
        }
        assert!(backoff.after(Duration::from_secs(59)) > Duration::from_secs(1));
        assert_eq!(backoff.after(Duration::from_secs(60)), Duration::ZERO);
    }
}
