//! The read-only client: statuses, version, and the event stream on its own connection. Lists are in
//! [`super::lists`].
//!
//! Every call except the stream has a deadline, and each is counted by method and code. An answer may have up to 64
//! MiB.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};

use super::{
    CriError, Link,
    error::ran_out_of_time,
    link::Use,
    lists::Pager,
    status,
    v1::{self, runtime_service_client::RuntimeServiceClient},
};
use crate::{
    clock::Clock,
    live::Live,
    metrics::{self, Metrics},
    model::{ContainerStatus, Method, ObjectId, RuntimeInfo, SandboxStatus},
    traces,
};

/// Maximum size of an answer in bytes: CRI-O sends up to 80 MiB, containerd up to 16 MiB.
pub(super) const ANSWER_LIMIT: usize = 64 << 20;
/// Maximum size of an event in bytes. An event is about one pod; containerd's default limit is the same.
const EVENT_LIMIT: usize = 16 << 20;

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    link: Link,
    service: RuntimeServiceClient<Channel>,
    pub(super) lists: Pager,
    deadline: Live<Duration>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The event stream, after its first event. Dropping it ends the subscription.
pub struct EventStream(Streaming<v1::ContainerEventResponse>);

// === impl Client ===

impl Client {
    /// A client that connects at its first call. `deadline` applies to each call except the stream; its value at the
    /// start of a call counts.
    pub fn new(link: Link, deadline: impl Into<Live<Duration>>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let channel = link.channel(Use::Unary);
        let (service, lists, deadline) = (service(channel.clone()), Pager::new(channel), deadline.into());
        Self { link, service, lists, deadline, clock, metrics }
    }

    /// The deadline of calls other than the stream.
    pub fn deadline(&self) -> Duration {
        self.deadline.get()
    }

    /// The runtime's name and version.
    ///
    /// # Errors
    ///
    /// [`CriError`] if it does not answer.
    pub async fn version(&self) -> Result<RuntimeInfo, CriError> {
        let request = v1::VersionRequest { version: "v1".into() };
        let answer = self.call(Method::Version, self.service.clone().version(self.timed(request))).await?;
        // The runtime may have been replaced by one with streamed lists.
        self.lists.try_streamed();
        Ok(answer.into())
    }

