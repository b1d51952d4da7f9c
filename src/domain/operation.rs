//! Operations: bulk jobs with their rows, progress and results.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::assignment::NewAssignment;
use super::candidate::NewCandidate;
use super::error::{Code, Error};
use super::event::EventType;
use super::ids::{OperationId, WebhookId};
use super::outcome::{Outcome, Warning};
use super::program::EnrolmentCounts;
use super::vendor::EnrolmentBatch;
use super::words::words;
use crate::secret::Secret;

words! {
    /// The kind of rows an operation has.
    pub enum OperationKind {
        /// Candidates to register.
        Candidates "candidates",
        /// Assignments to book.
        Assignments "assignments",
        /// Vendor calls that change a program's employees.
        ProgramEmployees "program_employees",
        /// None: the connection's kept reports are read again.
        Reread "reread",
        /// None: events are delivered to a webhook again.
        Replay "replay",
    }
}

words! {
    /// The state of an operation.
    pub enum OperationState {
        /// Rows are still arriving; only the sender knows of the operation, and the gateway may still reject it.
        Receiving "receiving",
        /// All rows are stored; no worker has started.
        Queued "queued",
        /// Rows are being sent.
        Running "running",
        /// All rows are finished.
        Completed "completed",
        /// The operation was cancelled; unsent rows were skipped.
        Cancelled "cancelled",
    }
}

impl OperationState {
    /// Returns whether the operation is finished.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Many writes accepted as one bulk job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The gateway's identifier.
    pub id: OperationId,
    /// The tenant that owns the operation.
    pub tenant: String,
    /// The client that requested it.
    pub client: String,
    /// The kind of its rows.
    pub kind: OperationKind,
    /// The connection for all rows; empty while the operation is being received.
    pub connection: String,
    /// Whether fields that the vendor does not support are errors.
    pub strict: bool,
    /// The number of failed rows after which sending stops.
    pub fail_on_errors: Option<u64>,
    /// The state of the operation.
    pub state: OperationState,
    /// Whether cancellation was requested.
    pub cancelling: bool,
    /// The number of rows.
    pub total: u64,
    /// The creation time.
    pub created: Timestamp,
    /// The time at which the rows were accepted: at creation or at the last retry. The validity of rows without a start
    /// of their own begins at this time. Of an operation that reads reports again: the earliest arrival of those reports.
    pub accepted: Timestamp,
    /// The time just before the first row was sent.
    pub started: Option<Timestamp>,
    /// The end of the operation.
    pub finished: Option<Timestamp>,
    /// The id of the request that created it.
    pub request_id: String,
    /// W3C `traceparent` of that request.
    pub traceparent: Option<String>,
    /// Of an operation that delivers events again: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<EventReplay>,
}

/// Events that an operation delivers to a webhook again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReplay {
    /// The webhook.
    pub webhook: WebhookId,
    /// The number that the first event follows.
    pub after: u64,
    /// The number of the last event.
    pub until: u64,
    /// Of these types; of those of the webhook if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<EventType>,
    /// Only events whose delivery has failed.
    pub failed_only: bool,
}

/// Rows counted by state; every row counts once, and those being settled are counted besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All rows.
    pub total: u64,
    /// Applied, now or earlier.
    pub applied: u64,
    /// Failed without effect.
    pub not_applied: u64,
    /// Unknown.
    pub unknown: u64,
    /// Not sent, because the operation stopped before.
    pub skipped: u64,
    /// Not finished.
    pub pending: u64,
    /// Those of the pending and the unknown rows whose write was sent and whose outcome the gateway is finding out,
    /// such as after a restart.
    pub settling: u64,
}

/// The state and result of a row, without its request.
#[derive(Debug, Clone)]
pub struct ItemReport {
    /// The row.
    pub id: ItemId,
    /// The caller's `itemId`.
    pub item_id: Option<String>,
    /// The state of the row.
    pub state: ItemState,
    /// The resulting record.
    pub record: Option<String>,
    /// Whether the row could not be parsed.
    pub refused: bool,
    /// The result of the row.
    pub outcome: Option<ItemOutcome>,
}

words! {
    /// The state of a row.
    pub enum ItemState {
        /// Nothing was sent for the row.
        Waiting "waiting",
        /// Record and intent are stored; the write is in progress.
        Claimed "claimed",
        /// Applied, now or earlier.
        Applied "applied",
        /// Failed without effect.
        NotApplied "not_applied",
        /// Unknown.
        Unknown "unknown",
        /// Not sent, because the operation stopped before.
        Skipped "skipped",
    }
}

/// The identifier of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemId {
    /// The row's operation.
    pub operation: OperationId,
    /// The row's position in the request, from 0.
    pub index: u64,
}

/// The request in a row. If it had a password that is no longer stored, the row cannot be sent again.
#[derive(Debug, Clone)]
pub enum ItemRequest {
    /// A candidate to register.
    Candidate(Box<NewCandidate>),
    /// An assignment to book.
    Assignment(Box<NewAssignment>),
    /// A vendor call that changes a program's employees.
    Enrolment(Box<EnrolmentBatch>),
}

/// One row of an operation.
#[derive(Debug, Clone)]
pub struct Item {
    /// The identifier of the row.
    pub id: ItemId,
    /// The caller's `itemId`.
    pub item_id: Option<String>,
    /// The line of the request's body on which the row begins, if the body has lines of rows.
    pub line: Option<u64>,
    /// The state of the row.
    pub state: ItemState,
    /// The resulting candidate or assignment.
    pub record: Option<String>,
    /// The request; `None` if it could not be parsed.
    pub request: Option<ItemRequest>,
    /// Whether the row had a password that is no longer stored.
    pub password_gone: bool,
    /// The result, once the row is finished.
    pub outcome: Option<ItemOutcome>,
}

/// The result of a row.
#[derive(Debug, Clone)]
pub struct ItemOutcome {
    /// The status of the row.
    pub result: ItemStatus,
    /// Warnings for the caller, besides those of the record.
    pub warnings: Vec<Warning>,
    /// The password that the gateway generated.
    pub initial_password: Option<Secret>,
    /// The vendor's counts, for a program's employees.
    pub counts: Option<EnrolmentCounts>,
}

/// The status of a finished row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// Applied now.
    Created,
    /// Already present.
    Existing,
    /// Failed.
    Failed(Box<Error>),
}

impl ItemOutcome {
    /// Creates a result without warnings, password or counts.
    #[must_use]
    pub const fn of(result: ItemStatus) -> Self {
        Self { result, warnings: Vec::new(), initial_password: None, counts: None }
    }

    /// Creates a failed result.
    #[must_use]
    pub fn failed(fault: Error) -> Self {
        Self::of(ItemStatus::Failed(Box::new(fault)))
    }

    /// Returns the state of a row with this result.
    #[must_use]
    pub fn state(&self) -> ItemState {
        match &self.result {
            ItemStatus::Created | ItemStatus::Existing => ItemState::Applied,
            ItemStatus::Failed(fault) if fault.code == Code::Skipped => ItemState::Skipped,
            ItemStatus::Failed(fault) => match fault.outcome {
                Outcome::Applied => ItemState::Applied,
                Outcome::NotApplied => ItemState::NotApplied,
                Outcome::Unknown => ItemState::Unknown,
            },
        }
    }
}
