//! Responses to a write that several resources share: 201, 200, 202 and 204.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::domain::error::Error;
use crate::domain::ids::OperationId;
use crate::http::app_state::AppState;
use crate::http::audit_info::{AuditInfo, Auditable};
use crate::http::extract::idempotency::{REPLAYED, TRUE};
use crate::http::extract::prefer::{PREFERENCE_APPLIED, Preferences};
use crate::service::{Removal, WriteReply, WriteResult};

/// Builds status, `Location` and body of a write that did not fail.
pub(super) fn write_response<T, D: Serialize + Auditable>(
    app: &AppState,
    preferences: Preferences,
    reply: WriteReply<T>,
    document: impl FnOnce(T) -> D,
) -> Response {
    let WriteReply { written, replayed } = reply;
    let (status, record) = match written {
        WriteResult::Created(record) => (StatusCode::CREATED, record),
        WriteResult::Existing(record) => (StatusCode::OK, record),
        WriteResult::Pending(record) => (StatusCode::ACCEPTED, record),
    };
    let document = document(record);
    let audit_info = AuditInfo::of(&document, status);
    let location = audit_info.object.as_deref().filter(|_| status != StatusCode::OK);
    let response = with_write_headers(app, preferences, replayed, location, (status, Json(document)).into_response());
    audit_info.on(response)
}

/// Like [`write_response`], for a write that ends without a document; `document` is the body while it is still running.
pub(super) fn removal_response<T, D: Serialize + Auditable>(
    app: &AppState,
    preferences: Preferences,
    reply: WriteReply<Removal<T>>,
    document: impl FnOnce(T) -> D,
) -> Response {
    let WriteReply { written, replayed } = reply;
    let (WriteResult::Created(removal) | WriteResult::Existing(removal) | WriteResult::Pending(removal)) = written;
    match removal {
        Removal::Pending(record) => accepted_response(app, preferences, replayed, document(*record)),
        Removal::Done => {
            let response = StatusCode::NO_CONTENT.into_response();
            AuditInfo::applied().on(with_write_headers(app, preferences, replayed, None, response))
        }
    }
}

/// Builds the 202 response: the work continues, and `Location` is where to follow it.
pub(super) fn accepted_response<D: Serialize + Auditable>(
    app: &AppState,
    preferences: Preferences,
    replayed: bool,
    document: D,
) -> Response {
    write_response(app, preferences, WriteReply { written: WriteResult::Pending(document), replayed }, |document| {
        document
    })
}

/// Converts an error from reading an accepted operation back: the operation itself was accepted and continues.
pub(super) fn into_accepted_error(error: Error, id: &OperationId) -> Error {
    let detail = "The operation was accepted, but its progress cannot be read at the moment.";
    Error { detail: detail.to_owned(), ..error.with_unknown_outcome() }.with_resource(format!("/operations/{id}"))
}

/// Builds the response to a write, with the headers for location, applied preferences and idempotent replay.
pub(super) fn with_write_headers(
    app: &AppState,
    preferences: Preferences,
    replayed: bool,
    location: Option<&str>,
    mut response: Response,
) -> Response {
    let location = location.and_then(|path| HeaderValue::from_str(&app.location(path)).ok());
    let applied = preferences.applied(response.status() == StatusCode::ACCEPTED);
    let headers = response.headers_mut();
    headers.extend(location.map(|location| (LOCATION, location)));
    headers.extend(applied.map(|applied| (PREFERENCE_APPLIED, applied)));
    headers.extend(replayed.then_some((REPLAYED, TRUE)));
    response
}
