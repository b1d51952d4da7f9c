//! `/client`: the caller itself.

use std::sync::Arc;

use axum::{Extension, Json};

use crate::http::auth::Permissions;
use crate::http::dto::client::Client;
use crate::http::extract::request_parts::AuthenticatedCaller;

/// Read the client
///
/// Which client the request's credentials belong to, and what they permit. Ask it before a long task to find out whether
/// a scope is missing.
#[utoipa::path(
    get, path = "/client", operation_id = "getClient", tag = "Client",
    responses((status = 200, description = "The client that sent the request.", body = Client)),
)]
pub(in crate::http) async fn current(
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Extension(Permissions { scopes, key }): Extension<Permissions>,
) -> Json<Client> {
    Json(Client::new(Arc::unwrap_or_clone(caller), &scopes, key))
}
