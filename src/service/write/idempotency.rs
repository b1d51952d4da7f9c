//! `Idempotency-Key`: a write under a key is applied once. A retry gets the same response, an error while the write is
//! in progress, or resumes a write whose outcome is unknown; it never sends blindly.
//!
//! The transaction that commits the outcome of a registration or booking also stores the reply
//! ([`executor`](super::executor)), so a key never says less than the record. This module stores all other replies, right
//! after the write has ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::assignment::Assignment;
use crate::domain::candidate::NewCandidate;
use crate::domain::error::{Code, Error};
use crate::domain::ids::{AssignmentId, CandidateId, OperationId, new_uuid_v7};
use crate::domain::intent::{IdempotencyKeyUse, StoredReply, WriteOrigin};
use crate::domain::outcome::Outcome;
use crate::domain::vendor::CallPurpose;
use crate::secret::Secret;
use crate::service::audit::AuditFacts;
use crate::service::connections::Connection;
use crate::service::programs::EnrolmentProgress;
use crate::service::snapshot::forbidden_error;
use crate::service::write::executor::{assignment_path, candidate_path, operation_path};
use crate::service::write::handle::AcceptedSender;
use crate::service::write::open_keys::OpenWrite;
use crate::service::{
    CandidateWithWarnings, Gateway, IdempotencyRequest, Removal, RequestContext, StoreResultExt as _, WriteReply,
    WriteResult, call_context,
};
use crate::store::{AcquireKey, KeyState, Mutation};

/// Maximum number of look-ups of a key: after its open write is reconciled, the key is looked up again.
const MAX_LOOKUPS: usize = 4;

/// Constant request fingerprint under the gateway's own keys, whose requests cannot differ.
const OF_PASSWORD: [u8; 32] = [0; 32];

/// Result whose reply can be stored under a key and replayed.
pub(in crate::service) trait Replayable: Clone + Send + Sync + Sized + 'static {
    /// Whether the transaction that commits the outcome also stores the reply.
    const IS_STORED_WITH_OUTCOME: bool;

    /// Returns the reply to store; `None` while the write is pending.
    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply>;

    /// Returns the connection of the result, if the result names it.
    fn connection(written: &WriteResult<Self>) -> Option<&str>;

    /// Returns the facts for the audit entry; `None` if the write continues as an operation.
    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts>;

    /// Restores the result from a stored reply; `None` if the reply is of another kind.
    fn from_stored(answer: StoredReply) -> Option<WriteResult<Self>>;
}

impl Replayable for CandidateWithWarnings {
    const IS_STORED_WITH_OUTCOME: bool = true;

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
    const IS_STORED_WITH_OUTCOME: bool = true;

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
    const IS_STORED_WITH_OUTCOME: bool = false;

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
    const IS_STORED_WITH_OUTCOME: bool = false;

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

/// Guard of a key in use. Dropped before the write's result is recorded, it marks the key as open, so that a retry
/// resumes it.
pub(in crate::service) struct KeyGuard {
    gateway: Gateway,
    key: Option<IdempotencyKeyUse>,
    /// Name of the key in [`OpenKeys`](super::open_keys::OpenKeys).
    name: String,
}

impl KeyGuard {
    /// Creates the guard of an acquired key; `acceptance` announces its write's record.
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

    /// Drops the guard of a key that was not acquired after all.
    pub(in crate::service) fn release_unused(mut self) {
        self.key = None;
        self.gateway.0.open_keys.remove(&self.name);
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.gateway.0.open_keys.abandon(&self.name);
            self.gateway.commit_in_background(vec![Mutation::ReleaseKey(key)]);
        }
    }
}

