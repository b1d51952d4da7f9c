//! `/programs/{id}/employees`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::dto::operation::Operation;
use crate::http::dto::program::{Enrolled, Enrolment};
use crate::http::extract::body::Body;
use crate::http::extract::request_parts::{PathSegment, QueryParams};
use crate::http::extract::write_request::WriteRequest;
use crate::http::problem::ApiError;
use crate::http::response::{accepted_response, into_accepted_error, with_write_headers};
use crate::service::{EnrolmentProgress, WriteReply, WriteResult};

/// Change a program's employees
///
/// Enrols and withdraws employees in as many vendor calls as needed (each at most 500 + 500). Returns the sum of the
/// counters and the total from the last call. If only a part was applied, `chunks` in the problem shows which.
#[utoipa::path(
    post, path = "/programs/{id}/employees", operation_id = "changeProgramEmployees", tag = "Programs",
    params(
        ("id" = String, Path, description = "A catalogue id (`GET /programs`), the vendor's own id, or `ext:` followed by the account's own id for the program.", example = "onboarding-2026"),
        ("connection" = Option<String>, Query, description = "Name of the connection. If the body names one too, it must be the same.", nullable = false),
    ),
    request_body(content = Enrolment),
    responses(
        (status = 200, description = "Everything was applied.", body = Enrolled),
        (status = 202, description = "The change continues as an operation whose items are the vendor calls.", body = Operation),
    ),
)]
pub(in crate::http) async fn employees(
    State(app): State<AppState>,
    PathSegment(program): PathSegment,
    query: QueryParams,
    WriteRequest { caller, preferences, patience, body: Body(mut order) }: WriteRequest<Body<Enrolment>>,
) -> Result<Response, ApiError> {
    order.connection = query.connection(order.connection)?;
    let handle = app.gateway.enrol(&caller, &program, order)?;
    let WriteReply { written, replayed } = patience.wait(handle).await?;
    let (WriteResult::Created(end) | WriteResult::Existing(end) | WriteResult::Pending(end)) = written;
    match end {
        EnrolmentProgress::Done(enrolled) => {
            let response = Json(Enrolled::from(enrolled)).into_response();
            Ok(AuditInfo::applied().on(with_write_headers(&app, preferences, replayed, None, response)))
        }
        EnrolmentProgress::Accepted(id, view) => {
            let view = match view {
                Some(view) => *view,
                // The operation continues whether or not it can be read now.
                None => app.gateway.operation(&caller, &id).await.map_err(|error| into_accepted_error(error, &id))?,
            };
            Ok(accepted_response(&app, preferences, replayed, Operation::from(view)))
        }
    }
}
