//! `/deliveries`: each event on its way to each webhook.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use crate::domain::ids::{DeliveryId, EventId, WebhookId};
use crate::domain::webhook::DeliveryState;
use crate::http::app_state::AppState;
use crate::http::dto::delivery::{Delivery, DeliveryList};
use crate::http::extract::body::EmptyBody;
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams, one_of};
use crate::http::extract::write_request::WriteRequest;
use crate::http::handlers::results::page_of;
use crate::http::problem::ApiError;
use crate::http::response::write_response;
use crate::service::{DeliveryFilter, ListPart, Page};

/// List the deliveries of a webhook
///
/// Each event that passes the webhook's filters has one; they are made some hundred events ahead. They are kept as long as
/// the events, and shown to clients that may see their events.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", operation_id = "listDeliveries", tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75"),
        ("event" = Option<String>, Query, description = "Return only deliveries of this event.", nullable = false),
        ("state" = Option<DeliveryState>, Query, description = "Return only deliveries in this state.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of deliveries, newest first.", body = DeliveryList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<WebhookId>,
    mut query: QueryParams,
) -> Result<Json<DeliveryList>, ApiError> {
    let event = query.parsed("event", "an event's identifier", |text| EventId::parse(text).ok());
    let state = query.parsed("state", &one_of(DeliveryState::ALL, DeliveryState::as_str), DeliveryState::parse);
    let (limit, after) = page_of(&mut query, |cursor| DeliveryId::parse(cursor).is_ok());
    query.finish()?;
    let filter = DeliveryFilter { event, state, connections: None };
    let ListPart { items, next } = app.gateway.deliveries(&caller, &id, &filter, &Page { limit, after }).await?;
    Ok(Json(DeliveryList { items: items.into_iter().map(Into::into).collect(), next_cursor: next }))
}

/// Read a delivery
#[utoipa::path(
    get, path = "/deliveries/{id}", operation_id = "getDelivery", tag = "Webhooks",
    params(("id" = String, Path, description = "The delivery's identifier.", example = "dlv_0192f0c1a3b47c8d9e0f1a2b3c4d5e77")),
    responses((status = 200, description = "The delivery with its attempts.", body = Delivery)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<DeliveryId>,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(app.gateway.delivery(&caller, &id).await?.into()))
}

/// Retry a delivery
///
/// Has a failed or pending delivery attempted at once, and by the schedule from its beginning if that fails too. The response
/// does not wait for the attempt.
#[utoipa::path(
    post, path = "/deliveries/{id}/retry", operation_id = "retryDelivery", tag = "Webhooks",
    params(("id" = String, Path, description = "The delivery's identifier.", example = "dlv_0192f0c1a3b47c8d9e0f1a2b3c4d5e77")),
    responses((status = 200, description = "The delivery, which is due now.", body = Delivery)),
)]
pub(in crate::http) async fn retry(
    State(app): State<AppState>,
    Id(id): Id<DeliveryId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.retry_delivery(&caller, &id)?;
    Ok(write_response(&app, preferences, patience.wait(handle).await?, Delivery::from))
}
