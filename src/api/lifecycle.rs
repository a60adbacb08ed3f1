//! `plegd.v1.PodLifecycleService`: watches, reads and waits.
//!
//! Translates requests for [`crate::watch`] and [`crate::cache`], and translates their results back. A request costs plegd bounded memory
//! and time. All requests together cause at most `api.reads_per_second` reads of the runtime.

mod deadline;
mod list;
mod rate_limit;
mod request;
mod stream;
mod wait;

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use tonic::{Request, Response, Status, async_trait};

use self::{rate_limit::RateLimit, request::ParsedWatch};
use super::{
    access::{ConnectionAbort, Peer},
    server::pod_lifecycle_service_server::PodLifecycleService,
    subscribers::{SubscriberInfo, Subscribers},
    truncate,
    wire::{Encoded, Node},
};
use crate::v1;
use crate::{
    clock::{Mono, STEP_MARGIN, Stamped, Wall},
    config::Live,
    error_info::PositionLost,
    fresh::FreshReader,
    metrics::Metrics,
    model::{ObjectId, PodIdentity, PodUid},
    relister::ReadError,
    watch::{Feed, WatchError},
};

/// Length limit, in characters, of a filter in the list of subscribers.
const MAX_FILTER_CHARACTERS: usize = 256;

/// The lifecycle service. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle(Arc<Inner>);

struct Inner {
    feed: Feed,
    fresh: FreshReader,
    node: Node,
    subscribers: Subscribers,
    read_limit: RateLimit,
    metrics: Arc<Metrics>,
}

// === impl Lifecycle ===

impl Lifecycle {
    pub fn new(
        feed: Feed,
        fresh: FreshReader,
        node: Node,
        subscribers: Subscribers,
        reads_per_second: impl Into<Live<usize>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let read_limit = RateLimit::new(reads_per_second.into(), fresh.clock().now());
        Self(Arc::new(Inner { feed, fresh, node, subscribers, read_limit, metrics }))
    }
}

/// Parses a `WatchRequest`.
#[cfg(feature = "internals")]
pub(crate) fn parse_watch(request: v1::WatchRequest) -> Result<crate::watch::Request, Status> {
    Ok(ParsedWatch::parse(request)?.request)
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

#[async_trait]
impl PodLifecycleService for Lifecycle {
    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let it = &self.0;
        let peer = request.extensions().get::<Peer>().cloned();
        let abort = request.extensions().get::<ConnectionAbort>().cloned();
        let parsed = ParsedWatch::parse(request.into_inner())?;
        if !parsed.request.wait_ready {
            it.ready()?;
        }
        let info = SubscriberInfo {
            client_name: parsed.client_name,
            peer,
            abort,
            since: it.fresh.clock().now_both().1,
            filter: truncate(&parsed.request.filter.to_string(), MAX_FILTER_CHARACTERS),
            detail: parsed.detail,
            slow_policy: parsed.request.slow_policy,
        };
        let watch = it.feed.watch(parsed.request)?;
        let registration = it.subscribers.register(info, watch.progress().clone()).map_err(|reached| {
            it.metrics.api.refused.inc(crate::metrics::Refusal::Subscribers);
            Status::resource_exhausted(reached.to_string())
        })?;
        Ok(Response::new(Box::pin(stream::messages(watch, registration, self.clone()))))
    }

    async fn list_pods(
        &self,
        request: Request<v1::ListPodsRequest>,
    ) -> Result<Response<v1::ListPodsResponse>, Status> {
        self.0.ready()?;
        Ok(Response::new(list::page(&self.0.feed, request.into_inner())?))
    }

    async fn get_pod(
        &self,
        request: Request<v1::GetPodRequest>,
    ) -> Result<Response<v1::GetPodResponse>, Status> {
        let it = &self.0;
        it.ready()?;
        let deadline = deadline::of(request.metadata())?;
        let v1::GetPodRequest { pod, freshness } = request.into_inner();
        let reference = request::reference(pod)?;
        let newer_than = it.newer_than(freshness)?;
        it.refresh(&reference, newer_than, deadline).await?;
        let (position, pod) = it.feed.journal().at_head(|| request::resolve(it.feed.cache(), &reference));
        let pod = pod?.ok_or_else(|| request::not_found(&reference))?;
        Ok(Response::new(v1::GetPodResponse {
            pod: Some(pod.as_ref().into()),
            position: Some(position.into()),
        }))
    }

    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let it = &self.0;
        it.ready()?;
        let deadline = deadline::of(request.metadata())?;
        let v1::GetContainerRequest { container_id, freshness } = request.into_inner();
        let newer_than = it.newer_than(freshness)?;
        let known = it.feed.cache().find(&container_id).map(|(id, _)| id);
        it.refresh(&Reference::Id(container_id.as_str().into()), newer_than, deadline).await?;
        let (position, found) = it.feed.journal().at_head(|| {
            let (id, pod) = request::find(it.feed.cache(), &container_id)?;
            Ok::<_, Status>((id, it.feed.cache().get_pod(&pod)))
        });
        // A container that was removed during the read has an exact id, so the error names it.
        let (id, pod) = match (found, known) {
            (Ok(found), _) => found,
            (Err(_), Ok(id)) => (id, None),
            (Err(error), Err(_)) => return Err(error),
        };
        let not_found = || Status::not_found(format!("there is no container {id}"));
        let pod = pod.ok_or_else(not_found)?;
        let container = pod.container(id.as_str()).ok_or_else(not_found)?;
        Ok(Response::new(v1::GetContainerResponse {
            container: Some(container.into()),
            pod: Some((&pod.identity).into()),
            position: Some(position.into()),
        }))
    }

    async fn wait_for(
        &self,
        request: Request<v1::WaitForRequest>,
    ) -> Result<Response<v1::WaitForResponse>, Status> {
        let it = &self.0;
        it.ready()?;
        let deadline = deadline::of(request.metadata())?;
        let wait = wait::Wait::parse(it.feed.cache(), request.into_inner())?;
        let (position, pod) = deadline.bound(wait.until_met(&it.feed)).await??;
        Ok(Response::new(v1::WaitForResponse {
            pod: pod.as_deref().map(Into::into),
            position: Some(position.into()),
        }))
    }

    async fn request_read(
        &self,
        request: Request<v1::RequestReadRequest>,
    ) -> Result<Response<v1::RequestReadResponse>, Status> {
        let it = &self.0;
        it.ready()?;
        let deadline = deadline::of(request.metadata())?;
        let reference = request::reference(request.into_inner().pod)?;
        it.refresh(&reference, Some(it.fresh.clock().now()), deadline).await?;
        let (position, pod) = it.feed.journal().at_head(|| request::resolve(it.feed.cache(), &reference));
        // A pod that is named by its UID may have been removed. For other references, nothing shows that the pod existed.
        if pod?.is_none() && !matches!(reference, Reference::Uid(_)) {
            return Err(request::not_found(&reference));
        }
        Ok(Response::new(v1::RequestReadResponse { position: Some(position.into()) }))
    }
}

