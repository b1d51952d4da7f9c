//! Every span the process can make: its name and its attributes in one place, and how the trace of a caller goes on to the
//! vendor.
//!
//! Attributes come from the configuration, from closed lists and from ids, never from what a request or an answer says:
//! they leave the process. So there is no path, no query, no `url.full`, no header and no message. Spans are at `debug`:
//! with no collector and an ordinary log filter none is made.

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
/// W3C Trace Context: the header with what tracing systems add.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A caller's request. `route` is the pattern, never the path.
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

/// The method as an attribute and in a name: a caller may send any word (semantic conventions for HTTP spans).
fn verb(method: &Method) -> (&'static str, &'static str) {
    match metrics::verb(method) {
        "other" => ("_OTHER", "HTTP"),
        known => (known, known),
    }
}

/// How a caller's request ended: `code` is the problem's.
pub fn answered(span: &Span, status: u16, code: Option<&str>, client: Option<&str>) {
    span.record("http.response.status_code", i64::from(status));
    if let Some(client) = client {
        span.record("examgate.client", client);
    }
    if let Some(code) = code {
        span.record("error.type", code);
    }
    // Semantic conventions: what the caller did wrong is no error of a server.
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// A write's work, which goes on whether or not its caller waits.
pub fn write(what: &'static str) -> Span {
    debug_span!("write", otel.name = %format_args!("write {what}"), examgate.operation = what)
}

/// An operation's work, part of the trace of the request it came with.
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

/// The settling of one unknown write in the background: a trace of its own, since nobody asked for it.
pub fn settling(record: &str, connection: &str) -> Span {
    debug_span!(
        parent: None,
        "settling",
        otel.name = "settle",
        examgate.record = record,
        examgate.connection = connection,
    )
}

/// A vendor call with its waiting and its attempts.
pub fn call(connection: &str, operation: &'static str, request_id: &str) -> Span {
    debug_span!(
        "vendor_call",
        otel.name = %format_args!("call {operation}"),
        examgate.connection = connection,
        examgate.operation = operation,
        examgate.request.id = request_id,
    )
}

/// What an attempt at a vendor is about.
#[derive(Debug, Clone, Copy)]
pub struct AttemptSpan<'a> {
    /// The operator's name of the connection.
    pub connection: &'a str,
    /// The kind of vendor.
    pub vendor: &'a str,
    /// The gateway's word for what is done.
    pub operation: &'static str,
    /// The verb.
    pub method: &'a Method,
    /// Where it goes.
    pub url: &'a url::Url,
    /// Attempts before it.
    pub repeats: u32,
}

/// One attempt at a vendor.
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

/// How an attempt ended: `broken` is the code of what ended it without an answer, with what is known of the request.
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

/// An action of the store, where it is part of something; the background's looks are nobody's.
pub fn store(action: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    debug_span!("store", otel.name = %format_args!("store {action}"))
}

/// The trace a request is part of, as its caller said it.
#[derive(Debug, Clone, Copy)]
pub struct RemoteParent<'a> {
    /// A valid `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The request's headers, for `tracestate`.
    pub tracestate: Option<&'a HeaderMap>,
}

/// Lets a span that has just been made go on with this trace, its sampling decision included.
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
    // Where nothing is exported there is no layer to tell it to.
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

/// The place in a trace, to be handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace.
    pub trace_id: String,
    /// The `traceparent` that says so.
    pub traceparent: String,
    /// The `tracestate` that goes with it.
    pub tracestate: Option<String>,
}

/// Where this span stands in its trace; `None` while nothing is exported.
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

/// Where the current span stands.
#[must_use]
pub fn current_context() -> Option<TraceContext> {
    context_of(&Span::current())
}

/// Hands the current span's place on in the headers of a request; without one they stay as they are.
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
