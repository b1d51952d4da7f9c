//! Audit entries: writes one for each write a client requests, and serves them at `/audit`.
//!
//! An entry must never hold personal data. From a request's path it takes ids the gateway generated
//! (`/candidates/cand_…`), and other names only if they have a harmless form and were found to exist.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, TryStreamExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use crate::domain::audit::{AuditEvent, ChainedEntry, Entry};
use crate::domain::error::{Code, Error};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId, OperationId};
use crate::domain::outcome::Outcome;
use crate::http::app_state::AppState;
use crate::http::auth::Client;
use crate::http::dto::assignment::Assignment;
use crate::http::dto::audit::{AuditLine, AuditList, example_line};
use crate::http::dto::candidate::Candidate;
use crate::http::dto::common::Outcome as ApiOutcome;
use crate::http::dto::operation::Operation;
use crate::http::extract::accept;
use crate::http::extract::idempotency::REPLAYED;
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::middleware::request_context::ExchangeContext;
use crate::http::problem::{ApiError, pending_error};
use crate::http::response::{cursor_position, encode_cursor};
use crate::service::{OperationStatus, PendingAuditEntry, RequestContext};

/// Number of entries read at once when streaming all of them.
const STREAM_BATCH: usize = 500;

/// A document of a resource.
pub(in crate::http) trait Auditable {
    /// Returns the path of the resource.
    fn path(&self) -> String;

    /// Returns the connection the resource belongs to.
    fn connection(&self) -> &str;

    /// Returns the outcome of its last write; `None` if it has many.
    fn outcome(&self) -> Option<Outcome>;
}

impl Auditable for Candidate {
    fn path(&self) -> String {
        format!("/candidates/{}", self.id)
    }

    fn connection(&self) -> &str {
        &self.connection
    }

    fn outcome(&self) -> Option<Outcome> {
        Some(known(self.outcome))
    }
}

impl Auditable for Assignment {
    fn path(&self) -> String {
        format!("/assignments/{}", self.id)
    }

    fn connection(&self) -> &str {
        &self.connection
    }

    fn outcome(&self) -> Option<Outcome> {
        Some(known(self.outcome))
    }
}

impl Auditable for Operation {
    fn path(&self) -> String {
        format!("/operations/{}", self.id)
    }

    fn connection(&self) -> &str {
        &self.connection
    }

    fn outcome(&self) -> Option<Outcome> {
        None
    }
}

fn known(shown: ApiOutcome) -> Outcome {
    match shown {
        ApiOutcome::Applied => Outcome::Applied,
        ApiOutcome::NotApplied => Outcome::NotApplied,
        ApiOutcome::Unknown => Outcome::Unknown,
    }
}

/// Audit fields of a write that did not fail; kept in the response's extensions.
#[derive(Clone, Default)]
pub(in crate::http) struct AuditInfo {
    object: Option<String>,
    connection: Option<String>,
    outcome: Option<Outcome>,
}

impl AuditInfo {
    /// Describes a response with this document.
    pub(in crate::http) fn of(document: &impl Auditable, status: StatusCode) -> Self {
        // The outcome of an accepted write is not known yet.
        let outcome = document.outcome().filter(|_| status != StatusCode::ACCEPTED);
        Self { object: Some(document.path()), connection: Some(document.connection().to_owned()), outcome }
    }

    /// Describes a response without a document.
    pub(in crate::http) fn applied() -> Self {
        Self { outcome: Some(Outcome::Applied), ..Self::default() }
    }

    /// Describes the response to a bulk request; each of its rows has its own outcome.
    pub(in crate::http) fn operation(view: &OperationStatus) -> Self {
        let object = Some(format!("/operations/{}", view.operation.id));
        Self { object, connection: Some(view.operation.connection.clone()), outcome: None }
    }

