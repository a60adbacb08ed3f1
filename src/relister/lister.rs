//! Full lists for clients that need a list which began after their request: one list at a time, shared by all that wait for it.
//!
//! Each is a relist: all pods are compared, and all differences published.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Mutex;

use super::Relister;
use crate::{
    cache::Cache,
    clock::Mono,
    cri::{CriError, ListedContainer, Listing},
};

/// Lists the runtime. Cheap to clone; all clones share one list call.
#[derive(Clone)]
pub(crate) struct Lister(Arc<Inner>);

struct Inner {
    relister: Relister,
    /// The last listing and when it began, while a client waits that may use it.
    last: Mutex<Option<(Mono, Arc<FullList>)>>,
    waiting: AtomicUsize,
}

/// Both full lists.
pub(crate) struct FullList {
    pub(crate) listing: Listing,
    /// Whether they lack so many ids that they may be truncated.
    pub(crate) doubted: bool,
}

/// Counts a waiting client until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

// === impl Lister ===

impl Lister {
    pub(crate) fn new(relister: Relister) -> Self {
        Self(Arc::new(Inner { relister, last: Mutex::default(), waiting: AtomicUsize::new(0) }))
    }

    /// Both full lists, in calls that begin after this call. Drop the future to cancel.
    pub(crate) async fn list(&self) -> Result<Arc<FullList>, CriError> {
        let it = &self.0;
        let called = it.relister.deps.clock.now();
        let waiting = Waiting::new(&it.waiting);
        let mut last = it.last.lock().await;
        drop(waiting);
        let shared = last.as_ref().filter(|(began, _)| *began > called).map(|(_, list)| list.clone());
        let list = match shared {
            Some(list) => list,
            None => {
                let (listing, relisted) = it.relister.list().await?;
                let list = Arc::new(FullList { listing, doubted: relisted.doubted });
                *last = Some((relisted.began, list.clone()));
                list
            }
        };
        // A listing of thousands of pods is kept only for clients that wait.
        if it.waiting.load(Ordering::Relaxed) == 0 {
            *last = None;
        }
        Ok(list)
    }
}

// === impl FullList ===

impl FullList {
    /// The containers of no known pod: neither they nor their sandbox is recorded, and the sandbox is not listed. Their labels may name the
    /// pod.
    pub(crate) fn orphans(&self, cache: &Cache) -> impl Iterator<Item = &ListedContainer> {
        let listed: HashSet<&str> = self.listing.sandboxes.iter().map(|it| it.id.as_str()).collect();
        let is_held = |id: &str| cache.pod_of(id).is_some();
        self.listing.containers.iter().filter(move |it| {
            !listed.contains(it.sandbox_id.as_str()) && !is_held(&it.id) && !is_held(&it.sandbox_id)
        })
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
