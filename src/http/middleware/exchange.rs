//! The outermost middleware: gives every request its exchange and its access log entry, renders problem documents, turns
//! a panic of the handler into a response, and sets headers that keep responses out of caches.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};
use tracing::Instrument as _;

use crate::domain::error::Code;
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::exchange_context::{ExchangeContext, REQUEST_ID};
use crate::http::middleware::access_log::{AccessLog, RequestClient, RequestResult};
use crate::http::problem::{ApiError, ProblemCode, pending_error, render};

/// The middleware around everything else, which `run` is.
pub(in crate::http) async fn exchange<F>(
    app: AppState,
    mut request: Request,
    run: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let context = ExchangeContext::of(request.headers(), &app.environment);
    let route = request.extensions().get::<MatchedPath>().map(|path| app.route(path.as_str()));
    let access = AccessLog::begin(request.method(), route, request.headers(), &context.exchange);
    request.extensions_mut().insert(context.clone());
    request.extensions_mut().insert(app);

    let handled = AssertUnwindSafe(run(request).instrument(access.span.clone())).catch_unwind().await;
    // A panic message may contain request data, so the panic hook logs only its location.
    let response =
        handled.unwrap_or_else(|_| ApiError::new(Code::Internal, "The gateway had an internal error.").into_response());

    let connection = connection_of(&response, &context);
    let mut response = render(response, &context);
    add_headers(response.headers_mut(), context.exchange.request_id());
    let client = response.extensions_mut().remove::<RequestClient>();
    let code = response.extensions_mut().remove::<ProblemCode>().map(|ProblemCode(code)| code.as_str());
    access.answered(response.status().as_u16(), RequestResult { status: None, code, client, connection });
    response
}

/// Returns the connection a request was for: of its error, of what it wrote, or of its last vendor call.
fn connection_of(response: &Response, context: &ExchangeContext) -> Option<String> {
    let error = pending_error(response);
    let of_error = error.and_then(|error| error.connection.as_ref()).map(|named| named.connection.clone());
    let of_write = || response.extensions().get::<AuditInfo>().and_then(|info| info.connection.clone());
    of_error.or_else(of_write).or_else(|| context.exchange.last_connection())
}

fn add_headers(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
