//! Pods and containers in JSON and YAML: the fields of `plegd.v1` with the same names, enums as short words, times as RFC 3339. Programs
//! depend on these names: none is ever renamed or removed.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use serde::Serialize;

use crate::{client::wall, v1};

#[derive(Debug, Serialize)]
pub(crate) struct Identity<'a> {
    uid: &'a str,
    namespace: &'a str,
    name: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Pod<'a> {
    identity: Identity<'a>,
    sandboxes: Vec<Sandbox<'a>>,
    containers: Vec<Container<'a>>,
    ips: &'a [String],
    labels: BTreeMap<&'a str, &'a str>,
    sequence: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Sandbox<'a> {
    id: &'a str,
    attempt: u32,
    state: &'static str,
    created_at: Option<String>,
    ips: &'a [String],
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
    runtime_handler: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Container<'a> {
    id: &'a str,
    sandbox_id: &'a str,
    name: &'a str,
    attempt: u32,
    state: &'static str,
    created_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    exit_code: Option<i32>,
    reason: &'a str,
    message: &'a str,
    image: &'a str,
    image_ref: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
}

/// A container and its pod.
#[derive(Debug, Serialize)]
pub(crate) struct Contained<'a> {
    #[serde(flatten)]
    container: Container<'a>,
    pod: Identity<'a>,
}

/// The word for a container's state.
pub(crate) fn container_state(container: &v1::Container) -> &'static str {
    match container.state() {
        v1::ContainerState::Unspecified => "unspecified",
        v1::ContainerState::Created => "created",
        v1::ContainerState::Running => "running",
        v1::ContainerState::Exited => "exited",
        v1::ContainerState::Unknown => "unknown",
    }
}

fn sandbox_state(sandbox: &v1::Sandbox) -> &'static str {
    match sandbox.state() {
        v1::SandboxState::Unspecified => "unspecified",
        v1::SandboxState::Ready => "ready",
        v1::SandboxState::NotReady => "notready",
    }
}

fn time(time: &Option<Timestamp>) -> Option<String> {
    time.as_ref().map(|time| wall(time).to_string())
}

/// The labels in the order of their names, so that two outputs can be compared.
fn sorted<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> BTreeMap<&'a str, &'a str> {
    labels.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

impl<'a> From<&'a v1::PodIdentity> for Identity<'a> {
    fn from(pod: &'a v1::PodIdentity) -> Self {
        Self { uid: &pod.uid, namespace: &pod.namespace, name: &pod.name }
    }
}

impl<'a> From<&'a v1::Pod> for Pod<'a> {
    fn from(pod: &'a v1::Pod) -> Self {
        let empty = Identity { uid: "", namespace: "", name: "" };
        Self {
            identity: pod.identity.as_ref().map_or(empty, Identity::from),
            sandboxes: pod.sandboxes.iter().map(Sandbox::from).collect(),
            containers: pod.containers.iter().map(Container::from).collect(),
            ips: &pod.ips,
            labels: sorted(&pod.labels),
            sequence: pod.sequence,
        }
    }
}

impl<'a> From<&'a v1::Sandbox> for Sandbox<'a> {
    fn from(sandbox: &'a v1::Sandbox) -> Self {
        Self {
            id: &sandbox.id,
            attempt: sandbox.attempt,
            state: sandbox_state(sandbox),
            created_at: time(&sandbox.created_at),
            ips: &sandbox.ips,
            labels: sorted(&sandbox.labels),
            annotations: sorted(&sandbox.annotations),
            runtime_handler: &sandbox.runtime_handler,
        }
    }
}

impl<'a> From<&'a v1::Container> for Container<'a> {
    fn from(container: &'a v1::Container) -> Self {
        Self {
            id: &container.id,
            sandbox_id: &container.sandbox_id,
            name: &container.name,
            attempt: container.attempt,
            state: container_state(container),
            created_at: time(&container.created_at),
            started_at: time(&container.started_at),
            finished_at: time(&container.finished_at),
            exit_code: container.exit_code,
            reason: &container.reason,
            message: &container.message,
            image: &container.image,
            image_ref: &container.image_ref,
            labels: sorted(&container.labels),
            annotations: sorted(&container.annotations),
        }
    }
}

impl<'a> Contained<'a> {
    pub(crate) fn new(container: &'a v1::Container, pod: &'a v1::PodIdentity) -> Self {
        Self { container: container.into(), pod: pod.into() }
    }
}
