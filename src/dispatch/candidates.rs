//! Candidates: registered once within tenant and connection, found again by any of their identities.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;
use tokio::time::Instant;

use super::bulk::skipped;
use super::connections::Connection;
use super::journal::{bound, candidate_path, own_password};
use super::keys::{Kept, Use};
use super::settling::{SettledCandidate, not_before_it_is_settled, with_reason};
use super::tickets::Acceptance;
use super::turns::Turn;
use super::{BeforeSending as _, Caller, Gateway, Removal, Reply, Ticket, Written, call, doubt_at, hold_to_strict};
use crate::domain::candidate::{
    Candidate, CandidateChanges, CandidateState, Identity, IfCandidateExists, NewCandidate, Person,
};
use crate::domain::capability::Operation;
use crate::domain::ids::CandidateId;
use crate::domain::journal::{Intent, Origin, Write};
use crate::domain::operation::ItemRef;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::vendor::{Attempt, KnownCandidate, Planned, Update};
use crate::secret::Secret;
use crate::store::{Change, Claim, Claimant, Subject};

/// A claim that meets another's is tried again after the other has ended; more often than this somebody is in a loop.
const CLAIMS: usize = 8;

/// First and longest pause between two looks at a write that another task or instance is sending. The longest leaves the lock
/// free for long enough that the search for orphans, which never waits for it, finds it free.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A candidate with what only the answer to its registration shows.
#[derive(Debug, Clone)]
pub struct CandidateAnswer {
    /// The record.
    pub candidate: Candidate,
    /// The password the gateway made up, told once.
    pub initial_password: Option<Secret>,
}

impl From<Candidate> for CandidateAnswer {
    fn from(candidate: Candidate) -> Self {
        Self { candidate, initial_password: None }
    }
}

/// Turns the person as the gateway knows them into the person as they shall be (the public face's merge patch).
pub type Patch = Box<dyn FnOnce(&Candidate) -> Result<CandidateChanges, Vec<FieldFault>> + Send>;

/// A new candidate with everything that has to be written before the vendor is called.
pub(super) struct Prepared {
    pub(super) candidate: Candidate,
    pub(super) identities: Vec<Identity>,
    pub(super) intent: Intent,
    pub(super) own_password: Option<Secret>,
}

impl Gateway {
    /// Registers a person. With `strict`, members the vendor has no place for are a fault.
    pub fn create_candidate(
        &self,
        caller: &Caller,
        connection: Option<&str>,
        new: NewCandidate,
        strict: bool,
    ) -> Result<Ticket<CandidateAnswer>, Fault> {
        let connection = self.configured().chosen(caller, connection, None)?;
        connection.supported(Operation::CandidatesCreate)?;
        let caller = &self.with_password_key(caller, &connection, &new);
        self.begin_as(caller, "candidates.create", move |gateway, caller, acceptance| async move {
            if let Some(end) = gateway.register_at_once(&caller, &connection, &new, strict, &acceptance).await {
                return end.map(Reply::from);
            }
            let work = |gateway: Self, caller, acceptance| async move {
                gateway.register(&caller, &connection, new, strict, &acceptance).await
            };
            // Apart, or its many kilobytes would be part of the short way's future.
            Box::pin(gateway.once(caller, acceptance, work)).await
        })
    }

    /// What the vendor would find at fault with a registration; looks nothing up and sends nothing.
    #[must_use]
    pub fn review_candidate(&self, caller: &Caller, connection: Option<&str>, new: NewCandidate) -> Vec<FieldFault> {
        let plan = self.configured().chosen(caller, connection, None).and_then(|connection| {
            connection.supported(Operation::CandidatesCreate)?;
            self.prepare(caller, &connection, new, false)
        });
        plan.map_or_else(|fault| fault.errors, |_| Vec::new())
    }

    /// Returns the password the gateway made up for a candidate that was registered without an `Idempotency-Key`, as long as
    /// answers are kept under keys.
    ///
    /// # Errors
    /// `not_found`; `subject_unsettled` while the registration has not ended.
    pub async fn initial_password(&self, caller: &Caller, id: &CandidateId) -> Result<Secret, Fault> {
        let candidate = self.own_candidate(caller, id).await?;
        if !candidate.state.ended() {
            let fault = Fault::new(Code::SubjectUnsettled, "The candidate's last write has not ended yet.");
            return Err(fault.at(candidate_path(id)));
        }
        let kept = match candidate.password_key {
            Some(scope) => self.password_under(caller, scope).await?,
            None => None,
        };
        let none = "No password that the gateway made up is kept for this candidate; a request with an Idempotency-Key is \
                    repeated to learn it, a row of an operation tells it.";
        kept.ok_or_else(|| Fault::new(Code::NotFound, none))
    }

