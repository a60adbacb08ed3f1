//! The HTTP server, tested by clients over loopback.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::*;
use crate::{accept::DRAIN_TIMEOUT, clock::Clock, health::Heartbeat};

const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    health: Health,
    open: IntGauge,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let health = Health::new(Clock::system());
        let served = Served { metrics: Arc::new(Metrics::new()), health: health.clone(), page: None };
        Self::of(router(served), CLIENT_TIMEOUT, health).await
    }

    async fn of(router: Router, client_timeout: Duration, health: Health) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let open = Metrics::new().api.http_connections;
        let task =
            tokio::spawn(serve_router(listener, router, open.clone(), client_timeout, shutdown.clone()));
        Self { address, health, open, shutdown, task }
    }

    /// Waits until the metric of open connections has this value.
    async fn until_open(&self, connections: i64) {
        let reached = async {
            while self.open.get() != connections {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("{} are open", self.open.get()));
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    /// The head, in lower case, and the body of the answer.
    async fn get(&self, path: &str) -> (String, String) {
        let answer =
            self.send(&format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }
}

/// Reads until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A closed connection may be reset; the data before the reset counts.
    let _ =
        timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn metrics_are_served_in_the_format_of_prometheus() {
    let server = Server::start().await;
    let (head, body) = server.get("/metrics").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert!(body.contains("# TYPE plegd_transitions_total counter"));
    assert!(body.ends_with('\n'));
}

#[tokio::test]
async fn readiness_waits_for_the_first_relist() {
    let server = Server::start().await;
    let gate = server.health.readiness_gate("initial-relist", "not yet complete: no runtime answers");
    server.health.note("runtime", "").set_ok("containerd 2.1.9");
    let (head, body) = server.get("/readyz").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    let failed = "[-]initial-relist not yet complete: no runtime answers\n[+]runtime ok: containerd 2.1.9\n\
                  readyz check failed\n";
    assert_eq!(body, failed);
    assert_eq!(server.get("/livez").await.1, "ok");
    gate.open();
    let (head, body) = server.get("/readyz").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; charset=utf-8") && head.contains("no-store"), "{head}");
    assert_eq!(body, "ok");
    let verbose = "[+]initial-relist ok\n[+]runtime ok: containerd 2.1.9\nreadyz check passed\n";
    for query in ["?verbose", "?verbose=1", "?exclude=x&verbose"] {
        assert_eq!(server.get(&format!("/readyz{query}")).await.1, verbose, "{query}");
    }
}

#[tokio::test]
async fn a_stuck_task_is_not_alive() {
    let server = Server::start().await;
    let receiver: Heartbeat = server.health.heartbeat("receiver", Duration::ZERO);
    for path in ["livez", "healthz"] {
        let (head, body) = server.get(&format!("/{path}")).await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert!(body.starts_with("[-]receiver no progress for "), "{body}");
        assert!(body.ends_with(&format!("{path} check failed\n")), "{body}");
    }
    drop(receiver);
    assert_eq!(server.get("/livez?verbose").await.1, "livez check passed\n");
}

#[tokio::test]
async fn the_index_lists_all_paths_and_other_paths_refer_to_it() {
    let server = Server::start().await;
    let (_, index) = server.get("/").await;
    for path in ["/metrics", "/livez", "/readyz", "/healthz"] {
        assert!(index.contains(path), "{index}");
        assert!(server.get(path).await.0.starts_with("http/1.1 200"), "{path}");
    }
    let (head, body) = server.get("/metric").await;
    assert!(head.starts_with("http/1.1 404") && head.contains("no-store"), "{head}");
    assert_eq!(body, "Not found. / lists the available paths.\n");
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    let server = Server::start().await;
    let post = "POST /metrics HTTP/1.1\r\nhost: node\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let answer = server.send(post).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 405") && answer.contains("allow: get,head"), "{answer}");
    assert!(answer.ends_with("method not allowed: use get.\n"), "{answer}");
    let head = server.send("HEAD /livez HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn invalid_requests_are_refused_and_affect_no_other_client() {
    let server = Server::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: node\r\n\r\n", "x".repeat(100_000));
    for invalid in
        ["\u{1}\u{2}\u{3}\r\n\r\n", "GET\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", long.as_str()]
    {
        let mut stream = server.connect().await;
        // The server may refuse the request before it is written completely.
        let _ = stream.write_all(invalid.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{invalid:.20?}: {answer}");
    }
    assert_eq!(server.get("/livez").await.1, "ok");
}

#[tokio::test]
async fn the_error_names_an_address_in_use() {
    let server = Server::start().await;
    let error = bind(server.address).await.unwrap_err();
    assert!(matches!(error, HttpError::AddressTaken { .. }));
    let text = error.to_string();
    assert!(text.contains(&server.address.to_string()) && text.contains("--http-address"), "{text}");
    let elsewhere = bind("192.0.2.1:80".parse().unwrap()).await.unwrap_err();
    assert!(matches!(elsewhere, HttpError::AddressNotLocal { .. }), "{elsewhere}");
}

#[tokio::test]
async fn silent_clients_are_disconnected_and_other_clients_are_served() {
    let client_timeout = Duration::from_millis(300);
    let router = Router::new().route("/", get(|| async { "body" }));
    let server = Server::of(router, client_timeout, Health::new(Clock::system())).await;
    let mut silent = Vec::new();
    for n in 0..MAX_CONNECTIONS {
        let mut stream = server.connect().await;
        // Some clients send nothing, some send a part of a request.
        if n % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        }
        silent.push(stream);
    }
    // All permits are taken, so this client waits until the others are disconnected.
    let all = i64::try_from(MAX_CONNECTIONS).unwrap();
    server.until_open(all).await;
    let (head, _) = timeout(DEADLINE, server.get("/")).await.expect("a permit becomes free");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for stream in &mut silent {
        rest(stream).await;
    }
    server.until_open(0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_the_response_is_disconnected() {
    // Larger than all buffers between server and client.
    let large = || async { "x".repeat(64 << 20) };
    let client_timeout = Duration::from_millis(200);
    let router = Router::new().route("/", get(large));
    let server = Server::of(router, client_timeout, Health::new(Clock::system())).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    // The end cannot be awaited without reading. The data that is left to read then is less than the answer.
    sleep(5 * client_timeout).await;
    let answer = rest(&mut stream).await;
    assert!(answer.len() < 64 << 20, "all {} bytes were sent", answer.len());
    server.shutdown.cancel();
    timeout(DEADLINE, server.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn the_server_ends_in_time_at_shutdown() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    timeout(DEADLINE, idle.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut partial = server.connect().await;
    partial.write_all(b"GET /livez HT").await.unwrap();
    server.shutdown.cancel();
    timeout(2 * DRAIN_TIMEOUT, server.task).await.expect("it ends in time").unwrap();
    rest(&mut idle).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}
