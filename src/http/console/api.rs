//! The console's only way to data: calls of the API's own router within the process, with the credentials of the session.
//! Authentication, scopes, tenant, rate limit and audit are those of any other call.
//!
//! It must never read service or store.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;
use url::form_urlencoded::Serializer;

use crate::domain::scope::Scope;
use crate::http::console::pace::{Pace, wait_of};
use crate::http::exchange_context::{REQUEST_ID, UnkeptExchange};
use crate::http::problem::MEDIA_TYPE;
use crate::http::server::shutdown::ShutdownSignal;
use crate::telemetry::spans::{TRACEPARENT, TRACESTATE};

/// Maximum size of a response that is read whole, in bytes: far more than a page of any list.
const MAX_RESPONSE: usize = 64 << 20;
/// What stays as it is in a path segment: the unreserved characters (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The one read of the API that is a `POST`.
const SEARCH: &str = "/candidates/search";
/// The header of a write's key.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Percent-encodes a segment of a path.
pub(in crate::http::console) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Calls the API with the credentials of one session.
#[derive(Clone)]
pub(in crate::http::console) struct Api {
    router: Router,
    /// Headers of every call: the credentials, the request id of the page and its trace.
    headers: HeaderMap,
    stopping: ShutdownSignal,
    /// How fast the calls may follow each other.
    pace: Arc<Pace>,
    /// What became of the page's last write.
    written: Arc<Mutex<Option<WriteEnd>>>,
}

/// What became of a write, whatever becomes of its page.
#[derive(Debug, Clone)]
enum WriteEnd {
    /// No reply was read.
    Unclear,
    /// The API has accepted it, with this status.
    Accepted(StatusCode),
    Refused(Box<Problem>),
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct List<T> {
    pub(in crate::http::console) items: Vec<T>,
    pub(in crate::http::console) next_cursor: Option<String>,
}

/// A successful response of the API.
#[derive(Debug)]
pub(in crate::http::console) struct Reply {
    pub(in crate::http::console) status: StatusCode,
    /// The body; `null` if there is none.
    pub(in crate::http::console) json: Value,
}

impl Reply {
    /// Reads the document.
    ///
    /// # Errors
    /// It is not of this form.
    pub(in crate::http::console) fn read<T: DeserializeOwned>(self) -> Result<T, ConsoleError> {
        T::deserialize(self.json).map_err(|error| ConsoleError::of_json(&error))
    }
}

/// A problem document of the API, as far as pages show it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Problem {
    pub(in crate::http::console) status: u16,
    pub(in crate::http::console) code: String,
    pub(in crate::http::console) title: String,
    pub(in crate::http::console) detail: String,
    pub(in crate::http::console) outcome: String,
    pub(in crate::http::console) retryable: bool,
    pub(in crate::http::console) request_id: String,
    pub(in crate::http::console) instance: Option<String>,
    #[serde(default)]
    pub(in crate::http::console) errors: Vec<ProblemField>,
    pub(in crate::http::console) vendor: Option<ProblemVendor>,
    /// `Retry-After`, in seconds.
    #[serde(skip)]
    pub(in crate::http::console) retry_after: Option<String>,
}

impl Problem {
    /// Returns the id of the exchange that it is about.
    pub(in crate::http::console) fn exchange(&self) -> Option<&str> {
        self.instance.as_ref()?.strip_prefix("/exchanges/")
    }
}

/// An invalid field.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::http::console) struct ProblemField {
    pub(in crate::http::console) pointer: String,
    pub(in crate::http::console) detail: String,
}

/// What the vendor said.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct ProblemVendor {
    pub(in crate::http::console) connection: Option<String>,
    pub(in crate::http::console) http_status: Option<u16>,
    pub(in crate::http::console) code: Option<String>,
    pub(in crate::http::console) message: Option<String>,
}

/// Why a page cannot be shown.
#[derive(Debug, Clone)]
pub(in crate::http::console) enum ConsoleError {
    /// The API does not accept the credentials of the session any more.
    Ended,
    /// The API refused.
    Problem(Box<Problem>),
    /// The console itself refused, with this status, for this reason.
    Refused(StatusCode, &'static str),
    /// The page's scope is lacking.
    Scope(Scope),
    /// The API has accepted a write, and then its page could not be made.
    Unshown {
        /// The status of the page.
        status: StatusCode,
        /// The status of the API's reply to the write.
        write: StatusCode,
    },
    /// It is not known what became of a write.
    Unclear,
    /// The response of the API or a template has a form that the console does not know: a fault of the gateway.
    Internal(String),
}

impl ConsoleError {
    /// The text of the error itself may quote a value, and is for no log.
    fn of_json(error: &serde_json::Error) -> Self {
        Self::unreadable(&format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column()))
    }

