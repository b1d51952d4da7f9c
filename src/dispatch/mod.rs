//! What the gateway promises: people are registered once, bookings are made once, and the answer about every write is
//! true. The only room that knows both the store and the vendors.
//!
//! Every write goes the same way: plan (nothing sent yet), claim and intent in the store, the vendor's call, the outcome in
//! the store, the answer. The work runs in a task of its own, so that a caller who hangs up changes nothing; writes about
//! one subject run one after the other.

mod answer_line;
mod assignments;
mod audit;
mod bulk;
mod caller;
mod candidates;
mod catalogue;
mod configured;
mod connections;
mod doctor;
mod due;
mod erasure;
mod exchanges;
mod grace;
mod journal;
mod keys;
mod lease;
#[cfg(test)]
mod model;
mod orphans;
mod packing;
mod places;
mod programs;
mod reads;
mod runner;
mod seats;
mod settling;
mod steady_clock;
mod tally;
mod tenants;
mod tickets;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::audit::Recorder;
use self::bulk::Board;
use self::configured::Configured;
use self::exchanges::Exchanges;
use self::grace::Graces;
use self::keys::Kept;
use self::lease::Lease;
use self::orphans::{PendingOutcomes, UnsentAttempts};
use self::reads::Reads;
use self::steady_clock::SteadyClock;
use self::tally::Codes;
use self::tickets::Acceptance;
use self::turns::{Turn, Turns};
use crate::domain::capability::Descriptor;
use crate::domain::environment::Environment;
use crate::domain::journal::Intent;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::vendor::{Attempt, Call};
use crate::store::{Change, Store, StoreError};
use crate::trace;

