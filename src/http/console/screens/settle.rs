//! The forms by which a person says what became of an unknown write: on several screens, with one route for each kind of
//! record.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::post;
use serde_json::json;

use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, segment};
use crate::http::console::visit::Visit;

/// The notice of a recorded outcome.
pub(in crate::http::console) const SETTLED: (&str, &str) = ("settled", "The outcome is recorded.");

/// Builds the routes.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/candidates/{id}/settle", post(candidate))
        .route("/console/assignments/{id}/settle", post(assignment))
}

async fn candidate(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    settle(&visit, &format!("/candidates/{}/settle", segment(&id))).await
}

async fn assignment(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    settle(&visit, &format!("/assignments/{}/settle", segment(&id))).await
}

async fn settle(visit: &Visit, path: &str) -> Result<Response, ConsoleError> {
    visit.api.post(path, Some(&json!({ "outcome": visit.field("outcome") })), visit.key()).await?;
    visit.redirect(&visit.back(), SETTLED.0)
}
