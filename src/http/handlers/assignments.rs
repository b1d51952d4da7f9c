//! `/assignments`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use crate::domain::assignment as domain;
use crate::domain::assignment::AssignmentState;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::dto::assignment::{Assignment, AssignmentList};
use crate::http::dto::assignment_changes::{AssignmentChanges, touched_fields};
use crate::http::dto::assignment_input::{NewAssignment, ValidOrder};
use crate::http::dto::common::Settlement;
use crate::http::extract::body::{Body, EmptyBody, MergePatch};
use crate::http::extract::prefer::Preferences;
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams, one_of};
use crate::http::extract::write_request::WriteRequest;
use crate::http::problem::ApiError;
use crate::http::progress::{progress_after_write, progress_of, progress_of_all};
use crate::http::response::{removal_response, write_response};
use crate::service::{AssignmentQuery, Removal, WriteReply};

/// Book a candidate for an assessment
///
/// If the gateway already has the booking (same candidate, assessment and centre), the response is 200 and no new
/// booking is made, unless `ifExists` requests otherwise.
#[utoipa::path(
    post, path = "/assignments", operation_id = "createAssignment", tag = "Assignments",
    params(
        ("connection" = Option<String>, Query, description = "Name of the connection. If the body names one too, it must be the same.", nullable = false),
    ),
    request_body(content = NewAssignment),
    responses(
        (status = 201, description = "The vendor has booked the candidate.", body = Assignment),
        (status = 200, description = "The gateway already had the booking.", body = Assignment),
        (status = 202, description = "The booking is still running; its state appears at `Location`.", body = Assignment),
    ),
)]
pub(in crate::http) async fn create(
    State(app): State<AppState>,
    query: QueryParams,
    WriteRequest { caller, preferences, patience, body: Body(ValidOrder { connection, order }) }: WriteRequest<
        Body<NewAssignment>,
    >,
) -> Result<Response, ApiError> {
    let connection = query.connection(connection)?;
    let strict = preferences.strict();
    let handle = app.gateway.create_assignment(&caller, connection.as_deref(), order, strict).await?;
    Ok(written(&app, preferences, patience.wait(handle).await?).await)
}

/// List assignments
#[utoipa::path(
    get, path = "/assignments", operation_id = "listAssignments", tag = "Assignments",
    params(
        ("candidate" = Option<String>, Query, description = "Return only assignments of this candidate.", nullable = false),
        ("externalId" = Option<String>, Query, description = "Return only assignments of the person with this id of the caller's own, registered or not; must match exactly.", nullable = false, max_length = 250),
        ("assessment" = Option<String>, Query, description = "Return only assignments for this assessment: its catalogue id or the vendor's own id.", nullable = false),
        ("connection" = Option<String>, Query, description = "Return only assignments on this connection.", nullable = false),
        ("state" = Option<AssignmentState>, Query, description = "Return only assignments in this state.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of assignments, newest first.", body = AssignmentList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<AssignmentList>, ApiError> {
    let candidate = query.parsed("candidate", "a candidate's identifier", |text| CandidateId::parse(text).ok());
    let external_id = query.external_id();
    let (assessment, connection) = (query.text("assessment"), query.text("connection"));
    let state = query.parsed("state", &one_of(AssignmentState::ALL, AssignmentState::as_str), AssignmentState::parse);
    let (limit, cursor) = query.page();
    query.finish()?;
    let asked = AssignmentQuery {
        candidate: candidate.as_ref(),
        external_id: external_id.as_ref(),
        assessment: assessment.as_deref(),
        connection: connection.as_deref(),
        state,
        limit,
        cursor: cursor.as_deref(),
    };
    let (items, next_cursor) = app.gateway.assignments(&caller, asked).await?;
    let progress = progress_of_all(&app, &items.iter().collect::<Vec<_>>()).await?;
    let items = items.into_iter().zip(progress).map(|(item, progress)| Assignment::of(item, progress)).collect();
    Ok(Json(AssignmentList { items, next_cursor }))
}

/// Read an assignment
#[utoipa::path(
    get, path = "/assignments/{id}", operation_id = "getAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    responses((status = 200, description = "The assignment.", body = Assignment)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<AssignmentId>,
) -> Result<Json<Assignment>, ApiError> {
    let assignment = app.gateway.assignment(&caller, &id).await?;
    let progress = progress_of(&app, &assignment).await?;
    Ok(Json(Assignment::of(assignment, progress)))
}

/// Change an assignment
///
/// A merge patch (RFC 7396) of the booking's window and supervision. None of the vendors documents a call for this, so
/// the request fails with `capability_unsupported`, and nothing is sent; `GET /vendors` says so as
/// `assignments.update`. Where the vendor can, cancel the booking and make another one.
#[utoipa::path(
    patch, path = "/assignments/{id}", operation_id = "updateAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    request_body(content((AssignmentChanges = "application/merge-patch+json"), (AssignmentChanges = "application/json"))),
    responses((status = 200, description = "The changed assignment.", body = Assignment)),
)]
pub(in crate::http) async fn update(
    State(app): State<AppState>,
    Id(id): Id<AssignmentId>,
    WriteRequest { caller, preferences: _, patience: _, body: MergePatch(members) }: WriteRequest<MergePatch>,
) -> Result<Json<Assignment>, ApiError> {
    let touched = touched_fields(members)?;
    match app.gateway.refuse_assignment_change(&caller, &id, touched).await? {}
}

