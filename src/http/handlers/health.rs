//! Endpoints without credentials: liveness, readiness and the meaning of problems.

use axum::Json;
use axum::extract::State;

use crate::domain::error::Code;
use crate::http::app_state::AppState;
use crate::http::dto::common::{Alive, ProblemKind};
use crate::http::extract::request_parts::PathSegment;
use crate::http::problem::{ApiError, status};

/// Liveness probe
///
/// Checks nothing but that the process responds.
#[utoipa::path(
    get, path = "/livez", operation_id = "getLiveness", tag = "Service",
    responses((status = 200, description = "The process is alive.", body = Alive)),
)]
pub(in crate::http) async fn livez() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Readiness probe
///
/// Checks the store, never a vendor.
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "Service",
    responses((status = 200, description = "The gateway is ready.", body = Alive)),
)]
pub(in crate::http) async fn readyz(State(app): State<AppState>) -> Result<Json<Alive>, ApiError> {
    app.gateway.ready().await?;
    Ok(Json(Alive { status: "ok" }))
}

/// Describe a problem
///
/// The `type` of every problem points here.
#[utoipa::path(
    get, path = "/problems/{code}", operation_id = "getProblem", tag = "Service",
    params(("code" = String, Path, description = "The problem's code.", example = "vendor_timeout")),
    responses((status = 200, description = "The kind of problem.", body = ProblemKind)),
)]
pub(in crate::http) async fn problem(PathSegment(word): PathSegment) -> Result<Json<ProblemKind>, ApiError> {
    let code = Code::parse(&word).ok_or_else(|| ApiError::new(Code::NotFound, "No such problem."))?;
    Ok(Json(ProblemKind {
        code: code.as_str().to_owned(),
        title: code.title().to_owned(),
        status: status(code).as_u16(),
        origin: code.origin(),
        retryable: code.retryable(),
        meaning: code.meaning().to_owned(),
        action: code.action().to_owned(),
    }))
}
