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
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::event::EventType;
use crate::domain::ids::{OperationId, WebhookId};
use crate::domain::operation::{Item, ItemReport, ItemState, Operation};
use crate::telemetry::{metrics, spans};

mod backup;
mod codec;
mod columns;
#[cfg(test)]
pub(crate) mod conformance;
mod encryption;
mod engine;
mod event_reads;
mod event_sql;
mod events;
mod health;
mod inspection;
mod mutation;
mod postgres;
mod reads;
mod result_reads;
mod result_sql;
mod results;
mod sql;
mod sqlite;
mod types;
mod webhook_reads;
mod webhook_sql;
mod webhooks;

pub use crate::store::encryption::{Keyring, SealError};
pub use backup::{BackupError, RestoredBackup, WrittenBackup};
pub use event_reads::EventReads;
pub use events::{ConnectionStateChange, EventBounds, EventPage};
pub use inspection::{Inspection, SchemaChange};
pub use mutation::{BeginResult, Mutation, PreparedRecord, PreparedWrite, SubjectHash};
pub use postgres::PostgresStore;
#[cfg(test)]
pub(crate) use postgres::tests::server as postgres_server;
pub use reads::StoreReads;
pub use result_reads::ResultReads;
pub use results::{
    FeedPosition, FetchCount, FetchEnd, NewFetch, NewReport, ReceivedWebhook, RepeatedReport, ReportChange,
    ReportCount, ReportFetch, ReportFilter, ReportHint, ResultFilter, Series, StoredReport,
};
pub use sqlite::SqliteStore;
pub use types::{
    AcceptResult, AcquireKey, AssignmentFilter, CandidateFilter, CandidateSelector, Collision, IdentityUpkeep,
    ItemCounts, KeyState, ListPart, OperationFilter, Page, Peer, PurgeCounts, ReindexedPage, RunningOperation,
    UnindexedCandidate, UnsettledCount, Window, WindowedRows,
};
pub use webhook_reads::WebhookReads;
pub use webhooks::{DeliveryFilter, SendableDeliveries, WebhookBacklog, WebhookHealth, WebhookScan};

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

/// Persistent state of the gateway; [`StoreReads`] and the other traits of reads have those that are the same for every engine.
#[async_trait]
pub trait Store: StoreReads + ResultReads + EventReads + WebhookReads {
    /// Checks that the store can be read, and, if the last write failed, that it can be written.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Returns whether the store is currently known to be unavailable. Does not query the store, so that a caller that
    /// can do without it need not wait for another timeout.
    fn is_unavailable(&self) -> bool;

    /// Returns whether a commit of this process may take effect although its caller has got [`StoreError::InDoubt`]. Until it is
    /// decided, the store does not show whether it was made.
    fn has_undecided_commits(&self) -> bool;

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

    /// Applies all mutations, or none. If all of them are audit entries, a shared store waits until it is known whether they
    /// were committed, however long that takes: to repeat them would write them twice. [`StoreError::InDoubt`] then means
    /// that this cannot be found out.
    async fn commit(&self, changes: Vec<Mutation>) -> Result<(), StoreError>;

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

    /// Returns a page of the tenant's assignments, newest first.
    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError>;

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

    /// Returns an operation's rows in these states (all if empty) with an index of at least `from`, in order. Their
    /// size is not limited: read only a few at a time.
    async fn items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        self.next_items(id, states, from, Window { rows: limit, bytes: usize::MAX }).await
    }

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

    /// Skips every waiting row of an operation and returns how many; the rows keep their requests.
    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError>;

    /// Returns every failed, skipped and unknown row of an ended operation to waiting, accepted at this time; clears
    /// the subjects of those without a record, and queues the operation. An unknown row keeps its record, because it
    /// must be reconciled first. A row that could not be read stays as it is. Does nothing if the operation has not
    /// ended or no row would wait.
    async fn requeue(&self, id: &OperationId, accepted: Timestamp) -> Result<(), StoreError>;

    /// Returns the hash of a subject within an operation.
    fn hash_subject(&self, operation: &OperationId, text: &str) -> SubjectHash;

    /// Records that the store is in use at this time.
    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Brings the index entries of the next records, at most `limit`, into the form that this version looks for, in one
    /// transaction that also records the progress. Adds entries and removes none.
    async fn reindex_identities(&self, limit: usize) -> Result<IdentityUpkeep, StoreError>;

    /// Indexes the registrations (`vendorRef.id`) of the next assignments that an earlier version wrote, at most `limit`;
    /// returns whether all are indexed. Until then, look-ups read those that are not. For the background, after the start.
    async fn index_participants(&self, limit: usize) -> Result<bool, StoreError>;

    /// Removes what retention no longer keeps of reports: the bodies of applied ones received before `applied`, and parked,
    /// rejected and dismissed ones received before `parked`. Returns the number of bodies and reports removed.
    async fn purge_reports(&self, applied: Timestamp, parked: Timestamp) -> Result<u64, StoreError>;

    // Events ---------------------------------------------------------------------------------------------------------

    /// Gives committed events that have no number the next numbers of their tenants, at most `limit`, and returns how many.
    /// Any instance may do so at any time. Does nothing if the store belongs to one process, which numbers them at once.
    async fn number_events(&self, limit: usize) -> Result<u64, StoreError>;

    /// Returns what changes after each commit of this process that made events visible. Those that another instance has made
    /// visible do not change it.
    fn event_signal(&self) -> watch::Receiver<u64>;

    /// Returns what changes after each commit of this process that left events to be numbered. A commit in doubt, or of
    /// another instance, may leave some without changing it.
    fn unnumbered_signal(&self) -> watch::Receiver<u64>;

    /// Removes the events of each tenant that were made before this time, up to the first that was not: never one that follows
    /// one that is kept. Also removes deliveries that ended before it, and those of webhooks that are gone. Returns how many
    /// events and deliveries were removed.
    async fn purge_events(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Removes the deliveries that a removed webhook with this id has left, so that there can be one with its id again. Returns
    /// how many were removed.
    async fn purge_removed_webhook(&self, id: &WebhookId) -> Result<u64, StoreError>;

    /// Removes operations that ended before `finished`, keys that have expired by `now`, and operations that an
    /// instance was still receiving when it ended.
    async fn purge(&self, now: Timestamp, finished: Timestamp) -> Result<PurgeCounts, StoreError>;
}

/// Returns the types of the events that these mutations append.
fn event_types(changes: &[Mutation]) -> Vec<EventType> {
    let event = |change: &Mutation| match change {
        Mutation::Event(event) | Mutation::EventAbout(_, event) => Some(event.event_type),
        _ => None,
    };
    changes.iter().filter_map(event).collect()
}

/// Counts events that were committed.
fn count_events(types: &[EventType]) {
    for event_type in types {
        metrics::event(event_type.as_str());
    }
}

/// Measures and traces an action of an engine, including its waiting time.
async fn measure<T>(action: &'static str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.instrument(spans::store(action)).await;
    metrics::store(action, began.elapsed());
    done
}
