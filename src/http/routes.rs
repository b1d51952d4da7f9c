//! The one list of routes: what is served, who may call it, and what it can answer.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::guard::{guarded, guarded_action, guarded_write, open};
use super::openapi_parts::{BOOKING, BULK, CONNECTION, ENROLMENT, PEOPLE, SETTLE, STORE, WRITE};
use super::problem::Refused;
use super::state::{App, Face, Terms};
use super::{
    assignments, audit, bulk, candidates, catalogue, docs, edge, events, exchanges, meta, openapi, openapi_3_0,
    operations, programs,
};
use crate::domain::problem::Code;
use crate::domain::scope::Scope;

/// Shortest answer that is compressed, in bytes: about what goes into one packet anyhow.
const LEAST_COMPRESSED: u16 = 1024;

/// Every documented route.
pub(super) fn api() -> OpenApiRouter<App> {
    let router = OpenApiRouter::with_openapi(openapi::base());
    let all = [candidate_routes(), assignment_routes(), operation_routes(), catalogue_routes(), service_routes()];
    all.into_iter().flatten().fold(router, OpenApiRouter::routes)
}

fn candidate_routes() -> Vec<UtoipaMethodRouter<App>> {
    use Scope::{CandidatesRead, CandidatesWrite};
    vec![
        guarded_write("candidates.create", CandidatesWrite, &[CONNECTION, WRITE, PEOPLE], routes!(candidates::create)),
        guarded(CandidatesRead, &[CONNECTION, STORE], routes!(candidates::find)),
        guarded(CandidatesRead, &[CONNECTION, STORE], routes!(candidates::search)),
        guarded_write("candidates.bulk", CandidatesWrite, &[CONNECTION, BULK], routes!(bulk::candidates)),
        guarded(CandidatesRead, &[STORE], routes!(candidates::read)),
        guarded_write("candidates.update", CandidatesWrite, &[WRITE, PEOPLE], routes!(candidates::update)),
        guarded_write("candidates.delete", CandidatesWrite, &[WRITE, PEOPLE], routes!(candidates::delete)),
        guarded_write("candidates.settle", CandidatesWrite, &[SETTLE], routes!(candidates::settle)),
    ]
}

fn assignment_routes() -> Vec<UtoipaMethodRouter<App>> {
    use Scope::{AssignmentsRead, AssignmentsWrite, ProgramsWrite};
    vec![
        guarded_write(
            "assignments.create",
            AssignmentsWrite,
            &[CONNECTION, WRITE, BOOKING],
            routes!(assignments::create),
        ),
        guarded(AssignmentsRead, &[CONNECTION, STORE], routes!(assignments::list)),
        guarded_write("assignments.bulk", AssignmentsWrite, &[CONNECTION, BULK], routes!(bulk::assignments)),
        guarded(AssignmentsRead, &[STORE], routes!(assignments::read)),
        guarded_write("assignments.cancel", AssignmentsWrite, &[WRITE, BOOKING], routes!(assignments::cancel)),
        guarded_write("assignments.settle", AssignmentsWrite, &[SETTLE], routes!(assignments::settle)),
        guarded_write(
            "programs.employees",
            ProgramsWrite,
            &[CONNECTION, WRITE, ENROLMENT],
            routes!(programs::employees),
        ),
    ]
}

fn operation_routes() -> Vec<UtoipaMethodRouter<App>> {
    use Scope::{OperationsRead, OperationsWrite};
    vec![
        guarded(OperationsRead, &[STORE], routes!(operations::list)),
        guarded(OperationsRead, &[STORE], routes!(operations::read)),
        guarded(OperationsRead, &[STORE], routes!(operations::items)),
        guarded(OperationsRead, &[STORE], routes!(events::follow)),
        guarded_action("operations.cancel", OperationsWrite, &[STORE], routes!(operations::cancel)),
        guarded_action("operations.retry", OperationsWrite, &[STORE, &[Code::Draining]], routes!(operations::retry)),
    ]
}

