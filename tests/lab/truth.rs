//! Compares plegd's cache with the runtime, field by field.
//!
//! Has its own conversion from CRI messages to plegd's model, so that it does not repeat a mistake in plegd's. It compares
//! every field of the model in both directions: an object that is served and gone is as wrong as one that exists and is not
//! served.

use std::collections::BTreeMap;

use anyhow::Result;
use plegd::{
    clock::Wall,
    model::{ContainerState, ContainerStatus, Labels, Pod, PodIdentity, SandboxState, SandboxStatus},
};

use super::{Client, cri};

/// Everything that the runtime has, or that plegd serves.
#[derive(Debug, Default)]
struct Node {
    sandboxes: BTreeMap<String, SandboxStatus>,
    /// Each container with the UID of its pod.
    containers: BTreeMap<String, (String, ContainerStatus)>,
}

/// The differences between `served` and the runtime, one line each. Nothing may change meanwhile.
pub(super) async fn differences(served: &[std::sync::Arc<Pod>], client: &Client) -> Result<Vec<String>> {
    let (truth, served) = (of_runtime(client).await?, of_cache(served));
    let mut found = compare("sandbox", &truth.sandboxes, &served.sandboxes);
    found.extend(compare("container", &truth.containers, &served.containers));
    Ok(found)
}

fn compare<T: PartialEq + std::fmt::Debug>(
    what: &str,
    truth: &BTreeMap<String, T>,
    served: &BTreeMap<String, T>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (id, is) in truth {
        match served.get(id) {
            None => found.push(format!("{what} {id} exists and is not served")),
            Some(served) if served != is => {
                found.push(format!("{what} {id}\n    is     {is:?}\n    served {served:?}"));
            }
            Some(_) => {}
        }
    }
    let gone = served.keys().filter(|id| !truth.contains_key(*id));
    found.extend(gone.map(|id| format!("{what} {id} is served and gone")));
    found
}

fn of_cache(pods: &[std::sync::Arc<Pod>]) -> Node {
    let mut node = Node::default();
    for pod in pods {
        let sandboxes =
            pod.sandboxes.iter().map(|status| (status.id.to_string(), SandboxStatus::clone(status)));
        node.sandboxes.extend(sandboxes);
        let uid = pod.identity.uid.to_string();
        let containers = pod.containers.iter();
        node.containers.extend(
            containers.map(|status| (status.id.to_string(), (uid.clone(), ContainerStatus::clone(status)))),
        );
    }
    node
}

async fn of_runtime(client: &Client) -> Result<Node> {
    let mut node = Node::default();
    for listed in client.list_pods().await? {
        let status = client.sandbox_status(&listed.id).await?;
        node.sandboxes.insert(listed.id, sandbox(status));
    }
    for listed in client.list().await? {
        let status = client.status(&listed.id).await?;
        let sandbox = node.sandboxes.get(&listed.pod_sandbox_id);
        let uid = sandbox.map(|sandbox| sandbox.pod.uid.to_string()).unwrap_or_default();
        node.containers.insert(listed.id, (uid, container(status, &listed.pod_sandbox_id)));
    }
    Ok(node)
}

fn sandbox(status: cri::PodSandboxStatus) -> SandboxStatus {
    let ready = status.state() == cri::PodSandboxState::SandboxReady;
    let metadata = status.metadata.unwrap_or_default();
    let network = status.network.unwrap_or_default();
    let ips = [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    SandboxStatus {
        id: status.id.into(),
        pod: PodIdentity {
            uid: metadata.uid.into(),
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
        },
        attempt: metadata.attempt,
        state: if ready { SandboxState::Ready } else { SandboxState::NotReady },
        created_at: time(status.created_at),
        ips: ips.filter(|ip| !ip.is_empty()).collect(),
        labels: status.labels.into_iter().collect::<Labels>(),
        annotations: status.annotations.into_iter().collect::<Labels>(),
        runtime_handler: status.runtime_handler,
    }
}

fn container(status: cri::ContainerStatus, sandbox_id: &str) -> ContainerStatus {
    let state = match status.state() {
        cri::ContainerState::ContainerCreated => ContainerState::Created,
        cri::ContainerState::ContainerRunning => ContainerState::Running,
        cri::ContainerState::ContainerExited => ContainerState::Exited,
        cri::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let metadata = status.metadata.unwrap_or_default();
    ContainerStatus {
        id: status.id.into(),
        sandbox_id: sandbox_id.into(),
        name: metadata.name.into(),
        attempt: metadata.attempt,
        state,
        created_at: time(status.created_at),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: (state == ContainerState::Exited).then_some(status.exit_code),
        reason: status.reason,
        message: status.message,
        image: status.image.unwrap_or_default().image,
        image_ref: status.image_ref,
        labels: status.labels.into_iter().collect::<Labels>(),
        annotations: status.annotations.into_iter().collect::<Labels>(),
    }
}

/// In CRI zero means "not yet".
fn time(nanos: i64) -> Option<Wall> {
    (nanos != 0).then(|| Wall::from_nanos(nanos))
}
