//! What the gateway promises: people are registered once, bookings are made once, and the answer about every write is
//! true. The only room that knows both the store and the vendors.
//!
//! Every write goes the same way: plan (nothing sent yet), claim and intent in the store, the vendor's call, the outcome in
//! the store, the answer. The work runs in a task of its own, so that a caller who hangs up changes nothing; writes about
//! one subject run one after the other.

mod assignments;
mod audit;
mod background;
mod batching;
mod bulk;
mod candidates;
mod catalogue;
mod cluster;
mod connections;
mod diagnostics;
mod exchange_log;
mod fair_semaphore;
mod metrics;
mod programs;
mod read_limit;
mod request_context;
mod seat_limit;
#[cfg(test)]
mod simulation;
mod snapshot;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::audit::AuditWriter;
use self::bulk::ActiveOperations;
use crate::domain::capability::VendorDescriptor;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::intent::Intent;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::system::System;
use crate::domain::vendor::{CallContext, CallPurpose};
use crate::service::cluster::lease::Lease;
use crate::service::cluster::steady_clock::SteadyClock;
use crate::service::exchange_log::Exchanges;
use crate::service::metrics::LabelLimiter;
use crate::service::read_limit::ReadLimits;
use crate::service::snapshot::Snapshot;
use crate::service::write::grace::GracePeriods;
use crate::service::write::handle::AcceptedSender;
use crate::service::write::idempotency::Replayable;
use crate::service::write::locks::{SubjectLock, SubjectLocks};
use crate::service::write::orphans::{PendingOutcomes, UnsentAttempts};
use crate::store::{Mutation, Store, StoreError};
use crate::telemetry::spans;

pub use self::assignments::AssignmentQuery;
pub use self::bulk::{
    AcceptedBulk, BulkOptions, BulkRow, BulkUpload, OperationSettlement, OperationStatus, ResultFilter, ResultRow,
    RowOutcome, RowResource,
};
pub use self::candidates::{CandidatePatch, CandidateWithWarnings};
pub use self::catalogue::{Catalogue, CatalogueEntry};
pub use self::connections::{CircuitState, ConnectionInfo, ConnectionSetup, ConnectionStatus};
pub use self::programs::{EmployeeRef, EnrolmentProgress, EnrolmentRequest};
pub use crate::service::audit::pending_entry::PendingAuditEntry;
pub use crate::service::diagnostics::{Check, CheckResult, CheckStatus, DiagnosticReport, diagnose};
pub use crate::service::exchange_log::ExchangeFilter;
pub use crate::service::request_context::{ConnectionAccess, IdempotencyRequest, RequestContext};
pub use crate::service::snapshot::ConfigDiff;
pub use crate::service::write::handle::{Removal, WriteHandle, WriteReply, WriteResult};

/// How long the gateway keeps what it does not need any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Operations, from their end on.
    pub operations: Duration,
    /// Answers under an `Idempotency-Key`, and made-up passwords, from the request on.
    pub keys: Duration,
}

/// The gateway: cheap to clone, shared by all requests.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    configured: ArcSwap<Snapshot>,
    environment: System,
    lease: Lease,
    turns: SubjectLocks,
    board: ActiveOperations,
    // The connections that have a settler.
    settlers: Mutex<BTreeSet<String>>,
    exchanges: Exchanges,
    recorder: AuditWriter,
    reads: ReadLimits,
    codes: LabelLimiter,
    pending: PendingOutcomes,
    unsent: UnsentAttempts,
    graces: GracePeriods,
    steady: SteadyClock,
    tasks: TaskTracker,
    leaving: AtomicBool,
    resting: CancellationToken,
    draining: AtomicBool,
}

