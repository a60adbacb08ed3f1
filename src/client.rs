//! The client of plegd's API, for agents on the same node.
//!
//! It gets pods, waits for a condition of a pod, and watches events: [`Client::watch`] reconnects automatically and resumes at its
//! position. Messages are those of `plegd.v1` ([`crate::v1`]), in which no field is ever renamed or given another meaning.
//!
//! ```no_run
//! use plegd::{
//!     client::{Address, Client, Since, Update, WatchOptions},
//!     v1,
//! };
//!
//! # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&Address::default()).await?;
//! let filter = v1::Filter { namespaces: vec!["kube-system".into()], ..Default::default() };
//! for pod in client.list_pods(filter.clone()).await?.pods {
//!     println!("{:?}", pod.identity);
//! }
//! let mut watch = client.watch(WatchOptions { since: Since::Now, filter, ..WatchOptions::named("my-agent") });
//! while let Some(update) = watch.next().await {
//!     match update? {
//!         Update::Event { event, position, .. } => println!("{position} {:?}", event.r#type()),
//!         Update::Gap(gap) => println!("events since {} are missing; a snapshot follows", gap.from),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod backoff;
mod connect;
mod convert;
mod error;
mod request;
mod watch;

pub use self::{
    address::{Address, DEFAULT_SOCKET, ParseAddressError},
    connect::ConnectError,
    convert::{UnknownValue, timestamp, wall},
    error::CallError,
    request::{Freshness, PodRef, WaitCondition},
    watch::{Since, Update, Watch, WatchOptions},
};
pub use crate::{error_info::PositionLost, model::GapReason};

use std::{future::Future, time::Duration};

use tonic::{Request, Response, Status, transport::Channel};

use self::backoff::Backoff;
use crate::{
    model::Position,
    v1::{
        self, introspection_service_client::IntrospectionServiceClient,
        pod_lifecycle_service_client::PodLifecycleServiceClient,
    },
};

/// Maximum size of a received message in bytes: a page of 500 pods, each with labels and annotations of the maximum size.
const MESSAGE_LIMIT: usize = 256 << 20;

/// Default deadline of a call.
const DEADLINE: Duration = Duration::from_secs(10);

/// A client of plegd. Cheap to clone; clones share one connection, which is restored after each loss.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    deadline: Duration,
}

/// Pods, and the position that they include.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodList {
    /// The pods, in the order of their UIDs.
    pub pods: Vec<v1::Pod>,
    /// Everything up to here is included: watch from here on. For a pod that was listed late, events up to its own sequence number are
    /// delivered again.
    pub position: Position,
}

// === impl Client ===

impl Client {
    /// Connects to a plegd.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no process listens there, or this user may not connect. Its text has a hint.
    pub async fn connect(address: &Address) -> Result<Self, ConnectError> {
        connect::probe(address).await?;
        Ok(Self::lazy(address))
    }

    /// Connects at the first use, for an agent that may start before plegd. Opens no connection, but must be called within a tokio runtime.
    pub fn lazy(address: &Address) -> Self {
        Self::over(connect::channel(address.clone()))
    }

    /// Uses an existing channel, whatever its transport.
    pub fn over(channel: Channel) -> Self {
        Self { channel, deadline: DEADLINE }
    }

