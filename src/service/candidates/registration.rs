//! Registration: a person is registered once per tenant and connection; a registration that meets an existing candidate
//! reuses, updates or rejects it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;

use crate::domain::candidate::{
    Candidate, CandidateChanges, CandidateState, Identity, IfCandidateExists, NewCandidate, Person,
};
use crate::domain::error::{Code, Error};
use crate::domain::event::SettledBy;
use crate::domain::ids::CandidateId;
use crate::domain::intent::{Intent, Write};
use crate::domain::operation::ItemId;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::record::Record;
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::{CallPurpose, Plan};
use crate::service::candidates::spellings::sole_holder;
use crate::service::candidates::{CandidateWithPassword, accept_candidate, conflict};
use crate::service::connections::Connection;
use crate::service::errors::{enforce_strict, skipped_error};
use crate::service::write::executor::Execution;
use crate::service::write::handle::{AcceptedSender, WriteReply, WriteResult};
use crate::service::write::reconciler::{Reconciled, blocked_by_unknown_write};
use crate::service::{Gateway, RequestContext};
use crate::store::{AcquireKey, BeginResult, PreparedRecord, PreparedWrite, SubjectHash};

/// Maximum number of inserts tried: an insert that meets an existing candidate waits for its write and is tried again.
const MAX_INSERT_ATTEMPTS: usize = 8;

/// New candidate with everything to commit before the vendor is called.
#[derive(Clone)]
pub(in crate::service) struct PreparedRegistration {
    pub(in crate::service) candidate: Candidate,
    pub(in crate::service) identities: Vec<Identity>,
    pub(in crate::service) intent: Intent,
}

impl Gateway {
    /// Registers a person if neither the caller's key nor an identity is in use: key, candidate and intent are
    /// committed in one transaction. Returns `None`, without side effects, otherwise.
    pub(super) async fn register_under_fresh_key(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        mut prepared: PreparedRegistration,
        acceptance: &AcceptedSender<CandidateWithPassword>,
    ) -> Option<Result<WriteReply<CandidateWithPassword>, Error>> {
        let work = |key: AcquireKey| async move {
            prepared.intent.origin.key = Some(key.key());
            let _lock = self.0.subject_locks.lock_new(&prepared.intent.subject).await;
            match self.send_registration(caller, connection, Some(&key), prepared, acceptance).await {
                Ok(Execution::NotBegun(_)) => None,
                Ok(applied) => Some(registered(applied)),
                Err(error) => Some(Err(error)),
            }
        };
        self.0.idempotency.run_fresh(caller, acceptance, work).await
    }

    /// Executes a registration; the caller holds the new candidate's lock.
    async fn send_registration(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        key: Option<&AcquireKey>,
        prepared: PreparedRegistration,
        acceptance: &AcceptedSender<CandidateWithPassword>,
    ) -> Result<Execution, Error> {
        let write = self.prepared_write(prepared);
        let accept = |record: &Record| accept_candidate(acceptance, record, CandidateWithPassword::from);
        self.0.executor.execute(caller, connection, key, write, accept).await
    }

    /// Registers a person, or resolves an existing candidate. `planned` is the registration if it is planned already.
    pub(in crate::service) async fn register(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        new: NewCandidate,
        strict: bool,
        mut planned: Option<PreparedRegistration>,
        acceptance: &AcceptedSender<CandidateWithPassword>,
    ) -> Result<WriteResult<CandidateWithPassword>, Error> {
        let new = self.with_booked_spelling(caller, connection, new).await?;
        for _ in 0..MAX_INSERT_ATTEMPTS {
            let prepared = match planned.take() {
                Some(prepared) => prepared,
                None => self.prepare(caller, connection, new.clone(), strict)?,
            };
            let lock = self.0.subject_locks.lock_new(&prepared.intent.subject).await;
            match self.send_registration(caller, connection, None, prepared, acceptance).await? {
                Execution::NotBegun(BeginResult::Exists(holders)) => {
                    drop(lock);
                    if let Some(end) =
                        self.resolve_existing(caller, connection, &holders, &new, strict, acceptance).await?
                    {
                        return Ok(end);
                    }
                }
                Execution::NotBegun(BeginResult::TakenByOtherTenant) => {
                    return Err(connection.tag_connection(conflict("An identity is not available at this connection.")));
                }
                ended => return registered(ended),
            }
        }
        let wait = Some(Duration::from_secs(1));
        Err(Error::new(Code::SubjectUnsettled, "The candidate is being modified concurrently.").with_retry_after(wait))
    }

    /// Plans a registration and builds its record; nothing is stored or sent.
    pub(in crate::service) fn prepare(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        new: NewCandidate,
        strict: bool,
    ) -> Result<PreparedRegistration, Error> {
        let environment = &self.0.system;
        let id = CandidateId::generate(environment);
        let planned = connection.vendor().plan_registration(&id, new, environment);
        let Plan { write: registration, warnings } =
            planned.map_err(|errors| connection.tag_connection(Error::from_fields(errors)))?;
        enforce_strict(strict, &warnings).map_err(|error| connection.tag_connection(error))?;
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
        let subject = SubjectKey::candidate(&candidate.id);
        let intent = self.0.executor.intent(caller, connection, subject, Write::Register(registration));
        Ok(PreparedRegistration { candidate, identities, intent })
    }

