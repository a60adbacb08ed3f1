//! `plegd.v1.PodLifecycleService`: watches, reads and waits.
//!
//! Translates requests for [`crate::watch`] and [`crate::cache`], and translates their answers back. A request costs plegd bounded memory
//! and time. All requests together cost the runtime at most `api.reads_per_second` reads.

mod allowance;
mod deadline;
mod list;
mod request;
mod stream;
mod wait;

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use tonic::{Request, Response, Status, async_trait};

use self::{allowance::Allowance, request::Wanted};
use super::{
    access::{Cut, Peer},
    brief,
    server::pod_lifecycle_service_server::PodLifecycleService,
    subscribers::{About, Subscribers},
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

/// Characters of a filter that the list of subscribers shows.
const FILTER_SHOWN: usize = 256;

/// The lifecycle service. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle(Arc<Inner>);

struct Inner {
    feed: Feed,
    fresh: FreshReader,
    node: Node,
    subscribers: Subscribers,
    allowance: Allowance,
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
        let allowance = Allowance::new(reads_per_second.into(), fresh.clock().now());
        Self(Arc::new(Inner { feed, fresh, node, subscribers, allowance, metrics }))
    }
}

/// The watch request that a `WatchRequest` stands for.
#[cfg(feature = "internals")]
pub(crate) fn wanted(request: v1::WatchRequest) -> Result<crate::watch::Request, Status> {
    Ok(Wanted::parse(request)?.request)
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

#[async_trait]
impl PodLifecycleService for Lifecycle {
    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let it = &self.0;
        let peer = request.extensions().get::<Peer>().cloned();
        let cut = request.extensions().get::<Cut>().cloned();
        let wanted = Wanted::parse(request.into_inner())?;
        if !wanted.request.wait_ready {
            it.ready()?;
        }
        let about = About {
            client_name: wanted.client_name,
            peer,
            cut,
            since: it.fresh.clock().now_both().1,
            filter: brief(&wanted.request.filter.to_string(), FILTER_SHOWN),
            detail: wanted.detail,
            slow_policy: wanted.request.slow_policy,
        };
        let watch = it.feed.watch(wanted.request)?;
        let enlisted = it.subscribers.enlist(about, watch.progress().clone()).map_err(|full| {
            it.metrics.api.refused.inc(crate::metrics::Refusal::Subscribers);
            Status::resource_exhausted(full.to_string())
        })?;
        Ok(Response::new(Box::pin(stream::messages(watch, enlisted, self.clone()))))
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
        let not_there = || Status::not_found(format!("there is no container {id}"));
        let pod = pod.ok_or_else(not_there)?;
        let container = pod.container(id.as_str()).ok_or_else(not_there)?;
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
        let waiting = wait::Waiting::parse(it.feed.cache(), request.into_inner())?;
        let (position, pod) = deadline.bound(waiting.until_met(&it.feed)).await??;
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
        let v1::Freshness { now: wanted_now, newer_than } = freshness.unwrap_or_default();
        match (wanted_now, newer_than) {
            (false, None) => Ok(None),
            (true, None) => Ok(Some(now)),
            (true, Some(_)) => Err(Status::invalid_argument("now and newer_than are both set: choose one")),
            (false, Some(at)) => {
                let nanos =
                    at.seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(at.nanos.into()));
                let at = Wall::from_nanos(nanos.unwrap_or_default());
                match self.fresh.clock().to_monotonic(at, now) {
                    Stamped::At(at) => Ok(Some((at + STEP_MARGIN).min(now))),
                    // The moment was before the clock step, so each read after the step is newer.
                    Stamped::BeforeStep(step) => Ok(Some(step)),
                    Stamped::Unknown => {
                        let message = "newer_than is in the future, or is no time at all";
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
        if !self.allowance.take(self.fresh.clock().now()) {
            self.metrics.api.refused.inc(crate::metrics::Refusal::Reads);
            let message = "the clients of plegd cause as many reads of the runtime as api.reads_per_second allows; \
                           try again, or ask for what plegd holds";
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
                request::short_enough("container_id", id.as_str())?;
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
