//! Pods that are not older than a moment: from the cache if it is known to be young enough, else from a read that begins now.
//!
//! Freshness is evidence: only a read that began after a moment shows what was true after it (kubelet `GetNewerThan`, but
//! that waits for a relist where this one causes the read itself). Reads of the same pod that are asked for at the same time
//! are one.

use std::sync::Arc;

use prometheus::IntGauge;

use crate::{
    cache::Cache,
    clock::{Clock, Mono},
    metrics::Metrics,
    model::{Pod, PodUid},
    relister::{ReadError, Reads},
};

/// Gives fresh pods. Cheap to clone.
#[derive(Clone)]
pub struct Fresh {
    cache: Cache,
    reads: Reads,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Counts a caller for as long as it waits, also if it gives up.
struct Awaiting<'a>(&'a IntGauge);

// === impl Fresh ===

impl Fresh {
    pub(crate) fn new(cache: Cache, reads: Reads, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { cache, reads, clock, metrics }
    }

    /// The clock that moments are of.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether what is held of the pod is known to be newer than a moment, so that no read is needed.
    pub fn is_newer(&self, uid: &PodUid, than: Mono) -> bool {
        self.cache.read_at(uid).is_some_and(|read_at| read_at > than)
    }

    /// The pod as it was at some moment after `than`, none if it was not there. Drop the future to cancel.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be asked.
    pub async fn pod(&self, uid: &PodUid, than: Mono) -> Result<Option<Arc<Pod>>, ReadError> {
        if !self.is_newer(uid, than) {
            let _counted = Awaiting::new(&self.metrics.reads.awaited);
            self.reads.fresh(uid).await?;
        }
        Ok(self.cache.get(uid))
    }
}

// === impl Awaiting ===

impl<'a> Awaiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
