//! Access control per socket and service, and the limits on what a misbehaving client costs plegd.
//!
//! The access layer has only the standard services behind it. The router answers an admitted call of `plegd.v1` with UNIMPLEMENTED;
//! a refused call does not reach the router.

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
