//! `/reports`: what vendors said about attempts, as it came; and reading it, from a feed now or from what is kept again.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;

use crate::domain::ids::ReportId;
use crate::domain::results::ReportState;
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::dto::connection::Connection;
use crate::http::dto::operation::Operation;
use crate::http::dto::report::{Report, ReportList, ReportMatch, RereadRequest};
use crate::http::extract::body::{Body, OptionalBody};
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, PathSegment, QueryParams, one_of};
use crate::http::extract::write_request::WriteRequest;
use crate::http::handlers::operations::operation_response;
use crate::http::handlers::results::page_of;
use crate::http::problem::ApiError;
use crate::service::{ListPart, Page, ReportQuery};

/// List reports
///
/// The vendors' reports about the tenant's candidates, and those that match no candidate on connections that the tenant
/// owns. Without their bodies.
#[utoipa::path(
    get, path = "/reports", operation_id = "listReports", tag = "Reports",
    params(
        ("state" = Option<ReportState>, Query, description = "Return only reports in this state.", nullable = false),
        ("connection" = Option<String>, Query, description = "Return only reports on this connection.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of reports, newest first.", body = ReportList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<ReportList>, ApiError> {
    let state = query.parsed("state", &one_of(ReportState::ALL, ReportState::as_str), ReportState::parse);
    let filter = ReportQuery { state, connection: query.text("connection") };
    let (limit, after) = page_of(&mut query, |cursor| ReportId::parse(cursor).is_ok());
    query.finish()?;
    let ListPart { items, next } = app.gateway.reports(&caller, &filter, &Page { limit, after }).await?;
    Ok(Json(ReportList { items: items.into_iter().map(Into::into).collect(), next_cursor: next }))
}

/// Read a report
///
/// With `include=body` the response holds the body as the vendor sent it, with all personal data in it; each such request
/// has an entry in the audit log. A body is kept for `store.report_retention` or `store.parked_retention`.
#[utoipa::path(
    get, path = "/reports/{id}", operation_id = "getReport", tag = "Reports",
    params(
        ("id" = String, Path, description = "The report's identifier.", example = "rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74"),
        ("include" = Option<String>, Query, description = "`body`: the report's body as it came.", nullable = false, pattern = "^body$"),
    ),
    responses((status = 200, description = "The report.", body = Report)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<ReportId>,
    mut query: QueryParams,
) -> Result<Response, ApiError> {
    let with_body = query.parsed("include", "body", |text| (text == "body").then_some(())).is_some();
    query.finish()?;
    Ok(answered(app.gateway.report(&caller, &id, with_body).await?.into()))
}

/// Match a report
///
/// Says whose a parked report is: an assignment's, or a candidate's if the gateway has no booking for the attempt. A result
/// is made from it as if the vendor had named them.
#[utoipa::path(
    post, path = "/reports/{id}/match", operation_id = "matchReport", tag = "Reports",
    params(("id" = String, Path, description = "The report's identifier.", example = "rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74")),
    request_body(content = ReportMatch),
    responses((status = 200, description = "The report, which is applied now.", body = Report)),
)]
pub(in crate::http) async fn match_target(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<ReportId>,
    Body(target): Body<ReportMatch>,
) -> Result<Response, ApiError> {
    Ok(answered(app.gateway.match_report(&caller, &id, target).await?.into()))
}

/// Dismiss a report
///
/// Says that a parked or rejected report is of no use. A dismissed report stays so.
#[utoipa::path(
    post, path = "/reports/{id}/dismiss", operation_id = "dismissReport", tag = "Reports",
    params(("id" = String, Path, description = "The report's identifier.", example = "rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74")),
    responses((status = 200, description = "The report, which is dismissed now.", body = Report)),
)]
pub(in crate::http) async fn dismiss(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<ReportId>,
) -> Result<Response, ApiError> {
    Ok(answered(app.gateway.dismiss_report(&caller, &id).await?.into()))
}

fn answered(report: Report) -> Response {
    let info = AuditInfo::of(&report, StatusCode::OK);
    info.on(Json(report).into_response())
}

/// Read reports again
///
/// Reads the connection's kept reports again under today's settings, in the order in which they arrived: the results are
/// then what they would be if the settings had been so from the start. A result that changes gets a version.
#[utoipa::path(
    post, path = "/connections/{name}/reread", operation_id = "rereadReports", tag = "Reports",
    params(("name" = String, Path, description = "The connection's name, as the operator configured it.", example = "startexam-main")),
    request_body(content = RereadRequest),
    responses((status = 202, description = "The operation, of kind `reread`; its progress appears at `Location`.", body = Operation)),
)]
pub(in crate::http) async fn reread(
    State(app): State<AppState>,
    PathSegment(name): PathSegment,
    WriteRequest { caller, preferences, patience: _, body: OptionalBody(since) }: WriteRequest<
        OptionalBody<RereadRequest>,
    >,
) -> Result<Response, ApiError> {
    let accepted = app.gateway.reread_reports(&caller, &name, since).await?;
    operation_response(&app, &caller, preferences, accepted).await
}

/// Read a connection's feed now
///
/// Reads what the vendor reports without waiting for the next time the feed is due. The request does not wait for the end.
#[utoipa::path(
    post, path = "/connections/{name}/read", operation_id = "readFeed", tag = "Connections",
    params(("name" = String, Path, description = "The connection's name, as the operator configured it.", example = "startexam-main")),
    responses((status = 202, description = "The connection, whose feed is being read.", body = Connection)),
)]
pub(in crate::http) async fn read_feed(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    PathSegment(name): PathSegment,
) -> Result<Response, ApiError> {
    app.gateway.read_feed_now(&caller, &name)?;
    let connection = Connection::from(app.gateway.connection(&caller, &name)?);
    let location = app.location(&format!("/connections/{name}"));
    let response = (StatusCode::ACCEPTED, [(LOCATION, location)], Json(connection)).into_response();
    Ok(AuditInfo::connection(&name).on(response))
}
