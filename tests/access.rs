//! Who gets to the services, over which socket, and what it costs plegd if they misbehave.
//!
//! The services behind the gate are the standard ones. `plegd.v1` has none here: whoever is admitted to it is told
//! UNIMPLEMENTED by the router, and whoever is not never gets that far.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "access/limits.rs"]
mod limits;
#[path = "access/peers.rs"]
mod peers;
#[path = "access/server.rs"]
mod server;
#[path = "access/sockets.rs"]
mod sockets;
#[path = "access/tls.rs"]
mod tls;
