//! Sends traces to an OpenTelemetry collector. The spans are those of [`crate::traces`].
//!
//! Requires the feature `otlp`, and the standard variable `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) with the
//! collector's address. The protocol is gRPC without TLS, for a collector on this node. The other `OTEL_*` variables, such as that of the
//! sampler, apply as usual.

#[cfg_attr(feature = "otlp", path = "traces/otlp.rs")]
#[cfg_attr(not(feature = "otlp"), path = "traces/none.rs")]
mod exporter;

pub use self::exporter::Traces;
