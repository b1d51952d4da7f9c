//! `/programs/{id}/employees`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use super::answer::add_applied;
use super::body::Body;
use super::dto::program::{Enrolled, Enrolment};
use super::problem::Refused;
use super::request::{Segment, Writing};
use super::state::App;

/// Change a program's employees
///
/// Enrols and withdraws employees in as many vendor calls as it takes (each at most 500 + 500), sums the counters up and
/// answers the total of the last call. If only a part was applied, the problem says in `chunks` which.
#[utoipa::path(
    post, path = "/programs/{id}/employees", operation_id = "changeProgramEmployees", tag = "Programs",
    params(("id" = String, Path, description = "A catalogue id (`GET /programs`), the vendor's own id, or `ext:` and the account's own id for the program.", example = "onboarding-2026")),
    request_body(content = Enrolment),
    responses((status = 200, description = "Everything was applied.", body = Enrolled)),
)]
pub(super) async fn employees(
    State(app): State<App>,
    Writing { caller, preferences, patience: _ }: Writing,
    Segment(program): Segment,
    Body(order): Body<Enrolment>,
) -> Result<Response, Refused> {
    let enrolled = app.gateway.enrol(&caller, &program, order).await?;
    let mut response = Json(Enrolled::from(enrolled)).into_response();
    add_applied(preferences.without_waiting(), &mut response);
    Ok(response)
}
