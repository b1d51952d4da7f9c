//! The API client of commands that ask a running gateway: one request at a time, each retried while the gateway is
//! unreachable. A bulk request is safe to retry because of its `Idempotency-Key`; every other request only reads or is
//! idempotent.

use std::cell::Cell;
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Body, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::super::Failure;
use super::options::Job;
use crate::commands::gateway_options::GatewayAccess;
use crate::commands::import::api_types::{Accepted, Access, ConnectionInfo, Operation, Page, Problem, readable};
use crate::commands::import::content::Changed;
use crate::commands::import::progress::Screen;
use crate::domain::units::ConfigDuration;
use crate::secret::Secret;

mod download;
mod follow;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of one response.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes per second; the upload timeout assumes at least this rate.
const MIN_UPLOAD_RATE: u64 = 16 << 10;
/// Delay between the headers and the content of a long upload; doubled at every retry.
const HEAD_START: Duration = Duration::from_millis(200);
const MAX_HEAD_START: Duration = Duration::from_secs(5);
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(15);
/// The longest wait that a `Retry-After` can cause.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
/// The API's maximum page size.
const PAGE: &str = "200";

/// A client of a running gateway.
pub(in crate::commands) struct Client<'a> {
    http: reqwest::Client,
    address: Url,
    key: Secret,
    patience: Duration,
    now: fn() -> SystemTime,
    screen: &'a Screen,
}

/// Why a request failed.
enum RequestError {
    /// A transient failure, with the time in `Retry-After` if there was one.
    Passing { what: String, after: Option<Duration> },
    /// A permanent failure: the same request would fail again.
    Lasting(RequestFailure),
}

/// A request that failed for good.
pub(super) struct RequestFailure {
    /// What failed, for the user.
    pub(super) message: String,
    /// The status of the response, if that is what failed.
    status: Option<StatusCode>,
    /// The code of the gateway's problem, if it sent one.
    code: Option<String>,
}

impl RequestFailure {
    fn new(message: String) -> Self {
        Self { message, status: None, code: None }
    }

    /// Returns whether the gateway gave no answer to act on.
    pub(super) fn is_silence(&self) -> bool {
        self.status.is_none()
    }

    /// Returns whether the gateway's answer is a problem with this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Returns the failure of a request: if it was refused, the command line, the key or the rights are wrong, and it has done
    /// nothing.
    fn or_refusal(self) -> Failure {
        match self.status {
            Some(status) if status.is_client_error() || status.is_redirection() => Failure::Usage(vec![self.message]),
            _ => self.into(),
        }
    }
}

/// The gateway's response to an upload.
#[derive(Debug)]
pub(super) struct Submission {
    /// The operation.
    pub(super) id: String,
    /// Whether an earlier upload of the same content has made it.
    pub(super) is_replay: bool,
}

impl From<RequestFailure> for Failure {
    fn from(failure: RequestFailure) -> Self {
        Self::Other(failure.message)
    }
}

