//! The routers of the two listeners: the routes inside their outermost middleware.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use tower::ServiceBuilder;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::domain::error::Code;
use crate::http::app_state::{ApiParts, AppState, LiveSettings};
use crate::http::console;
use crate::http::handlers::{health, swagger_ui};
use crate::http::middleware::cors::{Cors, exchange_with_cors};
use crate::http::middleware::exchange::exchange;
use crate::http::openapi;
use crate::http::openapi::v3_0;
use crate::http::problem::ApiError;
use crate::http::routes::{caller_entries, receiver_entries};

/// Smallest response that is compressed, in bytes: roughly what fits into one packet anyway.
const MIN_COMPRESSED: u16 = 1024;
const PAGES: NotForContentType = NotForContentType::const_new("text/html");

/// Builds the router of the whole public API, below its base path.
pub fn router(parts: &ApiParts) -> Router {
    router_with_settings(parts, &LiveSettings::of(parts))
}

/// Like [`router`], with settings that may change while it serves.
pub fn router_with_settings(parts: &ApiParts, terms: &LiveSettings) -> Router {
    let base = parts.server.base_path.trim_end_matches('/');
    let app = AppState::new(parts, terms, base);
    let public_url = parts.server.public_url.as_ref().map(url::Url::as_str);
    // Receivers with a listener of their own are there only.
    let receivers = parts.server.receiver_listen.is_none().then(receiver_entries);
    let routes = routed(caller_entries().chain(receivers.into_iter().flatten()));
    let console = parts.console.as_ref().filter(|console| console.settings.listen.is_none());
    let console = console.map(|console| console::routes(&app, console, served(routes.clone(), app.clone())));
    let inner = routes.merge(swagger_ui::routes()).merge(descriptions(public_url)).merge(console.unwrap_or_default());
    let outer = below(base, inner).method_not_allowed_fallback(wrong_method);
    let within = from_fn_with_state((app.clone(), Cors::new(terms)), exchange_with_cors);
    // As one layer: axum boxes what is between two.
    outer.fallback(unknown_route).layer(ServiceBuilder::new().layer(compression()).layer(within)).with_state(app)
}

/// Builds the router of a listener for vendors' webhooks only: the receivers, at the addresses that they have in the public
/// API.
pub fn receiver_router(parts: &ApiParts, terms: &LiveSettings) -> Router {
    let base = parts.server.base_path.trim_end_matches('/');
    let app = AppState::new(parts, terms, base);
    let receivers = routed(receiver_entries());
    served(if base.is_empty() { receivers } else { Router::new().nest(base, receivers) }, app)
}

/// Builds the router of a listener for the console only, at the addresses that it has in the public API.
pub fn console_router(parts: &ApiParts, terms: &LiveSettings) -> Router {
    let base = parts.server.base_path.trim_end_matches('/');
    let app = AppState::new(parts, terms, base);
    let api = || served(routed(caller_entries()), app.clone());
    let console = parts.console.as_ref().map(|console| console::routes(&app, console, api())).unwrap_or_default();
    served(if base.is_empty() { console } else { Router::new().nest(base, console) }, app)
}

fn routed(entries: impl Iterator<Item = UtoipaMethodRouter<AppState>>) -> Router<AppState> {
    entries.fold(Router::new(), |router, (_, paths, methods)| {
        paths.paths.into_keys().fold(router, |router, path| router.route(&path, methods.clone()))
    })
}

/// Puts the outermost middleware around the routes of a listener that no web page calls.
fn served(router: Router<AppState>, app: AppState) -> Router {
    let router = router.method_not_allowed_fallback(wrong_method).fallback(unknown_route);
    let within = |State(app), request, next: Next| exchange(app, request, |request| next.run(request));
    router.layer(from_fn_with_state(app.clone(), within)).with_state(app)
}

/// Moves the routes below the base path. The path itself, with and without a final slash, leads to the documentation by
/// an address relative to it, which is right behind a proxy that strips a path, too.
fn below(base: &str, routes: Router<AppState>) -> Router<AppState> {
    let to = |location: String| get(async move || (StatusCode::SEE_OTHER, [(LOCATION, location)]));
    let Some((_, last)) = base.rsplit_once('/') else { return routes.route("/", to("docs/".to_owned())) };
    let slash = format!("{base}/");
    Router::new().nest(base, routes.route("/", to(format!("{last}/docs/")))).route(&slash, to("docs/".to_owned()))
}

/// Builds the router for the operators' own listener: `/livez`, `/readyz` and, given a way to render them, `/metrics`.
pub fn admin_router(parts: &ApiParts, metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>) -> Router {
    let router = Router::new().route("/livez", get(health::livez)).route("/readyz", get(health::readyz));
    let router = match metrics {
        Some(render) => router.route("/metrics", get(async move || metrics_page(render()))),
        None => router,
    };
    served(router, AppState::new(parts, &LiveSettings::of(parts), ""))
}

/// Compresses responses for clients that accept it, except event streams and responses too short to gain from it.
///
/// Uses the fastest level: long reports are mostly repetition, and compression time is taken from other callers. Pages are not
/// compressed: the BREACH attack infers contents, such as the token of a form, from the length of a response to a request
/// that another page makes a browser send.
fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = DefaultPredicate::new().and(SizeAbove::new(MIN_COMPRESSED)).and(PAGES);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

async fn unknown_route() -> ApiError {
    ApiError::new(Code::NotFound, "No such path.")
}

async fn wrong_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "This resource does not support the method.")
}

fn metrics_page(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Serves the API description in both versions. Each is generated on first use and then cached: most processes never
/// serve it, and generating it takes many times the memory of its text.
fn descriptions(public_url: Option<&str>) -> Router<AppState> {
    let public_url: Option<Arc<str>> = public_url.map(Arc::from);
    let made = |print: fn(&OpenApi) -> Option<String>| {
        let (kept, public_url) = (Arc::new(OnceLock::new()), public_url.clone());
        // Shared bytes: axum clones a handler, with all it holds, for each request.
        get(async move || {
            let text = || print(&openapi::document(public_url.as_deref())).map_or_else(Bytes::new, Bytes::from);
            description(kept.get_or_init(text).clone())
        })
    };
    Router::new()
        .route("/openapi.json", made(|document| openapi::printed(document).ok()))
        .route("/openapi-3.0.json", made(|document| v3_0::printed(document).ok()))
}

fn description(bytes: Bytes) -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], bytes).into_response()
}
