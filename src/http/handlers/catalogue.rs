//! `/assessments`, `/programs`, `/vendors` and `/connections`: what the gateway offers.

use axum::Json;
use axum::extract::State;

use crate::domain::error::{Code, Error};
use crate::http::app_state::AppState;
use crate::http::dto::call_history::CallHistory;
use crate::http::dto::catalogue::{AssessmentList, ProgramList, Vendor, VendorList};
use crate::http::dto::connection::{CheckedConnection, Connection, ConnectionList};
use crate::http::extract::request_parts::{AuthenticatedCaller, PathSegment, QueryParams};
use crate::http::pagination::paginate;
use crate::http::problem::ApiError;
use crate::service::Gateway;

fn page(mut query: QueryParams) -> Result<(usize, Option<String>), Error> {
    let (limit, cursor) = query.page();
    query.finish()?;
    Ok((limit, cursor))
}

/// List assessments
///
/// The operator's catalogue of assessments, limited to connections the client may use.
#[utoipa::path(
    get, path = "/assessments", operation_id = "listAssessments", tag = "Catalogue",
    params(
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of the catalogue.", body = AssessmentList)),
)]
pub(in crate::http) async fn assessments(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    query: QueryParams,
) -> Result<Json<AssessmentList>, ApiError> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = paginate(app.gateway.assessments(&caller), limit, cursor.as_deref())?;
    Ok(Json(AssessmentList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// List programs
///
/// The operator's catalogue of programs, limited to connections the client may use.
#[utoipa::path(
    get, path = "/programs", operation_id = "listPrograms", tag = "Catalogue",
    params(
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of the catalogue.", body = ProgramList)),
)]
pub(in crate::http) async fn programs(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    query: QueryParams,
) -> Result<Json<ProgramList>, ApiError> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = paginate(app.gateway.programs(&caller), limit, cursor.as_deref())?;
    Ok(Json(ProgramList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// List vendors
///
/// Every kind of exam vendor, with the gateway's capabilities for it.
#[utoipa::path(
    get, path = "/vendors", operation_id = "listVendors", tag = "Catalogue",
    params(
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of vendors.", body = VendorList)),
)]
pub(in crate::http) async fn vendors(query: QueryParams) -> Result<Json<VendorList>, ApiError> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = paginate(Gateway::descriptors().to_vec(), limit, cursor.as_deref())?;
    Ok(Json(VendorList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Read a vendor
#[utoipa::path(
    get, path = "/vendors/{vendor}", operation_id = "getVendor", tag = "Catalogue",
    params(("vendor" = String, Path, description = "The kind of vendor.", example = "startexam")),
    responses((status = 200, description = "The vendor.", body = Vendor)),
)]
pub(in crate::http) async fn vendor(PathSegment(kind): PathSegment) -> Result<Json<Vendor>, ApiError> {
    let descriptor = Gateway::descriptors().iter().find(|descriptor| descriptor.kind == kind);
    descriptor
        .map(|descriptor| Json((*descriptor).into()))
        .ok_or_else(|| ApiError::new(Code::NotFound, "No such vendor."))
}

/// List connections
///
/// The connections the client may use, with their status.
#[utoipa::path(
    get, path = "/connections", operation_id = "listConnections", tag = "Connections",
    params(
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of connections.", body = ConnectionList)),
)]
pub(in crate::http) async fn connections(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    query: QueryParams,
) -> Result<Json<ConnectionList>, ApiError> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = paginate(app.gateway.connections(&caller), limit, cursor.as_deref())?;
    Ok(Json(ConnectionList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Read a connection
#[utoipa::path(
    get, path = "/connections/{name}", operation_id = "getConnection", tag = "Connections",
    params(("name" = String, Path, description = "The connection's name, as the operator configured it.", example = "startexam-main")),
    responses((status = 200, description = "The connection.", body = Connection)),
)]
pub(in crate::http) async fn connection(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    PathSegment(name): PathSegment,
) -> Result<Json<Connection>, ApiError> {
    Ok(Json(app.gateway.connection(&caller, &name)?.into()))
}

/// Read the calls of a connection
///
/// What became of this instance's calls to the vendor in the last hour, minute by minute: how many there were, how many
/// failed and why, and how long they took.
#[utoipa::path(
    get, path = "/connections/{name}/calls", operation_id = "readConnectionCalls", tag = "Connections",
    params(("name" = String, Path, description = "The connection's name, as the operator configured it.", example = "startexam-main")),
    responses((status = 200, description = "The calls of the last hour.", body = CallHistory)),
)]
pub(in crate::http) async fn calls(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    PathSegment(name): PathSegment,
) -> Result<Json<CallHistory>, ApiError> {
    let history = app.gateway.connection_calls(&caller, &name)?;
    Ok(Json(CallHistory::of(name, history)))
}

/// Check a connection
///
/// Tests the vendor step by step, as far as that has no side effects there, and returns the findings with what to do
/// about each. A finding is not a problem of this request: the response is 200 in any case.
#[utoipa::path(
    post, path = "/connections/{name}/check", operation_id = "checkConnection", tag = "Connections",
    params(("name" = String, Path, description = "The connection's name, as the operator configured it.", example = "startexam-main")),
    responses((status = 200, description = "The connection with the findings.", body = CheckedConnection)),
)]
pub(in crate::http) async fn check(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    PathSegment(name): PathSegment,
) -> Result<Json<CheckedConnection>, ApiError> {
    Ok(Json(app.gateway.check_connection(&caller, &name).await?.into()))
}
