//! OpenTelemetry spans: one per relist and one per CRI call.
//!
//! Only with the feature `otlp`; without it the functions are empty. Spans have a name and an outcome.
//! [`crate::daemon::traces`] exports them.

#[cfg_attr(feature = "otlp", path = "traces/otlp.rs")]
#[cfg_attr(not(feature = "otlp"), path = "traces/none.rs")]
mod backend;

pub(crate) use self::backend::{call, relist};
