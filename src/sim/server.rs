//! The gRPC service: answers CRI calls from the truth as the profile's runtime does, with the ordered faults.
//!
//! Life-cycle calls continue when their caller leaves, as Go handlers do, and wait while the event queue blocks.

mod answer;
mod read;

use std::time::Duration;

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status, async_trait};

use answer::{EventStream, Reply};

use super::{
    SimRuntime,
    exchanges::Message,
    faults::{CallFault, ListAnswer, Method, ResetReason},
    profile::{Events, SandboxDeleted},
    truth::{ContainerSpec, Refused, SandboxSpec, lifecycle::DELETION_LAG},
    v1::{self, runtime_service_server},
};

/// The CRI service of a simulated runtime.
#[derive(Debug)]
pub struct RuntimeService {
    runtime: SimRuntime,
}

// === impl RuntimeService ===

impl RuntimeService {
    /// Serves this runtime.
    pub fn new(runtime: SimRuntime) -> Self {
        Self { runtime }
    }

    /// Counts a call and applies its faults around the work.
    async fn call<T: Reply>(
        &self,
        method: Method,
        id: &str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        Ok(Response::new(self.call_about(method, &[id], work).await?))
    }

    /// As [`Self::call`], for a call that names these ids.
    async fn call_about<T: Reply>(
        &self,
        method: Method,
        ids: &[&str],
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let core = self.runtime.core();
        core.count(method);
        core.check_spin()?;
        core.check_cri()?;
        core.check_initialized()?;
        let faults = core.faults.of_call(method, ids);
        for fault in &faults {
            if let CallFault::Late(by) = fault {
                tokio::time::sleep(*by).await;
            }
        }
        core.faults.pass(method, ids).await;
        if let Some(status) = faults.iter().find_map(CallFault::status) {
            return Err(status);
        }
        let answer = work.await?;
        for fault in &faults {
            if let CallFault::Overtaken(by) = fault {
                tokio::time::sleep(*by).await;
            }
        }
        Ok(if faults.contains(&CallFault::Garbage) {
            T::garbage()
        } else if faults.contains(&CallFault::Empty) {
            T::default()
        } else {
            answer
        })
    }

    /// A list of sandboxes, as it is sent.
    async fn sandboxes(
        &self,
        method: Method,
        filter: v1::PodSandboxFilter,
    ) -> Result<ListAnswer<v1::PodSandbox>, Status> {
        let is_full = filter == v1::PodSandboxFilter::default();
        let ids = [filter.id.as_str()];
        let list = self.call_about(method, &ids, async {
            self.check_listable(method)?;
            Ok(self.runtime.core().faults.of_list(is_full, self.list_sandboxes(&filter)))
        });
        let listing = list.await?;
        if is_full && listing.reset.is_none() {
            self.runtime.core().record(|| Message::Sandboxes(listing.items.clone()));
        }
        Ok(listing)
    }

    /// A list of containers, as it is sent.
    async fn containers(
        &self,
        method: Method,
        filter: v1::ContainerFilter,
    ) -> Result<ListAnswer<v1::Container>, Status> {
        let is_full = filter == v1::ContainerFilter::default();
        let ids = [filter.id.as_str(), filter.pod_sandbox_id.as_str()];
        let list = self.call_about(method, &ids, async {
            self.check_listable(method)?;
            Ok(self.runtime.core().faults.of_list(is_full, self.list_of_containers(&filter)))
        });
        let listing = list.await?;
        if is_full && listing.reset.is_none() {
            self.runtime.core().record(|| Message::Containers(listing.items.clone()));
        }
        Ok(listing)
    }

    fn check_listable(&self, method: Method) -> Result<(), Status> {
        let is_streamed = matches!(method, Method::StreamPodSandboxes | Method::StreamContainers);
        if is_streamed && self.runtime.profile().stream_batch.is_none() {
            return Err(Status::unimplemented(format!(
                "unknown method {method} for service runtime.v1.RuntimeService"
            )));
        }
        Ok(())
    }

    /// A stream of the items in batches of the profile's size.
    fn batches<I: Send + 'static, T: Send + 'static>(
        &self,
        items: Vec<I>,
        batch: impl Fn(Vec<I>) -> T + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let size = self.runtime.profile().stream_batch.unwrap_or(usize::MAX);
        stream::iter(items).chunks(size).map(move |items| Ok(batch(items))).boxed()
    }

