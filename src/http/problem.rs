//! Problem documents as callers see them (RFC 9457): the one table from code to status, the document and its rendering.
//!
//! Handlers return an [`ApiError`]; `middleware::exchange` renders the document once, where the request id is
//! known.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use self::example::example_error;
pub(super) use self::status::always_has_retry_after;
pub use self::status::status;
use crate::domain::error::{Code, ConnectionRef, Error, FieldError, PartialResult, Responsibility, VendorResponse};
use crate::domain::outcome::Outcome;
use crate::http::auth::challenge;
use crate::http::exchange_context::ExchangeContext;
use crate::http::pagination::encode_cursor;

mod example;
mod status;

/// Media type of every response that is not a success.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Maximum number of entries in `errors`: enough for any request a person can correct, and it keeps the response from
/// growing much larger than its request.
const MAX_ERRORS: usize = 200;

/// A failed request: what went wrong, who must act and what is known about the write.
///
/// Act on `code`, `outcome` and `retryable`; `title`, `detail` and `message` are for people and may change.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(problem_example))]
pub struct Problem {
    /// `/problems/<code>`: identifies the kind of problem; `GET` it for its meaning and who must act.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    pub kind: String,
    /// The kind of problem in one sentence, the same for every occurrence.
    pub title: String,
    /// The HTTP status of the response.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What went wrong in this occurrence.
    pub detail: String,
    /// Identifies this occurrence.
    #[schema(format = "uri-reference")]
    pub instance: String,
    /// The code to act on. New codes may be added.
    pub code: String,
    /// Who must act.
    pub origin: Responsibility,
    /// Whether the same request can succeed later without any change. If the outcome is `unknown`, retry only with the
    /// same `Idempotency-Key`.
    pub retryable: bool,
    /// What is known about the write.
    pub outcome: Outcome,
    /// Where the final state will appear; present when the outcome is `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri-reference")]
    pub resource: Option<String>,
    /// The request id, as in `X-Request-Id`.
    pub request_id: String,
    /// The vendor's response, if a vendor was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<ProblemVendor>,
    /// Every invalid field, at most 200.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The outcome of each vendor call, if the request took several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<PartialResult>,
    /// The `index` of the earlier row that this row repeats, if the problem is `duplicate_item`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<u64>,
    /// A cursor of `GET /events` before the oldest event that is kept, if the problem is `cursor_expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
}

/// The vendor's response, for use when contacting the vendor. Secrets are masked.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemVendor {
    /// The connection concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The kind of vendor behind the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The write kind or query sent to the vendor, in the gateway's terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The HTTP status of the vendor's response; `null` if there was no response.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// The vendor's own code; `null` if it gave none.
    #[schema(required = true)]
    pub code: Option<String>,
    /// The vendor's own message, at most 300 characters; `null` if it gave none.
    #[schema(required = true)]
    pub message: Option<String>,
}

impl Problem {
    /// Builds the document for this error in this request.
    #[must_use]
    pub(super) fn of(error: &Error, context: &ExchangeContext) -> Self {
        let LastProblem { kind, title, status, detail, instance, code, origin, retryable, outcome, vendor, errors } =
            error.into();
        Self {
            kind,
            title,
            status,
            detail,
            instance: instance.unwrap_or_else(|| format!("/exchanges/{}", context.exchange.id())),
            code,
            origin,
            retryable,
            outcome,
            resource: error.resource.clone(),
            request_id: context.exchange.request_id().to_owned(),
            vendor,
            errors,
            chunks: error.chunks.clone(),
            duplicate_of: error.duplicate_of,
            oldest: error.oldest.map(|oldest| encode_cursor(oldest.saturating_sub(1))),
        }
    }

    /// Builds an example document for this code.
    pub(super) fn example(code: Code) -> Value {
        serde_json::to_value(Self::of(&example_error(code), &ExchangeContext::example())).unwrap_or_default()
    }
}

fn problem_example() -> Value {
    Problem::example(Code::VendorTimeout)
}