    fn unreadable(error: &dyn std::fmt::Display) -> Self {
        Self::Internal(format!("a response of the API could not be read: {error}"))
    }
}

/// An error on its way to the guard, which renders its page; in the response's extensions.
#[derive(Clone)]
pub(in crate::http::console) struct PendingError(pub(in crate::http::console) ConsoleError);

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(PendingError(self));
        response
    }
}

/// A result of the API that a page can do without.
pub(in crate::http::console) trait Permitted<T> {
    /// Returns `None` if the client lacks the scope.
    ///
    /// # Errors
    /// Every other error.
    fn permitted(self) -> Result<Option<T>, ConsoleError>;
}

impl<T> Permitted<T> for Result<T, ConsoleError> {
    fn permitted(self) -> Result<Option<T>, ConsoleError> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(ConsoleError::Problem(problem)) if problem.code == "insufficient_scope" => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Api {
    /// Creates the caller of a page's request; `credentials` is the value of `Authorization`.
    pub(in crate::http::console) fn new(
        router: &Router,
        credentials: Option<HeaderValue>,
        page: &http::request::Parts,
        request_id: &str,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.extend(credentials.map(|credentials| (AUTHORIZATION, credentials)));
        headers.extend(HeaderValue::from_str(request_id).ok().map(|id| (REQUEST_ID, id)));
        for name in [TRACEPARENT, TRACESTATE] {
            headers.extend(page.headers.get(&name).map(|value| (name, value.clone())));
        }
        let (router, stopping) = (router.clone(), ShutdownSignal::of(page));
        Self { router, headers, stopping, pace: Arc::new(Pace::new()), written: Arc::default() }
    }

    /// Returns what the page of an error has to say: above all what became of the write, if there was one.
    pub(in crate::http::console) fn after_write(&self, error: ConsoleError) -> ConsoleError {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (written, error) {
            (Some(WriteEnd::Refused(problem)), _) => ConsoleError::Problem(problem),
            (Some(WriteEnd::Accepted(write)), ConsoleError::Problem(problem)) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                ConsoleError::Unshown { status, write }
            }
            (Some(WriteEnd::Accepted(write)), _) => {
                ConsoleError::Unshown { status: StatusCode::INTERNAL_SERVER_ERROR, write }
            }
            (Some(WriteEnd::Unclear), ConsoleError::Internal(detail)) => {
                tracing::error!(detail, "a page of the console failed");
                ConsoleError::Unclear
            }
            (Some(WriteEnd::Unclear) | None, error) => error,
        }
    }

    fn note_write(&self, end: WriteEnd) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ConsoleError> {
        self.send(Method::GET, path, None, None).await?.read()
    }

    /// Reads a resource; `None` if there is none.
    ///
    /// # Errors
    /// Every problem of the API but 404.
    pub(in crate::http::console) async fn find<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, ConsoleError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(ConsoleError::Problem(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a page of a list; leaves out parameters without a value.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<List<T>, ConsoleError> {
        let given = query.iter().filter(|(_, value)| !value.is_empty());
        let query = Serializer::new(String::new()).extend_pairs(given).finish();
        let query = if query.is_empty() { query } else { format!("?{query}") };
        self.get(&format!("{path}{query}")).await
    }

    /// Sends a `POST`.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn post(
        &self,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Reply, ConsoleError> {
        self.send(Method::POST, path, body, key).await
    }

    /// Sends a `PATCH`.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn patch(
        &self,
        path: &str,
        changes: &Value,
        key: Option<&str>,
    ) -> Result<Reply, ConsoleError> {
        self.send(Method::PATCH, path, Some(changes), key).await
    }

    /// Sends a `DELETE`.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn delete(&self, path: &str, key: Option<&str>) -> Result<Reply, ConsoleError> {
        self.send(Method::DELETE, path, None, key).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Reply, ConsoleError> {
        let media_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let key = key.map(|key| (IDEMPOTENCY_KEY, key));
        let headers: Vec<_> = body.map(|_| (CONTENT_TYPE, media_type)).into_iter().chain(key).collect();
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.send_body(method, path, &headers, body).await
    }

    /// Sends a request with a body of any media type.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn send_body(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Reply, ConsoleError> {
        let is_write = method != Method::GET && !path.starts_with(SEARCH);
        if !is_write {
            return Self::reply(self.call(method, path, headers, body).await?).await;
        }
        self.note_write(WriteEnd::Unclear);
        let called = self.call(method, path, headers, body).await;
        match &called {
            Ok(response) => self.note_write(WriteEnd::Accepted(response.status())),
            Err(ConsoleError::Problem(problem)) => self.note_write(WriteEnd::Refused(problem.clone())),
            Err(_) => {}
        }
        Self::reply(called?).await
    }

