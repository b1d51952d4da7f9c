//! What a caller of the store has it write.

use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::audit::Entry;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::event::NewEvent;
use crate::domain::ids::{CandidateId, EnrolmentId, OperationId, WebhookId};
use crate::domain::intent::{IdempotencyKeyUse, Intent, StoredReply};
use crate::domain::operation::{ItemId, ItemOutcome, Operation};
use crate::domain::results::{ExamResult, ResultVersion};
use crate::domain::webhook::{Delivery, Webhook};
use crate::store::{
    ConnectionStateChange, FeedPosition, FetchEnd, NewFetch, NewReport, ReceivedWebhook, RepeatedReport, ReportChange,
    ReportHint, StoreError, UnindexedCandidate, WebhookHealth, WebhookScan,
};

/// Keyed hash of the subject of a row, made by [`Store::hash_subject`](crate::store::Store::hash_subject); a second row
/// about the same subject has the same
/// hash.
pub type SubjectHash = [u8; 16];

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
    Enrolment(EnrolmentId),
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
    /// Stores the index value of the group of a candidate that [`candidates_without_group_index`] returned; one that cannot
    /// be read is in no group. Does nothing if the candidate has changed since.
    ///
    /// [`candidates_without_group_index`]: crate::store::StoreReads::candidates_without_group_index
    IndexGroup(UnindexedCandidate),
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
    /// Returns the row to waiting: its write, about this record, had no effect and is to be sent again. Skips it if its
    /// operation was cancelled meanwhile. Does nothing to a row that ended otherwise or belongs to another record by now:
    /// a requeue whose commit was in doubt may arrive after the row was claimed again.
    RequeueItem(ItemId, String),
    /// Updates the operation's state, times and connection.
    Operation(Operation),
    /// Requests cancellation of an operation that has not ended. Only [`Store::requeue`](crate::store::Store::requeue) withdraws the request.
    CancelOperation(OperationId),
    /// Records a webhook that has arrived; its `id` is ignored and assigned.
    ReceiveWebhook(ReceivedWebhook),
    /// Removes a received webhook, which the same transaction records as a report. [`StoreError::Superseded`] if it is gone:
    /// another instance has read it.
    RemoveReceived(u64),
    /// Records a report. A parked one is due at once: what it waits for may have become known meanwhile. If its candidate was
    /// erased, it is recorded as dismissed, without anything of the person. [`StoreError::Superseded`] if the connection has
    /// one with this digest.
    Report(Box<NewReport>),
    /// Counts a repeat of a recorded report, and moves its time.
    RepeatReport(RepeatedReport),
    /// Updates a recorded report, which is then no longer due, unless it has become due since it was read. If its candidate
    /// was erased, it is dismissed, without anything of the person. Does nothing if the report is gone.
    UpdateReport(Box<ReportChange>),
    /// Inserts or replaces a result, with the version that it has got, if any. Does nothing if its candidate was erased.
    /// [`StoreError::Superseded`] unless the recorded result has the version before, or the same if it has got none.
    Result(Box<ExamResult>, Option<Box<ResultVersion>>),
    /// Moves a feed's watermark; never backwards.
    Watermark(FeedPosition),
    /// Records when the last complete sweep of a connection began.
    RecordSweep(String, Timestamp),
    /// Records that a registration's report is to be fetched from the vendor; of one that is recorded already, counts another
    /// request and leaves it due as it is. Does nothing if its candidate was erased; an erasure removes it.
    RequestFetch(Box<NewFetch>),
    /// Removes a fetch that is done, or postpones one that has failed. Does nothing if it was requested again since it was read:
    /// it is due still.
    EndFetch(FetchEnd),
    /// Makes the parked reports of the connection, and the applied ones without an assignment, due that have one of these
    /// hints, because a candidate, an assignment or a registration became known. Also reports of the same transaction.
    RecheckReports(String, Vec<ReportHint>),
    /// Appends an event to its tenant's. The store numbers it in the order of commits: in the same transaction or, if the store is
    /// shared, later ([`Store::number_events`](crate::store::Store::number_events)).
    Event(Box<NewEvent>),
    /// As [`Mutation::Event`], of an event about what is recorded of a candidate. Does nothing if the candidate was erased:
    /// what the event is about is then not recorded either.
    EventAbout(CandidateId, Box<NewEvent>),
    /// Inserts a webhook of version 1, or replaces the version before. A replaced one keeps what [`Mutation::ScanWebhook`] and
    /// [`Mutation::WebhookHealth`] have written. [`StoreError::Superseded`] unless the stored one has the version before, so also
    /// if it is gone; and for version 1, if there may be deliveries of an earlier one with its id
    /// ([`Store::purge_removed_webhook`](crate::store::Store::purge_removed_webhook)).
    Webhook(Box<Webhook>),
    /// Removes the tenant's webhook with its deliveries. Does nothing if it is gone.
    RemoveWebhook(String, WebhookId),
    /// Records up to which event deliveries were made for a webhook; never moves it backwards. [`StoreError::Superseded`] unless
    /// the stored position is the one it was read with, so that no event is delivered twice because a commit was in doubt, and
    /// the webhook has the version it was read with: a change of its filter applies to all deliveries that are made after it.
    ScanWebhook(WebhookScan),
    /// Records what the last attempts say of a webhook's receiver. Does nothing if the webhook is gone.
    /// [`StoreError::Superseded`] unless it has the version that the attempts belong to: it was changed, and perhaps resumed.
    WebhookHealth(WebhookHealth),
    /// Inserts a delivery of version 1, or updates state, reason, step, due time and attempts of the version before. Does nothing
    /// if its webhook is gone; otherwise [`StoreError::Superseded`] if that is not the stored version, so also if retention has
    /// removed the delivery.
    Delivery(Box<Delivery>),
    /// Records the last reported state of a connection. [`StoreError::Superseded`] unless the stored one is the one it was read
    /// with.
    ConnectionState(ConnectionStateChange),
    /// Appends an entry to its tenant's audit record. No mutation alters or removes an entry.
    Audit(Entry),
}
