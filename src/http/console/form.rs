//! Reads posted forms, urlencoded or multipart, within limits of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::http::console::api::ConsoleError;
use crate::http::console::visit::{Form, Upload};

/// Maximum size of a form, its files included, in bytes.
pub(in crate::http::console) const MAX_FORM: usize = 8 << 20;
/// As [`MAX_FORM`], of a form without files.
pub(in crate::http::console) const MAX_PLAIN_FORM: usize = 512 << 10;
/// Maximum number of fields.
const MAX_FIELDS: usize = 10_000;
/// How long a form may take to arrive.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Reads the form of a request.
///
/// # Errors
/// It is too large, too slow or no form.
pub(in crate::http::console) async fn read(parts: &Parts, body: Body, most: usize) -> Result<Form, ConsoleError> {
    let media_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/x-www-form-urlencoded" => Ok(urlencoded(&whole(body, most).await?)),
        "multipart/form-data" => multipart(parts, whole(body, most).await?).await,
        // Without a body it is a form without fields, which lacks the token.
        "" => Ok(Form::default()),
        _ => Err(ConsoleError::Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "It was not sent as a form.")),
    }
}

async fn whole(body: Body, most: usize) -> Result<Bytes, ConsoleError> {
    let collected = tokio::time::timeout(TIMEOUT, Limited::new(body, most).collect()).await;
    let collected = collected.map_err(|_| ConsoleError::Refused(StatusCode::REQUEST_TIMEOUT, "It took too long."))?;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            ConsoleError::Refused(StatusCode::PAYLOAD_TOO_LARGE, "It is too large.")
        } else {
            ConsoleError::Refused(StatusCode::BAD_REQUEST, "It arrived incomplete.")
        }
    })
}

fn urlencoded(bytes: &[u8]) -> Form {
    Form { fields: url::form_urlencoded::parse(bytes).into_owned().take(MAX_FIELDS).collect(), uploads: Vec::new() }
}

async fn multipart(parts: &Parts, bytes: Bytes) -> Result<Form, ConsoleError> {
    let malformed = || ConsoleError::Refused(StatusCode::BAD_REQUEST, "It is malformed.");
    let mut request = Request::new(Body::from(bytes));
    request.headers_mut().extend(parts.headers.get(CONTENT_TYPE).map(|value| (CONTENT_TYPE, value.clone())));
    // The form was read within its own limit.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|_| malformed())?;
    let mut form = Form::default();
    while let Some(field) = multipart.next_field().await.map_err(|_| malformed())? {
        if form.fields.len() + form.uploads.len() >= MAX_FIELDS {
            return Err(malformed());
        }
        let name = field.name().unwrap_or_default().to_owned();
        match field.file_name().map(str::to_owned) {
            Some(file_name) => {
                let bytes = field.bytes().await.map_err(|_| malformed())?;
                form.uploads.push((name, Upload { file_name, bytes }));
            }
            None => form.fields.push((name, field.text().await.map_err(|_| malformed())?)),
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn form(media_type: &str, body: &'static str, most: usize) -> Result<Form, ConsoleError> {
        let (parts, ()) = Request::builder().header(CONTENT_TYPE, media_type).body(()).unwrap().into_parts();
        read(&parts, Body::from(body), most).await
    }

    #[tokio::test]
    async fn both_encodings_give_the_fields() {
        let form_of = form("application/x-www-form-urlencoded; charset=utf-8", "a=1+%C3%A4&b=&a=2", 100).await.unwrap();
        assert_eq!((form_of.field("a"), form_of.field("b"), form_of.field("c")), ("1 ä", "", ""));
        let body = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 ä\r\n--x\r\nContent-Disposition: \
                    form-data; name=\"f\"; filename=\"p.csv\"\r\nContent-Type: text/csv\r\n\r\ni;n\r\n--x--\r\n";
        let form_of = form("multipart/form-data; boundary=x", body, 1000).await.unwrap();
        assert_eq!(form_of.field("a"), "1 ä");
        let (name, upload) = &form_of.uploads[0];
        assert_eq!((name.as_str(), upload.file_name.as_str(), &upload.bytes[..]), ("f", "p.csv", &b"i;n"[..]));
    }

    #[tokio::test]
    async fn what_is_too_large_or_no_form_is_refused() {
        let status = |result: Result<Form, ConsoleError>| match result {
            Err(ConsoleError::Refused(status, _)) => status.as_u16(),
            other => panic!("{other:?}"),
        };
        assert_eq!(status(form("application/x-www-form-urlencoded", "a=12345", 6).await), 413);
        assert_eq!(status(form("application/json", "{}", 6).await), 415);
        assert_eq!(status(form("multipart/form-data; boundary=x", "--y--", 100).await), 400);
    }
}
