//! Bodies of requests: read within limits of size and time, then as strict JSON, then as the document expected. A body is
//! only read after the caller was recognised.

use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::input::{Input, reviewed};
use super::json::{Refusal, strict};
use super::problem::Refused;
use super::request::Asking;
use super::state::{App, Limits};
use crate::domain::problem::{Code, Fault, FieldFault};

const JSON: &[&str] = &["application/json"];
const JSON_OR_PATCH: &[&str] = &["application/json", "application/merge-patch+json"];

/// Most JSON values in the body of a single request; the largest honest one (an enrolment) has about 40,000.
const MOST_VALUES: usize = 100_000;
/// Most JSON values in the body of a bulk.
const MOST_BULK_VALUES: usize = 2_000_000;

/// A checked document.
pub(super) struct Body<I: Input>(pub(super) I::Checked);

/// A merge patch (RFC 7396) of an object.
pub(super) struct PatchBody(pub(super) Map<String, Value>);

/// The object of a bulk, not read any further.
pub(super) struct BulkBody(pub(super) Map<String, Value>);

impl<I: Input> FromRequest<App> for Body<I>
where
    I::Checked: Send,
{
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let Asking(caller) = Asking::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let tree = tree(request, app.server.body_limit.0, JSON, MOST_VALUES, app.limits).await?;
        Ok(Self(reviewed::<I>(tree, |rest| I::review(rest, &app.gateway, &caller))?))
    }
}

impl FromRequest<App> for PatchBody {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refused> {
        let tree = tree(request, app.server.body_limit.0, JSON_OR_PATCH, MOST_VALUES, app.limits).await?;
        Ok(Self(object(tree)?))
    }
}

impl FromRequest<App> for BulkBody {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refused> {
        let tree = tree(request, app.server.bulk_body_limit.0, JSON, MOST_BULK_VALUES, app.limits).await?;
        Ok(Self(object(tree)?))
    }
}

fn object(tree: Value) -> Result<Map<String, Value>, Fault> {
    match tree {
        Value::Object(members) => Ok(members),
        _ => Err(Fault::of_fields(vec![FieldFault::invalid("", "must be an object")])),
    }
}

async fn tree(
    request: Request,
    limit: u64,
    media_types: &[&str],
    most_values: usize,
    limits: Limits,
) -> Result<Value, Fault> {
    check_media_type(request.headers(), media_types)?;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let bytes = collected(request.into_body(), limit, limits).await?;
    strict(&bytes, most_values).map_err(|refusal| match refusal {
        Refusal::Malformed(detail) => Fault::new(Code::MalformedJson, detail),
        Refusal::TooMany(detail) => Fault::new(Code::PayloadTooLarge, detail),
    })
}

/// One of these media types, in UTF-8 (RFC 8259 §8.1) and not compressed.
fn check_media_type(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Fault> {
    let detail = format!("The body must be {} in UTF-8, not compressed.", accepted.join(" or "));
    let refused = || Fault::new(Code::UnsupportedMediaType, detail.clone());
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| !plain(encoding)) {
        return Err(refused());
    }
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let mut parts = value.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let known = accepted.iter().any(|known| name.eq_ignore_ascii_case(known));
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(parameter, value)| {
        !parameter.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if known && utf8 { Ok(()) } else { Err(refused()) }
}

/// The whole body. It may be slow only as long as it keeps up a rate, so that nobody can hold a request open for ever.
async fn collected(mut body: HttpBody, limit: u64, limits: Limits) -> Result<Bytes, Fault> {
    let started = Instant::now();
    let mut bytes = BytesMut::new();
    loop {
        let earned = Duration::from_secs(bytes.len() as u64 / u64::from(limits.body_rate.max(1)));
        let deadline = started + limits.body_allowance + earned;
        let Ok(frame) = timeout_at(deadline, body.frame()).await else {
            let detail = "The body did not arrive in time; what came of it was not used.";
            return Err(Fault::new(Code::MalformedJson, detail));
        };
        let Some(frame) = frame else { return Ok(bytes.freeze()) };
        let frame = frame.map_err(|_| Fault::new(Code::MalformedJson, "The body broke off."))?;
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&data);
    }
}

fn too_large(limit: u64) -> Fault {
    Fault::new(Code::PayloadTooLarge, format!("The body is larger than {limit} bytes."))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn checked(name: http::HeaderName, value: &'static str) -> Result<(), Code> {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        check_media_type(&headers, JSON).map_err(|fault| fault.code)
    }

    #[test]
    fn only_plain_json_is_read() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\";x=y"] {
            assert_eq!(checked(CONTENT_TYPE, good), Ok(()), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonp", "application/json; charset=latin1", "application/*"] {
            assert_eq!(checked(CONTENT_TYPE, bad), Err(Code::UnsupportedMediaType), "{bad}");
        }
        assert_eq!(checked(CONTENT_ENCODING, "gzip"), Err(Code::UnsupportedMediaType));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let body = HttpBody::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let fault = collected(body, 10, Limits::default()).await.unwrap_err();
        assert_eq!(fault.code, Code::MalformedJson);
        assert!(fault.detail.contains("in time"));
    }

    #[tokio::test]
    async fn a_body_without_length_is_bounded_too() {
        let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64])));
        let fault = collected(HttpBody::from_stream(chunks), 1000, Limits::default()).await.unwrap_err();
        assert_eq!(fault.code, Code::PayloadTooLarge);
    }

    #[tokio::test]
    async fn a_body_of_just_the_limit_is_read() {
        assert_eq!(collected(HttpBody::from("12345"), 5, Limits::default()).await.unwrap(), "12345");
        assert!(collected(HttpBody::from("123456"), 5, Limits::default()).await.is_err());
    }
}
