//! The listeners: a UNIX socket, TCP with optional mutual TLS, and HTTP/2 over both.
//!
//! [`Listening::bind`] does everything that can fail, before other parts are started; [`Listening::serve`] then serves. A client costs
//! plegd a bounded number of file descriptors, bytes and seconds. Connections, streams, headers, messages and buffers have limits, and
//! silent clients are disconnected. Bytes that are not HTTP/2 end only their own connection.
//!
//! Beyond the share of `api.connections` that `connection_limit` allows, a connection is accepted and closed at once. The client then gets
//! UNAVAILABLE and can report it, instead of hanging.

mod authority;
mod connection;
mod connection_limit;
mod error;
mod tls;
mod unix;

#[cfg(feature = "internals")]
pub(crate) use self::authority::sanitize_authorities;
pub use self::error::{ListenError, TlsError};

use std::{future::pending, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream, unix::UCred},
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::{
    connection::Http2,
    connection_limit::{ClientKey, ConnectionLimit, fit_open_file_limit},
    tls::Tls,
    unix::Socket,
};
use super::access::{host, service::AccessControl};
use crate::accept::{ACCEPT_PAUSE, Connections};
use crate::{
    config::{self, Config, InForce},
    metrics::{Metrics, Refusal},
};

/// Time limits for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the first request, including the TLS handshake and the HTTP/2 preface.
    pub first_request: Duration,
    /// From the start to the end of a request.
    pub request: Duration,
    /// For reading the answer of a call once it is available. Streams have no such limit.
    pub answer: Duration,
    /// Between two requests, if none is in flight.
    pub idle: Duration,
    /// Interval of pings.
    pub ping: Duration,
    /// For the reply to a ping.
    pub pong: Duration,
    /// Interval of checks of the certificate files. Not a limit for clients, but configured together with them.
    pub certificates: Duration,
}

/// The bound sockets and their access rules. If it is dropped without being served, the UNIX socket is removed.
pub struct Listening {
    in_force: InForce,
    socket: Option<Socket>,
    tcp: Option<Tcp>,
    timeouts: Timeouts,
}

struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    /// `None` means plaintext.
    tls: Option<Arc<Tls>>,
}

/// An accepted connection.
enum Accepted {
    Unix(UnixStream, UCred),
    Tcp(TcpStream, SocketAddr),
}

// === impl Timeouts ===

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_request: Duration::from_secs(20),
            request: Duration::from_secs(20),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            ping: Duration::from_secs(60),
            pong: Duration::from_secs(20),
            certificates: Duration::from_secs(5),
        }
    }
}

// === impl Listening ===

impl Listening {
    /// Creates the sockets of `config` and reads the certificates.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if a socket or certificate cannot be used. The message names the path or address and the remedy.
    pub async fn bind(config: &config::Api) -> Result<Self, ListenError> {
        // TCP first: it may fail, and a failure leaves no file behind.
        let tcp = match config.tcp_address {
            Some(address) => Some(Tcp::bind(config, address).await?),
            None => None,
        };
        let socket = match &config.socket {
            Some(path) => Some(Socket::bind(path, config.socket_mode.0, &config.socket_group).await?),
            None => None,
        };
        let in_force = InForce::of_program(Config { api: config.clone(), ..Config::default() });
        Ok(Self { in_force, socket, tcp, timeouts: Timeouts::default() })
    }

    /// Uses rules and limits that follow changes of this configuration. The bound sockets stay as they are.
    pub fn following(mut self, in_force: &InForce) -> Self {
        self.in_force = in_force.clone();
        self
    }

