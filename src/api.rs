//! What plegd serves: the pod lifecycle API over gRPC; metrics, health and a page over HTTP.
//!
//! Reads what others keep and changes nothing. It never reaches past cache and journal.

mod accept;
pub mod access;
mod codec;
pub mod error_info;
pub mod grpc;
pub mod http;
pub mod introspection;
pub mod lifecycle;
pub mod listen;
pub mod page;
pub(crate) mod pod_summary;
pub mod standard;
pub mod subscribers;
pub mod wire;

/// Messages and clients of the package `plegd.v1`, generated from `proto/plegd/v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/api/plegd.v1.rs"));
}

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
