//! The standard gRPC services: health, for readiness checks by clients, and reflection, so that `grpcurl` works without the protos.

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use tonic::{Status, body::Body, server::NamedService, service::RoutesBuilder};
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};
use tonic_reflection::server::{
    Builder,
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha,
};
use tower::{Service, ServiceExt as _};

use super::DESCRIPTORS;

/// Services that health reports; the empty name means the whole server.
pub const SERVICES: [&str; 3] = ["", "plegd.v1.PodLifecycleService", "plegd.v1.IntrospectionService"];

/// Sets the reported health. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Serving(HealthReporter);

/// A service that is built on its first call. Decoded descriptors take ten times the memory, and few daemons ever receive a reflection
/// request.
struct LazyService<S>(Arc<LazyLock<Option<S>>>);

/// Adds `grpc.health.v1` and `grpc.reflection`, v1 and v1alpha, to `routes`. Until [`Serving::set`] is called, health reports
/// NOT_SERVING.
pub async fn add(routes: &mut RoutesBuilder) -> Serving {
    let (reporter, health) = health_reporter();
    let serving = Serving(reporter);
    serving.set(false).await;
    routes.add_service(health);
    routes
        .add_service(LazyService(Arc::new(LazyLock::new(v1))))
        .add_service(LazyService(Arc::new(LazyLock::new(v1alpha))));
    serving
}

fn v1() -> Option<ServerReflectionServer<impl ServerReflection>> {
    ok_or_log(descriptors().build_v1())
}

fn v1alpha() -> Option<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    ok_or_log(descriptors().build_v1alpha())
}

/// Both descriptor sets are generated when plegd is built, and a test reads them.
fn descriptors() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Logs an error. The daemon then runs without reflection.
fn ok_or_log<S>(reflection: Result<S, tonic_reflection::server::Error>) -> Option<S> {
    let failed = |error: &_| {
        tracing::error!(
            %error,
            "gRPC reflection is unavailable: plegd's own descriptors cannot be decoded. All other services work. This is a bug in \
             plegd: please report it."
        );
    };
    reflection.inspect_err(failed).ok()
}

// === impl LazyService ===

impl<S> Clone for LazyService<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: NamedService> NamedService for LazyService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for LazyService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &**self.0 {
            Some(service) => service.clone().oneshot(request).boxed(),
            None => {
                ready(Ok(Status::unimplemented("plegd's descriptors cannot be decoded").into_http())).boxed()
            }
        }
    }
}

// === impl Serving ===

impl Serving {
    /// Sets whether all services are served. Health watchers are notified at once.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }
}
