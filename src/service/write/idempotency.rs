//! `Idempotency-Key`: a write under a key is done once; its repeat gets the same answer, waits its turn, or goes on with
//! what is not known yet, and never sends blindly.
//!
//! The answer itself is kept by the transaction that writes down the outcome (`journal`), so that a key never says less
//! than the record. What ends without a vendor call is kept here.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::assignment::Assignment;
use crate::domain::candidate::NewCandidate;
use crate::domain::error::{Code, Error};
use crate::domain::ids::{AssignmentId, CandidateId, OperationId, fresh};
use crate::domain::intent::{IdempotencyKeyUse, StoredReply, WriteOrigin};
use crate::domain::outcome::Outcome;
use crate::domain::vendor::CallPurpose;
use crate::secret::Secret;
use crate::service::audit::AuditFacts;
use crate::service::connections::Connection;
use crate::service::programs::EnrolmentProgress;
use crate::service::snapshot::forbidden;
use crate::service::write::executor::{assignment_path, candidate_path, operation_path};
use crate::service::write::handle::AcceptedSender;
use crate::service::{
    CandidateWithWarnings, Gateway, IdempotencyRequest, Removal, RequestContext, StoreResultExt as _, WriteReply,
    WriteResult, call,
};
use crate::store::{AcquireKey, KeyState, Mutation};

/// How often a key is looked at again after its open write was settled; more often than this somebody is in a loop.
const MAX_LOOKUPS: usize = 4;

/// What a request says whose key is the gateway's own: nothing that could differ.
const OF_PASSWORD: [u8; 32] = [0; 32];

/// What can be kept under a key.
pub(in crate::service) trait Replayable: Clone + Send + Sync + Sized + 'static {
    /// Whether the answer of a write that was done now is kept by the transaction that wrote down its outcome.
    const WITH_OUTCOME: bool;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply>;

    /// The connection it belongs to, where it says so.
    fn connection(written: &WriteResult<Self>) -> Option<&str>;

    /// What the audit record says of its end; `None` where it goes on as an operation.
    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts>;

    /// The answer that was kept; `None` if it is one of another kind.
    fn from_stored(answer: StoredReply) -> Option<WriteResult<Self>>;
}

impl Replayable for CandidateWithWarnings {
    const WITH_OUTCOME: bool = true;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        let (created, CandidateWithWarnings { candidate, initial_password }) = ended(written)?;
        Some(StoredReply::Candidate { created, candidate: Box::new(candidate), initial_password })
    }

    fn connection(written: &WriteResult<Self>) -> Option<&str> {
        Some(&value(written).candidate.connection)
    }

    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts> {
        let candidate = &value(written).candidate;
        Some(AuditFacts {
            object: Some(candidate_path(&candidate.id)),
            connection: Some(candidate.connection.clone()),
            outcome: candidate.outcome,
        })
    }

    fn from_stored(answer: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Candidate { created, candidate, initial_password } = answer else { return None };
        Some(written(created, Self { candidate: *candidate, initial_password }))
    }
}

impl Replayable for Assignment {
    const WITH_OUTCOME: bool = true;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        let (created, assignment) = ended(written)?;
        Some(StoredReply::Assignment { created, assignment: Box::new(assignment) })
    }

    fn connection(written: &WriteResult<Self>) -> Option<&str> {
        Some(&value(written).connection)
    }

    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts> {
        let assignment = value(written);
        Some(AuditFacts {
            object: Some(assignment_path(&assignment.id)),
            connection: Some(assignment.connection.clone()),
            outcome: assignment.outcome,
        })
    }

    fn from_stored(answer: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Assignment { created, assignment } = answer else { return None };
        Some(written(created, *assignment))
    }
}

impl<T: Clone + Send + Sync + 'static> Replayable for Removal<T> {
    const WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        ended(written).map(|_| StoredReply::Gone)
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(_written: &WriteResult<Self>) -> Option<AuditFacts> {
        Some(AuditFacts { object: None, connection: None, outcome: Outcome::Applied })
    }

    fn from_stored(answer: StoredReply) -> Option<WriteResult<Self>> {
        matches!(answer, StoredReply::Gone).then_some(WriteResult::Created(Self::Done))
    }
}

impl Replayable for EnrolmentProgress {
    const WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        match ended(written)? {
            (_, Self::Done(enrolled)) => Some(StoredReply::Enrolled(enrolled)),
            (_, Self::Accepted(..)) => None,
        }
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(_written: &WriteResult<Self>) -> Option<AuditFacts> {
        None
    }

    fn from_stored(answer: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Enrolled(enrolled) = answer else { return None };
        Some(WriteResult::Created(Self::Done(enrolled)))
    }
}

