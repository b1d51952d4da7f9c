//! The data that must survive a restart, behind one [`Store`] trait: candidates, assignments, the intents of writes
//! with an unknown outcome, operations with their rows, the replies stored under an `Idempotency-Key`, and the audit
//! record.
//!
//! Every change is one transaction and is durable when its call returns. The store knows no vendor and decides nothing
//! about outcomes. It encrypts everything about a person before it reaches the disk (`encryption`) and finds it again
//! through keyed blind indices.
//!
//! Several processes may share one store (`PostgreSQL`); each is an *instance* that keeps its lease by heartbeats. When
//! the heartbeats stop, a peer ends the instance, and the store rejects its later writes ([`StoreError::Fenced`]).

use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::Instrument as _;

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::audit::{ChainedEntry, Entry};
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{AssignmentId, CandidateId, OperationId};
use crate::domain::intent::{IdempotencyKeyUse, Intent, StoredReply};
use crate::domain::operation::{Item, ItemId, ItemOutcome, ItemReport, ItemState, Operation, Progress};
use crate::telemetry::{metrics, spans};

mod codec;
mod columns;
#[cfg(test)]
pub(crate) mod conformance;
mod encryption;
mod engine;
mod health;
mod inspection;
mod postgres;
mod sql;
mod sqlite;

pub use crate::store::encryption::{Keyring, SealError};
pub use inspection::{Inspection, SchemaChange};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

/// Maximum bytes of open intents read at once: an intent with a picture is a thousand times as large as one without.
const MAX_INTENT_BYTES: usize = 8 << 20;

/// A failure of the store. Nothing was written, unless the variant documents otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database refused, is unreachable, or its disk is full. Nothing was written.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The commit was sent and its response lost: either all of the transaction was written or none of it.
    #[error("the outcome of a commit is unknown: {0}")]
    InDoubt(String),
    /// A record cannot be read: it is damaged or was sealed under another key.
    #[error("a stored record cannot be read: {0}")]
    Unreadable(String),
    /// Another candidate holds an identity that was to be set; nothing was written.
    #[error("another candidate holds one of the identities")]
    Conflict,
    /// A row that was to be claimed is no longer waiting, because it was cancelled. Nothing was written.
    #[error("the row is no longer waiting")]
    ItemNotWaiting,
    /// The attempt to conclude was already concluded, or is no longer this instance's; nothing was written.
    #[error("the attempt was already concluded or taken over")]
    Superseded,
    /// Another instance declared this one dead and took its work over; nothing was written.
    #[error("this instance was declared dead and another took its work over")]
    Fenced,
}

/// Detail both engines report when the disk has no space left.
const DISK_FULL: &str = "the disk is full";

impl StoreError {
    /// Converts the error of a call whose late effect is undone: the call has certainly failed, even if the commit
    /// arrived.
    fn into_definite_failure(self) -> Self {
        match self {
            Self::InDoubt(detail) => Self::Unavailable(detail),
            other => other,
        }
    }

    /// Returns whether the failure was a full disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Unavailable(detail) if detail.contains(DISK_FULL))
    }
}

/// A write with everything to commit before it is sent.
#[derive(Debug, Clone)]
pub struct PreparedWrite {
    /// The record the write is about.
    pub record: PreparedRecord,
    /// Its intent; the idempotency key and the bulk row it names as its origin are bound with it.
    pub intent: Intent,
    /// The bulk row's subjects, for detecting duplicates.
    pub subjects: Vec<SubjectHash>,
}

/// The record of a [`PreparedWrite`].
#[derive(Debug, Clone)]
pub enum PreparedRecord {
    /// A new candidate with identities that no other candidate at its connection may hold.
    NewCandidate(Candidate, Vec<Identity>),
    /// A known candidate; the identities, if given, replace those it holds.
    Candidate(Candidate, Option<Vec<Identity>>),
    /// An assignment.
    Assignment(Assignment),
    /// No record of its own: a change of a program's employees.
    Enrolment,
}

/// Result of beginning a write.
#[derive(Debug, Clone, PartialEq)]
pub enum BeginResult {
    /// Record, identities, intent, key and row are written.
    Begun,
    /// These candidates of the tenant hold one or more of the identities; nothing was written.
    Exists(Vec<Candidate>),
    /// Another tenant holds one of the identities; nothing was written.
    TakenByOtherTenant,
    /// The row it comes from is no longer waiting; nothing was written.
    ItemCancelled,
    /// The idempotency key is in use; nothing was written.
    KeyInUse,
    /// It failed, or its result is unknown, after other writes of the same call were written.
    Failed(StoreError),
}

