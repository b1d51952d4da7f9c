//! The audit record: the line about each write a client asks for, and `/audit`, where it is read.
//!
//! A line must never hold anything of a person. Of a request's path it names what the gateway made (`/candidates/cand_…`),
//! and other names only where they have the form of one and turned out to mean something.

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
use crate::http::dto::common::Outcome as RedactionPolicy;
use crate::http::dto::operation::Operation;
use crate::http::extract::accept;
use crate::http::extract::idempotency::REPLAYED;
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::middleware::request_context::ExchangeContext;
use crate::http::problem::{ApiError, fault_of};
use crate::http::response::{cursor_at, cursor_position};
use crate::service::{OperationStatus, PendingAuditEntry, RequestContext};

/// Lines read at once while all of them are sent.
const AT_ONCE: usize = 500;

/// A document of a resource.
pub(in crate::http) trait Auditable {
    /// Where the resource is.
    fn path(&self) -> String;

    /// The connection it belongs to.
    fn connection(&self) -> &str;

    /// What is known of its last write; `None` where it has many.
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

fn known(shown: RedactionPolicy) -> Outcome {
    match shown {
        RedactionPolicy::Applied => Outcome::Applied,
        RedactionPolicy::NotApplied => Outcome::NotApplied,
        RedactionPolicy::Unknown => Outcome::Unknown,
    }
}

/// What the line about a write is to say that did not fail; in the answer's extensions.
#[derive(Clone, Default)]
pub(in crate::http) struct AuditInfo {
    object: Option<String>,
    connection: Option<String>,
    outcome: Option<Outcome>,
}

impl AuditInfo {
    /// Of an answer with this document.
    pub(in crate::http) fn of(document: &impl Auditable, status: StatusCode) -> Self {
        // What was accepted is not known yet.
        let outcome = document.outcome().filter(|_| status != StatusCode::ACCEPTED);
        Self { object: Some(document.path()), connection: Some(document.connection().to_owned()), outcome }
    }

    /// Of an answer without a document.
    pub(in crate::http) fn applied() -> Self {
        Self { outcome: Some(Outcome::Applied), ..Self::default() }
    }

    /// Of the answer to a bulk; each of its rows has an outcome of its own.
    pub(in crate::http) fn operation(view: &OperationStatus) -> Self {
        let object = Some(format!("/operations/{}", view.operation.id));
        Self { object, connection: Some(view.operation.connection.clone()), outcome: None }
    }

    pub(in crate::http) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether a request that was not let in has a line. Those of which there may be any number have none: a write to the store
/// for each would give whoever sends too many a lever. Nor have those that the store is not there for.
pub(in crate::http) fn should_audit(fault: &Error) -> bool {
    !matches!(fault.code, Code::RateLimited | Code::Overloaded | Code::StoreUnavailable)
}

/// The line about a request, from its beginning on. Dropped without an answer, it says that the caller was gone.
pub(in crate::http) struct AuditGuard {
    app: AppState,
    exchange: Exchange,
    line: PendingAuditEntry,
    path: Option<PathTarget>,
}

/// What the path of a request names.
enum PathTarget {
    /// Something with an id the gateway could have made.
    Own(String),
    /// Something with a name that anybody may have made up.
    Other(String),
}

impl AuditGuard {
    pub(in crate::http) fn begun(
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

    /// The line, for whoever writes down the outcome it tells.
    pub(in crate::http) fn line(&self) -> PendingAuditEntry {
        self.line.clone()
    }

    /// The line about this answer is being written, unless it was with the outcome; to be waited for before it is given.
    pub(in crate::http) fn answered(self, response: &Response) -> impl Future<Output = ()> + use<> {
        let line = self.line.take().map(|line| self.of_answer(line, response));
        let writing = line.map(|line| self.app.gateway.record(line));
        async move {
            if let Some(writing) = writing {
                writing.await;
            }
        }
    }

    fn of_answer(&self, line: Entry, response: &Response) -> Entry {
        let fault = fault_of(response);
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

/// The object of the path, where the route has one.
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
        // An e-mail address put in the wrong place is none of these.
        _ => return id.bytes().all(is_plain).then_some(PathTarget::Other(path)),
    };
    own.then_some(PathTarget::Own(path))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)
}

/// Read the audit record
///
/// Who asked for what about whom, and what came of it: a line for each write a client of the tenant asked for, and for what
/// ended later, oldest first. Lines hold ids, never personal data, are kept for ever, and form a chain: each names the hash
/// of the one before, so that one that was altered or taken out shows.
///
/// With `Accept: application/x-ndjson` all lines are answered, one document a line.
#[utoipa::path(
    get, path = "/audit", operation_id = "readAudit", tag = "Audit",
    params(
        ("after" = Option<u64>, Query, description = "Only lines after the one with this `seq`.", nullable = false, example = 1200),
        ("limit" = Option<usize>, Query, description = "Most entries in the answer. Not with lines.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the part before. Not with lines.", nullable = false),
    ),
    responses((status = 200, description = "A part of the record, or all of it.", content(
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
    // Described as int64, so a number past it is no number of a line.
    let number = |text: &str| text.parse::<u64>().ok().filter(|seq| i64::try_from(*seq).is_ok());
    let after = query.parsed("after", "the number of a line", number).unwrap_or(0);
    if accept::asks_for_lines(&headers) {
        for name in ["limit", "cursor"] {
            if query.text(name).is_some() {
                query.fault(name, "goes with JSON only");
            }
        }
        query.finish()?;
        return Ok(all(app, caller, after).await?);
    }
    let (limit, cursor) = query.page();
    query.finish()?;
    let from = cursor_position(cursor.as_deref())?.max(after);
    // One more than asked for tells whether there is a next part.
    let mut lines = app.gateway.audit(&caller, from, limit + 1).await?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next_cursor = lines.last().filter(|_| more).map(|last| cursor_at(last.seq));
    let items: Result<Vec<AuditLine>, Error> = lines.iter().map(shown).collect();
    Ok(Json(AuditList { items: items?, next_cursor }).into_response())
}

fn shown(line: &ChainedEntry) -> Result<AuditLine, Error> {
    serde_json::from_str(&line.text).map_err(|_| {
        Error::new(
            Code::Internal,
            format!("Line {} of the audit record is not in a form this version knows.", line.seq),
        )
    })
}

/// All lines, a part at a time. One that cannot be read breaks the answer off: what is missing must show.
async fn all(app: AppState, caller: RequestContext, after: u64) -> Result<Response, Error> {
    let first = app.gateway.audit(&caller, after, AT_ONCE).await?;
    let parts = stream::try_unfold(Some(first), move |part| {
        let (app, caller) = (app.clone(), caller.clone());
        async move {
            let Some(lines) = part else { return Ok(None) };
            let next = match lines.last() {
                Some(last) if lines.len() == AT_ONCE => Some(app.gateway.audit(&caller, last.seq, AT_ONCE).await?),
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
        tracing::error!(code = fault.code.as_str(), "the audit record was not sent to its end");
        io::Error::other("the record cannot be read on")
    };
    let body = Body::from_stream(parts.map_err(broken_off));
    Ok(([(CONTENT_TYPE, accept::LINES)], body).into_response())
}
