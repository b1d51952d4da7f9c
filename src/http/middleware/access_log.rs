//! One log event, one span and one metric for each request, however it ends: also if no route matched, the handler
//! panicked or the caller disconnected before the response.
//!
//! All three name the route, never the path, the query, a body or credentials: any of these can contain personal data.

use http::{HeaderMap, Method};
use tokio::time::Instant;
use tracing::Span;

use crate::domain::exchange::{Exchange, ResponseSummary};
use crate::telemetry::{metrics, spans};

/// The route of a request that matches none.
const NO_ROUTE: &str = "-";

/// The client a request came from, and the id of its key; kept in the response's extensions.
#[derive(Clone)]
pub(in crate::http) struct RequestClient {
    pub(in crate::http) name: String,
    pub(in crate::http) key: Option<String>,
}

/// The result of a request, as its log event shows it.
#[derive(Default)]
pub(in crate::http) struct RequestResult {
    pub(in crate::http) status: Option<u16>,
    /// The problem's code.
    pub(in crate::http) code: Option<&'static str>,
    pub(in crate::http) client: Option<RequestClient>,
    /// The connection the request was for, if it got that far.
    pub(in crate::http) connection: Option<String>,
}

/// A request being served.
pub(in crate::http) struct AccessLog {
    pub(in crate::http) span: Span,
    exchange: Exchange,
    method: Method,
    route: String,
    trace_id: Option<String>,
    started: Instant,
    logged: bool,
}

impl AccessLog {
    /// Starts the record of a request.
    pub(in crate::http) fn begin(
        method: &Method,
        route: Option<&str>,
        headers: &HeaderMap,
        exchange: &Exchange,
    ) -> Self {
        let started = Instant::now();
        let span = spans::request(method, route, exchange.request_id(), exchange.id().as_str());
        let traceparent = exchange.traceparent();
        spans::set_parent(&span, &spans::RemoteParent { traceparent, tracestate: Some(headers) });
        // Without our own tracing, use the caller's trace id.
        let of_caller = || traceparent.and_then(|text| text.split('-').nth(1)).map(str::to_owned);
        let trace_id = spans::context_of(&span).map(|context| context.trace_id).or_else(of_caller);
        let route = route.unwrap_or(NO_ROUTE).to_owned();
        Self { span, exchange: exchange.clone(), method: method.clone(), route, trace_id, started, logged: false }
    }

    /// Records the response.
    pub(in crate::http) fn answered(mut self, status: u16, result: RequestResult) {
        let took = self.started.elapsed();
        self.exchange.set_response(ResponseSummary { status, code: result.code, took });
        spans::answered(&self.span, status, result.code, result.client.as_ref().map(|client| client.name.as_str()));
        self.log(&RequestResult { status: Some(status), ..result });
        let overhead = took.saturating_sub(self.exchange.waiting_time());
        metrics::request(&self.method, &self.route, status, took, overhead);
    }

    fn log(&mut self, result: &RequestResult) {
        let RequestResult { status, code, client, connection } = result;
        self.logged = true;
        tracing::info!(
            target: "examgate::access",
            parent: None,
            // A caller may send any word as a method.
            method = metrics::verb(&self.method),
            route = self.route,
            status,
            code,
            millis = millis(self.started.elapsed()),
            vendor_millis = millis(self.exchange.vendor_time()),
            request_id = self.exchange.request_id(),
            exchange = self.exchange.id().as_str(),
            client = client.as_ref().map(|client| client.name.as_str()),
            key = client.as_ref().and_then(|client| client.key.as_deref()),
            connection,
            trace_id = self.trace_id,
            "request"
        );
    }
}

/// Records a disconnect: the server drops the request when the caller hangs up; the work itself continues where it
/// must.
impl Drop for AccessLog {
    fn drop(&mut self) {
        if !self.logged {
            self.log(&RequestResult { code: Some("caller_gone"), ..RequestResult::default() });
        }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
