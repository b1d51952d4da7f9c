//! Candidates: registered once within tenant and connection, found again by any of their identities.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;
use tokio::time::Instant;

use crate::domain::candidate::{
    Candidate, CandidateChanges, CandidateState, Identity, IfCandidateExists, NewCandidate, Person,
};
use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::CandidateId;
use crate::domain::intent::{Intent, Write, WriteOrigin};
use crate::domain::operation::ItemId;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::vendor::{CallPurpose, CandidateSnapshot, Plan, Update};
use crate::secret::Secret;
use crate::service::bulk::skipped_error;
use crate::service::connections::Connection;
use crate::service::write::executor::{bind_origin, candidate_path, own_password};
use crate::service::write::handle::AcceptedSender;
use crate::service::write::idempotency::{KeyGuard, Replayable, key_name};
use crate::service::write::locks::SubjectLock;
use crate::service::write::reconciler::{ReconciledCandidate, blocked_by_unknown_write, with_reason};
use crate::service::{
    Gateway, Removal, RequestContext, StoreResultExt as _, WriteHandle, WriteReply, WriteResult, call, doubt_at,
    enforce_strict,
};
use crate::store::{CandidateInsert, InsertResult, Mutation, SubjectHash};

/// A claim that meets another's is tried again after the other has ended; more often than this somebody is in a loop.
const CLAIMS: usize = 8;

/// First and longest pause between two looks at a write that another task or instance is sending. The longest leaves the lock
/// free for long enough that the search for orphans, which never waits for it, finds it free.
const MAX_LOOKUPS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A candidate with what only the answer to its registration shows.
#[derive(Debug, Clone)]
pub struct CandidateWithWarnings {
    /// The record.
    pub candidate: Candidate,
    /// The password the gateway made up, told once.
    pub initial_password: Option<Secret>,
}

impl From<Candidate> for CandidateWithWarnings {
    fn from(candidate: Candidate) -> Self {
        Self { candidate, initial_password: None }
    }
}

/// Turns the person as the gateway knows them into the person as they shall be (the public face's merge patch).
pub type CandidatePatch = Box<dyn FnOnce(&Candidate) -> Result<CandidateChanges, Vec<FieldError>> + Send>;

/// A new candidate with everything that has to be written before the vendor is called.
pub(super) struct PreparedRegistration {
    pub(super) candidate: Candidate,
    pub(super) identities: Vec<Identity>,
    pub(super) intent: Intent,
    pub(super) own_password: Option<Secret>,
}

impl Gateway {
    /// Registers a person. With `strict`, members the vendor has no place for are a fault.
    pub fn create_candidate(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        new: NewCandidate,
        strict: bool,
    ) -> Result<WriteHandle<CandidateWithWarnings>, Error> {
        let connection = self.configured().chosen(caller, connection, None)?;
        connection.supported(WriteKind::CandidatesCreate)?;
        let caller = &self.with_password_key(caller, &connection, &new);
        self.spawn_write(caller, "candidates.create", move |gateway, caller, acceptance| async move {
            if let Some(end) = gateway.register_fast_path(&caller, &connection, &new, strict, &acceptance).await {
                return end.map(WriteReply::from);
            }
            let work = |gateway: Self, caller, acceptance| async move {
                gateway.register(&caller, &connection, new, strict, &acceptance).await
            };
            // Apart, or its many kilobytes would be part of the short way's future.
            Box::pin(gateway.run_idempotent(caller, acceptance, work)).await
        })
    }

    /// What the vendor would find at fault with a registration; looks nothing up and sends nothing.
    #[must_use]
    pub fn review_candidate(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        new: NewCandidate,
    ) -> Vec<FieldError> {
        let plan = self.configured().chosen(caller, connection, None).and_then(|connection| {
            connection.supported(WriteKind::CandidatesCreate)?;
            self.prepare(caller, &connection, new, false)
        });
        plan.map_or_else(|fault| fault.errors, |_| Vec::new())
    }

