//! Sends traces to a collector of OpenTelemetry. The spans are those of [`crate::traces`].
//!
//! Only with the feature `otlp`, and then only where the standard variable `OTEL_EXPORTER_OTLP_ENDPOINT` (or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) names the collector. The protocol is gRPC without TLS, for a collector on this node.
//! The other `OTEL_*` variables, such as that of the sampler, hold as usual.

#[cfg_attr(feature = "otlp", path = "traces/otlp.rs")]
#[cfg_attr(not(feature = "otlp"), path = "traces/none.rs")]
mod way;

pub use self::way::Traces;
