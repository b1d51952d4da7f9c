//! `Idempotency-Key`: a write under a key is done once; its repeat gets the same answer, waits its turn, or goes on with
//! what is not known yet, and never sends blindly.
//!
//! The answer itself is kept by the transaction that writes down the outcome (`journal`), so that a key never says less
//! than the record. What ends without a vendor call is kept here.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::audit::Told;
use super::configured::forbidden;
use super::connections::Connection;
use super::journal::{assignment_path, candidate_path};
use super::programs::Enrolling;
use super::tickets::Acceptance;
use super::{BeforeSending as _, Caller, CandidateAnswer, Gateway, Removal, Reply, RequestKey, Written, call};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::NewCandidate;
use crate::domain::ids::{AssignmentId, CandidateId, OperationId, fresh};
use crate::domain::journal::{Answer, KeyRef, Origin};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault};
use crate::domain::vendor::Attempt;
use crate::secret::Secret;
use crate::store::{Change, KeyClaim, KeyTaken};

/// How often a key is looked at again after its open write was settled; more often than this somebody is in a loop.
const LOOKS: usize = 4;

/// What a request says whose key is the gateway's own: nothing that could differ.
const OF_PASSWORD: [u8; 32] = [0; 32];

/// What can be kept under a key.
pub(super) trait Kept: Clone + Send + Sync + Sized + 'static {
    /// Whether the answer of a write that was done now is kept by the transaction that wrote down its outcome.
    const WITH_OUTCOME: bool;

    fn answer(written: &Written<Self>) -> Option<Answer>;

    /// The connection it belongs to, where it says so.
    fn connection(written: &Written<Self>) -> Option<&str>;

    /// What the audit record says of its end; `None` where it goes on as an operation.
    fn told(written: &Written<Self>) -> Option<Told>;

    /// The answer that was kept; `None` if it is one of another kind.
    fn reply(answer: Answer) -> Option<Written<Self>>;
}

impl Kept for CandidateAnswer {
    const WITH_OUTCOME: bool = true;

    fn answer(written: &Written<Self>) -> Option<Answer> {
        let (created, CandidateAnswer { candidate, initial_password }) = ended(written)?;
        Some(Answer::Candidate { created, candidate: Box::new(candidate), initial_password })
    }

    fn connection(written: &Written<Self>) -> Option<&str> {
        Some(&value(written).candidate.connection)
    }

    fn told(written: &Written<Self>) -> Option<Told> {
        let candidate = &value(written).candidate;
        Some(Told {
            object: Some(candidate_path(&candidate.id)),
            connection: Some(candidate.connection.clone()),
            outcome: candidate.outcome,
        })
    }

    fn reply(answer: Answer) -> Option<Written<Self>> {
        let Answer::Candidate { created, candidate, initial_password } = answer else { return None };
        Some(written(created, Self { candidate: *candidate, initial_password }))
    }
}

impl Kept for Assignment {
    const WITH_OUTCOME: bool = true;

    fn answer(written: &Written<Self>) -> Option<Answer> {
        let (created, assignment) = ended(written)?;
        Some(Answer::Assignment { created, assignment: Box::new(assignment) })
    }

    fn connection(written: &Written<Self>) -> Option<&str> {
        Some(&value(written).connection)
    }

    fn told(written: &Written<Self>) -> Option<Told> {
        let assignment = value(written);
        Some(Told {
            object: Some(assignment_path(&assignment.id)),
            connection: Some(assignment.connection.clone()),
            outcome: assignment.outcome,
        })
    }

    fn reply(answer: Answer) -> Option<Written<Self>> {
        let Answer::Assignment { created, assignment } = answer else { return None };
        Some(written(created, *assignment))
    }
}

impl<T: Clone + Send + Sync + 'static> Kept for Removal<T> {
    const WITH_OUTCOME: bool = false;

    fn answer(written: &Written<Self>) -> Option<Answer> {
        ended(written).map(|_| Answer::Gone)
    }

    fn connection(_written: &Written<Self>) -> Option<&str> {
        None
    }

    fn told(_written: &Written<Self>) -> Option<Told> {
        Some(Told { object: None, connection: None, outcome: Outcome::Applied })
    }

    fn reply(answer: Answer) -> Option<Written<Self>> {
        matches!(answer, Answer::Gone).then_some(Written::Created(Self::Done))
    }
}

impl Kept for Enrolling {
    const WITH_OUTCOME: bool = false;

    fn answer(written: &Written<Self>) -> Option<Answer> {
        match ended(written)? {
            (_, Self::Done(enrolled)) => Some(Answer::Enrolled(enrolled)),
            (_, Self::Accepted(..)) => None,
        }
    }

    fn connection(_written: &Written<Self>) -> Option<&str> {
        None
    }

    fn told(_written: &Written<Self>) -> Option<Told> {
        None
    }

    fn reply(answer: Answer) -> Option<Written<Self>> {
        let Answer::Enrolled(enrolled) = answer else { return None };
        Some(Written::Created(Self::Done(enrolled)))
    }
}

