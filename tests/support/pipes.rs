//! The gRPC services over pipes within the process: paused time works over them.

use std::{io, sync::Arc};

use futures::stream;
use hyper_util::rt::TokioIo;
use plegd::{
    api::grpc::Grpc,
    app::App,
    client::Client,
    config::{Config, InForce, Inputs, Loaded, load},
};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};
use tonic::transport::{Channel, Uri};

/// A connector to a server. Cheap to clone.
#[derive(Clone)]
pub struct Pipes(mpsc::UnboundedSender<io::Result<DuplexStream>>);

// === impl Pipes ===

impl Pipes {
    /// Serves the API of a plegd with this configuration.
    pub fn serve(app: &App, config: Config) -> (Self, JoinHandle<()>) {
        Self::serve_grpc(Grpc::new(app, &InForce::new(loaded(config)), Arc::new(|level| Ok(level.clone()))))
    }

    pub fn serve_grpc(grpc: Grpc) -> (Self, JoinHandle<()>) {
        let (pipes, incoming) = mpsc::unbounded_channel();
        let incoming =
            stream::unfold(incoming, |mut incoming| async { Some((incoming.recv().await?, incoming)) });
        (Self(pipes), tokio::spawn(grpc.serve_pipes(incoming)))
    }

    /// A new connection, or an error if the server has ended.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(1 << 14);
        self.0.send(Ok(far)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    pub fn client(&self) -> Client {
        let pipes = self.clone();
        let connect = move |_: Uri| {
            let connected = pipes.connect();
            async move { connected.map(TokioIo::new) }
        };
        let endpoint = Channel::builder(Uri::from_static("http://localhost"));
        Client::over(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
    }
}

/// Wraps a configuration as if it were loaded from a file.
pub fn loaded(config: Config) -> Loaded {
    let mut loaded = load(&Inputs::default()).expect("the defaults");
    loaded.config = config;
    loaded
}
