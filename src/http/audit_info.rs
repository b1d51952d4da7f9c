//! What a response tells the audit entry of its write: the object, its connection and the outcome.

use axum::response::Response;
use http::StatusCode;

use crate::domain::outcome::Outcome;
use crate::http::dto::assignment::Assignment;
use crate::http::dto::candidate::Candidate;
use crate::http::dto::delivery::Delivery;
use crate::http::dto::operation::Operation;
use crate::http::dto::report::Report;
use crate::http::dto::webhook::Webhook;
use crate::service::OperationStatus;

/// A document of a resource.
pub(super) trait Auditable {
    /// Returns the path of the resource, its connection and the outcome of its last write, unless it has many.
    fn audit_info(&self) -> AuditInfo;
}

impl Auditable for Candidate {
    fn audit_info(&self) -> AuditInfo {
        AuditInfo::new(format!("/candidates/{}", self.id), &self.connection, Some(self.outcome))
    }
}

impl Auditable for Assignment {
    fn audit_info(&self) -> AuditInfo {
        AuditInfo::new(format!("/assignments/{}", self.id), &self.connection, Some(self.outcome))
    }
}

impl Auditable for Operation {
    fn audit_info(&self) -> AuditInfo {
        AuditInfo::new(format!("/operations/{}", self.id), &self.connection, None)
    }
}

impl Auditable for Webhook {
    fn audit_info(&self) -> AuditInfo {
        AuditInfo::object(format!("/webhooks/{}", self.id))
    }
}

impl Auditable for Delivery {
    fn audit_info(&self) -> AuditInfo {
        AuditInfo::object(format!("/deliveries/{}", self.id))
    }
}

impl Auditable for Report {
    fn audit_info(&self) -> AuditInfo {
        AuditInfo::new(format!("/reports/{}", self.id), &self.connection, None)
    }
}

/// Audit fields of a write that did not fail; kept in the response's extensions.
#[derive(Clone, Default)]
pub(super) struct AuditInfo {
    pub(super) object: Option<String>,
    pub(super) connection: Option<String>,
    pub(super) outcome: Option<Outcome>,
}

impl AuditInfo {
    fn new(object: String, connection: &str, outcome: Option<Outcome>) -> Self {
        let connection = Some(connection.to_owned()).filter(|name| !name.is_empty());
        Self { object: Some(object), connection, outcome }
    }

    /// Describes a response about this object of the gateway's own, which no vendor has.
    fn object(path: String) -> Self {
        Self { object: Some(path), connection: None, outcome: Some(Outcome::Applied) }
    }

    /// Describes a response with this document.
    pub(super) fn of(document: &impl Auditable, status: StatusCode) -> Self {
        let info = document.audit_info();
        // The outcome of an accepted write is not known yet.
        let outcome = info.outcome.filter(|_| status != StatusCode::ACCEPTED);
        Self { outcome, ..info }
    }

    /// Describes a response without a document.
    pub(super) fn applied() -> Self {
        Self { outcome: Some(Outcome::Applied), ..Self::default() }
    }

    /// Describes the response to a bulk request; each of its rows has its own outcome.
    pub(super) fn operation(view: &OperationStatus) -> Self {
        let operation = &view.operation;
        Self::new(format!("/operations/{}", operation.id), &operation.connection, None)
    }

    /// Describes a response about this connection, without a write.
    pub(super) fn connection(name: &str) -> Self {
        Self { connection: Some(name.to_owned()), ..Self::default() }
    }

    /// Attaches the fields to the response.
    pub(super) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}