/// Why the last write to a record failed or has an unknown outcome. Kept until the next write.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastProblem {
    /// `/problems/<code>`: identifies the kind of problem; `GET` it for its meaning and who must act.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    pub kind: String,
    /// The kind of problem in one sentence, the same for every occurrence.
    pub title: String,
    /// The HTTP status the write failed with, or would have failed with.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What went wrong in this occurrence.
    pub detail: String,
    /// The exchange that holds the vendor call, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri-reference")]
    pub instance: Option<String>,
    /// The code to act on. New codes may be added.
    pub code: String,
    /// Who must act.
    pub origin: Responsibility,
    /// Whether the same request can succeed later without any change.
    pub retryable: bool,
    /// What is known about the write.
    pub outcome: Outcome,
    /// The vendor's response, if a vendor was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<ProblemVendor>,
    /// Every invalid field, at most 200.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl From<&Error> for LastProblem {
    fn from(error: &Error) -> Self {
        let code = error.code;
        Self {
            kind: format!("/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: status(code).as_u16(),
            detail: error.detail.clone(),
            instance: error.exchange.as_ref().map(|exchange| format!("/exchanges/{exchange}")),
            code: code.as_str().to_owned(),
            origin: code.origin(),
            retryable: code.retryable(),
            outcome: error.outcome,
            vendor: ProblemVendor::of(error.connection.as_ref(), error.vendor.as_ref()),
            errors: error.errors.iter().take(MAX_ERRORS).cloned().collect(),
        }
    }
}

impl ProblemVendor {
    /// Describes the vendor an error is about, if it is about one.
    fn of(connection: Option<&ConnectionRef>, response: Option<&VendorResponse>) -> Option<Self> {
        if connection.is_none() && response.is_none() {
            return None;
        }
        let (connection, vendor) = connection.map(|name| (name.connection.clone(), name.vendor.clone())).unzip();
        let VendorResponse { operation, http_status, code, message } = response.cloned().unwrap_or_default();
        let operation = Some(operation).filter(|operation| !operation.is_empty());
        Some(Self { connection, vendor, operation, http_status, code, message })
    }
}

/// The error a handler returns; the response becomes a problem document.
#[derive(Debug)]
pub(super) struct ApiError(Box<Error>);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

impl ApiError {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Error::new(code, detail).into()
    }
}

/// An error on its way to the renderer, in the response's extensions.
#[derive(Clone)]
struct PendingProblem(Box<Error>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = status(self.0.code).into_response();
        response.extensions_mut().insert(PendingProblem(self.0));
        response
    }
}

/// Returns the error a response carries before it is rendered.
pub(super) fn pending_error(response: &Response) -> Option<&Error> {
    response.extensions().get::<PendingProblem>().map(|unrendered| &*unrendered.0)
}

/// The problem code of a response, for the access log; kept in the response's extensions.
#[derive(Clone, Copy)]
pub(super) struct ProblemCode(pub(super) Code);

/// How long a refused request has to wait, more precisely than `Retry-After` says it; kept in the response's extensions.
#[derive(Clone, Copy)]
pub(super) struct RetryWait(pub(super) Duration);

/// Renders the problem document of a failed request, with the headers and extensions of the response so far; passes
/// every other response through unchanged.
pub(super) fn render(mut response: Response, context: &ExchangeContext) -> Response {
    let Some(PendingProblem(error)) = response.extensions_mut().remove::<PendingProblem>() else { return response };
    if error.code == Code::Internal {
        tracing::error!(request_id = context.exchange.request_id(), detail = error.detail, "internal error");
    }
    let mut problem = axum::Json(Problem::of(&error, context)).into_response();
    *problem.status_mut() = status(error.code);
    *problem.extensions_mut() = std::mem::take(response.extensions_mut());
    problem.extensions_mut().insert(ProblemCode(error.code));
    if let Some(wait) = error.retry_after {
        problem.extensions_mut().insert(RetryWait(wait));
    }
    let headers = problem.headers_mut();
    // Keep headers that layers above the handler set, `Allow` above all.
    headers.extend(
        response.headers().iter().filter(|(name, _)| *name != "content-length").map(|(n, v)| (n.clone(), v.clone())),
    );
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = wait_seconds(&error) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code == Code::Unauthenticated {
        headers.entry(WWW_AUTHENTICATE).or_insert_with(|| challenge::unauthenticated(false));
    }
    problem
}

