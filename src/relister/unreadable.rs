//! Ids that the runtime lists and whose status call fails: their state is known from lists alone.
//!
//! Each is logged once, and once more when its status can be read again. Past a limit, ids are only counted.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    cri::CriError,
    metrics::Metrics,
    model::{ObjectId, PodIdentity},
};

/// How many ids are kept with their error.
const LIMIT: usize = 1024;

/// The ids whose status cannot be read. Cheap to clone.
#[derive(Clone)]
pub struct UnreadableIds(Arc<Inner>);

struct Inner {
    ids: Mutex<BTreeMap<ObjectId, Unreadable>>,
    metrics: Arc<Metrics>,
}

/// An id whose status cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its pod.
    pub pod: PodIdentity,
    /// Why its status could not be read the last time.
    pub error: String,
}

// === impl UnreadableIds ===

impl UnreadableIds {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { ids: Mutex::default(), metrics }))
    }

    /// All ids, in order.
    pub fn all(&self) -> Vec<(ObjectId, Unreadable)> {
        self.0.ids.lock().iter().map(|(id, it)| (id.clone(), it.clone())).collect()
    }

    /// The status call of an id fails, and the list's view is published instead. No error stands for NotFound.
    pub(super) fn add(&self, id: &ObjectId, pod: &PodIdentity, error: Option<&CriError>) {
        let error = error.map_or_else(|| "the runtime returns NotFound".to_owned(), CriError::to_string);
        let mut ids = self.0.ids.lock();
        let known = ids.contains_key(id);
        if !known {
            self.0.metrics.reads.contradictions.inc();
            tracing::warn!(
                %id,
                pod = %format_args!("{}/{}", pod.namespace, pod.name),
                %error,
                "The runtime lists this container or sandbox, but its status call fails. Publishing its state as listed, a death \
                 without exit code. Check it with `crictl inspect` or `crictl inspectp` and in the runtime's log. Removing the pod or \
                 restarting the runtime may help."
            );
        }
        if known || ids.len() < LIMIT {
            ids.insert(id.clone(), Unreadable { pod: pod.clone(), error });
        }
        self.0.metrics.reads.unreadable.set(ids.len() as i64);
    }

    /// The status of an id was read, or it is gone.
    pub(super) fn remove(&self, id: &ObjectId) {
        let mut ids = self.0.ids.lock();
        if ids.is_empty() {
            return;
        }
        if let Some(it) = ids.remove(id) {
            let pod = format_args!("{}/{}", it.pod.namespace, it.pod.name);
            tracing::info!(%id, %pod, "The status of this container or sandbox can be read again, or it was removed.");
        }
        self.0.metrics.reads.unreadable.set(ids.len() as i64);
    }
}
