//! How bytes get to the runtime: over its UNIX socket, or, for the simulated one, over anything that carries bytes.

use std::{fmt, io, sync::Arc};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tonic::transport::{Channel, Uri};

use super::{Endpoint, endpoint::discovery::Discovery};

/// A connection to a runtime.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// Makes connections to one runtime. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    name: Arc<str>,
    connect: Arc<dyn Fn() -> Connecting + Send + Sync>,
}

/// A connection that is being made.
pub(crate) type Connecting = BoxFuture<'static, io::Result<Box<dyn Connection>>>;

/// What the connection is for, which decides how much may be under way in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Requests and answers.
    Unary,
    /// The event stream alone: a large window, so that a burst does not wait in the runtime.
    Stream,
}

async fn connect(endpoint: Endpoint) -> io::Result<Box<dyn Connection>> {
    match UnixStream::connect(endpoint.path()).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let hint = endpoint.hint(&error);
            Err(io::Error::new(error.kind(), format!("{endpoint}: {error}; {hint}")))
        }
    }
}

// === impl Link ===

impl Link {
    /// Connects to a UNIX socket.
    pub fn unix(endpoint: Endpoint) -> Self {
        let name = endpoint.to_string();
        Self::new(&name, move || Box::pin(connect(endpoint.clone())))
    }

    /// Connects to the first of the well-known sockets that answers as a container runtime. Until one has answered, each
    /// connection tries all of them; afterwards it is always that one.
    pub fn well_known() -> Self {
        Self::to_first_of(Discovery::well_known())
    }

    /// Connects to the runtime that is discovered.
    pub(super) fn to_first_of(discovery: Discovery) -> Self {
        let discovery = Arc::new(discovery);
        Self::new("the node's container runtime", move || {
            let discovery = discovery.clone();
            Box::pin(async move {
                let found = discovery.endpoint().await;
                connect(found.map_err(|none| io::Error::new(io::ErrorKind::NotFound, none))?).await
            })
        })
    }

    /// Connects by `connect`. `name` is what errors call the other side.
    pub fn new(name: &str, connect: impl Fn() -> Connecting + Send + Sync + 'static) -> Self {
        Self { name: name.into(), connect: Arc::new(connect) }
    }

    /// A channel that connects when it is first used, and again after it was cut.
    pub(super) fn channel(&self, purpose: Use) -> Channel {
        let mib = 1 << 20;
        let (stream_window, connection_window) = match purpose {
            Use::Unary => (mib / 8, mib),
            Use::Stream => (16 * mib, 32 * mib),
        };
        let connect = self.connect.clone();
        // The authority is of no account on a UNIX socket. No HTTP/2 keepalive: the runtimes' servers call pings more
        // often than every five minutes an attack, and the kernel tells when the other side of a socket is gone.
        Channel::builder(Uri::from_static("http://localhost"))
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let connecting = connect();
                async move { connecting.await.map(TokioIo::new) }
            }))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.name).finish()
    }
}