    pub(in crate::http) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns whether a rejected request gets an audit entry. Rejections that can occur in any number get none: a store
/// write for each would amplify a flood of requests. Nor do requests rejected because the store is unavailable.
pub(in crate::http) fn should_audit(fault: &Error) -> bool {
    !matches!(fault.code, Code::RateLimited | Code::Overloaded | Code::StoreUnavailable)
}

/// The pending audit entry of a request. If dropped without a response, it records that the caller was gone.
pub(in crate::http) struct AuditGuard {
    app: AppState,
    exchange: Exchange,
    line: PendingAuditEntry,
    path: Option<PathTarget>,
}

/// The object named by a request's path.
enum PathTarget {
    /// An object with an id the gateway could have generated.
    Own(String),
    /// An object with a name the caller may have invented.
    Other(String),
}

impl AuditGuard {
    pub(in crate::http) fn start(
        app: &AppState,
        client: &Client,
        (action, creates): (&'static str, bool),
        request: &Request,
        context: &ExchangeContext,
    ) -> Self {
        let exchange = context.exchange.clone();
        let about = Entry::about(&exchange, &client.tenant, &client.name, app.environment.now());
        let line = Entry { event: AuditEvent::CallerGone, action, ..about };
        let status = creates.then_some(StatusCode::CREATED.as_u16());
        Self { app: app.clone(), exchange, line: PendingAuditEntry::new(line, status), path: named(request) }
    }

    /// Returns the pending entry, to be committed together with the outcome it reports.
    pub(in crate::http) fn line(&self) -> PendingAuditEntry {
        self.line.clone()
    }

    /// Starts writing the entry for this response, unless it was committed with the outcome; await the result before
    /// responding.
    pub(in crate::http) fn write_entry(self, response: &Response) -> impl Future<Output = ()> + use<> {
        let line = self.line.take().map(|line| self.entry_of_response(line, response));
        let writing = line.map(|line| self.app.gateway.record(line));
        async move {
            if let Some(writing) = writing {
                writing.await;
            }
        }
    }

    fn entry_of_response(&self, line: Entry, response: &Response) -> Entry {
        let fault = pending_error(response);
        let noted = response.extensions().get::<AuditInfo>().cloned().unwrap_or_default();
        let status = fault.map_or(response.status(), |fault| crate::http::problem::status(fault.code));
        let of_fault = fault.and_then(|fault| fault.connection.as_ref()).map(|name| name.connection.clone());
        let means_something = status.is_success() || (of_fault.is_some() && status != StatusCode::NOT_FOUND);
        let by_path = match &self.path {
            Some(PathTarget::Own(path)) => Some(path.clone()),
            Some(PathTarget::Other(path)) if means_something => Some(path.clone()),
            Some(PathTarget::Other(_)) | None => None,
        };
        let of_call = || self.exchange.view().calls.last().map(|call| call.connection.clone());
        Entry {
            time: self.app.environment.now(),
            event: AuditEvent::Answered,
            object: by_path.or(noted.object).or_else(|| fault.and_then(|fault| fault.resource.clone())),
            connection: noted.connection.or(of_fault).or_else(of_call),
            status: Some(status.as_u16()),
            outcome: noted.outcome.or(fault.map(|fault| fault.outcome)),
            code: fault.map(|fault| fault.code.as_str()),
            replayed: response.headers().contains_key(REPLAYED),
            ..line
        }
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        let outlived = tokio::runtime::Handle::try_current().is_ok();
        let Some(mut line) = self.line.take().filter(|_| outlived) else { return };
        line.time = self.app.environment.now();
        if let Some(PathTarget::Own(path)) = &self.path {
            line.object = Some(path.clone());
        }
        if std::thread::panicking() {
            line.event = AuditEvent::Answered;
            line.status = Some(crate::http::problem::status(Code::Internal).as_u16());
            line.outcome = Some(Outcome::Unknown);
            line.code = Some(Code::Internal.as_str());
        }
        drop(self.app.gateway.record(line));
    }
}

/// Returns the object in the path, if the route has one.
fn named(request: &Request) -> Option<PathTarget> {
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    if !route.contains('{') {
        return None;
    }
    let mut segments = request.uri().path().trim_start_matches('/').split('/');
    let (kind, id) = (segments.next()?, segments.next()?);
    let path = format!("/{kind}/{id}");
    let own = match kind {
        "candidates" => CandidateId::parse(id).is_ok(),
        "assignments" => AssignmentId::parse(id).is_ok(),
        "operations" => OperationId::parse(id).is_ok(),
        // Excludes an e-mail address in the wrong position.
        _ => return id.bytes().all(is_plain).then_some(PathTarget::Other(path)),
    };
    own.then_some(PathTarget::Own(path))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)
}

/// Read the audit log
///
/// Who requested what, on which resource, and the outcome: one entry for each write a client of the tenant requested,
/// and one for work that ended later, oldest first. Entries contain ids, never personal data, and are kept for ever.
/// They form a chain: each contains the hash of the previous entry, so that an altered or removed entry is detectable.
///
/// With `Accept: application/x-ndjson` the response contains all entries, one document per line.
#[utoipa::path(
    get, path = "/audit", operation_id = "readAudit", tag = "Audit",
    params(
        ("after" = Option<u64>, Query, description = "Return only entries after the one with this `seq`.", nullable = false, example = 1200),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response. Not with NDJSON.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page. Not with NDJSON.", nullable = false),
    ),
    responses((status = 200, description = "A page of audit entries, or all of them.", content(
        (AuditList = "application/json"),
        (String = "application/x-ndjson", example = json!(example_line())),
    ))),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    headers: HeaderMap,
    mut query: QueryParams,
) -> Result<Response, ApiError> {
    // Documented as int64: a larger number is not a valid `seq`.
    let number = |text: &str| text.parse::<u64>().ok().filter(|seq| i64::try_from(*seq).is_ok());
    let after = query.parsed("after", "the `seq` of an entry", number).unwrap_or(0);
    if accept::requests_ndjson(&headers) {
        for name in ["limit", "cursor"] {
            if query.text(name).is_some() {
                query.fault(name, "is only valid with JSON");
            }
        }
        query.finish()?;
        return Ok(all(app, caller, after).await?);
    }
    let (limit, cursor) = query.page();
    query.finish()?;
    let from = cursor_position(cursor.as_deref())?.max(after);
    // Fetch one more than requested to learn whether there is a next page.
    let mut lines = app.gateway.audit(&caller, from, limit + 1).await?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next_cursor = lines.last().filter(|_| more).map(|last| encode_cursor(last.seq));
    let items: Result<Vec<AuditLine>, Error> = lines.iter().map(shown).collect();
    Ok(Json(AuditList { items: items?, next_cursor }).into_response())
}

