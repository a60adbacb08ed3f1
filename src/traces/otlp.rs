//! OpenTelemetry spans.

use std::{borrow::Cow, fmt};

use opentelemetry::{
    Context, KeyValue, global,
    global::BoxedSpan,
    trace::{FutureExt as _, Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tonic::Code;

use crate::model::Method;

const SERVICE: &str = "runtime.v1.RuntimeService";

/// A call in flight. Dropped without [`Call::end`], it was cancelled.
pub(crate) struct Call(BoxedSpan);

// === impl Call ===

impl Call {
    /// Ends the span with the call's result.
    pub(crate) fn end(mut self, code: Code) {
        self.0.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
        if code != Code::Ok {
            self.0.set_status(Status::error(code.description()));
        }
        self.0.end();
    }
}

/// Begins the span of a CRI call, as a child of the relist that makes it, if any.
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

/// Runs a relist in a span.
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
