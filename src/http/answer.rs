//! Answers that several resources give alike: 201, 200 and 202 of a write, and the parts of a list.

use axum::Json;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::prefer::{PREFERENCE_APPLIED, Preferences};
use super::state::App;
use crate::dispatch::Written;
use crate::domain::problem::{Fault, FieldFault};

/// Status, `Location` and body of a write that did not fail. `path` is that of the resource.
pub(super) fn written<T: Serialize>(
    app: &App,
    preferences: Preferences,
    written: Written<T>,
    path: impl Fn(&T) -> String,
) -> Response {
    let (status, document) = match written {
        Written::Created(document) => (StatusCode::CREATED, document),
        Written::Existing(document) => (StatusCode::OK, document),
        Written::Pending(document) => (StatusCode::ACCEPTED, document),
    };
    let location = (status != StatusCode::OK).then(|| path(&document));
    let mut response = (status, Json(document)).into_response();
    if let Some(path) = location {
        add_location(app, &mut response, &path);
    }
    add_applied(preferences, &mut response);
    response
}

/// As [`written`], for a write that ends without a document: `pending` is what is answered when it goes on.
pub(super) fn gone<T: Serialize>(app: &App, preferences: Preferences, pending: Option<(String, T)>) -> Response {
    let mut response = match pending {
        None => StatusCode::NO_CONTENT.into_response(),
        Some((path, document)) => {
            let mut response = (StatusCode::ACCEPTED, Json(document)).into_response();
            add_location(app, &mut response, &path);
            response
        }
    };
    add_applied(preferences, &mut response);
    response
}

/// The same write with another document.
pub(super) fn map_written<T, U>(written: Written<T>, into: impl FnOnce(T) -> U) -> Written<U> {
    match written {
        Written::Created(value) => Written::Created(into(value)),
        Written::Existing(value) => Written::Existing(into(value)),
        Written::Pending(value) => Written::Pending(into(value)),
    }
}

fn add_location(app: &App, response: &mut Response, path: &str) {
    if let Ok(location) = HeaderValue::from_str(&app.location(path)) {
        response.headers_mut().insert(LOCATION, location);
    }
}

/// Names the preferences that were honoured (RFC 7240 §3).
pub(super) fn add_applied(preferences: Preferences, response: &mut Response) {
    let accepted = response.status() == StatusCode::ACCEPTED;
    if let Some(applied) = preferences.applied(accepted) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
}

/// A part of a list that is at hand as a whole, and the cursor of the next part.
///
/// # Errors
/// `validation_failed` for a cursor that this function did not make.
pub(super) fn part<T>(all: Vec<T>, limit: usize, cursor: Option<&str>) -> Result<(Vec<T>, Option<String>), Fault> {
    let start = cursor.map_or(Some(0), position).filter(|start| *start <= all.len());
    let Some(start) = start else {
        return Err(Fault::of_fields(vec![FieldFault::invalid("?cursor", "is not a cursor of this list")]));
    };
    let end = (start + limit).min(all.len());
    let next = (end < all.len()).then(|| BASE64URL_NOPAD.encode(format!("at:{end}").as_bytes()));
    Ok((all.into_iter().skip(start).take(limit).collect(), next))
}

fn position(cursor: &str) -> Option<usize> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("at:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_list() {
        let all: Vec<usize> = (0..7).collect();
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let (items, next) = part(all.clone(), 3, cursor.as_deref()).unwrap();
            seen.extend(items);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_made_up_cursor_is_a_fault() {
        for cursor in ["", "7", "YXQ6eA", "ä"] {
            assert!(part(vec![1], 1, Some(cursor)).is_err(), "{cursor}");
        }
    }
}
