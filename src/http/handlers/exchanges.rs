//! `/exchanges`: recent requests with the vendor calls each made.

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
/// Recent requests of the client's tenant with the vendor calls each made, redacted. Requests with calls on connections
/// the client may not use are left out, and deliveries that it may not see. Each instance keeps its own exchanges, in
/// memory only; lasting information is in the records, the operations and the logs.
#[utoipa::path(
    get, path = "/exchanges", operation_id = "listExchanges", tag = "Exchanges",
    params(
        ("connection" = Option<String>, Query, description = "Return only exchanges with a call on this connection.", nullable = false),
        ("operation" = Option<String>, Query, description = "Return only exchanges of this operation.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of exchanges, newest first.", body = ExchangeList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<ExchangeList>, ApiError> {
    let connection = query.text("connection");
    let operation = query.parsed("operation", "an operation id", |text| OperationId::parse(text).ok());
    let (limit, cursor) = query.page();
    let before = cursor.map(|text| ExchangeId::parse(&text));
    if let Some(Err(_)) = before {
        query.add_error("cursor", "is not a valid cursor for this list");
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
