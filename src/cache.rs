//! The cache: the pods as readers see them, and the pod that each container and sandbox belongs to.
//!
//! [`Cache`] is a read handle. Its one [`Writer`] belongs to the arbiter. Readers get an immutable [`Pod`] and never wait for a
//! writer. A guard of a map is never held across an await nor while another key is touched: the values are `Arc`s and cloned out.
//!
//! A pod is identified by UID, namespace and name. Two pods may have the same UID, as copied manifests of static pods do (rke2#8199):
//! they are separate. A request by a UID, or by a namespace and name, that several pods have, means the pod with a ready sandbox, and
//! of several such the one that was first observed last.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use crate::model::{ContainerState, ObjectId, Pod, PodIdentity, PodUid, SandboxState};

/// A read handle of the cache. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The pods of a UID: nearly always one.
    pods: DashMap<PodUid, Vec<Arc<CachedPod>>>,
    index: DashMap<ObjectId, Arc<CachedPod>>,
    /// Number of pods observed so far.
    observed: AtomicU64,
}

/// The only way to change the cache.
#[derive(Debug, Default)]
pub(crate) struct Writer(Cache);

/// A pod of which the arbiter has a record.
#[derive(Debug)]
pub(crate) struct CachedPod {
    identity: PodIdentity,
    /// Order of the first observation.
    first_seen: u64,
    served: ArcSwapOption<Pod>,
}

/// Numbers of pods, sandboxes and containers, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods whose newest sandbox is ready.
    pub ready_pods: usize,
    /// Pods whose newest sandbox is not ready, or gone.
    pub not_ready_pods: usize,
    /// Sandboxes by state.
    pub sandboxes: [usize; SandboxState::ALL.len()],
    /// Containers by state.
    pub containers: [usize; ContainerState::ALL.len()],
}

/// Why an id could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    /// No id begins with the prefix.
    #[error("no container or sandbox has an id that begins with {0:?}")]
    Unknown(String),
    /// Several ids do.
    #[error("{1} containers or sandboxes have an id that begins with {0:?}; use a longer prefix")]
    Ambiguous(String, usize),
}

// === impl Cache ===

impl Cache {
    /// The pod with this UID.
    pub fn get(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        preferred(self.entries_of(uid.as_str()))?.served.load_full()
    }

    /// The pod with this identity.
    pub fn get_pod(&self, identity: &PodIdentity) -> Option<Arc<Pod>> {
        self.entry(identity)?.served.load_full()
    }

    /// The pod with this namespace and name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        preferred(self.entries().into_iter().filter(|entry| entry.is(namespace, name)))?.served.load_full()
    }

    /// The identities of all pods with this namespace and name that have records.
    pub fn identities_named(&self, namespace: &str, name: &str) -> Vec<PodIdentity> {
        let named = self.entries().into_iter().filter(|entry| entry.is(namespace, name));
        named.map(|entry| entry.identity.clone()).collect()
    }

    /// All pods, in no order.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.entries().iter().filter_map(|entry| entry.served.load_full()).collect()
    }

    /// The identities of all pods that have records.
    pub fn identities(&self) -> Vec<PodIdentity> {
        self.0
            .pods
            .iter()
            .flat_map(|entries| entries.iter().map(|it| it.identity.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// The identities of all pods with this UID that have records.
    pub fn identities_of(&self, uid: &str) -> Vec<PodIdentity> {
        self.entries_of(uid).into_iter().map(|entry| entry.identity.clone()).collect()
    }

    /// The pod that a container or sandbox belongs to.
    pub fn pod_of(&self, id: &str) -> Option<PodIdentity> {
        self.0.index.get(id).map(|entry| entry.value().identity.clone())
    }

    /// The pod of the one container or sandbox whose id begins with `prefix`.
    ///
    /// # Errors
    ///
    /// [`LookUpError`] if there is none or more than one.
    pub fn find(&self, prefix: &str) -> Result<(ObjectId, PodIdentity), LookUpError> {
        if let Some(pod) = self.pod_of(prefix) {
            return Ok((prefix.into(), pod));
        }
        let matches = |entry: &dashmap::mapref::multiple::RefMulti<'_, ObjectId, Arc<CachedPod>>| {
            !prefix.is_empty() && entry.key().as_str().starts_with(prefix)
        };
        let mut found: Vec<_> = (self.0.index.iter().filter(matches))
            .map(|entry| (entry.key().clone(), entry.value().identity.clone()))
            .collect();
        match (found.pop(), found.len()) {
            (Some(one), 0) => Ok(one),
            (Some(_), others) => Err(LookUpError::Ambiguous(prefix.into(), others + 1)),
            (None, _) => Err(LookUpError::Unknown(prefix.into())),
        }
    }

    /// The number of pods, sandboxes and containers by state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for pod in self.list() {
            let ready = pod.sandbox().is_some_and(|sandbox| sandbox.state == SandboxState::Ready);
            *(if ready { &mut counts.ready_pods } else { &mut counts.not_ready_pods }) += 1;
            for sandbox in &pod.sandboxes {
                counts.sandboxes[sandbox.state as usize] += 1;
            }
            for container in &pod.containers {
                counts.containers[container.state as usize] += 1;
            }
        }
        counts
    }

    /// The number of containers and sandboxes.
    pub fn ids(&self) -> usize {
        self.0.index.len()
    }

    fn entry(&self, pod: &PodIdentity) -> Option<Arc<CachedPod>> {
        let entries = self.0.pods.get(&pod.uid)?;
        entries.iter().find(|entry| entry.is(&pod.namespace, &pod.name)).cloned()
    }

    fn entries_of(&self, uid: &str) -> Vec<Arc<CachedPod>> {
        self.0.pods.get(uid).map(|entries| entries.value().clone()).unwrap_or_default()
    }

    fn entries(&self) -> Vec<Arc<CachedPod>> {
        self.0.pods.iter().flat_map(|entries| entries.value().clone()).collect()
    }
}

