//! CRI: the read-only client, the endpoint discovery, the runtimes' quirks, and the conversion to the model.
//!
//! The generated code stays in this module: other modules use [`crate::model`] only. No call here changes the
//! runtime.

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

pub(crate) use self::convert::{DecodedEvent, pod_of_container};
pub use self::{
    client::{Client, EventStream},
    convert::RawEvent,
    endpoint::Endpoint,
    error::CriError,
    link::{Connection, Link},
    lists::{ListedContainer, ListedSandbox, Listing},
};
pub use crate::model::RuntimeInfo;