/// Cancel an assignment
///
/// Withdraws the booking at the vendor. A booking that is already withdrawn stays so.
#[utoipa::path(
    delete, path = "/assignments/{id}", operation_id = "cancelAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    responses(
        (status = 204, description = "The booking is withdrawn."),
        (status = 202, description = "The withdrawal is still running; its state appears at `Location`.", body = Assignment),
    ),
)]
pub(in crate::http) async fn cancel(
    State(app): State<AppState>,
    Id(id): Id<AssignmentId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.cancel_assignment(&caller, &id)?;
    let reply = patience.wait(handle).await?;
    let progress = match reply.written.value() {
        Removal::Pending(assignment) => progress_after_write(&app, assignment).await,
        Removal::Done => None,
    };
    Ok(removal_response(&app, preferences, reply, |assignment| Assignment::of(assignment, progress)))
}

/// Settle an assignment by hand
///
/// Records the true outcome of an unknown write that the gateway could not settle itself: the assignment's state is
/// `unknown`. Verify it at the vendor first; the gateway does not check what you record.
#[utoipa::path(
    post, path = "/assignments/{id}/settle", operation_id = "settleAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    request_body(content = Settlement),
    responses((status = 200, description = "The assignment with the recorded outcome.", body = Assignment)),
)]
pub(in crate::http) async fn settle(
    State(app): State<AppState>,
    Id(id): Id<AssignmentId>,
    WriteRequest { caller, preferences: _, patience: _, body: Body(outcome) }: WriteRequest<Body<Settlement>>,
) -> Result<Response, ApiError> {
    let reply = app.gateway.settle_assignment(&caller, &id, outcome)?.result(None).await?;
    Ok(written(&app, Preferences::default(), reply).await)
}

/// Refresh an assignment
///
/// Asks the vendor now what became of the assignment, within the connection's limits, and returns it with its progress. Only
/// where the vendor can be asked (`results.refresh` of `GET /vendors`), and once the booking has the vendor's reference.
#[utoipa::path(
    post, path = "/assignments/{id}/refresh", operation_id = "refreshAssignment", tag = "Results",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    responses((status = 200, description = "The assignment, as the vendor knows it now.", body = Assignment)),
)]
pub(in crate::http) async fn refresh(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<AssignmentId>,
) -> Result<Response, ApiError> {
    let assignment = app.gateway.refresh_assignment(&caller, &id).await?;
    let progress = progress_of(&app, &assignment).await?;
    let info = AuditInfo::connection(&assignment.connection);
    Ok(info.on(Json(Assignment::of(assignment, progress)).into_response()))
}

/// Builds the response to a write, with the progress of the assignment.
async fn written(app: &AppState, preferences: Preferences, reply: WriteReply<domain::Assignment>) -> Response {
    let progress = progress_after_write(app, reply.written.value()).await;
    write_response(app, preferences, reply, |assignment| Assignment::of(assignment, progress))
}