impl Gateway {
    /// A gateway over these connections. Writes an earlier process left open are unknown from now on, and a task settles
    /// them in the background as long as the gateway lives.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn start(
        store: Arc<dyn Store>,
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        environment: System,
        retention: Retention,
    ) -> Result<Self, Error> {
        let lease = Lease::take(&store, &environment).await.or_not_applied()?;
        let configured = Snapshot::new(connections, catalogue, retention, &lease);
        let seen = store.remembered_time().await.or_not_applied()?;
        let steady = SteadyClock::start(&environment, seen);
        let gateway = Self(Arc::new(Inner {
            turns: SubjectLocks::new(Arc::clone(&store)),
            store,
            configured: ArcSwap::from_pointee(configured),
            environment,
            lease,
            board: ActiveOperations::default(),
            settlers: Mutex::default(),
            exchanges: Exchanges::default(),
            recorder: AuditWriter::default(),
            reads: ReadLimits::default(),
            codes: LabelLimiter::default(),
            pending: PendingOutcomes::default(),
            unsent: UnsentAttempts::default(),
            graces: GracePeriods::default(),
            steady,
            tasks: TaskTracker::new(),
            leaving: AtomicBool::new(false),
            resting: CancellationToken::new(),
            draining: AtomicBool::new(false),
        }));
        gateway.recover().await?;
        gateway.run_in_background();
        Ok(gateway)
    }

    /// Ends when another instance has taken this one for dead: the process must end too.
    pub async fn fenced_off(&self) {
        self.0.lease.lost().await;
    }

    /// Whether another instance has taken this one for dead.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lease.is_lost()
    }

    /// Every kind of vendor there is.
    #[must_use]
    pub fn descriptors() -> &'static [&'static VendorDescriptor] {
        &crate::vendors::DESCRIPTORS
    }

    /// Whether the gateway can work: its store answers and it is not shutting down.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.0.leaving.load(Ordering::SeqCst) {
            return Err(draining());
        }
        self.refuse_when_draining()?;
        if !self.0.lease.holds() {
            return Err(Error::new(Code::StoreUnavailable, "This instance has lost touch with the store it shares."));
        }
        // Whatever came of the look, nobody's write is in doubt for it.
        self.0.store.ping().await.map_err(|error| store_unreachable(&error))
    }

    /// Refuses at once what the store is needed for, where it is known not to answer: nobody has to wait to learn it again.
    /// What is under way goes on trying.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub fn is_store_available(&self) -> Result<(), Error> {
        if !self.0.store.is_unavailable() {
            return Ok(());
        }
        let detail = "The store does not answer at the moment; nothing was sent.";
        Err(Error::new(Code::StoreUnavailable, detail).with_retry_after(Some(Duration::from_secs(1))))
    }

    /// From now on it is not [`ready`](Self::ready), so that callers go elsewhere; everything is served as before.
    pub fn start_draining(&self) {
        self.0.leaving.store(true, Ordering::SeqCst);
    }

    /// From now on operations and the settling of open writes end with the calls they have begun. Writes are taken still, since
    /// their requests may have come before.
    pub fn stop_background_work(&self) {
        self.start_draining();
        self.0.resting.cancel();
    }

    /// Takes no new writes from now on and waits for those under way, at most this long. What is cut off then stays in the
    /// store as an intent without an answer.
    pub async fn drain(&self, grace: Duration) {
        self.stop_background_work();
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(
                open = self.0.tasks.len(),
                "stopped waiting for writes under way; they stay open in the store"
            );
        }
    }

    /// To be called last: the others go on at once with what was this instance's, unless something of it is still under way.
    /// Then they wait until it counts as dead, since what it has sent by then is not theirs to judge.
    pub async fn release_lease(&self) {
        if !self.0.tasks.is_empty() {
            return;
        }
        self.flush_pending_outcomes().await;
        self.flush_audit_backlog().await;
        self.discard_audit_backlog();
        self.0.lease.release(self.0.store.as_ref()).await;
    }

    fn is_stopping(&self) -> bool {
        self.0.resting.is_cancelled()
    }

    fn refuse_when_draining(&self) -> Result<(), Error> {
        if self.0.draining.load(Ordering::SeqCst) { Err(draining()) } else { Ok(()) }
    }

    /// Begins the work in a task of its own, once under the caller's key. `what` names it in traces.
    fn spawn_idempotent<T, F, W>(
        &self,
        caller: &RequestContext,
        what: &'static str,
        work: F,
    ) -> Result<WriteHandle<T>, Error>
    where
        T: Replayable,
        F: FnOnce(Self, RequestContext, AcceptedSender<T>) -> W + Send + 'static,
        W: Future<Output = Result<WriteResult<T>, Error>> + Send + 'static,
    {
        self.spawn_write(caller, what, move |gateway, caller, acceptance| async move {
            gateway.run_idempotent(caller, acceptance, work).await
        })
    }

    /// As [`Self::begin`], for work that sees to the caller's key by itself.
    fn spawn_write<T, F, W>(
        &self,
        caller: &RequestContext,
        what: &'static str,
        work: F,
    ) -> Result<WriteHandle<T>, Error>
    where
        T: Replayable,
        F: FnOnce(Self, RequestContext, AcceptedSender<T>) -> W + Send + 'static,
        W: Future<Output = Result<WriteReply<T>, Error>> + Send + 'static,
    {
        self.refuse_when_draining()?;
        let (acceptance, accepted) = crate::service::write::handle::accepted_channel();
        let (gateway, asked, line) = (self.clone(), caller.clone(), caller.line.clone());
        // Of many kilobytes: it would be copied at each step on its way into the task.
        let work = Box::pin(work(gateway, caller.clone(), acceptance));
        let work = self.0.tasks.spawn(work.instrument(spans::write(what)));
        let gateway = self.clone();
        Ok(WriteHandle::new(accepted, work, line, Box::new(move |work| gateway.record_outcome(&asked, what, work))))
    }

    /// Returns the present moment by the steady clock, which no step of the wall clock moves. What a vendor or a person is
    /// told by the day (a window, a signature, a line of the log) goes by the wall clock.
    pub(super) fn now(&self) -> Timestamp {
        self.0.steady.now()
    }

    /// The turn to write about a subject.
    async fn lock_subject(&self, subject: &str) -> Result<SubjectLock, Error> {
        self.0.turns.lock(subject).await.or_not_applied()
    }

    /// The turns a write needs.
    async fn lock_subjects(&self, intent: &Intent) -> Result<Vec<SubjectLock>, Error> {
        self.0.turns.lock_all(&crate::service::write::locks::subjects_of(intent)).await.or_not_applied()
    }

    /// The turns a write needs, if nobody has one of them.
    async fn try_lock_subjects(&self, intent: &Intent) -> Result<Option<Vec<SubjectLock>>, Error> {
        self.0.turns.try_lock_all(&crate::service::write::locks::subjects_of(intent)).await.or_not_applied()
    }

    /// Writes changes down that nobody waits for; if the store is away, as soon as it is back.
    fn commit_in_background(&self, changes: Vec<Mutation>) {
        let gateway = self.clone();
        self.0.tasks.spawn(async move {
            if gateway.0.store.commit(changes.clone()).await.is_err() {
                gateway.0.pending.push(changes);
            }
        });
    }
}

