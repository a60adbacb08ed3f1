//! Spans for OpenTelemetry: one for each relist and one for each call of the runtime.
//!
//! Only with the feature `otlp`; without it all of this is nothing and costs nothing. Knows of what is traced its name and
//! outcome alone. What sends the spans is [`crate::daemon::traces`].

#[cfg_attr(feature = "otlp", path = "traces/otlp.rs")]
#[cfg_attr(not(feature = "otlp"), path = "traces/none.rs")]
mod way;

pub(crate) use self::way::{call, relist};
