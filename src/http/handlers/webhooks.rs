//! `/webhooks`: where the tenant's events are delivered.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use crate::domain::ids::WebhookId;
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::dto::operation::Operation;
use crate::http::dto::webhook::actions::{ReplayRequest, SecretRotation};
use crate::http::dto::webhook::changes::{WebhookChanges, webhook_patch};
use crate::http::dto::webhook::input::NewWebhook;
use crate::http::dto::webhook::{Webhook, WebhookList, WebhookPing, created_webhook_example, rotated_webhook_example};
use crate::http::extract::body::{Body, EmptyBody, MergePatch};
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams};
use crate::http::extract::write_request::WriteRequest;
use crate::http::handlers::operations::operation_response;
use crate::http::handlers::results::page_of;
use crate::http::problem::ApiError;
use crate::http::response::{removal_response, with_write_headers, write_response};
use crate::service::{ListPart, Page, WriteReply, WriteResult};

/// Create a webhook
///
/// Has the tenant's events delivered to an address from now on, those that happen at connections which the client may use.
/// The operator must allow its host. The gateway resolves the host and sends a `ping` before it responds; `ping` in the
/// response says what came back, and a receiver that did not accept it is no error: the webhook exists all the same.
///
/// `secret` signs the deliveries (Standard Webhooks 1.0). It is in this response only, and in that to a retry with the same
/// `Idempotency-Key`. A tenant may have up to 100 webhooks.
#[utoipa::path(
    post, path = "/webhooks", operation_id = "createWebhook", tag = "Webhooks",
    request_body(content = NewWebhook),
    responses((status = 201, description = "The webhook, with its secret.", body = Webhook, example = json!(created_webhook_example()))),
)]
pub(in crate::http) async fn create(
    State(app): State<AppState>,
    WriteRequest { caller, preferences, patience, body: Body(new) }: WriteRequest<Body<NewWebhook>>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.create_webhook(&caller, new)?;
    Ok(write_response(&app, preferences.without_wait(), patience.wait(handle).await?, Webhook::from))
}

/// List webhooks
///
/// The webhooks that the tenant's clients have created and those that the operator has configured for it, without their
/// secrets.
#[utoipa::path(
    get, path = "/webhooks", operation_id = "listWebhooks", tag = "Webhooks",
    params(
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of webhooks, newest first.", body = WebhookList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<WebhookList>, ApiError> {
    let (limit, after) = page_of(&mut query, |cursor| WebhookId::parse(cursor).is_ok());
    query.finish()?;
    let ListPart { items, next } = app.gateway.webhooks(&caller, &Page { limit, after }).await?;
    Ok(Json(WebhookList { items: items.into_iter().map(Into::into).collect(), next_cursor: next }))
}

/// Read a webhook
#[utoipa::path(
    get, path = "/webhooks/{id}", operation_id = "getWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    responses((status = 200, description = "The webhook.", body = Webhook)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<WebhookId>,
) -> Result<Json<Webhook>, ApiError> {
    Ok(Json(app.gateway.webhook(&caller, &id).await?.into()))
}

/// Change a webhook
///
/// A merge patch (RFC 7396) of its settings; `null` sets a field to its default. Deliveries under way are sent to the former
/// address.
#[utoipa::path(
    patch, path = "/webhooks/{id}", operation_id = "updateWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    request_body(content((WebhookChanges = "application/merge-patch+json"), (WebhookChanges = "application/json"))),
    responses((status = 200, description = "The changed webhook.", body = Webhook)),
)]
pub(in crate::http) async fn update(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience, body: MergePatch(members) }: WriteRequest<MergePatch>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.update_webhook(&caller, &id, webhook_patch(members)?)?;
    Ok(write_response(&app, preferences.without_wait(), patience.wait(handle).await?, Webhook::from))
}

