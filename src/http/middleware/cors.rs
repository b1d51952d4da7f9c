//! Cross-origin requests (CORS, Fetch Standard §3.3): lets the scripts of listed web pages call the API from a browser.
//! Off unless an origin is configured.
//!
//! Adds headers only. Every request is still authenticated, and cookies are never accepted, so a page can do nothing its
//! own key does not permit.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderName, Method};
use tower::{Layer as _, ServiceExt as _};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::http::app_state::LiveSettings;
use crate::http::auth::API_KEY_HEADER;
use crate::http::exchange_context::REQUEST_ID;
use crate::http::extract::idempotency::REPLAYED;
use crate::http::extract::prefer::PREFERENCE_APPLIED;
use crate::telemetry::spans::{TRACEPARENT, TRACESTATE};

/// How long a browser may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_mins(10);

/// The CORS rules of the public API; they follow the live settings.
#[derive(Clone)]
pub(in crate::http) struct Cors {
    layer: CorsLayer,
    terms: LiveSettings,
}

impl Cors {
    pub(in crate::http) fn new(terms: &LiveSettings) -> Self {
        let live = terms.clone();
        let listed = AllowOrigin::predicate(move |origin, _| {
            live.now().server.cors_origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes())
        });
        let layer = CorsLayer::new()
            .allow_origin(listed)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers([
                AUTHORIZATION,
                HeaderName::from_static(API_KEY_HEADER),
                CONTENT_TYPE,
                CONTENT_ENCODING,
                HeaderName::from_static("idempotency-key"),
                HeaderName::from_static("prefer"),
                HeaderName::from_static("last-event-id"),
                REQUEST_ID,
                TRACEPARENT,
                TRACESTATE,
            ])
            .expose_headers([
                LOCATION,
                RETRY_AFTER,
                WWW_AUTHENTICATE,
                REQUEST_ID,
                REPLAYED,
                PREFERENCE_APPLIED,
                HeaderName::from_static("ratelimit"),
                HeaderName::from_static("ratelimit-policy"),
            ])
            .vary([ORIGIN])
            .max_age(MAX_AGE);
        Self { layer, terms: terms.clone() }
    }

    fn is_off(&self) -> bool {
        self.terms.now().server.cors_origins.is_empty()
    }

    async fn run(&self, request: Request, next: Next) -> Response {
        let Ok(response) = self.layer.layer(next).oneshot(request).await;
        response
    }
}

/// Answers preflights; it belongs inside `exchange`, so that they are logged. Every other `OPTIONS` passes through.
pub(in crate::http) async fn answer_preflight(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    if is_preflight(&request) && !cors.is_off() { cors.run(request, next).await } else { next.run(request).await }
}

/// Adds the headers that let a listed page read the response; it belongs outside `exchange`, so that every problem gets
/// them, even after a panic.
pub(in crate::http) async fn share_response(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    // The layer itself answers every `OPTIONS`.
    if request.method() == Method::OPTIONS || cors.is_off() {
        return next.run(request).await;
    }
    cors.run(request, next).await
}

/// Returns whether a browser asks for permission (Fetch Standard §3.3.2).
fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
