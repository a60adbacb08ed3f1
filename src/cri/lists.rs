//! The lists of sandboxes and containers, decoded while they arrive.

mod pages;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, Status, client::Grpc, transport::Channel};

use self::pages::Pages;
use super::{
    Client, CriError,
    client::{ANSWER_LIMIT, undecodable},
    codec::SliceCodec,
    convert::{listed_container, listed_sandbox},
    status, v1,
};
use crate::model::{
    ContainerState, ContainerStatus, Method, ObjectId, PodIdentity, SandboxState, SandboxStatus,
};

/// Maximum number of sandboxes or containers in a list: far more than a node can have. It limits the memory for an
/// answer of millions of empty items, each of two bytes on the wire and a hundred in memory.
const ITEMS_LIMIT: usize = 1 << 18;

/// The result of both lists.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Sandboxes, listed first.
    pub sandboxes: Vec<ListedSandbox>,
    /// Containers.
    pub containers: Vec<ListedContainer>,
}

/// A sandbox in a list.
#[derive(Clone, Debug)]
pub struct ListedSandbox {
    /// Its id.
    pub id: String,
    /// UID of its pod; the sandbox's id if it has none.
    pub pod_uid: String,
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod_name: String,
    /// The attempt, from 0.
    pub attempt: u32,
    /// State.
    pub state: SandboxState,
    /// When it was created, in nanoseconds since 1970.
    pub created_at: i64,
}

/// A container in a list.
#[derive(Clone, Debug)]
pub struct ListedContainer {
    /// Its id.
    pub id: String,
    /// The id of its sandbox.
    pub sandbox_id: String,
    /// Its name.
    pub name: String,
    /// The attempt, from 0.
    pub attempt: u32,
    /// State.
    pub state: ContainerState,
    /// When it was created, in nanoseconds since 1970.
    pub created_at: i64,
}

// === impl ListedSandbox ===

impl ListedSandbox {
    /// The pod of the sandbox.
    pub fn pod(&self) -> PodIdentity {
        PodIdentity {
            uid: self.pod_uid.as_str().into(),
            namespace: self.namespace.as_str().into(),
            name: self.pod_name.as_str().into(),
        }
    }
}

/// Calls the list methods.
#[derive(Clone, Debug)]
pub(super) struct Pager {
    channel: Channel,
    /// Whether to try the streamed list calls; cleared when the runtime does not implement them.
    streamed: Arc<AtomicBool>,
}

// === impl Client ===

impl Client {
    /// Both lists, sandboxes first: a container whose sandbox is not listed is younger than the first list.
    ///
    /// # Errors
    ///
    /// As [`Client::list_sandboxes`].
    pub async fn list(&self) -> Result<Listing, CriError> {
        let sandboxes = self.list_sandboxes().await?;
        let containers = self.list_containers().await?;
        Ok(Listing { sandboxes, containers })
    }

    /// All sandboxes.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the list is incomplete: a failed list is never an empty one.
    pub async fn list_sandboxes(&self) -> Result<Vec<ListedSandbox>, CriError> {
        if self.lists.is_streamed() {
            let request = self.timed(v1::StreamPodSandboxesRequest { filter: None });
            let items = |page: v1::StreamPodSandboxesResponse| page.pod_sandboxes.into_iter();
            let list = self.lists.list(Method::StreamPodSandboxes, request, items, listed_sandbox);
            match self.call(Method::StreamPodSandboxes, list).await {
                Err(CriError::Unimplemented { .. }) => self.lists.disable_streamed(),
                other => return other,
            }
        }
        let request = self.timed(v1::ListPodSandboxRequest { filter: None });
        let items = |page: v1::ListPodSandboxResponse| page.items.into_iter();
        let list = self.lists.list(Method::ListPodSandbox, request, items, listed_sandbox);
        self.call(Method::ListPodSandbox, list).await
    }

    /// All containers.
    ///
    /// # Errors
    ///
    /// As [`Client::list_sandboxes`].
    pub async fn list_containers(&self) -> Result<Vec<ListedContainer>, CriError> {
        if self.lists.is_streamed() {
            let request = self.timed(v1::StreamContainersRequest { filter: None });
            let items = |page: v1::StreamContainersResponse| page.containers.into_iter();
            let list = self.lists.list(Method::StreamContainers, request, items, listed_container);
            match self.call(Method::StreamContainers, list).await {
                Err(CriError::Unimplemented { .. }) => self.lists.disable_streamed(),
                other => return other,
            }
        }
        let request = self.timed(v1::ListContainersRequest { filter: None });
        let items = |page: v1::ListContainersResponse| page.containers.into_iter();
        let list = self.lists.list(Method::ListContainers, request, items, listed_container);
        self.call(Method::ListContainers, list).await
    }

