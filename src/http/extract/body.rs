//! Request bodies: read within limits of size and time, then as strict JSON, then as the expected document. Bodies are
//! read only after authentication.

use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use crate::domain::error::{Code, Error, FieldError};
use crate::http::app_state::{AppState, Limits};
use crate::http::extract::fingerprint;
use crate::http::extract::fingerprint::{BodyFormat, Fingerprint};
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::extract::strict_json::{ParseError, parse_strict};
use crate::http::extract::validate::{ApiInput, parse_or_explain};
use crate::http::extract::write_request::WriteBody;
use crate::http::problem::ApiError;
use crate::service::RequestContext;

const JSON: &[&str] = &["application/json"];
const JSON_OR_PATCH: &[&str] = &["application/json", "application/merge-patch+json"];

/// Maximum number of JSON values in the body of a single request; the largest legitimate one (an enrolment) has about
/// 40,000.
const MAX_VALUES: usize = 100_000;

/// A checked document.
pub(in crate::http) struct Body<I: ApiInput>(pub(in crate::http) I::Checked);

/// A merge patch (RFC 7396) of an object.
pub(in crate::http) struct MergePatch(pub(in crate::http) Map<String, Value>);

/// The body of a write that is fully described by its path. Any body sent is ignored unread.
pub(in crate::http) struct EmptyBody;

impl<I: ApiInput> FromRequest<AppState> for Body<I>
where
    I::Checked: Send,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let AuthenticatedCaller(caller) = AuthenticatedCaller::from_request_parts(&mut parts, app).await?;
        let (body, ..) = Self::read(Request::from_parts(parts, body), app, &caller).await?;
        Ok(body)
    }
}

impl<I: ApiInput> WriteBody for Body<I>
where
    I::Checked: Send,
{
    async fn read(
        request: Request,
        app: &AppState,
        caller: &RequestContext,
    ) -> Result<(Self, BodyFormat, Fingerprint), Error> {
        // Choose the reviewing vendor by the query's connection: a review by another vendor would report false
        // errors.
        let named = QueryParams::of(request.uri()).text("connection");
        let caller =
            RequestContext { default_connection: named.or(caller.default_connection.clone()), ..caller.clone() };
        let tree = tree(request, app.terms.now().server.body_limit.0, JSON, app.limits).await?;
        let hash = fingerprint::hash(&tree);
        let checked = parse_or_explain::<I>(tree, |rest| I::review(rest, &app.gateway, &caller))?;
        Ok((Self(checked), BodyFormat::Json, hash))
    }
}

impl WriteBody for MergePatch {
    async fn read(
        request: Request,
        app: &AppState,
        _: &RequestContext,
    ) -> Result<(Self, BodyFormat, Fingerprint), Error> {
        let tree = tree(request, app.terms.now().server.body_limit.0, JSON_OR_PATCH, app.limits).await?;
        let hash = fingerprint::hash(&tree);
        Ok((Self(object(tree)?), BodyFormat::Json, hash))
    }
}

impl WriteBody for EmptyBody {
    async fn read(_: Request, _: &AppState, _: &RequestContext) -> Result<(Self, BodyFormat, Fingerprint), Error> {
        Ok((Self, BodyFormat::Empty, Fingerprint::default()))
    }
}

fn object(tree: Value) -> Result<Map<String, Value>, Error> {
    match tree {
        Value::Object(members) => Ok(members),
        _ => Err(Error::from_fields(vec![FieldError::invalid("", "must be an object")])),
    }
}

async fn tree(request: Request, limit: u64, media_types: &[&str], limits: Limits) -> Result<Value, Error> {
    media_type(request.headers(), media_types)?;
    let bytes = collect(MinRateBody::new(request, limit, limits)?).await?;
    parse_strict(&bytes, MAX_VALUES).map_err(|refusal| match refusal {
        ParseError::Malformed(detail) => Error::new(Code::MalformedJson, detail),
        ParseError::TooMany(detail) => Error::new(Code::PayloadTooLarge, detail),
    })
}

