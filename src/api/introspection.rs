//! `plegd.v1.IntrospectionService`: status, metrics, subscribers and log level of the daemon.

mod status;

use std::sync::{Arc, atomic::Ordering};

use tonic::{Request, Response, Status, async_trait};

use super::{
    access::Peer,
    server::introspection_service_server::IntrospectionService,
    subscribers::{Subscriber, Subscribers},
    wire::Node,
};
use crate::v1;
use crate::{
    client::timestamp,
    clock::Wall,
    config::{self, Filter, InForce, Loaded, Value as _},
    metrics::Metrics,
    watch::{Detail, Feed, SlowPolicy},
};

/// The longest log level accepted, in bytes.
const MAX_LEVEL_BYTES: usize = 1024;

/// Changes the log level and returns the previous one.
pub type SetLogLevel = Arc<dyn Fn(&Filter) -> Result<Filter, String> + Send + Sync>;

/// The introspection service. Cheap to clone.
#[derive(Clone)]
pub struct Introspection(Arc<Inner>);

struct Inner {
    feed: Feed,
    metrics: Arc<Metrics>,
    subscribers: Subscribers,
    node: Node,
    started_at: Wall,
    in_force: InForce,
    set_log_level: SetLogLevel,
}

// === impl Introspection ===

impl Introspection {
    pub fn new(
        feed: Feed,
        metrics: Arc<Metrics>,
        subscribers: Subscribers,
        node: Node,
        started_at: Wall,
        in_force: InForce,
        set_log_level: SetLogLevel,
    ) -> Self {
        Self(Arc::new(Inner { feed, metrics, subscribers, node, started_at, in_force, set_log_level }))
    }
}

#[async_trait]
impl IntrospectionService for Introspection {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn list_subscribers(
        &self,
        _: Request<v1::ListSubscribersRequest>,
    ) -> Result<Response<v1::ListSubscribersResponse>, Status> {
        let journal = self.0.feed.journal();
        let subscribers = self.0.subscribers.list();
        let head = journal.head();
        let describe = |subscriber: &Arc<Subscriber>| describe_subscriber(subscriber, journal.epoch(), head);
        Ok(Response::new(v1::ListSubscribersResponse {
            subscribers: subscribers.iter().map(describe).collect(),
            head: Some(journal.position(head).into()),
        }))
    }

    async fn disconnect_subscriber(
        &self,
        request: Request<v1::DisconnectSubscriberRequest>,
    ) -> Result<Response<v1::DisconnectSubscriberResponse>, Status> {
        let by = peer(&request);
        let id = request.into_inner().id;
        if !self.0.subscribers.disconnect(id) {
            return Err(Status::not_found(format!("there is no subscriber {id}")));
        }
        tracing::info!(id, by, "Disconnected a subscriber on request.");
        Ok(Response::new(v1::DisconnectSubscriberResponse {}))
    }

    async fn get_config(
        &self,
        _: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        Ok(Response::new(describe_config(&self.0.in_force.get())))
    }

    async fn set_log_level(
        &self,
        request: Request<v1::SetLogLevelRequest>,
    ) -> Result<Response<v1::SetLogLevelResponse>, Status> {
        let by = peer(&request);
        let level = request.into_inner().level;
        if level.len() > MAX_LEVEL_BYTES {
            return Err(Status::invalid_argument(format!(
                "the level is longer than {MAX_LEVEL_BYTES} bytes"
            )));
        }
        let filter = Filter::parse(&level).map_err(|reason| {
            Status::invalid_argument(format!("{level:?}: {reason}. Allowed: {}", Filter::WANTED))
        })?;
        // Logged before the change, so that the log shows which client switches it off.
        tracing::warn!(level, by, "Changing the log level on request.");
        let previous = (self.0.set_log_level)(&filter).map_err(Status::internal)?.text();
        tracing::warn!(level, previous, by, "Changed the log level on request.");
        Ok(Response::new(v1::SetLogLevelResponse { previous }))
    }
}

fn peer<T>(request: &Request<T>) -> String {
    request.extensions().get::<Peer>().map(Peer::to_string).unwrap_or_default()
}

fn describe_config(loaded: &Loaded) -> v1::GetConfigResponse {
    let config = &loaded.config;
    let set = loaded.origins().filter(|(_, origin)| **origin != config::Place::Default);
    v1::GetConfigResponse {
        toml: config.to_toml(),
        file: loaded.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        settings: set
            .map(|(key, origin)| v1::Setting {
                key: key.path(),
                value: key.text(config),
                origin: origin.to_string(),
            })
            .collect(),
    }
}

fn describe_subscriber(subscriber: &Subscriber, epoch: u64, head: u64) -> v1::Subscriber {
    let info = &subscriber.info;
    let sequence = subscriber.progress.sequence();
    v1::Subscriber {
        id: subscriber.id,
        client_name: info.client_name.clone(),
        peer: info.peer.as_ref().map(Into::into),
        since: Some(timestamp(info.since)),
        position: Some(v1::Position { epoch, sequence }),
        lag: head.saturating_sub(sequence),
        events: subscriber.events.load(Ordering::Relaxed),
        bytes: subscriber.bytes.load(Ordering::Relaxed),
        gaps: subscriber.gaps.load(Ordering::Relaxed),
        gaps_of_epoch: subscriber.gaps_of_epoch.load(Ordering::Relaxed),
        filter: info.filter.clone(),
        detail: match info.detail {
            Detail::Event => v1::Detail::Event,
            Detail::Pod => v1::Detail::Pod,
        }
        .into(),
        slow_policy: match info.slow_policy {
            SlowPolicy::Resync => v1::SlowPolicy::Resync,
            SlowPolicy::LatestPerPod => v1::SlowPolicy::LatestPerPod,
            SlowPolicy::Fail => v1::SlowPolicy::Fail,
        }
        .into(),
    }
}

impl From<&Peer> for v1::Peer {
    fn from(peer: &Peer) -> Self {
        use v1::peer::Peer as Kind;
        let kind = match peer {
            Peer::Process { uid, gid, pid } => Kind::Process(v1::Process { uid: *uid, gid: *gid, pid: *pid }),
            Peer::Network { address, certificate_names } => Kind::Network(v1::Network {
                address: address.to_string(),
                certificate_names: certificate_names.as_ref().map(|names| names.to_vec()).unwrap_or_default(),
            }),
        };
        Self { peer: Some(kind) }
    }
}
