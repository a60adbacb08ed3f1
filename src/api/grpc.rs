//! The gRPC server: all services over the sockets that are bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use super::{
    introspection::{Introspection, SetLogLevel},
    lifecycle::Lifecycle,
    listen::Listening,
    node_name,
    server::{
        introspection_service_server::IntrospectionServiceServer,
        pod_lifecycle_service_server::PodLifecycleServiceServer,
    },
    standard::{self, Serving},
    subscribers::Subscribers,
    wire::Node,
};
use crate::{app::App, config::Loaded, metrics::Metrics, watch::Feed};

/// All that is served, before it is. Made from a running plegd; serving needs nothing else of it.
pub struct Grpc {
    lifecycle: Lifecycle,
    introspection: Introspection,
    message_bytes: usize,
    feed: Feed,
    metrics: Arc<Metrics>,
    relay: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: CancellationToken,
}

// === impl Grpc ===

impl Grpc {
    /// The services of this plegd with this configuration.
    pub fn new(app: &App, loaded: &Loaded, set_log_level: SetLogLevel) -> Self {
        let config = &loaded.config.api;
        let metrics = app.metrics().clone();
        let (feed, relay) = app.feed().relayed();
        let node = Node { name: node_name(config) };
        let subscribers = Subscribers::new(config.subscribers);
        let lifecycle = Lifecycle::new(
            feed.clone(),
            app.fresh().clone(),
            node.clone(),
            subscribers.clone(),
            config.reads_per_second,
            metrics.clone(),
        );
        report_lag(&metrics, &subscribers, &feed);
        let started_at = app.clock().now_both().1;
        let introspection = Introspection::new(
            feed.clone(),
            metrics.clone(),
            subscribers,
            node,
            started_at,
            loaded,
            set_log_level,
        );
        let message_bytes = config.message_bytes.0;
        let stop = app.stop_token();
        Self { lifecycle, introspection, message_bytes, feed, metrics, relay: Box::pin(relay), stop }
    }

    /// Serves until plegd stops, then ends what is under way, for half a second at most. Watches are woken up on the
    /// runtime that this is called on.
    pub async fn serve(self, listening: Listening) {
        let mut routes = RoutesBuilder::default();
        let serving = standard::add(&mut routes).await;
        routes.add_service(
            PodLifecycleServiceServer::new(self.lifecycle).max_decoding_message_size(self.message_bytes),
        );
        routes.add_service(
            IntrospectionServiceServer::new(self.introspection).max_decoding_message_size(self.message_bytes),
        );
        let relay = tokio::spawn(self.relay);
        let health = tokio::spawn(follow(self.feed, serving, self.stop.clone()));
        listening.serve(routes.routes(), self.metrics, self.stop).await;
        for task in [relay, health] {
            task.abort();
        }
    }
}

fn report_lag(metrics: &Metrics, subscribers: &Subscribers, feed: &Feed) {
    let (subscribers, journal) = (subscribers.clone(), feed.journal().clone());
    metrics.on_scrape(Box::new(move |metrics| {
        let head = journal.head();
        let lag = |sent: &AtomicU64| head.saturating_sub(sent.load(Ordering::Relaxed));
        let longest = subscribers.list().iter().map(|subscriber| lag(&subscriber.sequence)).max();
        metrics.journal.max_lag.set(i64::try_from(longest.unwrap_or_default()).unwrap_or(i64::MAX));
    }));
}

/// Says in gRPC's health what `/readyz` says over HTTP.
async fn follow(feed: Feed, serving: Serving, stop: CancellationToken) {
    let mut situation = feed.situation().clone();
    loop {
        if situation.borrow_and_update().ready {
            serving.set(true).await;
            break;
        }
        match stop.run_until_cancelled(situation.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
    stop.cancelled().await;
    serving.set(false).await;
}