    /// The tenant's candidate, with the reason where its last write is still unknown; `not_found` otherwise.
    pub async fn candidate(&self, caller: &Caller, id: &CandidateId) -> Result<Candidate, Fault> {
        let mut candidate = self.own_candidate(caller, id).await?;
        if candidate.state == CandidateState::Unknown {
            candidate.warnings.extend(self.unsettled(id.as_str()).await?);
        }
        Ok(candidate)
    }

    /// The tenant's candidate as the store has it.
    pub(super) async fn own_candidate(&self, caller: &Caller, id: &CandidateId) -> Result<Candidate, Fault> {
        let candidate = self.0.store.candidate(&caller.tenant, id).await.before_sending()?;
        candidate.filter(|candidate| caller.connections.contains(&candidate.connection)).ok_or_else(|| no_candidate(id))
    }

    /// The tenant's candidates that have this identity.
    pub async fn find_candidates(
        &self,
        caller: &Caller,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, Fault> {
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let found = self.0.store.candidates(&caller.tenant, connection, identity).await.before_sending()?;
        // A candidate the vendor refused has given its identities up; it is still read by its id.
        let shown = |candidate: &Candidate| {
            candidate.state != CandidateState::Failed && caller.connections.contains(&candidate.connection)
        };
        Ok(found.into_iter().filter(shown).collect())
    }

    /// Changes a person at the vendor.
    pub fn update_candidate(
        &self,
        caller: &Caller,
        id: &CandidateId,
        patch: Patch,
        strict: bool,
    ) -> Result<Ticket<CandidateAnswer>, Fault> {
        let id = id.clone();
        self.begin(caller, "candidates.update", move |gateway, caller, acceptance| async move {
            let candidate = gateway.own_candidate(&caller, &id).await?;
            gateway.connection_of(&candidate.connection)?.supported(Operation::CandidatesUpdate)?;
            let (_turn, candidate) = gateway.settled_with_turn(&caller, &id, |_| false).await?;
            let connection = gateway.connection_of(&candidate.connection)?;
            if candidate.state == CandidateState::Failed {
                return Err(Fault::new(
                    Code::CandidateNotFound,
                    "The vendor refused this candidate; there is nobody to change.",
                ));
            }
            let changes = patch(&candidate).map_err(Fault::of_fields)?;
            gateway.change(&caller, &connection, candidate, changes, strict, &acceptance).await
        })
    }

    /// Hides the person where the vendor can, and erases the record.
    pub fn delete_candidate(&self, caller: &Caller, id: &CandidateId) -> Result<Ticket<Removal<Candidate>>, Fault> {
        let id = id.clone();
        self.begin(caller, "candidates.delete", move |gateway, caller, acceptance| async move {
            let hides = |open: &Write| matches!(open, Write::Hide(_));
            let (_turn, candidate) = gateway.settled_with_turn(&caller, &id, hides).await?;
            gateway.remove(&caller, candidate, &acceptance).await.map(|()| Written::Created(Removal::Done))
        })
    }

    /// An operator's word on a candidate whose state is `unknown`; `Outcome::Unknown` is refused. Where a registration turns
    /// out to be done, the answer tells the password the gateway made up for it.
    pub fn settle_candidate(
        &self,
        caller: &Caller,
        id: &CandidateId,
        outcome: Outcome,
    ) -> Result<Ticket<CandidateAnswer>, Fault> {
        let row = super::settling::by_hand(outcome)?;
        let id = id.clone();
        self.begin(caller, "candidates.settle", move |gateway, caller, _acceptance| async move {
            let _turn = gateway.turn(id.as_str()).await?;
            let candidate = gateway.own_candidate(&caller, &id).await?;
            let connection = gateway.connection_of(&candidate.connection)?;
            let intent = gateway.0.store.intent(id.as_str()).await.before_sending()?;
            let open = |intent: &Intent| !intent.under_way && candidate.state == CandidateState::Unknown;
            let Some(mut intent) = intent.filter(open) else { return Err(nothing_to_settle()) };
            // The request's own line in the audit record says it.
            intent.reason = None;
            let initial_password = own_password(&intent.write).cloned();
            let row = with_reason(row, candidate.problem.as_deref());
            let gone = CandidateAnswer::from(candidate.clone());
            let concluded = gateway.concluded_candidate(&connection, candidate, intent, row).await?;
            Ok(Written::Existing(match concluded {
                (Some(candidate), Ok(())) => CandidateAnswer { candidate, initial_password },
                (Some(candidate), Err(_)) => candidate.into(),
                (None, _) => gone,
            }))
        })
    }

    /// The short way of a registration under a key: of a person nobody knows, under a key nobody has used, both written in
    /// one transaction. `None`: it is not that simple, and nothing was done.
    async fn register_at_once(
        &self,
        caller: &Caller,
        connection: &Connection,
        new: &NewCandidate,
        strict: bool,
        acceptance: &Acceptance<CandidateAnswer>,
    ) -> Option<Result<Written<CandidateAnswer>, Fault>> {
        let claim = self.key_claim(caller, caller.key.clone()?);
        let key = claim.key();
        let origin = Origin { key: Some(key.clone()), item: None };
        let caller = Caller { origin, ..caller.clone() };
        let prepared = self.prepare(&caller, connection, new.clone(), strict).ok()?;
        let _turn = self.0.turns.first_turn(prepared.candidate.id.as_str()).await;
        let mut usage = Use::new(self, key.clone());
        let claimant = Claimant { with: Vec::new(), ..self.claimant(&prepared) };
        let claimed = self.0.store.claim_under_key(claimant, &claim).await;
        self.note_doubt(&claimed, [&prepared.intent]);
        let end = match claimed.before_sending() {
            Ok(true) => self.send_registration(&caller, connection, prepared, acceptance).await,
            Ok(false) => {
                usage.forget();
                return None;
            }
            Err(fault) => Err(doubt_at(fault, &candidate_path(&prepared.candidate.id))),
        };
        let end = end.map_err(|fault| acceptance.unless_accepted(fault));
        self.note_end(&mut usage, key, &end).await;
        Some(end)
    }

    /// Sends a registration that is written down, and writes down how it ended.
    async fn send_registration(
        &self,
        caller: &Caller,
        connection: &Connection,
        prepared: Prepared,
        acceptance: &Acceptance<CandidateAnswer>,
    ) -> Result<Written<CandidateAnswer>, Fault> {
        let Prepared { candidate, identities: _, intent, own_password } = prepared;
        let resource = candidate_path(&candidate.id);
        acceptance.accept(candidate.clone().into(), resource.clone());
        let row = self.send_one(connection, &intent.write, &call(caller, Attempt::First)).await;
        let (changes, end) = self.candidate_after(connection, candidate, intent, row);
        let end = end.map(|candidate| Written::Created(CandidateAnswer { candidate, initial_password: own_password }));
        let told = end.as_ref().ok().and_then(Kept::told);
        self.kept_and_told(changes, &resource, (caller, told)).await?;
        end
    }

    /// The whole way of a registration, from the plan to the answer.
    pub(super) async fn register(
        &self,
        caller: &Caller,
        connection: &Connection,
        new: NewCandidate,
        strict: bool,
        acceptance: &Acceptance<CandidateAnswer>,
    ) -> Result<Written<CandidateAnswer>, Fault> {
        for _ in 0..CLAIMS {
            let prepared = self.prepare(caller, connection, new.clone(), strict)?;
            let turn = self.0.turns.first_turn(prepared.candidate.id.as_str()).await;
            let claimant = self.claimant(&prepared);
            let claimed = self.0.store.claim(vec![claimant]).await;
            self.note_doubt(&claimed, [&prepared.intent]);
            let resource = candidate_path(&prepared.candidate.id);
            let claimed = claimed.before_sending().map_err(|fault| doubt_at(fault, &resource))?.pop();
            match claimed {
                None | Some(Claim::Withdrawn) => return Err(skipped()),
                Some(Claim::Claimed) => return self.send_registration(caller, connection, prepared, acceptance).await,
                Some(Claim::HeldByOthers) => {
                    return Err(connection.own(conflict("An identity is not available at this connection.")));
                }
                Some(Claim::Failed(error)) => return Err(error).before_sending(),
                Some(Claim::Held(holders)) => {
                    drop(turn);
                    if let Some(end) = self.meet(caller, connection, &holders, &new, strict, acceptance).await? {
                        return Ok(end);
                    }
                }
            }
        }
        let wait = Some(Duration::from_secs(1));
        Err(Fault::new(Code::SubjectUnsettled, "Others keep writing about this candidate.").after(wait))
    }

    /// Plans a registration and makes its record; nothing is written or sent.
    pub(super) fn prepare(
        &self,
        caller: &Caller,
        connection: &Connection,
        new: NewCandidate,
        strict: bool,
    ) -> Result<Prepared, Fault> {
        let environment = &self.0.environment;
        let id = CandidateId::generate(environment);
        let planned = connection.vendor().plan_registration(&id, new, environment);
        let Planned { write: registration, warnings } =
            planned.map_err(|faults| connection.own(Fault::of_fields(faults)))?;
        hold_to_strict(strict, &warnings).map_err(|fault| connection.own(fault))?;
        let now = environment.now();
        let own_key = caller.origin.key.as_ref().filter(|key| registration.own_password && key.is_of_password());
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
        Ok(Prepared { candidate, identities, intent, own_password })
    }

    /// What the store is asked for: the record with what is to be told of it.
    pub(super) fn claimant(&self, prepared: &Prepared) -> Claimant {
        let Prepared { candidate, identities, intent, own_password: _ } = prepared;
        let subjects = intent.origin.item.as_ref().map_or_else(Vec::new, |item| self.subjects_of(item, identities));
        Claimant {
            candidate: candidate.clone(),
            identities: identities.clone(),
            intent: intent.clone(),
            with: bound(intent, &subjects),
        }
    }

    /// A registration that met a candidate the tenant already has. `None`: it is gone or failed, so claim again.
    async fn meet(
        &self,
        caller: &Caller,
        connection: &Connection,
        holders: &[Candidate],
        new: &NewCandidate,
        strict: bool,
        acceptance: &Acceptance<CandidateAnswer>,
    ) -> Result<Option<Written<CandidateAnswer>>, Fault> {
        let [holder] = holders else {
            return Err(connection.own(conflict("The identities given belong to different candidates.")));
        };
        // Only what is under way may be answered before its end: whether a known candidate is what was asked for is not
        // decided yet, and `fail` would have to be taken back.
        if holder.state == CandidateState::Pending && new.if_exists == IfCandidateExists::Reuse {
            acceptance.accept(holder.clone().into(), candidate_path(&holder.id));
        }
        let Some((_turn, candidate)) = self.at_rest(caller, connection, &holder.id).await? else {
            return Ok(None);
        };
        let settled = self.settled_candidate(connection, candidate, &call(caller, Attempt::Settling)).await;
        // A request that asks for no more than the open write did shares its fate; any other one was not sent.
        let shares = new.if_exists == IfCandidateExists::Reuse && caller.origin.item.is_none();
        let settled = match settled {
            Err(fault) if !shares => return Err(not_before_it_is_settled(connection, fault)),
            settled => settled?,
        };
        let Some(SettledCandidate { candidate, password, initial_password }) = settled else { return Ok(None) };
        if candidate.state == CandidateState::Failed {
            return Ok(None);
        }
        refuse_other_external_id(connection, &candidate.person, &new.person)?;
        let mut candidate = candidate;
        candidate.warnings.retain(|warning| warning.code != WarningCode::PasswordIgnored);
        let (person, touched) = candidate.person.overlaid(&new.person);
        // A password never goes to a person the vendor knows.
        let ignored = new.password.as_ref().filter(|new| !password.is_some_and(|sent| sent.matches(new.expose())));
        let ignored = ignored.map(|_| password_ignored());
        match new.if_exists {
            IfCandidateExists::Fail => {
                let detail = format!("The gateway knows this candidate as {}.", candidate.id);
                Err(connection.own(Fault::new(Code::CandidateAlreadyExists, detail).at(candidate_path(&candidate.id))))
            }
            IfCandidateExists::Reuse => {
                let mut candidate = differing(candidate, &touched);
                candidate.warnings.extend(ignored);
                Ok(Some(Written::Existing(CandidateAnswer { candidate, initial_password })))
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
        caller: &Caller,
        connection: &Connection,
        candidate: Candidate,
        changes: CandidateChanges,
        strict: bool,
        acceptance: &Acceptance<CandidateAnswer>,
    ) -> Result<Written<CandidateAnswer>, Fault> {
        let CandidateChanges { person, touched } = changes;
        if touched.is_empty() {
            let mut candidate = candidate;
            let detail = "The candidate is as it was asked for already; nothing was sent.";
            candidate.warnings.push(Warning::new(WarningCode::Unchanged, detail));
            return Ok(Written::Existing(candidate.into()));
        }
        connection.supported(Operation::CandidatesUpdate)?;
        let planned = connection.vendor().plan_update(KnownCandidate { person, ..known(&candidate) }, touched);
        let Planned { write: update, warnings } = planned.map_err(|faults| connection.own(Fault::of_fields(faults)))?;
        hold_to_strict(strict, &warnings).map_err(|fault| connection.own(fault))?;
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
            Change::Candidate(pending.clone()),
            Change::Identities(pending.id.clone(), identities),
            Change::Intent(intent.clone()),
        ];
        changes.extend(bound(&intent, &[]));
        let resource = candidate_path(&pending.id);
        let committed = self.commit_intents(changes).await.before_sending();
        committed.map_err(|fault| connection.own(doubt_at(fault, &resource)))?;
        acceptance.accept(pending.clone().into(), resource);
        let row = self.send_one(connection, &intent.write, &call(caller, Attempt::First)).await;
        let candidate = self.conclude_candidate(connection, pending, intent, row).await?;
        Ok(Written::Existing(candidate.into()))
    }

    /// Hides and erases; the caller of this holds the turn.
    async fn remove(
        &self,
        caller: &Caller,
        candidate: Candidate,
        acceptance: &Acceptance<Removal<Candidate>>,
    ) -> Result<(), Fault> {
        let hides = self.connection_of(&candidate.connection).ok().filter(|connection| {
            connection.supported(Operation::CandidatesDelete).is_ok() && candidate.state == CandidateState::Registered
        });
        let Some(connection) = hides.as_deref() else {
            let resource = candidate_path(&candidate.id);
            let erased = self.0.store.commit(vec![Change::EraseCandidate(candidate.id)]).await.before_sending();
            return erased.map_err(|fault| doubt_at(fault, &resource));
        };
        let intent = self.intent(caller, connection, candidate.id.as_str(), Write::Hide(known(&candidate)));
        let pending =
            Candidate { state: CandidateState::Pending, outcome: Outcome::Unknown, problem: None, ..candidate };
        let mut changes = vec![Change::Candidate(pending.clone()), Change::Intent(intent.clone())];
        changes.extend(bound(&intent, &[]));
        let resource = candidate_path(&pending.id);
        let committed = self.commit_intents(changes).await.before_sending();
        committed.map_err(|fault| doubt_at(fault, &resource))?;
        acceptance.accept(Removal::Pending(Box::new(pending.clone())), resource);
        let row = self.send_one(connection, &intent.write, &call(caller, Attempt::First)).await;
        self.conclude_candidate(connection, pending, intent, row).await.map(|_| ())
    }

    /// The candidate with the turn to write about it, when no other instance is sending anything about it. `None` if it is
    /// gone.
    pub(super) async fn at_rest(
        &self,
        caller: &Caller,
        connection: &Connection,
        id: &CandidateId,
    ) -> Result<Option<(Turn, Candidate)>, Fault> {
        let patience = Instant::now() + connection.longest_call();
        let mut pause = LOOKS.0;
        loop {
            let turn = self.turn(id.as_str()).await?;
            // The intent first: once it is gone, the record read after it says how the write ended.
            let under_way = self.under_way(id.as_str()).await?;
            let Some(candidate) = self.0.store.candidate(&caller.tenant, id).await.before_sending()? else {
                return Ok(None);
            };
            if candidate.state.ended() || !under_way || Instant::now() >= patience {
                return Ok(Some((turn, candidate)));
            }
            // A new candidate's first writer holds no turn in the store; its intent says that it is at work.
            drop(turn);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// Whether an instance is sending the record's write.
    async fn under_way(&self, record: &str) -> Result<bool, Fault> {
        let intent = self.0.store.intent(record).await.before_sending()?;
        Ok(intent.is_some_and(|intent| intent.under_way))
    }

    /// What a row about a person is remembered by.
    pub(super) fn subjects_of(&self, item: &ItemRef, identities: &[Identity]) -> Vec<Subject> {
        let subject = |identity: &Identity| {
            let (kind, text) = identity.parts();
            self.0.store.subject_of(&item.operation, &format!("{kind}\n{text}"))
        };
        identities.iter().map(subject).collect()
    }

    /// The candidate with the turn to write about it, its earlier write settled. A request that asks for no more than that
    /// write did shares its fate, should it stay unknown; any other one was not sent.
    async fn settled_with_turn(
        &self,
        caller: &Caller,
        id: &CandidateId,
        shares: fn(&Write) -> bool,
    ) -> Result<(Turn, Candidate), Fault> {
        let candidate = self.own_candidate(caller, id).await?;
        let connection = self.connection_of(&candidate.connection);
        let (turn, candidate) = match &connection {
            Ok(connection) => self.at_rest(caller, connection, id).await?.ok_or_else(|| no_candidate(id))?,
            // It can still be read and erased.
            Err(_) => (self.turn(id.as_str()).await?, candidate),
        };
        if candidate.state.ended() {
            return Ok((turn, candidate));
        }
        let connection = &*connection?;
        let shares = self.0.store.intent(id.as_str()).await.before_sending()?.is_some_and(|open| shares(&open.write));
        let settled = self.settled_candidate(connection, candidate, &call(caller, Attempt::Settling)).await;
        let settled =
            settled.map_err(|fault| if shares { fault } else { not_before_it_is_settled(connection, fault) })?;
        let settled = settled.ok_or_else(|| no_candidate(id))?;
        Ok((turn, settled.candidate))
    }

    /// An update must not take an identity that another record of the tenant has.
    async fn refuse_identities_of_others(
        &self,
        caller: &Caller,
        connection: &Connection,
        candidate: &Candidate,
        update: &Update,
    ) -> Result<(), Fault> {
        let kinds = connection.descriptor().identities;
        let present = Identity::of(&candidate.person, kinds);
        for identity in Identity::of(&update.candidate.person, kinds) {
            if present.contains(&identity) {
                continue;
            }
            let store = &self.0.store;
            let holders = store.candidates(&caller.tenant, Some(&connection.name), &identity).await.before_sending()?;
            if holders.iter().any(|holder| holder.id != candidate.id) {
                return Err(connection.own(conflict("Another candidate has this identity.")));
            }
        }
        Ok(())
    }
}

/// A candidate as later writes need it.
pub(super) fn known(candidate: &Candidate) -> KnownCandidate {
    KnownCandidate {
        id: candidate.id.clone(),
        person: candidate.person.clone(),
        vendor_ref: candidate.vendor_ref.clone(),
        private: candidate.private.clone(),
    }
}

/// The fault of a hand that settles what is not open.
pub(super) fn nothing_to_settle() -> Fault {
    Fault::of_fields(vec![FieldFault::invalid("/outcome", "there is nothing to settle: the outcome is known")])
}

fn no_candidate(id: &CandidateId) -> Fault {
    Fault::new(Code::NotFound, format!("There is no candidate {id}."))
}

fn conflict(detail: &str) -> Fault {
    Fault::new(Code::CandidateConflict, detail)
}

/// Where people are known by their e-mail address, one address with two of the caller's ids is two people.
fn refuse_other_external_id(connection: &Connection, present: &Person, given: &Person) -> Result<(), Fault> {
    let (Some(present), Some(given)) = (&present.external_id, &given.external_id) else { return Ok(()) };
    if connection.descriptor().by_email() && present != given {
        return Err(connection.own(conflict("A candidate with this e-mail address has another externalId.")));
    }
    Ok(())
}

fn password_ignored() -> Warning {
    let detail = "The candidate was there before; this password was not sent and is not kept.";
    Warning::at(WarningCode::PasswordIgnored, "/password", detail)
}

/// The candidate as it is answered when some of the members given differ: told, not changed.
fn differing(mut candidate: Candidate, touched: &[String]) -> Candidate {
    let detail = "The candidate was there before with another value; nothing was changed (see ifExists).";
    candidate.warnings.extend(touched.iter().map(|pointer| Warning::at(WarningCode::ExistingDiffers, pointer, detail)));
    candidate
}
