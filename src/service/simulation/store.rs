//! A store wrapper for a process that can be killed: the process can die at every call, changes can fail, and other
//! tasks may run between two calls.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::domain::assignment::Assignment;
use crate::domain::audit::ChainedEntry;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::event::{Event, EventFilter};
use crate::domain::ids::{AssignmentId, CandidateId, DeliveryId, OperationId, ReportId, ResultId, WebhookId};
use crate::domain::intent::Intent;
use crate::domain::operation::{Item, ItemReport, ItemState, Operation, Progress};
use crate::domain::results::{ExamResult, Report, ReportDigest, ResultVersion, SeriesKey};
use crate::domain::webhook::{Delivery, DeliveryOrder, Webhook};
use crate::service::simulation::sim::{CrashPoint, Failure, FailurePlan, SeededRandom};
use crate::store::{
    AcceptResult, AcquireKey, AssignmentFilter, BeginResult, CandidateFilter, DeliveryFilter, EventBounds, EventPage,
    EventReads, FeedPosition, FetchCount, IdentityUpkeep, ItemCounts, KeyState, ListPart, Mutation, OperationFilter,
    Page, Peer, PreparedWrite, PurgeCounts, ReceivedWebhook, ReportCount, ReportFetch, ReportFilter, ReportHint,
    ResultFilter, ResultReads, RunningOperation, SendableDeliveries, Series, Store, StoreError, StoreReads,
    StoredReport, SubjectHash, UnindexedCandidate, UnsettledCount, WebhookBacklog, WebhookReads, Window, WindowedRows,
};

pub(super) struct Proxy {
    pub(super) inner: Arc<dyn Store>,
    pub(super) fate: Arc<FailurePlan>,
    pub(super) scheduler: Arc<SeededRandom>,
    pub(super) idle: Idle,
}

tokio::task_local! {
    /// The calls of a [`Proxy`] in a task whose calls are counted.
    static CALLS: AtomicU64;
}

/// Returns a store that never fails or waits, for [`count_calls`].
pub(in crate::service) fn counted(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    let (fate, scheduler) = (Arc::new(FailurePlan::default()), Arc::new(SeededRandom::new(1)));
    fate.calm_down();
    Arc::new(Proxy { inner, fate, scheduler, idle: Idle::default() })
}

/// Returns what the work results in, and how often it has called a [`counted`] store itself: calls of other tasks are not among
/// them.
pub(in crate::service) async fn count_calls<T>(work: impl Future<Output = T>) -> (T, u64) {
    let counted = async {
        let result = work.await;
        (result, CALLS.with(|calls| calls.load(Ordering::Relaxed)))
    };
    CALLS.scope(AtomicU64::new(0), counted).await
}

/// Cache of empty results that the background polls for every second. Only a write through this store can change them,
/// so they are not queried again until then: a case may wait for long without many reads.
#[derive(Default)]
pub(super) struct Idle {
    writes: AtomicU64,
    none: [AtomicU64; 6],
}

impl Idle {
    fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the query was empty since the last write.
    fn is_none(&self, what: usize) -> bool {
        self.none[what].load(Ordering::Relaxed) == self.writes.load(Ordering::Relaxed) + 1
    }

