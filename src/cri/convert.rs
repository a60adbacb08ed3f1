//! From CRI's messages to the model.
//!
//! Whatever a runtime sends has a meaning here: what is unset, unknown or nonsense becomes `None` or the careful choice,
//! and nothing is refused.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    ListedContainer, ListedSandbox,
    v1::{self, ContainerEventType},
};
use crate::{
    clock::{Mono, Wall},
    model::{
        ContainerState, ContainerStatus, Detail, ObjectId, PodIdentity, SandboxState, SandboxStatus, Signal,
        SignalType,
    },
};

const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";

/// A CRI event as it came, with the time at which it did.
#[derive(Clone, Debug)]
pub struct RawEvent {
    message: v1::ContainerEventResponse,
    detail: Detail,
    /// When it was received.
    pub received: Mono,
    /// When it was received, on the wall clock.
    pub received_at: Wall,
}

/// A CRI event in terms of the model.
#[derive(Clone, Debug)]
pub(crate) struct EventParts {
    pub(crate) signal: Signal,
    /// `created_at` as it was sent.
    pub(crate) created_at: Wall,
    /// The pod, if the event says which.
    pub(crate) pod: Option<PodIdentity>,
    pub(crate) sandboxes: Vec<SandboxStatus>,
    pub(crate) containers: Vec<ContainerStatus>,
    pub(crate) detail: Detail,
}

// === impl RawEvent ===

impl RawEvent {
    pub(crate) fn new(message: v1::ContainerEventResponse, received: Mono, received_at: Wall) -> Self {
        Self { message, detail: Detail::Full, received, received_at }
    }

    /// What happened.
    pub fn kind(&self) -> SignalType {
        signal_type(self.message.container_event_type())
    }

    /// Bytes that it takes, roughly.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.message.encoded_len()
    }

    /// Cuts it down to what tells the life of the one container or sandbox that it is about: its id, name, state, times
    /// and exit. For when more events wait than memory may be given to.
    pub(crate) fn trim(&mut self) {
        self.detail = Detail::Lean;
        let id = &self.message.container_id;
        self.message.containers_statuses.retain(|status| status.id == *id);
        for status in &mut self.message.containers_statuses {
            *status = v1::ContainerStatus {
                id: std::mem::take(&mut status.id),
                metadata: status.metadata.take(),
                reason: std::mem::take(&mut status.reason),
                ..v1::ContainerStatus {
                    state: status.state,
                    created_at: status.created_at,
                    started_at: status.started_at,
                    finished_at: status.finished_at,
                    exit_code: status.exit_code,
                    ..v1::ContainerStatus::default()
                }
            };
        }
        if let Some(sandbox) = &mut self.message.pod_sandbox_status {
            sandbox.labels = BTreeMap::new();
            sandbox.annotations = BTreeMap::new();
        }
    }

    /// The exit of `id` with code 3, `c`'s second restart, and a long message; it shows all of these containers.
    #[cfg(test)]
    pub(crate) fn of_exit(id: &str, shown: &[&str]) -> Self {
        let status = |id: &&str| v1::ContainerStatus {
            id: (*id).into(),
            metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 2 }),
            state: v1::ContainerState::ContainerExited.into(),
            exit_code: 3,
            reason: "Error".into(),
            message: "long".repeat(100),
            image_ref: "busybox".into(),
            ..v1::ContainerStatus::default()
        };
        let message = v1::ContainerEventResponse {
            container_id: id.into(),
            container_event_type: ContainerEventType::ContainerStoppedEvent.into(),
            containers_statuses: shown.iter().map(status).collect(),
            ..v1::ContainerEventResponse::default()
        };
        Self::new(message, Mono::ZERO, Wall::default())
    }

    /// In terms of the model.
    pub(crate) fn into_parts(self) -> EventParts {
        let kind = self.kind();
        let message = self.message;
        let created_at = Wall::from_nanos(message.created_at);
        let signal =
            Signal { id: message.container_id.into(), kind, stamped_at: Wall::from_cri(message.created_at) };
        let sandbox = message.pod_sandbox_status.map(sandbox_status);
        // The payload does not name the containers' sandbox. On containerd it is this one; on CRI-O an older one may be
        // meant, which only a list can tell: the arbiter keeps what it knows.
        let sandbox_id = sandbox.as_ref().map_or_else(|| "".into(), |sandbox| sandbox.id.clone());
        let containers = message.containers_statuses.into_iter();
        let containers: Vec<_> = containers.map(|status| container_status(status, &sandbox_id)).collect();
        let by_labels = || containers.iter().find_map(pod_of_container);
        let pod = sandbox.as_ref().map(|sandbox| sandbox.pod.clone()).or_else(by_labels);
        EventParts {
            signal,
            created_at,
            pod,
            containers,
            sandboxes: sandbox.into_iter().collect(),
            detail: self.detail,
        }
    }
}

