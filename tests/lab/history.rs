//! The changes that the test's own calls caused: by sandbox and container, in order, created, started, died and removed.
//!
//! The client appends to it after each call that succeeded. Tests compare the published events with it. It knows nothing of
//! events.

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
    pub what: Change,
    /// When the call that caused it had returned, or, for a death, the runtime's own `finished_at`.
    pub at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    Created,
    Started,
    /// A start that failed: the runtime shows the container exited with 128 and sends no event.
    StartFailed,
    /// With the exit code; a sandbox has none.
    Died(Option<i32>),
    Removed,
}

// === impl History ===

impl History {
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// The changes of one container or sandbox, in order.
    pub fn of(&self, id: &str) -> Vec<Change> {
        self.lock().iter().filter(|entry| entry.id == id).map(|entry| entry.what).collect()
    }

    /// The changes by id: containers and, where `id == sandbox_id`, sandboxes.
    pub fn by_id(&self) -> BTreeMap<String, Vec<Change>> {
        let mut histories = BTreeMap::<String, Vec<Change>>::new();
        for entry in self.lock().iter() {
            histories.entry(entry.id.clone()).or_default().push(entry.what);
        }
        histories
    }

    /// Clears the history, to exclude the preparation of a test.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// The ids of a sandbox's containers that are not removed, with their last change.
    pub(super) fn containers_of(&self, sandbox_id: &str) -> Vec<(String, Change)> {
        let mut last = BTreeMap::new();
        for entry in
            self.lock().iter().filter(|entry| entry.sandbox_id == sandbox_id && entry.id != sandbox_id)
        {
            last.insert(entry.id.clone(), entry.what);
        }
        last.into_iter().filter(|(_, what)| *what != Change::Removed).collect()
    }

    /// The sandbox and the pod of a known container.
    pub(super) fn sandbox_and_pod_of(&self, id: &str) -> (String, String) {
        let entries = self.lock();
        let known = entries.iter().find(|entry| entry.id == id);
        known.map(|entry| (entry.sandbox_id.clone(), entry.pod_uid.clone())).unwrap_or_default()
    }

    pub(super) fn last_of(&self, id: &str) -> Option<Change> {
        self.lock().iter().rev().find(|entry| entry.id == id).map(|entry| entry.what)
    }

    pub(super) fn write(&self, id: &str, sandbox_id: &str, pod_uid: &str, what: Change, at: SystemTime) {
        let (id, sandbox_id, pod_uid) = (id.to_owned(), sandbox_id.to_owned(), pod_uid.to_owned());
        self.lock().push(Entry { id, sandbox_id, pod_uid, what, at });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A test that panicked while it held the lock has failed anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
