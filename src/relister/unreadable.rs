//! Ids that the runtime lists and whose status it does not give: what is known of them comes from lists alone.
//!
//! Each is logged once with what to do, and once when its status can be read again. Bounded; past the bound ids are counted only.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    cri::CriError,
    metrics::Metrics,
    model::{ObjectId, PodIdentity},
};

/// How many are remembered with their error.
const REMEMBERED: usize = 1024;

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

    /// All of them, by id.
    pub fn all(&self) -> Vec<(ObjectId, Unreadable)> {
        self.0.ids.lock().iter().map(|(id, it)| (id.clone(), it.clone())).collect()
    }

    /// The status of an id could not be read, and what a list shows of it is published instead. No error stands for NotFound.
    pub(super) fn add(&self, id: &ObjectId, pod: &PodIdentity, error: Option<&CriError>) {
        let error = error.map_or_else(|| "the runtime answers NotFound".to_owned(), CriError::to_string);
        let mut ids = self.0.ids.lock();
        let known = ids.contains_key(id);
        if !known {
            self.0.metrics.reads.contradictions.inc();
            tracing::warn!(
                %id,
                pod = %format_args!("{}/{}", pod.namespace, pod.name),
                %error,
                "The runtime lists this container or sandbox and does not give its status. Its state is published as listed, a death \
                 without exit code. Look it up with `crictl inspect` or `crictl inspectp` and in the runtime's log; removing the \
                 pod or restarting the runtime may help."
            );
        }
        if known || ids.len() < REMEMBERED {
            ids.insert(id.clone(), Unreadable { pod: pod.clone(), error });
        }
        self.0.metrics.reads.unreadable.set(ids.len() as i64);
    }

    /// The status of an id was read, or it is gone.
    pub(super) fn remove(&self, id: &ObjectId) {
        let mut ids = self.0.ids.lock();
        // Nearly always there is none.
        if ids.is_empty() {
            return;
        }
        if let Some(it) = ids.remove(id) {
            let pod = format_args!("{}/{}", it.pod.namespace, it.pod.name);
            tracing::info!(%id, %pod, "The runtime gives the status of this container or sandbox again, or has removed it.");
        }
        self.0.metrics.reads.unreadable.set(ids.len() as i64);
    }
}
