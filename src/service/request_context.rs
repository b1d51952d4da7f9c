//! Context of a request: the client, its permissions, and what accompanies its writes.

use std::collections::BTreeSet;

use crate::domain::exchange::Exchange;
use crate::domain::intent::WriteOrigin;
use crate::domain::operation::{Operation, OperationKind};
use crate::domain::record::RecordId;
use crate::domain::scope::ScopeSet;
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::service::audit::pending_entry::PendingAuditEntry;

/// Authenticated client with its permissions and the request's metadata.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Tenant that owns the caller's resources.
    pub tenant: String,
    /// Name of the configured client.
    pub client: String,
    /// Scopes of the request: the client's, of those that its token grants.
    pub scopes: ScopeSet,
    /// Connections the client may use.
    pub connections: ConnectionAccess,
    /// Connection used when a request names none.
    pub default_connection: Option<String>,
    /// Exchange of the request, with its id and trace.
    pub exchange: Exchange,
    /// Priority of the request's vendor calls.
    pub priority: Priority,
    /// Request's `Idempotency-Key`, if it has one.
    pub key: Option<IdempotencyRequest>,
    /// Idempotency key or bulk row that the request's writes belong to; set by the gateway itself.
    pub origin: WriteOrigin,
    /// Record of an earlier use of the key that this request resumes; set by the gateway itself.
    pub resumed: Option<RecordId>,
    /// Pending audit entry of the response, if one is due.
    pub audit_entry: Option<PendingAuditEntry>,
}

/// `Idempotency-Key` with the fingerprint of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRequest {
    /// Method, path and caller's key.
    pub scope: String,
    /// SHA-256 of the request's content.
    pub content: [u8; 32],
}

impl RequestContext {
    /// Builds the context of a vendor call made for this caller.
    pub(super) fn call_context(&self, purpose: CallPurpose) -> CallContext {
        CallContext { purpose, priority: self.priority, exchange: self.exchange.clone() }
    }

    /// Returns whether the caller may see and use a webhook of its tenant that belongs to this client (`None`: to the operator)
    /// and names these connections: it is its own, or gets nothing that the caller may not read itself. Otherwise the caller
    /// could have events delivered to it that it must not see.
    pub(super) fn may_use_webhook(&self, client: Option<&str>, named: &[String]) -> bool {
        match &self.connections {
            ConnectionAccess::All => true,
            ConnectionAccess::Named(_) => {
                client == Some(self.client.as_str())
                    || (!named.is_empty() && named.iter().all(|name| self.connections.contains(name)))
            }
        }
    }

    /// Creates the context in which an operation's rows are sent, on behalf of the client that created it.
    pub(super) fn of_operation(operation: &Operation, exchange: Exchange) -> Self {
        Self {
            tenant: operation.tenant.clone(),
            client: operation.client.clone(),
            scopes: ScopeSet::default(),
            connections: ConnectionAccess::Named(BTreeSet::from([operation.connection.clone()])),
            default_connection: Some(operation.connection.clone()),
            exchange,
            // An enrolment is an operation only for durability; its caller waits as for any single write.
            priority: if operation.kind == OperationKind::ProgramEmployees {
                Priority::Interactive
            } else {
                Priority::Bulk
            },
            key: None,
            origin: WriteOrigin::default(),
            resumed: None,
            audit_entry: None,
        }
    }
}

/// Connections a client may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionAccess {
    /// All connections.
    All,
    /// Named connections.
    Named(BTreeSet<String>),
}

impl ConnectionAccess {
    /// Returns whether the client may use this connection.
    #[must_use]
    pub fn contains(&self, connection: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(connection),
        }
    }
}
