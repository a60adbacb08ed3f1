//! Arbiter, cache and journal without a runtime, in simulated time.

use std::{future::Future, sync::Arc, time::Duration};

use plegd::{
    arbiter::{Arbiter, ArbiterDeps},
    cache::Cache,
    clock::{Clock, Wall, WallStepper},
    journal::{Capacity, Journal},
    metrics::Metrics,
    model::Observation,
    path_comparison::PathComparison,
};

use super::checker::Checker;

/// The initial wall-clock time.
pub const NOON: Wall = Wall::from_nanos(1_800_000_000_000_000_000);

/// More than any input publishes.
const UNLIMITED: Capacity = Capacity { events: 1 << 20, bytes: 1 << 30 };

/// The epoch of the journal.
pub const EPOCH: u64 = 7;

/// The components that process an observation.
pub struct Harness {
    /// Its clock.
    pub clock: Clock,
    /// Steps the wall clock.
    pub hand: WallStepper,
    /// The cache.
    pub cache: Cache,
    /// The journal.
    pub journal: Journal,
    /// The arbiter.
    pub arbiter: Arbiter,
    /// Checks the invariants after each observation.
    pub checker: Checker,
}

/// Runs `work` to its end in paused time.
pub fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be created").block_on(work)
}

// === impl Harness ===

impl Harness {
    /// An empty harness whose journal never evicts. Must be created in paused time.
    pub fn new() -> Self {
        Self::with(UNLIMITED)
    }

    /// An empty harness with this journal capacity.
    pub fn with(capacity: Capacity) -> Self {
        let (clock, hand) = Clock::simulated(NOON);
        let journal = Journal::new(capacity, EPOCH);
        let metrics = Arc::new(Metrics::new());
        let paths = PathComparison::new(metrics.clone());
        let arbiter = Arbiter::new(ArbiterDeps {
            journal: journal.clone(),
            paths,
            clock: clock.clone(),
            metrics,
            state: None,
        });
        let cache = arbiter.cache().clone();
        let checker = Checker::new(cache.clone(), journal.clone());
        Self { clock, hand, cache, journal, arbiter, checker }
    }

    /// Advances the time.
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.clock.now_both();
    }

    /// Applies an observation, and checks the result.
    #[track_caller]
    pub fn apply(&mut self, observation: &Observation) {
        let reads = self.arbiter.apply(observation).len();
        let named = observation.sandboxes.len() + observation.containers.len() + observation.absent.len();
        assert!(reads <= 8 * (named + 1), "{reads} reads are requested after {named} ids");
        self.checker.check();
    }
}
