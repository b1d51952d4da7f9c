//! What needs no credentials: whether the gateway lives and is ready, what its problems mean, and its own description.

use axum::Json;
use axum::extract::State;

use super::dto::common::{Alive, ProblemKind};
use super::problem::{Refused, origin, status};
use super::request::Segment;
use super::state::App;
use crate::domain::problem::Code;

/// Whether the process lives
///
/// Answers without looking at anything.
#[utoipa::path(
    get, path = "/livez", operation_id = "getLiveness", tag = "Service",
    responses((status = 200, description = "It does.", body = Alive)),
)]
pub(super) async fn livez() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether the gateway can work
///
/// Looks at the store, never at a vendor.
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "Service",
    responses((status = 200, description = "It can.", body = Alive)),
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<Json<Alive>, Refused> {
    app.gateway.ready().await?;
    Ok(Json(Alive { status: "ok" }))
}

/// What a problem means
///
/// The `type` of every problem leads here.
#[utoipa::path(
    get, path = "/problems/{code}", operation_id = "getProblem", tag = "Service",
    params(("code" = String, Path, description = "The problem's code.", example = "vendor_timeout")),
    responses((status = 200, description = "The kind of problem.", body = ProblemKind)),
)]
pub(super) async fn problem(Segment(word): Segment) -> Result<Json<ProblemKind>, Refused> {
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == word);
    let code = code.ok_or_else(|| Refused::new(Code::NotFound, "There is no such problem."))?;
    Ok(Json(ProblemKind {
        code: code.as_str().to_owned(),
        title: code.title().to_owned(),
        status: status(code).as_u16(),
        origin: origin(code.origin()),
        retryable: code.retryable(),
        meaning: code.meaning().to_owned(),
        action: code.action().to_owned(),
    }))
}
