//! An event as the journal holds it: with its pod, and with the bytes that it was encoded as.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::model::{ContainerStatus, Event, Labels, Pod, SandboxStatus};

/// An event and what is kept with it.
#[derive(Debug)]
pub struct Record {
    /// The event.
    pub event: Event,
    /// The pod after the change that the event is part of; none if it is gone.
    pub pod: Option<Arc<Pod>>,
    /// Number of the last event of the same change.
    pub(super) change_ends: u64,
    /// What it takes in memory, in bytes.
    weight: AtomicUsize,
    pub(super) encoded: [OnceLock<Bytes>; 2],
}

/// How much is told of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// The event alone.
    #[default]
    Event,
    /// The event with the pod after it.
    Pod,
}

// === impl Record ===

impl Record {
    /// A record of a change that ends with event number `change_ends`; `before` is the pod in the last record of it, with
    /// which it shares what has not changed.
    pub(super) fn new(event: Event, pod: Option<Arc<Pod>>, change_ends: u64, before: Option<&Pod>) -> Self {
        let strings = heap(event.reason.len()) + heap(event.id.as_str().len());
        let of_pod = pod.as_deref().map_or(0, |pod| weight_beside(pod, before));
        let weight = AtomicUsize::new(shared::<Self>() + strings + of_pod);
        Self { event, pod, change_ends, weight, encoded: [OnceLock::new(), OnceLock::new()] }
    }

    pub(super) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    /// Under the ring's lock.
    pub(super) fn add_weight(&self, by: usize) {
        self.weight.fetch_add(by, Ordering::Relaxed);
    }
}

impl Deref for Record {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// What a pod takes in memory beside another state of it: statuses that did not change are shared.
fn weight_beside(pod: &Pod, before: Option<&Pod>) -> usize {
    let old = |sandbox: &Arc<SandboxStatus>| {
        before.is_some_and(|pod| pod.sandboxes.iter().any(|old| Arc::ptr_eq(old, sandbox)))
    };
    let sandboxes = pod.sandboxes.iter().filter(|sandbox| !old(sandbox));
    let old = |container: &Arc<ContainerStatus>| {
        before.is_some_and(|pod| pod.containers.iter().any(|old| Arc::ptr_eq(old, container)))
    };
    let containers = pod.containers.iter().filter(|container| !old(container));
    // A pod has its labels from a sandbox, and as a rule that sandbox as well.
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

/// Both of their parts are shared: with two counts, which those that are empty have in common.
fn of_labels(labels: &Labels) -> usize {
    labels
        .bytes()
        .iter()
        .map(|bytes| if *bytes == 0 { 0 } else { heap(bytes + 2 * size_of::<usize>()) })
        .sum()
}

/// A value that is shared, with its two counts.
fn shared<T>() -> usize {
    heap(size_of::<T>() + 2 * size_of::<usize>())
}

/// What so many bytes take from the allocator: a word more, in steps of two words, and 32 bytes at least.
fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(2 * size_of::<usize>()).max(32) }
}
