//! The outermost middleware: gives every request its id and its access log entry, renders problem documents, turns a
//! panic of the handler into a response, and sets headers that keep responses out of caches.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument as _;

use crate::domain::error::Code;
use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::system::System;
use crate::http::app_state::AppState;
use crate::http::middleware::access_log::AccessLog;
use crate::http::problem::{ApiError, ProblemCode, render};

/// The header that carries the request id.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The identity of a request: its exchange, with the request id.
#[derive(Debug, Clone)]
pub(in crate::http) struct ExchangeContext {
    pub(in crate::http) exchange: Exchange,
}

/// The client a request came from, for the access log; kept in the response's extensions.
#[derive(Clone)]
pub(in crate::http) struct ClientName(pub(in crate::http) String);

impl ExchangeContext {
    fn of(headers: &HeaderMap, environment: &System) -> Self {
        let id = ExchangeId::generate(environment);
        let request_id = given_request_id(headers).unwrap_or_else(|| id.request_id());
        Self { exchange: Exchange::new(id, request_id, given_traceparent(headers), environment.now()) }
    }

    /// Creates a context for examples and tests.
    pub(in crate::http) fn example() -> Self {
        const EXCHANGE: &str = "exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f";
        #[expect(clippy::expect_used, reason = "a well-formed constant; a unit test parses it")]
        let id = ExchangeId::parse(EXCHANGE).expect("well-formed");
        let request_id = id.request_id();
        Self { exchange: Exchange::new(id, request_id, None, jiff::Timestamp::UNIX_EPOCH) }
    }
}

/// The middleware around everything else.
pub(in crate::http) async fn request_context(
    State(app): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let context = ExchangeContext::of(request.headers(), &app.environment);
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let access = AccessLog::begin(request.method(), route, request.headers(), &context.exchange);
    request.extensions_mut().insert(context.clone());
    request.extensions_mut().insert(app);

    let handled = AssertUnwindSafe(next.run(request).instrument(access.span.clone())).catch_unwind().await;
    // A panic message may contain request data, so the panic hook logs only its location.
    let response =
        handled.unwrap_or_else(|_| ApiError::new(Code::Internal, "The gateway had an internal error.").into_response());

    let mut response = render(response, &context);
    add_headers(response.headers_mut(), context.exchange.request_id());
    let client = response.extensions_mut().remove::<ClientName>();
    let code = response.extensions_mut().remove::<ProblemCode>().map(|told| told.0.as_str());
    access.answered(response.status().as_u16(), code, client.as_ref().map(|client| client.0.as_str()));
    response
}

fn add_headers(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Returns the caller's own request id, if it is safe for logs and headers: `[A-Za-z0-9._:-]{1,128}`.
fn given_request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fit = (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    fit.then(|| text.to_owned())
}

/// Parses W3C Trace Context §3.2: version 00 has exactly four parts, later ones may have more; all-zero ids are
/// invalid.
fn given_traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?;
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let (version, rest) = text.split_once('-')?;
    let parts: Vec<&str> = rest.splitn(4, '-').collect();
    let (trace, parent, flags) = (parts.first()?, parts.get(1)?, parts.get(2)?);
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.len() == 3);
    let valid = known && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && text.len() <= 256;
    let zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
    (valid && !zeros(trace) && !zeros(parent)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_safe_request_ids_are_accepted() {
        let longest = "x".repeat(128);
        for fit in ["a", "A-Z_a", "0.9:1-2", &longest] {
            assert_eq!(given_request_id(&headers("x-request-id", fit)).as_deref(), Some(fit));
        }
        for unfit in ["", "a b", "ä", "a/b", "a\tb", "a+b", &"x".repeat(129)] {
            assert_eq!(given_request_id(&headers("x-request-id", unfit)), None, "{unfit}");
        }
    }

    #[test]
    fn only_valid_trace_parents_are_accepted() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(given_traceparent(&headers("traceparent", valid)).as_deref(), Some(valid));
        assert!(given_traceparent(&headers("traceparent", &format!("cc{}-more", &valid[2..]))).is_some());
        for invalid in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(given_traceparent(&headers("traceparent", invalid)), None, "{invalid}");
        }
    }

    #[test]
    fn example_context_is_well_formed() {
        assert!(given_request_id(&headers("x-request-id", ExchangeContext::example().exchange.request_id())).is_some());
    }
}
