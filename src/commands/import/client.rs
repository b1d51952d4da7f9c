//! The gateway as any client meets it: one request at a time, each repeated while the gateway is away. A bulk is safe to
//! repeat because it carries its key; everything else here only reads, or asks for what may be asked twice.

use std::cell::Cell;
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Body, RequestBuilder};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::{Host, Url};

use super::super::Failure;
use super::options::Job;
use crate::commands::import::api_types::{Accepted, Operation, Page, Problem, readable};
use crate::commands::import::input_file::Changed;
use crate::commands::import::progress::Screen;
use crate::domain::units::ConfigDuration;
use crate::secret::Secret;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the gateway may take over an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes a second; a line slower than this is taken for dead.
const SLOWEST: u64 = 16 << 10;
/// Between the headers of a long upload and its content; doubled when it was too short.
const HEAD_START: Duration = Duration::from_millis(200);
const MAX_HEAD_START: Duration = Duration::from_secs(5);
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(15);
/// What the API gives at most.
const PAGE: &str = "200";

pub(super) struct Client<'a> {
    http: reqwest::Client,
    address: Url,
    key: Secret,
    patience: Duration,
    now: fn() -> SystemTime,
    screen: &'a Screen,
}

/// Why a request came to nothing.
enum RequestError {
    /// It may pass; the gateway may have said when.
    Passing { what: String, after: Option<Duration> },
    /// The same request would fail again.
    Lasting(String),
}

