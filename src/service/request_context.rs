//! Who asks, and what they may use.

use std::collections::BTreeSet;

use crate::domain::exchange::Exchange;
use crate::domain::intent::WriteOrigin;
use crate::domain::operation::{Operation, OperationKind};
use crate::domain::vendor::Priority;
use crate::service::PendingAuditEntry;

/// Who asks: an authenticated client, with what it may use.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Who owns what the caller sees and makes.
    pub tenant: String,
    /// The configured client.
    pub client: String,
    /// The connections it may use.
    pub connections: ConnectionAccess,
    /// Used when a request names no connection.
    pub default_connection: Option<String>,
    /// The exchange this is part of, with the request's id and trace.
    pub exchange: Exchange,
    /// Whether somebody waits for it.
    pub lane: Priority,
    /// The request's `Idempotency-Key`, where it has one.
    pub key: Option<IdempotencyRequest>,
    /// On whose behalf the writes of this request are made; set by the gateway itself.
    pub origin: WriteOrigin,
    /// What an earlier use of the key led to, where it has to be gone on with; set by the gateway itself.
    pub resumed: Option<String>,
    /// The audit record's line about the answer, where there is to be one.
    pub line: Option<PendingAuditEntry>,
}

/// An `Idempotency-Key` with what the request under it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRequest {
    /// Method, path and the caller's key.
    pub scope: String,
    /// SHA-256 of what the request says.
    pub content: [u8; 32],
}

impl RequestContext {
    /// Whoever asked for an operation, while its rows are sent.
    pub(super) fn of_operation(operation: &Operation, exchange: Exchange) -> Self {
        Self {
            tenant: operation.tenant.clone(),
            client: operation.client.clone(),
            connections: ConnectionAccess::Named(BTreeSet::from([operation.connection.clone()])),
            default_connection: Some(operation.connection.clone()),
            exchange,
            // An enrolment is an operation only so that it survives; its caller waits as with any single write.
            lane: if operation.kind == OperationKind::ProgramEmployees {
                Priority::Interactive
            } else {
                Priority::Bulk
            },
            key: None,
            origin: WriteOrigin::default(),
            resumed: None,
            line: None,
        }
    }
}

/// The connections a client may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionAccess {
    /// All of them.
    All,
    /// These.
    Named(BTreeSet<String>),
}

impl ConnectionAccess {
    /// Whether this connection is among them.
    #[must_use]
    pub fn contains(&self, connection: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(connection),
        }
    }
}
