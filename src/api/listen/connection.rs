//! One connection: who is at its other end, HTTP/2 with its limits, and an end for whoever says nothing.

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

/// Metadata of a request, as HTTP/2 counts it: name, value and 32 bytes for each.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// What a client may send ahead of being read, on one stream and on the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// What waits to be sent on one stream. Small, since a subscriber that does not read must not cost a thing.
const MAX_SEND_BUFFER: usize = 16 * 1024;

/// Streams that the client reset before plegd had seen them; past it the connection is ended. This is what bounds a flood
/// of resets (CVE-2023-44487), and no client that gives up a few calls at once comes near it.
const MAX_UNSEEN_RESETS: usize = 256;

/// Streams that plegd reset for the client's errors; past it the connection is ended.
const MAX_ERROR_RESETS: usize = 1024;

/// What all connections have in common.
pub(super) struct Http2 {
    pub(super) services: Routes,
    pub(super) gate: Arc<Gate>,
    /// Streams that a connection may have open, as it is when it is made.
    pub(super) streams: Live<usize>,
    pub(super) patience: Patience,
    pub(super) shutdown: CancellationToken,
}

// === impl Http2 ===

impl Http2 {
    pub(super) async fn serve_unix(&self, stream: UnixStream, peer: UCred) {
        // 0 is a process that plegd's process namespace does not have.
        let pid = peer.pid().filter(|pid| *pid > 0);
        self.serve(Legible::new(stream), Peer::Process { uid: peer.uid(), gid: peer.gid(), pid }).await;
    }

    pub(super) async fn serve_tcp(&self, stream: TcpStream, address: SocketAddr, tls: Option<Arc<Tls>>) {
        // Events are told at once; there is nothing to gather.
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
                // Whoever may do nothing is told so, and then makes room.
                () = turned_away(&mut unwelcome) => {
                    connection.as_mut().graceful_shutdown();
                    timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
                }
                () = silence(&mut load, self.patience.first_request, self.patience.idle) => {
                    if !load.borrow().begun {
                        tracing::debug!(peer = %log, "A client was dropped: it has asked for nothing.");
                        return Ok(());
                    }
                    // What it asks for just now is still answered.
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
            // It connects again if it likes, and is then told what it may not do.
            () = standing.lessened() => {
                tracing::info!(peer = %log, "A client was cut off: the configuration admits it to less than before.");
                Ok(())
            }
            ended = whole => ended,
        };
        if let Err(error) = ended {
            // What clients do wrong is theirs to notice.
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

/// Waits until nothing has been under way for `first`, if nothing ever was, else for `idle`.
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

/// Waits until a call was refused of one who may make none.
async fn turned_away(load: &mut watch::Receiver<Load>) {
    if load.wait_for(|load| load.unwelcome).await.is_err() {
        pending().await
    }
}
