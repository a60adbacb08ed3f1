//! One connection: its peer, HTTP/2 with its limits, and the disconnection of silent clients.

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

use super::{Patience, authority::Legible, tls::Tls};
use crate::{
    accept::{ConnectionGauge, DRAIN_TIMEOUT},
    api::access::{
        Cut, Peer,
        gate::{Entrance, Gate, Load},
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
const MAX_UNSEEN_RESETS: usize = 256;

/// Streams that plegd reset because of client errors; above this number the connection is ended.
const MAX_ERROR_RESETS: usize = 1024;

/// State shared by all connections.
pub(super) struct Http2 {
    pub(super) services: Routes,
    pub(super) gate: Arc<Gate>,
    /// Open streams that a new connection may have.
    pub(super) streams: Live<usize>,
    pub(super) patience: Patience,
    pub(super) shutdown: CancellationToken,
}

// === impl Http2 ===

impl Http2 {
    pub(super) async fn serve_unix(&self, stream: UnixStream, peer: UCred) {
        // 0 means a process that does not exist in plegd's PID namespace.
        let pid = peer.pid().filter(|pid| *pid > 0);
        self.serve(Legible::new(stream), Peer::Process { uid: peer.uid(), gid: peer.gid(), pid }).await;
    }

    pub(super) async fn serve_tcp(&self, stream: TcpStream, address: SocketAddr, tls: Option<Arc<Tls>>) {
        // Events are sent without delay, so Nagle's algorithm has no benefit.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.serve(stream, Peer::Network { address, certificate_names: None }).await;
        };
        let error = match timeout(self.patience.first_request, tls.accept(stream)).await {
            Ok(Ok((stream, names))) => {
                return self.serve(stream, Peer::Network { address, certificate_names: Some(names) }).await;
            }
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        self.gate.metrics().api.refused.inc(Refusal::Tls);
        tracing::debug!(%address, %error, "A client was dropped: there was no TLS handshake with it.");
    }

    async fn serve<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let _counted = ConnectionGauge::new(&self.gate.metrics().api.connections);
        let log = peer.clone();
        let cut = Cut::default();
        let (entrance, mut load, mut standing) =
            Entrance::new(self.services.clone(), self.gate.clone(), peer, cut.clone());
        let mut unwelcome = load.clone();
        let builder = self.builder();
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(entrance));
        let mut connection = pin!(connection);
        let whole = async {
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                // A client without rights gets its refusal and is then disconnected.
                () = turned_away(&mut unwelcome) => {
                    connection.as_mut().graceful_shutdown();
                    timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
                }
                () = silence(&mut load, self.patience.first_request, self.patience.idle) => {
                    if !load.borrow().begun {
                        tracing::debug!(peer = %log, "A client was dropped: it has asked for nothing.");
                        return Ok(());
                    }
                    // Calls in flight are still answered.
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection.as_mut() => ended,
                        () = silence(&mut load, DRAIN_TIMEOUT, DRAIN_TIMEOUT) => Ok(()),
                    }
                }
            }
        };
        let ended = tokio::select! {
            biased;
            () = cut.made() => {
                tracing::debug!(peer = %log, "A client was cut off.");
                Ok(())
            }
            // The client may reconnect and is then refused the calls that it lost.
            () = standing.lessened() => {
                tracing::info!(peer = %log, "A client was cut off: the configuration admits it to less than before.");
                Ok(())
            }
            ended = whole => ended,
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
            .keep_alive_interval(self.patience.ping)
            .keep_alive_timeout(self.patience.pong)
            .max_concurrent_streams(u32::try_from(self.streams.get()).unwrap_or(u32::MAX))
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .auto_date_header(false);
        builder
    }
}

/// Waits until no call has been in flight for a while: `first` if there has been no call yet, otherwise `idle`.
async fn silence(load: &mut watch::Receiver<Load>, first: Duration, idle: Duration) {
    loop {
        let now = *load.borrow_and_update();
        let changed = load.changed();
        let ended = match now {
            Load { under_way: 0, begun, .. } => {
                timeout(if begun { idle } else { first }, changed).await.is_err()
            }
            _ => changed.await.is_err(),
        };
        if ended {
            return;
        }
    }
}

/// Waits until a call is refused because its peer has no rights.
async fn turned_away(load: &mut watch::Receiver<Load>) {
    if load.wait_for(|load| load.unwelcome).await.is_err() {
        pending().await
    }
}
