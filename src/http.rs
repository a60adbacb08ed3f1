//! Metrics and health over HTTP/1.1, for Prometheus, the kubelet's probes and curl. The page for browsers is passed in as a [`Router`].
//!
//! A client costs plegd a bounded number of connections and seconds. Beyond [`MAX_CONNECTIONS`], the next connection waits in the kernel.
//! A client that sends no request or reads no response for [`CLIENT_TIMEOUT`] is disconnected. There is no authentication; the address is
//! loopback by default.

mod write_timeout;

use std::{convert::Infallible, fmt::Write as _, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderValue, Request, StatusCode, Uri, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prometheus::IntGauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::write_timeout::WriteTimeout;
use crate::{
    accept::{ACCEPT_PAUSE, ConnectionGauge, Connections},
    health::{Health, Report},
    metrics::Metrics,
    printable::visible_lines,
    version,
};

/// Connections served at the same time.
pub const MAX_CONNECTIONS: usize = 64;

/// Timeout for the head of each request, and for a response that the client does not read. Longer than the 15 or 30 seconds between two
/// scrapes of Prometheus, because Prometheus keeps its connection open.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(45);

const PLAIN: &str = "text/plain; charset=utf-8";

/// The reason why the HTTP server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Another process listens on the address.
    #[error(
        "the HTTP address {address} is in use by another process: stop it, or choose another address with --http-address \
         (\"off\" disables HTTP)"
    )]
    AddressTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address does not belong to this host, at least at present.
    #[error(
        "the HTTP address {address} does not belong to this host: choose another one with --http-address (\"off\" disables HTTP)"
    )]
    AddressNotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses the address, or lacks resources.
    #[error(
        "cannot listen on the HTTP address {address}: {error}; choose another one with --http-address (\"off\" disables HTTP)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system error.
        error: io::Error,
    },
}

/// The sources of the responses.
#[derive(Clone, Debug)]
pub struct Served {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/livez`, `/readyz` and `/healthz`.
    pub health: Health,
    /// The page at `/`; `None` if it is switched off.
    pub page: Option<Router>,
}

/// The address of a request's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// Listens on `address`. Port 0 selects a free port.
///
/// # Errors
///
/// [`HttpError`] if the address cannot be bound. The message names the address and the remedy.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => HttpError::AddressTaken { address },
        io::ErrorKind::AddrNotAvailable => HttpError::AddressNotLocal { address },
        _ => HttpError::Bind { address, error },
    })
}

/// Serves until `shutdown`, then waits at most half a second for requests in flight.
pub async fn serve(listener: TcpListener, served: Served, shutdown: CancellationToken) {
    let open = served.metrics.api.http_connections.clone();
    serve_router(listener, router(served), open, CLIENT_TIMEOUT, shutdown).await;
}

/// The routes.
pub fn router(mut served: Served) -> Router {
    let root = served.page.take().unwrap_or_else(|| Router::new().route("/", get(index)));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/healthz", get(livez))
        .route("/readyz", get(readyz))
        .with_state(served)
        .merge(root)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(map_response(no_store))
}

pub(crate) async fn serve_router(
    listener: TcpListener,
    router: Router,
    open: IntGauge,
    timeout: Duration,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = Connections::default();
    loop {
        // The permit comes first. Without one, the next client waits in the kernel, where it costs nothing.
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, from)) => {
                let (router, from) = (router.clone(), Remote(from));
                let connection = serve_connection(stream, from, router, timeout, shutdown.clone());
                let guards = (permit, ConnectionGauge::new(&open));
                connections.spawn(async move {
                    connection.await;
                    drop(guards);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "Failed to accept an HTTP connection.");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.drain().await;
}

async fn serve_connection(
    stream: TcpStream,
    from: Remote,
    router: Router,
    timeout: Duration,
    shutdown: CancellationToken,
) {
    // A response is written at once, so Nagle's algorithm has no benefit.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(WriteTimeout::new(stream, timeout));
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(16 * 1024);
    let service = TowerToHyperService::new(router.map_request(with_remote(from)));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Client errors are only logged at trace level.
        tracing::trace!(%error, "An HTTP connection ended early.");
    }
}

/// Adds the client's address to the requests of a connection.
fn with_remote<B>(from: Remote) -> impl FnMut(Request<B>) -> Request<B> + Clone {
    move |mut request| {
        request.extensions_mut().insert(from);
        request
    }
}

async fn index() -> Response {
    plain(StatusCode::OK, list_of_paths())
}

/// The text at `/` for programs, and for browsers that may not see the page.
pub(crate) fn list_of_paths() -> String {
    format!(
        "plegd {}: the pod lifecycle events of this node.\n\n\
         /metrics  metrics for Prometheus\n\
         /livez    liveness; ?verbose lists the checks\n\
         /readyz   readiness: the first relist is complete; ?verbose lists the checks\n\
         /healthz  alias of /livez\n\
         /         web page for browsers; http.page sets who may open it\n",
        version::VERSION
    )
}

async fn metrics(State(served): State<Served>) -> Response {
    match served.metrics.scrape() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, format!("Failed to encode the metrics: {error}.\n"))
        }
    }
}

async fn livez(State(served): State<Served>, RawQuery(query): RawQuery, uri: Uri) -> Response {
    respond(uri.path(), &served.health.live(), query)
}

async fn readyz(State(served): State<Served>, RawQuery(query): RawQuery, uri: Uri) -> Response {
    respond(uri.path(), &served.health.ready(), query)
}

fn respond(path: &str, report: &Report, query: Option<String>) -> Response {
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query
        .is_some_and(|query| query.split('&').any(|pair| matches!(pair.split('=').next(), Some("verbose"))));
    // A failure always includes the reason, which the kubelet shows in its event about the probe.
    if report.ok && !verbose {
        return plain(status, "ok".into());
    }
    let mut text = String::new();
    for check in &report.checks {
        let _ = writeln!(text, "{check}");
    }
    let _ = writeln!(
        text,
        "{} check {}",
        path.trim_start_matches('/'),
        if report.ok { "passed" } else { "failed" }
    );
    plain(status, text)
}

async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "Not found. / lists the available paths.\n".into())
}

async fn wrong_method() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed: use GET.\n".into())
}

pub(crate) fn plain(status: StatusCode, text: String) -> Response {
    // The text is shown in terminals, and a check may repeat an error text of the runtime.
    (status, [(header::CONTENT_TYPE, PLAIN)], visible_lines(&text).into_owned()).into_response()
}

/// Adds headers against caching and content sniffing: a response is valid only at the moment it is sent.
async fn no_store(mut response: Response) -> Result<Response, Infallible> {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[cfg(test)]
mod tests;
