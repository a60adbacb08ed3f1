//! Traces, received by an OpenTelemetry collector on this node. Needs the feature `otlp`:
//! `cargo test --features otlp --test otlp`.

mod binary;

use std::{
    convert::Infallible,
    ffi::OsString,
    pin::Pin,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result, ensure};
use binary::{DEADLINE, Plegd};
use plegd::{
    clock::Clock,
    sim::{Profile, SimRuntime},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

#[tokio::test]
async fn a_collector_gets_a_span_for_each_relist_and_for_each_call_within_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let runtime = dir.path().join("runtime.sock");
    let _serving = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1).serve_uds(&runtime)?;
    let (endpoint, mut collected) = collector().await?;
    let arguments = ["run", "--config", "/dev/null", "--http-address", "off", "--runtime-endpoint"];
    let arguments = arguments.map(OsString::from).into_iter().chain([runtime.into()]);
    let environment = [
        ("PLEGD_API_SOCKET", dir.path().join("plegd.sock").into()),
        ("PLEGD_API_NODE_NAME", "node-7".into()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".into()),
    ];
    let (plegd, _) = Plegd::spawn(arguments, environment)?;

    let mut spans = Spans::default();
    let relist = spans.until(&mut collected, "the first relist", |span| span.is("relist", "start")).await?;
    ensure!(relist.parent_span_id.is_empty() && relist.kind == INTERNAL, "{relist:?}");
    for (method, code) in
        [("Version", 0), ("StreamPodSandboxes", 12), ("ListPodSandbox", 0), ("ListContainers", 0)]
    {
        let name = format!("runtime.v1.RuntimeService/{method}");
        let within = |span: &Span| span.name == name && span.parent_span_id == relist.span_id;
        let call = spans.until(&mut collected, &name, within).await?;
        ensure!(call.trace_id == relist.trace_id && call.kind == CLIENT, "{call:?}");
        for (key, value) in
            [("rpc.system", "grpc"), ("rpc.service", "runtime.v1.RuntimeService"), ("rpc.method", method)]
        {
            ensure!(call.text(key) == Some(value), "{key}: {call:?}");
        }
        ensure!(call.number("rpc.grpc.status_code") == Some(code), "{call:?}");
        let failed = call.status.as_ref().is_some_and(|status| status.code == ERROR);
        ensure!(failed == (code != 0), "{call:?}");
    }
    let resource = spans.resource.clone().context("no resource")?;
    for (key, value) in [("service.name", "plegd"), ("k8s.node.name", "node-7")] {
        ensure!(text(&resource.attributes, key) == Some(value), "{key}: {resource:?}");
    }
    // The call of the stream ends with plegd; plegd sends the remaining spans at its end.
    plegd.stop().await?;
    spans.until(&mut collected, "the stream", |span| span.name.ends_with("/GetContainerEvents")).await?;
    Ok(())
}

#[tokio::test]
async fn without_a_collector_plegd_continues_and_logs_that_traces_are_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let runtime = dir.path().join("runtime.sock");
    let _serving = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1).serve_uds(&runtime)?;
    // A port without a listener.
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let arguments = ["run", "--config", "/dev/null", "--http-address", "off", "--runtime-endpoint"];
    let arguments = arguments.map(OsString::from).into_iter().chain([runtime.into()]);
    let environment = [
        ("PLEGD_API_SOCKET", dir.path().join("plegd.sock").into()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}").into()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200".into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".into()),
    ];
    let (plegd, _) = Plegd::spawn(arguments, environment)?;
    let lost = |line: &str| (line.contains("WARN") && line.contains("Failed to send traces")).then_some(());
    plegd.wait_for_line("that traces are lost", lost).await?;
    plegd.stop().await
}

// A minimal collector. The messages have the field numbers of OTLP's protos.

const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exported {}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.text.as_deref()
}

impl Span {
    fn is(&self, name: &str, cause: &str) -> bool {
        self.name == name && self.text("plegd.relist.cause") == Some(cause)
    }

    fn text(&self, key: &str) -> Option<&str> {
        text(&self.attributes, key)
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.number
    }
}

/// The spans received so far.
#[derive(Default)]
struct Spans {
    spans: Vec<Span>,
    resource: Option<Resource>,
}

impl Spans {
    /// Waits for a span for which `is` returns true.
    async fn until(
        &mut self,
        collected: &mut mpsc::UnboundedReceiver<Export>,
        what: &str,
        is: impl Fn(&Span) -> bool,
    ) -> Result<Span> {
        let found = async {
            loop {
                if let Some(found) = self.spans.iter().find(|span| is(span)) {
                    return anyhow::Ok(found.clone());
                }
                let more = collected.recv().await.context("the collector has ended")?;
                for more in more.resource_spans {
                    self.resource = more.resource;
                    self.spans.extend(more.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            }
        };
        timeout(DEADLINE, found).await.with_context(|| format!("there is no span of {what}"))?
    }
}

#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<Export>);

/// A collector on loopback: its address, and the exports that it receives.
async fn collector() -> Result<(String, mpsc::UnboundedReceiver<Export>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let (collect, collected) = mpsc::unbounded_channel();
    let server = Server::builder().add_service(Collector(collect));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok((endpoint, collected))
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl UnaryService<Export> for Collector {
    type Response = Exported;
    type Future = std::future::Ready<Result<Response<Exported>, Status>>;

    fn call(&mut self, request: Request<Export>) -> Self::Future {
        // The test may have ended.
        let _ = self.0.send(request.into_inner());
        std::future::ready(Ok(Response::new(Exported {})))
    }
}

impl tower::Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Exported, Export>::default();
            Ok(Grpc::new(codec).unary(collector, request).await)
        })
    }
}
