//! Parsers of untrusted input, for the fuzz targets in `fuzz/`. Not part of the API.
//!
//! Only wrappers of functions that the fuzz targets cannot access otherwise; they call the same functions as the daemon.

use std::error::Error;

use prost::{DecodeError, Message as _};
use tonic::Status;

use crate::{
    api::{lifecycle, listen},
    clock::{Mono, Wall},
    cri::{Listing, RawEvent, RuntimeInfo, convert, status, v1 as cri},
    model::{ContainerStatus, ObjectId, SandboxStatus},
    v1 as api, watch,
};

/// Decodes a message of the event stream.
///
/// # Errors
///
/// If the bytes are not a valid message.
pub fn event(bytes: &[u8], received: Mono, received_at: Wall) -> Result<RawEvent, DecodeError> {
    Ok(RawEvent::new(cri::ContainerEventResponse::decode(bytes)?, received, received_at))
}

/// An event after its payload was stripped, as if the queue of events had reached its memory limit.
pub fn stripped(mut event: RawEvent) -> RawEvent {
    event.strip_payload();
    event
}

/// Decodes the responses of `ListPodSandbox` and `ListContainers`.
///
/// # Errors
///
/// If one of them is not a valid message.
pub fn listing(sandboxes: &[u8], containers: &[u8]) -> Result<Listing, DecodeError> {
    let sandboxes = cri::ListPodSandboxResponse::decode(sandboxes)?.items.into_iter();
    let containers = cri::ListContainersResponse::decode(containers)?.containers.into_iter();
    Ok(Listing {
        sandboxes: sandboxes.map(convert::listed_sandbox).collect(),
        containers: containers.map(convert::listed_container).collect(),
    })
}

/// Decodes the response of `PodSandboxStatus`.
///
/// # Errors
///
/// If the bytes are not a valid message.
pub fn sandbox_status(bytes: &[u8]) -> Result<Option<SandboxStatus>, Box<dyn Error>> {
    let answer = cri::PodSandboxStatusResponse::decode(bytes)?;
    Ok(answer.status.map(|bytes| status::sandbox_status(&bytes)).transpose()?)
}

/// Decodes the response of `ContainerStatus` for a container of this sandbox.
///
/// # Errors
///
/// If the bytes are not a valid message.
pub fn container_status(bytes: &[u8], sandbox: &ObjectId) -> Result<Option<ContainerStatus>, Box<dyn Error>> {
    let answer = cri::ContainerStatusResponse::decode(bytes)?;
    Ok(answer.status.map(|bytes| status::container_status(&bytes, sandbox)).transpose()?)
}

/// Decodes the response of `Version`.
///
/// # Errors
///
/// If the bytes are not a valid message.
pub fn runtime(bytes: &[u8]) -> Result<RuntimeInfo, DecodeError> {
    Ok(cri::VersionResponse::decode(bytes)?.into())
}

/// Parses a `WatchRequest`.
///
/// # Errors
///
/// The gRPC status for an invalid request.
pub fn watch_request(request: api::WatchRequest) -> Result<watch::Request, Status> {
    lifecycle::parse_watch(request)
}

/// Rewrites the authorities in the bytes of a UNIX socket connection, chunk by chunk.
pub fn sanitize_authorities<'a>(chunks: impl IntoIterator<Item = &'a mut [u8]>) {
    listen::sanitize_authorities(chunks);
}