    /// Limits each call to this time instead of 10 s. It applies neither to a watch nor to [`Client::wait_for`].
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// All pods that pass a filter: requests all pages.
    ///
    /// # Errors
    ///
    /// [`CallError`], such as [`CallError::NotReady`] or, for a label selector that cannot be parsed, [`CallError::Invalid`].
    pub async fn list_pods(&self, filter: v1::Filter) -> Result<PodList, CallError> {
        let mut list: Option<PodList> = None;
        let mut page_token = String::new();
        loop {
            let request = v1::ListPodsRequest { filter: Some(filter.clone()), page_size: 0, page_token };
            let page = self.call(self.lifecycle().list_pods(self.timed(request))).await?;
            let position = position(page.position)?;
            list.get_or_insert_with(|| PodList { pods: Vec::new(), position }).pods.extend(page.pods);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(list.unwrap_or_default());
            }
        }
    }

    /// One pod, and the position that it includes.
    ///
    /// # Errors
    ///
    /// [`CallError`], such as [`CallError::NotFound`].
    pub async fn get_pod(
        &self,
        pod: &PodRef,
        freshness: Freshness,
    ) -> Result<(v1::Pod, Position), CallError> {
        let request = v1::GetPodRequest { pod: Some(pod.into()), freshness: freshness.into() };
        let answer = self.call(self.lifecycle().get_pod(self.timed(request))).await?;
        Ok((answer.pod.ok_or_else(|| CallError::missing("pod"))?, position(answer.position)?))
    }

    /// One container by its id or the beginning of its id, and its pod.
    ///
    /// # Errors
    ///
    /// [`CallError`], such as [`CallError::NotFound`] or, if several ids have this beginning, [`CallError::Invalid`].
    pub async fn get_container(
        &self,
        id: &str,
        freshness: Freshness,
    ) -> Result<(v1::Container, v1::PodIdentity), CallError> {
        let request = v1::GetContainerRequest { container_id: id.into(), freshness: freshness.into() };
        let answer = self.call(self.lifecycle().get_container(self.timed(request))).await?;
        let container = answer.container.ok_or_else(|| CallError::missing("container"))?;
        Ok((container, answer.pod.unwrap_or_default()))
    }

    /// Waits until a condition holds for a pod; the pod may not exist yet. Returns the pod, or `None` if it is removed, and the position as
    /// of which the condition holds. plegd may restart in the meantime.
    ///
    /// # Errors
    ///
    /// [`CallError::Deadline`] if the condition does not hold in time, and other variants.
    pub async fn wait_for(
        &self,
        pod: &PodRef,
        condition: &WaitCondition,
        timeout: Duration,
    ) -> Result<(Option<v1::Pod>, Position), CallError> {
        let (code, container) = condition.parts();
        let wanted = v1::WaitForRequest {
            pod: Some(pod.into()),
            condition: code.into(),
            container_name: container.into(),
        };
        let waiting = async {
            let mut backoff = Backoff::default();
            loop {
                let mut request = Request::new(wanted.clone());
                request.set_timeout(timeout);
                match self.call(self.lifecycle().wait_for(request)).await {
                    Ok(answer) => return Ok((answer.pod, position(answer.position)?)),
                    Err(error) if error.is_transient() => tokio::time::sleep(backoff.failed()).await,
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(timeout, waiting).await.unwrap_or(Err(CallError::Deadline { after: timeout }))
    }

    /// Requests a read of a pod from the runtime, for a caller that knows of a change. All changes that the read finds are published, as
    /// events up to the returned position.
    ///
    /// # Errors
    ///
    /// [`CallError`], such as [`CallError::NotFound`].
    pub async fn request_read(&self, pod: &PodRef) -> Result<Position, CallError> {
        let request = v1::RequestReadRequest { pod: Some(pod.into()) };
        let answer = self.call(self.lifecycle().request_read(self.timed(request))).await?;
        position(answer.position)
    }

    /// Watches events, and continues after lost connections and restarts of plegd.
    pub fn watch(&self, options: WatchOptions) -> Watch {
        Watch::new(self.lifecycle(), options)
    }

    /// The generated client of the introspection service. Use it together with [`Client::call`].
    pub fn introspection(&self) -> IntrospectionServiceClient<Channel> {
        IntrospectionServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// The generated client of the pod lifecycle service, for calls that this client does not offer.
    pub fn lifecycle(&self) -> PodLifecycleServiceClient<Channel> {
        PodLifecycleServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// Runs a call of a generated client with the deadline and the errors of this client.
    ///
    /// ```no_run
    /// # async fn example(client: plegd::client::Client) -> Result<(), plegd::client::CallError> {
    /// let status = client.call(client.introspection().get_status(plegd::v1::GetStatusRequest {})).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        call.await.map(Response::into_inner).map_err(|status| CallError::of(&status, self.deadline))
    }

    fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }
}

fn position(position: Option<v1::Position>) -> Result<Position, CallError> {
    position.map(Position::from).ok_or_else(|| CallError::missing("position"))
}

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;