fn value<T>(written: &WriteResult<T>) -> &T {
    let (WriteResult::Created(value) | WriteResult::Existing(value) | WriteResult::Pending(value)) = written;
    value
}

fn ended<T: Clone>(written: &WriteResult<T>) -> Option<(bool, T)> {
    match written {
        WriteResult::Created(value) => Some((true, value.clone())),
        WriteResult::Existing(value) => Some((false, value.clone())),
        WriteResult::Pending(_) => None,
    }
}

fn written<T>(created: bool, value: T) -> WriteResult<T> {
    if created { WriteResult::Created(value) } else { WriteResult::Existing(value) }
}

/// A key in use. Dropped without a word about how its write ended, it is opened for a repeat.
pub(in crate::service) struct KeyGuard {
    gateway: Gateway,
    key: Option<IdempotencyKeyUse>,
    /// The key's name in [`OpenKeys`](super::open_keys::OpenKeys).
    name: String,
}

impl KeyGuard {
    /// Guards a key that was acquired for a write, which `acceptance` announces.
    pub(in crate::service) fn new<T: Send + Sync + 'static>(
        gateway: &Gateway,
        key: IdempotencyKeyUse,
        name: String,
        acceptance: &AcceptedSender<T>,
    ) -> Self {
        let acceptance = acceptance.clone();
        gateway.0.open_keys.begin(&name, Arc::new(move || acceptance.resource()));
        Self { gateway: gateway.clone(), key: Some(key), name }
    }

    /// Nothing was begun under it.
    pub(in crate::service) fn release_unused(mut self) {
        self.key = None;
        self.gateway.0.open_keys.remove(&self.name);
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.gateway.0.open_keys.abandon(&self.name);
            self.gateway.commit_in_background(vec![Mutation::KeyOpen(key)]);
        }
    }
}

impl Gateway {
    /// Does the work under the caller's key, where it has one.
    pub(in crate::service) async fn run_idempotent<T, W>(
        &self,
        caller: RequestContext,
        acceptance: AcceptedSender<T>,
        work: impl FnOnce(Self, RequestContext, AcceptedSender<T>) -> W,
    ) -> Result<WriteReply<T>, Error>
    where
        T: Replayable,
        W: Future<Output = Result<WriteResult<T>, Error>>,
    {
        let Some(request) = caller.key.clone() else {
            let end = work(self.clone(), caller, acceptance.clone()).await;
            return end.map(WriteReply::from).map_err(|fault| acceptance.unless_accepted(fault));
        };
        let name = key_name(&caller, &request);
        for look in 1..=MAX_LOOKUPS {
            let (key, record) = match self.0.store.acquire_key(&self.key_claim(&caller, request.clone())).await {
                Err(error) => {
                    return Err(error).or_not_applied().map_err(|error| self.unless_key_is_open(&name, error));
                }
                Ok(KeyState::Mismatch) => return Err(key_reused()),
                Ok(KeyState::InProgress) => return Err(in_progress()),
                Ok(KeyState::Completed(answer)) => {
                    self.0.open_keys.remove(&name);
                    let resource = reply_resource(&answer);
                    let answer = self.without_erased(&caller.tenant, *answer).await;
                    // The write was applied; only its reply cannot be read now.
                    let answer = answer.map_err(|error| Error { resource, ..error.with_unknown_outcome() })?;
                    let written = T::from_stored(answer).ok_or_else(key_reused)?;
                    refuse_forbidden(&caller, T::connection(&written))?;
                    return Ok(WriteReply { written, replayed: true });
                }
                Ok(KeyState::Acquired(key)) => (key, None),
                Ok(KeyState::Resumable(key, record)) => (key, record),
            };
            let mut usage = KeyGuard::new(self, key.clone(), name.clone(), &acceptance);
            if let Some(record) = &record {
                self.0.open_keys.leave_unknown(&name, record_resource(record));
                let connection = self.connection_of_record(&caller, record).await;
                let connection = connection.map_err(|error| self.unless_key_is_open(&name, error))?;
                refuse_forbidden(&caller, connection.as_deref())?;
            }
            match record {
                // Its own end says what becomes of the key: answered or free, found at the next look, or open still.
                Some(record) if look < MAX_LOOKUPS && self.settle_for_repeat(&caller, &record).await? => {
                    self.release(&mut usage, Mutation::KeyOpen(key)).await?;
                }
                resumed => {
                    let origin = WriteOrigin { key: Some(key.clone()), item: None };
                    let caller = RequestContext { origin, resumed, ..caller };
                    let result = work(self.clone(), caller, acceptance.clone()).await;
                    let result = result.map_err(|fault| acceptance.unless_accepted(fault));
                    self.finish_key(&mut usage, key, &result).await;
                    return result.map(WriteReply::from);
                }
            }
        }
        Err(in_progress())
    }

