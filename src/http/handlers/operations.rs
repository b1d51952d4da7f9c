//! `/operations`: jobs with many rows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;

use crate::domain::ids::OperationId;
use crate::domain::operation as domain;
use crate::domain::operation::OperationKind;
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::dto::operation::{
    ItemOutcome, Operation, OperationItemList, OperationList, OperationSettlement, OperationState,
};
use crate::http::exchange_context::ExchangeContext;
use crate::http::extract::body::Body;
use crate::http::extract::prefer::Preferences;
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams, one_of};
use crate::http::handlers::bulk::report;
use crate::http::pagination::cursor_position;
use crate::http::problem::ApiError;
use crate::http::response::{accepted_response, into_accepted_error};
use crate::service::{AcceptedOperation, OperationQuery, RequestContext};

/// List operations
#[utoipa::path(
    get, path = "/operations", operation_id = "listOperations", tag = "Operations",
    params(
        ("state" = inline(Option<OperationState>), Query, description = "Return only operations in this state.", nullable = false),
        ("kind" = Option<OperationKind>, Query, description = "Return only operations with rows of this kind.", nullable = false),
        ("connection" = Option<String>, Query, description = "Return only operations on this connection.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of operations, newest first.", body = OperationList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<OperationList>, ApiError> {
    let state = query.parsed("state", &one_of(LISTED_STATES, domain::OperationState::as_str), listed_state);
    let kind = query.parsed("kind", &one_of(OperationKind::ALL, OperationKind::as_str), OperationKind::parse);
    let connection = query.text("connection");
    let (limit, cursor) = query.page();
    query.finish()?;
    let asked = OperationQuery { state, kind, connection: connection.as_deref(), limit, cursor: cursor.as_deref() };
    let (items, next_cursor) = app.gateway.operations(&caller, asked).await?;
    Ok(Json(OperationList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// States in which operations are listed.
const LISTED_STATES: &[domain::OperationState] = &[
    domain::OperationState::Queued,
    domain::OperationState::Running,
    domain::OperationState::Completed,
    domain::OperationState::Cancelled,
];

fn listed_state(word: &str) -> Option<domain::OperationState> {
    LISTED_STATES.iter().copied().find(|state| state.as_str() == word)
}

/// Read an operation
#[utoipa::path(
    get, path = "/operations/{id}", operation_id = "getOperation", tag = "Operations",
    params(("id" = String, Path, description = "The operation's identifier.", example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71")),
    responses((status = 200, description = "The operation.", body = Operation)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<OperationId>,
) -> Result<Json<Operation>, ApiError> {
    Ok(Json(app.gateway.operation(&caller, &id).await?.into()))
}

/// List the results of an operation
///
/// The rows that have ended so far, in the order of the request. A page may have fewer entries than `limit` if they are
/// long; people are returned without their `photo`.
#[utoipa::path(
    get, path = "/operations/{id}/items", operation_id = "listOperationItems", tag = "Operations",
    params(
        ("id" = String, Path, description = "The operation's identifier.", example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71"),
        ("outcome" = inline(Option<ItemOutcome>), Query, description = "Return only rows with this outcome. `not_applied` includes skipped rows.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of rows.", body = OperationItemList)),
)]
pub(in crate::http) async fn items(
    State(app): State<AppState>,
    Extension(context): Extension<ExchangeContext>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<OperationId>,
    mut query: QueryParams,
) -> Result<Response, ApiError> {
    let outcome = query.parsed("outcome", "applied, not_applied, unknown or skipped", outcome);
    let (limit, cursor) = query.page();
    query.finish()?;
    let from = cursor_position(cursor.as_deref())?;
    Ok(report::page(&app, (context, Arc::unwrap_or_clone(caller)), id, outcome.map(Into::into), (from, limit)).await?)
}

fn outcome(text: &str) -> Option<ItemOutcome> {
    let word: Result<_, serde::de::value::Error> = ItemOutcome::deserialize(text.into_deserializer());
    word.ok()
}

/// Cancel an operation
///
/// Skips rows that have not been started; rows in flight run to their end. An operation that has ended stays as it is.
#[utoipa::path(
    post, path = "/operations/{id}/cancel", operation_id = "cancelOperation", tag = "Operations",
    params(("id" = String, Path, description = "The operation's identifier.", example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71")),
    responses((status = 202, description = "The operation will end.", body = Operation)),
)]
pub(in crate::http) async fn cancel(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<OperationId>,
) -> Result<Response, ApiError> {
    let document = Operation::from(app.gateway.cancel_operation(&caller, &id).await?);
    Ok(accepted_response(&app, Preferences::default(), false, document))
}

/// Retry an operation
///
/// Sends rows again that failed or were skipped, and settles unknown ones first. Never sends rows again that were
/// applied.
#[utoipa::path(
    post, path = "/operations/{id}/retry", operation_id = "retryOperation", tag = "Operations",
    params(("id" = String, Path, description = "The operation's identifier.", example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71")),
    responses((status = 202, description = "The operation continues.", body = Operation)),
)]
pub(in crate::http) async fn retry(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<OperationId>,
) -> Result<Response, ApiError> {
    let document = Operation::from(app.gateway.retry_operation(&caller, &id).await?);
    Ok(accepted_response(&app, Preferences::default(), false, document))
}

/// Settle an operation by hand
///
/// Records the true outcome of enrolment calls that the gateway could not settle itself, such as a call the vendor
/// rejects on every retry. Verify it at the vendor first; the gateway does not check what you record. Rows of a bulk
/// request are settled at `/candidates/{id}/settle` and `/assignments/{id}/settle`.
#[utoipa::path(
    post, path = "/operations/{id}/settle", operation_id = "settleOperation", tag = "Operations",
    params(("id" = String, Path, description = "The operation's identifier.", example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71")),
    request_body(content = OperationSettlement),
    responses((status = 200, description = "The operation with the recorded outcome.", body = Operation)),
)]
pub(in crate::http) async fn settle(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<OperationId>,
    Body(settlement): Body<OperationSettlement>,
) -> Result<Response, ApiError> {
    let view = app.gateway.settle_operation(&caller, &id, settlement).await?;
    let audit_info = AuditInfo::operation(&view);
    Ok(audit_info.on(Json(Operation::from(view)).into_response()))
}

/// Builds the 202 response to a request that creates an operation, or whose key belongs to one that an earlier request created.
///
/// # Errors
/// The service's, with outcome `unknown`, if the earlier operation cannot be read.
pub(in crate::http::handlers) async fn operation_response(
    app: &AppState,
    caller: &RequestContext,
    preferences: Preferences,
    accepted: AcceptedOperation,
) -> Result<Response, ApiError> {
    let (status, replayed) = match accepted {
        AcceptedOperation::New(status) => (*status, false),
        AcceptedOperation::Earlier(id) => {
            let read = app.gateway.operation(caller, &id).await;
            (read.map_err(|error| into_accepted_error(error, &id))?, true)
        }
    };
    Ok(accepted_response(app, preferences, replayed, Operation::from(status)))
}
