//! Limits how often something is logged for each key.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;

use crate::clock::{Clock, Mono};

/// The number of keys stored. Beyond it the oldest is dropped, and its next log line may come too early.
const REMEMBERED: usize = 256;

/// Stores the keys that were logged recently.
pub(crate) struct Seldom<K> {
    period: Duration,
    clock: Clock,
    told: Mutex<HashMap<K, Mono>>,
}

// === impl Seldom ===

impl<K: Hash + Eq + Clone> Seldom<K> {
    pub(crate) fn new(period: Duration, clock: Clock) -> Self {
        Self { period, clock, told: Mutex::default() }
    }

    /// Whether a log line for the key is due. If so, the key counts as logged now.
    pub(crate) fn is_due(&self, whom: &K) -> bool {
        let now = self.clock.now();
        let mut told = self.told.lock();
        if told.get(whom).is_some_and(|at| now.since(*at) < self.period) {
            return false;
        }
        if told.len() >= REMEMBERED && !told.contains_key(whom) {
            told.retain(|_, at| now.since(*at) < self.period);
            let oldest = told.iter().min_by_key(|(_, at)| **at).map(|(whom, _)| whom.clone());
            if let (true, Some(oldest)) = (told.len() >= REMEMBERED, oldest) {
                told.remove(&oldest);
            }
        }
        told.insert(whom.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_told_of_once_in_a_while_and_few_are_remembered() {
        let seldom = Seldom::new(Duration::from_secs(60), Clock::system());
        assert!(seldom.is_due(&1));
        assert!(!seldom.is_due(&1) && seldom.is_due(&2));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(seldom.is_due(&1));
        for whom in 0..10_000 {
            seldom.is_due(&whom);
            assert!(seldom.told.lock().len() <= REMEMBERED);
        }
        assert!(!seldom.is_due(&9_999));
    }
}
