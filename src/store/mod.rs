//! What must survive: candidates, assignments, the intents of writes not answered yet, operations with their rows, the
//! answers kept under an `Idempotency-Key` and the audit record, behind one [`Store`] trait.
//!
//! Every change is one transaction; a call that returned has survived. The store knows no vendor and decides nothing about
//! outcomes. Everything about a person is sealed before it reaches the disk (`seal`), and found again through keyed blind
//! indices.
//!
//! Several processes may share one store (`PostgreSQL`); each is an *instance*. An instance lives as long as it beats; one
//! that stopped is ended by another, and from then on nothing it still tries to write is taken ([`StoreError::Ended`]).

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
#[cfg(test)]
pub(crate) mod conformance;
mod encryption;
mod health;
mod inspection;
mod postgres;
mod sqlite;

pub use crate::store::encryption::{Keyring, SealError};
pub use inspection::{Inspection, SchemaChange};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

/// Most bytes of open writes that are read at once: one with a picture has a thousand times as many as another.
const INTENTS: usize = 8 << 20;

/// The store cannot do its work; what was asked did not happen, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database refused, is gone, or its disk is full. Nothing was written.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The commit was handed over and its answer lost: all of it may have been written, or nothing.
    #[error("the answer to a commit was lost: {0}")]
    InDoubt(String),
    /// A record cannot be read: another key sealed it, or it was damaged.
    #[error("a record of the store cannot be read: {0}")]
    Unreadable(String),
    /// An identity that was to be set is held by another candidate; nothing was written.
    #[error("another candidate holds one of the identities")]
    Conflict,
    /// A row that was to be claimed is not waiting any more: it was cancelled. Nothing was written.
    #[error("the row is not waiting any more")]
    ItemNotWaiting,
    /// The attempt that was to be concluded is not this instance's any more, or was concluded before; nothing was written.
    #[error("the attempt was concluded or taken over before")]
    Superseded,
    /// Another instance took this one for dead and has taken its work over; nothing was written.
    #[error("this instance was taken for dead and its work taken over")]
    Fenced,
}

/// How the engines say that there is no room left.
const FULL: &str = "the disk is full";

impl StoreError {
    /// The error of what has no effect, should it have been done after all: it has failed, for sure.
    fn without_effect(self) -> Self {
        match self {
            Self::InDoubt(detail) => Self::Unavailable(detail),
            other => other,
        }
    }

    /// Whether what failed needs more room than there is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Unavailable(detail) if detail.contains(FULL))
    }
}

/// A new candidate that wants its identities.
#[derive(Debug, Clone)]
pub struct CandidateInsert {
    /// The record.
    pub candidate: Candidate,
    /// What it must be the only one to hold at its connection.
    pub identities: Vec<Identity>,
    /// Its registration.
    pub intent: Intent,
    /// What else is written with it: the row or key it comes from.
    pub with: Vec<Mutation>,
}

/// What happened to the claim of a new candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum InsertResult {
    /// The record, its identities, its intent and all that goes with it are written.
    Inserted,
    /// These candidates of the tenant hold one or more of the identities; nothing was written.
    Exists(Vec<Candidate>),
    /// Another tenant holds one of the identities; nothing was written.
    TakenByOtherTenant,
    /// The row it comes from is not waiting any more; nothing was written.
    ItemCancelled,
    /// What became of it is not known by itself, while others of the same call are written: the store failed in between.
    Failed(StoreError),
}

