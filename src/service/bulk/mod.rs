//! Operations: many rows accepted as one durable piece of work, each with an outcome of its own, so that one bad row never
//! fails its neighbours.
//!
//! Rows are stored as they arrive (`reception`), and sent by whichever instance has the operation's turn (`worker`), in the
//! same steps as single requests: plan, claim and intent, call, outcome. A row is claimed right before its call, in one
//! transaction with its intent, and ends in one transaction with its record; so the operation never says anything but what
//! the records say, and a process that dies leaves rows that wait or rows whose intents are settled.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::operation::{Item, ItemOutcome, ItemRequest, ItemStatus, OperationKind};
use crate::service::Gateway;

mod active_operations;
mod assignment_rows;
pub(super) mod batch_sender;
mod candidate_rows;
mod claimed_rows;
pub(super) mod enrolments;
mod ingest;
mod manual_resolution;
mod memory_budget;
mod queries;
mod run;
mod schedule;
mod stall_detector;

pub(super) use crate::service::bulk::active_operations::ActiveOperations;
pub use crate::service::bulk::ingest::{AcceptedBulk, BulkOptions, BulkUpload};
pub use crate::service::bulk::manual_resolution::OperationSettlement;
pub use crate::service::bulk::queries::{OperationStatus, ResultFilter, ResultRow, RowOutcome, RowResource};
pub(super) use crate::service::bulk::stall_detector::ProgressMark;

/// One row of a bulk: the caller's mark for it, and what was read, or why it could not be.
#[derive(Debug, Clone)]
pub struct BulkRow {
    /// The caller's mark.
    pub item_id: Option<String>,
    /// The row.
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

    /// Whether a failure may keep the rows after it from being sent.
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
    /// Begins the operations nobody works on yet.
    pub(super) async fn begin_operations(&self) -> Result<(), Error> {
        schedule::begin(self).await
    }
}

/// The fault of a row that is not sent.
pub(super) fn skipped_error() -> Error {
    let detail =
        "The operation stopped before this row: it was cancelled, or as many rows failed as failOnErrors allows.";
    Error::new(Code::Skipped, detail)
}

/// The end of a row that cannot be sent: it could not be read, or its password went with an earlier attempt.
fn unsendable(item: &Item, kind: OperationKind) -> Option<ItemOutcome> {
    let readable = matches!(
        (&item.request, kind),
        (Some(ItemRequest::Candidate(_)), OperationKind::Candidates)
            | (Some(ItemRequest::Assignment(_)), OperationKind::Assignments)
            | (Some(ItemRequest::Enrolment(_)), OperationKind::ProgramEmployees)
    );
    if !readable {
        // Rows of an earlier version may wait without their end.
        return Some(item.outcome.clone().unwrap_or_else(|| {
            let detail = "The row could not be read; an earlier version has lost the reason. Correct it in a new bulk.";
            ItemOutcome::failed(Error::new(Code::ValidationFailed, detail))
        }));
    }
    let error = || {
        let detail = "is not kept after an attempt; send the row again in a new bulk";
        match item.outcome.as_ref().map(|end| &end.result) {
            Some(ItemStatus::Failed(fault)) => {
                format!("{detail}. The attempt ended with {}: {}", fault.code.as_str(), fault.detail)
            }
            _ => detail.to_owned(),
        }
    };
    item.password_gone.then(|| ItemOutcome::failed(Error::from_fields(vec![FieldError::missing("/password", error())])))
}
