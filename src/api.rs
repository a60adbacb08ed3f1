//! The pod lifecycle API over gRPC: its services, the sockets that serve them, and the access rules.
//!
//! The API reads only the cache and the journal, and changes nothing.

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

/// The generated servers of `plegd.v1`.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
pub(crate) mod server {
    include!(concat!(env!("OUT_DIR"), "/api_server/plegd.v1.rs"));
}

/// The descriptors of the package, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api/descriptors.bin"));

/// The node's name in answers: the configured name, or else the host name as the kubelet would register it.
pub fn node_name(config: &crate::config::Api) -> String {
    if config.node_name.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().to_lowercase()
    } else {
        config.node_name.clone()
    }
}

/// Shortens text from a client before plegd repeats it in an answer, a log line or a list.
fn truncate(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