fn shown(line: &ChainedEntry) -> Result<AuditLine, Error> {
    serde_json::from_str(&line.text).map_err(|_| {
        Error::new(Code::Internal, format!("Audit entry {} has a format this version does not know.", line.seq))
    })
}

/// Streams all entries, one batch at a time. An unreadable entry aborts the response: the gap must be noticed.
async fn all(app: AppState, caller: RequestContext, after: u64) -> Result<Response, Error> {
    let first = app.gateway.audit(&caller, after, STREAM_BATCH).await?;
    let parts = stream::try_unfold(Some(first), move |part| {
        let (app, caller) = (app.clone(), caller.clone());
        async move {
            let Some(lines) = part else { return Ok(None) };
            let next = match lines.last() {
                Some(last) if lines.len() == STREAM_BATCH => {
                    Some(app.gateway.audit(&caller, last.seq, STREAM_BATCH).await?)
                }
                _ => None,
            };
            let mut text = String::new();
            for line in &lines {
                text.push_str(&line.text);
                text.push('\n');
            }
            Ok(Some((Bytes::from(text), next)))
        }
    });
    let broken_off = |fault: Error| {
        tracing::error!(code = fault.code.as_str(), "streaming the audit entries failed");
        io::Error::other("reading the audit entries failed")
    };
    let body = Body::from_stream(parts.map_err(broken_off));
    Ok(([(CONTENT_TYPE, accept::LINES)], body).into_response())
}
