//! Cross-origin requests (CORS, Fetch Standard §3.3): lets the scripts of listed web pages call the API from a browser.
//! Off unless an origin is configured.
//!
//! Adds headers only. Every request is still authenticated, and cookies are never accepted, so a page can do nothing its
//! own key does not permit.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderName, Method};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::http::app_state::{AppState, LiveSettings};
use crate::http::auth::API_KEY_HEADER;
use crate::http::exchange_context::REQUEST_ID;
use crate::http::extract::idempotency::REPLAYED;
use crate::http::extract::prefer::PREFERENCE_APPLIED;
use crate::http::middleware::exchange::exchange;
use crate::telemetry::spans::{TRACEPARENT, TRACESTATE};

/// How long a browser may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_mins(10);

/// The CORS rules of the public API; they follow the live settings.
#[derive(Clone)]
pub(in crate::http) struct Cors {
    // Shared: a clone of the layer copies each of its headers.
    layer: Arc<CorsLayer>,
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
        Self { layer: Arc::new(layer), terms: terms.clone() }
    }

    fn is_off(&self) -> bool {
        self.terms.now().server.cors_origins.is_empty()
    }

    /// Serves the request by `run`, with the headers that let a listed page read the response; the layer itself answers
    /// every `OPTIONS`.
    async fn share<F>(&self, request: Request, run: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let mut run = Some(run);
        let inner = service_fn(move |request| {
            // A service is called once for each request.
            let response = run.take().map(|run| run(request));
            async move {
                Ok::<_, Infallible>(match response {
                    Some(response) => response.await,
                    None => Response::default(),
                })
            }
        });
        let Ok(response) = self.layer.layer(inner).oneshot(request).await;
        response
    }
}

/// Serves a request within its exchange. Preflights are answered inside it, so that they are logged; every other response
/// gets its headers outside it, so that every problem has them, even after a panic.
pub(in crate::http) async fn exchange_with_cors(
    State((app, cors)): State<(AppState, Cors)>,
    request: Request,
    next: Next,
) -> Response {
    if cors.is_off() {
        return exchange(app, request, |request| next.run(request)).await;
    }
    if request.method() != Method::OPTIONS {
        return cors.share(request, |request| exchange(app, request, |request| next.run(request))).await;
    }
    exchange(app, request, |request| async move {
        if is_preflight(&request) {
            cors.share(request, |request| next.run(request)).await
        } else {
            next.run(request).await
        }
    })
    .await
}

/// Returns whether a browser asks for permission (Fetch Standard §3.3.2).
fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
