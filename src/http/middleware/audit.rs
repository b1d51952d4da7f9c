//! Writes an audit entry for each write a client requests.
//!
//! An entry must never hold personal data. From a request's path it takes ids the gateway generated
//! (`/candidates/cand_…`), and other names only if they have a harmless form and were found to exist.

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::StatusCode;

use crate::domain::audit::{AuditEvent, Entry};
use crate::domain::error::{Code, Error};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId, DeliveryId, OperationId, ReportId, WebhookId};
use crate::domain::outcome::Outcome;
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::auth::Client;
use crate::http::exchange_context::ExchangeContext;
use crate::http::extract::idempotency::REPLAYED;
use crate::http::problem::{pending_error, status};
use crate::service::PendingAuditEntry;

/// Returns whether a rejected request gets an audit entry. Rejections that can occur in any number get none: a store
/// write for each would amplify a flood of requests. Nor do requests rejected because the store is unavailable.
pub(in crate::http) fn should_audit(error: &Error) -> bool {
    !matches!(error.code, Code::RateLimited | Code::Overloaded | Code::StoreUnavailable)
}

/// The pending audit entry of a request. If dropped without a response, it records that the caller was gone.
pub(in crate::http) struct AuditGuard {
    app: AppState,
    exchange: Exchange,
    entry: PendingAuditEntry,
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
        let entry = Entry { event: AuditEvent::CallerGone, action, ..about };
        let status = creates.then_some(StatusCode::CREATED.as_u16());
        Self { app: app.clone(), exchange, entry: PendingAuditEntry::new(entry, status), path: path_target(request) }
    }

    /// Returns the pending entry, to be committed together with the outcome it reports.
    pub(in crate::http) fn entry(&self) -> PendingAuditEntry {
        self.entry.clone()
    }

    /// Starts writing the entry for this response, unless it was committed with the outcome; await the result before
    /// responding.
    pub(in crate::http) fn write_entry(self, response: &Response) -> impl Future<Output = ()> + use<> {
        let entry = self.entry.take().map(|entry| self.entry_of_response(entry, response));
        let writing = entry.map(|entry| self.app.gateway.record(entry));
        async move {
            if let Some(writing) = writing {
                writing.await;
            }
        }
    }

    fn entry_of_response(&self, entry: Entry, response: &Response) -> Entry {
        let error = pending_error(response);
        let info = response.extensions().get::<AuditInfo>().cloned().unwrap_or_default();
        let status = error.map_or(response.status(), |error| status(error.code));
        let of_error = error.and_then(|error| error.connection.as_ref()).map(|name| name.connection.clone());
        let means_something = status.is_success() || (of_error.is_some() && status != StatusCode::NOT_FOUND);
        let by_path = match &self.path {
            Some(PathTarget::Own(path)) => Some(path.clone()),
            Some(PathTarget::Other(path)) if means_something => Some(path.clone()),
            Some(PathTarget::Other(_)) | None => None,
        };
        let of_call = || self.exchange.last_connection();
        Entry {
            time: self.app.environment.now(),
            event: AuditEvent::Answered,
            object: by_path.or(info.object).or_else(|| error.and_then(|error| error.resource.clone())),
            connection: info.connection.or(of_error).or_else(of_call),
            status: Some(status.as_u16()),
            outcome: info.outcome.or(error.map(|error| error.outcome)),
            code: error.map(|error| error.code.as_str()),
            replayed: response.headers().contains_key(REPLAYED),
            ..entry
        }
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        let outlived = tokio::runtime::Handle::try_current().is_ok();
        let Some(mut entry) = self.entry.take().filter(|_| outlived) else { return };
        entry.time = self.app.environment.now();
        if let Some(PathTarget::Own(path)) = &self.path {
            entry.object = Some(path.clone());
        }
        if std::thread::panicking() {
            entry.event = AuditEvent::Answered;
            entry.status = Some(status(Code::Internal).as_u16());
            entry.outcome = Some(Outcome::Unknown);
            entry.code = Some(Code::Internal.as_str());
        }
        drop(self.app.gateway.record(entry));
    }
}

/// Returns the object in the path, if the route has one.
fn path_target(request: &Request) -> Option<PathTarget> {
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
        "reports" => ReportId::parse(id).is_ok(),
        "webhooks" => WebhookId::parse(id).is_ok(),
        "deliveries" => DeliveryId::parse(id).is_ok(),
        // Excludes an e-mail address in the wrong position.
        _ => return id.bytes().all(is_plain).then_some(PathTarget::Other(path)),
    };
    own.then_some(PathTarget::Own(path))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)
}
