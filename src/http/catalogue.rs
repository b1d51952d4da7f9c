//! What the gateway says about itself: assessments, programs, vendors, connections.

use axum::Json;
use axum::extract::State;

use super::answer::part;
use super::dto::catalogue::{AssessmentList, ProgramList, Vendor, VendorList};
use super::dto::connection::{CheckedConnection, Connection, ConnectionList};
use super::problem::Refused;
use super::request::{Asking, Query, Segment};
use super::state::App;
use crate::dispatch::Gateway;
use crate::domain::problem::{Code, Fault};

fn page(mut query: Query) -> Result<(usize, Option<String>), Fault> {
    let (limit, cursor) = query.page();
    query.finish()?;
    Ok((limit, cursor))
}

/// List assessments
///
/// The operator's catalogue of what can be ordered, as far as the client may use its connections.
#[utoipa::path(
    get, path = "/assessments", operation_id = "listAssessments", tag = "Catalogue",
    params(
        ("limit" = Option<usize>, Query, description = "Most entries in the answer.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before.", nullable = false),
    ),
    responses((status = 200, description = "A part of the catalogue.", body = AssessmentList)),
)]
pub(super) async fn assessments(
    State(app): State<App>,
    Asking(caller): Asking,
    query: Query,
) -> Result<Json<AssessmentList>, Refused> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = part(app.gateway.assessments(&caller), limit, cursor.as_deref())?;
    Ok(Json(AssessmentList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// List programs
///
/// The operator's catalogue of programs, as far as the client may use their connections.
#[utoipa::path(
    get, path = "/programs", operation_id = "listPrograms", tag = "Catalogue",
    params(
        ("limit" = Option<usize>, Query, description = "Most entries in the answer.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before.", nullable = false),
    ),
    responses((status = 200, description = "A part of the catalogue.", body = ProgramList)),
)]
pub(super) async fn programs(
    State(app): State<App>,
    Asking(caller): Asking,
    query: Query,
) -> Result<Json<ProgramList>, Refused> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = part(app.gateway.programs(&caller), limit, cursor.as_deref())?;
    Ok(Json(ProgramList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// List vendors
///
/// Every kind of exam vendor, with what the gateway can do there.
#[utoipa::path(
    get, path = "/vendors", operation_id = "listVendors", tag = "Catalogue",
    params(
        ("limit" = Option<usize>, Query, description = "Most entries in the answer.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before.", nullable = false),
    ),
    responses((status = 200, description = "A part of the vendors.", body = VendorList)),
)]
pub(super) async fn vendors(query: Query) -> Result<Json<VendorList>, Refused> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = part(Gateway::descriptors().to_vec(), limit, cursor.as_deref())?;
    Ok(Json(VendorList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Read a vendor
#[utoipa::path(
    get, path = "/vendors/{vendor}", operation_id = "getVendor", tag = "Catalogue",
    params(("vendor" = String, Path, description = "The kind of vendor.", example = "startexam")),
    responses((status = 200, description = "The vendor.", body = Vendor)),
)]
pub(super) async fn vendor(Segment(kind): Segment) -> Result<Json<Vendor>, Refused> {
    let descriptor = Gateway::descriptors().iter().find(|descriptor| descriptor.kind == kind);
    descriptor
        .map(|descriptor| Json((*descriptor).into()))
        .ok_or_else(|| Refused::new(Code::NotFound, "There is no such vendor."))
}

/// List connections
///
/// The connections the client may use, with their condition.
#[utoipa::path(
    get, path = "/connections", operation_id = "listConnections", tag = "Connections",
    params(
        ("limit" = Option<usize>, Query, description = "Most entries in the answer.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before.", nullable = false),
    ),
    responses((status = 200, description = "A part of the connections.", body = ConnectionList)),
)]
pub(super) async fn connections(
    State(app): State<App>,
    Asking(caller): Asking,
    query: Query,
) -> Result<Json<ConnectionList>, Refused> {
    let (limit, cursor) = page(query)?;
    let (items, next_cursor) = part(app.gateway.connections(&caller), limit, cursor.as_deref())?;
    Ok(Json(ConnectionList { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Read a connection
#[utoipa::path(
    get, path = "/connections/{name}", operation_id = "getConnection", tag = "Connections",
    params(("name" = String, Path, description = "The operator's name for it.", example = "startexam-main")),
    responses((status = 200, description = "The connection.", body = Connection)),
)]
pub(super) async fn connection(
    State(app): State<App>,
    Asking(caller): Asking,
    Segment(name): Segment,
) -> Result<Json<Connection>, Refused> {
    Ok(Json(app.gateway.connection(&caller, &name)?.into()))
}

/// Check a connection
///
/// Looks at the vendor step by step, as far as that has no side effects there, and answers what was found with what to do
/// about it. A fault that is found is no problem of this request: the answer is 200 all the same.
#[utoipa::path(
    post, path = "/connections/{name}/check", operation_id = "checkConnection", tag = "Connections",
    params(("name" = String, Path, description = "The operator's name for it.", example = "startexam-main")),
    responses((status = 200, description = "The connection with what was found.", body = CheckedConnection)),
)]
pub(super) async fn check(
    State(app): State<App>,
    Asking(caller): Asking,
    Segment(name): Segment,
) -> Result<Json<CheckedConnection>, Refused> {
    Ok(Json(app.gateway.check_connection(&caller, &name).await?.into()))
}