/// One change; all changes of one call share a transaction.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Updates the tenant's candidate with the same id and keeps its identities. Does nothing if the candidate is gone:
    /// a late outcome must not restore an erased person.
    Candidate(Candidate),
    /// Replaces the candidate's identities; all others are released. [`StoreError::Conflict`] if another candidate, of
    /// any tenant, holds one of them. Does nothing if the candidate was erased.
    Identities(CandidateId, Vec<Identity>),
    /// Removes the candidate, its identities and its intent; its assignments stay, without the person.
    EraseCandidate(CandidateId),
    /// Inserts or replaces the assignment; without the person if its candidate is gone.
    Assignment(Assignment),
    /// Inserts or replaces the intent of its record. An intent under way belongs to this instance.
    Intent(Intent),
    /// Removes the record's intent: its outcome is known.
    RemoveIntent(String),
    /// [`StoreError::Superseded`] unless this instance is sending the record's intent in the attempt that began at this
    /// time. Accompanies everything that concludes an attempt, so that a late write never overwrites a newer one.
    RequireAttempt(String, Timestamp),
    /// The key's write has led to this record; a retry reconciles it. Does nothing if the key has another use by now.
    BindKey(IdempotencyKeyUse, String),
    /// The key's write is finished; a retry gets this reply.
    CompleteKey(IdempotencyKeyUse, StoredReply),
    /// No instance is working on the key's write and its outcome is unknown; a retry resumes it.
    ReleaseKey(IdempotencyKeyUse),
    /// The key's write had no effect; the key is free. Does nothing if the key already has a reply.
    FreeKey(IdempotencyKeyUse),
    /// Claims the row for this record and stores these hashes of its subjects, so that a later row about the same
    /// subject is recognised as a duplicate. Clears the row's password, which the intent now holds.
    /// [`StoreError::ItemNotWaiting`] unless the row is waiting.
    ClaimItem(ItemId, String, Vec<SubjectHash>),
    /// Ends the row, with the record it led to, if any. Clears its password unless it was skipped.
    EndItem(ItemId, Option<String>, ItemOutcome),
    /// As [`Mutation::EndItem`], for a row that was never claimed. Does nothing unless the row is waiting: the task
    /// that claimed any other row records its outcome.
    EndWaitingItem(ItemId, Option<String>, ItemOutcome),
    /// As [`Mutation::EndItem`], for a row whose write is open and left to a person. Does nothing unless the row is
    /// claimed: otherwise its outcome has been recorded meanwhile.
    EndClaimedItem(ItemId, Option<String>, ItemOutcome),
    /// Stores the subjects of a row that ended without being claimed, as [`Mutation::ClaimItem`] does.
    SetItemSubjects(ItemId, Vec<SubjectHash>),
    /// Returns the row to waiting: its write had no effect and is to be sent again. Skips it if its operation was
    /// cancelled meanwhile. Does nothing to a row that ended otherwise.
    RequeueItem(ItemId),
    /// Updates the operation's state, times and connection.
    Operation(Operation),
    /// Requests cancellation of an operation that has not ended. Only [`Store::requeue`] withdraws the request.
    CancelOperation(OperationId),
    /// Appends an entry to its tenant's audit record. No mutation alters or removes an entry.
    Audit(Entry),
}

/// Keyed hash of the subject of a row, made by [`Store::hash_subject`]; a second row about the same subject has the same
/// hash.
pub type SubjectHash = [u8; 16];

/// A candidate whose assignments are selected.
#[derive(Debug, Clone)]
pub struct CandidateSelector {
    /// The candidate.
    pub id: CandidateId,
    /// The connection and the identity by which the vendor knows the candidate: a booking made before their
    /// registration names no candidate.
    pub known_as: Option<(String, Identity)>,
}

/// Filter for a list of assignments.
#[derive(Debug, Clone, Default)]
pub struct AssignmentFilter {
    /// Of this candidate.
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

/// Persistent state of the gateway.
#[async_trait]
pub trait Store: Send + Sync {
    /// Checks that the store can be read, and, if the last write failed, that it can be written.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Returns whether the store is currently known to be unavailable. Does not query the store, so that a caller that
    /// can do without it need not wait for another timeout.
    fn is_unavailable(&self) -> bool;

