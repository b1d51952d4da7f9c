//! What a result needs in order to be stored under an `Idempotency-Key` and replayed.

use crate::domain::intent::StoredReply;
use crate::domain::outcome::Outcome;
use crate::service::audit::entry::AuditFacts;
use crate::service::write::handle::{Removal, WriteResult};

/// Result whose reply can be stored under a key and replayed.
pub(in crate::service) trait Replayable: Clone + Send + Sync + Sized + 'static {
    /// Whether the transaction that commits the outcome also stores the reply.
    const IS_STORED_WITH_OUTCOME: bool;

    /// Returns the reply to store; `None` while the write is pending.
    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply>;

    /// Returns the connection of the result, if the result names it.
    fn connection(written: &WriteResult<Self>) -> Option<&str>;

    /// Returns the facts for the audit entry; `None` if the write continues as an operation.
    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts>;

    /// Restores the result from a stored reply; `None` if the reply is of another kind.
    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>>;
}

impl<T: Clone + Send + Sync + 'static> Replayable for Removal<T> {
    const IS_STORED_WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        (!matches!(written, WriteResult::Pending(_))).then_some(StoredReply::Gone)
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(_written: &WriteResult<Self>) -> Option<AuditFacts> {
        Some(AuditFacts { object: None, connection: None, outcome: Outcome::Applied })
    }

    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>> {
        matches!(reply, StoredReply::Gone).then_some(WriteResult::Created(Self::Done))
    }
}