/// Returns which of these media types the body has, in UTF-8 (RFC 8259 §8.1) and uncompressed.
///
/// # Errors
/// `unsupported_media_type`.
pub(in crate::http) fn media_type<'a>(headers: &HeaderMap, accepted: &[&'a str]) -> Result<&'a str, Error> {
    let detail = format!("The body must be {} in UTF-8, not compressed.", accepted.join(" or "));
    let refused = || Error::new(Code::UnsupportedMediaType, detail.clone());
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| !plain(encoding)) {
        return Err(refused());
    }
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let mut parts = value.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(parameter, value)| {
        !parameter.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    let known = accepted.iter().find(|known| utf8 && name.eq_ignore_ascii_case(known));
    known.copied().ok_or_else(refused)
}

/// A body as it arrives, limited in size. It may be slow only while it keeps up a minimum rate, so that a caller cannot
/// hold a request open for ever. Only time spent waiting for the caller counts, not time spent processing.
pub(in crate::http) struct MinRateBody {
    body: HttpBody,
    limit: u64,
    limits: Limits,
    come: u64,
    waited: Duration,
}

impl MinRateBody {
    /// Takes the body of this request.
    ///
    /// # Errors
    /// `payload_too_large` if `Content-Length` already exceeds the limit.
    pub(in crate::http) fn new(request: Request, limit: u64, limits: Limits) -> Result<Self, Error> {
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        Ok(Self { body: request.into_body(), limit, limits, come: 0, waited: Duration::ZERO })
    }

    /// Returns the next chunk; `None` at the end.
    ///
    /// # Errors
    /// `payload_too_large`; `malformed_json` for a body that ends unexpectedly or is too slow.
    pub(in crate::http) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let earned = Duration::from_secs(self.come / u64::from(self.limits.body_rate.max(1)));
            let patience = (self.limits.body_allowance + earned).saturating_sub(self.waited);
            let started = Instant::now();
            let frame = timeout(patience, self.body.frame()).await;
            self.waited += started.elapsed();
            let Ok(frame) = frame else {
                let detail = "The body did not arrive in time; it was discarded.";
                return Err(Error::new(Code::MalformedJson, detail));
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Error::new(Code::MalformedJson, "The body ended unexpectedly."))?;
            let Ok(data) = frame.into_data() else { continue };
            self.come += data.len() as u64;
            if self.come > self.limit {
                return Err(too_large(self.limit));
            }
            return Ok(Some(data));
        }
    }
}

async fn collect(mut body: MinRateBody) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn too_large(limit: u64) -> Error {
    Error::new(Code::PayloadTooLarge, format!("The body is larger than {limit} bytes."))
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    fn checked(name: http::HeaderName, value: &'static str) -> Result<&'static str, Code> {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        media_type(&headers, JSON).map_err(|error| error.code)
    }

    fn min_rate_body(body: HttpBody, limit: u64) -> MinRateBody {
        MinRateBody::new(Request::new(body), limit, Limits::default()).unwrap()
    }

    #[test]
    fn only_uncompressed_utf8_json_is_accepted() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\";x=y"] {
            assert_eq!(checked(CONTENT_TYPE, good), Ok("application/json"), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonp", "application/json; charset=latin1", "application/*"] {
            assert_eq!(checked(CONTENT_TYPE, bad), Err(Code::UnsupportedMediaType), "{bad}");
        }
        assert_eq!(checked(CONTENT_ENCODING, "gzip"), Err(Code::UnsupportedMediaType));
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_never_arrives_times_out() {
        let body = HttpBody::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let error = collect(min_rate_body(body, 10)).await.unwrap_err();
        assert_eq!(error.code, Code::MalformedJson);
        assert!(error.detail.contains("in time"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_time_waiting_for_the_caller_counts() {
        let pieces = stream::iter([b"x"; 3]).map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)));
        let mut body = min_rate_body(HttpBody::from_stream(pieces), 10);
        for _ in 0..3 {
            assert_eq!(body.next().await.unwrap().unwrap(), "x");
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        assert_eq!(body.next().await, Ok(None));
    }

    #[tokio::test]
    async fn body_without_length_is_limited_too() {
        let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64])));
        let error = collect(min_rate_body(HttpBody::from_stream(chunks), 1000)).await.unwrap_err();
        assert_eq!(error.code, Code::PayloadTooLarge);
    }

    #[tokio::test]
    async fn body_of_exactly_the_limit_is_read() {
        assert_eq!(collect(min_rate_body(HttpBody::from("12345"), 5)).await.unwrap(), "12345");
        assert!(collect(min_rate_body(HttpBody::from("123456"), 5)).await.is_err());
    }
}