fn catalogue_routes() -> Vec<UtoipaMethodRouter<App>> {
    use Scope::{AuditRead, CatalogueRead, ConnectionsCheck, ExchangesRead};
    let connection: &[Code] = &[Code::ConnectionForbidden, Code::ConnectionNotFound];
    vec![
        guarded(CatalogueRead, &[], routes!(catalogue::assessments)),
        guarded(CatalogueRead, &[], routes!(catalogue::programs)),
        guarded(CatalogueRead, &[], routes!(catalogue::vendors)),
        guarded(CatalogueRead, &[], routes!(catalogue::vendor)),
        guarded(CatalogueRead, &[], routes!(catalogue::connections)),
        guarded(CatalogueRead, &[connection], routes!(catalogue::connection)),
        guarded_action("connections.check", ConnectionsCheck, &[connection], routes!(catalogue::check)),
        guarded(ExchangesRead, &[], routes!(exchanges::list)),
        guarded(ExchangesRead, &[&[Code::NotFound]], routes!(exchanges::read)),
        guarded(AuditRead, &[STORE], routes!(audit::read)),
    ]
}

fn service_routes() -> Vec<UtoipaMethodRouter<App>> {
    vec![
        open(&[], routes!(meta::livez)),
        open(&[Code::StoreUnavailable, Code::Draining], routes!(meta::readyz)),
        open(&[Code::NotFound], routes!(meta::problem)),
    ]
}

/// The whole public face, below its base path.
pub fn router(face: &Face) -> Router {
    router_under(face, &Terms::of(face))
}

/// The same, on terms that may change while it serves.
pub fn router_under(face: &Face, terms: &Terms) -> Router {
    let app = App::new(face, terms);
    let public_url = face.server.public_url.as_ref().map(url::Url::as_str);
    let (api, _) = api().split_for_parts();
    let inner = api.merge(docs::routes()).merge(descriptions(public_url)).method_not_allowed_fallback(wrong_method);
    let base = face.server.base_path.trim_end_matches('/');
    let outer = if base.is_empty() { inner } else { Router::new().nest(base, inner) };
    edged(outer, app).layer(compression())
}

/// What operators reach on their own listener: `/livez`, `/readyz` and, given a way to render them, `/metrics`.
pub fn admin_router(face: &Face, metrics: Option<std::sync::Arc<dyn Fn() -> String + Send + Sync>>) -> Router {
    let router = Router::new().route("/livez", get(meta::livez)).route("/readyz", get(meta::readyz));
    let router = match metrics {
        Some(render) => router.route("/metrics", get(async move || metrics_page(render()))),
        None => router,
    };
    edged(router.method_not_allowed_fallback(wrong_method), App::new(face, &Terms::of(face)))
}

/// Answers are compressed for whoever takes that, unless they are so short that it gains nothing, or come in events.
///
/// The level is the fastest: a long report is mostly repetition, and the time is taken from other callers. That an answer's
/// length tells something of what is in it (BREACH) needs a page that makes a browser send somebody's key, which it does not
/// do by itself.
fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = DefaultPredicate::new().and(SizeAbove::new(LEAST_COMPRESSED));
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

fn edged(router: Router<App>, app: App) -> Router {
    router.fallback(unknown_route).layer(from_fn_with_state(app.clone(), edge::edge)).with_state(app)
}

async fn unknown_route() -> Refused {
    Refused::new(Code::NotFound, "There is nothing at this path.")
}

async fn wrong_method() -> Refused {
    Refused::new(Code::MethodNotAllowed, "This resource does not know the method.")
}

fn metrics_page(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The description in both versions, written once.
fn descriptions(public_url: Option<&str>) -> Router<App> {
    let document = openapi::document(public_url);
    // Shared bytes: a handler is copied for each request, with all it holds.
    let newer = Bytes::from(openapi::printed(&document).unwrap_or_default());
    let older = serde_json::to_value(&document).map(|document| openapi_3_0::converted(&document).to_string());
    let older = Bytes::from(older.unwrap_or_default());
    Router::new()
        .route("/openapi.json", get(async move || description(newer)))
        .route("/openapi-3.0.json", get(async move || description(older)))
}

fn description(bytes: Bytes) -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], bytes).into_response()
}
