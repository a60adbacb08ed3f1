//! An event in the journal, with its pod and its encoded bytes.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::model::{ContainerStatus, Event, Labels, Pod, SandboxStatus};

/// An event with its pod and its encoded bytes.
#[derive(Debug)]
pub struct Record {
    /// The event.
    pub event: Event,
    /// The pod after the change that the event belongs to; none if the pod is gone.
    pub pod: Option<Arc<Pod>>,
    /// Number of the last event of the same change.
    pub(super) last_of_change: u64,
    memory_bytes: AtomicUsize,
    pub(super) encoded: [OnceLock<Bytes>; 2],
}

/// Whether an event is encoded with its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Without the pod.
    #[default]
    Event,
    /// With the pod after the change.
    Pod,
}

// === impl Record ===

impl Record {
    /// A record of a change whose last event has the number `last_of_change`. `before` is the pod in its previous record: unchanged parts
    /// are shared with it.
    pub(super) fn new(
        event: Event,
        pod: Option<Arc<Pod>>,
        last_of_change: u64,
        before: Option<&Pod>,
    ) -> Self {
        let strings = heap(event.reason.len()) + heap(event.id.as_str().len());
        let of_pod = pod.as_deref().map_or(0, |pod| added_bytes(pod, before));
        let memory_bytes = AtomicUsize::new(shared::<Self>() + strings + of_pod);
        Self { event, pod, last_of_change, memory_bytes, encoded: [OnceLock::new(), OnceLock::new()] }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Under the ring's lock.
    pub(super) fn add_memory_bytes(&self, by: usize) {
        self.memory_bytes.fetch_add(by, Ordering::Relaxed);
    }
}

impl Deref for Record {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// The memory that a pod takes in addition to an earlier state of it: unchanged statuses are shared.
fn added_bytes(pod: &Pod, before: Option<&Pod>) -> usize {
    let old = |sandbox: &Arc<SandboxStatus>| {
        before.is_some_and(|pod| pod.sandboxes.iter().any(|old| Arc::ptr_eq(old, sandbox)))
    };
    let sandboxes = pod.sandboxes.iter().filter(|sandbox| !old(sandbox));
    let old = |container: &Arc<ContainerStatus>| {
        before.is_some_and(|pod| pod.containers.iter().any(|old| Arc::ptr_eq(old, container)))
    };
    let containers = pod.containers.iter().filter(|container| !old(container));
    // A pod shares its labels with a sandbox, which it usually contains.
    let same_labels = before.is_some_and(|before| before.labels.is_shared_with(&pod.labels))
        || pod.sandboxes.iter().any(|sandbox| sandbox.labels.is_shared_with(&pod.labels));
    shared::<Pod>()
        + heap(pod.sandboxes.len() * size_of::<usize>())
        + heap(pod.containers.len() * size_of::<usize>())
        + of_ips(&pod.ips)
        + if same_labels { 0 } else { of_labels(&pod.labels) }
        + sandboxes.map(|sandbox| of_sandbox(sandbox)).sum::<usize>()
        + containers.map(|container| of_container(container)).sum::<usize>()
}

fn of_sandbox(sandbox: &SandboxStatus) -> usize {
    let text = heap(sandbox.id.as_str().len()) + heap(sandbox.runtime_handler.len());
    let maps = of_labels(&sandbox.labels) + of_labels(&sandbox.annotations);
    shared::<SandboxStatus>() + text + of_ips(&sandbox.ips) + maps
}

fn of_container(container: &ContainerStatus) -> usize {
    let ids = [&container.id, &container.sandbox_id].map(|id| heap(id.as_str().len()));
    let texts = [&container.reason, &container.message, &container.image, &container.image_ref];
    let texts = texts.map(|text| heap(text.len()));
    let maps = of_labels(&container.labels) + of_labels(&container.annotations);
    let text = ids.iter().chain(&texts).sum::<usize>() + heap(container.name.len());
    shared::<ContainerStatus>() + text + maps
}

fn of_ips(ips: &[String]) -> usize {
    heap(size_of_val(ips)) + ips.iter().map(|ip| heap(ip.len())).sum::<usize>()
}

/// Two `Arc` allocations, each with a strong and a weak count. Empty ones share a static allocation and cost nothing.
fn of_labels(labels: &Labels) -> usize {
    labels
        .bytes()
        .iter()
        .map(|bytes| if *bytes == 0 { 0 } else { heap(bytes + 2 * size_of::<usize>()) })
        .sum()
}

/// An `Arc` allocation: the value and two counts.
fn shared<T>() -> usize {
    heap(size_of::<T>() + 2 * size_of::<usize>())
}

/// The size of an allocation: one word more, rounded up to two words, and at least 32 bytes.
fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(2 * size_of::<usize>()).max(32) }
}
