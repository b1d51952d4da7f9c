//! Every span of the process: its name and attributes, defined once, and the propagation of the caller's trace to the
//! vendor.
//!
//! Attributes come from the configuration, from closed lists and from ids, never from the contents of a request or
//! response, because they leave the process. There is therefore no path, no query, no `url.full`, no header and no
//! message. Spans have level `debug`: without a collector and with an ordinary log filter none is created.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::field::Empty;
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::telemetry::metrics;

/// W3C Trace Context: the header with the ids.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C Trace Context: the header with additional data of tracing systems.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Creates the span of an attempt to deliver an event to a webhook.
pub fn delivery(webhook: &str, event: &str, event_type: &'static str) -> Span {
    debug_span!(
        "delivery",
        otel.kind = "client",
        http.request.method = "POST",
        http.response.status_code = Empty,
        examgate.webhook.id = webhook,
        examgate.event.id = event,
        examgate.event.type = event_type,
    )
}

/// Records the status of a receiver's response.
pub fn delivered(span: &Span, status: Option<u16>) {
    if let Some(status) = status {
        span.record("http.response.status_code", i64::from(status));
    }
}

/// Creates the span of a caller's request. `route` is the pattern, never the path.
pub fn request(method: &Method, route: Option<&str>, request_id: &str, exchange: &str) -> Span {
    let (verb, name) = verb(method);
    debug_span!(
        "request",
        otel.name = %format_args!("{name}{}{}", if route.is_some() { " " } else { "" }, route.unwrap_or_default()),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = verb,
        http.route = route,
        url.path = route,
        http.response.status_code = Empty,
        error.type = Empty,
        examgate.request.id = request_id,
        examgate.exchange.id = exchange,
        examgate.client = Empty,
    )
}

/// Returns the method for the attribute and for the span name: a caller may send any word (semantic conventions for
/// HTTP spans).
fn verb(method: &Method) -> (&'static str, &'static str) {
    match metrics::verb(method) {
        "other" => ("_OTHER", "HTTP"),
        known => (known, known),
    }
}

/// Records the end of a caller's request; `code` is the problem's.
pub fn answered(span: &Span, status: u16, code: Option<&str>, client: Option<&str>) {
    span.record("http.response.status_code", i64::from(status));
    if let Some(client) = client {
        span.record("examgate.client", client);
    }
    if let Some(code) = code {
        span.record("error.type", code);
    }
    // Semantic conventions: a client error is not an error of the server span.
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Creates the span of a write, which continues whether or not its caller waits.
pub fn write(what: &'static str) -> Span {
    debug_span!("write", otel.name = %format_args!("write {what}"), examgate.operation = what)
}

/// Creates the span of an operation, part of the trace of the request that created it.
pub fn operation(id: &str, kind: &str, connection: &str, traceparent: Option<&str>) -> Span {
    let span = debug_span!(
        parent: None,
        "operation",
        otel.name = %format_args!("operation {kind}"),
        examgate.operation.id = id,
        examgate.connection = connection,
    );
    set_parent(&span, &RemoteParent { traceparent, tracestate: None });
    span
}

/// Creates the span of one background reconciliation: a root span, because no request caused it.
pub fn settling(record: &str, connection: &str) -> Span {
    debug_span!(
        parent: None,
        "settling",
        otel.name = "settle",
        examgate.record = record,
        examgate.connection = connection,
    )
}

/// Creates the span of a run over a connection's feeds: a root span, because no request caused it.
pub fn reports(connection: &str) -> Span {
    debug_span!(parent: None, "reports", otel.name = "read reports", examgate.connection = connection)
}

/// Creates the span of a vendor call, including its waits and attempts.
pub fn call(connection: &str, operation: &'static str, request_id: &str) -> Span {
    debug_span!(
        "vendor_call",
        otel.name = %format_args!("call {operation}"),
        examgate.connection = connection,
        examgate.operation = operation,
        examgate.request.id = request_id,
    )
}

/// The attributes of an attempt span.
#[derive(Debug, Clone, Copy)]
pub struct AttemptSpan<'a> {
    /// The operator's name for the connection.
    pub connection: &'a str,
    /// The kind of vendor.
    pub vendor: &'a str,
    /// The call in the gateway's words, e.g. `assignments.create`.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: &'a Method,
    /// The destination.
    pub url: &'a url::Url,
    /// The number of earlier attempts.
    pub repeats: u32,
}