    async fn reply(response: Response) -> Result<Reply, ConsoleError> {
        let status = response.status();
        let bytes = whole(response.into_body()).await?;
        let json = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        Ok(Reply { status, json: json.map_err(|error| ConsoleError::of_json(&error))? })
    }

    /// Returns the response to a `GET` with its body as it comes.
    ///
    /// # Errors
    /// The problem of the API.
    pub(in crate::http::console) async fn forward(
        &self,
        path: &str,
        headers: &[(HeaderName, &str)],
    ) -> Result<Response, ConsoleError> {
        self.call(Method::GET, path, headers, Bytes::new()).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response, ConsoleError> {
        let uri: Uri = path.parse().map_err(|_| ConsoleError::Refused(StatusCode::NOT_FOUND, "No such page."))?;
        let mut all = self.headers.clone();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| ConsoleError::Refused(StatusCode::BAD_REQUEST, "A field holds a control character."))?;
            all.insert(name, value);
        }
        let is_read = method == Method::GET || path == SEARCH;
        let _turn = self.pace.turn().await;
        let response = loop {
            let mut request = Request::new(Body::from(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = all.clone();
            request.extensions_mut().insert(self.stopping.clone());
            if is_read {
                request.extensions_mut().insert(UnkeptExchange);
            }
            let Ok(response) = self.router.clone().oneshot(request).await;
            let wait = wait_of(&response);
            match wait {
                Some(wait) if self.pace.pause(wait).await => {}
                _ => break response,
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(ConsoleError::Ended);
        }
        Err(problem(response, is_read).await)
    }
}

/// Reads the problem of a response that is no success.
async fn problem(response: Response, of_read: bool) -> ConsoleError {
    let (parts, body) = response.into_parts();
    let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (is_problem, retry_after) = (header(CONTENT_TYPE) == Some(MEDIA_TYPE), header(RETRY_AFTER).map(str::to_owned));
    if !is_problem {
        return ConsoleError::Internal(format!("the API answered {} without a problem document", parts.status));
    }
    let bytes = match whole(body).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(mut problem) => {
            // The exchange of a read is not kept.
            problem.instance = problem.instance.filter(|_| !of_read);
            ConsoleError::Problem(Box::new(Problem { retry_after, ..problem }))
        }
        Err(error) => ConsoleError::of_json(&error),
    }
}

async fn whole(body: Body) -> Result<Bytes, ConsoleError> {
    let collected = Limited::new(body, MAX_RESPONSE).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| ConsoleError::unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one_segment() {
        assert_eq!(segment("cand_1"), "cand_1");
        assert_eq!(segment("../a?b#c d%"), "..%2Fa%3Fb%23c%20d%25");
    }

    #[tokio::test]
    async fn the_page_of_an_error_after_a_write_has_the_status_of_its_reply() {
        for write in [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT] {
            let router = Router::new().fallback(async move || write);
            let (page, ()) = Request::new(()).into_parts();
            let api = Api::new(&router, None, &page, "req_1");
            let lost = || ConsoleError::Internal("the page could not be read".to_owned());
            assert!(matches!(api.after_write(lost()), ConsoleError::Internal(_)), "nothing was written");
            api.post("/operations/op_1/retry", None, None).await.unwrap();
            let shown = api.after_write(lost());
            assert!(matches!(shown, ConsoleError::Unshown { write: known, .. } if known == write), "{shown:?}");
        }
    }
}
