//! The services that every gRPC server is expected to have: health, by which others learn whether to call, and reflection,
//! by which `grpcurl` works without the protos.

use tonic::service::RoutesBuilder;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};
use tonic_reflection::server::Builder;

use super::DESCRIPTORS;

/// Services that health tells of; the empty name is the server as a whole.
pub const SERVICES: [&str; 3] = ["", "plegd.v1.PodLifecycleService", "plegd.v1.IntrospectionService"];

/// Says whether plegd serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Serving(HealthReporter);

/// Adds `grpc.health.v1` and `grpc.reflection`, v1 and v1alpha, to `routes`. Until [`Serving::set`] is called, health says
/// NOT_SERVING.
pub async fn add(routes: &mut RoutesBuilder) -> Serving {
    let (reporter, health) = health_reporter();
    let serving = Serving(reporter);
    serving.set(false).await;
    routes.add_service(health);
    // Both sets are made when plegd is built, and a test reads them.
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes.add_service(v1).add_service(v1alpha);
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(
                %error,
                "There is no gRPC reflection, since plegd's own descriptors cannot be read; all else works. This is a bug in plegd: \
                 please report it."
            );
        }
    }
    serving
}

// === impl Serving ===

impl Serving {
    /// Whether all services are served, which whoever watches them is told at once.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }
}
