//! Arguments and results of the store.

use jiff::Timestamp;

use crate::domain::assignment::AssignmentState;
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::ids::{CandidateId, OperationId};
use crate::domain::intent::{IdempotencyKeyUse, StoredReply};
use crate::domain::operation::{OperationKind, OperationState};

/// A person whose assignments are selected.
#[derive(Debug, Clone, Default)]
pub struct CandidateSelector {
    /// Their candidates, one per connection at most.
    pub ids: Vec<CandidateId>,
    /// The connections and the identities by which their vendors know the person: a booking made before their
    /// registration names no candidate.
    pub known_as: Vec<(String, Identity)>,
}

/// Filter for a list of candidates.
#[derive(Debug, Clone, Default)]
pub struct CandidateFilter {
    /// At this connection.
    pub connection: Option<String>,
    /// In this state.
    pub state: Option<CandidateState>,
    /// In this group.
    pub group: Option<String>,
}

/// Filter for a list of operations.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    /// In this state.
    pub state: Option<OperationState>,
    /// With rows of this kind.
    pub kind: Option<OperationKind>,
    /// At this connection.
    pub connection: Option<String>,
}

/// Filter for a list of assignments.
#[derive(Debug, Clone, Default)]
pub struct AssignmentFilter {
    /// Of this person.
    pub candidate: Option<CandidateSelector>,
    /// Of this assessment: the vendor's id or the caller's name for it, in any of these forms; of all assessments if
    /// empty.
    pub assessment: Vec<String>,
    /// At this connection.
    pub connection: Option<String>,
    /// In this state.
    pub state: Option<AssignmentState>,
}

/// A page of a list, newest first: at most `limit` entries that follow the entry `after`.
#[derive(Debug, Clone)]
pub struct Page {
    /// Maximum number of entries.
    pub limit: usize,
    /// The last entry of the previous page.
    pub after: Option<String>,
}

/// A part of a list whose entries are checked after they were read: it may have fewer entries than were asked for.
#[derive(Debug, Clone)]
pub struct ListPart<T> {
    /// The entries.
    pub items: Vec<T>,
    /// The last entry that was read, after which the next part begins; `None` at the end of the list.
    pub next: Option<String>,
}

/// A candidate whose group an earlier version has not indexed.
#[derive(Debug, Clone)]
pub enum UnindexedCandidate {
    /// One that can be read.
    Readable(Box<Candidate>),
    /// One that cannot: its id, and its record as it is stored.
    Unreadable(String, Vec<u8>),
}

impl UnindexedCandidate {
    /// Returns the candidate if it can be read.
    #[must_use]
    pub fn readable(self) -> Option<Candidate> {
        match self {
            Self::Readable(candidate) => Some(*candidate),
            Self::Unreadable(..) => None,
        }
    }
}

/// Limits of one read: the read ends with the row that reaches either of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Maximum number of rows.
    pub rows: usize,
    /// Maximum bytes of memory.
    pub bytes: usize,
}

/// The rows read within a [`Window`].
#[derive(Debug, Clone)]
pub struct WindowedRows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether the window was full, so that more rows may follow.
    pub more: bool,
}

/// A request to acquire an `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct AcquireKey {
    /// The tenant that owns it.
    pub tenant: String,
    /// Identifies this use of the key if the key is acquired.
    pub token: String,
    /// Method, path and the caller's key.
    pub scope: String,
    /// SHA-256 of the request's content; stored as a keyed fingerprint only.
    pub content: [u8; 32],
    /// Time of the request.
    pub now: Timestamp,
    /// Time at which the key expires. A key that has expired by `now` counts as unused.
    pub expires: Timestamp,
}

impl AcquireKey {
    /// Returns the use that this request would create.
    #[must_use]
    pub fn key(&self) -> IdempotencyKeyUse {
        IdempotencyKeyUse { scope: self.scope.clone(), token: self.token.clone() }
    }
}

/// State of an `Idempotency-Key`; the variants are checked in this order.
#[derive(Debug, Clone)]
pub enum KeyState {
    /// The key was used for a request with other content.
    Mismatch,
    /// Its write is finished; this is the stored reply.
    Completed(Box<StoredReply>),
    /// A live instance is working on it.
    InProgress,
    /// The key was used, no instance is working on it, and the outcome is unknown; it now belongs to this instance.
    /// Holds the record the earlier use led to, if any.
    Resumable(IdempotencyKeyUse, Option<String>),
    /// It was free; it now belongs to this instance.
    Acquired(IdempotencyKeyUse),
}

/// Result of accepting an operation whose rows have all arrived.
#[derive(Debug, Clone)]
pub enum AcceptResult {
    /// The operation is queued.
    Queued,
    /// The key belongs to this earlier operation; the new one is discarded.
    Replayed(OperationId),
    /// The key was used for a request with other content; the new operation is discarded.
    KeyMismatch,
    /// The key's earlier request is in progress; the new operation is discarded.
    KeyInProgress,
}

/// Another instance that shares the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub instance: String,
    /// Number of its heartbeats.
    pub heartbeats: i64,
}

/// Counts of rows that have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// Rows for which nothing was sent.
    pub waiting: u64,
    /// Rows that are being sent.
    pub claimed: u64,
}

/// A running operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningOperation {
    /// Its id.
    pub id: OperationId,
    /// Its connection.
    pub connection: String,
    /// Number of its rows that have not ended.
    pub pending: u64,
}

/// Number of open intents of one write kind that no instance is sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsettledCount {
    /// Their connection.
    pub connection: String,
    /// Their write kind, as in problems and metrics.
    pub operation: String,
    /// Number of intents.
    pub count: u64,
}

/// Counts of what a purge removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeCounts {
    /// Operations, with their rows.
    pub operations: u64,
    /// Idempotency keys, with their stored replies.
    pub keys: u64,
}

/// The result of a step of [`Store::reindex_identities`](crate::store::Store::reindex_identities).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityUpkeep {
    /// A page of records was renewed; more may follow.
    Page(ReindexedPage),
    /// Every present record was renewed, but a live instance of an earlier version may add entries of its form.
    Waiting,
    /// Every record was renewed, and no instance adds entries of the earlier form.
    Done {
        /// Number of records with a spelling that is not its own key.
        found: u64,
    },
}

/// A page of renewed records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReindexedPage {
    /// Identities that another candidate holds in another spelling.
    pub collisions: Vec<Collision>,
    /// Records that cannot be read; they keep their entries.
    pub unreadable: Vec<String>,
}

/// A candidate whose identity another candidate holds in another spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// The candidate, which keeps its entry of the earlier form.
    pub candidate: String,
    /// The candidate that holds the identity.
    pub holder: String,
    /// The kind of the identity.
    pub kind: &'static str,
}
