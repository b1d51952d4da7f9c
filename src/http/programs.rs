//! `/programs/{id}/employees`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use super::answer::{accepted, after_acceptance, finished};
use super::audit::Noted;
use super::body::Body;
use super::dto::operation::Operation;
use super::dto::program::{Enrolled, Enrolment};
use super::problem::Refused;
use super::request::{Query, Segment};
use super::state::App;
use super::writing::Writing;
use crate::dispatch::{Enrolling, Reply, Written};

/// Change a program's employees
///
/// Enrols and withdraws employees in as many vendor calls as it takes (each at most 500 + 500), sums the counters up and
/// answers the total of the last call. If only a part was applied, the problem says in `chunks` which.
#[utoipa::path(
    post, path = "/programs/{id}/employees", operation_id = "changeProgramEmployees", tag = "Programs",
    params(
        ("id" = String, Path, description = "A catalogue id (`GET /programs`), the vendor's own id, or `ext:` and the account's own id for the program.", example = "onboarding-2026"),
        ("connection" = Option<String>, Query, description = "The connection; the body may name the same one.", nullable = false),
    ),
    request_body(content = Enrolment),
    responses(
        (status = 200, description = "Everything was applied.", body = Enrolled),
        (status = 202, description = "The change goes on as an operation, whose items are the vendor calls.", body = Operation),
    ),
)]
pub(super) async fn employees(
    State(app): State<App>,
    Segment(program): Segment,
    query: Query,
    Writing { caller, preferences, patience, body: Body(mut order) }: Writing<Body<Enrolment>>,
) -> Result<Response, Refused> {
    order.connection = query.connection(order.connection)?;
    let ticket = app.gateway.enrol(&caller, &program, order)?;
    let Reply { written, replayed } = patience.wait(ticket).await?;
    let (Written::Created(end) | Written::Existing(end) | Written::Pending(end)) = written;
    match end {
        Enrolling::Done(enrolled) => {
            let response = Json(Enrolled::from(enrolled)).into_response();
            Ok(Noted::applied().on(finished(&app, preferences, replayed, None, response)))
        }
        Enrolling::Accepted(id, view) => {
            let view = match view {
                Some(view) => *view,
                // It goes on whether or not it can be read now.
                None => app.gateway.operation(&caller, &id).await.map_err(|fault| after_acceptance(fault, &id))?,
            };
            Ok(accepted(&app, preferences, replayed, Operation::from(view)))
        }
    }
}
