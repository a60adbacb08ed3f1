//! Sandboxes and containers in scenario files: CRI's statuses as JSON. A step may have only some fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    json::{FormatError, Object, Parse, one_of},
    time::Time,
};
use crate::{
    clock::Wall,
    sim::truth::{Container, ContainerSpec, ContainerState, Sandbox, SandboxSpec},
};

type Pairs = BTreeMap<String, String>;

/// Fields of a PodSandboxStatus, or of a sandbox in a list; `None` leaves a field unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxFields {
    /// Name, UID, namespace and attempt.
    pub metadata: Option<SandboxMetadata>,
    /// Whether it is ready.
    pub ready: Option<bool>,
    /// When it was created.
    pub created_at: Option<Time>,
    /// Its addresses.
    pub addresses: Option<Vec<String>>,
    /// Whether it uses the node's network.
    pub host_network: Option<bool>,
    /// Labels.
    pub labels: Option<Pairs>,
    /// Annotations.
    pub annotations: Option<Pairs>,
    /// The runtime class's handler.
    pub runtime_handler: Option<String>,
}

/// A PodSandboxMetadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The attempt, from 0.
    pub attempt: u32,
}

/// Fields of a ContainerStatus, or of a container in a list; `None` leaves a field unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerFields {
    /// Name and attempt.
    pub metadata: Option<(String, u32)>,
    /// State.
    pub state: Option<ContainerState>,
    /// When it was created.
    pub created_at: Option<Time>,
    /// When it was started; 0 if it was not.
    pub started_at: Option<Time>,
    /// When it ended; 0 if it has not.
    pub finished_at: Option<Time>,
    /// Exit code.
    pub exit_code: Option<i32>,
    /// Image.
    pub image: Option<String>,
    /// Reason.
    pub reason: Option<String>,
    /// Message.
    pub message: Option<String>,
    /// Labels.
    pub labels: Option<Pairs>,
    /// Annotations.
    pub annotations: Option<Pairs>,
    /// Only in a list: the sandbox that the list gives.
    pub pod_sandbox_id: Option<String>,
}

/// Fields and the id that they belong to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WithId<T> {
    /// The id.
    pub id: String,
    /// The fields.
    pub fields: T,
}

/// Labels in addition to those in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// The kubelet's, which name the pod and the container.
    WithKubelets,
    /// None, as for a pod created by crictl.
    AsWritten,
}

pub(super) const SANDBOX_STATES: [(&str, bool); 2] = [("SANDBOX_READY", true), ("SANDBOX_NOTREADY", false)];

pub(super) const CONTAINER_STATES: [(&str, ContainerState); 4] = [
    ("CONTAINER_CREATED", ContainerState::Created),
    ("CONTAINER_RUNNING", ContainerState::Running),
    ("CONTAINER_EXITED", ContainerState::Exited),
    ("CONTAINER_UNKNOWN", ContainerState::Unknown),
];

/// Replaces `old` by `new` if that is set.
fn take<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        old.clone_from(new);
    }
}

fn fix(time: &mut Option<Time>, now: Wall) {
    *time = time.map(|time| time.fixed(now));
}

fn started(time: Option<Time>, now: Wall) -> Option<Wall> {
    time.map(|time| time.nanos(now)).filter(|nanos| *nanos != 0).map(Wall::from_nanos)
}

// === impl SandboxFields ===

impl SandboxFields {
    /// Takes the fields that are set in `other`.
    pub(super) fn update(&mut self, other: &Self) {
        take(&mut self.metadata, &other.metadata);
        take(&mut self.ready, &other.ready);
        take(&mut self.created_at, &other.created_at);
        take(&mut self.addresses, &other.addresses);
        take(&mut self.host_network, &other.host_network);
        take(&mut self.labels, &other.labels);
        take(&mut self.annotations, &other.annotations);
        take(&mut self.runtime_handler, &other.runtime_handler);
    }

    /// Replaces relative times by absolute ones.
    pub(super) fn fix(&mut self, now: Wall) {
        fix(&mut self.created_at, now);
    }

