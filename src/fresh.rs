//! Pods that are not older than a moment: from the cache if it is known to be young enough, else from a read that begins now.
//!
//! Freshness is evidence: only a read that began after a moment shows what was true after it (kubelet `GetNewerThan`, but
//! that waits for a relist where this one causes the read itself). Reads of the same pod that are asked for at the same time
//! are one. A pod that is named by its name or by a container, and one that was never observed, is looked for in the runtime's list.

use std::{collections::BTreeSet, sync::Arc};

use prometheus::IntGauge;

use crate::{
    arbiter::Arbiter,
    cache::Cache,
    clock::{Clock, Mono},
    cri::Listing,
    metrics::Metrics,
    model::{Pod, PodIdentity, PodUid},
    relister::{Lister, ReadError, Reads},
};

/// How many pods a request for one reads at most. More than one has the same name only while one replaces another.
const READ_AT_MOST: usize = 8;

/// Gives fresh pods. Cheap to clone.
#[derive(Clone)]
pub struct Fresh {
    cache: Cache,
    arbiter: Arc<Arbiter>,
    lister: Lister,
    reads: Reads,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Counts a caller for as long as it waits, also if it gives up.
struct Awaiting<'a>(&'a IntGauge);

// === impl Fresh ===

impl Fresh {
    pub(crate) fn new(
        arbiter: Arc<Arbiter>,
        lister: Lister,
        reads: Reads,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let cache = arbiter.cache().clone();
        Self { cache, arbiter, lister, reads, clock, metrics }
    }

    /// The clock that moments are of.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether what is held of the pod is known to be newer than a moment, so that no read is needed.
    pub fn is_newer(&self, uid: &PodUid, than: Mono) -> bool {
        let pods = self.cache.identities_of(uid.as_str());
        !pods.is_empty() && pods.iter().all(|pod| self.is_pod_newer(pod, than))
    }

    /// The same of the pod that a container or sandbox belongs to.
    pub fn is_newer_of_id(&self, id: &str, than: Mono) -> bool {
        self.cache.pod_of(id).is_some_and(|pod| self.is_pod_newer(&pod, than))
    }

    fn is_pod_newer(&self, pod: &PodIdentity, than: Mono) -> bool {
        self.arbiter.read_at(pod).is_some_and(|read_at| read_at > than)
    }

    /// The pod as it was at some moment after `than`, none if it was not there. Drop the future to cancel.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be asked.
    pub async fn pod(&self, uid: &PodUid, than: Mono) -> Result<Option<Arc<Pod>>, ReadError> {
        if !self.is_newer(uid, than) {
            let _counted = Awaiting::new(&self.metrics.reads.awaited);
            let known = match &self.cache.identities_of(uid.as_str())[..] {
                [pod] => {
                    self.reads.fresh(pod).await?;
                    self.cache.get_pod(pod).is_some()
                }
                _ => false,
            };
            // Another pod may have the UID of one that is gone.
            if !known {
                self.reads.read_uid_now(uid).await?;
            }
        }
        Ok(self.cache.get(uid))
    }

    /// The pod with this namespace and name as it was at some moment after this call, none if it was not there. Drop the future to
    /// cancel.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be asked.
    pub async fn named(&self, namespace: &str, name: &str) -> Result<Option<Arc<Pod>>, ReadError> {
        let _counted = Awaiting::new(&self.metrics.reads.awaited);
        let listing = self.list().await?;
        let listed = listing.sandboxes.iter().filter(|it| it.namespace == namespace && it.pod_name == name);
        // One that is not listed any more may still be served.
        let held = self.cache.identities_named(namespace, name);
        let pods = listed.map(|it| it.pod()).chain(held);
        self.read_all(pods.collect()).await?;
        Ok(self.cache.named(namespace, name))
    }

    /// Has the pod of the container or sandbox whose id begins like this read, in a read that begins after this call, also if no
    /// relist has shown it yet. What is held then is for the cache to say.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be asked.
    pub async fn read_of_id(&self, prefix: &str) -> Result<(), ReadError> {
        let _counted = Awaiting::new(&self.metrics.reads.awaited);
        let mut pods: BTreeSet<PodIdentity> =
            self.cache.find(prefix).ok().map(|(_, pod)| pod).into_iter().collect();
        if pods.is_empty() && !prefix.is_empty() {
            let listing = self.list().await?;
            let containers = listing.containers.iter().filter(|it| it.id.starts_with(prefix));
            let sandboxes: BTreeSet<&str> = containers.map(|it| it.sandbox_id.as_str()).collect();
            let of_it = |id: &str| id.starts_with(prefix) || sandboxes.contains(id);
            pods.extend(listing.sandboxes.iter().filter(|it| of_it(&it.id)).map(|it| it.pod()));
        }
        self.read_all(pods).await
    }

    async fn list(&self) -> Result<Arc<Listing>, ReadError> {
        self.lister.list().await.map_err(|error| ReadError::Failed(Arc::new(error)))
    }

    /// Reads these pods, of several only so many as one name or prefix can reasonably mean.
    async fn read_all(&self, pods: BTreeSet<PodIdentity>) -> Result<(), ReadError> {
        let reads = pods.iter().take(READ_AT_MOST).map(|pod| self.reads.fresh(pod));
        futures::future::try_join_all(reads).await.map(drop)
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
