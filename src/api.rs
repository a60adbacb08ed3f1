//! The pod lifecycle API over gRPC: its services, the sockets they are served on, and who may call them.
//!
//! Reads what others keep and changes nothing. It never reaches past cache and journal.

pub mod access;
mod codec;
pub mod grpc;
pub mod introspection;
pub mod lifecycle;
pub mod listen;
pub mod standard;
pub mod subscribers;
pub mod wire;

#[cfg(feature = "internals")]
pub use crate::v1;

/// Servers of the same.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
pub(crate) mod server {
    include!(concat!(env!("OUT_DIR"), "/api_server/plegd.v1.rs"));
}

/// The descriptors of the package, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api/descriptors.bin"));

/// The node's name in what is served: as configured, or else the host's as the kubelet would register it.
pub fn node_name(config: &crate::config::Api) -> String {
    if config.node_name.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().to_lowercase()
    } else {
        config.node_name.clone()
    }
}

/// A text of a client's, as far as it is repeated to it or to others: what is said must not become longer than it is worth.
fn brief(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
