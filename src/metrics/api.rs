//! Calls of clients, and refusals.

use prometheus::{IntCounter, IntGauge};

use super::{
    Family,
    family::{Registry, label},
};

label! {
    /// Calls of clients. Unknown methods share one value.
    Call {
        /// `PodLifecycleService`
        Watch = "Watch",
        /// As above.
        ListPods = "ListPods",
        /// As above.
        GetPod = "GetPod",
        /// As above.
        GetContainer = "GetContainer",
        /// As above.
        WaitFor = "WaitFor",
        /// As above.
        RequestRead = "RequestRead",
        /// `IntrospectionService`
        GetStatus = "GetStatus",
        /// As above.
        ListSubscribers = "ListSubscribers",
        /// As above.
        DisconnectSubscriber = "DisconnectSubscriber",
        /// As above.
        GetConfig = "GetConfig",
        /// As above.
        SetLogLevel = "SetLogLevel",
        /// Any of `grpc.health.v1.Health`.
        Health = "Health",
        /// Any of `grpc.reflection`, both versions.
        Reflection = "Reflection",
        /// Unknown methods.
        Other = "other",
    }
}

label! {
    /// gRPC codes of calls. Codes that plegd does not return share one value, which keeps the number of series small.
    CallCode {
        /// `OK`
        Ok = "OK",
        /// `CANCELLED`: also if the client disconnected before the end.
        Canceled = "Canceled",
        /// `INVALID_ARGUMENT`
        InvalidArgument = "InvalidArgument",
        /// `DEADLINE_EXCEEDED`
        DeadlineExceeded = "DeadlineExceeded",
        /// `NOT_FOUND`
        NotFound = "NotFound",
        /// `PERMISSION_DENIED`
        PermissionDenied = "PermissionDenied",
        /// `RESOURCE_EXHAUSTED`
        ResourceExhausted = "ResourceExhausted",
        /// `OUT_OF_RANGE`: mostly a position that was evicted from the journal.
        OutOfRange = "OutOfRange",
        /// `UNIMPLEMENTED`
        Unimplemented = "Unimplemented",
        /// `UNAVAILABLE`
        Unavailable = "Unavailable",
        /// Any other.
        Other = "Other",
    }
}

label! {
    /// Why a client was refused.
    Refusal {
        /// The limit `api.connections` was reached.
        Connections = "connections",
        /// The TLS handshake failed, or the certificate was not accepted.
        Tls = "tls",
        /// `api.allow_watch` or `api.allow_introspection` does not permit it.
        Peer = "peer",
        /// The limit `api.requests_per_peer` was reached.
        Requests = "requests",
        /// The limit `api.subscribers` was reached.
        Subscribers = "subscribers",
        /// The limit `api.reads_per_second` of all clients together was reached.
        Reads = "reads",
        /// The request was larger than `api.message_bytes`, or was not complete in time.
        Message = "message",
        /// The limit of open pages, or `api.subscribers`, was reached.
        Page = "page",
    }
}

/// Clients over gRPC and HTTP.
pub struct Api {
    /// `plegd_grpc_requests_total`
    pub requests: Family<(Call, CallCode), IntCounter>,
    /// `plegd_grpc_connections`
    pub connections: IntGauge,
    /// `plegd_http_connections`
    pub http_connections: IntGauge,
    /// `plegd_grpc_refused_total`
    pub refused: Family<Refusal, IntCounter>,
}

// === impl Call ===

impl Call {
    /// The call with this HTTP/2 path, such as `/plegd.v1.PodLifecycleService/Watch`.
    pub fn of_path(path: &str) -> Self {
        let (service, method) =
            path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        match (service, method) {
            ("plegd.v1.PodLifecycleService", "Watch") => Self::Watch,
            ("plegd.v1.PodLifecycleService", "ListPods") => Self::ListPods,
            ("plegd.v1.PodLifecycleService", "GetPod") => Self::GetPod,
            ("plegd.v1.PodLifecycleService", "GetContainer") => Self::GetContainer,
            ("plegd.v1.PodLifecycleService", "WaitFor") => Self::WaitFor,
            ("plegd.v1.PodLifecycleService", "RequestRead") => Self::RequestRead,
            ("plegd.v1.IntrospectionService", "GetStatus") => Self::GetStatus,
            ("plegd.v1.IntrospectionService", "ListSubscribers") => Self::ListSubscribers,
            ("plegd.v1.IntrospectionService", "DisconnectSubscriber") => Self::DisconnectSubscriber,
            ("plegd.v1.IntrospectionService", "GetConfig") => Self::GetConfig,
            ("plegd.v1.IntrospectionService", "SetLogLevel") => Self::SetLogLevel,
            ("grpc.health.v1.Health", _) => Self::Health,
            ("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection", _) => {
                Self::Reflection
            }
            _ => Self::Other,
        }
    }
}

// === impl CallCode ===

impl From<tonic::Code> for CallCode {
    fn from(code: tonic::Code) -> Self {
        match code {
            tonic::Code::Ok => Self::Ok,
            tonic::Code::Cancelled => Self::Canceled,
            tonic::Code::InvalidArgument => Self::InvalidArgument,
            tonic::Code::DeadlineExceeded => Self::DeadlineExceeded,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::PermissionDenied => Self::PermissionDenied,
            tonic::Code::ResourceExhausted => Self::ResourceExhausted,
            tonic::Code::OutOfRange => Self::OutOfRange,
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::Unavailable => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

// === impl Api ===

impl Api {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counters(
                "plegd_grpc_requests_total",
                "Ended calls of clients, by method and gRPC code, including refused ones. \
                 The counterpart of other servers is grpc_server_handled_total.",
                &["method", "code"],
            ),
            connections: registry.gauge("plegd_grpc_connections", "Connections of gRPC clients."),
            http_connections: registry.gauge(
                "plegd_http_connections",
                "Connections to the HTTP address, including open pages: at most 64; further connections wait.",
            ),
            refused: registry.counters(
                "plegd_grpc_refused_total",
                "Refused connections, calls and pages of clients, by the limit or rule that refused them.",
                &["reason"],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::DESCRIPTORS, metrics::Label};

    #[test]
    fn every_call_of_the_protos_has_its_own_label() {
        let set: prost_types::FileDescriptorSet = prost::Message::decode(DESCRIPTORS).unwrap();
        let mut calls = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_eq!(Call::of_path(&path).as_str(), method.name());
                    calls += 1;
                }
            }
        }
        assert_eq!(calls, 11);
    }

    #[test]
    fn an_unknown_path_is_other() {
        for path in [
            "",
            "/",
            "Watch",
            "/plegd.v1.PodLifecycleService/",
            "/plegd.v1.PodLifecycleService/watch",
            "//Watch",
        ] {
            assert_eq!(Call::of_path(path), Call::Other, "{path}");
        }
        assert_eq!(Call::of_path("/grpc.health.v1.Health/Check"), Call::Health);
        assert_eq!(
            Call::of_path("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
            Call::Reflection
        );
    }
}
