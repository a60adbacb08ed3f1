//! Statuses of containers and pod sandboxes, and the pod that consists of them.

use std::sync::Arc;

use super::{Labels, ObjectId, PodIdentity};
use crate::clock::Wall;

/// A container or a pod sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A container.
    Container,
    /// A pod sandbox.
    Sandbox,
}

/// Phase of a container or a sandbox. It only moves forward: a runtime never restarts an id.
///
/// A ready sandbox counts as running and any other as exited, as in the kubelet's PLEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Created, not started.
    Created,
    /// Started, or ready.
    Running,
    /// Ended, or no longer ready.
    Exited,
}

/// State of a container, as CRI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// `CONTAINER_CREATED`
    Created,
    /// `CONTAINER_RUNNING`
    Running,
    /// `CONTAINER_EXITED`
    Exited,
    /// `CONTAINER_UNKNOWN`: the runtime could not load it. It has no phase, since the state may come and go.
    Unknown,
}

/// State of a pod sandbox, as CRI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SandboxState {
    /// `SANDBOX_READY`
    Ready,
    /// `SANDBOX_NOTREADY`
    NotReady,
}

/// Status of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ObjectId,
    /// The sandbox it runs in.
    pub sandbox_id: ObjectId,
    /// Name within the pod.
    pub name: Arc<str>,
    /// How many containers of this name were created before in this sandbox.
    pub attempt: u32,
    /// State.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Option<Wall>,
    /// When it was started; none if it was never started.
    pub started_at: Option<Wall>,
    /// When it exited; none before.
    pub finished_at: Option<Wall>,
    /// Exit code, once it has exited, if the runtime has one.
    pub exit_code: Option<i32>,
    /// Short reason of the state, such as `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Details of the reason.
    pub message: String,
    /// The image as it was requested.
    pub image: String,
    /// The image that the request was resolved to.
    pub image_ref: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
}

/// Status of a pod sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxStatus {
    /// Its id.
    pub id: ObjectId,
    /// The pod it is for.
    pub pod: PodIdentity,
    /// How many sandboxes were created before for this pod.
    pub attempt: u32,
    /// State.
    pub state: SandboxState,
    /// When it was created.
    pub created_at: Option<Wall>,
    /// The pod's addresses, the primary one first; empty for a pod in the host's network.
    pub ips: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Runtime handler (runtime class); empty for the default one and on CRI-O.
    pub runtime_handler: String,
}

/// Status of a container or a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Of a container.
    Container(Arc<ContainerStatus>),
    /// Of a sandbox.
    Sandbox(Arc<SandboxStatus>),
}

/// A pod as it is served: all of its sandboxes and containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its identity.
    pub identity: PodIdentity,
    /// Sandboxes, the newest first by [`super::order`]: the pod has more than one when its sandbox was replaced.
    pub sandboxes: Vec<Arc<SandboxStatus>>,
    /// Containers of all sandboxes, the newest first by [`super::order`].
    pub containers: Vec<Arc<ContainerStatus>>,
    /// The pod's addresses. They stay when the network of a finished pod is taken down.
    pub ips: Vec<String>,
    /// Labels of the newest sandbox, which the kubelet creates with those of the pod. They stay when the sandbox is gone.
    pub labels: Labels,
    /// Sequence number of the newest event that this state includes.
    pub sequence: u64,
}

// === impl Subject ===

impl Subject {
    /// Both, for metrics that export every value from the start.
    pub const ALL: [Subject; 2] = [Subject::Container, Subject::Sandbox];

    /// `container` or `sandbox`.
    pub fn as_str(self) -> &'static str {
        match self {
            Subject::Container => "container",
            Subject::Sandbox => "sandbox",
        }
    }
}

// === impl ContainerState ===

impl ContainerState {
    /// All states, for metrics that export every value from the start.
    pub const ALL: [ContainerState; 4] =
        [ContainerState::Created, ContainerState::Running, ContainerState::Exited, ContainerState::Unknown];