    /// Uses other time limits.
    #[cfg(feature = "internals")]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The path of the UNIX socket.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(Socket::path)
    }

    /// The TCP address, with the assigned port if the configured port is 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.address)
    }

    /// Serves until `shutdown`. It then accepts no more connections, removes the socket and waits at most half a second for calls in
    /// flight. Streams must end by themselves on `shutdown`.
    pub async fn serve(self, services: Routes, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        let Self { in_force, mut socket, mut tcp, timeouts } = self;
        let bits = socket.as_ref().map(Socket::bits);
        let access = Arc::new(AccessControl::new(&in_force, bits, timeouts, metrics));
        let tls = tcp.as_ref().and_then(|tcp| tcp.tls.clone());
        let http2 = Arc::new(Http2 {
            services: services.prepare(),
            access: access.clone(),
            // All watches may be streams of a single connection.
            streams: in_force.live(|Config { api, .. }| api.subscribers + api.requests_per_peer),
            timeouts,
            shutdown: shutdown.clone(),
        });
        let connections = allowed_connections(in_force.get().config.api.connections);
        // Each listener has its own limit; TCP has at most half of all connections.
        let of_tcp = match (&socket, &tcp) {
            (None, _) => connections,
            (Some(_), None) => 0,
            (Some(_), Some(_)) => connections / 2,
        };
        let unix_limit = ConnectionLimit::new("api.socket", connections - of_tcp);
        let tcp_limit = ConnectionLimit::new("api.tcp_address", of_tcp);
        let connections = Connections::default();
        let mut certificate_checks = interval(timeouts.certificates);
        loop {
            let accepted = tokio::select! {
                accepted = accept_unix(socket.as_ref().map(Socket::listener)) => accepted,
                accepted = accept_tcp(tcp.as_ref()) => accepted,
                _ = certificate_checks.tick(), if tls.is_some() => {
                    if let Some(tls) = &tls {
                        tls.reload();
                    }
                    continue;
                }
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok(accepted) => {
                    let permit = match &accepted {
                        Accepted::Unix(_, peer) => unix_limit.acquire(ClientKey::User(peer.uid())),
                        Accepted::Tcp(_, address) => {
                            tcp_limit.acquire(ClientKey::Address(host(address.ip())))
                        }
                    };
                    let Some(permit) = permit else {
                        access.metrics().api.refused.inc(Refusal::Connections);
                        continue;
                    };
                    let (http2, tls) = (http2.clone(), tls.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        match accepted {
                            Accepted::Unix(stream, peer) => http2.serve_unix(stream, peer).await,
                            Accepted::Tcp(stream, address) => http2.serve_tcp(stream, address, tls).await,
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "Failed to accept a gRPC connection.");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        socket.take();
        tcp.take();
        connections.drain().await;
    }
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<Accepted> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            // The kernel identifies the peer.
            let peer = stream.peer_cred()?;
            Ok(Accepted::Unix(stream, peer))
        }
        None => pending().await,
    }
}

async fn accept_tcp(tcp: Option<&Tcp>) -> io::Result<Accepted> {
    match tcp {
        Some(tcp) => tcp.listener.accept().await.map(|(stream, address)| Accepted::Tcp(stream, address)),
        None => pending().await,
    }
}

// === impl Tcp ===

impl Tcp {
    async fn bind(config: &config::Api, address: SocketAddr) -> Result<Self, ListenError> {
        let tls = match (&config.tls_certificate, &config.tls_key, &config.tls_client_ca) {
            // The configuration checks this as well, but a program that embeds plegd may skip that check.
            _ if config.tcp_plaintext && address.ip().to_canonical().is_loopback() => None,
            (Some(certificate), Some(key), Some(client_ca)) if !config.tcp_plaintext => {
                Some(Arc::new(Tls::load(certificate, key, client_ca)?))
            }
            _ => return Err(ListenError::Unprotected { address }),
        };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::AddressTaken { address },
            io::ErrorKind::AddrNotAvailable => ListenError::AddressNotLocal { address },
            _ => ListenError::Bind { address, error },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }
}

/// The number of connections that the limit on open files allows, `configured` at most.
fn allowed_connections(configured: usize) -> usize {
    use rustix::process::{Resource, getrlimit};
    let Some(open_files) = getrlimit(Resource::Nofile).current else { return configured };
    let connections = fit_open_file_limit(configured, usize::try_from(open_files).unwrap_or(usize::MAX));
    if connections < configured {
        tracing::warn!(
            open_files,
            connections,
            configured,
            "The limit on open files allows fewer connections than api.connections. Raise the limit (LimitNOFILE= of the \
             systemd unit, or ulimit -n), or lower api.connections."
        );
    }
    connections
}

/// Raises the soft limit on open files to the hard limit, since each connection needs a file descriptor. A failure is only logged.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        tracing::debug!(limit = ?current, "The soft limit on open files is already the hard limit.");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = ?current, to = ?maximum, "Raised the soft limit on open files."),
        Err(error) => {
            tracing::debug!(%error, limit = ?current, "Failed to raise the soft limit on open files.")
        }
    }
}
