//! What a runtime says of a container or a pod sandbox, and the pod that plegd makes of it.

use std::sync::Arc;

use super::{Labels, ObjectId, PodIdentity};
use crate::clock::Wall;

/// Whether something is about a container or about a pod sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A container.
    Container,
    /// A pod sandbox.
    Sandbox,
}

/// How far a container or a sandbox has come. It only ever grows: an id is never restarted.
///
/// A sandbox that is ready counts as running and one that is not as exited, as in the kubelet's PLEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Made, not started.
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
    /// `CONTAINER_UNKNOWN`: the runtime could not load it. No phase: it may come and go.
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
    /// How often a container of this name was made before in this sandbox.
    pub attempt: u32,
    /// State.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Option<Wall>,
    /// When it was started; none if it never was.
    pub started_at: Option<Wall>,
    /// When it ended; none while it has not.
    pub finished_at: Option<Wall>,
    /// Exit code, once it has ended and if it could be had.
    pub exit_code: Option<i32>,
    /// Short reason of the state, such as `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Longer text to the reason.
    pub message: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image that was found for it.
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
    /// How often a sandbox was made before for this pod.
    pub attempt: u32,
    /// State.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Option<Wall>,
    /// The pod's addresses, first the primary one; empty for a pod in the host's network.
    pub ips: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Runtime handler (runtime class); empty for the default one and on CRI-O.
    pub runtime_handler: String,
}

/// Status of either.
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
    /// Which pod.
    pub identity: PodIdentity,
    /// Sandboxes, the newest first by [`super::order`]: the pod has more than one when its sandbox was made again.
    pub sandboxes: Vec<Arc<SandboxStatus>>,
    /// Containers of all sandboxes, the newest first by [`super::order`].
    pub containers: Vec<Arc<ContainerStatus>>,
    /// The pod's addresses. They stay when the network of a finished pod is taken down.
    pub ips: Vec<String>,
    /// Labels of the newest sandbox, which the kubelet makes with the pod's. They stay when the sandbox is gone.
    pub labels: Labels,
    /// Sequence number of the newest event that this state includes.
    pub sequence: u64,
}

// === impl Subject ===

impl Subject {
    /// Both, for metrics that name every value from the start.
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
    /// All states, for metrics that name every value from the start.
    pub const ALL: [ContainerState; 4] =
        [ContainerState::Created, ContainerState::Running, ContainerState::Exited, ContainerState::Unknown];

    /// The phase that this state means.
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

    /// The phase that this state means.
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
    /// The id of what this is about.
    pub fn id(&self) -> &ObjectId {
        match self {
            Status::Container(container) => &container.id,
            Status::Sandbox(sandbox) => &sandbox.id,
        }
    }

    /// What this is about.
    pub fn subject(&self) -> Subject {
        match self {
            Status::Container(_) => Subject::Container,
            Status::Sandbox(_) => Subject::Sandbox,
        }
    }

    /// How far it has come; none if the runtime does not know.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Status::Container(container) => container.state.phase(),
            Status::Sandbox(sandbox) => Some(sandbox.state.phase()),
        }
    }

    /// The same as a list shows it in another phase: with nothing of what only a status says of that phase.
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

    /// When it was made.
    pub fn created_at(&self) -> Option<Wall> {
        match self {
            Status::Container(container) => container.created_at,
            Status::Sandbox(sandbox) => sandbox.created_at,
        }
    }

    /// When it was started, if that is known and it was. CRI does not say it of a sandbox: `created_at` lies before its network is
    /// set up, which may take seconds.
    pub fn started_at(&self) -> Option<Wall> {
        match self {
            Status::Container(container) => container.started_at,
            Status::Sandbox(_) => None,
        }
    }

    /// When it ended, if that is known and it has. CRI does not tell it of sandboxes.
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
