//! Arbiter, cache and journal without a runtime, in time that passes only when told to.

use std::{future::Future, sync::Arc, time::Duration};

use plegd::{
    arbiter::Arbiter,
    cache::Cache,
    clock::{Clock, Wall, WallStepper},
    journal::{Capacity, Journal},
    metrics::Metrics,
    model::Observation,
    path_comparison::PathComparison,
};

use super::lives::Witness;

/// What the wall clock shows at first.
pub const NOON: Wall = Wall::from_nanos(1_800_000_000_000_000_000);

/// More than any input has told.
const ROOM: Capacity = Capacity { events: 1 << 20, bytes: 1 << 30 };

/// The epoch of the journal.
pub const EPOCH: u64 = 7;

/// All that an observation passes through.
pub struct Bench {
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
    /// Looks after each settling.
    pub witness: Witness,
}

/// Runs `work` to its end in paused time.
pub fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be made").block_on(work)
}

// === impl Bench ===

impl Bench {
    /// An empty one, with room for all that is told. Must be made in paused time.
    pub fn new() -> Self {
        Self::with(ROOM)
    }

    /// An empty one whose journal holds so much.
    pub fn with(capacity: Capacity) -> Self {
        let (clock, hand) = Clock::simulated(NOON);
        let journal = Journal::new(capacity, EPOCH);
        let metrics = Arc::new(Metrics::new());
        let paths = PathComparison::new(metrics.clone());
        let arbiter = Arbiter::new(journal.clone(), paths, clock.clone(), metrics);
        let cache = arbiter.cache().clone();
        let witness = Witness::new(cache.clone(), journal.clone());
        Self { clock, hand, cache, journal, arbiter, witness }
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.clock.now_both();
    }

    /// Settles an observation, and looks at what that led to.
    #[track_caller]
    pub fn apply(&mut self, observation: &Observation) {
        let asked = self.arbiter.apply(observation).len();
        let named = observation.sandboxes.len() + observation.containers.len() + observation.absent.len();
        assert!(asked <= 8 * (named + 1), "{asked} reads are wanted after {named} ids");
        self.witness.look();
    }
}