    fn found<T>(&self, what: usize, found: &Result<Vec<T>, StoreError>) {
        if found.as_ref().is_ok_and(Vec::is_empty) {
            self.none[what].store(self.writes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// Latency of the store, and count of its calls.
#[derive(Default)]
pub(super) struct StoreMeter {
    latency: Mutex<Duration>,
    /// Reads, then writes.
    calls: [AtomicU64; 2],
}

impl StoreMeter {
    /// Makes each call of the store take this long.
    pub(super) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    /// Returns the number of reads and of writes so far.
    pub(super) fn calls(&self) -> [u64; 2] {
        [0, 1].map(|kind| self.calls[kind].load(Ordering::Relaxed))
    }

    /// Counts a call and waits as long as it takes.
    async fn pass(&self, writes: bool) {
        self.calls[usize::from(writes)].fetch_add(1, Ordering::Relaxed);
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Completes a call on this thread. Nothing else runs meanwhile, so the disk's speed has no influence.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    // Unconstrained, since a future out of its budget would ask to be polled again for ever.
    let mut call = pin!(tokio::task::unconstrained(call));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match call.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(end) => return end,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Proxy {
    async fn read<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.others_first().await;
        self.fate.meter.pass(false).await;
        if self.fate.read_fails() {
            return Err(StoreError::Unavailable("the store is unavailable".to_owned()));
        }
        at_once(call)
    }

    /// Like [`Self::write`], for changes that have no effect if the response is lost.
    async fn take<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.others_first().await;
        self.fate.pass(CrashPoint::BeforeCommit).await;
        if self.fate.failure().is_some() {
            return Err(StoreError::Unavailable("the store is unavailable".to_owned()));
        }
        let end = at_once(call);
        self.idle.wrote();
        self.fate.pass(CrashPoint::AfterCommit).await;
        end
    }

    async fn write<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.others_first().await;
        self.fate.meter.pass(true).await;
        self.fate.pass(CrashPoint::BeforeCommit).await;
        let doubt = match self.fate.failure() {
            Some(Failure::Refused) => return Err(StoreError::Unavailable("the store is unavailable".to_owned())),
            Some(Failure::InDoubt { done } | Failure::InDoubtThenRefused { done }) => Some(done),
            None => None,
        };
        let in_doubt = || Err(StoreError::InDoubt("the response is lost".to_owned()));
        if doubt == Some(false) {
            return in_doubt();
        }
        let end = at_once(call);
        self.idle.wrote();
        self.fate.pass(CrashPoint::AfterCommit).await;
        if doubt.is_some() && end.is_ok() { in_doubt() } else { end }
    }

    fn looked_for<T>(
        &self,
        what: usize,
        call: impl Future<Output = Result<Vec<T>, StoreError>>,
    ) -> Result<Vec<T>, StoreError> {
        if self.idle.is_none(what) {
            return Ok(Vec::new());
        }
        let found = at_once(call);
        self.idle.found(what, &found);
        found
    }

    async fn others_first(&self) {
        let is_counted = CALLS.try_with(|calls| calls.fetch_add(1, Ordering::Relaxed)).is_ok();
        if is_counted {
            return;
        }
        self.fate.alive().await;
        match self.scheduler.throw() % 24 {
            // A slow disk, so that other tasks complete whole calls meanwhile.
            0 if !self.fate.is_calm() => {
                tokio::time::sleep(Duration::from_millis(self.scheduler.throw() % 3000)).await;
            }
            times => {
                for _ in 0..times % 3 {
                    tokio::task::yield_now().await;
                }
            }
        }
        self.fate.alive().await;
    }
}

/// Implements a trait: the first methods as given, every other as a read or a write.
macro_rules! through {
    ($trait:ident { $($own:tt)* } $($way:ident $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for Proxy {
            $($own)*

            $(
                async fn $name(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                    self.$way(self.inner.$name($($argument),*)).await
                }
            )*
        }
    };
}

through! {
    Store {
        fn is_shared(&self) -> bool {
            self.inner.is_shared()
        }

        fn hash_subject(&self, operation: &OperationId, text: &str) -> SubjectHash {
            self.inner.hash_subject(operation, text)
        }

        fn is_unavailable(&self) -> bool {
            false
        }

        fn has_undecided_commits(&self) -> bool {
            self.inner.has_undecided_commits()
        }

        fn event_signal(&self) -> watch::Receiver<u64> {
            self.inner.event_signal()
        }

        fn unnumbered_signal(&self) -> watch::Receiver<u64> {
            self.inner.unnumbered_signal()
        }
    }
    take number_events(limit: usize) -> u64;
    read purge_events(before: Timestamp) -> u64;
    read ping() -> ();
    read renew_lease() -> Vec<Peer>;
    write end_instance(peer: &Peer) -> bool;
    write end_own_instance() -> ();
    read acquire_locks(subjects: &[&str]) -> bool;
    read release_locks(subjects: &[String]) -> ();
    write begin_writes(key: Option<&AcquireKey>, writes: Vec<PreparedWrite>) -> Vec<BeginResult>;
    write commit(changes: Vec<Mutation>) -> ();
    read candidates_by_id(tenant: &str, ids: &[String]) -> Vec<Candidate>;
    read candidates(tenant: &str, connection: Option<&str>, identity: &Identity) -> Vec<Candidate>;
    read identities_of_other_tenants(tenant: &str, connection: &str, identities: &[Identity]) -> bool;
    read assignments(tenant: &str, filter: &AssignmentFilter, page: &Page) -> Vec<Assignment>;
    take acquire_key(claim: &AcquireKey) -> KeyState;
    take open_operation(operation: &Operation) -> ();
    take add_items(items: Vec<Item>) -> ();
    write accept_operation(operation: &Operation, key: Option<&AcquireKey>) -> AcceptResult;
    take discard_operation(id: &OperationId) -> ();
    read items(id: &OperationId, states: &[ItemState], from: u64, limit: usize) -> Vec<Item>;
    read next_items(id: &OperationId, states: &[ItemState], from: u64, most: Window) -> Vec<Item>;
    read item_reports(id: &OperationId, states: &[ItemState], from: u64, most: Window) -> WindowedRows<ItemReport>;
    write skip_waiting(id: &OperationId) -> u64;
    write requeue(id: &OperationId, accepted: Timestamp) -> ();
    read remember_time(now: Timestamp) -> ();
    read purge(now: Timestamp, finished: Timestamp) -> PurgeCounts;
    read purge_removed_webhook(id: &WebhookId) -> u64;
    read purge_reports(applied: Timestamp, parked: Timestamp) -> u64;
    read reindex_identities(limit: usize) -> IdentityUpkeep;
    read index_participants(limit: usize) -> bool;
}

through! {
    StoreReads {
        async fn orphaned_intents(&self, limit: usize) -> Result<Vec<Intent>, StoreError> {
            self.others_first().await;
            self.looked_for(0, self.inner.orphaned_intents(limit))
        }

        async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError> {
            self.others_first().await;
            // An empty result that excludes running operations may change when they stop.
            if but.is_empty() {
                return self.looked_for(1, self.inner.unfinished_operations(but, of_each));
            }
            at_once(self.inner.unfinished_operations(but, of_each))
        }

        async fn due_intents(
            &self,
            connection: &str,
            now: Timestamp,
            horizon: Timestamp,
            limit: usize,
        ) -> Result<Vec<Intent>, StoreError> {
            self.others_first().await;
            // Without open intents, none is due.
            if self.looked_for(2, self.inner.count_unsettled_intents())?.is_empty() {
                return Ok(Vec::new());
            }
            at_once(self.inner.due_intents(connection, now, horizon, limit))
        }
    }
    read candidate(tenant: &str, id: &CandidateId) -> Option<Candidate>;
    read assignment(tenant: &str, id: &AssignmentId) -> Option<Assignment>;
    read assignments_by_id(tenant: &str, ids: &[String]) -> Vec<Assignment>;
    read bookings(tenant: &str, connection: &str, subject: &str) -> Vec<Assignment>;
    read is_subject_known(connection: &str, subject: &str) -> bool;
    read partially_erased_candidates(after: Option<&CandidateId>, limit: usize) -> Vec<CandidateId>;
    read intent(record: &str) -> Option<Intent>;
    read intents_of(subject: &str) -> Vec<Intent>;
    read own_intents(after: &str, limit: usize) -> Vec<Intent>;
    read enrolment_intents(connection: &str) -> Vec<Intent>;
    read count_unsettled_intents() -> Vec<UnsettledCount>;
    read count_open_items() -> ItemCounts;
    read running_operations() -> Vec<RunningOperation>;
    read operation(tenant: &str, id: &OperationId) -> Option<(Operation, Progress)>;
    read operations(tenant: &str, filter: &OperationFilter, page: &Page) -> Vec<(Operation, Progress)>;
    read listed_candidates(tenant: &str, filter: &CandidateFilter, page: &Page) -> ListPart<Candidate>;
    read candidates_without_group_index(page: &Page) -> ListPart<UnindexedCandidate>;
    read item_subjects(id: &OperationId) -> Vec<(SubjectHash, u64)>;
    read audit(tenant: &str, after: u64, limit: usize) -> Vec<ChainedEntry>;
    read remembered_time() -> Option<Timestamp>;
}

through! {
    ResultReads {
        fn report_digest(&self, input: &[u8]) -> ReportDigest {
            self.inner.report_digest(input)
        }

        async fn received_webhooks(&self, connection: &str, limit: usize) -> Result<Vec<ReceivedWebhook>, StoreError> {
            self.others_first().await;
            self.looked_for(3, self.inner.received_webhooks(connection, limit))
        }

        async fn due_reports(&self, connection: &str, limit: usize) -> Result<Vec<StoredReport>, StoreError> {
            if self.idle.is_none(4) {
                self.others_first().await;
                return Ok(Vec::new());
            }
            let found = self.read(self.inner.due_reports(connection, limit)).await;
            self.idle.found(4, &found);
            found
        }

        async fn due_fetches(
            &self,
            connection: &str,
            now: Timestamp,
            limit: usize,
        ) -> Result<Vec<ReportFetch>, StoreError> {
            self.others_first().await;
            // Without any, none is due.
            if self.looked_for(5, self.inner.count_fetches())?.is_empty() {
                return Ok(Vec::new());
            }
            self.read(self.inner.due_fetches(connection, now, limit)).await
        }
    }
    read count_fetches() -> Vec<FetchCount>;
    read reports_by_digest(connection: &str, digests: &[ReportDigest]) -> Vec<Report>;
    read series(connection: &str, keys: &[SeriesKey]) -> Vec<Series>;
    read report(id: &ReportId) -> Option<StoredReport>;
    read report_body(id: &ReportId) -> Option<Vec<u8>>;
    read reports(tenant: Option<&str>, filter: &ReportFilter, page: &Page) -> Vec<Report>;
    read parked_reports(connection: &str, after: u64, limit: usize) -> Vec<StoredReport>;
    read reports_since(connection: &str, since: Timestamp, after: u64, limit: usize) -> Vec<StoredReport>;
    read erased_hints(connection: &str, hints: &[ReportHint]) -> Vec<bool>;
    read count_reports() -> Vec<ReportCount>;
    read result(tenant: &str, id: &ResultId) -> Option<ExamResult>;
    read results(tenant: &str, filter: &ResultFilter, page: &Page) -> Vec<ExamResult>;
    read result_versions(tenant: &str, id: &ResultId) -> Vec<ResultVersion>;
    read results_of_assignments(ids: &[AssignmentId]) -> Vec<ExamResult>;
    read results_of_candidate(candidate: &CandidateId, assessment_ref: &str) -> Vec<ExamResult>;
    read feed_positions(connection: &str) -> Vec<FeedPosition>;
    read last_sweep(connection: &str) -> Option<Timestamp>;
    read assignments_of_participants(connection: &str, participants: &[String]) -> Vec<Assignment>;
    read assignments_of_people(connection: &str, ids: &[CandidateId], known_as: &[Identity]) -> Vec<Assignment>;
    read candidates_at(connection: &str, identities: &[Identity]) -> Vec<Candidate>;
    read booked_assignments(connection: &str, after: Option<&AssignmentId>, limit: usize) -> Vec<Assignment>;
}

through! {
    EventReads {}
    read events(tenant: &str, after: u64, filter: &EventFilter, limit: usize) -> EventPage;
    read event_bounds(tenant: &str, since: Timestamp) -> EventBounds;
    read latest_event(tenant: &str) -> u64;
    read event_heads() -> Vec<(String, u64)>;
    read last_event(tenant: &str, filter: &EventFilter) -> Option<u64>;
    read event(tenant: &str, sequence: u64) -> Option<Event>;
    read events_by_sequence(tenant: &str, sequences: &[u64]) -> Vec<Event>;
    read connection_states() -> Vec<(String, String)>;
}

through! {
    WebhookReads {}
    read webhook(tenant: &str, id: &WebhookId) -> Option<Webhook>;
    read webhooks(tenant: &str, page: &Page) -> Vec<Webhook>;
    read all_webhooks() -> Vec<Webhook>;
    read delivery(tenant: &str, id: &DeliveryId) -> Option<Delivery>;
    read is_attemptable(delivery: &Delivery, webhook_version: u64) -> bool;
    read deliveries(tenant: &str, webhook: &WebhookId, filter: &DeliveryFilter, page: &Page) -> Vec<Delivery>;
    read pending_deliveries(webhook: &WebhookId, after: u64, limit: usize) -> Vec<Delivery>;
    read sendable_deliveries(
        webhook: &WebhookId,
        order: DeliveryOrder,
        after: u64,
        due: Timestamp,
        limit: usize
    ) -> SendableDeliveries;
    read first_pending_deliveries(webhook: &WebhookId, assignments: &[AssignmentId]) -> Vec<Delivery>;
    read webhook_versions() -> Vec<(WebhookId, String, u64)>;
    read webhook_backlogs() -> Vec<(String, u64)>;
    read webhook_backlog(webhook: &WebhookId) -> WebhookBacklog;
}