/// Delete a webhook
///
/// Ends its deliveries. What was not delivered yet is not delivered any more; the events stay in `GET /events`.
#[utoipa::path(
    delete, path = "/webhooks/{id}", operation_id = "deleteWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    responses((status = 204, description = "The webhook is deleted.")),
)]
pub(in crate::http) async fn delete(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.remove_webhook(&caller, &id)?;
    Ok(removal_response(&app, preferences.without_wait(), patience.wait(handle).await?, Webhook::from))
}

/// Ping a webhook
///
/// Sends an event of the type `ping` once and responds with what came back, whatever that was. Also while the webhook is
/// paused or disabled.
#[utoipa::path(
    post, path = "/webhooks/{id}/ping", operation_id = "pingWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    responses((status = 200, description = "What came back.", body = WebhookPing)),
)]
pub(in crate::http) async fn ping(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.ping_webhook(&caller, &id)?;
    let WriteReply { written, replayed } = patience.wait(handle).await?;
    let (WriteResult::Created(result) | WriteResult::Existing(result) | WriteResult::Pending(result)) = written;
    let response = Json(WebhookPing::from(result)).into_response();
    Ok(AuditInfo::default().on(with_write_headers(&app, preferences.without_wait(), replayed, None, response)))
}

/// Rotate a webhook's secret
///
/// Replaces the secret that signs the deliveries. For the time of `overlap` they are signed with the former one as well, so
/// that the receiver can change over at any moment of it. The response holds the new secret, as that to the creation does.
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate", operation_id = "rotateWebhookSecret", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    request_body(content = SecretRotation),
    responses((status = 200, description = "The webhook, with its new secret.", body = Webhook, example = json!(rotated_webhook_example()))),
)]
pub(in crate::http) async fn rotate(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience, body: Body(rotation) }: WriteRequest<Body<SecretRotation>>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.rotate_webhook_secret(&caller, &id, rotation)?;
    Ok(write_response(&app, preferences.without_wait(), patience.wait(handle).await?, Webhook::from))
}

/// Pause a webhook
///
/// Nothing is sent until it is resumed. It keeps its place: what happens meanwhile is delivered then.
#[utoipa::path(
    post, path = "/webhooks/{id}/pause", operation_id = "pauseWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    responses((status = 200, description = "The webhook, which is paused now.", body = Webhook)),
)]
pub(in crate::http) async fn pause(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.pause_webhook(&caller, &id)?;
    Ok(write_response(&app, preferences.without_wait(), patience.wait(handle).await?, Webhook::from))
}

/// Resume a webhook
///
/// Continues a paused, failing or disabled webhook at its place, at once. One event `webhook.gap` reports what retention
/// has removed meanwhile.
#[utoipa::path(
    post, path = "/webhooks/{id}/resume", operation_id = "resumeWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    responses((status = 200, description = "The webhook, which is enabled now.", body = Webhook)),
)]
pub(in crate::http) async fn resume(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.resume_webhook(&caller, &id)?;
    Ok(write_response(&app, preferences.without_wait(), patience.wait(handle).await?, Webhook::from))
}

/// Replay events to a webhook
///
/// Delivers kept events again, under the same `webhook-id`, as an operation of the kind `replay`: those whose deliveries have
/// failed or, with `only: all`, every one that passes the webhook's filters.
#[utoipa::path(
    post, path = "/webhooks/{id}/replay", operation_id = "replayWebhook", tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook's identifier.", example = "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75")),
    request_body(content = ReplayRequest),
    responses((status = 202, description = "The operation, of the kind `replay`; its progress appears at `Location`.", body = Operation)),
)]
pub(in crate::http) async fn replay(
    State(app): State<AppState>,
    Id(id): Id<WebhookId>,
    WriteRequest { caller, preferences, patience: _, body: Body(order) }: WriteRequest<Body<ReplayRequest>>,
) -> Result<Response, ApiError> {
    let accepted = app.gateway.replay_webhook(&caller, &id, order).await?;
    operation_response(&app, &caller, preferences, accepted).await
}
