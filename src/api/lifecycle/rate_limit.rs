//! The limit on runtime reads that all clients together may cause.

use std::time::Duration;

use parking_lot::Mutex;

use crate::{clock::Mono, config::Live};

/// A token bucket that holds the reads of one second.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: Live<usize>,
    /// Tokens left, and the time of this count.
    tokens: Mutex<(f64, Mono)>,
}

// === impl RateLimit ===

impl RateLimit {
    pub(super) fn new(per_second: Live<usize>, now: Mono) -> Self {
        let tokens = per_second.get() as f64;
        Self { per_second, tokens: Mutex::new((tokens, now)) }
    }

    /// Takes a token for one read, if one is left.
    pub(super) fn acquire(&self, now: Mono) -> bool {
        let per_second = self.per_second.get() as f64;
        let mut tokens = self.tokens.lock();
        let (before, at) = *tokens;
        let refilled = before + now.since(at).min(Duration::from_secs(1)).as_secs_f64() * per_second;
        let available = refilled.min(per_second);
        let acquired = available >= 1.0;
        *tokens = (if acquired { available - 1.0 } else { available }, now.max(at));
        acquired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_used_up_and_refilled_over_time() {
        let at = |millis| Mono::ZERO + Duration::from_millis(millis);
        let limit = RateLimit::new(10.into(), at(0));
        assert_eq!((0..20).filter(|_| limit.acquire(at(0))).count(), 10);
        assert_eq!((0..20).filter(|_| limit.acquire(at(250))).count(), 2);
        assert_eq!((0..20).filter(|_| limit.acquire(at(60_000))).count(), 10);
    }
}