    /// Turns an error of a store that could not be read into an `unknown` outcome if this process knows of an open write under
    /// the key.
    fn unless_key_is_open(&self, name: &str, error: Error) -> Error {
        let Some(resource) = self.0.open_keys.resource(name) else { return error };
        let detail = match &resource {
            Some(resource) => {
                format!("An earlier request with this key was accepted; its outcome appears at {resource}.")
            }
            None => "An earlier request with this key is still in progress.".to_owned(),
        };
        Error { detail: format!("{} {detail}", error.detail), resource, ..error.with_unknown_outcome() }
    }

    /// Gives a registration without a key one of the gateway's own where a password would be made up, so that the password is
    /// kept with the answer: its caller may be answered before the end, or not at all.
    pub(in crate::service) fn with_password_key(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        new: &NewCandidate,
    ) -> RequestContext {
        let mut caller = caller.clone();
        if caller.key.is_none() && new.password.is_none() {
            let planned = self.prepare(&caller, connection, new.clone(), false);
            if planned.is_ok_and(|planned| planned.own_password.is_some()) {
                let scope = format!("{}{}", IdempotencyKeyUse::OF_PASSWORD, fresh(&self.0.environment).simple());
                caller.key = Some(IdempotencyRequest { scope, content: OF_PASSWORD });
            }
        }
        caller
    }

    /// The password kept under a key of the gateway's own; `None` once it is forgotten.
    pub(in crate::service) async fn password_under(
        &self,
        caller: &RequestContext,
        scope: String,
    ) -> Result<Option<Secret>, Error> {
        let claim = self.key_claim(caller, IdempotencyRequest { scope, content: OF_PASSWORD });
        Ok(match self.0.store.acquire_key(&claim).await.or_not_applied()? {
            KeyState::Completed(answer) => match *answer {
                StoredReply::Candidate { initial_password, .. } => initial_password,
                _ => None,
            },
            KeyState::Acquired(key) => {
                self.commit_in_background(vec![Mutation::KeyFreed(key)]);
                None
            }
            KeyState::Resumable(key, _) => {
                self.commit_in_background(vec![Mutation::KeyOpen(key)]);
                None
            }
            KeyState::InProgress | KeyState::Mismatch => None,
        })
    }

    /// The connection of what a key's write has led to.
    async fn connection_of_record(&self, caller: &RequestContext, record: &str) -> Result<Option<String>, Error> {
        let (store, tenant) = (&self.0.store, &caller.tenant);
        if let Ok(id) = CandidateId::parse(record) {
            let found = store.candidate(tenant, &id).await.or_not_applied()?;
            return Ok(found.map(|candidate| candidate.connection));
        }
        if let Ok(id) = AssignmentId::parse(record) {
            let found = store.assignment(tenant, &id).await.or_not_applied()?;
            return Ok(found.map(|assignment| assignment.connection));
        }
        let Ok(id) = OperationId::parse(record) else { return Ok(None) };
        let found = store.operation(tenant, &id).await.or_not_applied()?;
        Ok(found.map(|(operation, _)| operation.connection))
    }

    /// What a key is asked for with, now.
    pub(in crate::service) fn key_claim(&self, caller: &RequestContext, request: IdempotencyRequest) -> AcquireKey {
        let IdempotencyRequest { scope, content } = request;
        let now = self.now();
        let kept = SignedDuration::try_from(self.configured().retention.keys).unwrap_or(SignedDuration::MAX);
        let expires = now.saturating_add(kept).unwrap_or(Timestamp::MAX);
        // Later tokens are greater, so that an index of them grows at its end.
        let token = fresh(&self.0.environment).simple().to_string();
        AcquireKey { tenant: caller.tenant.clone(), token, scope, content, now, expires }
    }

    /// Settles what the key's write led to. Whether there was anything to settle. That nothing was sent now, because it is
    /// too early, say, is no word about what was sent before: as long as it is not settled, the answer is `unknown`.
    async fn settle_for_repeat(&self, caller: &RequestContext, record: &str) -> Result<bool, Error> {
        self.settle_record_of_key(caller, record).await.map_err(|fault| match fault.resource {
            Some(_) => fault.with_unknown_outcome(),
            None if record.starts_with(CandidateId::PREFIX) => {
                fault.with_unknown_outcome().with_resource(candidate_path(&record))
            }
            None => fault.with_unknown_outcome().with_resource(assignment_path(&record)),
        })
    }

