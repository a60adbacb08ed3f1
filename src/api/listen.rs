//! Where clients connect: a UNIX socket, TCP with mutual TLS if it is wanted, and HTTP/2 over either.
//!
//! [`Listening::bind`] does all that can fail before anything else is started; [`Listening::serve`] then serves. Whatever a
//! client does, it costs a bounded number of descriptors, bytes and seconds: connections, streams, headers, messages and
//! buffers have limits, and whoever says nothing is dropped. Bytes that are no HTTP/2 end their connection and nothing else.
//!
//! Past its share of `api.connections`, as `places` has it, a connection is accepted and closed at once rather than left waiting: its client then gets
//! UNAVAILABLE and can say so, instead of hanging.

mod authority;
mod connection;
mod error;
mod places;
mod tls;
mod unix;

#[cfg(feature = "internals")]
pub(crate) use self::authority::legible;
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
    places::{Holder, Places, affordable},
    tls::Tls,
    unix::Socket,
};
use super::access::{gate::Gate, machine};
use crate::accept::{ACCEPT_PAUSE, Connections};
use crate::{
    config::{self, Config, InForce},
    metrics::{Metrics, Refusal},
};

/// How long a client may let plegd wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For its first request, with the TLS handshake and HTTP/2's preface.
    pub first_request: Duration,
    /// For a request to come to its end once it has begun.
    pub request: Duration,
    /// For taking the answer to a call, once it is there. Streams may take as long as they like.
    pub answer: Duration,
    /// Between two requests, if none is under way.
    pub idle: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// For the answer to a ping.
    pub pong: Duration,
    /// Between two looks at the certificates. Not the client's, but of the same kind.
    pub certificates: Duration,
}

/// Sockets that are bound, with the rules that hold for them. Dropped unserved, it removes its socket again.
pub struct Listening {
    in_force: InForce,
    socket: Option<Socket>,
    tcp: Option<Tcp>,
    patience: Patience,
}

struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    /// `None`: plaintext.
    tls: Option<Arc<Tls>>,
}

/// One that has connected.
enum Accepted {
    Unix(UnixStream, UCred),
    Tcp(TcpStream, SocketAddr),
}

// === impl Patience ===

impl Default for Patience {
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
    /// Makes the sockets that `config` asks for and reads the certificates.
    ///
    /// # Errors
    ///
    /// With a sentence that names the path or address and says what to do.
    pub async fn bind(config: &config::Api) -> Result<Self, ListenError> {
        // What may be refused without leaving anything behind comes first.
        let tcp = match config.tcp_address {
            Some(address) => Some(Tcp::bind(config, address).await?),
            None => None,
        };
        let socket = match &config.socket {
            Some(path) => Some(Socket::bind(path, config.socket_mode.0, &config.socket_group).await?),
            None => None,
        };
        let in_force = InForce::of_program(Config { api: config.clone(), ..Config::default() });
        Ok(Self { in_force, socket, tcp, patience: Patience::default() })
    }

    /// With rules and limits that change as this configuration does. What was bound stays as it is.
    pub fn following(mut self, in_force: &InForce) -> Self {
        self.in_force = in_force.clone();
        self
    }

    /// With other bounds in time.
    #[cfg(feature = "internals")]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Where the UNIX socket is.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(Socket::path)
    }

    /// The TCP address, with the port that was taken if 0 was asked for.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.address)
    }

    /// Serves until `shutdown`: then takes no more connections, removes the socket, lets clients finish what is under way,
    /// and returns after half a second at the latest. Calls that would go on for ever must end by themselves on `shutdown`.
    pub async fn serve(self, services: Routes, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        let Self { in_force, mut socket, mut tcp, patience } = self;
        let gate = Arc::new(Gate::new(&in_force, socket.as_ref().map(Socket::bits), patience, metrics));
        let tls = tcp.as_ref().and_then(|tcp| tcp.tls.clone());
        let http2 = Arc::new(Http2 {
            services: services.prepare(),
            gate: gate.clone(),
            // Watches are streams of one connection, as many as there may be.
            streams: in_force.live(|Config { api, .. }| api.subscribers + api.requests_per_peer),
            patience,
            shutdown: shutdown.clone(),
        });
        let connections = affordable_connections(in_force.get().config.api.connections);
        // Each listener has places of its own, TCP at most half of all.
        let of_tcp = match (&socket, &tcp) {
            (None, _) => connections,
            (Some(_), None) => 0,
            (Some(_), Some(_)) => connections / 2,
        };
        let (unix_places, tcp_places) =
            (Places::new("api.socket", connections - of_tcp), Places::new("api.tcp_address", of_tcp));
        let connections = Connections::default();
        let mut looks = interval(patience.certificates);
        loop {
            let accepted = tokio::select! {
                accepted = accept_unix(socket.as_ref().map(Socket::listener)) => accepted,
                accepted = accept_tcp(tcp.as_ref()) => accepted,
                _ = looks.tick(), if tls.is_some() => {
                    if let Some(tls) = &tls {
                        tls.reload();
                    }
                    continue;
                }
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok(accepted) => {
                    let place = match &accepted {
                        Accepted::Unix(_, peer) => unix_places.take(Holder::User(peer.uid())),
                        Accepted::Tcp(_, address) => tcp_places.take(Holder::Address(machine(address.ip()))),
                    };
                    let Some(place) = place else {
                        gate.metrics().api.refused.inc(Refusal::Connections);
                        continue;
                    };
                    let (http2, tls) = (http2.clone(), tls.clone());
                    connections.spawn(async move {
                        let _place = place;
                        match accepted {
                            Accepted::Unix(stream, peer) => http2.serve_unix(stream, peer).await,
                            Accepted::Tcp(stream, address) => http2.serve_tcp(stream, address, tls).await,
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "A gRPC connection could not be accepted.");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        socket.take();
        tcp.take();
        connections.farewell().await;
    }
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<Accepted> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            // The kernel says who it is.
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
            // Checked with the configuration too; but whoever embeds plegd may not have done so.
            _ if config.tcp_plaintext && address.ip().to_canonical().is_loopback() => None,
            (Some(certificate), Some(key), Some(client_ca)) if !config.tcp_plaintext => {
                Some(Arc::new(Tls::load(certificate, key, client_ca)?))
            }
            _ => return Err(ListenError::Unprotected { address }),
        };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::AddressTaken { address },
            io::ErrorKind::AddrNotAvailable => ListenError::AddressNotHere { address },
            _ => ListenError::Bind { address, error },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }
}

/// How many of the connections that are wanted the limit on open files leaves.
fn affordable_connections(wanted: usize) -> usize {
    use rustix::process::{Resource, getrlimit};
    let Some(open_files) = getrlimit(Resource::Nofile).current else { return wanted };
    let connections = affordable(wanted, usize::try_from(open_files).unwrap_or(usize::MAX));
    if connections < wanted {
        tracing::warn!(
            open_files,
            connections,
            wanted,
            "There are fewer connections than api.connections asks for, since no more files may be open. Raise the limit \
             (LimitNOFILE= of the systemd unit, or ulimit -n), or lower api.connections."
        );
    }
    connections
}

/// Raises the limit on open files to what the system allows: each connection takes one. What cannot be had is not missed
/// until then.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        tracing::debug!(limit = ?current, "The limit on open files is as high as allowed.");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = ?current, to = ?maximum, "The limit on open files was raised."),
        Err(error) => {
            tracing::debug!(%error, limit = ?current, "The limit on open files could not be raised.")
        }
    }
}