impl<'a> Client<'a> {
    pub(super) fn new(job: &Job, now: fn() -> SystemTime, screen: &'a Screen) -> Result<Self, Failure> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION"), " import"))
            .connect_timeout(CONNECT_TIMEOUT)
            // The key goes to the address the person gave and to no other.
            .redirect(Policy::none());
        // Between a person's desk and the gateway there may be a company's proxy, so that the usual variables are followed;
        // but no proxy reaches this machine's own addresses.
        let builder = if is_loopback(&job.address) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| Failure::other("no HTTP client", error))?;
        let (address, key, patience) = (job.address.clone(), job.key.clone(), job.patience);
        Ok(Self { http, address, key, patience, now, screen })
    }

    /// Sends the file, or finds the import it already became. Answers the operation's id.
    pub(super) async fn submit(&self, job: &Job) -> Result<String, Failure> {
        let Job { sheet, kind, connection, fail_on_errors, .. } = job;
        let mut url = self.url(&[kind.word(), "bulk"]);
        url.query_pairs_mut().append_pair("connection", connection);
        if let Some(most) = fail_on_errors {
            url.query_pairs_mut().append_pair("failOnErrors", &most.to_string());
        }
        let key = sheet.key(*kind, connection);
        let head_start = Cell::new(HEAD_START);
        let slowest = Duration::from_secs(sheet.length / SLOWEST);
        self.persistently(async || {
            let body = sheet.body(head_start.get()).await;
            head_start.set((head_start.get() * 2).min(MAX_HEAD_START));
            let body =
                body.map_err(|error| RequestError::Lasting(format!("the file cannot be read any more: {error}")))?;
            let request = self
                .request(Method::POST, url.clone(), ANSWER_TIMEOUT + slowest)
                .header(CONTENT_TYPE, "text/csv; charset=utf-8")
                .header(PREFER, "respond-async")
                .header(IDEMPOTENCY_KEY, &key)
                .body(Body::wrap(body));
            let (headers, body) = self.answer(request).await?;
            operation_id(&headers, &body).ok_or_else(|| self.nonsense("does not name an operation"))
        })
        .await
    }

    /// How far the operation has come.
    pub(super) async fn operation(&self, id: &str) -> Result<Operation, Failure> {
        self.read(self.url(&["operations", id])).await
    }

    /// A page of its results.
    pub(super) async fn items(&self, id: &str, cursor: Option<&str>) -> Result<Page, Failure> {
        let mut url = self.url(&["operations", id, "items"]);
        url.query_pairs_mut().append_pair("limit", PAGE);
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.read(url).await
    }

    /// Has the rows tried again that are not applied. Asked twice it is the same: applied rows are never sent again.
    pub(super) async fn retry(&self, id: &str) -> Result<(), Failure> {
        let url = self.url(&["operations", id, "retry"]);
        self.persistently(async || self.answer(self.request(Method::POST, url.clone(), ANSWER_TIMEOUT)).await.map(drop))
            .await
    }

    async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failure> {
        self.persistently(async || {
            let (_, body) = self.answer(self.request(Method::GET, url.clone(), ANSWER_TIMEOUT)).await?;
            // Not the reader's own words: they may quote the answer.
            serde_json::from_slice(&body).map_err(|_| self.nonsense("cannot be understood"))
        })
        .await
    }

    /// Does it again, after growing pauses, until it succeeds, cannot succeed or patience ends.
    async fn persistently<T>(&self, attempt: impl AsyncFn() -> Result<T, RequestError>) -> Result<T, Failure> {
        let mut away_since = None;
        let mut pause = MIN_BACKOFF;
        loop {
            let (what, after) = match attempt().await {
                Ok(done) => return Ok(done),
                Err(RequestError::Lasting(what)) => return Err(Failure::Other(what)),
                Err(RequestError::Passing { what, after }) => (what, after),
            };
            let wait = after.unwrap_or(pause).max(MIN_BACKOFF);
            let away = *away_since.get_or_insert_with(Instant::now);
            if away.elapsed() + wait > self.patience {
                let asked = after.map(|after| format!("; it asks to wait {} seconds", after.as_secs()));
                return Err(Failure::Other(format!(
                    "{what}{}\ngiven up after {} (--patience); running the same command again is safe",
                    asked.unwrap_or_default(),
                    ConfigDuration(self.patience)
                )));
            }
            self.screen.note(&format!("{what}\ntrying again in {:.1} s", wait.as_secs_f32()));
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

    /// The answer to one request, if it is a success.
    async fn answer(&self, request: RequestBuilder) -> Result<(HeaderMap, Vec<u8>), RequestError> {
        let response = request.send().await.map_err(|error| self.unanswered(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| self.unanswered(error))?;
        if status.is_success() {
            return Ok((headers, body.into()));
        }
        Err(self.refused(status, &headers, &body))
    }

    fn unanswered(&self, error: reqwest::Error) -> RequestError {
        let error = error.without_url();
        let causes: Vec<&(dyn StdError + 'static)> =
            std::iter::successors(Some(&error as &(dyn StdError + 'static)), |cause| StdError::source(*cause))
                .collect();
        if causes.iter().any(|cause| cause.is::<Changed>()) {
            return RequestError::Lasting(format!("{Changed}; run the command again for what it holds now"));
        }
        // The outer ones only say that sending failed.
        let cause = causes.last().map(|cause| readable(&cause.to_string())).unwrap_or_default();
        RequestError::Passing { what: format!("{}: no answer: {cause}", self.address), after: None }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RequestError {
        let number = status.as_u16();
        let problem = serde_json::from_slice::<Problem>(body).ok().filter(|problem| problem.code.is_some());
        let after = headers.get(RETRY_AFTER).and_then(|value| seconds(value.to_str().ok()?, (self.now)()));
        // What stands between here and the gateway answers in its own way while the gateway is away.
        let usual = matches!(number, 429 | 502 | 503 | 504);
        let Some(problem) = problem else {
            let what = format!("{}: {status}, and not in the words of an examgate gateway", self.address);
            return match headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
                _ if usual => RequestError::Passing { what, after },
                Some(place) if status.is_redirection() => RequestError::Lasting(format!(
                    "{what}: a redirect to {}, which is not followed; give the gateway's own address with --url",
                    readable(place)
                )),
                _ => RequestError::Lasting(format!("{what}; is the address right? (--url or EXAMGATE_URL)")),
            };
        };
        let told = problem.told(number);
        if problem.retryable.unwrap_or(usual) || problem.is("idempotency_in_progress") {
            return RequestError::Passing { what: told, after };
        }
        let advice = match problem.code.as_deref() {
            Some("idempotency_key_reused") => {
                "\nThe same file was sent before with another --fail-on-errors; give the same again."
            }
            Some("unauthenticated") => "\nIs the key one of this gateway? (EXAMGATE_API_KEY or --key-file)",
            _ => "",
        };
        RequestError::Lasting(told + advice)
    }

    fn nonsense(&self, what: &str) -> RequestError {
        RequestError::Lasting(format!("{}: the answer {what}; is this an examgate gateway?", self.address))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.address.clone();
        // An http or https address always has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

/// Whether the address is one of this machine itself.
pub(super) fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The operation's id, from the document or else from where it is said to be. The address it is read at is always made
/// of the one the person gave.
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

/// What `Retry-After` says (RFC 9110 §10.2.3): seconds, or a date.
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
    use super::super::options::Kind;
    use super::*;
    use crate::commands::import::input_file::InputFile;

    #[test]
    fn an_operation_is_found_wherever_it_is_named() {
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
    fn a_pause_is_given_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(seconds("7", now), Some(Duration::from_secs(7)));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(seconds("soon", now), None);
    }

    #[tokio::test]
    async fn a_file_that_changed_is_told_and_not_sent_again() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        std::fs::write(&path, "externalId\na\n").unwrap();
        let job = Job {
            sheet: InputFile::open(&path).unwrap(),
            kind: Kind::Candidates,
            connection: "main".to_owned(),
            fail_on_errors: None,
            retry: false,
            address: Url::parse(&address).unwrap(),
            key: Secret::new("egk_1"),
            output: folder.path().join("people.result.csv"),
            patience: Duration::from_mins(1),
        };
        std::fs::write(&path, "externalId\nb\n").unwrap();
        let process = Process::current();
        let screen = Screen::new(1, &process);
        let client = Client::new(&job, process.now, &screen).unwrap();
        // The gateway says nothing: it is the file that ends this.
        let (_connection, told) = tokio::join!(listener.accept(), client.submit(&job));
        let Err(Failure::Other(told)) = told else { panic!("{told:?}") };
        assert!(told.starts_with("the file changed while it was sent"), "{told}");
    }

    #[test]
    fn loopback_is_this_machine() {
        for (address, is) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost/exam-api", true),
            ("http://gateway:8080", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(address).unwrap()), is, "{address}");
        }
    }
}
