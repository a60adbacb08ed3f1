//! Traces as OTLP over gRPC.

use std::{borrow::Cow, env, fmt, time::Duration};

use opentelemetry::{
    Context, KeyValue, global,
    global::BoxedSpan,
    trace::{FutureExt as _, Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tonic::Code;

use crate::model::Method;

const SERVICE: &str = "runtime.v1.RuntimeService";

/// For what is left to be sent at the end, which nobody is kept waiting for longer.
const PATIENCE: Duration = Duration::from_millis(400);

/// What sends traces, if they are sent.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

/// A call that is under way. Dropped without an end, it was given up.
pub(crate) struct Call(BoxedSpan);

/// Says so where traces cannot be sent.
#[derive(Debug)]
struct Outspoken {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
}

// === impl Traces ===

impl Traces {
    /// Traces from now on, if a collector is named. Must be called in a tokio runtime, which then does the sending.
    pub fn begin(node: &str) -> Self {
        let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let endpoint = named.into_iter().find_map(|name| env::var(name).ok().filter(|text| !text.is_empty()));
        let Some(endpoint) = endpoint else { return Self(None) };
        let exporter = match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::warn!(%error, endpoint, "There are no traces: correct OTEL_EXPORTER_OTLP_ENDPOINT and restart plegd.");
                return Self(None);
            }
        };
        let resource = Resource::builder()
            .with_service_name("plegd")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("k8s.node.name", node.to_owned()),
            ])
            .build();
        tracing::info!(endpoint, "Sending traces of relists and of the runtime's calls.");
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(Outspoken { exporter, endpoint })
            .build();
        global::set_tracer_provider(provider.clone());
        Self(Some(provider))
    }

    /// Sends what is left, and traces no more.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(PATIENCE)
        {
            tracing::debug!(%error, "The last traces were not sent.");
        }
    }
}

// === impl Outspoken ===

impl SpanExporter for Outspoken {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            tracing::warn!(
                %error, endpoint = self.endpoint, spans,
                "Traces could not be sent and are lost: does a collector listen there for OTLP over gRPC?"
            );
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

// === impl Call ===

impl Call {
    /// It was answered so.
    pub(crate) fn end(mut self, code: Code) {
        self.0.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
        if code != Code::Ok {
            self.0.set_status(Status::error(code.description()));
        }
        self.0.end();
    }
}

/// Begins the span of a call of the runtime, in that of the relist that makes it, if one does.
pub(crate) fn call(method: Method) -> Call {
    let tracer = global::tracer("plegd");
    let span = tracer
        .span_builder(Cow::Owned(format!("{SERVICE}/{}", method.as_str())))
        .with_kind(SpanKind::Client)
        .with_attributes([
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", SERVICE),
            KeyValue::new("rpc.method", method.as_str()),
        ]);
    Call(span.start(&tracer))
}

/// Does the listing of a relist in a span of its own.
pub(crate) async fn relist<T, E: fmt::Display>(
    cause: &'static str,
    relist: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let tracer = global::tracer("plegd");
    let span = tracer.span_builder("relist").with_attributes([KeyValue::new("plegd.relist.cause", cause)]);
    let context = Context::new().with_span(span.start_with_context(&tracer, &Context::new()));
    let result = relist.with_context(context.clone()).await;
    if let Err(error) = &result {
        context.span().set_status(Status::error(error.to_string()));
    }
    context.span().end();
    result
}