// === impl Inner ===

impl Inner {
    fn ready(&self) -> Result<(), Status> {
        if self.feed.follower_status().borrow().ready { Ok(()) } else { Err(WatchError::NotReady.into()) }
    }

    /// The moment that the answer must be newer than, if the request has one.
    fn newer_than(&self, freshness: Option<v1::Freshness>) -> Result<Option<Mono>, Status> {
        // Reading both clocks detects a step of the wall clock.
        let (now, _) = self.fresh.clock().now_both();
        let v1::Freshness { now: newest, newer_than } = freshness.unwrap_or_default();
        match (newest, newer_than) {
            (false, None) => Ok(None),
            (true, None) => Ok(Some(now)),
            (true, Some(_)) => Err(Status::invalid_argument("now and newer_than are mutually exclusive")),
            (false, Some(at)) => {
                let nanos =
                    at.seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(at.nanos.into()));
                let at = Wall::from_nanos(nanos.unwrap_or_default());
                match self.fresh.clock().to_monotonic(at, now) {
                    Stamped::At(at) => Ok(Some((at + STEP_MARGIN).min(now))),
                    // The moment was before the clock step, so each read after the step is newer.
                    Stamped::BeforeStep(step) => Ok(Some(step)),
                    Stamped::Unknown => {
                        let message = "newer_than is in the future or invalid";
                        Err(Status::invalid_argument(message))
                    }
                }
            }
        }
    }

    /// Requests a read of the object, unless it is known to be newer than that moment, or any age is accepted.
    async fn refresh(
        &self,
        reference: &Reference,
        newer_than: Option<Mono>,
        deadline: deadline::Deadline,
    ) -> Result<(), Status> {
        let Some(than) = newer_than else { return Ok(()) };
        let newer = match reference {
            Reference::Uid(uid) => self.fresh.is_newer(uid, than),
            Reference::Id(id) => self.fresh.is_newer_of_id(id.as_str(), than),
            // Another pod may have the name by now.
            Reference::Name { .. } | Reference::Pod(_) => false,
        };
        if newer {
            return Ok(());
        }
        if !self.read_limit.acquire(self.fresh.clock().now()) {
            self.metrics.api.refused.inc(crate::metrics::Refusal::Reads);
            let message = "the clients' reads of the runtime reach the limit of api.reads_per_second; retry, or omit \
                           freshness to get the cached state";
            return Err(Status::resource_exhausted(message));
        }
        match reference {
            Reference::Uid(uid) => deadline.bound(self.fresh.pod(uid, than)).await?.map(drop)?,
            Reference::Name { namespace, name } => {
                deadline.bound(self.fresh.named(namespace, name)).await?.map(drop)?
            }
            Reference::Pod(pod) => {
                deadline.bound(self.fresh.named(&pod.namespace, &pod.name)).await?.map(drop)?
            }
            Reference::Id(id) => {
                request::check_length("container_id", id.as_str())?;
                deadline.bound(self.fresh.read_of_id(id.as_str())).await??
            }
        }
        Ok(())
    }
}

impl From<WatchError> for Status {
    fn from(error: WatchError) -> Self {
        let message = error.to_string();
        match error {
            WatchError::NotReady => Status::failed_precondition(message),
            WatchError::Invalid(_) => Status::invalid_argument(message),
            WatchError::OutOfRange { reason, epoch, oldest, head, .. } => {
                PositionLost { reason, epoch, oldest, head }.to_status(&message)
            }
            WatchError::Ending => Status::unavailable(message),
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        Status::unavailable(error.to_string())
    }
}

/// A reference to a pod in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reference {
    Uid(PodUid),
    /// The pod of a container that the request names.
    Pod(PodIdentity),
    Name {
        namespace: String,
        name: String,
    },
    Id(ObjectId),
}