    /// The phase of this state.
    pub fn phase(self) -> Option<Phase> {
        match self {
            ContainerState::Created => Some(Phase::Created),
            ContainerState::Running => Some(Phase::Running),
            ContainerState::Exited => Some(Phase::Exited),
            ContainerState::Unknown => None,
        }
    }

    /// `created`, `running`, `exited` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Exited => "exited",
            ContainerState::Unknown => "unknown",
        }
    }
}

// === impl SandboxState ===

impl SandboxState {
    /// Both states.
    pub const ALL: [SandboxState; 2] = [SandboxState::Ready, SandboxState::NotReady];

    /// The phase of this state.
    pub fn phase(self) -> Phase {
        match self {
            SandboxState::Ready => Phase::Running,
            SandboxState::NotReady => Phase::Exited,
        }
    }

    /// `ready` or `notready`.
    pub fn as_str(self) -> &'static str {
        match self {
            SandboxState::Ready => "ready",
            SandboxState::NotReady => "notready",
        }
    }
}

// === impl Status ===

impl Status {
    /// The id.
    pub fn id(&self) -> &ObjectId {
        match self {
            Status::Container(container) => &container.id,
            Status::Sandbox(sandbox) => &sandbox.id,
        }
    }

    /// The status of a container.
    #[cfg(feature = "daemon")]
    pub(crate) fn as_container(&self) -> Option<&ContainerStatus> {
        match self {
            Status::Container(container) => Some(container),
            Status::Sandbox(_) => None,
        }
    }

    /// Whether it is a container or a sandbox.
    pub fn subject(&self) -> Subject {
        match self {
            Status::Container(_) => Subject::Container,
            Status::Sandbox(_) => Subject::Sandbox,
        }
    }

    /// Its phase; none if the runtime does not know the state.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Status::Container(container) => container.state.phase(),
            Status::Sandbox(sandbox) => Some(sandbox.state.phase()),
        }
    }

    /// The same status in another phase as a list shows it: without the times and the exit, which only a status call returns.
    pub fn listed_in(&self, phase: Option<Phase>) -> Self {
        match self.clone() {
            Status::Container(mut it) => {
                Arc::make_mut(&mut it).state = match phase {
                    None => ContainerState::Unknown,
                    Some(Phase::Created) => ContainerState::Created,
                    Some(Phase::Running) => ContainerState::Running,
                    Some(Phase::Exited) => ContainerState::Exited,
                };
                Status::Container(it)
            }
            Status::Sandbox(mut it) => {
                let ready = phase == Some(Phase::Running);
                Arc::make_mut(&mut it).state =
                    if ready { SandboxState::Ready } else { SandboxState::NotReady };
                Status::Sandbox(it)
            }
        }
    }

    /// When it was created.
    pub fn created_at(&self) -> Option<Wall> {
        match self {
            Status::Container(container) => container.created_at,
            Status::Sandbox(sandbox) => sandbox.created_at,
        }
    }

    /// When it was started, if it was and the time is known. CRI has no such time for a sandbox: its `created_at` is before the network
    /// is set up, which may take seconds.
    pub fn started_at(&self) -> Option<Wall> {
        match self {
            Status::Container(container) => container.started_at,
            Status::Sandbox(_) => None,
        }
    }

    /// When it exited, if it has and the time is known. CRI has no such time for sandboxes.
    pub fn finished_at(&self) -> Option<Wall> {
        match self {
            Status::Container(container) => container.finished_at,
            Status::Sandbox(_) => None,
        }
    }
}

// === impl Pod ===

impl Pod {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first().map(Arc::as_ref)
    }

    /// The container with this id.
    pub fn container(&self, id: &str) -> Option<&ContainerStatus> {
        self.containers.iter().map(Arc::as_ref).find(|container| container.id.as_str() == id)
    }
}