fn draining() -> Error {
    Error::new(Code::Draining, "This instance is shutting down.").with_retry_after(Some(Duration::from_secs(1)))
}

/// A call made for this caller.
fn call(caller: &RequestContext, attempt: CallPurpose) -> CallContext {
    CallContext { purpose: attempt, priority: caller.lane, exchange: caller.exchange.clone() }
}

/// A store's result, with what its failure says of the write. There is no third way to make a fault of one.
trait StoreResultExt<T> {
    /// Returns the value, or the fault of a write that was not accepted yet: nothing was sent and nothing will be, unless the
    /// commit that would have accepted it is in doubt.
    fn or_not_applied(self) -> Result<T, Error>;

    /// Returns the value, or the fault of a write that was accepted and whose outcome appears at `resource`: a store that
    /// fails then says nothing about it.
    fn or_unknown(self, resource: &str) -> Result<T, Error>;
}

impl<T> StoreResultExt<T> for Result<T, StoreError> {
    fn or_not_applied(self) -> Result<T, Error> {
        self.map_err(|error| store_fault(&error))
    }

    fn or_unknown(self, resource: &str) -> Result<T, Error> {
        self.map_err(|error| accepted_unread(&error, resource))
    }
}

/// The store failed before the write was accepted, or in the commit that would have accepted it.
fn store_fault(error: &StoreError) -> Error {
    let wait = Some(Duration::from_secs(1));
    match error {
        StoreError::Conflict => Error::new(Code::CandidateConflict, "An identity is not available at this connection."),
        StoreError::ItemNotWaiting => bulk::skipped_error(),
        StoreError::InDoubt(_) | StoreError::Superseded => {
            tracing::error!(%error, "the store failed");
            let detail = "The store did not confirm the change. The gateway finds out by itself what became of it.";
            Error::unknown(Code::StoreUnavailable, detail).with_retry_after(wait)
        }
        StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Fenced => {
            tracing::error!(%error, "the store failed");
            store_unreachable(error)
        }
    }
}

/// The fault of what was not sent, because the store cannot be read or has no room.
fn store_unreachable(error: &StoreError) -> Error {
    let detail = if error.is_full() {
        "The store is full: it can keep nothing more until there is room on its disk; nothing was sent."
    } else {
        "The store cannot be reached; nothing was sent."
    };
    Error::new(Code::StoreUnavailable, detail).with_retry_after(Some(Duration::from_secs(1)))
}

/// The fault of a commit with the resource where its outcome appears, should the commit be in doubt.
fn doubt_at(fault: Error, resource: &str) -> Error {
    if fault.outcome == Outcome::Unknown && fault.resource.is_none() { fault.with_resource(resource) } else { fault }
}

/// The store failed after the write was accepted: the work goes on, or is taken up again when the store is back.
fn accepted_unread(error: &StoreError, resource: &str) -> Error {
    tracing::error!(%error, resource, "the store failed after a write was accepted");
    let detail = "The request was accepted, but the store cannot be read; its outcome appears at `resource`.";
    Error::unknown(Code::StoreUnavailable, detail)
        .with_retry_after(Some(Duration::from_secs(1)))
        .with_resource(resource)
}

/// The store failed after the vendor was called: what the vendor did could not be kept.
fn store_lost(error: &StoreError, resource: &str) -> Error {
    tracing::error!(%error, resource, "the store failed after the vendor was called");
    let wait = Some(Duration::from_secs(1));
    Error::unknown(Code::StoreUnavailable, "The vendor was called, but the outcome could not be kept.")
        .with_retry_after(wait)
        .with_resource(resource)
}

/// With `Prefer: handling=strict`, members the vendor has no place for are a fault.
fn enforce_strict(strict: bool, warnings: &[Warning]) -> Result<(), Error> {
    if !strict {
        return Ok(());
    }
    let ignored: Vec<FieldError> = warnings
        .iter()
        .filter(|warning| warning.code == WarningCode::FieldIgnored)
        .map(|warning| FieldError::unsupported(warning.pointer.clone().unwrap_or_default(), warning.detail.clone()))
        .collect();
    if ignored.is_empty() { Ok(()) } else { Err(Error::from_fields(ignored)) }
}