    /// Returns the password the gateway made up for a candidate that was registered without an `Idempotency-Key`, as long as
    /// answers are kept under keys.
    ///
    /// # Errors
    /// `not_found`; `subject_unsettled` while the registration has not ended.
    pub async fn initial_password(&self, caller: &RequestContext, id: &CandidateId) -> Result<Secret, Error> {
        let candidate = self.own_candidate(caller, id).await?;
        if !candidate.state.is_terminal() {
            let fault = Error::new(Code::SubjectUnsettled, "The candidate's last write has not ended yet.");
            return Err(fault.with_resource(candidate_path(id)));
        }
        let kept = match candidate.password_key {
            Some(scope) => self.password_under(caller, scope).await?,
            None => None,
        };
        let none = "No password that the gateway made up is kept for this candidate; a request with an Idempotency-Key is \
                    repeated to learn it, a row of an operation tells it.";
        kept.ok_or_else(|| Error::new(Code::NotFound, none))
    }

    /// The tenant's candidate, with the reason where its last write is still unknown; `not_found` otherwise.
    pub async fn candidate(&self, caller: &RequestContext, id: &CandidateId) -> Result<Candidate, Error> {
        let mut candidate = self.own_candidate(caller, id).await?;
        if candidate.state == CandidateState::Unknown {
            candidate.warnings.extend(self.unknown_write_warning(id.as_str()).await?);
        }
        Ok(candidate)
    }

    /// The tenant's candidate as the store has it.
    pub(super) async fn own_candidate(&self, caller: &RequestContext, id: &CandidateId) -> Result<Candidate, Error> {
        let candidate = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
        candidate.filter(|candidate| caller.connections.contains(&candidate.connection)).ok_or_else(|| no_candidate(id))
    }

