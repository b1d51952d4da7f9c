//! What the gateway promises: people are registered once, bookings are made once, and the answer about every write is
//! true. The only room that knows both the store and the vendors.
//!
//! Every write goes the same way: plan (nothing sent yet), claim and intent in the store, the vendor's call, the outcome in
//! the store, the answer. The work runs in a task of its own, so that a caller who hangs up changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::assignment::{Assignment, AssignmentState, NewAssignment};
use crate::domain::candidate::{Candidate, CandidateChanges, Identity, NewCandidate};
use crate::domain::capability::Descriptor;
use crate::domain::environment::Environment;
use crate::domain::ids::{AssignmentId, CandidateId, OperationId};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Fault, FieldFault};
use crate::domain::program::Enrolled;
use crate::secret::Secret;
use crate::store::Store;
use crate::transport::ConnectionSettings;
use crate::vendors::Connected;

/// Who asks: an authenticated client, with what it may use.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who owns what the caller sees and makes.
    pub tenant: String,
    /// The configured client.
    pub client: String,
    /// The connections it may use.
    pub connections: Allowed,
    /// Used when a request names no connection.
    pub default_connection: Option<String>,
    /// The request's id, for logs and exchanges.
    pub request_id: String,
    /// W3C `traceparent` of the request.
    pub traceparent: Option<String>,
}

/// The connections a client may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    All,
    /// These.
    Named(BTreeSet<String>),
}

/// How a write ended that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Written<T> {
    /// It was done now.
    Created(T),
    /// It was there before; nothing new was made.
    Existing(T),
    /// It goes on; the record tells how it ends.
    Pending(T),
}

/// A candidate with what only the answer to its registration shows.
#[derive(Debug, Clone)]
pub struct CandidateAnswer {
    /// The record.
    pub candidate: Candidate,
    /// The password the gateway made up, told once.
    pub initial_password: Option<Secret>,
}

/// Turns the person as the gateway knows them into the person as they shall be (the public face's merge patch).
pub type Patch = Box<dyn FnOnce(&Candidate) -> Result<CandidateChanges, Vec<FieldFault>> + Send>;

/// How an employee of a program is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmployeeKey {
    /// By the caller's own id.
    ExternalId(String),
    /// By the gateway's candidate.
    Id(CandidateId),
}

/// A change of a program's employees as a caller asks for it.
#[derive(Debug, Clone)]
pub struct EnrolmentOrder {
    /// The connection, where the caller names one.
    pub connection: Option<String>,
    /// `None`: all assessments of the program; else these, by catalogue id or the vendor's own.
    pub assessments: Option<Vec<String>>,
    /// Who shall be enrolled.
    pub register: Vec<EmployeeKey>,
    /// Who shall be withdrawn.
    pub unregister: Vec<EmployeeKey>,
}

/// One row of a bulk: the caller's mark for it, and what was read, or why it could not be.
#[derive(Debug, Clone)]
pub struct BulkRow<T> {
    /// The caller's mark.
    pub item_id: Option<String>,
    /// The row.
    pub row: Result<T, Fault>,
}

/// What became of a bulk, in input order.
#[derive(Debug, Clone)]
pub struct BulkReport<T> {
    /// The operation.
    pub operation: OperationId,
    /// One entry a row.
    pub results: Vec<BulkResult<T>>,
}

/// What became of one row.
#[derive(Debug, Clone)]
pub struct BulkResult<T> {
    /// The caller's mark.
    pub item_id: Option<String>,
    /// How it ended.
    pub result: Result<Written<T>, Fault>,
}

/// An entry of the operator's catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The vendor-neutral id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it lives.
    pub connection: String,
    /// The vendor's own id; for a program `ext:<id>` where the operator gave an external one.
    pub reference: String,
}

/// The catalogue, by vendor-neutral id.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// What can be assigned.
    pub assessments: BTreeMap<String, CatalogueEntry>,
    /// What employees can be enrolled in.
    pub programs: BTreeMap<String, CatalogueEntry>,
}

/// One configured connection, ready for use.
pub struct ConnectionSetup {
    /// The adapter and its way out.
    pub connected: Connected,
    /// Grace, batch size and the rest.
    pub settings: ConnectionSettings,
}

/// What is known of a connection's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// The last call was answered.
    Ok,
    /// The last calls failed.
    Degraded,
    /// Nothing is sent at the moment.
    CircuitOpen,
    /// The vendor refuses the credentials.
    CredentialsInvalid,
    /// The vendor finds the clock wrong.
    ClockSkew,
    /// Nothing was called yet, or nothing harmless can be.
    Unchecked,
}

/// A connection as it is shown: never a secret, never an address with one.
#[derive(Debug, Clone)]
pub struct ConnectionView {
    /// The operator's name.
    pub name: String,
    /// Its kind.
    pub descriptor: &'static Descriptor,
    /// Its condition.
    pub status: ConnectionStatus,
    /// The condition in a sentence, with what to do about it.
    pub detail: String,
    /// When that was seen.
    pub since: Option<Timestamp>,
}

/// The gateway: cheap to clone, shared by all requests.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    connections: BTreeMap<String, ConnectionSetup>,
    catalogue: Catalogue,
    environment: Environment,
}

/// A write under way: it goes on whether or not anybody waits for it.
pub struct Ticket<T>(std::marker::PhantomData<T>);

impl<T: Clone + Send + Sync + 'static> Ticket<T> {
    /// Waits for the end, at most this long; after that the record as it was accepted is answered as
    /// [`Written::Pending`], and the work goes on.
    ///
    /// # Errors
    /// The fault that ended the write.
    pub async fn wait(self, _patience: Option<Duration>) -> Result<Written<T>, Fault> {
        todo!()
    }
}