    /// The sandbox that has these fields.
    pub(super) fn sandbox(&self, id: &str, labels: Labels, now: Wall) -> Sandbox {
        let SandboxMetadata { name, uid, namespace, attempt } = self.metadata.clone().unwrap_or_default();
        let mut spec = match labels {
            Labels::WithKubelets => SandboxSpec::of_pod(&namespace, &name, &uid),
            Labels::AsWritten => SandboxSpec::by_crictl(&namespace, &name, &uid),
        };
        spec.attempt = attempt;
        spec.labels.extend(self.labels.clone().unwrap_or_default());
        spec.annotations = self.annotations.clone().unwrap_or_default();
        spec.host_network = self.host_network.unwrap_or_default();
        spec.runtime_handler = self.runtime_handler.clone().unwrap_or_default();
        let created_at = self.created_at.unwrap_or(Time::FromNow(0)).nanos(now);
        Sandbox {
            id: id.to_owned(),
            spec,
            ready: self.ready.unwrap_or(true),
            created_at: Wall::from_nanos(created_at),
            ips: self.addresses.clone().unwrap_or_default(),
            forgotten: false,
        }
    }
}

impl Parse for WithId<SandboxFields> {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let status = Object::new(value, place, &KEYS_OF_SANDBOX)?;
        Ok(Self { id: status.required("id")?, fields: SandboxFields::of(&status)? })
    }
}

/// `linux` is read only for the network namespace.
const KEYS_OF_SANDBOX: [&str; 9] =
    ["id", "metadata", "state", "created_at", "network", "linux", "labels", "annotations", "runtime_handler"];

impl SandboxFields {
    fn of(status: &Object<'_>) -> Result<Self, FormatError> {
        let ready = status.optional::<Value>("state")?;
        let place = status.place_of("state");
        Ok(Self {
            metadata: status.optional("metadata")?,
            ready: ready
                .map(|state| one_of(&state, &place, "state of a sandbox", &SANDBOX_STATES))
                .transpose()?,
            created_at: status.optional("created_at")?,
            addresses: status.optional::<Addresses>("network")?.map(|network| network.0),
            host_network: status.optional::<Value>("linux")?.map(|linux| is_host_network(&linux)),
            labels: status.optional("labels")?,
            annotations: status.optional("annotations")?,
            runtime_handler: status.optional("runtime_handler")?,
        })
    }
}

/// A `listed` of a sandbox.
impl Parse for SandboxFields {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let keys = ["metadata", "state", "created_at", "labels", "annotations", "runtime_handler"];
        Self::of(&Object::new(value, place, &keys)?)
    }
}

impl Parse for SandboxMetadata {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let metadata = Object::new(value, place, &["name", "uid", "namespace", "attempt"])?;
        Ok(Self {
            name: metadata.or_default("name")?,
            uid: metadata.or_default("uid")?,
            namespace: metadata.or_default("namespace")?,
            attempt: metadata.or_default("attempt")?,
        })
    }
}

struct Addresses(Vec<String>);

impl Parse for Addresses {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let network = Object::new(value, place, &["ip", "additional_ips"])?;
        let first: Option<String> = network.optional("ip")?;
        let more: Vec<Address> = network.or_default("additional_ips")?;
        let all = first.into_iter().chain(more.into_iter().map(|address| address.0));
        Ok(Self(all.filter(|address| !address.is_empty()).collect()))
    }
}

struct Address(String);

impl Parse for Address {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        Ok(Self(Object::new(value, place, &["ip"])?.or_default("ip")?))
    }
}

fn is_host_network(linux: &Value) -> bool {
    linux.pointer("/namespaces/options/network").and_then(Value::as_str) == Some("NODE")
}

// === impl ContainerFields ===

impl ContainerFields {
    /// Takes the fields that are set in `other`.
    pub(super) fn update(&mut self, other: &Self) {
        take(&mut self.metadata, &other.metadata);
        take(&mut self.state, &other.state);
        take(&mut self.created_at, &other.created_at);
        take(&mut self.started_at, &other.started_at);
        take(&mut self.finished_at, &other.finished_at);
        take(&mut self.exit_code, &other.exit_code);
        take(&mut self.image, &other.image);
        take(&mut self.reason, &other.reason);
        take(&mut self.message, &other.message);
        take(&mut self.labels, &other.labels);
        take(&mut self.annotations, &other.annotations);
        take(&mut self.pod_sandbox_id, &other.pod_sandbox_id);
    }

