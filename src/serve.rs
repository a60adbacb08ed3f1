//! Serves the pod lifecycle API of an [`App`](crate::app::App) that another program embeds.

pub use crate::api::{
    grpc::Grpc,
    listen::{ListenError, Listening, TlsError},
};
