//! A server in its own temporary directory, and calls to it.

use std::{
    convert::Infallible,
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use plegd::{
    api::{
        access::{Principal, Principals},
        listen::{Listening, Timeouts},
        standard::{self, Serving},
    },
    config,
    metrics::{Call, CallCode, Metrics},
};
use tempfile::TempDir;
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    service::{Routes, RoutesBuilder},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Deadline of one step of a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The variable that passes the socket's path to a child process.
pub(crate) const SOCKET_VARIABLE: &str = "PLEGD_TEST_SOCKET";

pub(crate) const WATCH: &str = "/plegd.v1.PodLifecycleService/Watch";
pub(crate) const GET_POD: &str = "/plegd.v1.PodLifecycleService/GetPod";

/// All calls of `plegd.v1`, and those of the standard services.
pub(crate) const WATCH_CALLS: [&str; 6] = [
    WATCH,
    "/plegd.v1.PodLifecycleService/ListPods",
    GET_POD,
    "/plegd.v1.PodLifecycleService/GetContainer",
    "/plegd.v1.PodLifecycleService/WaitFor",
    "/plegd.v1.PodLifecycleService/RequestRead",
];
pub(crate) const INTROSPECTION_CALLS: [&str; 5] = [
    "/plegd.v1.IntrospectionService/GetStatus",
    "/plegd.v1.IntrospectionService/ListSubscribers",
    "/plegd.v1.IntrospectionService/DisconnectSubscriber",
    "/plegd.v1.IntrospectionService/GetConfig",
    "/plegd.v1.IntrospectionService/SetLogLevel",
];
pub(crate) const STANDARD_CALLS: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: Option<std::net::SocketAddr>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) serving: Serving,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) fn dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Other users need access to the directory; the socket has its own mode.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

pub(crate) fn config(dir: &TempDir) -> config::Api {
    config::Api { socket: Some(dir.path().join("plegd.sock")), ..config::Api::default() }
}

pub(crate) fn principals(all: impl IntoIterator<Item = Principal>) -> Principals {
    Principals::of(all)
}

/// Awaits `future`; panics after [`DEADLINE`].
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Polls until `holds` returns true; panics after [`DEADLINE`].
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    pub(crate) async fn configured(change: impl FnOnce(&mut config::Api)) -> Self {
        Self::with(change, |_| {}).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(&mut config::Api),
        change_timeouts: impl FnOnce(&mut Timeouts),
    ) -> Self {
        let dir = dir();
        let mut config = config(&dir);
        change(&mut config);
        let mut timeouts = Timeouts::default();
        change_timeouts(&mut timeouts);
        let mut routes = RoutesBuilder::default();
        let serving = standard::add(&mut routes).await;
        serving.set(true).await;
        Self::of(dir, &config, timeouts, routes.routes(), serving).await
    }

    pub(crate) async fn of(
        dir: TempDir,
        config: &config::Api,
        timeouts: Timeouts,
        routes: Routes,
        serving: Serving,
    ) -> Self {
        let listening = Listening::bind(config).await.unwrap().with_timeouts(timeouts);
        let socket = listening.socket().map(Path::to_owned).unwrap_or_default();
        let tcp = listening.tcp_address();
        let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
        let task = tokio::spawn(listening.serve(routes, metrics.clone(), shutdown.clone()));
        Self { dir, socket, tcp, metrics, serving, shutdown, task }
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(&self.socket).await.unwrap()
    }

    pub(crate) async fn raw(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Checks that a well-behaved client is served.
    pub(crate) async fn assert_serves(&self) {
        in_time("a healthy client", async { check(&self.channel().await).await.unwrap() }).await;
    }

    pub(crate) fn counted(&self, call: Call, code: CallCode) -> u64 {
        self.metrics.api.requests.with((call, code)).get()
    }

    /// Stops the server, which must end within [`DEADLINE`].
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        in_time("the end of the server", self.task).await.unwrap();
    }
}

/// A client's end of the UNIX socket.
pub(crate) async fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://plegd").connect_with_connector(connect).await
}

pub(crate) async fn check(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(|_| ())
}

/// A unary call with an empty message.
pub(crate) async fn call(channel: &Channel, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(tonic::Request::new(()), path, codec).await.map(|_| ())
}

/// The code of a call; OK for a stream that begins.
pub(crate) async fn code(channel: &Channel, path: &'static str) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let messages = tokio_stream::once(());
    let answer = client.streaming(tonic::Request::new(messages), path, codec).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// A request body that consists of the frames that the closure returns, and stays open when it returns `None`.
pub(crate) struct Endless<F>(pub(crate) F);

impl<F: FnMut() -> Option<bytes::Bytes> + Unpin> http_body::Body for Endless<F> {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        match (self.0)() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
            // Pending for ever: nothing wakes the task.
            None => std::task::Poll::Pending,
        }
    }
}

/// The gRPC code of a call with this body.
pub(crate) async fn code_of_body<F>(channel: &Channel, path: &str, body: Endless<F>) -> Code
where
    F: FnMut() -> Option<bytes::Bytes> + Unpin + Send + 'static,
{
    use tower::ServiceExt as _;
    let request = http::Request::post(format!("http://plegd{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let answer = in_time("an answer", channel.clone().oneshot(request)).await.unwrap();
    let code =
        |headers: &http::HeaderMap| headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    if let Some(code) = code(answer.headers()) {
        return code;
    }
    // A stream has its code in the trailers.
    let mut body = std::pin::pin!(answer.into_body());
    loop {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx));
        let frame = in_time("the end of an answer", frame).await.expect("an answer has a code").unwrap();
        if let Some(code) = frame.trailers_ref().and_then(code) {
            return code;
        }
    }
}