pub use self::answer_line::AnswerLine;
pub use self::assignments::AssignmentQuery;
pub use self::bulk::{
    BulkEnvelope, BulkRow, OperationSettlement, OperationView, Received, Reception, Resource, ResultFilter, RowEnd,
    RowResult,
};
pub use self::caller::{Allowed, Caller, RequestKey};
pub use self::candidates::{CandidateAnswer, Patch};
pub use self::catalogue::{Catalogue, CatalogueEntry};
pub use self::configured::Reconfigured;
pub use self::connections::{CircuitState, ConnectionSetup, ConnectionStatus, ConnectionView};
pub use self::doctor::{Examination, Finding, Step, Verdict, examine};
pub use self::exchanges::ExchangeFilter;
pub use self::programs::{EmployeeKey, Enrolling, EnrolmentOrder};
pub use self::tickets::{Removal, Reply, Ticket, Written};

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
    configured: ArcSwap<Configured>,
    environment: Environment,
    lease: Lease,
    turns: Turns,
    board: Board,
    // The connections that have a settler.
    settlers: Mutex<BTreeSet<String>>,
    exchanges: Exchanges,
    recorder: Recorder,
    reads: Reads,
    codes: Codes,
    pending: PendingOutcomes,
    unsent: UnsentAttempts,
    graces: Graces,
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
        environment: Environment,
        retention: Retention,
    ) -> Result<Self, Fault> {
        let lease = Lease::take(&store, &environment).await.before_sending()?;
        let configured = Configured::new(connections, catalogue, retention, &lease);
        let seen = store.remembered_time().await.before_sending()?;
        let steady = SteadyClock::start(&environment, seen);
        let gateway = Self(Arc::new(Inner {
            turns: Turns::new(Arc::clone(&store)),
            store,
            configured: ArcSwap::from_pointee(configured),
            environment,
            lease,
            board: Board::default(),
            settlers: Mutex::default(),
            exchanges: Exchanges::default(),
            recorder: Recorder::default(),
            reads: Reads::default(),
            codes: Codes::default(),
            pending: PendingOutcomes::default(),
            unsent: UnsentAttempts::default(),
            graces: Graces::default(),
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
    pub async fn lost(&self) {
        self.0.lease.lost().await;
    }

    /// Whether another instance has taken this one for dead.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lease.is_lost()
    }

    /// Every kind of vendor there is.
    #[must_use]
    pub fn descriptors() -> &'static [&'static Descriptor] {
        &crate::vendors::DESCRIPTORS
    }

    /// Whether the gateway can work: its store answers and it is not shutting down.
    pub async fn ready(&self) -> Result<(), Fault> {
        if self.0.leaving.load(Ordering::SeqCst) {
            return Err(draining());
        }
        self.refuse_when_draining()?;
        if !self.0.lease.holds() {
            return Err(Fault::new(Code::StoreUnavailable, "This instance has lost touch with the store it shares."));
        }
        // Whatever came of the look, nobody's write is in doubt for it.
        self.0.store.ping().await.map_err(|error| store_unreachable(&error))
    }

    /// Refuses at once what the store is needed for, where it is known not to answer: nobody has to wait to learn it again.
    /// What is under way goes on trying.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub fn store_at_hand(&self) -> Result<(), Fault> {
        if !self.0.store.is_away() {
            return Ok(());
        }
        let detail = "The store does not answer at the moment; nothing was sent.";
        Err(Fault::new(Code::StoreUnavailable, detail).after(Some(Duration::from_secs(1))))
    }

    /// From now on it is not [`ready`](Self::ready), so that callers go elsewhere; everything is served as before.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::SeqCst);
    }

    /// From now on operations and the settling of open writes end with the calls they have begun. Writes are taken still, since
    /// their requests may have come before.
    pub fn rest(&self) {
        self.leave();
        self.0.resting.cancel();
    }

    /// Takes no new writes from now on and waits for those under way, at most this long. What is cut off then stays in the
    /// store as an intent without an answer.
    pub async fn drain(&self, grace: Duration) {
        self.rest();
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
    pub async fn hand_over(&self) {
        if !self.0.tasks.is_empty() {
            return;
        }
        self.write_pending_outcomes().await;
        self.write_late_lines().await;
        self.give_late_lines_up();
        self.0.lease.give_back(self.0.store.as_ref()).await;
    }

    fn is_resting(&self) -> bool {
        self.0.resting.is_cancelled()
    }

    fn refuse_when_draining(&self) -> Result<(), Fault> {
        if self.0.draining.load(Ordering::SeqCst) { Err(draining()) } else { Ok(()) }
    }

    /// Begins the work in a task of its own, once under the caller's key. `what` names it in traces.
    fn begin<T, F, W>(&self, caller: &Caller, what: &'static str, work: F) -> Result<Ticket<T>, Fault>
    where
        T: Kept,
        F: FnOnce(Self, Caller, Acceptance<T>) -> W + Send + 'static,
        W: Future<Output = Result<Written<T>, Fault>> + Send + 'static,
    {
        self.begin_as(caller, what, move |gateway, caller, acceptance| async move {
            gateway.once(caller, acceptance, work).await
        })
    }

    /// As [`Self::begin`], for work that sees to the caller's key by itself.
    fn begin_as<T, F, W>(&self, caller: &Caller, what: &'static str, work: F) -> Result<Ticket<T>, Fault>
    where
        T: Kept,
        F: FnOnce(Self, Caller, Acceptance<T>) -> W + Send + 'static,
        W: Future<Output = Result<Reply<T>, Fault>> + Send + 'static,
    {
        self.refuse_when_draining()?;
        let (acceptance, accepted) = tickets::acceptance();
        let (gateway, asked, line) = (self.clone(), caller.clone(), caller.line.clone());
        // Of many kilobytes: it would be copied at each step on its way into the task.
        let work = Box::pin(work(gateway, caller.clone(), acceptance));
        let work = self.0.tasks.spawn(work.instrument(trace::write(what)));
        let gateway = self.clone();
        Ok(Ticket::new(accepted, work, line, Box::new(move |work| gateway.record_end(&asked, what, work))))
    }

    /// Returns the present moment by the steady clock, which no step of the wall clock moves. What a vendor or a person is
    /// told by the day (a window, a signature, a line of the log) goes by the wall clock.
    pub(super) fn now(&self) -> Timestamp {
        self.0.steady.now()
    }

    /// The turn to write about a subject.
    async fn turn(&self, subject: &str) -> Result<Turn, Fault> {
        self.0.turns.turn(subject).await.before_sending()
    }

    /// The turns a write needs.
    async fn turns_of(&self, intent: &Intent) -> Result<Vec<Turn>, Fault> {
        self.0.turns.all(&turns::subjects_of(intent)).await.before_sending()
    }

    /// The turns a write needs, if nobody has one of them.
    async fn try_turns_of(&self, intent: &Intent) -> Result<Option<Vec<Turn>>, Fault> {
        self.0.turns.try_all(&turns::subjects_of(intent)).await.before_sending()
    }

    /// Writes changes down that nobody waits for; if the store is away, as soon as it is back.
    fn later(&self, changes: Vec<Change>) {
        let gateway = self.clone();
        self.0.tasks.spawn(async move {
            if gateway.0.store.commit(changes.clone()).await.is_err() {
                gateway.0.pending.push(changes);
            }
        });
    }
}

fn draining() -> Fault {
    Fault::new(Code::Draining, "This instance is shutting down.").after(Some(Duration::from_secs(1)))
}

/// A call made for this caller.
fn call(caller: &Caller, attempt: Attempt) -> Call {
    Call { attempt, lane: caller.lane, exchange: caller.exchange.clone() }
}

/// A store's result, with what its failure says of the write. There is no third way to make a fault of one.
trait BeforeSending<T> {
    /// Returns the value, or the fault of a write that was not accepted yet: nothing was sent and nothing will be, unless the
    /// commit that would have accepted it is in doubt.
    fn before_sending(self) -> Result<T, Fault>;

    /// Returns the value, or the fault of a write that was accepted and whose outcome appears at `resource`: a store that
    /// fails then says nothing about it.
    fn after_acceptance(self, resource: &str) -> Result<T, Fault>;
}

impl<T> BeforeSending<T> for Result<T, StoreError> {
    fn before_sending(self) -> Result<T, Fault> {
        self.map_err(|error| store_fault(&error))
    }

    fn after_acceptance(self, resource: &str) -> Result<T, Fault> {
        self.map_err(|error| accepted_unread(&error, resource))
    }
}

/// The store failed before the write was accepted, or in the commit that would have accepted it.
fn store_fault(error: &StoreError) -> Fault {
    let wait = Some(Duration::from_secs(1));
    match error {
        StoreError::Conflict => Fault::new(Code::CandidateConflict, "An identity is not available at this connection."),
        StoreError::Withdrawn => bulk::skipped(),
        StoreError::InDoubt(_) | StoreError::Superseded => {
            tracing::error!(%error, "the store failed");
            let detail = "The store did not confirm the change. The gateway finds out by itself what became of it.";
            Fault::unknown(Code::StoreUnavailable, detail).after(wait)
        }
        StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Ended => {
            tracing::error!(%error, "the store failed");
            store_unreachable(error)
        }
    }
}

/// The fault of what was not sent, because the store cannot be read or has no room.
fn store_unreachable(error: &StoreError) -> Fault {
    let detail = if error.is_full() {
        "The store is full: it can keep nothing more until there is room on its disk; nothing was sent."
    } else {
        "The store cannot be reached; nothing was sent."
    };
    Fault::new(Code::StoreUnavailable, detail).after(Some(Duration::from_secs(1)))
}

/// The fault of a commit with the resource where its outcome appears, should the commit be in doubt.
fn doubt_at(fault: Fault, resource: &str) -> Fault {
    if fault.outcome == Outcome::Unknown && fault.resource.is_none() { fault.at(resource) } else { fault }
}

/// The store failed after the write was accepted: the work goes on, or is taken up again when the store is back.
fn accepted_unread(error: &StoreError, resource: &str) -> Fault {
    tracing::error!(%error, resource, "the store failed after a write was accepted");
    let detail = "The request was accepted, but the store cannot be read; its outcome appears at `resource`.";
    Fault::unknown(Code::StoreUnavailable, detail).after(Some(Duration::from_secs(1))).at(resource)
}

/// The store failed after the vendor was called: what the vendor did could not be kept.
fn store_lost(error: &StoreError, resource: &str) -> Fault {
    tracing::error!(%error, resource, "the store failed after the vendor was called");
    let wait = Some(Duration::from_secs(1));
    Fault::unknown(Code::StoreUnavailable, "The vendor was called, but the outcome could not be kept.")
        .after(wait)
        .at(resource)
}

/// With `Prefer: handling=strict`, members the vendor has no place for are a fault.
fn hold_to_strict(strict: bool, warnings: &[Warning]) -> Result<(), Fault> {
    if !strict {
        return Ok(());
    }
    let ignored: Vec<FieldFault> = warnings
        .iter()
        .filter(|warning| warning.code == WarningCode::FieldIgnored)
        .map(|warning| FieldFault::unsupported(warning.pointer.clone().unwrap_or_default(), warning.detail.clone()))
        .collect();
    if ignored.is_empty() { Ok(()) } else { Err(Fault::of_fields(ignored)) }
}