    /// The tenant's candidates that have this identity.
    pub async fn find_candidates(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, Error> {
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let found = self.0.store.candidates(&caller.tenant, connection, identity).await.or_not_applied()?;
        // A candidate the vendor refused has given its identities up; it is still read by its id.
        let shown = |candidate: &Candidate| {
            candidate.state != CandidateState::Failed && caller.connections.contains(&candidate.connection)
        };
        Ok(found.into_iter().filter(shown).collect())
    }

    /// Changes a person at the vendor.
    pub fn update_candidate(
        &self,
        caller: &RequestContext,
        id: &CandidateId,
        patch: CandidatePatch,
        strict: bool,
    ) -> Result<WriteHandle<CandidateWithWarnings>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "candidates.update", move |gateway, caller, acceptance| async move {
            let candidate = gateway.own_candidate(&caller, &id).await?;
            gateway.connection_of(&candidate.connection)?.supported(WriteKind::CandidatesUpdate)?;
            let (_turn, candidate) = gateway.lock_reconciled(&caller, &id, |_| false).await?;
            let connection = gateway.connection_of(&candidate.connection)?;
            if candidate.state == CandidateState::Failed {
                return Err(Error::new(
                    Code::CandidateNotFound,
                    "The vendor refused this candidate; there is nobody to change.",
                ));
            }
            let changes = patch(&candidate).map_err(Error::from_fields)?;
            gateway.change(&caller, &connection, candidate, changes, strict, &acceptance).await
        })
    }

    /// Hides the person where the vendor can, and erases the record.
    pub fn delete_candidate(
        &self,
        caller: &RequestContext,
        id: &CandidateId,
    ) -> Result<WriteHandle<Removal<Candidate>>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "candidates.delete", move |gateway, caller, acceptance| async move {
            let hides = |open: &Write| matches!(open, Write::Hide(_));
            let (_turn, candidate) = gateway.lock_reconciled(&caller, &id, hides).await?;
            gateway.remove(&caller, candidate, &acceptance).await.map(|()| WriteResult::Created(Removal::Done))
        })
    }

    /// An operator's word on a candidate whose state is `unknown`; `Outcome::Unknown` is refused. Where a registration turns
    /// out to be done, the answer tells the password the gateway made up for it.
    pub fn settle_candidate(
        &self,
        caller: &RequestContext,
        id: &CandidateId,
        outcome: Outcome,
    ) -> Result<WriteHandle<CandidateWithWarnings>, Error> {
        let row = crate::service::write::reconciler::manual_resolution(outcome)?;
        let id = id.clone();
        self.spawn_idempotent(caller, "candidates.settle", move |gateway, caller, _acceptance| async move {
            let _turn = gateway.lock_subject(id.as_str()).await?;
            let candidate = gateway.own_candidate(&caller, &id).await?;
            let connection = gateway.connection_of(&candidate.connection)?;
            let intent = gateway.0.store.intent(id.as_str()).await.or_not_applied()?;
            let open = |intent: &Intent| !intent.under_way && candidate.state == CandidateState::Unknown;
            let Some(mut intent) = intent.filter(open) else { return Err(nothing_to_settle()) };
            // The request's own line in the audit record says it.
            intent.reason = None;
            let initial_password = own_password(&intent.write).cloned();
            let row = with_reason(row, candidate.problem.as_deref());
            let gone = CandidateWithWarnings::from(candidate.clone());
            let concluded = gateway.concluded_candidate(&connection, candidate, intent, row).await?;
            Ok(WriteResult::Existing(match concluded {
                (Some(candidate), Ok(())) => CandidateWithWarnings { candidate, initial_password },
                (Some(candidate), Err(_)) => candidate.into(),
                (None, _) => gone,
            }))
        })
    }

    /// The short way of a registration under a key: of a person nobody knows, under a key nobody has used, both written in
    /// one transaction. `None`: it is not that simple, and nothing was done.
    async fn register_fast_path(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        new: &NewCandidate,
        strict: bool,
        acceptance: &AcceptedSender<CandidateWithWarnings>,
    ) -> Option<Result<WriteResult<CandidateWithWarnings>, Error>> {
        let request = caller.key.clone()?;
        let name = key_name(caller, &request);
        // An open write under the key has to be found, which takes both steps.
        if self.0.open_keys.resource(&name).is_some() {
            return None;
        }
        let claim = self.key_claim(caller, request);
        let key = claim.key();
        let origin = WriteOrigin { key: Some(key.clone()), item: None };
        let caller = RequestContext { origin, ..caller.clone() };
        let prepared = self.prepare(&caller, connection, new.clone(), strict).ok()?;
        let _turn = self.0.turns.lock_new(prepared.candidate.id.as_str()).await;
        let mut usage = KeyGuard::new(self, key.clone(), name, acceptance);
        let claimant = CandidateInsert { with: Vec::new(), ..self.candidate_insert(&prepared) };
        let claimed = self.0.store.insert_candidate_under_key(claimant, &claim).await;
        self.record_doubt(&claimed, [&prepared.intent]);
        let end = match claimed.or_not_applied() {
            Ok(true) => self.send_registration(&caller, connection, prepared, acceptance).await,
            Ok(false) => {
                usage.release_unused();
                return None;
            }
            Err(fault) => Err(doubt_at(fault, &candidate_path(&prepared.candidate.id))),
        };
        let end = end.map_err(|fault| acceptance.unless_accepted(fault));
        self.finish_key(&mut usage, key, &end).await;
        Some(end)
    }

    /// Sends a registration that is written down, and writes down how it ended.
    async fn send_registration(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        prepared: PreparedRegistration,
        acceptance: &AcceptedSender<CandidateWithWarnings>,
    ) -> Result<WriteResult<CandidateWithWarnings>, Error> {
        let PreparedRegistration { candidate, identities: _, intent, own_password } = prepared;
        let resource = candidate_path(&candidate.id);
        acceptance.accept(candidate.clone().into(), resource.clone());
        let row = self.send_one(connection, &intent.write, &call(caller, CallPurpose::Initial)).await;
        let (changes, end) = self.candidate_conclusion(connection, candidate, intent, row);
        let end = end
            .map(|candidate| WriteResult::Created(CandidateWithWarnings { candidate, initial_password: own_password }));
        let told = end.as_ref().ok().and_then(Replayable::audit_facts);
        self.commit_outcome_with_audit(changes, &resource, (caller, told)).await?;
        end
    }

    /// The whole way of a registration, from the plan to the answer.
    pub(super) async fn register(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        new: NewCandidate,
        strict: bool,
        acceptance: &AcceptedSender<CandidateWithWarnings>,
    ) -> Result<WriteResult<CandidateWithWarnings>, Error> {
        for _ in 0..CLAIMS {
            let prepared = self.prepare(caller, connection, new.clone(), strict)?;
            let turn = self.0.turns.lock_new(prepared.candidate.id.as_str()).await;
            let claimant = self.candidate_insert(&prepared);
            let claimed = self.0.store.insert_candidates(vec![claimant]).await;
            self.record_doubt(&claimed, [&prepared.intent]);
            let resource = candidate_path(&prepared.candidate.id);
            let claimed = claimed.or_not_applied().map_err(|fault| doubt_at(fault, &resource))?.pop();
            match claimed {
                None | Some(InsertResult::ItemCancelled) => return Err(skipped_error()),
                Some(InsertResult::Inserted) => {
                    return self.send_registration(caller, connection, prepared, acceptance).await;
                }
                Some(InsertResult::TakenByOtherTenant) => {
                    return Err(connection.tag_connection(conflict("An identity is not available at this connection.")));
                }
                Some(InsertResult::Failed(error)) => return Err(error).or_not_applied(),
                Some(InsertResult::Exists(holders)) => {
                    drop(turn);
                    if let Some(end) =
                        self.resolve_existing(caller, connection, &holders, &new, strict, acceptance).await?
                    {
                        return Ok(end);
                    }
                }
            }
        }
        let wait = Some(Duration::from_secs(1));
        Err(Error::new(Code::SubjectUnsettled, "Others keep writing about this candidate.").with_retry_after(wait))
    }

    /// Plans a registration and makes its record; nothing is written or sent.
    pub(super) fn prepare(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        new: NewCandidate,
        strict: bool,
    ) -> Result<PreparedRegistration, Error> {
        let environment = &self.0.environment;
        let id = CandidateId::generate(environment);
        let planned = connection.vendor().plan_registration(&id, new, environment);
        let Plan { write: registration, warnings } =
            planned.map_err(|faults| connection.tag_connection(Error::from_fields(faults)))?;
        enforce_strict(strict, &warnings).map_err(|fault| connection.tag_connection(fault))?;
        let now = environment.now();
        let own_key = caller.origin.key.as_ref().filter(|key| registration.own_password && key.is_for_password());
        let password_key = own_key.map(|key| key.scope.clone());
        let identities = Identity::of(&registration.person, connection.descriptor().identities);
        let candidate = Candidate {
            id,
            tenant: caller.tenant.clone(),
            connection: connection.name.clone(),
            person: registration.person.clone(),
            state: CandidateState::Pending,
            outcome: Outcome::Unknown,
            vendor_ref: Map::new(),
            private: BTreeMap::new(),
            password_key,
            problem: None,
            warnings,
            created: now,
            last_modified: now,
        };
        let write = Write::Register(registration);
        let own_password = own_password(&write).cloned();
        let intent = self.intent(caller, connection, candidate.id.as_str(), write);
        Ok(PreparedRegistration { candidate, identities, intent, own_password })
    }

    /// What the store is asked for: the record with what is to be told of it.
    pub(super) fn candidate_insert(&self, prepared: &PreparedRegistration) -> CandidateInsert {
        let PreparedRegistration { candidate, identities, intent, own_password: _ } = prepared;
        let subjects = intent.origin.item.as_ref().map_or_else(Vec::new, |item| self.subjects_of(item, identities));
        CandidateInsert {
            candidate: candidate.clone(),
            identities: identities.clone(),
            intent: intent.clone(),
            with: bind_origin(intent, &subjects),
        }
    }

    /// A registration that met a candidate the tenant already has. `None`: it is gone or failed, so claim again.
    async fn resolve_existing(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        holders: &[Candidate],
        new: &NewCandidate,
        strict: bool,
        acceptance: &AcceptedSender<CandidateWithWarnings>,
    ) -> Result<Option<WriteResult<CandidateWithWarnings>>, Error> {
        let [holder] = holders else {
            return Err(connection.tag_connection(conflict("The identities given belong to different candidates.")));
        };
        // Only what is under way may be answered before its end: whether a known candidate is what was asked for is not
        // decided yet, and `fail` would have to be taken back.
        if holder.state == CandidateState::Pending && new.if_exists == IfCandidateExists::Reuse {
            acceptance.accept(holder.clone().into(), candidate_path(&holder.id));
        }
        let Some((_turn, candidate)) = self.lock_when_idle(caller, connection, &holder.id).await? else {
            return Ok(None);
        };
        let settled = self.reconcile_candidate(connection, candidate, &call(caller, CallPurpose::Reconcile)).await;
        // A request that asks for no more than the open write did shares its fate; any other one was not sent.
        let shares = new.if_exists == IfCandidateExists::Reuse && caller.origin.item.is_none();
        let settled = match settled {
            Err(fault) if !shares => return Err(blocked_by_unknown_write(connection, fault)),
            settled => settled?,
        };
        let Some(ReconciledCandidate { candidate, password, initial_password }) = settled else { return Ok(None) };
        if candidate.state == CandidateState::Failed {
            return Ok(None);
        }
        refuse_other_external_id(connection, &candidate.person, &new.person)?;
        let mut candidate = candidate;
        candidate.warnings.retain(|warning| warning.code != WarningCode::PasswordIgnored);
        let (person, touched) = candidate.person.merged_with(&new.person);
        // A password never goes to a person the vendor knows.
        let ignored =
            new.password.as_ref().filter(|new| !password.is_some_and(|sent| sent.matches_constant_time(new.expose())));
        let ignored = ignored.map(|_| password_ignored());
        match new.if_exists {
            IfCandidateExists::Fail => {
                let detail = format!("The gateway knows this candidate as {}.", candidate.id);
                Err(connection.tag_connection(
                    Error::new(Code::CandidateAlreadyExists, detail).with_resource(candidate_path(&candidate.id)),
                ))
            }
            IfCandidateExists::Reuse => {
                let mut candidate = differing(candidate, &touched);
                candidate.warnings.extend(ignored);
                Ok(Some(WriteResult::Existing(CandidateWithWarnings { candidate, initial_password })))
            }
            IfCandidateExists::Update => {
                let changes = CandidateChanges { person, touched };
                // With the record, so that the answer kept under a key says it, too.
                candidate.warnings.extend(ignored);
                self.change(caller, connection, candidate, changes, strict, acceptance).await.map(Some)
            }
        }
    }

    /// Sends a change of a registered person; the caller of this holds the turn.
    async fn change(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        candidate: Candidate,
        changes: CandidateChanges,
        strict: bool,
        acceptance: &AcceptedSender<CandidateWithWarnings>,
    ) -> Result<WriteResult<CandidateWithWarnings>, Error> {
        let CandidateChanges { person, touched } = changes;
        if touched.is_empty() {
            let mut candidate = candidate;
            let detail = "The candidate is as it was asked for already; nothing was sent.";
            candidate.warnings.push(Warning::new(WarningCode::Unchanged, detail));
            return Ok(WriteResult::Existing(candidate.into()));
        }
        connection.supported(WriteKind::CandidatesUpdate)?;
        let planned = connection.vendor().plan_update(CandidateSnapshot { person, ..known(&candidate) }, touched);
        let Plan { write: update, warnings } =
            planned.map_err(|faults| connection.tag_connection(Error::from_fields(faults)))?;
        enforce_strict(strict, &warnings).map_err(|fault| connection.tag_connection(fault))?;
        self.refuse_identities_of_others(caller, connection, &candidate, &update).await?;
        // Old and new identities are held until it is known which of them are the person's.
        let kinds = connection.descriptor().identities;
        let mut identities = Identity::of(&candidate.person, kinds);
        identities.extend(Identity::of(&update.candidate.person, kinds));
        identities.sort();
        identities.dedup();
        let intent = self.intent(caller, connection, candidate.id.as_str(), Write::Update(update));
        let pending = Candidate {
            state: CandidateState::Pending,
            outcome: Outcome::Unknown,
            problem: None,
            last_modified: intent.started,
            ..candidate
        };
        let mut changes = vec![
            Mutation::Candidate(pending.clone()),
            Mutation::Identities(pending.id.clone(), identities),
            Mutation::Intent(intent.clone()),
        ];
        changes.extend(bind_origin(&intent, &[]));
        let resource = candidate_path(&pending.id);
        let committed = self.commit_intents(changes).await.or_not_applied();
        committed.map_err(|fault| connection.tag_connection(doubt_at(fault, &resource)))?;
        acceptance.accept(pending.clone().into(), resource);
        let row = self.send_one(connection, &intent.write, &call(caller, CallPurpose::Initial)).await;
        let candidate = self.conclude_candidate(connection, pending, intent, row).await?;
        Ok(WriteResult::Existing(candidate.into()))
    }

    /// Hides and erases; the caller of this holds the turn.
    async fn remove(
        &self,
        caller: &RequestContext,
        candidate: Candidate,
        acceptance: &AcceptedSender<Removal<Candidate>>,
    ) -> Result<(), Error> {
        let hides = self.connection_of(&candidate.connection).ok().filter(|connection| {
            connection.supported(WriteKind::CandidatesDelete).is_ok() && candidate.state == CandidateState::Registered
        });
        let Some(connection) = hides.as_deref() else {
            let resource = candidate_path(&candidate.id);
            let erased = self.0.store.commit(vec![Mutation::EraseCandidate(candidate.id)]).await.or_not_applied();
            return erased.map_err(|fault| doubt_at(fault, &resource));
        };
        let intent = self.intent(caller, connection, candidate.id.as_str(), Write::Hide(known(&candidate)));
        let pending =
            Candidate { state: CandidateState::Pending, outcome: Outcome::Unknown, problem: None, ..candidate };
        let mut changes = vec![Mutation::Candidate(pending.clone()), Mutation::Intent(intent.clone())];
        changes.extend(bind_origin(&intent, &[]));
        let resource = candidate_path(&pending.id);
        let committed = self.commit_intents(changes).await.or_not_applied();
        committed.map_err(|fault| doubt_at(fault, &resource))?;
        acceptance.accept(Removal::Pending(Box::new(pending.clone())), resource);
        let row = self.send_one(connection, &intent.write, &call(caller, CallPurpose::Initial)).await;
        self.conclude_candidate(connection, pending, intent, row).await.map(|_| ())
    }

    /// The candidate with the turn to write about it, when no other instance is sending anything about it. `None` if it is
    /// gone.
    pub(super) async fn lock_when_idle(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        id: &CandidateId,
    ) -> Result<Option<(SubjectLock, Candidate)>, Error> {
        let patience = Instant::now() + connection.longest_call();
        let mut pause = MAX_LOOKUPS.0;
        loop {
            let turn = self.lock_subject(id.as_str()).await?;
            // The intent first: once it is gone, the record read after it says how the write ended.
            let under_way = self.under_way(id.as_str()).await?;
            let Some(candidate) = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()? else {
                return Ok(None);
            };
            if candidate.state.is_terminal() || !under_way || Instant::now() >= patience {
                return Ok(Some((turn, candidate)));
            }
            // A new candidate's first writer holds no turn in the store; its intent says that it is at work.
            drop(turn);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_LOOKUPS.1);
        }
    }

    /// Whether an instance is sending the record's write.
    async fn under_way(&self, record: &str) -> Result<bool, Error> {
        let intent = self.0.store.intent(record).await.or_not_applied()?;
        Ok(intent.is_some_and(|intent| intent.under_way))
    }

    /// What a row about a person is remembered by.
    pub(super) fn subjects_of(&self, item: &ItemId, identities: &[Identity]) -> Vec<SubjectHash> {
        let subject = |identity: &Identity| {
            let (kind, text) = identity.parts();
            self.0.store.subject_of(&item.operation, &format!("{kind}\n{text}"))
        };
        identities.iter().map(subject).collect()
    }

    /// The candidate with the turn to write about it, its earlier write settled. A request that asks for no more than that
    /// write did shares its fate, should it stay unknown; any other one was not sent.
    async fn lock_reconciled(
        &self,
        caller: &RequestContext,
        id: &CandidateId,
        shares: fn(&Write) -> bool,
    ) -> Result<(SubjectLock, Candidate), Error> {
        let candidate = self.own_candidate(caller, id).await?;
        let connection = self.connection_of(&candidate.connection);
        let (turn, candidate) = match &connection {
            Ok(connection) => self.lock_when_idle(caller, connection, id).await?.ok_or_else(|| no_candidate(id))?,
            // It can still be read and erased.
            Err(_) => (self.lock_subject(id.as_str()).await?, candidate),
        };
        if candidate.state.is_terminal() {
            return Ok((turn, candidate));
        }
        let connection = &*connection?;
        let shares = self.0.store.intent(id.as_str()).await.or_not_applied()?.is_some_and(|open| shares(&open.write));
        let settled = self.reconcile_candidate(connection, candidate, &call(caller, CallPurpose::Reconcile)).await;
        let settled =
            settled.map_err(|fault| if shares { fault } else { blocked_by_unknown_write(connection, fault) })?;
        let settled = settled.ok_or_else(|| no_candidate(id))?;
        Ok((turn, settled.candidate))
    }

    /// An update must not take an identity that another record of the tenant has.
    async fn refuse_identities_of_others(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        candidate: &Candidate,
        update: &Update,
    ) -> Result<(), Error> {
        let kinds = connection.descriptor().identities;
        let present = Identity::of(&candidate.person, kinds);
        for identity in Identity::of(&update.candidate.person, kinds) {
            if present.contains(&identity) {
                continue;
            }
            let store = &self.0.store;
            let holders = store.candidates(&caller.tenant, Some(&connection.name), &identity).await.or_not_applied()?;
            if holders.iter().any(|holder| holder.id != candidate.id) {
                return Err(connection.tag_connection(conflict("Another candidate has this identity.")));
            }
        }
        Ok(())
    }
}