/// One change; several in one call are one transaction.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Writes the candidate over the tenant's one with the same id, its identities left as they are. Does nothing if there
    /// is none: a late outcome does not bring an erased person back.
    Candidate(Candidate),
    /// Sets the candidate's identities to these: all others of it are released. [`StoreError::Conflict`] if another
    /// candidate, of any tenant, holds one of them; nothing happens if the candidate was erased.
    Identities(CandidateId, Vec<Identity>),
    /// Removes the candidate, its identities and its intent; its assignments stay, without the person.
    EraseCandidate(CandidateId),
    /// Writes the assignment over the one with the same id, or as a new one; without the person if its candidate is gone.
    Assignment(Assignment),
    /// Writes the intent over the one of the same record, or as a new one. One that is under way belongs to this instance.
    Intent(Intent),
    /// Removes the record's intent: its outcome is known.
    Settled(String),
    /// [`StoreError::Superseded`] unless this instance is sending the record's intent, in the attempt that began then. It goes
    /// with everything that concludes an attempt, so that what is written late never undoes what was written since.
    AttemptHeld(String, Timestamp),
    /// The key's write has led to this record: a repeat settles it. Does nothing if the key has another use by now.
    KeyBound(IdempotencyKeyUse, String),
    /// The key's write is finished; a repeat gets this answer.
    KeyAnswered(IdempotencyKeyUse, StoredReply),
    /// Nobody is working on the key's write, and what became of it is not known; a repeat goes on with it.
    KeyOpen(IdempotencyKeyUse),
    /// Nothing came of the key's write; the key is free. Does nothing if it is answered already.
    KeyFreed(IdempotencyKeyUse),
    /// The row's record is this one, and what it is about is remembered under these values, so that a later row about the
    /// same is known for a repeat. Its password is gone: the intent has it now. [`StoreError::Withdrawn`] unless the row
    /// is waiting.
    ItemClaimed(ItemId, String, Vec<SubjectHash>),
    /// The row has ended, with this record where it led to one; its password is gone unless it was skipped.
    ItemEnded(ItemId, Option<String>, ItemOutcome),
    /// The same for a row that was never claimed. Does nothing to one that is not waiting any more: whoever claimed it says
    /// how it ended.
    ItemEndedUnsent(ItemId, Option<String>, ItemOutcome),
    /// The same for a row whose write is open and left to a person. Does nothing to one that is not claimed any more: it was
    /// told meanwhile.
    ItemEndedClaimed(ItemId, Option<String>, ItemOutcome),
    /// A row that ended without being claimed was about these: remembered as in [`Mutation::ItemClaimed`].
    ItemSubjects(ItemId, Vec<SubjectHash>),
    /// The row waits again: nothing came of it, and it is to be sent once more. It is skipped where its operation was
    /// cancelled meanwhile. Does nothing to one that ended otherwise.
    ItemWaiting(ItemId),
    /// Writes the operation's state, times and connection.
    Operation(Operation),
    /// Somebody asked for the end of an operation that has not ended. Taken back by [`Store::requeue`] only.
    OperationCancelling(OperationId),
    /// Appends a line to its tenant's audit record. There is no change that alters or removes one.
    Audit(Entry),
}

/// What a row is about, so that a second row about the same can be told: a keyed value made by [`Store::subject_of`].
pub type SubjectHash = [u8; 16];

/// A candidate whose assignments are meant.
#[derive(Debug, Clone)]
pub struct OfCandidate {
    /// The candidate.
    pub id: CandidateId,
    /// The connection and the identity by which the vendor knows them: bookings made before they were registered name no
    /// candidate.
    pub known_as: Option<(String, Identity)>,
}

/// Which assignments are meant.
#[derive(Debug, Clone, Default)]
pub struct AssignmentFilter {
    /// Of this candidate.
    pub candidate: Option<OfCandidate>,
    /// Of this assessment, by the vendor's own id or as the caller named it, in any of these forms; of all if empty.
    pub assessment: Vec<String>,
    /// At this connection.
    pub connection: Option<String>,
    /// In this state.
    pub state: Option<AssignmentState>,
}

/// A part of a list: at most `limit` entries after the one named by `after`, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// Most entries.
    pub limit: usize,
    /// The last entry of the part before.
    pub after: Option<String>,
}

/// Most of something that is read in one go: the reading ends with the row that reaches one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows.
    pub rows: usize,
    /// Bytes of memory they take.
    pub bytes: usize,
}

/// What a window held.
#[derive(Debug, Clone)]
pub struct Part<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether the window was full, so that there may be more.
    pub more: bool,
}

/// The use of an `Idempotency-Key` that is asked for.
#[derive(Debug, Clone)]
pub struct AcquireKey {
    /// Whose it is.
    pub tenant: String,
    /// Names this use of the key, should it become one.
    pub token: String,
    /// Tenant, method, path and the caller's key.
    pub scope: String,
    /// SHA-256 of what the request says; kept as a keyed fingerprint only.
    pub content: [u8; 32],
    /// When it is asked.
    pub now: Timestamp,
    /// When the key is forgotten. One that is forgotten by `now` counts as unused.
    pub expires: Timestamp,
}

impl AcquireKey {
    /// The use that is asked for.
    #[must_use]
    pub fn key(&self) -> IdempotencyKeyUse {
        IdempotencyKeyUse { scope: self.scope.clone(), token: self.token.clone() }
    }
}

/// What there is under an `Idempotency-Key`, checked in this order.
#[derive(Debug, Clone)]
pub enum KeyState {
    /// It was used for a request that says something else.
    Mismatch,
    /// Its write is finished.
    Completed(Box<StoredReply>),
    /// A living instance is working on it.
    InProgress,
    /// It was used, nobody is working on it, and what became of it is not known; it is this instance's now.
    Resumable(IdempotencyKeyUse, Option<String>),
    /// It was free; it is this instance's now.
    Acquired(IdempotencyKeyUse),
}

/// What became of an operation whose rows have all arrived.
#[derive(Debug, Clone)]
pub enum AcceptResult {
    /// It is queued.
    Queued,
    /// The key belongs to this earlier operation; the new one is discarded.
    Replayed(OperationId),
    /// The key was used for a request that says something else; the new operation is discarded.
    KeyMismatch,
    /// The key's request is under way; the new operation is discarded.
    KeyInProgress,
}

