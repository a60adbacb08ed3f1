//! One connection: its peer, HTTP/2 with its limits, and the disconnection of idle clients.

use std::{future::pending, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, unix::UCred},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{Timeouts, authority::AuthorityFix, tls::Tls};
use crate::{
    accept::{ConnectionGauge, DRAIN_TIMEOUT},
    api::access::{
        ConnectionAbort, Peer,
        service::{AccessControl, AccessService, ConnectionLoad},
    },
    config::Live,
    metrics::Refusal,
};

/// Size of a request's metadata, as HTTP/2 counts it: name, value and 32 bytes for each entry.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Bytes that a client may send before they are read, for one stream and for the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bytes that may wait to be sent on one stream. Small, so that a subscriber that does not read costs little memory.
const MAX_SEND_BUFFER: usize = 16 * 1024;

/// Streams that the client reset before plegd processed them; above this number the connection is ended. This limits reset floods
/// (CVE-2023-44487). A client that cancels a few calls at once stays far below it.
const MAX_PENDING_RESETS: usize = 256;

/// Streams that plegd reset because of client errors; above this number the connection is ended.
const MAX_ERROR_RESETS: usize = 1024;

/// State shared by all connections.
pub(super) struct Http2 {
    pub(super) services: Routes,
    pub(super) access: Arc<AccessControl>,
    /// Open streams that a new connection may have.
    pub(super) streams: Live<usize>,
    pub(super) timeouts: Timeouts,
    pub(super) shutdown: CancellationToken,
}

// === impl Http2 ===

impl Http2 {
    pub(super) async fn serve_unix(&self, stream: UnixStream, peer: UCred) {
        // 0 means a process that does not exist in plegd's PID namespace.
        let pid = peer.pid().filter(|pid| *pid > 0);
        self.serve(AuthorityFix::new(stream), Peer::Process { uid: peer.uid(), gid: peer.gid(), pid }).await;
    }

    pub(super) async fn serve_tcp(&self, stream: TcpStream, address: SocketAddr, tls: Option<Arc<Tls>>) {
        // Events are sent without delay, so Nagle's algorithm has no benefit.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.serve(stream, Peer::Network { address, certificate_names: None }).await;
        };
        let error = match timeout(self.timeouts.first_request, tls.accept(stream)).await {
            Ok(Ok((stream, names))) => {
                return self.serve(stream, Peer::Network { address, certificate_names: Some(names) }).await;
            }
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        self.access.metrics().api.refused.inc(Refusal::Tls);
        tracing::debug!(%address, %error, "A client was disconnected: the TLS handshake failed.");
    }

    async fn serve<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let _counted = ConnectionGauge::new(&self.access.metrics().api.connections);
        let log = peer.clone();
        let abort = ConnectionAbort::default();
        let (service, mut load, mut authorization) =
            AccessService::new(self.services.clone(), self.access.clone(), peer, abort.clone());
        let mut denied = load.clone();
        let builder = self.builder();
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        let serve = async {
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                // A client without rights gets its refusal and is then disconnected.
                () = on_denied(&mut denied) => {
                    connection.as_mut().graceful_shutdown();
                    timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
                }
                () = on_idle(&mut load, self.timeouts.first_request, self.timeouts.idle) => {
                    if !load.borrow().started {
                        tracing::debug!(peer = %log, "A client was disconnected: it sent no request in time.");
                        return Ok(());
                    }
                    // Calls in flight are still answered.
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection.as_mut() => ended,
                        () = on_idle(&mut load, DRAIN_TIMEOUT, DRAIN_TIMEOUT) => Ok(()),
                    }
                }
            }
        };
        let ended = tokio::select! {
            biased;
            () = abort.aborted() => {
                tracing::debug!(peer = %log, "A client was disconnected: its connection was aborted.");
                Ok(())
            }
            // The client may reconnect. The calls whose right was revoked are then refused.
            () = authorization.revoked() => {
                tracing::info!(peer = %log, "A client was disconnected: a configuration change revoked some of its rights.");
                Ok(())
            }
            ended = serve => ended,
        };
        if let Err(error) = ended {
            // Client errors are only logged at debug level.
            tracing::debug!(peer = %log, error, "A gRPC connection ended early.");
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new()).http2_only();
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.timeouts.ping)
            .keep_alive_timeout(self.timeouts.pong)
            .max_concurrent_streams(u32::try_from(self.streams.get()).unwrap_or(u32::MAX))
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .auto_date_header(false);
        builder
    }
}

/// Waits until no call has been in flight for a while: `first` if there has been no call yet, otherwise `idle`.
async fn on_idle(load: &mut watch::Receiver<ConnectionLoad>, first: Duration, idle: Duration) {
    loop {
        let now = *load.borrow_and_update();
        let changed = load.changed();
        let ended = match now {
            ConnectionLoad { in_flight: 0, started, .. } => {
                timeout(if started { idle } else { first }, changed).await.is_err()
            }
            _ => changed.await.is_err(),
        };
        if ended {
            return;
        }
    }
}

/// Waits until a call is refused because its peer has no rights.
async fn on_denied(load: &mut watch::Receiver<ConnectionLoad>) {
    if load.wait_for(|load| load.denied).await.is_err() {
        pending().await
    }
}
