//! Traces for OpenTelemetry: a span for each relist and for each call of the runtime.
//!
//! Only with the feature `otlp`, and then only where the standard variable `OTEL_EXPORTER_OTLP_ENDPOINT` (or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) says where the collector is: it is spoken to by gRPC, without TLS, since it is meant
//! to be one on this node. The other `OTEL_*` variables, as those of the sampler, hold as usual. Else all of this is nothing
//! and costs nothing. Owns the spans and what sends them; knows nothing of what is traced but its name and outcome.

#[cfg_attr(feature = "otlp", path = "traces/otlp.rs")]
#[cfg_attr(not(feature = "otlp"), path = "traces/none.rs")]
mod way;

pub use self::way::Traces;
pub(crate) use self::way::{call, relist};