    async fn settle_record_of_key(&self, caller: &RequestContext, record: &str) -> Result<bool, Error> {
        let asked = call(caller, CallPurpose::Reconcile);
        if OperationId::parse(record).is_ok() {
            // An enrolment: the work itself finds the operation again and waits for it.
            return Ok(false);
        }
        if let Ok(id) = CandidateId::parse(record) {
            let Some(found) = self.0.store.candidate(&caller.tenant, &id).await.or_not_applied()? else {
                return Ok(false);
            };
            let connection = self.connection_of(&found.connection)?;
            let Some((_turn, candidate)) = self.lock_when_idle(caller, &connection, &id).await? else {
                return Ok(false);
            };
            // Settled by somebody else meanwhile, it has told the key.
            self.reconcile_candidate(&connection, candidate, &asked).await?;
            return Ok(true);
        }
        let Ok(id) = AssignmentId::parse(record) else { return Ok(false) };
        let Some(found) = self.0.store.assignment(&caller.tenant, &id).await.or_not_applied()? else {
            return Ok(false);
        };
        let _turn = self.lock_subject(&found.turn()).await?;
        let found = self.0.store.assignment(&caller.tenant, &id).await.or_not_applied()?;
        let Some(assignment) = found else { return Ok(false) };
        let connection = self.connection_of(&assignment.connection)?;
        self.reconcile_assignment(&connection, assignment, &asked).await?;
        Ok(true)
    }

    pub(in crate::service) async fn finish_key<T: Replayable>(
        &self,
        usage: &mut KeyGuard,
        key: IdempotencyKeyUse,
        result: &Result<WriteResult<T>, Error>,
    ) {
        match result {
            Err(error) if error.outcome == Outcome::Unknown => {
                self.0.open_keys.leave_unknown(&usage.name, error.resource.clone());
            }
            _ => self.0.open_keys.remove(&usage.name),
        }
        let change = match result {
            Ok(WriteResult::Created(_)) if T::WITH_OUTCOME => {
                usage.key = None;
                return;
            }
            // Nothing was made up for this request, and nobody else knows the key.
            Ok(WriteResult::Existing(_)) if key.is_for_password() => Mutation::KeyFreed(key),
            Ok(written) => T::stored_reply(written)
                .map_or_else(|| Mutation::KeyOpen(key.clone()), |answer| Mutation::KeyAnswered(key.clone(), answer)),
            Err(fault) if fault.outcome == Outcome::NotApplied => Mutation::KeyFreed(key),
            Err(_) => Mutation::KeyOpen(key),
        };
        // The write has ended, whatever becomes of its key; what could not be kept now is kept later.
        drop(self.release(usage, change).await);
    }

    async fn release(&self, usage: &mut KeyGuard, change: Mutation) -> Result<(), Error> {
        usage.key = None;
        let kept = self.0.store.commit(vec![change.clone()]).await;
        if kept.is_err() {
            self.commit_in_background(vec![change]);
        }
        kept.or_not_applied()
    }
}

/// Returns the name of a caller's key among the open ones.
pub(in crate::service) fn key_name(caller: &RequestContext, request: &IdempotencyRequest) -> String {
    format!("{}\n{}", caller.tenant, request.scope)
}

/// Returns where the record of a key's write is read.
fn record_resource(record: &str) -> Option<String> {
    if let Ok(id) = CandidateId::parse(record) {
        return Some(candidate_path(&id));
    }
    if let Ok(id) = AssignmentId::parse(record) {
        return Some(assignment_path(&id));
    }
    OperationId::parse(record).ok().map(|id| operation_path(&id))
}

/// Returns where the record of a stored reply is read, where it has one.
fn reply_resource(reply: &StoredReply) -> Option<String> {
    match reply {
        StoredReply::Candidate { candidate, .. } => Some(candidate_path(&candidate.id)),
        StoredReply::Assignment { assignment, .. } => Some(assignment_path(&assignment.id)),
        StoredReply::Operation(id) => Some(operation_path(id)),
        StoredReply::Gone | StoredReply::Enrolled(_) => None,
    }
}

/// Clients of one tenant share its keys, but not what is at a connection that only some of them may use.
fn refuse_forbidden(caller: &RequestContext, connection: Option<&str>) -> Result<(), Error> {
    match connection.filter(|name| !caller.connections.contains(name)) {
        Some(name) => Err(forbidden(name)),
        None => Ok(()),
    }
}

pub(in crate::service) fn key_reused() -> Error {
    Error::new(Code::IdempotencyKeyReused, "The key was used before, for a request that says something else.")
}

pub(in crate::service) fn in_progress() -> Error {
    Error::new(Code::IdempotencyInProgress, "An earlier request with this key is still under way.")
        .with_retry_after(Some(Duration::from_secs(1)))
}
