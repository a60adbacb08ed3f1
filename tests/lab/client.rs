//! The CRI client of the tests: it creates, starts, stops and removes pods and containers, and reads them.
//!
//! Owns one connection and the history of its changes. Every call has a deadline, and every error names the call and the id.
//! plegd itself has no such client: it only reads.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::{
    Code, Response, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use super::{
    Change, ContainerSpec, EventStream, History, Pod, TIMEOUT,
    cri::{self, runtime_service_client::RuntimeServiceClient},
    eventually,
};

/// The same limit as the kubelet's and plegd's: a list of many pods is larger than tonic's 4 MiB.
const MESSAGE_LIMIT_BYTES: usize = 64 << 20;
/// More parallel calls only wait for each other on a small machine.
pub(super) const PARALLEL_CALLS: usize = 4;

#[derive(Clone, Debug)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    channel: Channel,
    socket: PathBuf,
    cgroup_parent: Arc<str>,
    deadline: Duration,
    history: History,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} of {id}: {}: {}", .status.code(), .status.message())]
pub struct CallError {
    pub call: &'static str,
    /// The id, or the name, that the call was about.
    pub id: String,
    pub status: Box<Status>,
}

/// The lab's proto has no image service. Only this call of it is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<cri::ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Image {
    #[prost(string, tag = "1")]
    id: String,
}

// === impl CallError ===

impl CallError {
    pub fn code(&self) -> Code {
        self.status.code()
    }
}

// === impl Client ===

impl Client {
    /// Connects at the first use, and reconnects after a restart of the runtime.
    pub(super) fn new(socket: &Path, cgroup_parent: &str) -> Result<Self> {
        let channel = connection(socket)?.connect_lazy();
        let runtime =
            RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        let history = History::default();
        let cgroup_parent = cgroup_parent.into();
        Ok(Self { runtime, channel, socket: socket.into(), cgroup_parent, deadline: TIMEOUT, history })
    }

    /// Sets the deadline of each call of this clone.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The changes that the calls of this client and its clones caused.
    pub fn history(&self) -> &History {
        &self.history
    }

    // --- Pod sandboxes ---

    /// Runs a host-network pod with a new UID in the namespace `lab`.
    pub async fn run_pod(&self, name: &str) -> Result<Pod, CallError> {
        self.run_sandbox(Pod::new(name, &self.cgroup_parent)).await
    }

    /// Runs another sandbox for the same pod, as the kubelet does when the first one died.
    pub async fn run_pod_again(&self, pod: &Pod) -> Result<Pod, CallError> {
        self.run_sandbox(pod.next_attempt()).await
    }

    async fn run_sandbox(&self, mut pod: Pod) -> Result<Pod, CallError> {
        let response =
            self.call("RunPodSandbox", &pod.name, self.runtime().run_pod_sandbox(pod.run())).await?;
        pod.sandbox_id = response.pod_sandbox_id;
        let now = SystemTime::now();
        for what in [Change::Created, Change::Started] {
            self.history.write(&pod.sandbox_id, &pod.sandbox_id, &pod.uid, what, now);
        }
        Ok(pod)
    }

    /// Stops the sandbox, which kills its containers.
    pub async fn stop_pod(&self, pod: &Pod) -> Result<(), CallError> {
        self.stop_sandbox(&pod.sandbox_id).await?;
        for (container, last) in self.history.containers_of(&pod.sandbox_id) {
            if last == Change::Started {
                self.write_death(&self.status(&container).await?);
            }
        }
        if self.history.last_of(&pod.sandbox_id) == Some(Change::Started) {
            let died = Change::Died(None);
            self.history.write(&pod.sandbox_id, &pod.sandbox_id, &pod.uid, died, SystemTime::now());
        }
        Ok(())
    }

    /// Removes the sandbox and all its containers. Without a stop before, the history lacks the deaths.
    pub async fn remove_pod(&self, pod: &Pod) -> Result<(), CallError> {
        self.remove_sandbox(&pod.sandbox_id).await?;
        let now = SystemTime::now();
        for (container, _) in self.history.containers_of(&pod.sandbox_id) {
            self.history.write(&container, &pod.sandbox_id, &pod.uid, Change::Removed, now);
        }
        self.history.write(&pod.sandbox_id, &pod.sandbox_id, &pod.uid, Change::Removed, now);
        Ok(())
    }