pub(super) fn pod_uid_label(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL_POD_UID.into(), uid.into())])
}

/// The pod that a container's labels name.
pub(crate) fn pod_of_container(container: &ContainerStatus) -> Option<PodIdentity> {
    Some(PodIdentity {
        uid: container.labels.get(LABEL_POD_UID)?.into(),
        namespace: container.labels.get(LABEL_POD_NAMESPACE)?.into(),
        name: container.labels.get(LABEL_POD_NAME)?.into(),
    })
}

pub(crate) fn listed_sandbox(sandbox: v1::PodSandbox) -> ListedSandbox {
    let state = sandbox_state(sandbox.state());
    let metadata = sandbox.metadata.unwrap_or_default();
    let pod_uid = if metadata.uid.is_empty() { sandbox.id.clone() } else { metadata.uid };
    ListedSandbox {
        id: sandbox.id,
        pod_uid,
        namespace: metadata.namespace,
        pod_name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: sandbox.created_at,
    }
}

pub(crate) fn listed_container(container: v1::Container) -> ListedContainer {
    let state = container_state(container.state);
    let metadata = container.metadata.unwrap_or_default();
    ListedContainer {
        id: container.id,
        sandbox_id: container.pod_sandbox_id,
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: container.created_at,
    }
}

pub(crate) fn sandbox_status(status: v1::PodSandboxStatus) -> SandboxStatus {
    let state = sandbox_state(status.state());
    let id: ObjectId = status.id.into();
    let metadata = status.metadata.unwrap_or_default();
    let network = status.network.unwrap_or_default();
    let additional = network.additional_ips.into_iter().map(|ip| ip.ip);
    SandboxStatus {
        pod: PodIdentity {
            uid: if metadata.uid.is_empty() { id.as_str().into() } else { metadata.uid.into() },
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
        },
        id,
        attempt: metadata.attempt,
        state,
        created_at: Wall::from_cri(status.created_at),
        ips: [network.ip].into_iter().chain(additional).filter(|ip| !ip.is_empty()).collect(),
        labels: status.labels.into_iter().collect(),
        annotations: status.annotations.into_iter().collect(),
        runtime_handler: status.runtime_handler,
    }
}

pub(crate) fn container_status(status: v1::ContainerStatus, sandbox_id: &ObjectId) -> ContainerStatus {
    let state = container_state(status.state);
    let metadata = status.metadata.unwrap_or_default();
    ContainerStatus {
        id: status.id.into(),
        sandbox_id: sandbox_id.clone(),
        name: metadata.name.into(),
        attempt: metadata.attempt,
        state,
        created_at: Wall::from_cri(status.created_at),
        started_at: Wall::from_cri(status.started_at),
        finished_at: Wall::from_cri(status.finished_at),
        exit_code: (state == ContainerState::Exited).then_some(status.exit_code),
        reason: status.reason,
        message: status.message,
        image: status.image.unwrap_or_default().image,
        image_ref: status.image_ref,
        labels: status.labels.into_iter().collect(),
        annotations: status.annotations.into_iter().collect(),
    }
}

/// A state that CRI v1 does not have is one that plegd does not know.
fn container_state(state: i32) -> ContainerState {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

fn sandbox_state(state: v1::PodSandboxState) -> SandboxState {
    match state {
        v1::PodSandboxState::SandboxReady => SandboxState::Ready,
        v1::PodSandboxState::SandboxNotready => SandboxState::NotReady,
    }
}

fn signal_type(kind: ContainerEventType) -> SignalType {
    match kind {
        ContainerEventType::ContainerCreatedEvent => SignalType::Created,
        ContainerEventType::ContainerStartedEvent => SignalType::Started,
        ContainerEventType::ContainerStoppedEvent => SignalType::Stopped,
        ContainerEventType::ContainerDeletedEvent => SignalType::Deleted,
    }
}