impl Gateway {
    /// A gateway over these connections. Intents left open by an earlier process are settled in the background.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        environment: Environment,
    ) -> Self {
        Self(Arc::new(Inner { store, connections, catalogue, environment }))
    }

    /// Registers a person. With `strict`, members the vendor has no place for are a fault.
    pub async fn create_candidate(
        &self,
        _caller: &Caller,
        _connection: Option<&str>,
        _new: NewCandidate,
        _strict: bool,
    ) -> Result<Ticket<CandidateAnswer>, Fault> {
        todo!()
    }

    /// The tenant's candidate; `not_found` otherwise.
    pub async fn candidate(&self, _caller: &Caller, _id: &CandidateId) -> Result<Candidate, Fault> {
        todo!()
    }

    /// The tenant's candidates with this identity.
    pub async fn find_candidates(
        &self,
        _caller: &Caller,
        _connection: Option<&str>,
        _identity: &Identity,
    ) -> Result<Vec<Candidate>, Fault> {
        todo!()
    }

    /// Changes a person at the vendor.
    pub async fn update_candidate(
        &self,
        _caller: &Caller,
        _id: &CandidateId,
        _patch: Patch,
        _strict: bool,
    ) -> Result<Ticket<CandidateAnswer>, Fault> {
        todo!()
    }

    /// Hides the person where the vendor can, and erases the record.
    pub async fn delete_candidate(&self, _caller: &Caller, _id: &CandidateId) -> Result<Ticket<()>, Fault> {
        todo!()
    }

    /// An operator's word on a candidate whose state is `unknown`; `Outcome::Unknown` is refused.
    pub async fn settle_candidate(
        &self,
        _caller: &Caller,
        _id: &CandidateId,
        _outcome: Outcome,
    ) -> Result<Candidate, Fault> {
        todo!()
    }

    /// Books a candidate.
    pub async fn create_assignment(
        &self,
        _caller: &Caller,
        _connection: Option<&str>,
        _order: NewAssignment,
        _strict: bool,
    ) -> Result<Ticket<Assignment>, Fault> {
        todo!()
    }

    /// The tenant's assignment; `not_found` otherwise.
    pub async fn assignment(&self, _caller: &Caller, _id: &AssignmentId) -> Result<Assignment, Fault> {
        todo!()
    }

    /// A part of the tenant's assignments, newest first, and the cursor of the next part.
    #[expect(clippy::too_many_arguments, reason = "the members of one query string")]
    pub async fn assignments(
        &self,
        _caller: &Caller,
        _candidate: Option<&CandidateId>,
        _assessment: Option<&str>,
        _connection: Option<&str>,
        _state: Option<AssignmentState>,
        _limit: usize,
        _cursor: Option<&str>,
    ) -> Result<(Vec<Assignment>, Option<String>), Fault> {
        todo!()
    }

    /// Withdraws a booking; fine when it is withdrawn already.
    pub async fn cancel_assignment(&self, _caller: &Caller, _id: &AssignmentId) -> Result<Ticket<()>, Fault> {
        todo!()
    }

    /// An operator's word on an assignment whose state is `unknown`; `Outcome::Unknown` is refused.
    pub async fn settle_assignment(
        &self,
        _caller: &Caller,
        _id: &AssignmentId,
        _outcome: Outcome,
    ) -> Result<Assignment, Fault> {
        todo!()
    }

    /// Enrols and withdraws employees of a program, in as many vendor calls as it takes.
    pub async fn enrol(&self, _caller: &Caller, _program: &str, _order: EnrolmentOrder) -> Result<Enrolled, Fault> {
        todo!()
    }

    /// Registers many people.
    pub async fn create_candidates(
        &self,
        _caller: &Caller,
        _connection: Option<&str>,
        _rows: Vec<BulkRow<NewCandidate>>,
        _fail_on_errors: Option<usize>,
        _strict: bool,
    ) -> Result<BulkReport<CandidateAnswer>, Fault> {
        todo!()
    }

    /// Books many candidates.
    pub async fn create_assignments(
        &self,
        _caller: &Caller,
        _connection: Option<&str>,
        _rows: Vec<BulkRow<NewAssignment>>,
        _fail_on_errors: Option<usize>,
        _strict: bool,
    ) -> Result<BulkReport<Assignment>, Fault> {
        todo!()
    }

    /// The assessments the caller may order.
    #[must_use]
    pub fn assessments(&self, _caller: &Caller) -> Vec<&CatalogueEntry> {
        todo!()
    }

    /// The programs the caller may enrol in.
    #[must_use]
    pub fn programs(&self, _caller: &Caller) -> Vec<&CatalogueEntry> {
        todo!()
    }

    /// Every kind of vendor there is.
    #[must_use]
    pub fn descriptors() -> &'static [&'static Descriptor] {
        &crate::vendors::DESCRIPTORS
    }

    /// The connections the caller may use.
    #[must_use]
    pub fn connections(&self, _caller: &Caller) -> Vec<ConnectionView> {
        todo!()
    }

    /// One connection; `connection_not_found` or `connection_forbidden` otherwise.
    pub fn connection(&self, _caller: &Caller, _name: &str) -> Result<ConnectionView, Fault> {
        todo!()
    }

    /// Looks at a connection as far as that has no side effects.
    pub async fn check_connection(&self, _caller: &Caller, _name: &str) -> Result<ConnectionView, Fault> {
        todo!()
    }

    /// Whether the gateway can work: its store answers and it is not shutting down.
    pub async fn ready(&self) -> Result<(), Fault> {
        todo!()
    }

    /// Takes no new writes from now on and waits for those under way, at most this long.
    pub async fn drain(&self, _grace: Duration) {
        todo!()
    }
}