    // Instances ------------------------------------------------------------------------------------------------------

    /// Returns whether other processes may use the store at the same time.
    fn is_shared(&self) -> bool;

    /// Records a heartbeat of this instance and returns the peers that have not ended.
    async fn renew_lease(&self) -> Result<Vec<Peer>, StoreError>;

    /// Ends another instance unless it has recorded a heartbeat since, and releases what it holds. Returns whether the
    /// instance has ended.
    async fn end_instance(&self, peer: &Peer) -> Result<bool, StoreError>;

    /// Ends this instance for good: releases what it holds and rejects its later writes. Does nothing if the store
    /// belongs to one process.
    async fn end_own_instance(&self) -> Result<(), StoreError>;

    /// Acquires the locks that serialise writes about these subjects, or none of them if another live instance holds
    /// one. Requests within one instance are ordered by its own locks; an engine that belongs to one process does
    /// nothing here.
    async fn acquire_locks(&self, subjects: &[&str]) -> Result<bool, StoreError>;

    /// Releases locks of this instance; locks of other instances stay.
    async fn release_locks(&self, subjects: &[String]) -> Result<(), StoreError>;

    // Records --------------------------------------------------------------------------------------------------------

    /// Begins writes: commits each with its record, its intent, and the key and row it comes from, unless an identity
    /// is taken or the row is no longer waiting. Returns one result each, in order. An engine may take several
    /// transactions; once something was written, a failure is reported per write ([`BeginResult::Failed`]).
    ///
    /// Under a key, acquires it in the transaction of the first write, bound to that write's record. If the key is in
    /// use, nothing is written ([`BeginResult::KeyInUse`]); if the first write is refused, the key stays free.
    ///
    /// [`StoreError::Conflict`], with nothing written, if another candidate holds an identity that a known candidate is
    /// to get.
    async fn begin_writes(
        &self,
        key: Option<&AcquireKey>,
        writes: Vec<PreparedWrite>,
    ) -> Result<Vec<BeginResult>, StoreError>;

    /// Applies all mutations, or none.
    async fn commit(&self, changes: Vec<Mutation>) -> Result<(), StoreError>;

    /// Returns the tenant's candidate with this id.
    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError>;

    /// Returns the tenant's candidates with these ids, in any order and without their pictures. Omits those that are
    /// gone.
    async fn candidates_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError>;

