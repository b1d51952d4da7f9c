//! The service layer, which keeps the gateway's promises: a person is registered once, a booking is made once, and
//! every response about a write is true. The only room that knows both the store and the vendors.
//!
//! Every write takes the same path: acquire the idempotency key, lock the subject, plan (nothing is sent yet), commit the
//! intent, call the vendor, commit the outcome, respond. A registration is planned first, because a new person needs no
//! look-up: its first transaction then acquires the key as well. Only if the key or an identity is in use does it take
//! the common path. The work runs in its own task, so a caller who hangs up changes nothing. `write` is that path, and
//! the place to begin reading.
//!
//! * `candidates`, `assignments`, `programs`, `catalogue`: the requests about each resource; they plan writes and run
//!   them through `write`.
//! * `bulk`: operations of many rows, sent through the same path in batches.
//! * `results`: reports of attempts, and the results that are made from them.
//! * `events`: what happened that no response reported, in the order of its commits.
//! * `webhooks`: delivers events to the addresses that clients and the operator name.
//! * `background`: the tasks that reconcile due writes, retry queued commits, start operations and purge expired data.
//! * `cluster`: this instance's lease and its steady clock.
//! * `snapshot`, `connections`: the current configuration, and the runtime state of each connection.
//! * `audit`, `exchange_log`, `metrics`, `diagnostics`: what operators see.

mod assignments;
mod audit;
mod background;
mod batching;
mod bulk;
mod bulk_limits;
mod candidates;
mod catalogue;
mod cluster;
mod connection_status;
mod connections;
mod diagnostics;
mod errors;
mod events;
mod exchange_log;
mod fair_semaphore;
mod metrics;
mod mutex;
mod programs;
mod read_limit;
mod references;
mod request_context;
mod results;
mod seat_limit;
#[cfg(test)]
mod simulation;
mod snapshot;
mod streams;
#[cfg(test)]
mod test_reports;
mod webhooks;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::audit::AuditWriter;
use self::bulk::ActiveOperations;
use crate::domain::audit::Entry;
use crate::domain::capability::VendorDescriptor;
use crate::domain::error::{Code, Error};
use crate::domain::intent::Intent;
use crate::domain::subject::SubjectKey;
use crate::domain::system::System;
use crate::service::cluster::lease::Lease;
use crate::service::cluster::steady_clock::SteadyClock;
use crate::service::errors::{StoreResultExt as _, draining_error, store_unreachable};
use crate::service::events::EventHeads;
use crate::service::exchange_log::Exchanges;
use crate::service::read_limit::ReadLimits;
use crate::service::results::ResultsState;
use crate::service::snapshot::Snapshot;
use crate::service::webhooks::WebhooksState;
use crate::service::write::executor::Executor;
use crate::service::write::handle::AcceptedSender;
use crate::service::write::idempotency::IdempotencyKeys;
use crate::service::write::locks::{SubjectLock, SubjectLocks};
use crate::service::write::reconciler::Reconciler;
use crate::service::write::replay::Replayable;
use crate::store::Store;
use crate::telemetry::spans;

pub use self::assignments::list::AssignmentQuery;
pub use self::bulk::{
    AcceptedOperation, BulkOptions, BulkRow, BulkUpload, OperationQuery, OperationSettlement, OperationStatus,
    ResultFilter, ResultRow, RowOutcome, RowResource,
};
pub use self::candidates::list::CandidateQuery;
pub use self::candidates::{CandidatePatch, CandidateWithPassword};
pub use self::catalogue::{Catalogue, CatalogueEntry};
pub use self::connection_status::ConnectionStatus;
pub use self::connections::ConnectionSetup;
pub use self::connections::view::{CircuitState, ConnectionInfo};
pub use self::events::{EventQuery, EventReader, EventStart};
pub use self::programs::{EmployeeRef, EnrolmentProgress, EnrolmentRequest};
pub use self::results::{
    Receiver, ReceiverAddress, Refusal, ReportQuery, ReportTarget, ReportView, ResultQuery, ResultSummary, ResultView,
    ScoreDistribution, receiver_addresses,
};
pub use self::webhooks::{
    ConfiguredWebhook, DeliverySettings, EventResource, NewWebhook, PingResult, ReplayOrder, ReplayScope, ReplayStart,
    SecretRotation, WebhookOwner, WebhookOwners, WebhookPatch, WebhookPosition, WebhookReply, WebhookView,
};
pub use crate::service::audit::pending_entry::PendingAuditEntry;
pub use crate::service::diagnostics::{Check, CheckResult, CheckStatus, DiagnosticReport, diagnose};
pub use crate::service::exchange_log::ExchangeFilter;
pub use crate::service::request_context::{ConnectionAccess, IdempotencyRequest, RequestContext};
pub use crate::service::snapshot::ConfigDiff;
pub use crate::service::write::handle::{Removal, WriteHandle, WriteReply, WriteResult};
pub use crate::store::{DeliveryFilter, ListPart, Page};
pub use crate::transport::{CallCounts, CallHistory};

