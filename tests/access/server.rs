//! A server in a folder of its own, and calls to it.

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
        listen::{Listening, Patience},
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

/// Longer than anything takes, unless it never ends.
pub(crate) const SOON: Duration = Duration::from_secs(60);

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
    pub(crate) folder: TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: Option<std::net::SocketAddr>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) serving: Serving,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    // For other users to reach the socket; who may connect is the socket's matter.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

pub(crate) fn config(folder: &TempDir) -> config::Api {
    config::Api { socket: Some(folder.path().join("plegd.sock")), ..config::Api::default() }
}

pub(crate) fn principals(all: impl IntoIterator<Item = Principal>) -> Principals {
    Principals::of(all)
}

/// Awaits this; a test must not hang.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} takes for ever"))
}

/// Awaits until this holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
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
        change_patience: impl FnOnce(&mut Patience),
    ) -> Self {
        let folder = folder();
        let mut config = config(&folder);
        change(&mut config);
        let mut patience = Patience::default();
        change_patience(&mut patience);
        let mut routes = RoutesBuilder::default();
        let serving = standard::add(&mut routes).await;
        serving.set(true).await;
        Self::of(folder, &config, patience, routes.routes(), serving).await
    }

    pub(crate) async fn of(
        folder: TempDir,
        config: &config::Api,
        patience: Patience,
        routes: Routes,
        serving: Serving,
    ) -> Self {
        let listening = Listening::bind(config).await.unwrap().with_patience(patience);
        let socket = listening.socket().map(Path::to_owned).unwrap_or_default();
        let tcp = listening.tcp_address();
        let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
        let task = tokio::spawn(listening.serve(routes, metrics.clone(), shutdown.clone()));
        Self { folder, socket, tcp, metrics, serving, shutdown, task }
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(&self.socket).await.unwrap()
    }

    pub(crate) async fn raw(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Whether a client that does nothing wrong is served.
    pub(crate) async fn assert_serves(&self) {
        soon("a healthy client", async { check(&self.channel().await).await.unwrap() }).await;
    }

    pub(crate) fn counted(&self, call: Call, code: CallCode) -> u64 {
        self.metrics.api.requests.with((call, code)).get()
    }

    /// Ends the server, which must be in time.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        soon("the end of the server", self.task).await.unwrap();
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

/// The code of a call that begins, which is OK for a stream.
pub(crate) async fn code(channel: &Channel, path: &'static str) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let messages = tokio_stream::once(());
    let answer = client.streaming(tonic::Request::new(messages), path, codec).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// A request's body of these frames, one after the other, that never ends by itself.
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
            // Whoever writes it waits for ever.
            None => std::task::Poll::Pending,
        }
    }
}

/// The gRPC code with which a call with this body is answered.
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
    let answer = soon("an answer", channel.clone().oneshot(request)).await.unwrap();
    let code =
        |headers: &http::HeaderMap| headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    if let Some(code) = code(answer.headers()) {
        return code;
    }
    // Where the answer is a stream it comes at its end.
    let mut body = std::pin::pin!(answer.into_body());
    loop {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx));
        let frame = soon("the end of an answer", frame).await.expect("an answer has a code").unwrap();
        if let Some(code) = frame.trailers_ref().and_then(code) {
            return code;
        }
    }
}
