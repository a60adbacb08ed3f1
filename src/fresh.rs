//! Pods that are not older than a moment: from the cache if it is known to be newer, otherwise from a read that begins now.
//!
//! Only a read that began after a moment shows what was true after it (kubelet `GetNewerThan`, which waits for a relist; here the request
//! causes the read). Concurrent reads of the same pod are joined. A pod requested by its name or by a container, and a pod that was never
//! observed, is looked up in a list of the runtime.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prometheus::IntGauge;

use crate::{
    arbiter::Arbiter,
    cache::Cache,
    clock::{Clock, Mono},
    cri::ListedContainer,
    metrics::Metrics,
    model::{ObjectId, Pod, PodIdentity, PodUid},
    relister::{FullList, Lister, ReadError, Reads},
};

/// How many pods a request for one pod may read. Two pods have the same name only while one replaces the other.
const READ_LIMIT: usize = 8;

/// Returns fresh pods. Cheap to clone.
#[derive(Clone)]
pub struct FreshReader {
    pub(crate) arbiter: Arc<Arbiter>,
    pub(crate) lister: Lister,
    pub(crate) reads: Reads,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

/// Counts a caller until it is dropped, also if the caller gives up.
struct Waiting<'a>(&'a IntGauge);

// === impl FreshReader ===

impl FreshReader {
    /// The clock of the moments.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the served state of a pod is known to be newer than a moment, so that no read is needed.
    pub fn is_newer(&self, uid: &PodUid, than: Mono) -> bool {
        let pods = self.cache().identities_of(uid.as_str());
        !pods.is_empty() && pods.iter().all(|pod| self.is_pod_newer(pod, than))
    }

    /// As [`FreshReader::is_newer`], of the pod that a container or sandbox belongs to.
    pub fn is_newer_of_id(&self, id: &str, than: Mono) -> bool {
        self.cache().pod_of(id).is_some_and(|pod| self.is_pod_newer(&pod, than))
    }

    fn is_pod_newer(&self, pod: &PodIdentity, than: Mono) -> bool {
        self.arbiter.read_at(pod).is_some_and(|read_at| read_at > than)
    }

    /// The pod as it was at some moment after `than`; none if it did not exist. Drop the future to cancel.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be read.
    pub async fn pod(&self, uid: &PodUid, than: Mono) -> Result<Option<Arc<Pod>>, ReadError> {
        if !self.is_newer(uid, than) {
            let _waiting = Waiting::new(&self.metrics.reads.awaited);
            let known = match &self.cache().identities_of(uid.as_str())[..] {
                [pod] => {
                    self.reads.read_now(pod).await?;
                    self.cache().get_pod(pod).is_some()
                }
                _ => false,
            };
            // Another pod may have the UID of a pod that is gone.
            if !known {
                self.reads.read_uid_now(uid).await?;
            }
        }
        Ok(self.cache().get(uid))
    }

    /// The pod with this namespace and name as it was at some moment after this call; none if it did not exist. Drop the future to
    /// cancel.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be read.
    pub async fn named(&self, namespace: &str, name: &str) -> Result<Option<Arc<Pod>>, ReadError> {
        let _waiting = Waiting::new(&self.metrics.reads.awaited);
        let list = self.list().await?;
        let listed =
            list.listing.sandboxes.iter().filter(|it| it.namespace == namespace && it.pod_name == name);
        // A pod that is not listed any more may still be served.
        let held = self.cache().identities_named(namespace, name);
        let pods: BTreeSet<PodIdentity> = listed.map(|it| it.pod()).chain(held).collect();
        if pods.is_empty() {
            self.read_orphans(list.orphans(self.cache())).await?;
        }
        self.read_all(pods).await?;
        Ok(self.cache().named(namespace, name))
    }

    /// Reads the pod of the container or sandbox whose id begins with `prefix`, in a read that begins after this call. No relist needs to
    /// have shown it before. Afterwards the cache has the result.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the runtime could not be read.
    pub async fn read_of_id(&self, prefix: &str) -> Result<(), ReadError> {
        let _waiting = Waiting::new(&self.metrics.reads.awaited);
        let mut pods: BTreeSet<PodIdentity> =
            self.cache().find(prefix).ok().map(|(_, pod)| pod).into_iter().collect();
        if pods.is_empty() && !prefix.is_empty() {
            let list = self.list().await?;
            let containers = list.listing.containers.iter().filter(|it| it.id.starts_with(prefix));
            let sandboxes: BTreeSet<&str> = containers.map(|it| it.sandbox_id.as_str()).collect();
            // A container may outlive its sandbox, which then is only recorded.
            pods.extend(sandboxes.iter().filter_map(|id| self.cache().pod_of(id)));
            let matches = |id: &str| id.starts_with(prefix) || sandboxes.contains(id);
            pods.extend(list.listing.sandboxes.iter().filter(|it| matches(&it.id)).map(|it| it.pod()));
            self.read_orphans(list.orphans(self.cache()).filter(|it| matches(&it.sandbox_id))).await?;
        }
        self.read_all(pods).await
    }

    /// Reads containers of no known pod, by their sandboxes: their labels may name the pod.
    async fn read_orphans(&self, orphans: impl Iterator<Item = &ListedContainer>) -> Result<(), ReadError> {
        let mut by_sandbox: BTreeMap<ObjectId, Vec<&ListedContainer>> = BTreeMap::new();
        for orphan in orphans {
            by_sandbox.entry(orphan.sandbox_id.as_str().into()).or_default().push(orphan);
        }
        let reads = by_sandbox.iter().take(READ_LIMIT);
        let reads = reads.map(|(sandbox_id, containers)| self.reads.read_orphans_now(sandbox_id, containers));
        futures::future::try_join_all(reads).await.map(drop)
    }

    fn cache(&self) -> &Cache {
        self.arbiter.cache()
    }

    async fn list(&self) -> Result<Arc<FullList>, ReadError> {
        self.lister.list().await.map_err(|error| ReadError::Failed(Arc::new(error)))
    }

    async fn read_all(&self, pods: BTreeSet<PodIdentity>) -> Result<(), ReadError> {
        let reads = pods.iter().take(READ_LIMIT).map(|pod| self.reads.read_now(pod));
        futures::future::try_join_all(reads).await.map(drop)
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