/// Another instance that shares the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub instance: String,
    /// How often it has beaten.
    pub heartbeats: i64,
}

/// Rows of operations that have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// Nothing was sent for these.
    pub waiting: u64,
    /// These are on their way.
    pub claimed: u64,
}

/// A running operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningOperation {
    /// Its id.
    pub id: OperationId,
    /// Its connection.
    pub connection: String,
    /// How many of its rows have not ended.
    pub pending: u64,
}

/// Open writes of one kind that nobody is working on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsettledCount {
    /// Their connection.
    pub connection: String,
    /// Their operation, as in problems and metrics.
    pub operation: String,
    /// How many.
    pub count: u64,
}

/// What was removed because its time was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeCounts {
    /// Operations, with their rows.
    pub operations: u64,
    /// Idempotency keys, with their answers.
    pub keys: u64,
}

/// What the gateway needs to survive a restart.
#[async_trait]
pub trait Store: Send + Sync {
    /// Whether the store answers: by a read, and by a write as well where the last write failed.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Whether the store is known not to answer at the moment. Known at once, without a look: whoever does not have to use it
    /// need not wait to learn it again.
    fn is_unavailable(&self) -> bool;

    // Instances ------------------------------------------------------------------------------------------------------

    /// Whether other processes may use the store at the same time.
    fn shared(&self) -> bool;

    /// Says that this instance lives, and tells the others that do not count as ended.
    async fn renew_lease(&self) -> Result<Vec<Peer>, StoreError>;

    /// Ends another instance, unless it has beaten since; whether it is ended now. What it holds is free from then on.
    async fn end_instance(&self, peer: &Peer) -> Result<bool, StoreError>;

    /// Ends this instance itself, for good: what it holds is free from then on, and nothing it still writes is taken. Does
    /// nothing where the store belongs to one process.
    async fn start_draining(&self) -> Result<(), StoreError>;

    /// Takes the turns to write about these subjects: all of them, or none where another living instance has one. Within one
    /// instance turns are ordered by its own locks; an engine that belongs to one process has nothing to do here.
    async fn acquire_locks(&self, subjects: &[&str]) -> Result<bool, StoreError>;

    /// Gives turns back. Those of others stay.
    async fn release_locks(&self, subjects: &[String]) -> Result<(), StoreError>;

    // Records --------------------------------------------------------------------------------------------------------

    /// Writes new candidates, each with its identities, its intent and what goes with it, unless somebody holds one of its
    /// identities: one answer each, in order. All in one transaction; once something was written, a failure is told claim by
    /// claim ([`InsertResult::Failed`]).
    async fn insert_candidates(&self, claimants: Vec<CandidateInsert>) -> Result<Vec<InsertResult>, StoreError>;

    /// Writes all changes, or none.
    async fn commit(&self, changes: Vec<Mutation>) -> Result<(), StoreError>;

    /// The tenant's candidate with this id.
    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError>;

    /// The tenant's candidates with these ids, in any order and without their pictures; those that are gone are left out.
    async fn candidates_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError>;

