//! Responses that several resources share: 201, 200 and 202 of a write, and pages of a list.

use axum::Json;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::domain::error::{Error, FieldError};
use crate::domain::ids::OperationId;
use crate::http::app_state::AppState;
use crate::http::extract::idempotency::{REPLAYED, TRUE};
use crate::http::extract::prefer::{PREFERENCE_APPLIED, Preferences};
use crate::http::middleware::audit::{AuditInfo, Auditable};
use crate::service::{WriteReply, WriteResult};

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
    let (path, noted) = (document.path(), AuditInfo::of(&document, status));
    let location = (status != StatusCode::OK).then_some(path.as_str());
    let response = with_write_headers(app, preferences, replayed, location, (status, Json(document)).into_response());
    noted.on(response)
}

/// Like [`write_response`], for a write that ends without a document; `pending` is the body while it is still running.
pub(super) fn no_content<D: Serialize + Auditable>(
    app: &AppState,
    preferences: Preferences,
    replayed: bool,
    pending: Option<D>,
) -> Response {
    match pending {
        None => AuditInfo::applied().on(with_write_headers(
            app,
            preferences,
            replayed,
            None,
            StatusCode::NO_CONTENT.into_response(),
        )),
        Some(document) => accepted_response(app, preferences, replayed, document),
    }
}

/// Builds the 202 response: the work continues, and `Location` is where to follow it.
pub(super) fn accepted_response<D: Serialize + Auditable>(
    app: &AppState,
    preferences: Preferences,
    replayed: bool,
    document: D,
) -> Response {
    let (path, noted) = (document.path(), AuditInfo::of(&document, StatusCode::ACCEPTED));
    let response = (StatusCode::ACCEPTED, Json(document)).into_response();
    noted.on(with_write_headers(app, preferences, replayed, Some(&path), response))
}

/// Converts an error from reading an accepted operation back: the operation itself was accepted and continues.
pub(super) fn into_accepted_error(fault: Error, id: &OperationId) -> Error {
    let detail = "The operation was accepted, but its progress cannot be read at the moment.";
    Error { detail: detail.to_owned(), ..fault.with_unknown_outcome() }.with_resource(format!("/operations/{id}"))
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

/// Cuts one page from a list held in memory, and returns it with the cursor of the next page.
///
/// # Errors
/// `validation_failed` for a cursor this function did not make.
pub(super) fn paginate<T>(all: Vec<T>, limit: usize, cursor: Option<&str>) -> Result<(Vec<T>, Option<String>), Error> {
    let start = cursor_position(cursor)?;
    let start = usize::try_from(start).ok().filter(|start| *start <= all.len()).ok_or_else(no_cursor)?;
    let end = (start + limit).min(all.len());
    let next = (end < all.len()).then(|| encode_cursor(end as u64));
    Ok((all.into_iter().skip(start).take(limit).collect(), next))
}

/// Returns the cursor of the page that begins at this position.
pub(super) fn encode_cursor(position: u64) -> String {
    BASE64URL_NOPAD.encode(format!("at:{position}").as_bytes())
}

/// Returns the position a cursor stands for; without a cursor, the beginning.
///
/// # Errors
/// `validation_failed` for a cursor that [`encode_cursor`] did not make.
pub(super) fn cursor_position(cursor: Option<&str>) -> Result<u64, Error> {
    let Some(cursor) = cursor else { return Ok(0) };
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).unwrap_or_default();
    let position = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_prefix("at:")?.parse().ok());
    position.ok_or_else(no_cursor)
}

fn no_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_make_up_the_list() {
        let all: Vec<usize> = (0..7).collect();
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let (items, next) = paginate(all.clone(), 3, cursor.as_deref()).unwrap();
            seen.extend(items);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn invalid_cursor_is_rejected() {
        for cursor in ["", "7", "YXQ6eA", "ä"] {
            assert!(paginate(vec![1], 1, Some(cursor)).is_err(), "{cursor}");
        }
    }
}
