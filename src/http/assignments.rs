//! `/assignments`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::answer::{gone, written};
use super::body::{Body, NoBody};
use super::dto::assignment::{Assignment, AssignmentList, AssignmentState};
use super::dto::common::Settlement;
use super::dto::order::{NewAssignment, Order};
use super::prefer::Preferences;
use super::problem::Refused;
use super::request::{Asking, Id, Query};
use super::state::App;
use super::writing::Writing;
use crate::dispatch::{AssignmentQuery, Removal, Reply, Written};
use crate::domain::assignment as domain;
use crate::domain::ids::{AssignmentId, CandidateId};

/// Book a candidate for an assessment
///
/// A booking the gateway already knows (same candidate, assessment and centre) is answered with 200 instead of being made
/// again, unless `ifExists` says otherwise.
#[utoipa::path(
    post, path = "/assignments", operation_id = "createAssignment", tag = "Assignments",
    params(
        ("connection" = Option<String>, Query, description = "The connection; the body may name the same one.", nullable = false),
    ),
    request_body(content = NewAssignment),
    responses(
        (status = 201, description = "The vendor has booked the candidate.", body = Assignment),
        (status = 200, description = "The gateway already knew the booking.", body = Assignment),
        (status = 202, description = "The booking goes on; its state appears at `Location`.", body = Assignment),
    ),
)]
pub(super) async fn create(
    State(app): State<App>,
    query: Query,
    Writing { caller, preferences, patience, body: Body(Order { connection, order }) }: Writing<Body<NewAssignment>>,
) -> Result<Response, Refused> {
    let connection = query.connection(connection)?;
    let strict = preferences.strict();
    let ticket = app.gateway.create_assignment(&caller, connection.as_deref(), order, strict).await?;
    Ok(written(&app, preferences, patience.wait(ticket).await?, Assignment::from))
}

/// List assignments
#[utoipa::path(
    get, path = "/assignments", operation_id = "listAssignments", tag = "Assignments",
    params(
        ("candidate" = Option<String>, Query, description = "Only of this candidate.", nullable = false, example = "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"),
        ("assessment" = Option<String>, Query, description = "Only of this assessment, as orders name it or by the vendor's own id.", nullable = false, example = "rust-101"),
        ("connection" = Option<String>, Query, description = "Only at this connection.", nullable = false, example = "startexam-main"),
        ("state" = Option<AssignmentState>, Query, description = "Only in this state.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Most entries in the answer.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before.", nullable = false),
    ),
    responses((status = 200, description = "A part of the assignments, newest first.", body = AssignmentList)),
)]
pub(super) async fn list(
    State(app): State<App>,
    Asking(caller): Asking,
    mut query: Query,
) -> Result<Json<AssignmentList>, Refused> {
    let candidate = query.parsed("candidate", "a candidate's identifier", |text| CandidateId::parse(text).ok());
    let (assessment, connection) = (query.text("assessment"), query.text("connection"));
    let state = query.parsed("state", "a state of an assignment", state);
    let (limit, cursor) = query.page();
    query.finish()?;
    let asked = AssignmentQuery {
        candidate: candidate.as_ref(),
        assessment: assessment.as_deref(),
        connection: connection.as_deref(),
        state,
        limit,
        cursor: cursor.as_deref(),
    };
    let (items, next_cursor) = app.gateway.assignments(&caller, asked).await?;
    Ok(Json(AssignmentList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

fn state(text: &str) -> Option<domain::AssignmentState> {
    let word: StrDeserializer<'_, ValueError> = text.into_deserializer();
    AssignmentState::deserialize(word).ok().map(Into::into)
}

/// Read an assignment
#[utoipa::path(
    get, path = "/assignments/{id}", operation_id = "getAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    responses((status = 200, description = "The assignment.", body = Assignment)),
)]
pub(super) async fn read(
    State(app): State<App>,
    Asking(caller): Asking,
    Id(id): Id<AssignmentId>,
) -> Result<Json<Assignment>, Refused> {
    Ok(Json(app.gateway.assignment(&caller, &id).await?.into()))
}

/// Cancel an assignment
///
/// Withdraws the booking at the vendor. One that is withdrawn already stays so.
#[utoipa::path(
    delete, path = "/assignments/{id}", operation_id = "cancelAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    responses(
        (status = 204, description = "The booking is withdrawn."),
        (status = 202, description = "The withdrawal goes on; its state appears at `Location`.", body = Assignment),
    ),
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Id(id): Id<AssignmentId>,
    Writing { caller, preferences, patience, body: NoBody }: Writing<NoBody>,
) -> Result<Response, Refused> {
    let ticket = app.gateway.cancel_assignment(&caller, &id)?;
    let Reply { written, replayed } = patience.wait(ticket).await?;
    let (Written::Created(removal) | Written::Existing(removal) | Written::Pending(removal)) = written;
    let pending = match removal {
        Removal::Pending(record) => Some(Assignment::from(*record)),
        Removal::Done => None,
    };
    Ok(gone(&app, preferences, replayed, pending))
}

/// Settle an assignment by hand
///
/// A person's word on an assignment whose state is `unknown` and that the gateway could not settle itself. Look at the
/// vendor first: what is said here is believed.
#[utoipa::path(
    post, path = "/assignments/{id}/settle", operation_id = "settleAssignment", tag = "Assignments",
    params(("id" = String, Path, description = "The assignment's identifier.", example = "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70")),
    request_body(content = Settlement),
    responses((status = 200, description = "The assignment as it is now known.", body = Assignment)),
)]
pub(super) async fn settle(
    State(app): State<App>,
    Id(id): Id<AssignmentId>,
    Writing { caller, preferences: _, patience: _, body: Body(outcome) }: Writing<Body<Settlement>>,
) -> Result<Response, Refused> {
    let reply = app.gateway.settle_assignment(&caller, &id, outcome)?.wait(None).await?;
    Ok(written(&app, Preferences::default(), reply, Assignment::from))
}
