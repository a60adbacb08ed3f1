//! What clients ask of plegd over gRPC, and what is refused to them.

use prometheus::{IntCounter, IntGauge};

use super::{
    Family,
    family::{Maker, label},
};

label! {
    /// Calls that clients make. What is no call of plegd's is one value, whatever its name.
    Call {
        /// `PodLifecycleService`
        Watch = "Watch",
        /// The same.
        ListPods = "ListPods",
        /// The same.
        GetPod = "GetPod",
        /// The same.
        GetContainer = "GetContainer",
        /// The same.
        WaitFor = "WaitFor",
        /// The same.
        RequestRead = "RequestRead",
        /// `IntrospectionService`
        GetStatus = "GetStatus",
        /// The same.
        ListSubscribers = "ListSubscribers",
        /// The same.
        DisconnectSubscriber = "DisconnectSubscriber",
        /// The same.
        GetConfig = "GetConfig",
        /// The same.
        SetLogLevel = "SetLogLevel",
        /// Any of `grpc.health.v1.Health`.
        Health = "Health",
        /// Any of `grpc.reflection`, both versions.
        Reflection = "Reflection",
        /// Anything else.
        Other = "other",
    }
}

label! {
    /// gRPC codes that a call can end with. Those that plegd has no use for are one value, so that the series stay few.
    CallCode {
        /// `OK`
        Ok = "OK",
        /// `CANCELLED`: also where the client went away before the end.
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
        /// `OUT_OF_RANGE`: mostly a position that the journal no longer has.
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
        /// `api.connections` were open.
        Connections = "connections",
        /// It made no TLS handshake with a certificate that is accepted.
        Tls = "tls",
        /// `api.allow_watch` or `api.allow_introspection` does not admit it.
        Peer = "peer",
        /// It had `api.requests_per_peer` under way.
        Requests = "requests",
        /// There were `api.subscribers`.
        Subscribers = "subscribers",
        /// All clients together had caused `api.reads_per_second` reads of the runtime.
        Reads = "reads",
        /// Its request was larger than `api.message_bytes`, or did not come to its end in time.
        Message = "message",
        /// As many pages were open as there may be, or there were `api.subscribers`.
        Page = "page",
    }
}

/// What clients ask for, over gRPC and HTTP.
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
    /// The call that an HTTP/2 path such as `/plegd.v1.PodLifecycleService/Watch` names.
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
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            requests: make.counters(
                "plegd_grpc_requests_total",
                "Calls of clients that ended, by method and gRPC code, refused ones too. \
                 The counterpart of other servers is grpc_server_handled_total.",
                &["method", "code"],
            ),
            connections: make.gauge("plegd_grpc_connections", "Connections of gRPC clients."),
            http_connections: make.gauge(
                "plegd_http_connections",
                "Connections to the HTTP address, open pages among them: at most 64; past that the next one waits.",
            ),
            refused: make.counters(
                "plegd_grpc_refused_total",
                "Connections and calls of clients, and pages, that were refused, by what they came up against.",
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
    fn every_call_of_the_protos_has_a_label_of_its_own() {
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
    fn what_is_no_call_is_other() {
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