impl Gateway {
    /// Runs the work at most once under the caller's key; without a key, simply runs it.
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
                    let answer = self.redact_erased(&caller.tenant, *answer).await;
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
                // The reconciled write's conclusion has completed or freed the key, or left it open; the next look-up
                // shows which.
                Some(record) if look < MAX_LOOKUPS && self.reconcile_for_retry(&caller, &record).await? => {
                    self.release(&mut usage, Mutation::ReleaseKey(key)).await?;
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

    /// Turns an error of a store that could not be read into an `unknown` outcome if this process knows of an open
    /// write under the key.
    fn unless_key_is_open(&self, name: &str, error: Error) -> Error {
        let Some(OpenWrite { resource }) = self.0.open_keys.get(name) else { return error };
        let detail = match &resource {
            Some(resource) => {
                format!("An earlier request with this key was accepted; its outcome will appear at {resource}.")
            }
            None => "An earlier request with this key is still in progress.".to_owned(),
        };
        Error { detail: format!("{} {detail}", error.detail), resource, ..error.with_unknown_outcome() }
    }

    /// Gives a registration without a key one of the gateway's own if a password would be generated, so that the
    /// password is stored with the reply: the caller may get a response before the end, or none.
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
                let scope = format!("{}{}", IdempotencyKeyUse::OF_PASSWORD, new_uuid_v7(&self.0.system).simple());
                caller.key = Some(IdempotencyRequest { scope, content: OF_PASSWORD });
            }
        }
        caller
    }

    /// Returns the password stored under one of the gateway's own keys; `None` once it has expired.
    pub(in crate::service) async fn stored_password(
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
                self.commit_in_background(vec![Mutation::FreeKey(key)]);
                None
            }
            KeyState::Resumable(key, _) => {
                self.commit_in_background(vec![Mutation::ReleaseKey(key)]);
                None
            }
            KeyState::InProgress | KeyState::Mismatch => None,
        })
    }

    /// Returns the connection of the record that a key's write created.
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

    /// Builds the store request that acquires a key.
    pub(in crate::service) fn key_claim(&self, caller: &RequestContext, request: IdempotencyRequest) -> AcquireKey {
        let IdempotencyRequest { scope, content } = request;
        let now = self.now();
        let kept = SignedDuration::try_from(self.configured().retention.keys).unwrap_or(SignedDuration::MAX);
        let expires = now.saturating_add(kept).unwrap_or(Timestamp::MAX);
        // Tokens increase with time, so their index grows at its end.
        let token = new_uuid_v7(&self.0.system).simple().to_string();
        AcquireKey { tenant: caller.tenant.clone(), token, scope, content, now, expires }
    }

    /// Reconciles the write under the key and returns whether there was one. If it cannot be reconciled yet (for
    /// example during the grace period), the earlier attempt may still have been applied, so the outcome stays
    /// `unknown`.
    async fn reconcile_for_retry(&self, caller: &RequestContext, record: &str) -> Result<bool, Error> {
        self.reconcile_record_of_key(caller, record).await.map_err(|fault| match fault.resource {
            Some(_) => fault.with_unknown_outcome(),
            None if record.starts_with(CandidateId::PREFIX) => {
                fault.with_unknown_outcome().with_resource(candidate_path(&record))
            }
            None => fault.with_unknown_outcome().with_resource(assignment_path(&record)),
        })
    }

    async fn reconcile_record_of_key(&self, caller: &RequestContext, record: &str) -> Result<bool, Error> {
        let asked = call_context(caller, CallPurpose::Reconcile);
        if OperationId::parse(record).is_ok() {
            // The work of an enrolment resumes its operation and waits for it.
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
            // If another task has reconciled it meanwhile, that has concluded the key as well.
            self.reconcile_candidate(&connection, candidate, &asked).await?;
            return Ok(true);
        }
        let Ok(id) = AssignmentId::parse(record) else { return Ok(false) };
        let Some(found) = self.0.store.assignment(&caller.tenant, &id).await.or_not_applied()? else {
            return Ok(false);
        };
        let _turn = self.lock_subject(&found.lock_key()).await?;
        let found = self.0.store.assignment(&caller.tenant, &id).await.or_not_applied()?;
        let Some(assignment) = found else { return Ok(false) };
        let connection = self.connection_of(&assignment.connection)?;
        self.reconcile_assignment(&connection, assignment, &asked).await?;
        Ok(true)
    }

    /// Records the result of the work under the key, unless the outcome's transaction has done so.
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
            Ok(WriteResult::Created(_)) if T::IS_STORED_WITH_OUTCOME => {
                usage.key = None;
                return;
            }
            // No password was generated for this request, and no caller knows the key.
            Ok(WriteResult::Existing(_)) if key.is_for_password() => Mutation::FreeKey(key),
            Ok(written) => T::stored_reply(written)
                .map_or_else(|| Mutation::ReleaseKey(key.clone()), |answer| Mutation::CompleteKey(key.clone(), answer)),
            Err(fault) if fault.outcome == Outcome::NotApplied => Mutation::FreeKey(key),
            Err(_) => Mutation::ReleaseKey(key),
        };
        // The write has ended whether or not the key can be stored now; `release` retries in the background.
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

/// Returns the path of the record of a key's write.
fn record_resource(record: &str) -> Option<String> {
    if let Ok(id) = CandidateId::parse(record) {
        return Some(candidate_path(&id));
    }
    if let Ok(id) = AssignmentId::parse(record) {
        return Some(assignment_path(&id));
    }
    OperationId::parse(record).ok().map(|id| operation_path(&id))
}

/// Returns the path of the record in a stored reply, if it has one.
fn reply_resource(reply: &StoredReply) -> Option<String> {
    match reply {
        StoredReply::Candidate { candidate, .. } => Some(candidate_path(&candidate.id)),
        StoredReply::Assignment { assignment, .. } => Some(assignment_path(&assignment.id)),
        StoredReply::Operation(id) => Some(operation_path(id)),
        StoredReply::Gone | StoredReply::Enrolled(_) => None,
    }
}

/// Rejects a client that may not use the connection: clients of a tenant share its keys, but not its connections.
fn refuse_forbidden(caller: &RequestContext, connection: Option<&str>) -> Result<(), Error> {
    match connection.filter(|name| !caller.connections.contains(name)) {
        Some(name) => Err(forbidden_error(name)),
        None => Ok(()),
    }
}

pub(in crate::service) fn key_reused() -> Error {
    Error::new(Code::IdempotencyKeyReused, "The key was already used for a different request.")
}

pub(in crate::service) fn in_progress() -> Error {
    Error::new(Code::IdempotencyInProgress, "An earlier request with this key is still in progress.")
        .with_retry_after(Some(Duration::from_secs(1)))
}