/// Retention periods of data the gateway no longer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Operations, counted from their end.
    pub operations: Duration,
    /// Responses stored under an `Idempotency-Key` and generated passwords, counted from the request.
    pub keys: Duration,
    /// Bodies of reports that were applied, counted from their arrival.
    pub reports: Duration,
    /// Reports that were not applied, counted from their arrival.
    pub parked_reports: Duration,
    /// Events, counted from when they happened, and deliveries, counted from their end.
    pub events: Duration,
}

/// How long a start retries while the store does not respond.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between those retries.
const STARTUP_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Handle to the gateway; cheap to clone and shared by all requests.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    system: System,
    lease: Lease,
    subject_locks: Arc<SubjectLocks>,
    executor: Arc<Executor>,
    reconciler: Arc<Reconciler>,
    idempotency: Arc<IdempotencyKeys>,
    active_operations: ActiveOperations,
    // Connections that have a background reconciler.
    reconcilers: Mutex<BTreeSet<String>>,
    exchanges: Exchanges,
    audit_writer: AuditWriter,
    reads: ReadLimits,
    results: ResultsState,
    event_heads: EventHeads,
    webhooks: WebhooksState,
    steady_clock: Arc<SteadyClock>,
    tasks: TaskTracker,
    not_ready: AtomicBool,
    stopping: CancellationToken,
    draining: AtomicBool,
    // Whether records may have spellings of identities that a request cannot have any more.
    former_spellings: AtomicBool,
    identities_renewed: AtomicBool,
}

/// Runs a step of the start, and runs it again while the store does not respond. A database that is busy, restarting or
/// failing over at that moment would otherwise end the process.
async fn until_available<T>(step: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + STARTUP_TIMEOUT;
    loop {
        match step().await {
            Err(error) if error.code == Code::StoreUnavailable && Instant::now() < deadline => {
                tracing::warn!("the store is unavailable; the gateway starts when it responds");
                tokio::time::sleep(STARTUP_RETRY_INTERVAL).await;
            }
            done => return done,
        }
    }
}