    /// Replaces relative times by absolute ones.
    pub(super) fn fix(&mut self, now: Wall) {
        fix(&mut self.created_at, now);
        fix(&mut self.started_at, now);
        fix(&mut self.finished_at, now);
    }

    /// The container with these fields. `pod` is its sandbox, whose labels the kubelet repeats.
    pub(super) fn container(
        &self,
        id: &str,
        sandbox_id: &str,
        pod: Option<&SandboxSpec>,
        labels: Labels,
        now: Wall,
    ) -> Container {
        let (name, attempt) = self.metadata.clone().unwrap_or_default();
        let image = self.image.clone().unwrap_or_default();
        let mut spec = match (labels, pod) {
            (Labels::WithKubelets, Some(pod)) => ContainerSpec::of_pod(pod, &name, attempt, &image),
            _ => ContainerSpec::by_crictl(&name, attempt, &image),
        };
        spec.labels.extend(self.labels.clone().unwrap_or_default());
        spec.annotations = self.annotations.clone().unwrap_or_default();
        let created_at = self.created_at.unwrap_or(Time::FromNow(0)).nanos(now);
        Container {
            id: id.to_owned(),
            sandbox_id: self.pod_sandbox_id.clone().unwrap_or_else(|| sandbox_id.to_owned()),
            spec,
            state: self.state.unwrap_or(ContainerState::Created),
            created_at: Wall::from_nanos(created_at),
            started_at: started(self.started_at, now),
            finished_at: started(self.finished_at, now),
            exit_code: self.exit_code.unwrap_or_default(),
            reason: self.reason.clone().unwrap_or_default(),
            message: self.message.clone().unwrap_or_default(),
        }
    }

    fn of(status: &Object<'_>) -> Result<Self, FormatError> {
        let state = status.optional::<Value>("state")?;
        let place = status.place_of("state");
        Ok(Self {
            metadata: status.optional::<ContainerMetadata>("metadata")?.map(|it| (it.0, it.1)),
            state: state
                .map(|state| one_of(&state, &place, "state of a container", &CONTAINER_STATES))
                .transpose()?,
            created_at: status.optional("created_at")?,
            started_at: status.optional("started_at")?,
            finished_at: status.optional("finished_at")?,
            exit_code: status.optional("exit_code")?,
            image: status.optional::<Image>("image")?.map(|image| image.0),
            reason: status.optional("reason")?,
            message: status.optional("message")?,
            labels: status.optional("labels")?,
            annotations: status.optional("annotations")?,
            pod_sandbox_id: status.optional("pod_sandbox_id")?,
        })
    }
}

/// The last seven are ignored: plegd does not read these fields of CRI.
const KEYS_OF_CONTAINER: [&str; 19] = [
    "id",
    "metadata",
    "state",
    "created_at",
    "started_at",
    "finished_at",
    "exit_code",
    "image",
    "reason",
    "message",
    "labels",
    "annotations",
    "image_ref",
    "image_id",
    "mounts",
    "log_path",
    "resources",
    "user",
    "stop_signal",
];

impl Parse for WithId<ContainerFields> {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let status = Object::new(value, place, &KEYS_OF_CONTAINER)?;
        Ok(Self { id: status.required("id")?, fields: ContainerFields::of(&status)? })
    }
}

/// A `listed` of a container.
impl Parse for ContainerFields {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let keys = ["metadata", "state", "created_at", "image", "labels", "annotations", "pod_sandbox_id"];
        Self::of(&Object::new(value, place, &keys)?)
    }
}

struct ContainerMetadata(String, u32);

impl Parse for ContainerMetadata {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let metadata = Object::new(value, place, &["name", "attempt"])?;
        Ok(Self(metadata.or_default("name")?, metadata.or_default("attempt")?))
    }
}

struct Image(String);

impl Parse for Image {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let keys = ["image", "annotations", "user_specified_image", "runtime_handler"];
        Ok(Self(Object::new(value, place, &keys)?.or_default("image")?))
    }
}

/// The value itself, for callers that parse it later.
impl Parse for Value {
    fn parse(value: &Value, _: &str) -> Result<Self, FormatError> {
        Ok(value.clone())
    }
}
