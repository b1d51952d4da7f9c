//! `/exchanges`: the last requests with the vendor calls under each.

use axum::Json;
use axum::extract::State;

use crate::domain::ids::{ExchangeId, OperationId};
use crate::http::app_state::AppState;
use crate::http::dto::exchange::{Exchange, ExchangeList};
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams};
use crate::http::problem::ApiError;
use crate::service::ExchangeFilter;

/// List exchanges
///
/// The last requests of the client's tenant with the vendor calls each led to, redacted; those with calls at connections the
/// client may not use are left out. Each instance keeps its own, in
/// memory; what has to last is in the records, the operations and the logs.
#[utoipa::path(
    get, path = "/exchanges", operation_id = "listExchanges", tag = "Exchanges",
    params(
        ("connection" = Option<String>, Query, description = "Only those that led to a call at this connection.", nullable = false),
        ("operation" = Option<String>, Query, description = "Only those of this operation.", nullable = false, example = "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71"),
        ("limit" = Option<usize>, Query, description = "Most entries in the answer.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before.", nullable = false),
    ),
    responses((status = 200, description = "A part of the exchanges, newest first.", body = ExchangeList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<ExchangeList>, ApiError> {
    let connection = query.text("connection");
    let operation = query.parsed("operation", "the id of an operation", |text| OperationId::parse(text).ok());
    let (limit, cursor) = query.page();
    let before = cursor.map(|text| ExchangeId::parse(&text));
    if let Some(Err(_)) = before {
        query.fault("cursor", "is not a cursor of this list");
    }
    query.finish()?;
    let filter = ExchangeFilter { connection, operation, before: before.and_then(Result::ok) };
    let (views, more) = app.gateway.exchanges(&caller, &filter, limit);
    let next_cursor = views.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(ExchangeList { items: views.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Read an exchange
#[utoipa::path(
    get, path = "/exchanges/{id}", operation_id = "getExchange", tag = "Exchanges",
    params(("id" = String, Path, description = "The exchange's identifier.", example = "exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")),
    responses((status = 200, description = "The exchange.", body = Exchange)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<ExchangeId>,
) -> Result<Json<Exchange>, ApiError> {
    Ok(Json(app.gateway.exchange(&caller, &id)?.into()))
}