fn value<T>(written: &Written<T>) -> &T {
    let (Written::Created(value) | Written::Existing(value) | Written::Pending(value)) = written;
    value
}

fn ended<T: Clone>(written: &Written<T>) -> Option<(bool, T)> {
    match written {
        Written::Created(value) => Some((true, value.clone())),
        Written::Existing(value) => Some((false, value.clone())),
        Written::Pending(_) => None,
    }
}

fn written<T>(created: bool, value: T) -> Written<T> {
    if created { Written::Created(value) } else { Written::Existing(value) }
}

/// A key in use. Dropped without a word about how its write ended, it is opened for a repeat.
pub(super) struct Use {
    gateway: Gateway,
    key: Option<KeyRef>,
}

impl Use {
    pub(super) fn new(gateway: &Gateway, key: KeyRef) -> Self {
        Self { gateway: gateway.clone(), key: Some(key) }
    }

    /// Nothing was begun under it.
    pub(super) fn forget(mut self) {
        self.key = None;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.gateway.later(vec![Change::KeyOpen(key)]);
        }
    }
}

impl Gateway {
    /// Does the work under the caller's key, where it has one.
    pub(super) async fn once<T, W>(
        &self,
        caller: Caller,
        acceptance: Acceptance<T>,
        work: impl FnOnce(Self, Caller, Acceptance<T>) -> W,
    ) -> Result<Reply<T>, Fault>
    where
        T: Kept,
        W: Future<Output = Result<Written<T>, Fault>>,
    {
        let Some(request) = caller.key.clone() else {
            let end = work(self.clone(), caller, acceptance.clone()).await;
            return end.map(Reply::from).map_err(|fault| acceptance.unless_accepted(fault));
        };
        for look in 1..=LOOKS {
            let (key, record) = match self.0.store.take_key(&self.key_claim(&caller, request.clone())).await {
                Err(error) => return Err(error).before_sending(),
                Ok(KeyTaken::Different) => return Err(reused()),
                Ok(KeyTaken::Running) => return Err(in_progress()),
                Ok(KeyTaken::Answered(answer)) => {
                    let answer = self.without_erased(&caller.tenant, *answer).await?;
                    let written = T::reply(answer).ok_or_else(reused)?;
                    refuse_forbidden(&caller, T::connection(&written))?;
                    return Ok(Reply { written, replayed: true });
                }
                Ok(KeyTaken::New(key)) => (key, None),
                Ok(KeyTaken::Open(key, record)) => (key, record),
            };
            let mut usage = Use::new(self, key.clone());
            if let Some(record) = &record {
                refuse_forbidden(&caller, self.connection_of_record(&caller, record).await?.as_deref())?;
            }
            match record {
                // Its own end says what becomes of the key: answered or free, found at the next look, or open still.
                Some(record) if look < LOOKS && self.settle_for_repeat(&caller, &record).await? => {
                    self.release(&mut usage, Change::KeyOpen(key)).await?;
                }
                resumed => {
                    let origin = Origin { key: Some(key.clone()), item: None };
                    let caller = Caller { origin, resumed, ..caller };
                    let result = work(self.clone(), caller, acceptance.clone()).await;
                    let result = result.map_err(|fault| acceptance.unless_accepted(fault));
                    self.note_end(&mut usage, key, &result).await;
                    return result.map(Reply::from);
                }
            }
        }
        Err(in_progress())
    }

    /// Gives a registration without a key one of the gateway's own where a password would be made up, so that the password is
    /// kept with the answer: its caller may be answered before the end, or not at all.
    pub(super) fn with_password_key(&self, caller: &Caller, connection: &Connection, new: &NewCandidate) -> Caller {
        let mut caller = caller.clone();
        if caller.key.is_none() && new.password.is_none() {
            let planned = self.prepare(&caller, connection, new.clone(), false);
            if planned.is_ok_and(|planned| planned.own_password.is_some()) {
                let scope = format!("{}{}", KeyRef::OF_PASSWORD, fresh(&self.0.environment).simple());
                caller.key = Some(RequestKey { scope, content: OF_PASSWORD });
            }
        }
        caller
    }

    /// The password kept under a key of the gateway's own; `None` once it is forgotten.
    pub(super) async fn password_under(&self, caller: &Caller, scope: String) -> Result<Option<Secret>, Fault> {
        let claim = self.key_claim(caller, RequestKey { scope, content: OF_PASSWORD });
        Ok(match self.0.store.take_key(&claim).await.before_sending()? {
            KeyTaken::Answered(answer) => match *answer {
                Answer::Candidate { initial_password, .. } => initial_password,
                _ => None,
            },
            KeyTaken::New(key) => {
                self.later(vec![Change::KeyFreed(key)]);
                None
            }
            KeyTaken::Open(key, _) => {
                self.later(vec![Change::KeyOpen(key)]);
                None
            }
            KeyTaken::Running | KeyTaken::Different => None,
        })
    }

