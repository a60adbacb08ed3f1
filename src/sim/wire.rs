//! Converts the truth to CRI messages: statuses, list items and events. Pure functions.

use std::collections::BTreeMap;

use super::{
    profile::{Profile, SandboxCreated, Statuses, WithoutSandbox},
    truth::{Container, ContainerState, Sandbox, View},
    v1,
};

/// The kubelet's label for the pod's UID.
pub(super) const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
/// The kubelet's label for the container's name.
pub(super) const CONTAINER_NAME_LABEL: &str = "io.kubernetes.container.name";

/// The creation time that containerd 2.x returns for a sandbox whose controller has deleted its record: Go's zero
/// time in nanoseconds, with an overflow (containerd#9673).
pub(super) const FORGOTTEN_CREATED_AT: i64 = -6_795_364_578_871_345_152;

pub(super) fn pod_labels(namespace: &str, name: &str, uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("io.kubernetes.pod.name".to_owned(), name.to_owned()),
        ("io.kubernetes.pod.namespace".to_owned(), namespace.to_owned()),
        (POD_UID_LABEL.to_owned(), uid.to_owned()),
    ])
}

/// An event for a sandbox or container with its current statuses; `None` where the runtime sends none.
pub(super) fn event(
    view: &View,
    profile: &Profile,
    rng: &mut fastrand::Rng,
    id: &str,
    sandbox_id: &str,
    kind: v1::ContainerEventType,
) -> Option<v1::ContainerEventResponse> {
    let sandbox = view.sandboxes.get(sandbox_id);
    if sandbox.is_none() && profile.without_sandbox == WithoutSandbox::NoEvent {
        return None;
    }
    let mut containers: Vec<_> = match (profile.statuses, sandbox) {
        (Statuses::OfPodUid, Some(sandbox)) => {
            let uid = Some(&sandbox.spec.uid);
            let of_pod = view.containers.values().filter(|it| it.spec.labels.get(POD_UID_LABEL) == uid);
            of_pod.map(container_status).collect()
        }
        _ => view.containers_of(sandbox_id).map(container_status).collect(),
    };
    // The order is that of a Go map.
    rng.shuffle(&mut containers);
    Some(v1::ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind.into(),
        created_at: 0,
        pod_sandbox_status: sandbox.map(|sandbox| sandbox_status(sandbox, profile)),
        containers_statuses: containers,
    })
}

pub(super) fn sandbox_status(sandbox: &Sandbox, profile: &Profile) -> v1::PodSandboxStatus {
    let mode = if sandbox.spec.host_network { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod };
    let mut ips = sandbox.ips.iter();
    v1::PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox.ready).into(),
        created_at: if sandbox.forgotten { FORGOTTEN_CREATED_AT } else { sandbox.created_at.as_nanos() },
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().cloned().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip: ip.clone() }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(v1::NamespaceOption {
                    network: mode.into(),
                    pid: v1::NamespaceMode::Container.into(),
                    ipc: mode.into(),
                }),
            }),
        }),
        labels: sandbox.spec.labels.clone(),
        annotations: sandbox.spec.annotations.clone(),
        // CRI-O does not set it here.
        runtime_handler: match profile.sandbox_created {
            SandboxCreated::Sent => sandbox.spec.runtime_handler.clone(),
            SandboxCreated::Skipped => String::new(),
        },
    }
}

pub(super) fn sandbox_item(sandbox: &Sandbox) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.id.clone(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox.ready).into(),
        created_at: sandbox.created_at.as_nanos(),
        labels: sandbox.spec.labels.clone(),
        annotations: sandbox.spec.annotations.clone(),
        runtime_handler: sandbox.spec.runtime_handler.clone(),
    }
}

pub(super) fn container_status(container: &Container) -> v1::ContainerStatus {
    let digest = digest(&container.spec.image);
    v1::ContainerStatus {
        id: container.id.clone(),
        metadata: Some(container_metadata(container)),
        state: container_state(container.state).into(),
        created_at: container.created_at.as_nanos(),
        started_at: container.started_at.map_or(0, |at| at.as_nanos()),
        finished_at: container.finished_at.map_or(0, |at| at.as_nanos()),
        exit_code: container.exit_code,
        image: Some(v1::ImageSpec { image: container.spec.image.clone() }),
        // containerd returns the repository's digest here and the configuration's digest in the list; they are not
        // comparable.
        image_ref: match container.spec.image.as_str() {
            "" => String::new(),
            image => [image, "@", &digest].concat(),
        },
        reason: container.reason.clone(),
        message: container.message.clone(),
        labels: container.spec.labels.clone(),
        annotations: container.spec.annotations.clone(),
        log_path: container.spec.log_path.clone(),
        image_id: digest,
    }
}

pub(super) fn container_item(container: &Container) -> v1::Container {
    v1::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox_id.clone(),
        metadata: Some(container_metadata(container)),
        image: Some(v1::ImageSpec { image: container.spec.image.clone() }),
        image_ref: digest(&container.spec.image),
        state: container_state(container.state).into(),
        created_at: container.created_at.as_nanos(),
        labels: container.spec.labels.clone(),
        annotations: container.spec.annotations.clone(),
        image_id: digest(&container.spec.image),
    }
}

fn sandbox_metadata(sandbox: &Sandbox) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: sandbox.spec.name.clone(),
        uid: sandbox.spec.uid.clone(),
        namespace: sandbox.spec.namespace.clone(),
        attempt: sandbox.spec.attempt,
    }
}

fn container_metadata(container: &Container) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: container.spec.name.clone(), attempt: container.spec.attempt }
}

pub(super) fn sandbox_state(ready: bool) -> v1::PodSandboxState {
    if ready { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
}

pub(super) fn container_state(state: ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited => v1::ContainerState::ContainerExited,
        ContainerState::Unknown => v1::ContainerState::ContainerUnknown,
    }
}

/// A value that looks like a digest; an image always gets the same.
fn digest(image: &str) -> String {
    let mut rng = fastrand::Rng::with_seed(
        image.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into())),
    );
    let mut digest = String::with_capacity("sha256:".len() + 64);
    digest.push_str("sha256:");
    for bits in (0..4).map(|_| rng.u64(..)) {
        digest.extend((0..16).rev().filter_map(|at| char::from_digit((bits >> (4 * at)) as u32 & 15, 16)));
    }
    digest
}
