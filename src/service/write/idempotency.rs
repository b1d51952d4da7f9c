//! `Idempotency-Key`: a write under a key is applied once. A retry gets the same response, an error while the write is
//! in progress, or resumes a write whose outcome is unknown; it never sends blindly.
//!
//! The transaction that commits the outcome of a registration or booking also stores the reply
//! ([`executor`](super::executor)), so a key never says less than the record. This module stores all other replies, right
//! after the write has ended.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};

use crate::domain::error::Error;
use crate::domain::event::SettledBy;
use crate::domain::ids::new_uuid_v7;
use crate::domain::intent::{IdempotencyKeyUse, StoredReply, WriteOrigin};
use crate::domain::outcome::Outcome;
use crate::domain::record::RecordId;
use crate::domain::system::System;
use crate::domain::vendor::CallPurpose;
use crate::secret::Secret;
use crate::service::errors::{StoreResultExt as _, key_in_progress, key_reused};
use crate::service::request_context::{IdempotencyRequest, RequestContext};
use crate::service::snapshot::{Snapshot, forbidden_error};
use crate::service::write::erasure::redact_erased;
use crate::service::write::executor::Executor;
use crate::service::write::handle::{AcceptedSender, WriteReply, WriteResult};
use crate::service::write::open_keys::{OpenKeys, OpenWrite};
use crate::service::write::reconciler::Reconciler;
use crate::service::write::replay::Replayable;
use crate::store::{AcquireKey, KeyState, Mutation, Store};

/// Maximum number of look-ups of a key: after its open write is reconciled, the key is looked up again.
const MAX_LOOKUPS: usize = 4;

/// Constant request fingerprint under the gateway's own keys, whose requests cannot differ.
const OF_PASSWORD: [u8; 32] = [0; 32];

/// Runs writes at most once per idempotency key.
pub(in crate::service) struct IdempotencyKeys {
    store: Arc<dyn Store>,
    system: System,
    snapshot: Arc<ArcSwap<Snapshot>>,
    executor: Arc<Executor>,
    reconciler: Arc<Reconciler>,
    open_keys: OpenKeys,
}

/// Guard of a key in use. Dropped before the write's result is recorded, it marks the key as open, so that a retry
/// resumes it.
struct KeyGuard {
    keys: Arc<IdempotencyKeys>,
    key: Option<IdempotencyKeyUse>,
    /// Name of the key in [`OpenKeys`].
    name: String,
    /// Whether the entry in [`OpenKeys`] is this guard's.
    is_registered: bool,
}

impl KeyGuard {
    /// Creates the guard of a key; `acceptance` announces its write's record.
    fn new<T: Send + Sync + 'static>(
        keys: &Arc<IdempotencyKeys>,
        key: IdempotencyKeyUse,
        name: String,
        acceptance: &AcceptedSender<T>,
    ) -> Self {
        let acceptance = acceptance.clone();
        let is_registered = keys.open_keys.begin(&name, Arc::new(move || acceptance.resource()));
        Self { keys: Arc::clone(keys), key: Some(key), name, is_registered }
    }

    /// Drops the guard of a key that was not acquired after all.
    fn release_unused(mut self) {
        self.key = None;
        if self.is_registered {
            self.keys.open_keys.remove(&self.name);
        }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.keys.open_keys.abandon(&self.name);
            self.keys.executor.commit_in_background(vec![Mutation::ReleaseKey(key)]);
        }
    }
}

impl IdempotencyKeys {
    pub(in crate::service) fn new(
        store: Arc<dyn Store>,
        system: System,
        snapshot: Arc<ArcSwap<Snapshot>>,
        executor: Arc<Executor>,
        reconciler: Arc<Reconciler>,
    ) -> Self {
        Self { store, system, snapshot, executor, reconciler, open_keys: OpenKeys::default() }
    }

