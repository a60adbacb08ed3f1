//! Limits how often a log line is written for each key.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;

use crate::clock::{Clock, Mono};

/// The number of keys stored. Beyond it the oldest is dropped, and its next log line may come too early.
const MAX_KEYS: usize = 256;

/// Allows one log line for each key and period.
pub(crate) struct LogRateLimit<K> {
    period: Duration,
    clock: Clock,
    last_logged: Mutex<HashMap<K, Mono>>,
}

// === impl LogRateLimit ===

impl<K: Hash + Eq + Clone> LogRateLimit<K> {
    pub(crate) fn new(period: Duration, clock: Clock) -> Self {
        Self { period, clock, last_logged: Mutex::default() }
    }

    /// Whether a log line for the key may be written. If so, the key counts as logged now.
    pub(crate) fn allow(&self, key: &K) -> bool {
        let now = self.clock.now();
        let mut last_logged = self.last_logged.lock();
        if last_logged.get(key).is_some_and(|at| now.since(*at) < self.period) {
            return false;
        }
        if last_logged.len() >= MAX_KEYS && !last_logged.contains_key(key) {
            last_logged.retain(|_, at| now.since(*at) < self.period);
            let oldest = last_logged.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            if let (true, Some(oldest)) = (last_logged.len() >= MAX_KEYS, oldest) {
                last_logged.remove(&oldest);
            }
        }
        last_logged.insert(key.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_key_is_logged_once_in_a_period_and_few_keys_are_stored() {
        let limit = LogRateLimit::new(Duration::from_secs(60), Clock::system());
        assert!(limit.allow(&1));
        assert!(!limit.allow(&1) && limit.allow(&2));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(limit.allow(&1));
        for key in 0..10_000 {
            limit.allow(&key);
            assert!(limit.last_logged.lock().len() <= MAX_KEYS);
        }
        assert!(!limit.allow(&9_999));
    }
}