    /// The tenant's candidates with this identity, at this connection or at all of them.
    async fn candidates(
        &self,
        tenant: &str,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// Whether a candidate of another tenant holds one of these identities at the connection.
    async fn identities_of_other_tenants(
        &self,
        tenant: &str,
        connection: &str,
        identities: &[Identity],
    ) -> Result<bool, StoreError>;

    /// The tenant's assignment with this id.
    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError>;

    /// The tenant's assignments with these ids, in any order.
    async fn assignments_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Assignment>, StoreError>;

    /// The tenant's assignments of this subject at this connection, newest first.
    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError>;

    /// Whether any tenant has or had an assignment of this subject at this connection.
    async fn subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError>;

    /// A part of the tenant's assignments, newest first.
    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError>;

    /// Candidates after this one that are gone while assignments still name them: erased before their assignments were freed
    /// of the person with them. In the order of their ids.
    async fn half_erased(&self, after: Option<&CandidateId>, limit: usize) -> Result<Vec<CandidateId>, StoreError>;

    // Intents --------------------------------------------------------------------------------------------------------

    /// The open intent of this record.
    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError>;

    /// The open intents of this subject, oldest first.
    async fn intents_of(&self, subject: &str) -> Result<Vec<Intent>, StoreError>;

    /// The open intents of a connection that change a program's employees, oldest first.
    async fn enrolment_intents(&self, connection: &str) -> Result<Vec<Intent>, StoreError>;

    /// Open intents of a connection that nobody is sending and that are due by now, the longest due first. One that is due
    /// only after `horizon` is due as well: nothing is put off for so long, so a clock was wrong when it was.
    async fn due_intents(
        &self,
        connection: &str,
        now: Timestamp,
        horizon: Timestamp,
        limit: usize,
    ) -> Result<Vec<Intent>, StoreError>;

    /// Open intents that an instance was sending when it ended, oldest first.
    async fn orphans(&self, limit: usize) -> Result<Vec<Intent>, StoreError>;

    /// Open intents that this instance is sending, by record, after this one: a page of the search for those whose task is
    /// gone.
    async fn own_intents(&self, after: &str, limit: usize) -> Result<Vec<Intent>, StoreError>;

    /// How many open intents nobody is sending.
    async fn unsettled(&self) -> Result<Vec<UnsettledCount>, StoreError>;

    /// The rows of operations that wait or are being sent, counted over all operations.
    async fn open_items(&self) -> Result<ItemCounts, StoreError>;

    // Idempotency keys -----------------------------------------------------------------------------------------------

    /// Acquires a key and inserts a new candidate whose intent is bound to it: [`Store::acquire_key`] and [`Store::claim`] in one
    /// transaction. Returns `false`, with nothing written, if the key or an identity is in use, or if the engine has no such
    /// fast path; the caller then takes both steps.
    async fn insert_candidate_under_key(&self, claimant: CandidateInsert, key: &AcquireKey)
    -> Result<bool, StoreError>;

    /// Takes a key, or says why not.
    async fn acquire_key(&self, claim: &AcquireKey) -> Result<KeyState, StoreError>;

    // Operations -----------------------------------------------------------------------------------------------------

    /// Writes a new operation that has no rows yet; its state is `Receiving`, or `Running` where its rows follow at once.
    async fn open_operation(&self, operation: &Operation) -> Result<(), StoreError>;

    /// Adds rows to an operation.
    async fn add_items(&self, items: Vec<Item>) -> Result<(), StoreError>;

    /// Turns an operation whose rows have all arrived from `Receiving` into the given one, under its key where it has one.
    async fn accept_operation(
        &self,
        operation: &Operation,
        key: Option<&AcquireKey>,
    ) -> Result<AcceptResult, StoreError>;

    /// Removes an operation with its rows.
    async fn discard_operation(&self, id: &OperationId) -> Result<(), StoreError>;

    /// The tenant's operation with this id.
    async fn operation(&self, tenant: &str, id: &OperationId) -> Result<Option<(Operation, Progress)>, StoreError>;

    /// A part of the tenant's operations, newest first; those still being received are left out.
    async fn operations(&self, tenant: &str, page: &Page) -> Result<Vec<(Operation, Progress)>, StoreError>;

    /// Operations that are queued or running, but for these: the oldest ones of each tenant at each connection, at most so
    /// many, and apart from them as many changes of programs' employees. First the first of each, then the second of each,
    /// and so on.
    async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError>;

    /// All running operations, and how many rows of each have not ended.
    async fn running_operations(&self) -> Result<Vec<RunningOperation>, StoreError>;

    /// An operation's rows in these states (all if empty) with an index of at least `from`, in order. However long they are:
    /// for few of them.
    async fn items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError>;

    /// As [`Store::items`], as many as a window holds.
    async fn next_items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<Vec<Item>, StoreError>;

    /// As [`Store::next_items`], without what the rows ask for.
    async fn item_reports(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<Part<ItemReport>, StoreError>;

    /// What the operation's rows were about so far, with the first row about each.
    async fn item_subjects(&self, id: &OperationId) -> Result<Vec<(SubjectHash, u64)>, StoreError>;

    /// Skips every waiting row of an operation; they keep what they ask for.
    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError>;

    /// Lets every failed, skipped and unknown row of an ended operation wait again, accepted at this moment; forgets what
    /// those without a record were about, and queues the operation. An unknown row keeps its record: it has to be settled
    /// first. A row that could not be read stays as it is. Does nothing to an operation that has not ended, nor where no
    /// row would wait.
    async fn requeue(&self, id: &OperationId, accepted: Timestamp) -> Result<(), StoreError>;

    /// What a row about this is remembered by, within its operation.
    fn subject_of(&self, operation: &OperationId, text: &str) -> SubjectHash;

    /// The tenant's lines of the audit record after the one with this number, in order.
    async fn audit(&self, tenant: &str, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, StoreError>;

    /// Remembers that the store is in use at this moment.
    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError>;

    /// The latest moment at which the store is remembered to have been in use.
    async fn remembered_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Removes operations that ended before `finished`, keys that expire before `now`, and what an instance that ended was
    /// still receiving.
    async fn purge(&self, now: Timestamp, finished: Timestamp) -> Result<PurgeCounts, StoreError>;
}

/// Measures and traces an action of an engine, its waiting included.
async fn timed<T>(action: &'static str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.instrument(spans::store(action)).await;
    metrics::store(action, began.elapsed());
    done
}