    /// Runs the work at most once under the caller's key; without a key, simply runs it.
    pub(in crate::service) async fn run<T, W>(
        self: &Arc<Self>,
        caller: RequestContext,
        acceptance: AcceptedSender<T>,
        work: impl FnOnce(RequestContext, AcceptedSender<T>) -> W,
    ) -> Result<WriteReply<T>, Error>
    where
        T: Replayable,
        W: Future<Output = Result<WriteResult<T>, Error>>,
    {
        let Some(request) = caller.key.clone() else {
            let end = work(caller, acceptance.clone()).await;
            return end.map(WriteReply::from).map_err(|error| acceptance.unless_accepted(error));
        };
        let name = key_name(&caller, &request);
        for look in 1..=MAX_LOOKUPS {
            let (key, record) = match self.store.acquire_key(&self.acquisition(&caller, request.clone())).await {
                Err(error) => {
                    return Err(error).or_not_applied().map_err(|error| self.unless_key_is_open(&name, error));
                }
                Ok(KeyState::Mismatch) => return Err(key_reused()),
                Ok(KeyState::InProgress) => return Err(key_in_progress()),
                Ok(KeyState::Completed(reply)) => {
                    self.open_keys.remove(&name);
                    return self.replay(&caller, *reply).await;
                }
                Ok(KeyState::Acquired(key)) => (key, None),
                Ok(KeyState::Resumable(key, record)) => (key, record.as_deref().and_then(RecordId::parse)),
            };
            let mut guard = KeyGuard::new(self, key.clone(), name.clone(), &acceptance);
            if let Some(record) = &record {
                self.open_keys.leave_unknown(&name, Some(record.path()));
                let connection = self.connection_of_record(&caller, record).await;
                let connection = connection.map_err(|error| self.unless_key_is_open(&name, error))?;
                refuse_forbidden(&caller, connection.as_deref())?;
            }
            match record {
                // The reconciled write's conclusion has completed or freed the key, or left it open; the next look-up
                // shows which.
                Some(record) if look < MAX_LOOKUPS && self.reconcile_for_retry(&caller, &record).await? => {
                    self.end_use(&mut guard, Mutation::ReleaseKey(key)).await?;
                }
                resumed => {
                    let origin = WriteOrigin { key: Some(key.clone()), item: None };
                    let caller = RequestContext { origin, resumed, ..caller };
                    let result = work(caller, acceptance.clone()).await;
                    let result = result.map_err(|error| acceptance.unless_accepted(error));
                    self.finish(&mut guard, key, &result).await;
                    return result.map(WriteReply::from);
                }
            }
        }
        Err(key_in_progress())
    }

    /// Runs work whose first transaction also acquires the caller's key. `None`, without side effects, if there is no
    /// key or the work returns `None`, because the key or an identity is in use.
    pub(in crate::service) async fn run_fresh<T, W>(
        self: &Arc<Self>,
        caller: &RequestContext,
        acceptance: &AcceptedSender<T>,
        work: impl FnOnce(AcquireKey) -> W,
    ) -> Option<Result<WriteReply<T>, Error>>
    where
        T: Replayable,
        W: Future<Output = Option<Result<WriteResult<T>, Error>>>,
    {
        let request = caller.key.clone()?;
        let name = key_name(caller, &request);
        // The transaction cannot find an open write under the key; `run` can.
        if self.open_keys.get(&name).is_some() {
            return None;
        }
        let acquisition = self.acquisition(caller, request);
        let key = acquisition.key();
        let mut guard = KeyGuard::new(self, key.clone(), name, acceptance);
        let Some(result) = work(acquisition).await else {
            guard.release_unused();
            return None;
        };
        let result = result.map_err(|error| acceptance.unless_accepted(error));
        self.finish(&mut guard, key, &result).await;
        Some(result.map(WriteReply::from))
    }

