//! The pods and containers of the tests, described as the kubelet does.
//!
//! Owns the CRI descriptions only; `client` sends them. Every pod uses the host network, so that no CNI plugin is needed, and
//! is below the lab's own cgroup, so that its processes can be found.

use std::collections::BTreeMap;

use super::{cri, image};

/// A pod sandbox that the client created.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: String,
    pub sandbox_id: String,
    pub name: String,
    pub namespace: String,
    /// Counts the sandboxes of the pod.
    pub attempt: u32,
    cgroup_parent: String,
}

/// A container of the lab's busybox.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    pub name: String,
    pub command: Vec<String>,
    /// Counts the containers of that name in the pod.
    pub attempt: u32,
    /// 0 for none.
    pub memory_limit_bytes: i64,
}

// === impl Pod ===

impl Pod {
    /// A pod with a new UID that does not run yet.
    pub(super) fn new(name: &str, cgroup_parent: &str) -> Self {
        Self {
            uid: new_uid(),
            sandbox_id: String::new(),
            name: name.to_owned(),
            namespace: "lab".to_owned(),
            attempt: 0,
            cgroup_parent: cgroup_parent.to_owned(),
        }
    }

    /// The same pod with its next sandbox, which does not run yet.
    pub(super) fn next_attempt(&self) -> Self {
        Self { attempt: self.attempt + 1, sandbox_id: String::new(), ..self.clone() }
    }

    pub(super) fn run(&self) -> cri::RunPodSandboxRequest {
        cri::RunPodSandboxRequest { config: Some(self.config()), ..Default::default() }
    }

    pub(super) fn create_container(&self, spec: ContainerSpec) -> cri::CreateContainerRequest {
        let ContainerSpec { name, command, attempt, memory_limit_bytes } = spec;
        let mut labels = self.labels();
        labels.insert("io.kubernetes.container.name".into(), name.clone());
        let security = cri::LinuxContainerSecurityContext { namespace_options: Some(host_network()) };
        let resources =
            cri::LinuxContainerResources { memory_limit_in_bytes: memory_limit_bytes, oom_score_adj: 0 };
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name, attempt }),
            image: Some(cri::ImageSpec { image: image::BUSYBOX.into() }),
            command,
            labels,
            linux: Some(cri::LinuxContainerConfig {
                resources: Some(resources),
                security_context: Some(security),
            }),
            ..Default::default()
        };
        cri::CreateContainerRequest {
            pod_sandbox_id: self.sandbox_id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config()),
        }
    }

    fn config(&self) -> cri::PodSandboxConfig {
        let metadata = cri::PodSandboxMetadata {
            name: self.name.clone(),
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            attempt: self.attempt,
        };
        let security = cri::LinuxSandboxSecurityContext { namespace_options: Some(host_network()) };
        cri::PodSandboxConfig {
            metadata: Some(metadata),
            labels: self.labels(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent.clone(),
                security_context: Some(security),
            }),
            ..Default::default()
        }
    }

    /// The kubelet's labels, by which its PLEG identifies its pods.
    fn labels(&self) -> BTreeMap<String, String> {
        let labels = [("name", &self.name), ("namespace", &self.namespace), ("uid", &self.uid)];
        labels.into_iter().map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.clone())).collect()
    }
}

// === impl ContainerSpec ===

impl ContainerSpec {
    pub fn new(name: &str, command: &[&str]) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.to_owned(), command, ..Self::default() }
    }

    /// A container that exits with `exit_code` after `seconds`.
    pub fn sleeping(name: &str, seconds: f64, exit_code: u8) -> Self {
        // `exec`, so that the container has one process.
        let script = match exit_code {
            0 => format!("exec sleep {seconds}"),
            code => format!("sleep {seconds}; exit {code}"),
        };
        Self::new(name, &["/bin/sh", "-c", &script])
    }
}

/// The host network needs no CNI plugin.
fn host_network() -> cri::NamespaceOption {
    let (network, pid) = (cri::NamespaceMode::Node as i32, cri::NamespaceMode::Container as i32);
    cri::NamespaceOption { network, pid, ipc: cri::NamespaceMode::Pod as i32 }
}

/// A UID in the format of the API server.
fn new_uid() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
