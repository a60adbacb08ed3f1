//! The limit on runtime reads that all clients together may cause.

use std::time::Duration;

use parking_lot::Mutex;

use crate::{clock::Mono, config::Live};

/// A token bucket that holds the reads of one second.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: Live<usize>,
    left: Mutex<(f64, Mono)>,
}

// === impl Allowance ===

impl Allowance {
    pub(super) fn new(per_second: Live<usize>, now: Mono) -> Self {
        let left = per_second.get() as f64;
        Self { per_second, left: Mutex::new((left, now)) }
    }

    /// Takes a read from the allowance, if one is left.
    pub(super) fn take(&self, now: Mono) -> bool {
        let per_second = self.per_second.get() as f64;
        let mut left = self.left.lock();
        let (before, at) = *left;
        let grown = before + now.since(at).min(Duration::from_secs(1)).as_secs_f64() * per_second;
        let there = grown.min(per_second);
        let taken = there >= 1.0;
        *left = (if taken { there - 1.0 } else { there }, now.max(at));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_up_and_comes_back_with_time() {
        let at = |millis| Mono::ZERO + Duration::from_millis(millis);
        let allowance = Allowance::new(10.into(), at(0));
        assert_eq!((0..20).filter(|_| allowance.take(at(0))).count(), 10);
        assert_eq!((0..20).filter(|_| allowance.take(at(250))).count(), 2);
        assert_eq!((0..20).filter(|_| allowance.take(at(60_000))).count(), 10);
    }
}