    /// The connection of what a key's write has led to.
    async fn connection_of_record(&self, caller: &Caller, record: &str) -> Result<Option<String>, Fault> {
        let (store, tenant) = (&self.0.store, &caller.tenant);
        if let Ok(id) = CandidateId::parse(record) {
            let found = store.candidate(tenant, &id).await.before_sending()?;
            return Ok(found.map(|candidate| candidate.connection));
        }
        if let Ok(id) = AssignmentId::parse(record) {
            let found = store.assignment(tenant, &id).await.before_sending()?;
            return Ok(found.map(|assignment| assignment.connection));
        }
        let Ok(id) = OperationId::parse(record) else { return Ok(None) };
        let found = store.operation(tenant, &id).await.before_sending()?;
        Ok(found.map(|(operation, _)| operation.connection))
    }

    /// What a key is asked for with, now.
    pub(super) fn key_claim(&self, caller: &Caller, request: RequestKey) -> KeyClaim {
        let RequestKey { scope, content } = request;
        let now = self.now();
        let kept = SignedDuration::try_from(self.configured().retention.keys).unwrap_or(SignedDuration::MAX);
        let expires = now.saturating_add(kept).unwrap_or(Timestamp::MAX);
        // Later tokens are greater, so that an index of them grows at its end.
        let token = fresh(&self.0.environment).simple().to_string();
        KeyClaim { tenant: caller.tenant.clone(), token, scope, content, now, expires }
    }

    /// Settles what the key's write led to. Whether there was anything to settle. That nothing was sent now, because it is
    /// too early, say, is no word about what was sent before: as long as it is not settled, the answer is `unknown`.
    async fn settle_for_repeat(&self, caller: &Caller, record: &str) -> Result<bool, Fault> {
        self.settle_record_of_key(caller, record).await.map_err(|fault| match fault.resource {
            Some(_) => fault.unproved(),
            None if record.starts_with(CandidateId::PREFIX) => fault.unproved().at(candidate_path(&record)),
            None => fault.unproved().at(assignment_path(&record)),
        })
    }

    async fn settle_record_of_key(&self, caller: &Caller, record: &str) -> Result<bool, Fault> {
        let asked = call(caller, Attempt::Settling);
        if OperationId::parse(record).is_ok() {
            // An enrolment: the work itself finds the operation again and waits for it.
            return Ok(false);
        }
        if let Ok(id) = CandidateId::parse(record) {
            let Some(found) = self.0.store.candidate(&caller.tenant, &id).await.before_sending()? else {
                return Ok(false);
            };
            let connection = self.connection_of(&found.connection)?;
            let Some((_turn, candidate)) = self.at_rest(caller, &connection, &id).await? else { return Ok(false) };
            // Settled by somebody else meanwhile, it has told the key.
            self.settled_candidate(&connection, candidate, &asked).await?;
            return Ok(true);
        }
        let Ok(id) = AssignmentId::parse(record) else { return Ok(false) };
        let Some(found) = self.0.store.assignment(&caller.tenant, &id).await.before_sending()? else {
            return Ok(false);
        };
        let _turn = self.turn(&found.turn()).await?;
        let found = self.0.store.assignment(&caller.tenant, &id).await.before_sending()?;
        let Some(assignment) = found else { return Ok(false) };
        let connection = self.connection_of(&assignment.connection)?;
        self.settled_assignment(&connection, assignment, &asked).await?;
        Ok(true)
    }

    pub(super) async fn note_end<T: Kept>(&self, usage: &mut Use, key: KeyRef, result: &Result<Written<T>, Fault>) {
        let change = match result {
            Ok(Written::Created(_)) if T::WITH_OUTCOME => {
                usage.key = None;
                return;
            }
            // Nothing was made up for this request, and nobody else knows the key.
            Ok(Written::Existing(_)) if key.is_of_password() => Change::KeyFreed(key),
            Ok(written) => T::answer(written)
                .map_or_else(|| Change::KeyOpen(key.clone()), |answer| Change::KeyAnswered(key.clone(), answer)),
            Err(fault) if fault.outcome == Outcome::NotApplied => Change::KeyFreed(key),
            Err(_) => Change::KeyOpen(key),
        };
        // The write has ended, whatever becomes of its key; what could not be kept now is kept later.
        drop(self.release(usage, change).await);
    }

    async fn release(&self, usage: &mut Use, change: Change) -> Result<(), Fault> {
        usage.key = None;
        let kept = self.0.store.commit(vec![change.clone()]).await;
        if kept.is_err() {
            self.later(vec![change]);
        }
        kept.before_sending()
    }
}

/// Clients of one tenant share its keys, but not what is at a connection that only some of them may use.
fn refuse_forbidden(caller: &Caller, connection: Option<&str>) -> Result<(), Fault> {
    match connection.filter(|name| !caller.connections.contains(name)) {
        Some(name) => Err(forbidden(name)),
        None => Ok(()),
    }
}

pub(super) fn reused() -> Fault {
    Fault::new(Code::IdempotencyKeyReused, "The key was used before, for a request that says something else.")
}

pub(super) fn in_progress() -> Fault {
    Fault::new(Code::IdempotencyInProgress, "An earlier request with this key is still under way.")
        .after(Some(Duration::from_secs(1)))
}
