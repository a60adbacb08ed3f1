//! Queries of the relister about the records, and its reports of complete lists and of reads of whole pods.

use super::{
    Arbiter, Difference, ListedObject, TOMBSTONED_REREAD_INTERVAL, get,
    pod::{KnownIds, PodState},
    set,
    store::names,
};
use crate::{
    clock::Mono,
    model::{ObjectId, Phase, PodIdentity, Subject},
};

impl Arbiter {
    /// A complete list that began at `lower` is about to be reconciled.
    pub fn begin_list(&self, lower: Mono) {
        let progress = &self.progress;
        let Some(before) = get(&progress.listed) else { return set(&progress.listed, Some(lower)) };
        // Two lists may run at the same time.
        if before < lower {
            set(&progress.listed_before, Some(before));
            set(&progress.listed, Some(lower));
            self.store.forget_unread(before);
        }
    }

    /// Whether no complete list has been reconciled yet.
    pub fn is_first_list(&self) -> bool {
        get(&self.progress.listed).is_none()
    }

    /// Reconciles a list, begun at `lower`, with the record of the pod with this UID, namespace and name: confirms records that agree, and
    /// returns the difference.
    pub fn reconcile_list(
        &self,
        pod: (&str, &str, &str),
        lower: Mono,
        listed: &[ListedObject<'_>],
    ) -> Difference {
        let difference = self.store.slot(pod).and_then(|slot| {
            let mut locked = slot.lock()?;
            let difference = locked.state.reconcile_list(lower, self.clock.now(), listed);
            // A phase that only the list has shown is published even if the id is gone before it is read.
            self.save(self.unsaved(&slot, &mut locked.state, &[]));
            Some(difference)
        });
        let difference = difference.unwrap_or_else(|| Difference::all_new(listed));
        let mut difference = difference.without_removed_during(lower, &|id| self.store.removed_at(id));
        difference.changed.retain(|id| self.store.may_reread(id, lower, TOMBSTONED_REREAD_INTERVAL));
        for id in difference.changed.iter().filter(|id| self.cache().pod_of(id.as_str()).is_none()) {
            let phase =
                listed.iter().find(|object| *object.id == *id.as_str()).and_then(|object| object.phase);
            self.store.note_unread(id, get(&self.progress.listed_before), lower, phase);
        }
        difference
    }

    /// The whole pod was read, in a read that began at `lower`.
    pub fn mark_read(&self, pod: &PodIdentity, lower: Mono) {
        self.with(pod, |state| state.mark_read(lower));
    }

    /// When the last read of the whole pod began.
    pub fn read_at(&self, pod: &PodIdentity) -> Option<Mono> {
        self.with(pod, |state| state.read_at())?
    }

    /// Whether an id was removed, so that an event about it that names no pod needs no search for the pod.
    pub fn is_removed(&self, id: &ObjectId) -> bool {
        self.store.removed_at(id).is_some()
    }

    /// Keeps at most this many tombstones from now on.
    #[cfg(feature = "internals")]
    pub fn keep_tombstones(&self, at_most: usize) {
        self.store.keep_tombstones(at_most);
    }

    /// Number of tombstones.
    pub fn tombstones(&self) -> usize {
        self.store.tombstones(self.clock.now())
    }

    /// The ids that are recorded of a pod.
    pub fn ids_of(&self, pod: &PodIdentity) -> Vec<ObjectId> {
        self.with(pod, |state| state.ids().cloned().collect()).unwrap_or_default()
    }

    /// The phase of an id that is served and not known to be gone.
    pub fn served_phase(&self, id: &ObjectId) -> Option<Phase> {
        self.with_pod_of(id, |state| state.served_phase(id.as_str()))?
    }

    /// The type of an id, and the sandbox that a container is in.
    pub fn locate(&self, id: &ObjectId) -> Option<(Subject, ObjectId)> {
        self.with_pod_of(id, |state| state.locate(id.as_str()))?
    }

    /// Whether the content of an id was read at or after a moment.
    pub fn is_content_read_since(&self, id: &ObjectId, moment: Mono) -> bool {
        self.with_pod_of(id, |state| state.is_content_read_since(id.as_str(), moment)).unwrap_or(false)
    }

    /// The containers and sandboxes of a pod whose content was read the longest time ago, before `before`: at most `at_most`.
    pub fn unread_since(&self, pod: &PodIdentity, before: Mono, at_most: usize) -> Vec<ObjectId> {
        self.with(pod, |state| state.unread_since(before, at_most)).unwrap_or_default()
    }

    /// Whether an id of the pod is served that is known to be gone, since its death may yet be published.
    pub fn awaits_deaths(&self, pod: &PodIdentity) -> bool {
        self.with(pod, |state| state.awaits_deaths()).unwrap_or(false)
    }

    /// Whether events of the pod wait for a read.
    pub fn is_deferring(&self, pod: &PodIdentity) -> bool {
        self.with(pod, |state| state.is_deferring()).unwrap_or(false)
    }

    /// An event that changes nothing and names no pod: for the comparison of the paths only.
    pub fn note_event_without_pod(&self, event: &crate::model::StreamEvent) {
        self.paths.record_stream_event(&event.id, event.kind, false, self.clock.now());
    }

    fn with_pod_of<R>(&self, id: &ObjectId, query: impl FnOnce(&mut PodState) -> R) -> Option<R> {
        self.with(&self.cache().pod_of(id.as_str())?, query)
    }

    fn with<R>(&self, pod: &PodIdentity, query: impl FnOnce(&mut PodState) -> R) -> Option<R> {
        let slot = self.store.slot(names(pod))?;
        let mut locked = slot.lock()?;
        Some(query(&mut locked.state))
    }
}
