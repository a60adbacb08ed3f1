//! The cache: what is held of each pod, which pod an id belongs to, and which ids are gone.
//!
//! Owns the pods' locks. Only the arbiter writes, under the lock of the pod; readers get an immutable [`Pod`] and never
//! wait for a writer. A guard of the map is never held across an await nor while another key is touched: the values are
//! `Arc`s and cloned out.

mod tombstones;

use std::{borrow::Borrow, sync::Arc};

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
    pods: DashMap<PodUid, Arc<PodEntry>>,
    index: DashMap<ObjectId, PodUid>,
    tombstones: Mutex<Tombstones>,
}

#[derive(Debug)]
struct PodEntry {
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
        self.entry(uid.borrow())?.served.load_full()
    }

    /// All pods, in no order.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.entries().iter().filter_map(|entry| entry.served.load_full()).collect()
    }

    /// UIDs of all pods of which anything is held.
    pub fn uids(&self) -> Vec<PodUid> {
        self.0.pods.iter().map(|entry| entry.key().clone()).collect()
    }

    /// The pod that a container or sandbox belongs to.
    pub fn pod_of(&self, id: &str) -> Option<PodUid> {
        self.0.index.get(id).map(|uid| uid.value().clone())
    }

    /// The pod of the one container or sandbox whose id begins with `prefix`.
    ///
    /// # Errors
    ///
    /// [`LookUpError`] if there is none or more than one.
    pub fn find(&self, prefix: &str) -> Result<(ObjectId, PodUid), LookUpError> {
        if let Some(uid) = self.pod_of(prefix) {
            return Ok((prefix.into(), uid));
        }
        let matches = |entry: &dashmap::mapref::multiple::RefMulti<'_, ObjectId, PodUid>| {
            !prefix.is_empty() && entry.key().as_str().starts_with(prefix)
        };
        let mut found: Vec<_> = (self.0.index.iter().filter(matches))
            .map(|entry| (entry.key().clone(), entry.value().clone()))
            .collect();
        match (found.pop(), found.len()) {
            (Some(one), 0) => Ok(one),
            (Some(_), others) => Err(LookUpError::Ambiguous(prefix.into(), others + 1)),
            (None, _) => Err(LookUpError::Unknown(prefix.into())),
        }
    }

    /// When the last read of the whole pod began.
    pub fn read_at(&self, uid: &PodUid) -> Option<Mono> {
        self.entry(uid.borrow())?.slot.lock().state.read_at()
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

    /// What is held of a pod, to compare a list with. `look` runs under the pod's lock and must be brief.
    pub(crate) fn inspect<R>(
        &self,
        uid: &(impl Borrow<str> + ?Sized),
        look: impl FnOnce(&mut PodState) -> R,
    ) -> Option<R> {
        let entry = self.entry(uid.borrow())?;
        let mut slot = entry.slot.lock();
        Some(look(&mut slot.state))
    }

    /// Changes what is held of a pod, under its lock. `change` serves the result to readers, if they are to see it.
    pub(crate) fn update<R>(
        &self,
        identity: &PodIdentity,
        now: Mono,
        change: impl FnOnce(&mut PodState, Serve<'_>) -> Update<R>,
    ) -> R {
        loop {
            let entry = self.entry_or_new(identity);
            let mut slot = entry.slot.lock();
            if slot.detached {
                continue;
            }
            let update = change(&mut slot.state, Serve::new(&entry.served));
            for id in update.added {
                self.0.index.insert(id.clone(), identity.uid.clone());
                self.0.tombstones.lock().lift(&id);
            }
            for (id, removed_at) in update.removed {
                self.0.tombstones.lock().bury(&id, removed_at, now);
                self.0.index.remove(&id);
            }
            if slot.state.is_empty() {
                slot.detached = true;
                self.0.pods.remove_if(&identity.uid, |_, there| Arc::ptr_eq(there, &entry));
            }
            return update.result;
        }
    }

    /// All of the pod was read, in a read that began at `lower`.
    pub(crate) fn mark_read(&self, uid: &PodUid, lower: Mono) {
        if let Some(entry) = self.entry(uid.borrow()) {
            entry.slot.lock().state.mark_read(lower);
        }
    }

    fn entry(&self, uid: &str) -> Option<Arc<PodEntry>> {
        self.0.pods.get(uid).map(|entry| entry.value().clone())
    }

    fn entry_or_new(&self, identity: &PodIdentity) -> Arc<PodEntry> {
        let new = || {
            let slot = Slot { state: PodState::new(identity.clone()), detached: false };
            Arc::new(PodEntry { slot: Mutex::new(slot), served: ArcSwapOption::empty() })
        };
        self.0.pods.entry(identity.uid.clone()).or_insert_with(new).value().clone()
    }

    fn entries(&self) -> Vec<Arc<PodEntry>> {
        self.0.pods.iter().map(|entry| entry.value().clone()).collect()
    }
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