    /// Builds the write that the store begins.
    pub(in crate::service) fn prepared_write(&self, prepared: PreparedRegistration) -> PreparedWrite {
        let PreparedRegistration { candidate, identities, intent } = prepared;
        let subjects = intent.origin.item.as_ref().map_or_else(Vec::new, |item| self.row_subjects(item, &identities));
        PreparedWrite { record: PreparedRecord::NewCandidate(candidate, identities), intent, subjects }
    }

    /// Resolves a registration that met an existing candidate of the tenant. `None` if that one was erased or failed:
    /// insert again.
    async fn resolve_existing(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        holders: &[Candidate],
        new: &NewCandidate,
        strict: bool,
        acceptance: &AcceptedSender<CandidateWithPassword>,
    ) -> Result<Option<WriteResult<CandidateWithPassword>>, Error> {
        let Some(holder) = sole_holder(holders, &new.person, connection.descriptor().identities) else {
            return Err(connection.tag_connection(conflict("The given identities belong to different candidates.")));
        };
        // Accept early only a registration in flight that this request reuses: for any other, it is not yet decided
        // whether the existing candidate satisfies the request, and with `fail` the acceptance would have to be
        // withdrawn.
        if holder.state == CandidateState::Pending && new.if_exists == IfCandidateExists::Reuse {
            acceptance.accept(holder.clone().into(), holder.id.path());
        }
        let reconciler = &self.0.reconciler;
        let locked = reconciler.lock_candidate(&caller.tenant, &holder.id, connection.longest_call()).await?;
        let Some((_lock, candidate)) = locked else { return Ok(None) };
        let call = caller.call_context(CallPurpose::Reconcile);
        let settled = reconciler.reconcile(connection, candidate.into(), &call, SettledBy::Caller).await;
        // With `reuse`, the request shares the outcome of the open write; any other request was not sent.
        let shares = new.if_exists == IfCandidateExists::Reuse && caller.origin.item.is_none();
        let settled = match settled {
            Err(error) if !shares => return Err(blocked_by_unknown_write(connection, error)),
            settled => settled?,
        };
        let Reconciled { record: Some(record), password, initial_password, rejection: _ } = settled else {
            return Ok(None);
        };
        let mut candidate = Candidate::try_from(record)?;
        if candidate.state == CandidateState::Failed {
            return Ok(None);
        }
        reject_other_external_id(connection, &candidate.person, &new.person)?;
        candidate.warnings.retain(|warning| warning.code != WarningCode::PasswordIgnored);
        let (person, touched) = candidate.person.merged_with(&new.person);
        // A password is never sent for an existing candidate.
        let ignored =
            new.password.as_ref().filter(|new| !password.is_some_and(|sent| sent.matches_constant_time(new.expose())));
        let ignored = ignored.map(|_| password_ignored());
        match new.if_exists {
            IfCandidateExists::Fail => {
                let detail = format!("The gateway knows this candidate as {}.", candidate.id);
                Err(connection.tag_connection(
                    Error::new(Code::CandidateAlreadyExists, detail).with_resource(candidate.id.path()),
                ))
            }
            IfCandidateExists::Reuse => {
                let mut candidate = with_difference_warnings(candidate, &touched);
                candidate.warnings.extend(ignored);
                Ok(Some(WriteResult::Existing(CandidateWithPassword { candidate, initial_password })))
            }
            IfCandidateExists::Update => {
                let changes = CandidateChanges { person, touched };
                // Store it with the record, so that a replayed response contains it too.
                candidate.warnings.extend(ignored);
                self.send_update(caller, connection, candidate, changes, strict, acceptance).await.map(Some)
            }
        }
    }

    /// Returns the subject hashes of a row about a person, for detecting duplicates.
    pub(in crate::service) fn row_subjects(&self, item: &ItemId, identities: &[Identity]) -> Vec<SubjectHash> {
        let subject = |identity: &Identity| {
            let (kind, text) = identity.parts();
            self.0.store.hash_subject(&item.operation, &format!("{kind}\n{text}"))
        };
        identities.iter().map(subject).collect()
    }
}

/// Returns the result of a registration.
fn registered(ended: Execution) -> Result<WriteResult<CandidateWithPassword>, Error> {
    let Execution::Applied { record, created: _, initial_password } = ended else { return Err(skipped_error()) };
    let candidate = record.try_into()?;
    Ok(WriteResult::Created(CandidateWithPassword { candidate, initial_password }))
}

/// Rejects a second external id for the same e-mail address, at vendors that identify people by it: it would be another
/// person.
fn reject_other_external_id(connection: &Connection, present: &Person, given: &Person) -> Result<(), Error> {
    let (Some(present), Some(given)) = (&present.external_id, &given.external_id) else { return Ok(()) };
    if connection.descriptor().identifies_by_email() && !present.is_same(given) {
        return Err(connection.tag_connection(conflict("A candidate with this e-mail address has another externalId.")));
    }
    Ok(())
}

fn password_ignored() -> Warning {
    let detail = "The candidate already exists; this password was not sent and is not stored.";
    Warning::with_pointer(WarningCode::PasswordIgnored, "/password", detail)
}

/// Adds a warning for each field that differs from the existing candidate, which is not changed.
fn with_difference_warnings(mut candidate: Candidate, touched: &[String]) -> Candidate {
    let detail = "The candidate already exists with a different value; nothing was changed (see ifExists).";
    candidate
        .warnings
        .extend(touched.iter().map(|pointer| Warning::with_pointer(WarningCode::ExistingDiffers, pointer, detail)));
    candidate
}
