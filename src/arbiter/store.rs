//! The state that the arbiter owns: the record of each pod under its lock, the ids that a list shows and that have no record yet, the
//! tombstones, and the writing end of the cache.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};

use super::{
    pod::{KnownIds, PodState, Unread},
    tombstones::Tombstones,
};
use crate::{
    cache::{Cache, CachedPod, Writer},
    clock::Mono,
    model::{ObjectId, Phase, Pod, PodIdentity, PodUid},
};

/// For how many unread ids memory is kept. The first relist shows all ids at once, which does not happen again.
const UNREAD_CAPACITY: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Store {
    cache: Writer,
    /// The pods of a UID: nearly always one.
    slots: DashMap<PodUid, Vec<Arc<PodSlot>>>,
    tombstones: Mutex<Tombstones>,
    /// Ids that a list shows and that have no record: their first read is pending.
    unread: Mutex<HashMap<ObjectId, Unread>>,
}

/// The state of one pod, and the pod as readers see it.
#[derive(Debug)]
pub(super) struct PodSlot {
    pub(super) cached: Arc<CachedPod>,
    state: Mutex<LockedPod>,
}

/// The part of a [`PodSlot`] that its lock protects.
#[derive(Debug)]
pub(super) struct LockedPod {
    pub(super) state: PodState,
    /// The slot has left the map. A task that waited for its lock looks the pod up again.
    evicted: bool,
}

// === impl Store ===

impl Store {
    pub(super) fn cache(&self) -> &Cache {
        self.cache.cache()
    }

    /// The slot of a pod, if anything of the pod is recorded.
    pub(super) fn slot(&self, (uid, namespace, name): (&str, &str, &str)) -> Option<Arc<PodSlot>> {
        self.slots.get(uid)?.iter().find(|slot| slot.cached.is(namespace, name)).cloned()
    }

    /// The slot of a pod, which is new if nothing of the pod is recorded. Its lock may find that it was evicted meanwhile.
    pub(super) fn slot_or_new(&self, pod: &PodIdentity) -> Arc<PodSlot> {
        if let Some(slot) = self.slot(names(pod)) {
            return slot;
        }
        let mut of_uid = self.slots.entry(pod.uid.clone()).or_default();
        if let Some(slot) = of_uid.iter().find(|slot| slot.cached.is(&pod.namespace, &pod.name)) {
            return slot.clone();
        }
        let state = LockedPod { state: PodState::new(pod.clone()), evicted: false };
        let slot = Arc::new(PodSlot { cached: self.cache.add(pod), state: Mutex::new(state) });
        of_uid.push(slot.clone());
        slot
    }

    /// Adds ids to the index, before any event of them is published.
    pub(super) fn add_ids(&self, slot: &PodSlot, added: &[ObjectId]) {
        for id in added {
            self.cache.index(id, &slot.cached);
            self.tombstones.lock().remove(id);
            self.unread.lock().remove(id);
        }
    }

    /// Sets the tombstones of ids that were removed, each with the moment after which only a new read can find it again.
    pub(super) fn remove_ids(&self, slot: &PodSlot, removed: &[(ObjectId, Mono)], now: Mono) {
        for (id, removed_at) in removed {
            self.tombstones.lock().insert(id, *removed_at, now);
            self.unread.lock().remove(id);
            self.cache.unindex(id, &slot.cached);
        }
    }

    /// Drops a pod without records.
    pub(super) fn evict_if_empty(&self, slot: &Arc<PodSlot>, locked: &mut LockedPod) {
        if !locked.state.is_empty() {
            return;
        }
        locked.evicted = true;
        // From the cache first: until the slot has left its map, nobody adds the pod anew.
        self.cache.remove(&slot.cached);
        let uid = &slot.cached.identity().uid;
        if let Some(mut of_uid) = self.slots.get_mut(uid) {
            of_uid.retain(|it| !Arc::ptr_eq(it, slot));
        }
        self.slots.remove_if(uid, |_, of_uid| of_uid.is_empty());
    }

    /// All slots.
    pub(super) fn slots(&self) -> Vec<Arc<PodSlot>> {
        let mut slots: Vec<_> = self.slots.iter().flat_map(|of_uid| of_uid.value().clone()).collect();
        slots.sort_by_key(|slot| slot.cached.first_seen());
        slots
    }

    /// Adds a pod of an earlier process. Readers see it as it was served then.
    pub(super) fn restore(&self, state: PodState, sequence: u64) {
        let slot = self.slot_or_new(state.identity());
        let ids: Vec<_> = state.ids().cloned().collect();
        slot.cached.publish(state.served().map(|pod| Arc::new(Pod { sequence, ..pod })));
        slot.state.lock().state = state;
        self.add_ids(&slot, &ids);
    }

    /// Restores the tombstones of an earlier process.
    pub(super) fn restore_tombstones(&self, tombstones: Tombstones) {
        *self.tombstones.lock() = tombstones;
    }

    /// All tombstones, the oldest first: the id, and when it was inserted.
    pub(super) fn all_tombstones(&self) -> Vec<(ObjectId, Mono)> {
        self.tombstones.lock().iter().map(|(id, inserted)| (id.clone(), inserted)).collect()
    }

    /// Before this moment ids may have been removed whose tombstones are forgotten.
    pub(super) fn horizon(&self) -> Mono {
        self.tombstones.lock().horizon()
    }

    #[cfg(feature = "internals")]
    pub(super) fn keep_tombstones(&self, at_most: usize) {
        self.tombstones.lock().keep(at_most);
    }

    /// Number of tombstones, at this time.
    pub(super) fn tombstones(&self, now: Mono) -> usize {
        let mut tombstones = self.tombstones.lock();
        tombstones.forget(now);
        tombstones.len()
    }

    /// Whether a removed id that a list shows is to be read again: not within `apart` of the read before.
    pub(super) fn may_reread(&self, id: &ObjectId, now: Mono, apart: Duration) -> bool {
        self.tombstones.lock().may_reread(id, now, apart)
    }

    /// A list that began at `shown` shows an id that has no record; the one before, begun at `absent`, did not have it.
    pub(super) fn note_unread(&self, id: &ObjectId, absent: Option<Mono>, shown: Mono, phase: Option<Phase>) {
        let mut unread = self.unread.lock();
        let unread = unread.entry(id.clone()).or_insert(Unread { absent, shown, phases: BTreeSet::new() });
        unread.shown = shown;
        unread.phases.extend(phase);
    }

    /// Drops unread ids that no list has shown since this moment.
    pub(super) fn forget_unread(&self, before: Mono) {
        let mut unread = self.unread.lock();
        unread.retain(|_, it| it.shown >= before);
        unread.shrink_to(UNREAD_CAPACITY);
    }
}

impl KnownIds for Store {
    fn removed_at(&self, id: &ObjectId) -> Option<Mono> {
        self.tombstones.lock().get(id)
    }

    fn unread(&self, id: &ObjectId) -> Option<Unread> {
        self.unread.lock().get(id).cloned()
    }
}

// === impl PodSlot ===

impl PodSlot {
    /// None if the slot was evicted meanwhile.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, LockedPod>> {
        Some(self.state.lock()).filter(|locked| !locked.evicted)
    }
}

/// UID, namespace and name.
pub(super) fn names(pod: &PodIdentity) -> (&str, &str, &str) {
    (pod.uid.as_str(), &pod.namespace, &pod.name)
}