impl<'a> Client<'a> {
    /// Creates a client that names itself after this command.
    pub(in crate::commands) fn new(
        gateway: &GatewayAccess,
        command: &str,
        now: fn() -> SystemTime,
        screen: &'a Screen,
    ) -> Result<Self, Failure> {
        let builder = reqwest::Client::builder()
            .user_agent(format!("examgate/{} {command}", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Send the key only to the address the user gave.
            .redirect(Policy::none());
        // Follow the usual proxy variables, since a company's proxy may be between the user and the gateway; but no
        // proxy reaches this machine's own addresses.
        let builder = if gateway.is_local() { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| Failure::other("no HTTP client", error))?;
        let GatewayAccess { address, key, patience } = gateway;
        Ok(Self { http, address: address.clone(), key: key.clone(), patience: *patience, now, screen })
    }

    /// Asks what the key may do; `None` from a gateway that does not tell.
    pub(super) async fn access(&self) -> Result<Option<Access>, RequestFailure> {
        match self.read(self.url(&["client"])).await {
            Ok(access) => Ok(Some(access)),
            Err(failure) if failure.is("not_found") => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Fetches a connection.
    pub(super) async fn connection(&self, name: &str) -> Result<ConnectionInfo, RequestFailure> {
        self.read(self.url(&["connections", name])).await
    }

    /// Submits the table, or finds the operation an earlier submission created. Returns the operation's id.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the gateway refused the table, so that nothing was sent.
    pub(super) async fn submit(&self, job: &Job) -> Result<Submission, Failure> {
        let Job { table, kind, connection, fail_on_errors, allows_damaged_ids, .. } = job;
        let mut url = self.url(&[kind.word(), "bulk"]);
        url.query_pairs_mut().append_pair("connection", connection);
        if let Some(most) = fail_on_errors {
            url.query_pairs_mut().append_pair("failOnErrors", &most.to_string());
        }
        if *allows_damaged_ids {
            url.query_pairs_mut().append_pair("allowDamagedIds", "true");
        }
        let key = table.key(*kind, connection);
        let head_start = Cell::new(HEAD_START);
        let slowest = Duration::from_secs(table.length() / MIN_UPLOAD_RATE);
        let submitted = self.retry_until_done(async || {
            let body = table.body(head_start.get());
            head_start.set((head_start.get() * 2).min(MAX_HEAD_START));
            let request = self
                .request(Method::POST, url.clone(), RESPONSE_TIMEOUT + slowest)
                .header(CONTENT_TYPE, "text/csv; charset=utf-8")
                .header(PREFER, "respond-async")
                .header(IDEMPOTENCY_KEY, &key)
                .body(Body::wrap(body));
            let (headers, body) = self.answer(request).await?;
            let is_replay = headers.contains_key(REPLAYED);
            let id = operation_id(&headers, &body);
            let id = id.ok_or_else(|| self.invalid_response("does not name an operation"))?;
            Ok(Submission { id, is_replay })
        });
        submitted.await.map_err(RequestFailure::or_refusal)
    }

    /// Fetches the operation.
    pub(super) async fn operation(&self, id: &str) -> Result<Operation, Failure> {
        Ok(self.read(self.url(&["operations", id])).await?)
    }

    /// Fetches a page of the operation's results.
    pub(super) async fn items(&self, id: &str, cursor: Option<&str>) -> Result<Page, Failure> {
        let mut url = self.url(&["operations", id, "items"]);
        url.query_pairs_mut().append_pair("limit", PAGE);
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        Ok(self.read(url).await?)
    }

    /// Requests a retry of the rows that are not applied. Idempotent: applied rows are never sent again.
    pub(super) async fn retry(&self, id: &str) -> Result<(), Failure> {
        let url = self.url(&["operations", id, "retry"]);
        let retried = self.retry_until_done(async || {
            self.answer(self.request(Method::POST, url.clone(), RESPONSE_TIMEOUT)).await.map(drop)
        });
        Ok(retried.await?)
    }

    async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, RequestFailure> {
        self.retry_until_done(async || {
            let (_, body) = self.answer(self.request(Method::GET, url.clone(), RESPONSE_TIMEOUT)).await?;
            // Drop the parser's message: it may quote the response.
            serde_json::from_slice(&body).map_err(|_| self.invalid_response("cannot be parsed"))
        })
        .await
    }

    /// Retries with back-off until the attempt succeeds, fails permanently or `--patience` runs out.
    async fn retry_until_done<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, RequestError>,
    ) -> Result<T, RequestFailure> {
        let mut away_since = None;
        let mut pause = MIN_BACKOFF;
        loop {
            let (what, after) = match attempt().await {
                Ok(done) => return Ok(done),
                Err(RequestError::Lasting(failure)) => return Err(failure),
                Err(RequestError::Passing { what, after }) => (what, after),
            };
            let away = *away_since.get_or_insert_with(Instant::now);
            // A gateway that asks for more than the patience left is given up at once.
            if away.elapsed() + after.unwrap_or(pause).max(MIN_BACKOFF) > self.patience {
                let asked = after.map(|after| format!("; the gateway asks to wait {} seconds", after.as_secs()));
                return Err(RequestFailure::new(format!(
                    "{what}{}\ngave up after {} (--patience); running the same command again is safe",
                    asked.unwrap_or_default(),
                    ConfigDuration(self.patience)
                )));
            }
            let wait = wait_before_retry(after, pause);
            self.screen.note(&format!("{what}\nretrying in {:.1} s", wait.as_secs_f32()));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(MAX_BACKOFF);
        }
    }

    fn request(&self, method: Method, url: Url, timeout: Duration) -> RequestBuilder {
        self.http
            .request(method, url)
            .bearer_auth(self.key.expose())
            .header(ACCEPT, "application/json")
            .timeout(timeout)
    }

    /// Sends one request and returns its response if it is a success.
    async fn answer(&self, request: RequestBuilder) -> Result<(HeaderMap, Vec<u8>), RequestError> {
        let response = self.successful(request.send().await.map_err(|error| self.unanswered(error))?).await?;
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(|error| self.unanswered(error))?;
        Ok((headers, body.into()))
    }

    /// Returns the response if it is a success.
    async fn successful(&self, response: Response) -> Result<Response, RequestError> {
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| self.unanswered(error))?;
        Err(self.refused(status, &headers, &body))
    }

    fn unanswered(&self, error: reqwest::Error) -> RequestError {
        let error = error.without_url();
        let causes: Vec<&(dyn StdError + 'static)> =
            std::iter::successors(Some(&error as &(dyn StdError + 'static)), |cause| StdError::source(*cause))
                .collect();
        if causes.iter().any(|cause| cause.is::<Changed>()) {
            return lasting(format!("{Changed}; run the command again for what it holds now"));
        }
        // The outer errors only state that sending failed.
        let cause = causes.last().map(|cause| readable(&cause.to_string())).unwrap_or_default();
        RequestError::Passing { what: format!("{}: no response: {cause}", self.address), after: None }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RequestError {
        let number = status.as_u16();
        let problem = serde_json::from_slice::<Problem>(body).ok().filter(|problem| problem.code.is_some());
        let after = headers.get(RETRY_AFTER).and_then(|value| seconds(value.to_str().ok()?, (self.now)()));
        // While the gateway is unreachable, a proxy in front of it responds in its own format.
        let usual = matches!(number, 429 | 502 | 503 | 504);
        let Some(problem) = problem else {
            let what = format!("{}: {status}, not a response of an examgate gateway", self.address);
            let message = match headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
                _ if usual => return RequestError::Passing { what, after },
                Some(place) if status.is_redirection() => format!(
                    "{what}: a redirect to {}, which is not followed; give the gateway's own address with --url",
                    readable(place)
                ),
                _ => format!("{what}; is the address correct? (--url or EXAMGATE_URL)"),
            };
            return RequestError::Lasting(RequestFailure { message, status: Some(status), code: None });
        };
        let described = problem.describe(number);
        if problem.retryable.unwrap_or(usual) || problem.is("idempotency_in_progress") {
            return RequestError::Passing { what: described, after };
        }
        let advice = match problem.code.as_deref() {
            Some("idempotency_key_reused") => {
                "\nThe same file was submitted before with another --fail-on-errors; use the same value."
            }
            Some("unauthenticated") => "\nIs this a key of this gateway? (EXAMGATE_API_KEY or --key-file)",
            _ => "",
        };
        let message = described + advice;
        RequestError::Lasting(RequestFailure { message, status: Some(status), code: problem.code })
    }

    fn invalid_response(&self, what: &str) -> RequestError {
        lasting(format!("{}: the response {what}; is this an examgate gateway?", self.address))
    }

    /// Returns the address of a resource.
    pub(in crate::commands) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.address.clone();
        // An http or https address always has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

fn lasting(message: String) -> RequestError {
    RequestError::Lasting(RequestFailure::new(message))
}

/// Extracts the operation's id from the body, or else from `Location`. Only the id is used: requests always go to the
/// address the user gave.
fn operation_id(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let accepted = serde_json::from_slice::<Accepted>(body).ok();
    let named = accepted.and_then(|accepted| accepted.operation.or(accepted.id));
    let id = named.or_else(|| {
        let place = headers.get(LOCATION)?.to_str().ok()?;
        Some(place.split(['?', '#']).next()?.rsplit_once("/operations/")?.1.to_owned())
    })?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    ((1..=128).contains(&id.len()) && id.chars().all(plain)).then_some(id)
}

/// Returns how long to wait: as long as the gateway asks, within bounds, or else the back-off's own pause.
fn wait_before_retry(asked: Option<Duration>, pause: Duration) -> Duration {
    asked.unwrap_or(pause).clamp(MIN_BACKOFF, MAX_RETRY_AFTER)
}

/// Parses `Retry-After` (RFC 9110 §10.2.3): seconds or a date.
fn seconds(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::super::Process;
    use super::*;
    use clap::Parser as _;

    use crate::commands::import::options::Options;

    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn an_operation_id_comes_from_body_or_location() {
        let id = |location: Option<&'static str>, body: &str| {
            let headers = location.map(|place| (LOCATION, place.parse().unwrap()));
            operation_id(&headers.into_iter().collect(), body.as_bytes())
        };
        assert_eq!(id(None, r#"{ "id": "op_1", "state": "queued" }"#).as_deref(), Some("op_1"));
        assert_eq!(id(None, r#"{ "operation": "op_2", "results": [] }"#).as_deref(), Some("op_2"));
        assert_eq!(id(Some("https://a.example/api/operations/op_3"), "").as_deref(), Some("op_3"));
        assert_eq!(id(Some("/operations/op_4?a=b"), "{}").as_deref(), Some("op_4"));
        for odd in [r#"{ "id": "../keys" }"#, r#"{ "id": "" }"#, r#"{ "id": "a b" }"#, "[]"] {
            assert_eq!(id(None, odd), None, "{odd}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(seconds("7", now), Some(Duration::from_secs(7)));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(seconds("soon", now), None);
    }

    #[test]
    fn retry_after_is_honoured_within_bounds() {
        let pause = Duration::from_secs(4);
        for (asked, wait) in
            [(None, 4_000), (Some(0), 500), (Some(7), 7_000), (Some(300), 300_000), (Some(86_400), 300_000)]
        {
            assert_eq!(wait_before_retry(asked.map(Duration::from_secs), pause), Duration::from_millis(wait));
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_reported_and_not_sent_again() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        std::fs::write(&path, "externalId\na\n").unwrap();
        let key = folder.path().join("key.txt");
        std::fs::write(&key, "egk_1").unwrap();
        let process = Process::current();
        let texts = [&path, &key].map(|path| path.to_str().unwrap());
        let arguments = ["import", texts[0], "--connection", "main", "--url", &address, "--key-file", texts[1]];
        let job = Job::of(&CommandLine::parse_from(arguments).options, &process).ok().unwrap();
        std::fs::write(&path, "externalId\nb\n").unwrap();
        let screen = Screen::new(1, false, &process);
        let client = Client::new(&job.gateway, "import", process.now, &screen).unwrap();
        // The gateway never responds: the changed file ends the attempt.
        let (_connection, told) = tokio::join!(listener.accept(), client.submit(&job));
        let Err(Failure::Other(told)) = told else { panic!("{told:?}") };
        assert!(told.starts_with("the file changed while it was being sent"), "{told}");
    }
}