impl Gateway {
    /// Starts a gateway over these connections. Writes that an earlier process left open become unknown, and background
    /// tasks reconcile them as long as the gateway lives. A store that does not respond is asked again for
    /// half a minute.
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
        let lease = until_available(async || Lease::take(&store, &environment).await.or_not_applied()).await?;
        let snapshot = Snapshot::new(connections, catalogue, retention, &lease);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let last_used = until_available(async || store.remembered_time().await.or_not_applied()).await?;
        let steady_clock = Arc::new(SteadyClock::start(&environment, last_used));
        if last_used.is_none() {
            // Before anything is served: a process that starts on a stepped clock would take what this one stores for expired.
            let now = steady_clock.now();
            until_available(async || store.remember_time(now).await.or_not_applied()).await?;
        }
        let tasks = TaskTracker::new();
        let subject_locks = Arc::new(SubjectLocks::new(Arc::clone(&store)));
        let executor = Executor::new(Arc::clone(&store), environment.clone(), Arc::clone(&steady_clock), tasks.clone());
        let executor = Arc::new(executor);
        let reconciler = Reconciler::new(Arc::clone(&store), Arc::clone(&executor), Arc::clone(&subject_locks));
        let reconciler = Arc::new(reconciler);
        let idempotency = Arc::new(IdempotencyKeys::new(
            Arc::clone(&store),
            environment.clone(),
            Arc::clone(&snapshot),
            Arc::clone(&executor),
            Arc::clone(&reconciler),
        ));
        let gateway = Self(Arc::new(Inner {
            store,
            snapshot,
            system: environment,
            lease,
            subject_locks,
            executor,
            reconciler,
            idempotency,
            active_operations: ActiveOperations::default(),
            reconcilers: Mutex::default(),
            exchanges: Exchanges::default(),
            audit_writer: AuditWriter::default(),
            reads: ReadLimits::default(),
            results: ResultsState::default(),
            event_heads: EventHeads::default(),
            webhooks: WebhooksState::default(),
            steady_clock,
            tasks,
            not_ready: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            draining: AtomicBool::new(false),
            former_spellings: AtomicBool::new(true),
            identities_renewed: AtomicBool::new(false),
        }));
        until_available(async || gateway.recover().await).await?;
        gateway.run_in_background();
        Ok(gateway)
    }

    /// Completes when another instance has declared this one dead and fenced it off; the process must then exit.
    pub async fn fenced_off(&self) {
        self.0.lease.lost().await;
    }

    /// Returns whether another instance has declared this one dead.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lease.is_lost()
    }

    /// Returns the descriptors of all supported vendors.
    #[must_use]
    pub fn descriptors() -> &'static [&'static VendorDescriptor] {
        &crate::vendors::DESCRIPTORS
    }

    /// Checks readiness: the store responds, the lease is held and the instance is not shutting down.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.0.not_ready.load(Ordering::SeqCst) {
            return Err(draining_error());
        }
        self.refuse_when_draining()?;
        // Before the lease, which a full store ends too: its error names the cause. A failed ping puts no write in doubt,
        // so the error is never `unknown`.
        self.0.store.ping().await.map_err(|error| store_unreachable(&error))?;
        if !self.0.lease.holds() {
            return Err(Error::new(Code::StoreUnavailable, "This instance has lost contact with the shared store."));
        }
        Ok(())
    }

    /// Rejects a request that needs the store while the store is known to be unavailable, so the caller does not wait
    /// for another time-out. Work already in flight keeps retrying.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub fn ensure_store_available(&self) -> Result<(), Error> {
        if !self.0.store.is_unavailable() {
            return Ok(());
        }
        let detail = "The store is temporarily unavailable; nothing was sent.";
        Err(Error::new(Code::StoreUnavailable, detail).with_retry_after(Some(Duration::from_secs(1))))
    }

    /// Makes [`ready`](Self::ready) fail so that load balancers choose another instance; requests are still served.
    pub fn start_draining(&self) {
        self.0.not_ready.store(true, Ordering::SeqCst);
    }

    /// Stops operations and background reconciliation after their current vendor calls. New writes are still accepted,
    /// because their requests may have arrived earlier.
    pub fn stop_background_work(&self) {
        self.start_draining();
        self.0.stopping.cancel();
    }

    /// Rejects new writes and waits up to `grace` for those in flight. A write cut off then remains in the store as an
    /// open intent.
    pub async fn drain(&self, grace: Duration) {
        self.stop_background_work();
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(
                open = self.0.tasks.len(),
                "stopped waiting for writes in flight; their intents stay open in the store"
            );
        }
    }

    /// Call last. Releases the lease so that peers take over immediately. Does nothing while writes are in flight:
    /// peers then wait for the lease to expire, because only this instance knows what it has sent.
    pub async fn release_lease(&self) {
        if !self.0.tasks.is_empty() {
            return;
        }
        self.0.executor.flush_pending_outcomes().await;
        self.flush_audit_backlog().await;
        self.discard_audit_backlog();
        self.0.lease.release(self.0.store.as_ref()).await;
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    fn refuse_when_draining(&self) -> Result<(), Error> {
        if self.0.draining.load(Ordering::SeqCst) { Err(draining_error()) } else { Ok(()) }
    }

    /// Spawns the work in its own task, at most once per idempotency key. `what` names it in traces.
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
            let keys = Arc::clone(&gateway.0.idempotency);
            keys.run(caller, acceptance, |caller, acceptance| work(gateway, caller, acceptance)).await
        })
    }

    /// As [`Self::spawn_idempotent`], for work that handles the caller's key itself.
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
        let (gateway, audit_entry) = (self.clone(), caller.audit_entry.clone());
        // The future is many kilobytes and would be copied at each step on its way into the task.
        let work = Box::pin(work(gateway, caller.clone(), acceptance));
        let work = self.0.tasks.spawn(work.instrument(spans::write(what)));
        let RequestContext { exchange, tenant, client, .. } = caller;
        let (exchange, tenant, client) = (exchange.clone(), tenant.clone(), client.clone());
        let (gateway, pending) = (self.clone(), audit_entry.clone());
        let record = move |work| {
            let about = Entry::about(&exchange, &tenant, &client, gateway.0.system.now());
            gateway.record_outcome(Entry { action: what, ..about }, pending, work);
        };
        Ok(WriteHandle::new(accepted, work, audit_entry, Box::new(record)))
    }

    /// Returns the current time by the steady clock, which steps of the wall clock do not move. Times that a vendor or
    /// a person reads (a window, a signature, a log entry) use the wall clock instead.
    pub(super) fn now(&self) -> Timestamp {
        self.0.steady_clock.now()
    }

    /// Acquires the lock that serialises writes about a subject.
    async fn lock_subject(&self, subject: &SubjectKey) -> Result<SubjectLock, Error> {
        self.0.subject_locks.lock(subject).await.or_not_applied()
    }

    /// Acquires the locks of all subjects of a write.
    async fn lock_subjects(&self, intent: &Intent) -> Result<Vec<SubjectLock>, Error> {
        self.0.subject_locks.lock_all(&crate::service::write::locks::subjects_of(intent)).await.or_not_applied()
    }

    /// Acquires the locks of all subjects of a write; `None` if any of them is held.
    async fn try_lock_subjects(&self, intent: &Intent) -> Result<Option<Vec<SubjectLock>>, Error> {
        self.0.subject_locks.try_lock_all(&crate::service::write::locks::subjects_of(intent)).await.or_not_applied()
    }
}
