//! Operations: many rows accepted as one durable piece of work, each with an outcome of its own, so that one bad row never
//! fails its neighbours.
//!
//! Rows are stored as they arrive (`reception`), and sent by whichever instance has the operation's turn (`worker`), in the
//! same steps as single requests: plan, claim and intent, call, outcome. A row is claimed right before its call, in one
//! transaction with its intent, and ends in one transaction with its record; so the operation never says anything but what
//! the records say, and a process that dies leaves rows that wait or rows whose intents are settled.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Gateway;
use crate::domain::ids::OperationId;
use crate::domain::operation::{Item, Progress, Row};
use crate::domain::problem::{Code, Fault};

mod bookings;
mod budget;
mod delivery;
pub(super) mod enrolments;
mod people;
mod reception;
mod settlement;
mod view;
mod worker;

pub use reception::{BulkEnvelope, Received, Reception};
pub use settlement::OperationSettlement;
pub use view::{OperationView, Resource, ResultFilter, RowEnd, RowResult};

/// One row of a bulk: the caller's mark for it, and what was read, or why it could not be.
#[derive(Debug, Clone)]
pub struct BulkRow {
    /// The caller's mark.
    pub item_id: Option<String>,
    /// The row.
    pub row: Result<Row, Fault>,
}

/// Which operations this instance works on, and who wants to know of changes.
#[derive(Default)]
pub(super) struct Board {
    working: Mutex<HashSet<OperationId>>,
    wake: Arc<Notify>,
    changed: Notify,
    budget: budget::Budget,
}

impl Board {
    /// Ends when there may be something to begin.
    pub(super) fn soon(&self) -> impl Future<Output = ()> + Send + use<> {
        let wake = Arc::clone(&self.wake);
        async move { wake.notified().await }
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn begin(&self, id: &OperationId) -> bool {
        self.working.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone())
    }

    fn end(&self, id: &OperationId) {
        self.working.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.changed.notify_waiters();
    }

    fn works_on(&self, id: &OperationId) -> bool {
        self.working.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

/// Counts failed rows against `failOnErrors`.
struct Failures {
    most: u64,
    failed: AtomicU64,
}

impl Failures {
    fn new(most: Option<u64>, so_far: &Progress) -> Self {
        let failed = AtomicU64::new(so_far.not_applied + so_far.unknown);
        Self { most: most.unwrap_or(u64::MAX), failed }
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
    pub(super) async fn begin_operations(&self) -> Result<(), Fault> {
        worker::begin(self).await
    }
}

/// The fault of a row that is not sent.
pub(super) fn skipped() -> Fault {
    let detail =
        "The operation stopped before this row: it was cancelled, or as many rows failed as failOnErrors allows.";
    Fault::new(Code::Skipped, detail)
}

/// The fault of a row whose password went with an earlier attempt.
fn password_gone(item: &Item) -> Option<Fault> {
    let error = crate::domain::problem::FieldFault::missing(
        "/password",
        "is not kept after an attempt; send the row again in a new bulk",
    );
    item.password_gone.then(|| Fault::of_fields(vec![error]))
}
