//! The cache: what is held of each pod, which pod an id belongs to, and which ids are gone.
//!
//! Owns the pods' locks. Only the arbiter writes, under the lock of the pod; readers get an immutable [`Pod`] and never
//! wait for a writer. A guard of the map is never held across an await nor while another key is touched: the values are
//! `Arc`s and cloned out.
//!
//! A pod is what has one UID, one namespace and one name. Two pods may have one UID, as copied manifests of static pods do
//! (rke2#8199): they are held apart. Whoever names a UID, or a namespace and name, that several pods have, means the one with a ready
//! sandbox, and of several such the one that was first observed last.

mod tombstones;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use parking_lot::Mutex;

use self::tombstones::Tombstones;
use crate::{
    arbiter::pod::PodState,
    clock::Mono,
    model::{ContainerState, ObjectId, Pod, PodIdentity, PodUid, SandboxState},
};

/// The cache. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By UID, the pods that have it: nearly always one.
    pods: DashMap<PodUid, Vec<Arc<PodEntry>>>,
    index: DashMap<ObjectId, Arc<PodEntry>>,
    tombstones: Mutex<Tombstones>,
    /// How many pods were observed for the first time.
    observed: AtomicU64,
}

#[derive(Debug)]
struct PodEntry {
    identity: PodIdentity,
    /// In which order pods were observed for the first time.
    first_seen: u64,
    slot: Mutex<Slot>,
    served: ArcSwapOption<Pod>,
}

#[derive(Debug)]
struct Slot {
    state: PodState,
    /// The entry has left the map; whoever holds it must fetch the pod's new one.
    detached: bool,
}

/// How many pods, sandboxes and containers there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
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
    /// No id begins like this.
    #[error("no container or sandbox has an id that begins with {0:?}")]
    Unknown(String),
    /// Several do.
    #[error("{1} containers or sandboxes have an id that begins with {0:?}: give more of it")]
    Ambiguous(String, usize),
}

// === impl Cache ===

impl Cache {
    /// The pod with this UID.
    pub fn get(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        meant(self.entries_of(uid.as_str()))?.served.load_full()
    }

    /// This very pod.
    pub fn get_pod(&self, identity: &PodIdentity) -> Option<Arc<Pod>> {
        self.entry(identity)?.served.load_full()
    }

