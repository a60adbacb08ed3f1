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
        let strings = event.reason.len() + event.id.as_str().len();
        let of_pod = pod.as_deref().map_or(0, |pod| weight_beside(pod, before));
        let weight = AtomicUsize::new(size_of::<Self>() + strings + of_pod);
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
    let pointers = (pod.sandboxes.len() + pod.containers.len()) * size_of::<usize>();
    let ips: usize = pod.ips.iter().map(|ip| size_of::<String>() + ip.len()).sum();
    let old = |sandbox: &Arc<SandboxStatus>| {
        before.is_some_and(|pod| pod.sandboxes.iter().any(|old| Arc::ptr_eq(old, sandbox)))
    };
    let sandboxes = pod.sandboxes.iter().filter(|sandbox| !old(sandbox));
    let old = |container: &Arc<ContainerStatus>| {
        before.is_some_and(|pod| pod.containers.iter().any(|old| Arc::ptr_eq(old, container)))
    };
    let containers = pod.containers.iter().filter(|container| !old(container));
    size_of::<Pod>()
        + pointers
        + ips
        + if before.is_some_and(|before| Arc::ptr_eq(&before.labels, &pod.labels)) {
            0
        } else {
            of_labels(&pod.labels)
        }
        + sandboxes.map(|sandbox| of_sandbox(sandbox)).sum::<usize>()
        + containers.map(|container| of_container(container)).sum::<usize>()
}

fn of_sandbox(sandbox: &SandboxStatus) -> usize {
    let ips: usize = sandbox.ips.iter().map(|ip| size_of::<String>() + ip.len()).sum();
    size_of::<SandboxStatus>() + ips + of_labels(&sandbox.labels) + of_labels(&sandbox.annotations)
}

fn of_container(container: &ContainerStatus) -> usize {
    let texts = [&container.reason, &container.message, &container.image, &container.image_ref];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    size_of::<ContainerStatus>() + texts + of_labels(&container.labels) + of_labels(&container.annotations)
}

/// With what the tree itself takes, which is about as much as the pairs of pointers and lengths.
fn of_labels(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| 2 * size_of::<String>() + key.len() + value.len()).sum()
}
