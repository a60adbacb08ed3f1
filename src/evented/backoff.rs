//! The delay before the stream is opened again.
//!
//! As the rewritten KEP-3386 requires: at once, then exponentially longer with jitter, up to a minute. It is reset only after the stream
//! was up for a minute. Retries never end.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);
const HEALTHY: Duration = Duration::from_secs(60);
/// Each delay is shortened by up to this fraction, so that the agents of a fleet do not reconnect at the same time.
const JITTER: f64 = 0.3;

/// The delays between tries.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// The delay after a stream that was up for `held`.
    pub fn next_delay(&mut self, held: Duration) -> Duration {
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

    /// The longest delay: for a runtime without events, which may be replaced by one with events.
    pub fn longest_delay(&mut self) -> Duration {
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
    fn the_first_retry_is_at_once_and_the_delays_grow_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<f64> = (0..30).map(|_| backoff.next_delay(Duration::ZERO).as_secs_f64()).collect();
        assert_eq!(waits[0], 0.0);
        for (wait, longest) in waits[1..].iter().zip([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])
        {
            assert!(*wait <= longest && *wait >= longest * 0.69, "{wait} of {longest}");
        }
        assert!(waits.iter().all(|wait| *wait <= 60.0));
    }

    #[test]
    fn only_a_minute_with_the_stream_resets_the_delays() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next_delay(Duration::from_secs(59));
        }
        assert!(backoff.next_delay(Duration::from_secs(59)) > Duration::from_secs(1));
        assert_eq!(backoff.next_delay(Duration::from_secs(60)), Duration::ZERO);
    }
}