    /// Returns the tenant's candidates with this identity, at this connection or at all of them.
    async fn candidates(
        &self,
        tenant: &str,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// Returns whether a candidate of another tenant holds one of these identities at the connection.
    async fn identities_of_other_tenants(
        &self,
        tenant: &str,
        connection: &str,
        identities: &[Identity],
    ) -> Result<bool, StoreError>;

    /// Returns the tenant's assignment with this id.
    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError>;

    /// Returns the tenant's assignments with these ids, in any order.
    async fn assignments_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Assignment>, StoreError>;

    /// Returns the tenant's assignments of this subject at this connection, newest first.
    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError>;

    /// Returns whether any tenant has or had an assignment of this subject at this connection.
    async fn is_subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError>;

    /// Returns a page of the tenant's assignments, newest first.
    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError>;

    /// Returns, ordered by id, candidates after this one that are gone while assignments still name them: they were
    /// erased before the person was removed from their assignments.
    async fn partially_erased_candidates(
        &self,
        after: Option<&CandidateId>,
        limit: usize,
    ) -> Result<Vec<CandidateId>, StoreError>;

    // Intents --------------------------------------------------------------------------------------------------------

    /// Returns the open intent of this record.
    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError>;

    /// Returns the open intents of this subject, oldest first.
    async fn intents_of(&self, subject: &str) -> Result<Vec<Intent>, StoreError>;

    /// Returns a connection's open intents that change a program's employees, oldest first.
    async fn enrolment_intents(&self, connection: &str) -> Result<Vec<Intent>, StoreError>;

    /// Returns open intents of a connection that are due and that no instance is sending, the longest due first. An
    /// intent due after `horizon` counts as due as well: nothing is postponed that long, so a clock was wrong when its
    /// time was set.
    async fn due_intents(
        &self,
        connection: &str,
        now: Timestamp,
        horizon: Timestamp,
        limit: usize,
    ) -> Result<Vec<Intent>, StoreError>;

    /// Returns open intents that an instance was sending when it ended, oldest first.
    async fn orphaned_intents(&self, limit: usize) -> Result<Vec<Intent>, StoreError>;

    /// Returns open intents that this instance is sending, ordered by record, after this one: a page of the search for
    /// those whose task is gone.
    async fn own_intents(&self, after: &str, limit: usize) -> Result<Vec<Intent>, StoreError>;

    /// Counts the open intents that no instance is sending.
    async fn count_unsettled_intents(&self) -> Result<Vec<UnsettledCount>, StoreError>;

    /// Counts the rows that are waiting or being sent, over all operations.
    async fn count_open_items(&self) -> Result<ItemCounts, StoreError>;

    // Idempotency keys -----------------------------------------------------------------------------------------------

    /// Acquires a key and returns its state.
    async fn acquire_key(&self, claim: &AcquireKey) -> Result<KeyState, StoreError>;

    // Operations -----------------------------------------------------------------------------------------------------

    /// Inserts a new operation that has no rows yet; its state is `Receiving`, or `Running` if its rows follow at once.
    async fn open_operation(&self, operation: &Operation) -> Result<(), StoreError>;

    /// Adds rows to an operation.
    async fn add_items(&self, items: Vec<Item>) -> Result<(), StoreError>;

    /// Turns an operation whose rows have all arrived from `Receiving` into the given one, under its key if it has one.
    async fn accept_operation(
        &self,
        operation: &Operation,
        key: Option<&AcquireKey>,
    ) -> Result<AcceptResult, StoreError>;

    /// Removes an operation with its rows.
    async fn discard_operation(&self, id: &OperationId) -> Result<(), StoreError>;

    /// Returns the tenant's operation with this id.
    async fn operation(&self, tenant: &str, id: &OperationId) -> Result<Option<(Operation, Progress)>, StoreError>;

    /// Returns a page of the tenant's operations, newest first; omits those still being received.
    async fn operations(&self, tenant: &str, page: &Page) -> Result<Vec<(Operation, Progress)>, StoreError>;

    /// Returns queued and running operations other than `but`. Per tenant and connection, these are the `of_each`
    /// oldest operations, and separately as many that change programs' employees. The first of each group come first,
    /// then the second of each, and so on.
    async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError>;

    /// Returns all running operations with the number of their rows that have not ended.
    async fn running_operations(&self) -> Result<Vec<RunningOperation>, StoreError>;

    /// Returns an operation's rows in these states (all if empty) with an index of at least `from`, in order. Their
    /// size is not limited: read only a few at a time.
    async fn items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError>;

    /// As [`Store::items`], limited by a window.
    async fn next_items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<Vec<Item>, StoreError>;

    /// As [`Store::next_items`], without the requests of the rows.
    async fn item_reports(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<WindowedRows<ItemReport>, StoreError>;

    /// Returns the recorded subjects of the operation's rows, each with the index of its first row.
    async fn item_subjects(&self, id: &OperationId) -> Result<Vec<(SubjectHash, u64)>, StoreError>;

    /// Skips every waiting row of an operation and returns how many; the rows keep their requests.
    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError>;

    /// Returns every failed, skipped and unknown row of an ended operation to waiting, accepted at this time; clears
    /// the subjects of those without a record, and queues the operation. An unknown row keeps its record, because it
    /// must be reconciled first. A row that could not be read stays as it is. Does nothing if the operation has not
    /// ended or no row would wait.
    async fn requeue(&self, id: &OperationId, accepted: Timestamp) -> Result<(), StoreError>;

    /// Returns the hash of a subject within an operation.
    fn hash_subject(&self, operation: &OperationId, text: &str) -> SubjectHash;

    /// Returns the tenant's audit entries after the one with this number, in order.
    async fn audit(&self, tenant: &str, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, StoreError>;

    /// Records that the store is in use at this time.
    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Returns the time most recently recorded by [`Store::remember_time`].
    async fn remembered_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Removes operations that ended before `finished`, keys that have expired by `now`, and operations that an
    /// instance was still receiving when it ended.
    async fn purge(&self, now: Timestamp, finished: Timestamp) -> Result<PurgeCounts, StoreError>;
}

/// Measures and traces an action of an engine, including its waiting time.
async fn measure<T>(action: &'static str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.instrument(spans::store(action)).await;
    metrics::store(action, began.elapsed());
    done
}