    /// The pod with this namespace and name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        meant(self.entries().into_iter().filter(|entry| entry.is(namespace, name)))?.served.load_full()
    }

    /// All pods with this namespace and name of which anything is held.
    pub fn identities_named(&self, namespace: &str, name: &str) -> Vec<PodIdentity> {
        let named = self.entries().into_iter().filter(|entry| entry.is(namespace, name));
        named.map(|entry| entry.identity.clone()).collect()
    }

    /// All pods, in no order.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.entries().iter().filter_map(|entry| entry.served.load_full()).collect()
    }

    /// All pods of which anything is held.
    pub fn identities(&self) -> Vec<PodIdentity> {
        self.0
            .pods
            .iter()
            .flat_map(|entries| entries.iter().map(|it| it.identity.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// The pods with this UID of which anything is held.
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
        let matches = |entry: &dashmap::mapref::multiple::RefMulti<'_, ObjectId, Arc<PodEntry>>| {
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

    /// When the last read of the whole pod began.
    pub fn read_at(&self, pod: &PodIdentity) -> Option<Mono> {
        self.entry(pod)?.slot.lock().state.read_at()
    }

    /// How many there are of what.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for pod in self.list() {
            let ready = pod.sandbox().is_some_and(|sandbox| sandbox.state == SandboxState::Ready);
            *(if ready { &mut census.ready_pods } else { &mut census.not_ready_pods }) += 1;
            for sandbox in &pod.sandboxes {
                census.sandboxes[sandbox.state as usize] += 1;
            }
            for container in &pod.containers {
                census.containers[container.state as usize] += 1;
            }
        }
        census
    }

    /// How many containers and sandboxes are held.
    pub fn ids(&self) -> usize {
        self.0.index.len()
    }

    /// Number of tombstones, at this time.
    pub fn tombstones(&self, now: Mono) -> usize {
        let mut tombstones = self.0.tombstones.lock();
        tombstones.forget(now);
        tombstones.len()
    }

    /// When an id was removed, if it was and that is still remembered.
    pub(crate) fn removed_at(&self, id: &ObjectId) -> Option<Mono> {
        self.0.tombstones.lock().get(id)
    }

    /// Before this moment ids may have been removed whose tombstones are forgotten.
    pub(crate) fn tombstone_horizon(&self) -> Mono {
        self.0.tombstones.lock().horizon()
    }

    /// Whether a removed id that a list shows is to be read again: each time is one call, so it is rarely.
    pub(crate) fn may_reread(&self, id: &ObjectId, now: Mono, apart: Duration) -> bool {
        self.0.tombstones.lock().may_reread(id, now, apart)
    }

    /// What is held of a pod, to compare a list with. `look` runs under the pod's lock and must be brief.
    pub(crate) fn inspect<R>(&self, pod: &PodIdentity, look: impl FnOnce(&mut PodState) -> R) -> Option<R> {
        self.inspect_by((pod.uid.as_str(), &pod.namespace, &pod.name), look)
    }

    /// The same, of the pod with this UID, namespace and name.
    pub(crate) fn inspect_by<R>(
        &self,
        (uid, namespace, name): (&str, &str, &str),
        look: impl FnOnce(&mut PodState) -> R,
    ) -> Option<R> {
        let entry = self.0.pods.get(uid)?.iter().find(|entry| entry.is(namespace, name)).cloned()?;
        let mut slot = entry.slot.lock();
        Some(look(&mut slot.state))
    }

    /// Changes what is held of a pod, under its lock: `change` says what follows from it, `publish` appends that to the journal and
    /// serves the pod to readers. Ids that are new are in the index before anything of them is published.
    pub(crate) fn update<R>(
        &self,
        identity: &PodIdentity,
        now: Mono,
        change: impl FnOnce(&mut PodState) -> Update<R>,
        publish: impl FnOnce(&mut PodState, &R, Serve<'_>),
    ) -> R {
        let mut change = Some(change);
        loop {
            let entry = self.entry_or_new(identity);
            let mut slot = entry.slot.lock();
            if slot.detached {
                continue;
            }
            let Some(change) = change.take() else { unreachable!("a pod is changed once") };
            let update = change(&mut slot.state);
            for id in update.added {
                self.0.index.insert(id.clone(), entry.clone());
                self.0.tombstones.lock().lift(&id);
            }
            publish(&mut slot.state, &update.result, Serve::new(&entry.served));
            for (id, removed_at) in update.removed {
                self.0.tombstones.lock().bury(&id, removed_at, now);
                self.0.index.remove_if(&id, |_, there| Arc::ptr_eq(there, &entry));
            }
            if slot.state.is_empty() {
                slot.detached = true;
                self.detach(&entry);
            }
            return update.result;
        }
    }

    /// All of the pod was read, in a read that began at `lower`.
    pub(crate) fn mark_read(&self, pod: &PodIdentity, lower: Mono) {
        if let Some(entry) = self.entry(pod) {
            entry.slot.lock().state.mark_read(lower);
        }
    }

    fn entry(&self, pod: &PodIdentity) -> Option<Arc<PodEntry>> {
        let entries = self.0.pods.get(&pod.uid)?;
        entries.iter().find(|entry| entry.is(&pod.namespace, &pod.name)).cloned()
    }

    fn entry_or_new(&self, identity: &PodIdentity) -> Arc<PodEntry> {
        let mut entries = self.0.pods.entry(identity.uid.clone()).or_default();
        if let Some(there) = entries.iter().find(|entry| entry.is(&identity.namespace, &identity.name)) {
            return there.clone();
        }
        let new = Arc::new(PodEntry {
            identity: identity.clone(),
            first_seen: self.0.observed.fetch_add(1, Ordering::Relaxed),
            slot: Mutex::new(Slot { state: PodState::new(identity.clone()), detached: false }),
            served: ArcSwapOption::empty(),
        });
        entries.push(new.clone());
        new
    }

    fn detach(&self, entry: &Arc<PodEntry>) {
        if let Some(mut entries) = self.0.pods.get_mut(&entry.identity.uid) {
            entries.retain(|there| !Arc::ptr_eq(there, entry));
        }
        self.0.pods.remove_if(&entry.identity.uid, |_, entries| entries.is_empty());
    }

    fn entries_of(&self, uid: &str) -> Vec<Arc<PodEntry>> {
        self.0.pods.get(uid).map(|entries| entries.value().clone()).unwrap_or_default()
    }

    fn entries(&self) -> Vec<Arc<PodEntry>> {
        self.0.pods.iter().flat_map(|entries| entries.value().clone()).collect()
    }
}

// === impl PodEntry ===

impl PodEntry {
    fn is(&self, namespace: &str, name: &str) -> bool {
        *self.identity.namespace == *namespace && *self.identity.name == *name
    }
}

/// Of several pods, the one that is meant.
fn meant(entries: impl IntoIterator<Item = Arc<PodEntry>>) -> Option<Arc<PodEntry>> {
    let ready = |entry: &PodEntry| {
        let pod = entry.served.load();
        pod.as_ref().map(|pod| pod.sandbox().is_some_and(|sandbox| sandbox.state == SandboxState::Ready))
    };
    entries.into_iter().max_by_key(|entry| (ready(entry), entry.first_seen))
}

/// Lets readers have a pod. To be used while nothing can be appended to the journal, so that whoever looks at both sees a
/// state that fits the head.
pub(crate) struct Serve<'a>(&'a ArcSwapOption<Pod>);

impl<'a> Serve<'a> {
    pub(crate) fn new(served: &'a ArcSwapOption<Pod>) -> Self {
        Self(served)
    }

    /// From now on readers get this; none if the pod is gone.
    pub(crate) fn serve(self, pod: Option<Arc<Pod>>) {
        self.0.store(pod);
    }
}

/// What [`Cache::update`] is to do once a pod has been changed.
pub(crate) struct Update<R> {
    /// Ids that are new.
    pub(crate) added: Vec<ObjectId>,
    /// Ids that are gone, and since when.
    pub(crate) removed: Vec<(ObjectId, Mono)>,
    /// What to give back.
    pub(crate) result: R,
}