    /// A call that changes the runtime: it continues when its caller leaves, and ends with the process.
    async fn life_cycle<T: Reply>(
        &self,
        method: Method,
        id: &str,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let alive = self.runtime.core().alive();
        self.call(method, id, async move {
            match tokio::spawn(alive.run_until_cancelled_owned(work)).await {
                Ok(Some(result)) => result,
                Ok(None) => Err(Status::unavailable("the simulated runtime is going down")),
                Err(error) => Err(Status::internal(error.to_string())),
            }
        })
        .await
    }
}

#[async_trait]
impl runtime_service_server::RuntimeService for RuntimeService {
    type StreamPodSandboxesStream = BoxStream<'static, Result<v1::StreamPodSandboxesResponse, Status>>;
    type StreamContainersStream = BoxStream<'static, Result<v1::StreamContainersResponse, Status>>;
    type GetContainerEventsStream = BoxStream<'static, Result<v1::ContainerEventResponse, Status>>;

    async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        self.call(Method::Version, "", async { Ok(self.read_version()) }).await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        self.call(Method::Status, "", async { Ok(self.read_status()) }).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let runtime = self.runtime.clone();
        self.life_cycle(Method::RunPodSandbox, "", async move {
            let spec = sandbox_spec(request)?;
            let pod_sandbox_id = runtime.change_and_wait(|truth| truth.run_sandbox(spec)).await?;
            Ok(v1::RunPodSandboxResponse { pod_sandbox_id })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let id = self.known_sandbox(request.into_inner().pod_sandbox_id);
        let runtime = self.runtime.clone();
        self.life_cycle(Method::StopPodSandbox, &id.clone(), async move {
            // The exits are reported by their monitors; this call does not wait for them.
            runtime.change(|truth| truth.stop_sandbox(&id))?;
            Ok(v1::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        let id = self.known_sandbox(request.into_inner().pod_sandbox_id);
        let runtime = self.runtime.clone();
        self.life_cycle(Method::RemovePodSandbox, &id.clone(), async move {
            runtime.change_and_wait(|truth| truth.begin_remove_sandbox(&id)).await?;
            if runtime.profile().sandbox_deleted == SandboxDeleted::BeforeDeletion {
                tokio::time::sleep(DELETION_LAG).await;
            }
            runtime.change_and_wait(|truth| truth.finish_remove_sandbox(&id)).await;
            Ok(v1::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        let answer =
            self.call(Method::PodSandboxStatus, &id, async { self.read_sandbox_status(&id) }).await?;
        if let Some(status) = &answer.get_ref().status {
            self.runtime.core().record(|| Message::Sandbox(status.clone()));
        }
        Ok(answer)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let ListAnswer { items, reset } = self.sandboxes(Method::ListPodSandbox, filter).await?;
        Ok(breaking_off(v1::ListPodSandboxResponse { items }, reset))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let ListAnswer { items, reset } = self.sandboxes(Method::StreamPodSandboxes, filter).await?;
        let batch = |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes };
        Ok(breaking_off(self.batches(items, batch), reset))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let sandbox_id = self.known_sandbox(request.pod_sandbox_id);
        let runtime = self.runtime.clone();
        self.life_cycle(Method::CreateContainer, &sandbox_id.clone(), async move {
            let config = request.config.ok_or_else(|| Status::unknown("container config is nil"))?;
            if request.sandbox_config.and_then(|config| config.metadata).is_none() {
                return Err(Status::unknown("sandbox config metadata is nil"));
            }
            let spec = container_spec(config)?;
            let create = runtime.change_and_wait(move |truth| truth.create_container(&sandbox_id, spec));
            Ok(v1::CreateContainerResponse { container_id: create.await? })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let id = self.known_container(request.into_inner().container_id);
        let runtime = self.runtime.clone();
        self.life_cycle(Method::StartContainer, &id.clone(), async move {
            runtime.change_and_wait(move |truth| truth.start_container(&id)).await?;
            Ok(v1::StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let id = self.known_container(request.container_id);
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        let runtime = self.runtime.clone();
        self.life_cycle(Method::StopContainer, &id.clone(), async move {
            // As for a sandbox, the exit is reported by its monitor.
            runtime.change(|truth| truth.stop_container(&id, grace))?;
            Ok(v1::StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let id = self.known_container(request.into_inner().container_id);
        let runtime = self.runtime.clone();
        self.life_cycle(Method::RemoveContainer, &id.clone(), async move {
            let known = runtime.read(|truth| truth.container(&id).is_some());
            if !known && runtime.profile().remove_unknown_is_not_found {
                return Err(Status::not_found(format!("could not find container {id:?}")));
            }
            runtime.change_and_wait(move |truth| truth.remove_container(&id)).await?;
            Ok(v1::RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let ListAnswer { items: containers, reset } = self.containers(Method::ListContainers, filter).await?;
        Ok(breaking_off(v1::ListContainersResponse { containers }, reset))
    }

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let ListAnswer { items, reset } = self.containers(Method::StreamContainers, filter).await?;
        let batch = |containers| v1::StreamContainersResponse { containers };
        Ok(breaking_off(self.batches(items, batch), reset))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let id = request.into_inner().container_id;
        let answer =
            self.call(Method::ContainerStatus, &id, async { self.read_container_status(&id) }).await?;
        if let Some(status) = &answer.get_ref().status {
            self.runtime.core().record(|| Message::Container(status.clone()));
        }
        Ok(answer)
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        let subscribe = async {
            let mut events = match self.runtime.profile().events {
                Events::Unimplemented => {
                    return Err(Status::unimplemented("method GetContainerEvents not implemented"));
                }
                Events::EndAtOnce => return Ok(EventStream::default()),
                _ => stream::iter(self.runtime.core().backlog().into_iter().map(Ok))
                    .chain(self.runtime.queue().subscribe()),
            };
            // A Go server sends its headers with the first message, so a client waits until then for the answer to
            // its call (grpc-rust#2302). tonic sends them when this function returns, so it returns after the first
            // message.
            match events.next().await {
                None => Ok(EventStream::default()),
                Some(Err(status)) => Err(status),
                Some(Ok(first)) => Ok(EventStream(stream::iter([Ok(first)]).chain(events).boxed())),
            }
        };
        let answer = self.call(Method::GetContainerEvents, "", subscribe).await?;
        let runtime = self.runtime.clone();
        let events = answer.into_inner().0.inspect(move |event| {
            if let Ok(event) = event {
                runtime.core().record(|| Message::Event(event.clone()));
            }
        });
        Ok(Response::new(events.boxed()))
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        match refused {
            Refused::NoSuchSandbox(_) | Refused::NoSuchContainer(_) => Status::not_found(text),
            Refused::Down => Status::unavailable(text),
            // Plain Go errors have no code.
            Refused::NameTaken(_) | Refused::SandboxNotReady(_) | Refused::WrongState(..) => {
                Status::unknown(text)
            }
        }
    }
}

/// An answer that breaks off at its end, if there is a reason; [`super::serve`] resets the stream.
fn breaking_off<T>(answer: T, reset: Option<ResetReason>) -> Response<T> {
    let mut response = Response::new(answer);
    if let Some(reason) = reset {
        response.extensions_mut().insert(reason);
    }
    response
}

fn sandbox_spec(request: v1::RunPodSandboxRequest) -> Result<SandboxSpec, Status> {
    let config = request.config.ok_or_else(|| Status::unknown("sandbox config is nil"))?;
    let metadata = config.metadata.ok_or_else(|| Status::unknown("sandbox config must include metadata"))?;
    let network = config
        .linux
        .and_then(|linux| linux.security_context)
        .and_then(|context| context.namespace_options)
        .map(|options| options.network());
    Ok(SandboxSpec {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        host_network: network == Some(v1::NamespaceMode::Node),
        runtime_handler: request.runtime_handler,
        network_setup: Duration::ZERO,
    })
}

fn container_spec(config: v1::ContainerConfig) -> Result<ContainerSpec, Status> {
    let metadata =
        config.metadata.ok_or_else(|| Status::unknown("container config must include metadata"))?;
    Ok(ContainerSpec {
        name: metadata.name,
        attempt: metadata.attempt,
        image: config.image.unwrap_or_default().image,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        clock_offset: 0,
    })
}