// === impl Writer ===

impl Writer {
    /// The handle for readers.
    pub(crate) fn cache(&self) -> &Cache {
        &self.0
    }

    /// Adds a pod, which is not visible to readers yet.
    pub(crate) fn add(&self, identity: &PodIdentity) -> Arc<CachedPod> {
        let inner = &self.0.0;
        let pod = Arc::new(CachedPod {
            identity: identity.clone(),
            first_seen: inner.observed.fetch_add(1, Ordering::Relaxed),
            served: ArcSwapOption::empty(),
        });
        inner.pods.entry(identity.uid.clone()).or_default().push(pod.clone());
        pod
    }

    /// Removes a pod that is not visible to readers any more.
    pub(crate) fn remove(&self, pod: &Arc<CachedPod>) {
        let (pods, uid) = (&self.0.0.pods, &pod.identity.uid);
        if let Some(mut of_uid) = pods.get_mut(uid) {
            of_uid.retain(|it| !Arc::ptr_eq(it, pod));
        }
        pods.remove_if(uid, |_, of_uid| of_uid.is_empty());
    }

    /// Adds an id of a pod to the index.
    pub(crate) fn index(&self, id: &ObjectId, pod: &Arc<CachedPod>) {
        self.0.0.index.insert(id.clone(), pod.clone());
    }

    /// Removes an id of this pod from the index.
    pub(crate) fn unindex(&self, id: &ObjectId, pod: &Arc<CachedPod>) {
        self.0.0.index.remove_if(id, |_, it| Arc::ptr_eq(it, pod));
    }
}

// === impl CachedPod ===

impl CachedPod {
    /// The identity of the pod.
    pub(crate) fn identity(&self) -> &PodIdentity {
        &self.identity
    }

    /// Order of the first observation.
    pub(crate) fn first_seen(&self) -> u64 {
        self.first_seen
    }

    /// The pod that readers get.
    pub(crate) fn served(&self) -> Option<Arc<Pod>> {
        self.served.load_full()
    }

    /// Replaces the pod that readers get; none if the pod is gone. Call it while the journal is locked, so that cache and head agree.
    pub(crate) fn publish(&self, pod: Option<Arc<Pod>>) {
        self.served.store(pod);
    }

    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        *self.identity.namespace == *namespace && *self.identity.name == *name
    }
}

/// Of several pods, the one that a request refers to.
fn preferred(entries: impl IntoIterator<Item = Arc<CachedPod>>) -> Option<Arc<CachedPod>> {
    let ready = |entry: &CachedPod| {
        let pod = entry.served.load();
        pod.as_ref().map(|pod| pod.sandbox().is_some_and(|sandbox| sandbox.state == SandboxState::Ready))
    };
    entries.into_iter().max_by_key(|entry| (ready(entry), entry.first_seen))
}