    /// Restores the response of a finished write.
    async fn replay<T: Replayable>(&self, caller: &RequestContext, reply: StoredReply) -> Result<WriteReply<T>, Error> {
        let resource = reply_resource(&reply);
        let reply = redact_erased(self.store.as_ref(), &caller.tenant, reply).await;
        // The write was applied; only its reply cannot be read now.
        let reply = reply.map_err(|error| Error { resource, ..error.with_unknown_outcome() })?;
        let written = T::from_stored(reply).ok_or_else(key_reused)?;
        refuse_forbidden(caller, T::connection(&written))?;
        Ok(WriteReply { written, replayed: true })
    }

    /// Turns an error of a store that could not be read into an `unknown` outcome if this process knows of an open
    /// write under the key.
    fn unless_key_is_open(&self, name: &str, error: Error) -> Error {
        let Some(OpenWrite { resource }) = self.open_keys.get(name) else { return error };
        let detail = match &resource {
            Some(resource) => {
                format!("An earlier request with this key was accepted; its outcome will appear at {resource}.")
            }
            None => "An earlier request with this key is still in progress.".to_owned(),
        };
        Error { detail: format!("{} {detail}", error.detail), resource, ..error.with_unknown_outcome() }
    }

    /// Creates a key of the gateway's own for a registration without a key, under which its generated password is
    /// stored: the caller may get a response before the end, or none.
    pub(in crate::service) fn password_key(&self) -> IdempotencyRequest {
        let scope = format!("{}{}", IdempotencyKeyUse::OF_PASSWORD, new_uuid_v7(&self.system).simple());
        IdempotencyRequest { scope, content: OF_PASSWORD }
    }

    /// Returns the password stored under one of the gateway's own keys; `None` once it has expired.
    pub(in crate::service) async fn stored_password(
        &self,
        caller: &RequestContext,
        scope: String,
    ) -> Result<Option<Secret>, Error> {
        let acquisition = self.acquisition(caller, IdempotencyRequest { scope, content: OF_PASSWORD });
        Ok(match self.store.acquire_key(&acquisition).await.or_not_applied()? {
            KeyState::Completed(reply) => match *reply {
                StoredReply::Candidate { initial_password, .. } => initial_password,
                _ => None,
            },
            KeyState::Acquired(key) => {
                self.executor.commit_in_background(vec![Mutation::FreeKey(key)]);
                None
            }
            KeyState::Resumable(key, _) => {
                self.executor.commit_in_background(vec![Mutation::ReleaseKey(key)]);
                None
            }
            KeyState::InProgress | KeyState::Mismatch => None,
        })
    }

    /// Returns the connection of the record that a key's write created.
    async fn connection_of_record(&self, caller: &RequestContext, id: &RecordId) -> Result<Option<String>, Error> {
        let tenant = &caller.tenant;
        Ok(match id {
            RecordId::Candidate(id) => {
                self.store.candidate(tenant, id).await.or_not_applied()?.map(|candidate| candidate.connection)
            }
            RecordId::Assignment(id) => {
                self.store.assignment(tenant, id).await.or_not_applied()?.map(|assignment| assignment.connection)
            }
            RecordId::Operation(id) => {
                self.store.operation(tenant, id).await.or_not_applied()?.map(|(operation, _)| operation.connection)
            }
            RecordId::Enrolment(_) | RecordId::Webhook(_) => None,
        })
    }

    /// Builds the store request that acquires a key.
    pub(in crate::service) fn acquisition(&self, caller: &RequestContext, request: IdempotencyRequest) -> AcquireKey {
        let IdempotencyRequest { scope, content } = request;
        let now = self.executor.clock.now();
        let kept = SignedDuration::try_from(self.snapshot.load().retention.keys).unwrap_or(SignedDuration::MAX);
        let expires = now.saturating_add(kept).unwrap_or(Timestamp::MAX);
        // Tokens increase with time, so their index grows at its end.
        let token = new_uuid_v7(&self.system).simple().to_string();
        AcquireKey { tenant: caller.tenant.clone(), token, scope, content, now, expires }
    }

