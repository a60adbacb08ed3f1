//! Connections: UNIX sockets and in-process pipes, which break off abruptly when the runtime's process ends.

use std::{
    future::{self, Ready},
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http_body::Frame;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::UnixListener,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{
    body::Body,
    transport::{Server, Uri, server::Connected},
};
use tower::util::MapResponseLayer;

use super::{
    SimRuntime,
    faults::{Faults, ResetReason},
    server::RuntimeService,
    v1::runtime_service_server::RuntimeServiceServer,
};

/// Capacity of a pipe: about that of a UNIX socket.
const PIPE_BYTES: usize = 64 * 1024;
/// Delay of a reset after the items of an answer: a reset discards data that was not sent yet.
const RESET_AFTER: Duration = Duration::from_millis(1);

/// A UNIX socket on which the runtime serves.
#[derive(Debug)]
pub struct SocketHandle {
    runtime: SimRuntime,
    path: PathBuf,
}

/// Connects in process. One connector opens any number of connections.
#[derive(Clone, Debug)]
pub struct SimConnector(SimRuntime);

/// A connection that fails once the token is cancelled, and that stalls while the process is stopped.
struct Wire<S> {
    stream: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    faults: Faults,
    continued: Option<BoxFuture<'static, ()>>,
}

/// The body of an answer whose stream is reset in place of its trailers.
struct ResetBody {
    body: Body,
    reason: ResetReason,
    reset: Option<Pin<Box<tokio::time::Sleep>>>,
}

// === impl SocketHandle ===

impl SocketHandle {
    pub(super) fn new(runtime: SimRuntime, path: PathBuf) -> Self {
        Self { runtime, path }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Breaks off its connections and leaves the file, as a killed process does; new connections are refused.
    pub fn kill(self) {
        self.runtime.close(&self.path);
    }

    /// Breaks off its connections and removes the file.
    pub fn stop(self) -> io::Result<()> {
        self.runtime.close(&self.path);
        std::fs::remove_file(&self.path)
    }
}

// === impl SimConnector ===

impl SimConnector {
    pub(super) fn new(runtime: SimRuntime) -> Self {
        Self(runtime)
    }

    /// A new connection; refused while the runtime is down.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let alive = self.0.core().alive();
        if alive.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the simulated runtime is down"));
        }
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        serve(&self.0, Wire::new(server, alive, self.0.faults().clone()));
        Ok(client)
    }
}

impl tower::Service<Uri> for SimConnector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        future::ready(self.connect().map(TokioIo::new))
    }
}

/// Listens at a path until the token is cancelled. Removes an existing file first.
pub(super) fn listen(runtime: &SimRuntime, path: &Path, open: CancellationToken) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let runtime = runtime.clone();
    tokio::spawn(async move {
        while let Some(Ok((stream, _))) = open.run_until_cancelled(listener.accept()).await {
            serve(&runtime, Wire::new(stream, open.clone(), runtime.faults().clone()));
        }
    });
    Ok(())
}

fn serve<S>(runtime: &SimRuntime, wire: Wire<S>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = RuntimeServiceServer::new(RuntimeService::new(runtime.clone()));
    let connection = futures::stream::iter([Ok::<_, io::Error>(wire)]);
    tokio::spawn(async move {
        if let Err(error) = Server::builder()
            .layer(MapResponseLayer::new(break_off))
            .add_service(service)
            .serve_with_incoming(connection)
            .await
        {
            tracing::debug!(%error, "A connection to the simulated runtime failed.");
        }
    });
}

/// Resets the stream at the end of an answer that has a [`ResetReason`].
fn break_off(response: http::Response<Body>) -> http::Response<Body> {
    let Some(reason) = response.extensions().get::<ResetReason>().copied() else { return response };
    response.map(|body| Body::new(ResetBody { body, reason, reset: None }))
}

// === impl ResetBody ===

impl http_body::Body for ResetBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.reset.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                _ => self.reset = Some(Box::pin(tokio::time::sleep(RESET_AFTER))),
            }
        }
        if let Some(reset) = &mut self.reset {
            ready!(reset.as_mut().poll(cx));
        }
        Poll::Ready(Some(Err(self.reason.error())))
    }
}

// === impl Wire ===

impl<S> Wire<S> {
    fn new(stream: S, cut: CancellationToken, faults: Faults) -> Self {
        Self { stream, cut: Box::pin(cut.cancelled_owned()), faults, continued: None }
    }

    /// Ready when bytes may move; an error when the connection is cut.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.continued.is_none() && self.faults.stopped() {
            self.continued = Some(self.faults.clone().continued().boxed());
        }
        if let Some(continued) = &mut self.continued {
            ready!(continued.as_mut().poll(cx));
            self.continued = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connected for Wire<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
