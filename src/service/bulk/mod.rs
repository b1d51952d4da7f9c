//! Operations: many rows accepted as one durable job. Each row has its own outcome, so one bad row never fails its
//! neighbours.
//!
//! [`ingest`] stores rows as they arrive. [`schedule`] starts operations in fair order, and the instance that holds the
//! operation's lock plans its rows ([`planner`]) and sends them ([`run`]) in the same steps as a single request: plan,
//! commit the intent, call the vendor, commit the outcome. [`candidate_rows`], [`assignment_rows`] and [`enrolments`] plan the rows of each kind;
//! [`batch_sender`] sends those that share a vendor call.
//!
//! A row is claimed right before its call, in one transaction with its intent, and concluded in one transaction with
//! its record. So the operation always agrees with the records, and a process that dies leaves only rows that wait, and
//! claimed rows whose intents will be reconciled ([`claimed_rows`]).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::operation::{Item, ItemOutcome, ItemRequest, ItemStatus, OperationKind};
use crate::service::Gateway;

mod active_operations;
mod assignment_rows;
pub(super) mod batch_sender;
mod candidate_rows;
mod claimed_rows;
mod duplicates;
pub(super) mod enrolments;
mod ingest;
mod manual_resolution;
mod memory_budget;
mod operation_run;
mod planner;
mod queries;
mod run;
mod schedule;
mod stall_detector;

pub(super) use crate::service::bulk::active_operations::ActiveOperations;
pub use crate::service::bulk::ingest::{AcceptedOperation, BulkOptions, BulkUpload};
pub use crate::service::bulk::manual_resolution::OperationSettlement;
pub use crate::service::bulk::queries::{
    OperationQuery, OperationStatus, ResultFilter, ResultRow, RowOutcome, RowResource,
};
pub(super) use crate::service::bulk::stall_detector::ProgressMark;

/// One row of a bulk: its content, or the error of reading it.
#[derive(Debug, Clone)]
pub struct BulkRow {
    /// Caller-supplied id of the row.
    pub item_id: Option<String>,
    /// Line of the body on which the row begins; a row of a JSON document has none.
    pub line: Option<u64>,
    /// Parsed row, or the error that made it unreadable.
    pub row: Result<ItemRequest, Error>,
}

/// Counts failed rows against `failOnErrors`.
struct ErrorBudget {
    most: u64,
    failed: AtomicU64,
}

impl ErrorBudget {
    fn new(most: Option<u64>, so_far: u64) -> Self {
        Self { most: most.unwrap_or(u64::MAX), failed: AtomicU64::new(so_far) }
    }

    /// Returns whether the request limits the number of failed rows, so that a failure may stop the rows after it.
    fn may_stop(&self) -> bool {
        self.most != u64::MAX
    }

    fn reached(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= self.most
    }

    fn add(&self, failed: u64) {
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }
}

impl Gateway {
    /// Starts queued operations that no instance works on.
    pub(super) async fn begin_operations(&self) -> Result<(), Error> {
        schedule::begin(self).await
    }
}

/// Returns the outcome of a row that cannot be sent: it was unreadable, or its password was erased after an earlier
/// attempt.
fn unsendable(item: &Item, kind: OperationKind) -> Option<ItemOutcome> {
    let readable = matches!(
        (&item.request, kind),
        (Some(ItemRequest::Candidate(_)), OperationKind::Candidates)
            | (Some(ItemRequest::Assignment(_)), OperationKind::Assignments)
            | (Some(ItemRequest::Enrolment(_)), OperationKind::ProgramEmployees)
    );
    if !readable {
        // Unreadable rows stored by an earlier version may lack their outcome.
        return Some(item.outcome.clone().unwrap_or_else(|| {
            let detail =
                "The row could not be read; an earlier version did not store the reason. Correct it in a new bulk.";
            ItemOutcome::failed(Error::new(Code::ValidationFailed, detail))
        }));
    }
    let error = || {
        let detail = "is not kept after an attempt; submit the row in a new bulk";
        match item.outcome.as_ref().map(|end| &end.result) {
            Some(ItemStatus::Failed(error)) => {
                format!("{detail}. The attempt ended with {}: {}", error.code.as_str(), error.detail)
            }
            _ => detail.to_owned(),
        }
    };
    item.password_gone.then(|| ItemOutcome::failed(Error::from_fields(vec![FieldError::missing("/password", error())])))
}
