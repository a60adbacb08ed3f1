//! Full lists for a reader who needs one that began after a moment: one at a time, shared by all who wait for it.
//!
//! Each is a relist like any other: what it shows of pods that nobody asked for is compared and reported, too.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Mutex;

use super::Relister;
use crate::{
    clock::Mono,
    cri::{CriError, Listing},
};

/// Lists. Cheap to clone; all clones share one list call.
#[derive(Clone)]
pub(crate) struct Lister(Arc<Inner>);

struct Inner {
    relister: Relister,
    /// The last listing and when it began, while somebody else waits who may use it.
    last: Mutex<Option<(Mono, Arc<Listing>)>>,
    waiting: AtomicUsize,
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

// === impl Lister ===

impl Lister {
    pub(crate) fn new(relister: Relister) -> Self {
        Self(Arc::new(Inner { relister, last: Mutex::default(), waiting: AtomicUsize::new(0) }))
    }

    /// Both full lists, begun after this call. Dropping the future gives it up.
    pub(crate) async fn list(&self) -> Result<Arc<Listing>, CriError> {
        let it = &self.0;
        let called = it.relister.clock.now();
        let waiting = Waiting::new(&it.waiting);
        let mut last = it.last.lock().await;
        drop(waiting);
        let shared = last.as_ref().filter(|(began, _)| *began > called).map(|(_, listing)| listing.clone());
        let listing = match shared {
            Some(listing) => listing,
            None => {
                let (listing, relisted) = it.relister.list().await?;
                let listing = Arc::new(listing);
                *last = Some((relisted.began, listing.clone()));
                listing
            }
        };
        // A listing of thousands of pods is not kept for nobody.
        if it.waiting.load(Ordering::Relaxed) == 0 {
            *last = None;
        }
        Ok(listing)
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
