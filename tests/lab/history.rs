//! What the test's own calls did: for each sandbox and container, in order, created, started, died and removed.
//!
//! Owns the record only: the client writes to it after each call that succeeded. It is the truth with which a test compares
//! what plegd tells; it knows nothing of events.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// Shared by the clones of a client.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The container's id, or the sandbox's own.
    pub id: String,
    pub sandbox_id: String,
    pub pod_uid: String,
    pub what: What,
    /// When the call that brought it about had returned, or, for a death, the runtime's own `finished_at`.
    pub at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    Created,
    Started,
    /// A start that failed: the runtime shows the container exited with 128 and tells no event.
    StartFailed,
    /// With the exit code; a sandbox's is not known.
    Died(Option<i32>),
    Removed,
}

// === impl History ===

impl History {
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// What happened to one container or sandbox, in order.
    pub fn of(&self, id: &str) -> Vec<What> {
        self.lock().iter().filter(|entry| entry.id == id).map(|entry| entry.what).collect()
    }

    /// What happened to each, by id; containers and, where `id == sandbox_id`, sandboxes.
    pub fn by_id(&self) -> BTreeMap<String, Vec<What>> {
        let mut histories = BTreeMap::<String, Vec<What>>::new();
        for entry in self.lock().iter() {
            histories.entry(entry.id.clone()).or_default().push(entry.what);
        }
        histories
    }

    /// Begins anew: what was done so far is not what the test is about.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// Ids of a sandbox's containers that are not removed, with what last happened to them.
    pub(super) fn containers_of(&self, sandbox_id: &str) -> Vec<(String, What)> {
        let mut last = BTreeMap::new();
        for entry in
            self.lock().iter().filter(|entry| entry.sandbox_id == sandbox_id && entry.id != sandbox_id)
        {
            last.insert(entry.id.clone(), entry.what);
        }
        last.into_iter().filter(|(_, what)| *what != What::Removed).collect()
    }

    /// The sandbox and the pod of a container that this history knows.
    pub(super) fn place_of(&self, id: &str) -> (String, String) {
        let entries = self.lock();
        let known = entries.iter().find(|entry| entry.id == id);
        known.map(|entry| (entry.sandbox_id.clone(), entry.pod_uid.clone())).unwrap_or_default()
    }

    pub(super) fn last_of(&self, id: &str) -> Option<What> {
        self.lock().iter().rev().find(|entry| entry.id == id).map(|entry| entry.what)
    }

    pub(super) fn write(&self, id: &str, sandbox_id: &str, pod_uid: &str, what: What, at: SystemTime) {
        let (id, sandbox_id, pod_uid) = (id.to_owned(), sandbox_id.to_owned(), pod_uid.to_owned());
        self.lock().push(Entry { id, sandbox_id, pod_uid, what, at });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A test that panicked in between has failed anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
