//! The limit of concurrent reads: 4 at first, and more for as long as the runtime responds as fast.
//!
//! A runtime that waits for I/O answers many calls as fast as one. A runtime that computes does not: more calls only wait for each other,
//! and delay the kubelet's calls as well. The latency of a call, compared with a baseline, distinguishes them, as in TCP Vegas. Pure:
//! times are arguments.

use std::time::Duration;

use crate::model::Subject;

/// The smallest limit.
const MIN_LIMIT: usize = 4;
/// A reply slower than this multiple of the baseline is taken as queueing.
const QUEUEING_FACTOR: f64 = 2.5;
/// Weight of a new sample in the moving baseline latency (EWMA), used only while the limit is at its minimum.
const BASELINE_WEIGHT: f64 = 0.05;
/// Shorter latencies count as this long, so that noise is not taken as queueing.
const LATENCY_FLOOR: Duration = Duration::from_micros(300);

/// An adaptive limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConcurrencyLimiter {
    limit: f64,
    /// Baseline latency in seconds, for sandboxes and for containers.
    baseline: [Option<f64>; 2],
    /// Whether the limit doubles per round: until the first reply that shows queueing.
    slow_start: bool,
    /// Replies to wait for before the limit may shrink again: reads already in flight were sent under the old limit.
    cooldown: usize,
}

// === impl ConcurrencyLimiter ===

impl Default for ConcurrencyLimiter {
    fn default() -> Self {
        Self { limit: MIN_LIMIT as f64, baseline: [None; 2], slow_start: true, cooldown: 0 }
    }
}

impl ConcurrencyLimiter {
    /// The limit, at most `max`.
    pub(super) fn limit(&self, max: usize) -> usize {
        (self.limit as usize).min(max)
    }

    /// A status call took `took`. `idle` says whether fewer reads were running than the limit allows.
    pub(super) fn record(&mut self, subject: Subject, took: Duration, idle: bool, max: usize) {
        let seconds = took.max(LATENCY_FLOOR).as_secs_f64();
        // Among many calls the latency may include queueing, which must not become the baseline.
        let weight = if self.limit as usize <= MIN_LIMIT { BASELINE_WEIGHT } else { 0.0 };
        let known = &mut self.baseline[subject as usize];
        let baseline = known.map_or(seconds, |baseline| {
            if seconds < baseline { seconds } else { baseline + weight * (seconds - baseline) }
        });
        *known = Some(baseline);
        self.cooldown = self.cooldown.saturating_sub(1);
        if seconds > QUEUEING_FACTOR * baseline {
            if self.cooldown == 0 {
                self.slow_start = false;
                self.limit = (0.75 * self.limit).max(MIN_LIMIT as f64);
                self.cooldown = self.limit as usize;
            }
        } else if !idle {
            // Doubles with each round during slow start; afterwards it grows by one per round.
            let step = if self.slow_start { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + step).min(max.max(MIN_LIMIT) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit after rounds of reads. `took` is the latency of each read at a given concurrency.
    fn after(
        rounds: usize,
        limiter: &mut ConcurrencyLimiter,
        max: usize,
        took: impl Fn(usize) -> Duration,
    ) -> usize {
        for _ in 0..rounds {
            let limit = limiter.limit(max);
            (0..limit).for_each(|_| limiter.record(Subject::Container, took(limit), false, max));
        }
        limiter.limit(max)
    }

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn the_limit_doubles_while_the_latency_stays_the_same() {
        let mut limiter = ConcurrencyLimiter::default();
        assert_eq!(limiter.limit(64), 4);
        assert_eq!(after(1, &mut limiter, 64, |_| ms(2.0)), 8);
        assert_eq!(after(2, &mut limiter, 64, |_| ms(2.0)), 32);
        assert_eq!(after(9, &mut limiter, 64, |_| ms(2.0)), 64);
    }

    #[test]
    fn the_limit_stays_low_where_calls_wait_for_each_other() {
        // Two cores and 1 ms per call: with more than two calls, each waits for the others.
        let mut limiter = ConcurrencyLimiter::default();
        let two_cores = |limit: usize| ms(limit as f64 / 2.0);
        let limit = after(50, &mut limiter, 64, two_cores);
        assert!((4..=16).contains(&limit), "{limit}");
        // A runtime that becomes slow gets fewer calls, but never fewer than the minimum.
        let mut limiter = ConcurrencyLimiter::default();
        after(9, &mut limiter, 64, |_| ms(2.0));
        assert!(after(1, &mut limiter, 64, |limit| ms(2.0 * limit as f64)) < 64);
        assert_eq!(after(6, &mut limiter, 64, |limit| ms(20.0 * limit as f64)), 4);
    }

    #[test]
    fn the_baseline_follows_a_runtime_that_stays_slower() {
        let mut limiter = ConcurrencyLimiter::default();
        after(9, &mut limiter, 16, |_| ms(1.0));
        assert_eq!(after(500, &mut limiter, 16, |_| ms(50.0)), 16);
    }

    #[test]
    fn sandboxes_and_containers_have_baselines_of_their_own() {
        let mut limiter = ConcurrencyLimiter::default();
        for _ in 0..100 {
            limiter.record(Subject::Sandbox, ms(0.1), false, 16);
            limiter.record(Subject::Container, ms(90.0), false, 16);
        }
        assert_eq!(limiter.limit(16), 16);
    }

    #[test]
    fn idle_capacity_does_not_raise_the_limit_and_the_maximum_holds() {
        let mut limiter = ConcurrencyLimiter::default();
        (0..100).for_each(|_| limiter.record(Subject::Container, ms(1.0), true, 64));
        assert_eq!(limiter.limit(64), 4);
        assert_eq!((limiter.limit(2), limiter.limit(1)), (2, 1));
        assert_eq!(after(20, &mut limiter, 8, |_| ms(1.0)), 8);
    }
}