/// Whole seconds, rounded up and never 0: a caller must not come back too early.
fn wait_seconds(error: &Error) -> Option<u64> {
    let default = always_has_retry_after(error.code).then_some(Duration::from_secs(1));
    let wait = error.retry_after.or(default)?;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Some(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    async fn answered(error: Error) -> (http::response::Parts, Value) {
        let context = ExchangeContext::example();
        let (parts, body) = render(ApiError::from(error).into_response(), &context).into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn unknown_outcome_names_resource_and_vendor() {
        let mut error = Error::unknown(Code::VendorTimeout, "No answer within 20 s.")
            .with_vendor_response(VendorResponse {
                operation: "assignments.create".to_owned(),
                ..VendorResponse::default()
            })
            .with_resource("/candidates/cand_1");
        error.connection =
            Some(ConnectionRef { connection: "startexam-main".to_owned(), vendor: "startexam".to_owned() });
        let (parts, body) = answered(error).await;
        assert_eq!(parts.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(parts.headers[CONTENT_TYPE], MEDIA_TYPE);
        let context = ExchangeContext::example();
        assert_eq!(
            body,
            json!({
                "type": "/problems/vendor_timeout",
                "title": "The exam vendor did not answer in time",
                "status": 504,
                "detail": "No answer within 20 s.",
                "instance": format!("/exchanges/{}", context.exchange.id()),
                "code": "vendor_timeout",
                "origin": "vendor",
                "retryable": true,
                "outcome": "unknown",
                "resource": "/candidates/cand_1",
                "requestId": context.exchange.request_id(),
                "vendor": {
                    "connection": "startexam-main", "vendor": "startexam", "operation": "assignments.create",
                    "httpStatus": null, "code": null, "message": null,
                },
            })
        );
    }

    #[tokio::test]
    async fn empty_fields_are_omitted() {
        let (_, body) = answered(Error::new(Code::NotFound, "x")).await;
        for member in ["resource", "vendor", "errors", "chunks", "duplicateOf"] {
            assert!(body.get(member).is_none(), "{member}");
        }
        assert_eq!(body["outcome"], "not_applied");
    }

    #[tokio::test]
    async fn retry_after_is_rounded_up_and_never_zero() {
        for (wait, header) in [
            (Some(Duration::ZERO), "1"),
            (Some(Duration::from_millis(1)), "1"),
            (Some(Duration::from_millis(1001)), "2"),
            (None, "1"),
        ] {
            let (parts, _) = answered(Error::new(Code::Overloaded, "x").with_retry_after(wait)).await;
            assert_eq!(parts.headers[RETRY_AFTER], header, "{wait:?}");
        }
        let (parts, body) =
            answered(Error::unknown(Code::StoreUnavailable, "x").with_resource("/operations/op_1")).await;
        assert_eq!(
            (&parts.headers[RETRY_AFTER], &body["resource"]),
            (&"1".parse().unwrap(), &json!("/operations/op_1"))
        );
        let (parts, _) = answered(Error::unknown(Code::VendorUnavailable, "x")).await;
        assert!(!parts.headers.contains_key(RETRY_AFTER), "only if the error sets it");
    }

    #[tokio::test]
    async fn missing_credentials_yield_a_challenge() {
        let (parts, _) = answered(Error::new(Code::Unauthenticated, "x")).await;
        assert_eq!(parts.headers[WWW_AUTHENTICATE], "Bearer realm=\"examgate\"");
    }

    #[test]
    fn status_and_origin_agree() {
        for code in Code::ALL {
            let status = status(*code);
            match code.origin() {
                Responsibility::Request if *code == Code::Skipped => assert_eq!(status, StatusCode::FAILED_DEPENDENCY),
                Responsibility::Request => assert!(status.is_client_error(), "{code:?}"),
                Responsibility::Vendor | Responsibility::Gateway => assert!(status.is_server_error(), "{code:?}"),
                Responsibility::Connection => assert!([409, 424].contains(&status.as_u16()), "{code:?}"),
            }
        }
    }

    #[tokio::test]
    async fn the_list_of_errors_is_bounded() {
        let errors = (0..5000).map(|index| FieldError::invalid(format!("/{index}"), "x")).collect();
        let (_, body) = answered(Error::from_fields(errors)).await;
        assert_eq!(body["errors"].as_array().unwrap().len(), MAX_ERRORS);
    }
}