    /// Stops and removes every pod of the runtime. The history does not record it.
    pub async fn remove_all_pods(&self) -> Result<(), CallError> {
        let removed = self.list_pods().await?.into_iter().map(|sandbox| async move {
            self.stop_sandbox(&sandbox.id).await?;
            self.remove_sandbox(&sandbox.id).await
        });
        stream::iter(removed).buffer_unordered(PARALLEL_CALLS).try_collect().await
    }

    /// Stops and removes the sandboxes of pods of this name, except for one. For sandboxes that a failed call left; the history
    /// does not record it.
    pub async fn discard_pods(&self, name: &str, but: &str) -> Result<(), CallError> {
        for sandbox in self.list_pods().await? {
            let is_of = |metadata: &cri::PodSandboxMetadata| metadata.name == name;
            if sandbox.id != but && sandbox.metadata.as_ref().is_some_and(is_of) {
                self.stop_sandbox(&sandbox.id).await?;
                self.remove_sandbox(&sandbox.id).await?;
            }
        }
        Ok(())
    }

    pub async fn sandbox_status(&self, sandbox_id: &str) -> Result<cri::PodSandboxStatus, CallError> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox_id.to_owned(), verbose: false };
        let response =
            self.call("PodSandboxStatus", sandbox_id, self.runtime().pod_sandbox_status(request)).await?;
        response.status.ok_or_else(|| missing_status("PodSandboxStatus", sandbox_id))
    }

    pub async fn list_pods(&self) -> Result<Vec<cri::PodSandbox>, CallError> {
        let request = cri::ListPodSandboxRequest::default();
        Ok(self.call("ListPodSandbox", "all", self.runtime().list_pod_sandbox(request)).await?.items)
    }

    // --- Containers ---

    /// Creates a container of the lab's busybox, without starting it.
    pub async fn create(&self, pod: &Pod, name: &str, command: &[&str]) -> Result<String, CallError> {
        self.create_with(pod, ContainerSpec::new(name, command)).await
    }

    pub async fn create_with(&self, pod: &Pod, spec: ContainerSpec) -> Result<String, CallError> {
        let name = spec.name.clone();
        let request = pod.create_container(spec);
        let id =
            self.call("CreateContainer", &name, self.runtime().create_container(request)).await?.container_id;
        self.history.write(&id, &pod.sandbox_id, &pod.uid, Change::Created, SystemTime::now());
        Ok(id)
    }

    pub async fn start(&self, id: &str) -> Result<(), CallError> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        match self.call("StartContainer", id, self.runtime().start_container(request)).await {
            Ok(_) => self.write(id, Change::Started, SystemTime::now()),
            Err(error) => {
                // A call without an response proves nothing; an exit without a start does.
                let exited = cri::ContainerState::ContainerExited;
                let status = self.status(id).await;
                if status.is_ok_and(|status| status.state() == exited && status.started_at == 0) {
                    self.write(id, Change::StartFailed, SystemTime::now());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Creates and starts a container.
    pub async fn run(&self, pod: &Pod, spec: ContainerSpec) -> Result<String, CallError> {
        let id = self.create_with(pod, spec).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// Sends the stop signal, and kills the container after `timeout` (whole seconds; zero kills at once).
    pub async fn stop(&self, id: &str, timeout: Duration) -> Result<(), CallError> {
        let timeout = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        self.call("StopContainer", id, self.runtime().stop_container(request)).await?;
        if self.history.last_of(id) == Some(Change::Started) {
            self.write_death(&self.status(id).await?);
        }
        Ok(())
    }

    /// Removes a container. containerd also removes a running one; without a stop before, the history lacks its death.
    pub async fn remove(&self, id: &str) -> Result<(), CallError> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        self.call("RemoveContainer", id, self.runtime().remove_container(request)).await?;
        self.write(id, Change::Removed, SystemTime::now());
        Ok(())
    }

    pub async fn status(&self, id: &str) -> Result<cri::ContainerStatus, CallError> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let response = self.call("ContainerStatus", id, self.runtime().container_status(request)).await?;
        response.status.ok_or_else(|| missing_status("ContainerStatus", id))
    }

    /// Waits until the runtime shows the container as exited.
    pub async fn exited(&self, id: &str) -> Result<cri::ContainerStatus> {
        let exited = cri::ContainerState::ContainerExited;
        let status = eventually("a container's exit", TIMEOUT, || async {
            Ok(Some(self.status(id).await?).filter(|status| status.state() == exited))
        });
        let status = status.await.with_context(|| format!("of {id}"))?;
        if self.history.last_of(id) == Some(Change::Started) {
            self.write_death(&status);
        }
        Ok(status)
    }

    pub async fn list(&self) -> Result<Vec<cri::Container>, CallError> {
        let request = cri::ListContainersRequest::default();
        Ok(self.call("ListContainers", "all", self.runtime().list_containers(request)).await?.containers)
    }

    // --- The runtime ---

    pub async fn version(&self) -> Result<cri::VersionResponse, CallError> {
        let request = cri::VersionRequest { version: String::new() };
        self.call("Version", "the runtime", self.runtime().version(request)).await
    }

    /// The runtime's condition `RuntimeReady`. `NetworkReady` stays false, because the lab has no CNI plugin.
    pub async fn runtime_is_ready(&self) -> Result<bool, CallError> {
        let request = cri::StatusRequest { verbose: false };
        let status = self.call("Status", "the runtime", self.runtime().status(request)).await?.status;
        let conditions = status.unwrap_or_default().conditions;
        Ok(conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status))
    }

    pub(super) async fn has_image(&self, name: &str) -> Result<bool, CallError> {
        let image = Some(cri::ImageSpec { image: name.to_owned() });
        let mut grpc = Grpc::new(self.channel.clone());
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static("/runtime.v1.ImageService/ImageStatus");
            let codec = tonic_prost::ProstCodec::<_, ImageStatusResponse>::default();
            grpc.unary(tonic::Request::new(ImageStatusRequest { image }), path, codec).await
        };
        Ok(self.call("ImageStatus", name, call).await?.image.is_some())
    }

    /// Subscribes to the runtime's events on a new connection.
    pub fn events(&self) -> Result<EventStream> {
        EventStream::open(&self.socket)
    }

    /// Subscribes and does not read. With its small window it blocks containerd 2.x within about a hundred events.
    pub fn frozen_events(&self) -> Result<EventStream> {
        EventStream::open_frozen(&self.socket)
    }

    // --- Helpers ---

    /// Generated clients need `&mut`; a clone costs two reference counts.
    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    async fn call<T>(
        &self,
        call: &'static str,
        id: &str,
        response: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let late = |_| Err(Status::deadline_exceeded(format!("no response after {:?}", self.deadline)));
        let response = tokio::time::timeout(self.deadline, response).await.unwrap_or_else(late);
        let error = |status| CallError { call, id: id.to_owned(), status: Box::new(status) };
        response.map(Response::into_inner).map_err(error)
    }

    async fn stop_sandbox(&self, sandbox_id: &str) -> Result<(), CallError> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: sandbox_id.to_owned() };
        self.call("StopPodSandbox", sandbox_id, self.runtime().stop_pod_sandbox(request)).await.map(drop)
    }

    async fn remove_sandbox(&self, sandbox_id: &str) -> Result<(), CallError> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox_id.to_owned() };
        self.call("RemovePodSandbox", sandbox_id, self.runtime().remove_pod_sandbox(request)).await.map(drop)
    }

    fn write(&self, id: &str, what: Change, at: SystemTime) {
        let (sandbox_id, pod_uid) = self.history.sandbox_and_pod_of(id);
        self.history.write(id, &sandbox_id, &pod_uid, what, at);
    }

    fn write_death(&self, status: &cri::ContainerStatus) {
        let finished_at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(status.finished_at).unwrap_or(0));
        self.write(&status.id, Change::Died(Some(status.exit_code)), finished_at);
    }
}

/// A lazy connection over the UNIX socket.
pub(super) fn connection(socket: &Path) -> Result<Endpoint> {
    // No keepalive: containerd answers pings more often than every five minutes with GOAWAY.
    Ok(Endpoint::try_from(format!("unix://{}", socket.display()))?.connect_timeout(Duration::from_secs(5)))
}

fn missing_status(call: &'static str, id: &str) -> CallError {
    CallError { call, id: id.to_owned(), status: Box::new(Status::internal("the response has no status")) }
}
