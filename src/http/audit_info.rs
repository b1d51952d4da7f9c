//! What a response tells the audit entry of its write: the object, its connection and the outcome.

use axum::response::Response;
use http::StatusCode;

use crate::domain::outcome::Outcome;
use crate::http::dto::assignment::Assignment;
use crate::http::dto::candidate::Candidate;
use crate::http::dto::operation::Operation;
use crate::service::OperationStatus;

/// A document of a resource.
pub(super) trait Auditable {
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
        Some(self.outcome)
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
        Some(self.outcome)
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

/// Audit fields of a write that did not fail; kept in the response's extensions.
#[derive(Clone, Default)]
pub(super) struct AuditInfo {
    pub(super) object: Option<String>,
    pub(super) connection: Option<String>,
    pub(super) outcome: Option<Outcome>,
}

impl AuditInfo {
    /// Describes a response with this document.
    pub(super) fn of(document: &impl Auditable, status: StatusCode) -> Self {
        // The outcome of an accepted write is not known yet.
        let outcome = document.outcome().filter(|_| status != StatusCode::ACCEPTED);
        Self { object: Some(document.path()), connection: Some(document.connection().to_owned()), outcome }
    }

    /// Describes a response without a document.
    pub(super) fn applied() -> Self {
        Self { outcome: Some(Outcome::Applied), ..Self::default() }
    }

    /// Describes the response to a bulk request; each of its rows has its own outcome.
    pub(super) fn operation(view: &OperationStatus) -> Self {
        let object = Some(format!("/operations/{}", view.operation.id));
        Self { object, connection: Some(view.operation.connection.clone()), outcome: None }
    }

    /// Attaches the fields to the response.
    pub(super) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}