/// Creates the span of one attempt at a vendor.
pub fn attempt(about: AttemptSpan<'_>) -> Span {
    let AttemptSpan { connection, vendor, operation, method, url, repeats } = about;
    let (verb, name) = verb(method);
    debug_span!(
        "attempt",
        otel.name = %format_args!("{name} {operation}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = verb,
        http.request.resend_count = (repeats > 0).then_some(i64::from(repeats)),
        http.response.status_code = Empty,
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
        error.type = Empty,
        examgate.connection = connection,
        examgate.vendor = vendor,
        examgate.operation = operation,
        examgate.outcome = Empty,
    )
}

/// Records the end of an attempt: `broken` holds the code and outcome if no response arrived.
pub fn attempted(span: &Span, status: Option<u16>, broken: Option<(&str, &str)>) {
    if span.is_disabled() {
        return;
    }
    if let Some(status) = status {
        span.record("http.response.status_code", i64::from(status));
    }
    if let Some((code, outcome)) = broken {
        span.record("error.type", code);
        span.record("examgate.outcome", outcome);
    } else if let Some(status) = status.filter(|status| *status >= 400) {
        span.record("error.type", tracing::field::display(status));
    } else {
        return;
    }
    span.record("otel.status_code", "ERROR");
}

/// Creates the span of a store action within another span; background polling has no parent and gets no span.
pub fn store(action: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    debug_span!("store", otel.name = %format_args!("store {action}"))
}

/// The remote trace context of a request.
#[derive(Debug, Clone, Copy)]
pub struct RemoteParent<'a> {
    /// A valid `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The request's headers, for `tracestate`.
    pub tracestate: Option<&'a HeaderMap>,
}

/// Makes a newly created span continue this trace, including its sampling decision.
pub fn set_parent(span: &Span, parent: &RemoteParent<'_>) {
    let Some(traceparent) = parent.traceparent.filter(|_| !span.is_disabled()) else { return };
    let mut carrier = Carrier(HashMap::from([("traceparent", traceparent.to_owned())]));
    let states: Vec<&str> = parent
        .tracestate
        .into_iter()
        .flat_map(|headers| headers.get_all(TRACESTATE))
        .filter_map(|value| value.to_str().ok())
        .collect();
    if !states.is_empty() {
        carrier.0.insert("tracestate", states.join(","));
    }
    let context = TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &carrier);
    // Without an exporter there is no layer to receive the parent.
    drop(span.set_parent(context));
}

struct Carrier(HashMap<&'static str, String>);

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().copied().collect()
    }
}

/// A trace context for propagation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace id.
    pub trace_id: String,
    /// The `traceparent` header value.
    pub traceparent: String,
    /// The `tracestate` header value.
    pub tracestate: Option<String>,
}

/// Returns the trace context of this span; `None` if nothing is exported.
#[must_use]
pub fn context_of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let about: &SpanContext = span.span_context();
    about.is_valid().then(|| {
        let trace_id = about.trace_id().to_string();
        let sampled = u8::from(about.is_sampled());
        let traceparent = format!("00-{trace_id}-{}-{sampled:02x}", about.span_id());
        let tracestate = Some(about.trace_state().header()).filter(|text| !text.is_empty());
        TraceContext { trace_id, traceparent, tracestate }
    })
}

/// Returns the trace context of the current span.
#[must_use]
pub fn current_context() -> Option<TraceContext> {
    context_of(&Span::current())
}

/// Injects the current span's trace context into request headers; without one, leaves them unchanged.
pub fn inject(headers: &mut HeaderMap) {
    let Some(place) = current_context() else { return };
    if let Ok(value) = HeaderValue::from_str(&place.traceparent) {
        headers.insert(TRACEPARENT, value);
    }
    match place.tracestate.and_then(|text| HeaderValue::from_str(&text).ok()) {
        Some(value) => {
            headers.insert(TRACESTATE, value);
        }
        None => {
            headers.remove(TRACESTATE);
        }
    }
}