/// A candidate as later writes need it.
pub(super) fn known(candidate: &Candidate) -> CandidateSnapshot {
    CandidateSnapshot {
        id: candidate.id.clone(),
        person: candidate.person.clone(),
        vendor_ref: candidate.vendor_ref.clone(),
        private: candidate.private.clone(),
    }
}

/// The fault of a hand that settles what is not open.
pub(super) fn nothing_to_settle() -> Error {
    Error::from_fields(vec![FieldError::invalid("/outcome", "there is nothing to settle: the outcome is known")])
}

fn no_candidate(id: &CandidateId) -> Error {
    Error::new(Code::NotFound, format!("There is no candidate {id}."))
}

fn conflict(detail: &str) -> Error {
    Error::new(Code::CandidateConflict, detail)
}

/// Where people are known by their e-mail address, one address with two of the caller's ids is two people.
fn refuse_other_external_id(connection: &Connection, present: &Person, given: &Person) -> Result<(), Error> {
    let (Some(present), Some(given)) = (&present.external_id, &given.external_id) else { return Ok(()) };
    if connection.descriptor().identifies_by_email() && present != given {
        return Err(connection.tag_connection(conflict("A candidate with this e-mail address has another externalId.")));
    }
    Ok(())
}

fn password_ignored() -> Warning {
    let detail = "The candidate was there before; this password was not sent and is not kept.";
    Warning::with_pointer(WarningCode::PasswordIgnored, "/password", detail)
}

/// The candidate as it is answered when some of the members given differ: told, not changed.
fn differing(mut candidate: Candidate, touched: &[String]) -> Candidate {
    let detail = "The candidate was there before with another value; nothing was changed (see ifExists).";
    candidate
        .warnings
        .extend(touched.iter().map(|pointer| Warning::with_pointer(WarningCode::ExistingDiffers, pointer, detail)));
    candidate
}