    /// The sandbox with this id, from a list filtered by the id: without addresses. None if the list is empty. Unlike
    /// for a status that is not found, no runtime logs an error for it.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the list fails.
    pub async fn listed_sandbox(&self, id: &ObjectId) -> Result<Option<SandboxStatus>, CriError> {
        let filter = v1::PodSandboxFilter { id: id.to_string(), ..v1::PodSandboxFilter::default() };
        let request = self.timed(v1::ListPodSandboxRequest { filter: Some(filter) });
        let items = |page: v1::ListedPodSandboxes| page.items.into_iter();
        let decode = |item: Vec<u8>| status::listed_sandbox(&item);
        let list = self.lists.list(Method::ListPodSandbox, request, items, decode);
        let listed = async { list.await?.into_iter().collect::<Result<Vec<_>, _>>().map_err(undecodable) };
        let listed = self.call(Method::ListPodSandbox, listed).await?;
        Ok(listed.into_iter().find(|sandbox| sandbox.id == *id))
    }

    /// The container with this id, from a list filtered by the id: without times, exit code, reason and message, but
    /// with its sandbox. None if the list is empty.
    ///
    /// # Errors
    ///
    /// [`CriError`] if the list fails.
    pub async fn listed_container(&self, id: &ObjectId) -> Result<Option<ContainerStatus>, CriError> {
        let filter = v1::ContainerFilter { id: id.to_string(), ..v1::ContainerFilter::default() };
        let request = self.timed(v1::ListContainersRequest { filter: Some(filter) });
        let items = |page: v1::ListedContainers| page.containers.into_iter();
        let decode = |item: Vec<u8>| status::listed_container(&item);
        let list = self.lists.list(Method::ListContainers, request, items, decode);
        let listed = async { list.await?.into_iter().collect::<Result<Vec<_>, _>>().map_err(undecodable) };
        let listed = self.call(Method::ListContainers, listed).await?;
        Ok(listed.into_iter().find(|container| container.id == *id))
    }
}

// === impl Pager ===

impl Pager {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, streamed: Arc::new(AtomicBool::new(true)) }
    }

    /// Tries streamed lists again: the runtime may have been replaced.
    pub(super) fn try_streamed(&self) {
        self.streamed.store(true, Ordering::Relaxed);
    }

    fn is_streamed(&self) -> bool {
        self.streamed.load(Ordering::Relaxed)
    }

    fn disable_streamed(&self) {
        self.streamed.store(false, Ordering::Relaxed);
    }

    /// All items of a list, or an error. A list in one message is read like a streamed one: to HTTP/2 they are the
    /// same.
    async fn list<Q, P, I, T>(
        &self,
        method: Method,
        request: Request<Q>,
        items: impl Fn(P) -> std::vec::IntoIter<I>,
        convert: impl Fn(I) -> T,
    ) -> Result<Vec<T>, Status>
    where
        Q: Message + 'static,
        P: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"))
            .map_err(|error| Status::internal(error.to_string()))?;
        let channel = tower::ServiceExt::map_response(self.channel.clone(), |answer: http::Response<_>| {
            answer.map(|body| Pages::of(body, ANSWER_LIMIT))
        });
        let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_LIMIT);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let codec = SliceCodec::<Q, P>::default();
        let mut pages = grpc.server_streaming(request, path, codec).await?.into_inner();
        let (mut all, mut empty) = (Vec::new(), true);
        while let Some(page) = pages.message().await? {
            all.extend(items(page).map(&convert));
            empty = false;
            if all.len() > ITEMS_LIMIT {
                return Err(undecodable(format_args!("a list of more than {ITEMS_LIMIT} items")));
            }
        }
        let one_message = matches!(method, Method::ListPodSandbox | Method::ListContainers);
        if one_message && empty { Err(Status::internal("the answer has no message")) } else { Ok(all) }
    }
}

#[cfg(test)]
mod tests;
