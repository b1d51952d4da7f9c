//! `/programs/{id}/employees`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use super::answer::{accepted, finished};
use super::audit::Noted;
use super::body::Body;
use super::dto::operation::Operation;
use super::dto::program::{Enrolled, Enrolment};
use super::problem::Refused;
use super::request::Segment;
use super::state::App;
use super::writing::Writing;
use crate::dispatch::{Enrolling, Reply, Written};

/// Change a program's employees
///
/// Enrols and withdraws employees in as many vendor calls as it takes (each at most 500 + 500), sums the counters up and
/// answers the total of the last call. If only a part was applied, the problem says in `chunks` which.
#[utoipa::path(
    post, path = "/programs/{id}/employees", operation_id = "changeProgramEmployees", tag = "Programs",
    params(("id" = String, Path, description = "A catalogue id (`GET /programs`), the vendor's own id, or `ext:` and the account's own id for the program.", example = "onboarding-2026")),
    request_body(content = Enrolment),
    responses(
        (status = 200, description = "Everything was applied.", body = Enrolled),
        (status = 202, description = "The change goes on as an operation, whose items are the vendor calls.", body = Operation),
    ),
)]
pub(super) async fn employees(
    State(app): State<App>,
    Segment(program): Segment,
    Writing { caller, preferences, patience, body: Body(order) }: Writing<Body<Enrolment>>,
) -> Result<Response, Refused> {
    let ticket = app.gateway.enrol(&caller, &program, order)?;
    let Reply { written, replayed } = ticket.wait_until(patience.over()).await?;
    let (Written::Created(end) | Written::Existing(end) | Written::Pending(end)) = written;
    match end {
        Enrolling::Done(enrolled) => {
            let response = Json(Enrolled::from(enrolled)).into_response();
            Ok(Noted::applied().on(finished(&app, preferences, replayed, None, response)))
        }
        Enrolling::Accepted(id) => {
            let document = Operation::from(app.gateway.operation(&caller, &id).await?);
            Ok(accepted(&app, preferences, replayed, document))
        }
    }
}
