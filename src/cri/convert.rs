//! Converts CRI messages to the model.
//!
//! Every message of a runtime can be converted: fields that are unset, unknown or invalid become `None` or the safe
//! choice.

use std::sync::Arc;

use prost::Message;

use super::{
    ListedContainer, ListedSandbox,
    status::{self, Malformed},
    v1::{self, ContainerEventType},
};
use crate::{
    clock::{Mono, Wall},
    model::{
        ContainerState, ContainerStatus, Detail, PodIdentity, SandboxState, SandboxStatus, StreamEvent,
        StreamEventType,
    },
};

const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";

/// A CRI event as received, with the time of its receipt. Its statuses are not decoded yet.
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
pub(crate) struct DecodedEvent {
    pub(crate) event: StreamEvent,
    /// `created_at` as it was sent.
    pub(crate) created_at: Wall,
    /// The pod, if the event names it.
    pub(crate) pod: Option<PodIdentity>,
    pub(crate) sandboxes: Vec<Arc<SandboxStatus>>,
    pub(crate) containers: Vec<Arc<ContainerStatus>>,
    pub(crate) detail: Detail,
    /// Statuses that could not be decoded and were left out.
    pub(crate) malformed: u64,
}

// === impl RawEvent ===

impl RawEvent {
    pub(crate) fn new(mut message: v1::ContainerEventResponse, received: Mono, received_at: Wall) -> Self {
        let statuses = &mut message.containers_statuses;
        if statuses.len() > STATUSES_LIMIT {
            statuses.truncate(STATUSES_LIMIT);
            statuses.shrink_to_fit();
            // The others count as one status that cannot be decoded.
            statuses.push(MALFORMED.to_vec());
        }
        Self { message, detail: Detail::Full, received, received_at }
    }

    /// The event's type.
    pub fn kind(&self) -> StreamEventType {
        event_type(self.message.container_event_type())
    }

    /// Approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let statuses = self.message.containers_statuses.capacity() * size_of::<Vec<u8>>();
        size_of::<Self>() + statuses + self.message.encoded_len()
    }

    /// Strips the payload to the lifecycle fields of the event's own container or sandbox: id, name, state, times and
    /// exit. Used when queued events reach the memory limit.
    pub(crate) fn strip_payload(&mut self) {
        self.detail = Detail::Minimal;
        let id = &self.message.container_id;
        self.message.containers_statuses.retain_mut(|it| match status::id_of(it) {
            Ok(of) if of != *id => false,
            // An undecodable status is detected and counted behind the queue.
            _ => {
                *it = status::only(it, &CONTAINER_LIFECYCLE).unwrap_or_else(|_| MALFORMED.to_vec());
                true
            }
        });
        self.message.containers_statuses.shrink_to_fit();
        if let Some(sandbox) = &mut self.message.pod_sandbox_status {
            *sandbox = status::only(sandbox, &SANDBOX_LIFECYCLE).unwrap_or_else(|_| MALFORMED.to_vec());
        }
    }

    /// The exit of `id` with code 3, as `c`'s second restart, with a long message; the payload has all these
    /// containers.
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
            containers_statuses: shown.iter().map(|id| status(id).encode_to_vec()).collect(),
            ..v1::ContainerEventResponse::default()
        };
        Self::new(message, Mono::ZERO, Wall::default())
    }

    /// Converts to the model.
    pub(crate) fn into_parts(self) -> DecodedEvent {
        let kind = self.kind();
        let message = self.message;
        let created_at = Wall::from_nanos(message.created_at);
        let event = StreamEvent {
            id: message.container_id.into(),
            kind,
            stamped_at: Wall::from_cri(message.created_at),
        };
        let mut malformed = 0;
        let sandbox = message.pod_sandbox_status.map(|bytes| status::sandbox_status(&bytes));
        let sandbox = sandbox.and_then(|status| count_malformed(status, &mut malformed));
        // The payload does not name the containers' sandbox. On containerd it is this one; on CRI-O it may be an
        // older one, which only a list shows: the arbiter keeps the sandbox id that it has.
        let sandbox_id = sandbox.as_ref().map_or_else(|| "".into(), |sandbox| sandbox.id.clone());
        let containers = message.containers_statuses.iter();
        let containers = containers.map(|bytes| status::container_status(bytes, &sandbox_id));
        let containers: Vec<_> =
            containers.filter_map(|status| count_malformed(status, &mut malformed)).map(Arc::new).collect();
        // CRI-O shows the containers of all pods with the same UID.
        let own = containers.iter().filter(|it| it.id == event.id);
        let by_labels = || own.chain(&containers).find_map(|it| pod_of_container(it));
        let pod = sandbox.as_ref().map(|sandbox| sandbox.pod.clone()).or_else(by_labels);
        DecodedEvent {
            event,
            created_at,
            pod,
            containers,
            sandboxes: sandbox.map(Arc::new).into_iter().collect(),
            detail: self.detail,
            malformed,
        }
    }
}

