//! Sends traces as OTLP over gRPC.

use std::{env, time::Duration};

use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};

/// Timeout for sending the remaining spans at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(400);

/// The exporter of traces, if a collector is configured.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

/// An exporter that logs failures.
#[derive(Debug)]
struct LoggingExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
}

// === impl Traces ===

impl Traces {
    /// Starts tracing if a collector is configured. Must be called in a tokio runtime, which then sends the spans.
    pub fn begin(node: &str) -> Self {
        let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let endpoint = named.into_iter().find_map(|name| env::var(name).ok().filter(|text| !text.is_empty()));
        let Some(endpoint) = endpoint else { return Self(None) };
        let exporter = match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::warn!(%error, endpoint, "Tracing is disabled: cannot create the exporter. Correct OTEL_EXPORTER_OTLP_ENDPOINT and restart plegd.");
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
        tracing::info!(endpoint, "Sending traces of relists and of calls to the runtime.");
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(LoggingExporter { exporter, endpoint })
            .build();
        global::set_tracer_provider(provider.clone());
        Self(Some(provider))
    }

    /// Sends the remaining spans and stops tracing.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            tracing::debug!(%error, "Failed to send the remaining spans.");
        }
    }
}

// === impl LoggingExporter ===

impl SpanExporter for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            tracing::warn!(
                %error, endpoint = self.endpoint, spans,
                "Failed to send traces; the spans are lost. Check that a collector for OTLP over gRPC listens on the endpoint."
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