    /// Reconciles the write under the key and returns whether there was one. If it cannot be reconciled yet (for
    /// example during the grace period), the earlier attempt may still have been applied, so the outcome stays
    /// `unknown`.
    async fn reconcile_for_retry(&self, caller: &RequestContext, id: &RecordId) -> Result<bool, Error> {
        // The work of an enrolment resumes its operation and waits for it, and that of a webhook returns it.
        if matches!(id, RecordId::Operation(_) | RecordId::Enrolment(_) | RecordId::Webhook(_)) {
            return Ok(false);
        }
        self.reconcile_record(caller, id).await.map_err(|error| match error.resource {
            Some(_) => error.with_unknown_outcome(),
            None => error.with_unknown_outcome().with_resource(id.path()),
        })
    }

    async fn reconcile_record(&self, caller: &RequestContext, id: &RecordId) -> Result<bool, Error> {
        let Some(connection) = self.connection_of_record(caller, id).await? else { return Ok(false) };
        let connection = self.snapshot.load().connection_of(&connection)?;
        let call = caller.call_context(CallPurpose::Reconcile);
        // If another task has reconciled it meanwhile, that has concluded the key as well.
        let settled =
            self.reconciler.lock_and_reconcile(&caller.tenant, &connection, id, &call, SettledBy::Caller).await?;
        Ok(settled.is_some())
    }

    /// Records the result of the work under the key, unless the outcome's transaction has done so.
    async fn finish<T: Replayable>(
        &self,
        guard: &mut KeyGuard,
        key: IdempotencyKeyUse,
        result: &Result<WriteResult<T>, Error>,
    ) {
        match result {
            Err(error) if error.outcome == Outcome::Unknown => {
                self.open_keys.leave_unknown(&guard.name, error.resource.clone());
            }
            _ => self.open_keys.remove(&guard.name),
        }
        let change = match result {
            Ok(WriteResult::Created(_)) if T::IS_STORED_WITH_OUTCOME => {
                guard.key = None;
                return;
            }
            // No password was generated for this request, and no caller knows the key.
            Ok(WriteResult::Existing(_)) if key.is_for_password() => Mutation::FreeKey(key),
            Ok(written) => match T::stored_reply(written) {
                Some(reply) => Mutation::CompleteKey(key, reply),
                None => Mutation::ReleaseKey(key),
            },
            Err(error) if error.outcome == Outcome::NotApplied => Mutation::FreeKey(key),
            Err(_) => Mutation::ReleaseKey(key),
        };
        // The write has ended whether or not the key can be stored now; `end_use` retries in the background.
        drop(self.end_use(guard, change).await);
    }

    /// Commits what becomes of the key, and retries in the background if the store fails.
    async fn end_use(&self, guard: &mut KeyGuard, change: Mutation) -> Result<(), Error> {
        guard.key = None;
        let committed = self.store.commit(vec![change.clone()]).await;
        if committed.is_err() {
            self.executor.commit_in_background(vec![change]);
        }
        committed.or_not_applied()
    }
}

/// Returns the name of a caller's key among the open ones.
fn key_name(caller: &RequestContext, request: &IdempotencyRequest) -> String {
    format!("{}\n{}", caller.tenant, request.scope)
}

/// Returns the path of the record in a stored reply, if it has one.
fn reply_resource(reply: &StoredReply) -> Option<String> {
    match reply {
        StoredReply::Candidate { candidate, .. } => Some(candidate.id.path()),
        StoredReply::Assignment { assignment, .. } => Some(assignment.id.path()),
        StoredReply::Operation(id) => Some(id.path()),
        StoredReply::Webhook { webhook, .. } => Some(webhook.id.path()),
        StoredReply::Delivery(delivery) => Some(delivery.id.path()),
        StoredReply::Gone | StoredReply::Enrolled(_) | StoredReply::Ping(_) => None,
    }
}

/// Rejects a client that may not use the connection: clients of a tenant share its keys, but not its connections.
fn refuse_forbidden(caller: &RequestContext, connection: Option<&str>) -> Result<(), Error> {
    match connection.filter(|name| !caller.connections.contains(name)) {
        Some(name) => Err(forbidden_error(name)),
        None => Ok(()),
    }
}