/// Maximum number of containers in an event: far more than a pod can have. Absence in an event proves nothing.
const STATUSES_LIMIT: usize = 4096;

/// The lifecycle fields of a `ContainerStatus`: id, metadata, state, its three times, exit code and reason.
const CONTAINER_LIFECYCLE: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 10];

/// The lifecycle fields of a `PodSandboxStatus`: id, metadata, state, creation time, network and runtime handler.
const SANDBOX_LIFECYCLE: [u32; 6] = [1, 2, 3, 4, 5, 9];

/// Bytes that no message begins with: a field with number 0.
const MALFORMED: [u8; 1] = [0];

fn count_malformed<T>(status: Result<T, Malformed>, malformed: &mut u64) -> Option<T> {
    *malformed += u64::from(status.is_err());
    status.ok()
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
    let state = sandbox_state(sandbox.state);
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

/// Converts a state; a value that CRI v1 does not have is `Unknown`.
pub(super) fn container_state(state: i32) -> ContainerState {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

pub(super) fn sandbox_state(state: i32) -> SandboxState {
    match v1::PodSandboxState::try_from(state).unwrap_or_default() {
        v1::PodSandboxState::SandboxReady => SandboxState::Ready,
        v1::PodSandboxState::SandboxNotready => SandboxState::NotReady,
    }
}

fn event_type(kind: ContainerEventType) -> StreamEventType {
    match kind {
        ContainerEventType::ContainerCreatedEvent => StreamEventType::Created,
        ContainerEventType::ContainerStartedEvent => StreamEventType::Started,
        ContainerEventType::ContainerStoppedEvent => StreamEventType::Stopped,
        ContainerEventType::ContainerDeletedEvent => StreamEventType::Deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_too_many_containers_is_truncated() {
        let shown = |containers| RawEvent::of_exit("a", &vec!["a"; containers]).into_parts();
        let at_most = shown(STATUSES_LIMIT);
        assert_eq!((at_most.containers.len(), at_most.malformed), (STATUSES_LIMIT, 0));
        let more = shown(STATUSES_LIMIT + 100);
        assert_eq!((more.containers.len(), more.malformed), (STATUSES_LIMIT, 1));
    }

    /// CRI-O shows the containers of all pods with the same UID.
    #[test]
    fn an_event_without_a_sandbox_is_of_the_pod_of_its_own_container() {
        let status = |id: &str, pod: &str| v1::ContainerStatus {
            id: id.into(),
            labels: [(LABEL_POD_UID, "uid"), (LABEL_POD_NAMESPACE, "ns"), (LABEL_POD_NAME, pod)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..v1::ContainerStatus::default()
        };
        let pod_of = |id: &str| {
            let message = v1::ContainerEventResponse {
                container_id: id.into(),
                containers_statuses: [status("a", "one"), status("b", "two")]
                    .map(|it| it.encode_to_vec())
                    .into(),
                ..v1::ContainerEventResponse::default()
            };
            let parts = RawEvent::new(message, Mono::ZERO, Wall::default()).into_parts();
            parts.pod.map(|pod| pod.name.to_string())
        };
        assert_eq!([pod_of("a"), pod_of("b")], ["one", "two"].map(|pod| Some(pod.to_owned())));
        assert_eq!(pod_of("c").as_deref(), Some("one"), "of another container, if its own is not shown");
    }
}
