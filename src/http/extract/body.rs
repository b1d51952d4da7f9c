//! Request bodies: decoded within limits of size and time, then read as strict JSON, then as the expected document. Bodies are
//! read only after authentication.

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use serde_json::{Map, Value};

use crate::domain::error::{Code, Error, FieldError};
use crate::http::app_state::{AppState, Limits};
use crate::http::extract::content_coding::{ContentCoding, DecodedBody};
use crate::http::extract::fingerprint;
use crate::http::extract::fingerprint::{BodyFormat, Fingerprint};
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::extract::strict_json::{ParseError, parse_strict};
use crate::http::extract::validate::{ApiInput, parse, parse_or_explain};
use crate::http::extract::write_request::WriteBody;
use crate::http::problem::ApiError;
use crate::service::RequestContext;

const JSON: &[&str] = &["application/json"];
const JSON_OR_PATCH: &[&str] = &["application/json", "application/merge-patch+json"];

/// The byte order mark in UTF-8.
pub(in crate::http) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Maximum number of JSON values in the body of a single request; the largest legitimate one (an enrolment) has about
/// 40,000.
const MAX_VALUES: usize = 100_000;

/// A checked document.
pub(in crate::http) struct Body<I: ApiInput>(pub(in crate::http) I::Checked);

/// A checked document that a request may leave out: no body is an empty object.
pub(in crate::http) struct OptionalBody<I: ApiInput>(pub(in crate::http) I::Checked);

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
        let uri = request.uri().clone();
        let tree = tree(request, app.terms.now().server.body_limit.0, JSON, app.limits).await?;
        let hash = fingerprint::hash(&tree);
        let checked = parse_or_explain::<I>(tree, |rest| {
            // Choose the reviewing vendor by the query's connection: a review by another vendor would report false
            // errors.
            let named = QueryParams::of(&uri).text("connection");
            let default_connection = named.or(caller.default_connection.clone());
            I::review(rest, &app.gateway, &RequestContext { default_connection, ..caller.clone() })
        })?;
        Ok((Self(checked), BodyFormat::Json, hash))
    }
}

impl<I: ApiInput> WriteBody for OptionalBody<I>
where
    I::Checked: Send,
{
    async fn read(
        request: Request,
        app: &AppState,
        caller: &RequestContext,
    ) -> Result<(Self, BodyFormat, Fingerprint), Error> {
        if request.body().is_end_stream() && !request.headers().contains_key(CONTENT_TYPE) {
            let nothing = Value::Object(Map::new());
            return Ok((Self(parse::<I>(&nothing)?), BodyFormat::Json, fingerprint::hash(&nothing)));
        }
        let (Body(checked), form, hash) = Body::<I>::read(request, app, caller).await?;
        Ok((Self(checked), form, hash))
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
    let bytes = collect(DecodedBody::new(request, limit, limits)?).await?;
    // RFC 8259 §8.1 lets a parser ignore the mark that some programs put before UTF-8 text.
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    parse_strict(text, MAX_VALUES).map_err(|refusal| match refusal {
        ParseError::Malformed(detail) => Error::new(Code::MalformedJson, detail),
        ParseError::TooMany(detail) => Error::new(Code::PayloadTooLarge, detail),
    })
}

/// Returns which of these media types the body has, in UTF-8 (RFC 8259 §8.1).
///
/// # Errors
/// `unsupported_media_type`, also for a content coding that is not supported.
pub(in crate::http) fn media_type<'a>(headers: &HeaderMap, accepted: &[&'a str]) -> Result<&'a str, Error> {
    // First, because a 415 names the supported codings if and only if the coding is at fault.
    ContentCoding::of(headers)?;
    let detail = format!("The body must be {} in UTF-8.", accepted.join(" or "));
    let refused = || Error::new(Code::UnsupportedMediaType, detail.clone());
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let mut parts = value.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(parameter, value)| {
        !parameter.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    let known = accepted.iter().find(|known| utf8 && name.eq_ignore_ascii_case(known));
    known.copied().ok_or_else(refused)
}

/// Reads a body to its end.
///
/// # Errors
/// As [`DecodedBody::next`].
pub(in crate::http) async fn collect(mut body: DecodedBody) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn checked(content_type: &'static str, coding: &'static str) -> Result<&'static str, Code> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        headers.insert("content-encoding", HeaderValue::from_static(coding));
        media_type(&headers, JSON).map_err(|error| error.code)
    }

    #[test]
    fn only_utf8_json_is_accepted() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\";x=y"] {
            assert_eq!(checked(good, "gzip"), Ok("application/json"), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonp", "application/json; charset=latin1", "application/*"] {
            assert_eq!(checked(bad, "identity"), Err(Code::UnsupportedMediaType), "{bad}");
        }
        assert_eq!(checked("application/json", "br"), Err(Code::UnsupportedMediaType));
    }
}
