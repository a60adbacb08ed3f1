//! The gRPC server: all services on the bound sockets.

use std::{io, sync::Arc};

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::server::{Connected, Server},
};

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
    subscribers::{Subscriber, Subscribers},
    wire::Node,
};
use crate::{app::App, config::InForce, metrics::Metrics, watch::Feed};

/// The gRPC services before they are served. Built from a running plegd; serving needs nothing else of it.
pub struct Grpc {
    lifecycle: Lifecycle,
    introspection: Introspection,
    subscribers: Subscribers,
    message_bytes: usize,
    feed: Feed,
    metrics: Arc<Metrics>,
    fanout: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

// === impl Grpc ===

impl Grpc {
    /// Creates the services of this plegd. They follow changes of the configuration.
    pub fn new(app: &App, in_force: &InForce, set_log_level: SetLogLevel) -> Self {
        let initial = in_force.get();
        let config = &initial.config.api;
        let metrics = app.metrics().clone();
        let (feed, fanout) = app.feed().with_fanout();
        let node = Node { name: node_name(config) };
        let subscribers = Subscribers::new(in_force.live(|config| config.api.subscribers));
        let lifecycle = Lifecycle::new(
            feed.clone(),
            app.fresh().clone(),
            node.clone(),
            subscribers.clone(),
            in_force.live(|config| config.api.reads_per_second),
            metrics.clone(),
        );
        report_lag(&metrics, &subscribers, &feed);
        let started_at = app.clock().now_both().1;
        let introspection = Introspection::new(
            feed.clone(),
            metrics.clone(),
            subscribers.clone(),
            node,
            started_at,
            in_force.clone(),
            set_log_level,
        );
        let message_bytes = config.message_bytes.0;
        Self { lifecycle, introspection, subscribers, message_bytes, feed, metrics, fanout: Box::pin(fanout) }
    }

    /// Creates the services of a plegd that is embedded in another program. They cannot change that program's log level.
    ///
    /// ```no_run
    /// # use plegd::{app::App, serve::{Grpc, Listening}};
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// let app = App::builder().configure(|it| it.api.socket = Some("/run/agent/pods.sock".into())).start()?;
    /// let listening = Listening::bind(&app.config().api).await?;
    /// let serving = tokio::spawn(Grpc::embedded(&app).serve(listening));
    /// # Ok(())
    /// # }
    /// ```
    pub fn embedded(app: &App) -> Self {
        let refusal = "plegd is embedded in another program, which controls the log level";
        Self::new(app, app.in_force(), Arc::new(move |_| Err(refusal.into())))
    }

    /// The list of subscribers, for other services that add theirs.
    pub fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// Serves until plegd stops, then ends the calls in flight within half a second. Watches are notified on the tokio runtime that runs
    /// this method.
    pub async fn serve(self, listening: Listening) {
        self.serve_with(|routes, metrics, stop| listening.serve(routes, metrics, stop)).await;
    }

    /// Serves existing connections, such as pipes within the process, until plegd stops. Clients are not authenticated, and nothing is
    /// limited. For tests, and for programs that embed plegd and control access themselves.
    pub async fn serve_pipes<P>(self, pipes: impl Stream<Item = io::Result<P>>)
    where
        P: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    {
        self.serve_with(|routes, _, stop| async move {
            let server = Server::builder().add_routes(routes);
            if let Err(error) = server.serve_with_incoming_shutdown(pipes, stop.cancelled()).await {
                tracing::debug!(%error, "Failed to serve pipes.");
            }
        })
        .await;
    }

    async fn serve_with<S: Future<Output = ()>>(
        self,
        serve: impl FnOnce(Routes, Arc<Metrics>, CancellationToken) -> S,
    ) {
        let mut routes = RoutesBuilder::default();
        let serving = standard::add(&mut routes).await;
        routes.add_service(
            PodLifecycleServiceServer::new(self.lifecycle).max_decoding_message_size(self.message_bytes),
        );
        routes.add_service(
            IntrospectionServiceServer::new(self.introspection).max_decoding_message_size(self.message_bytes),
        );
        let stop = self.feed.stop();
        let health = mirror_readiness(&self.feed, serving);
        let stalled = stop.run_until_cancelled(self.subscribers.disconnect_stalled(self.feed.journal()));
        // In one task, so that the caller sees a panic of each.
        tokio::join!(serve(routes.routes(), self.metrics, stop.clone()), self.fanout, health, stalled);
    }
}

fn report_lag(metrics: &Metrics, subscribers: &Subscribers, feed: &Feed) {
    let (subscribers, journal) = (subscribers.clone(), feed.journal().clone());
    metrics.on_scrape(Box::new(move |metrics| {
        let head = journal.head();
        let lag = |subscriber: &Arc<Subscriber>| head.saturating_sub(subscriber.progress.sequence());
        let max = subscribers.list().iter().map(lag).max();
        metrics.journal.max_lag.set(i64::try_from(max.unwrap_or_default()).unwrap_or(i64::MAX));
    }));
}

/// Reports the readiness of `/readyz` as gRPC health.
async fn mirror_readiness(feed: &Feed, serving: Serving) {
    let stop = feed.stop();
    let mut follower_status = feed.follower_status().clone();
    loop {
        if follower_status.borrow_and_update().ready {
            serving.set(true).await;
            break;
        }
        match stop.run_until_cancelled(follower_status.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
    stop.cancelled().await;
    serving.set(false).await;
}