    /// The unmet conditions of the runtime: type, reason and message of each.
    ///
    /// # Errors
    ///
    /// [`CriError`] if it does not answer.
    pub async fn conditions(&self) -> Result<Vec<(String, String, String)>, CriError> {
        let request = v1::StatusRequest { verbose: false };
        let answer = self.call(Method::Status, self.service.clone().status(self.timed(request))).await?;
        let conditions = answer.status.unwrap_or_default().conditions;
        let unmet = conditions.into_iter().filter(|condition| !condition.status);
        Ok(unmet.map(|unmet| (unmet.r#type, unmet.reason, unmet.message)).collect())
    }

    /// Status of a sandbox; none if the runtime answers NotFound, which alone does not prove that it is gone.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the call fails. An answer without a status is an error, too.
    pub async fn sandbox_status(&self, id: &ObjectId) -> Result<Option<SandboxStatus>, CriError> {
        let empty = CriError::Empty { method: Method::PodSandboxStatus };
        self.read_sandbox(id).await?.map(|(status, _)| status.ok_or(empty)).transpose()
    }

    /// A sandbox's status and its timestamp.
    async fn read_sandbox(&self, id: &ObjectId) -> Result<Option<(Option<SandboxStatus>, i64)>, CriError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: false };
        let (request, mut service) = (self.timed(request), self.service.clone());
        let answer = async move {
            let answer = service.pod_sandbox_status(request).await?.into_inner();
            let status = answer.status.map(|bytes| status::sandbox_status(&bytes)).transpose();
            Ok(Response::new((status.map_err(undecodable)?, answer.timestamp)))
        };
        found(self.call(Method::PodSandboxStatus, answer).await)
    }

    /// Whether the runtime sets the timestamp of a sandbox's status; none if it does not know the sandbox.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the call fails.
    pub async fn stamps_status(&self, id: &ObjectId) -> Result<Option<bool>, CriError> {
        Ok(self.read_sandbox(id).await?.map(|(_, timestamp)| timestamp != 0))
    }

    /// Status of a container; none if the runtime answers NotFound, which alone does not prove that it is gone. CRI's
    /// status does not contain the sandbox id.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the call fails. An answer without a status is an error, too.
    pub async fn container_status(
        &self,
        id: &ObjectId,
        sandbox_id: &ObjectId,
    ) -> Result<Option<ContainerStatus>, CriError> {
        let request = v1::ContainerStatusRequest { container_id: id.to_string(), verbose: false };
        let (request, mut service) = (self.timed(request), self.service.clone());
        let answer = async move {
            let answer = service.container_status(request).await?.into_inner();
            let status = answer.status.map(|bytes| status::container_status(&bytes, sandbox_id)).transpose();
            Ok(Response::new(status.map_err(undecodable)?))
        };
        let empty = CriError::Empty { method: Method::ContainerStatus };
        found(self.call(Method::ContainerStatus, answer).await)?.map(|status| status.ok_or(empty)).transpose()
    }

    /// Subscribes to events on a connection of its own.
    ///
    /// Resolves only with the first event: the runtimes send their headers with it (grpc-rust#515) and acknowledge
    /// nothing before. Pending does not mean failure.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the stream was refused or cut before its first message.
    pub async fn events(&self) -> Result<EventStream, CriError> {
        let mut service = service(self.link.channel(Use::Stream)).max_decoding_message_size(EVENT_LIMIT);
        let span = traces::call(Method::GetContainerEvents);
        let answer = service.get_container_events(v1::GetEventsRequest {}).await;
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        self.metrics.cri.request(Method::GetContainerEvents, code, None);
        span.end(code);
        match answer {
            Ok(answer) => Ok(EventStream(answer.into_inner())),
            Err(status) => Err(CriError::of(Method::GetContainerEvents, &status)),
        }
    }

    /// A request with the deadline, so that the runtime may give up as well.
    pub(super) fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline.get());
        request
    }

    pub(super) async fn call<T>(
        &self,
        method: Method,
        answer: impl Future<Output = Result<impl CallOutput<T>, Status>>,
    ) -> Result<T, CriError> {
        let (began, deadline) = (self.clock.now(), self.deadline.get());
        let span = traces::call(method);
        let late = || Err(CriError::Deadline { method, after: deadline });
        let result = match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer.message()),
            Ok(Err(status)) if ran_out_of_time(&status) => late(),
            Ok(Err(status)) => Err(CriError::of(method, &status)),
            Err(_) => late(),
        };
        let code = result.as_ref().err().map_or(Code::Ok, CriError::code);
        self.metrics.cri.request(method, code, Some(self.clock.now().since(began)));
        span.end(code);
        if matches!(result, Err(CriError::Malformed { .. })) {
            self.metrics.stream.malformed.inc(metrics::Channel::Unary);
        }
        result
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.link).finish()
    }
}

// === impl EventStream ===

impl EventStream {
    /// Whether there is a next event, or the runtime has ended the stream.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub async fn next_exists(&mut self) -> Result<bool, CriError> {
        Ok(self.next().await?.is_some())
    }

    /// The next event; none when the runtime has ended the stream.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the stream was cut or its next message cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::ContainerEventResponse>, CriError> {
        self.0.message().await.map_err(|status| CriError::of(Method::GetContainerEvents, &status))
    }
}

/// The result of a call: a response with a message, or the items of a list.
pub(super) trait CallOutput<T> {
    fn message(self) -> T;
}

impl<T> CallOutput<T> for Response<T> {
    fn message(self) -> T {
        self.into_inner()
    }
}

impl<T> CallOutput<Vec<T>> for Vec<T> {
    fn message(self) -> Vec<T> {
        self
    }
}

// === impl RuntimeInfo ===

impl From<v1::VersionResponse> for RuntimeInfo {
    fn from(answer: v1::VersionResponse) -> Self {
        Self {
            name: answer.runtime_name,
            version: answer.runtime_version,
            api_version: answer.runtime_api_version,
        }
    }
}

fn service(channel: Channel) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::new(channel).max_decoding_message_size(ANSWER_LIMIT)
}

/// The error of the codec for a message that cannot be decoded.
pub(super) fn undecodable(what: impl fmt::Display) -> Status {
    Status::internal(format!("failed to decode Protobuf message: {what}"))
}

/// Converts NotFound, which is an answer: the runtime does not know the id.
fn found<T>(answer: Result<T, CriError>) -> Result<Option<T>, CriError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CriError::Failed { code: Code::NotFound, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
