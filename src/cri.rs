//! CRI: the read-only client, where to find the runtime, its quirks, and the way from its messages to the model.
//!
//! Owns the generated code and lets none of it out: the other rooms see [`crate::model`] only. There is no call here that
//! changes anything in the runtime.

mod client;
mod codec;
pub(crate) mod convert;
pub(crate) mod endpoint;
mod error;
mod link;
mod lists;
pub mod quirks;
pub(crate) mod status;

#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod v1 {
    include!(concat!(env!("OUT_DIR"), "/cri/runtime.v1.rs"));
}

pub(crate) use self::convert::{EventParts, pod_of_container};
pub use self::{
    client::{Client, EventStream},
    convert::RawEvent,
    endpoint::{Endpoint, WELL_KNOWN, discovery::NoneAnswers},
    error::CriError,
    link::{Connecting, Connection, Link},
    lists::{ListedContainer, ListedSandbox, Listing},
};
pub use crate::model::RuntimeInfo;
