//! Callers: their requests, the responses, and the check that these are true.

use std::fmt::Debug;
use std::time::Duration;

use crate::domain::assignment::{Assignment, CandidateKey, IfAssignmentExists, NewAssignment, Notify, Proctoring};
use crate::domain::candidate::{CandidateChanges, Identity, IfCandidateExists, Name, NewCandidate, Person};
use crate::domain::error::{Code, Error};
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Write, WriteOrigin};
use crate::domain::outcome::Outcome;
use crate::domain::scope::ScopeSet;
use crate::domain::vendor::Priority;
use crate::secret::Secret;
use crate::service::simulation::names::token;
use crate::service::simulation::sim::{CONNECTION, Sim};
use crate::service::simulation::steps::{Newcomer, Order, Wish};
use crate::service::simulation::vendor_oracle::{Profile, RowState, Sent};
use crate::service::{
    CandidateWithPassword, ConnectionAccess, EmployeeRef, EnrolmentProgress, EnrolmentRequest, Gateway,
    IdempotencyRequest, Removal, RequestContext, WriteHandle, WriteReply, WriteResult,
};
use crate::store::{AssignmentFilter, CandidateSelector, Page};

pub(super) const TENANT: &str = "t";

/// A request with its references resolved, so that it can be sent again unchanged.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Register(Newcomer),
    Update { candidate: CandidateId, rename: bool },
    Delete { candidate: CandidateId },
    Book { order: Order, candidate: CandidateKey },
    Cancel { assignment: AssignmentId },
    Enrol { program: u8, register: Vec<u8>, unregister: Vec<u8> },
}

/// A request with its responses.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) action: Action,
    /// The token that identifies its writes at the vendor.
    pub(super) token: String,
    pub(super) key: Option<String>,
    /// Number of rows the vendor had received before the request.
    from: usize,
    /// The response that reported success.
    pub(super) done: Option<String>,
    /// Numbers of rows the vendor had received at each response of `not_applied`.
    denied: Vec<usize>,
    times: u32,
}

/// A response to a caller.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a test value, created one at a time")]
pub(super) enum Said {
    Done { created: bool, replayed: bool, record: Option<String>, text: String },
    Pending,
    Fault(Error),
}

pub(super) fn caller(key: Option<(&str, &str)>) -> RequestContext {
    RequestContext {
        tenant: TENANT.to_owned(),
        client: "c".to_owned(),
        scopes: ScopeSet::all(),
        connections: ConnectionAccess::All,
        default_connection: None,
        exchange: Exchange::example(),
        priority: Priority::Interactive,
        key: key.map(|(scope, content)| {
            let mut bytes = [0; 32];
            bytes[..content.len().min(32)].copy_from_slice(&content.as_bytes()[..content.len().min(32)]);
            IdempotencyRequest { scope: scope.to_owned(), content: bytes }
        }),
        origin: WriteOrigin::default(),
        resumed: None,
        audit_entry: None,
    }
}

pub(super) fn email(person: u8) -> String {
    if person == 13 { "bad13@x.org".to_owned() } else { format!("p{person}@x.org") }
}

pub(super) fn newcomer(new: &Newcomer, token: &str) -> NewCandidate {
    let Newcomer { person, user_name, password, if_exists } = new;
    let person = Person {
        external_id: Some(format!("e{person}").into()),
        user_name: user_name.then(|| format!("u{person}").into()),
        name: Name { formatted: Some(token.to_owned()), ..Name::default() },
        email: Some(email(*person).into()),
        ..Person::default()
    };
    NewCandidate { person, password: password.then(|| Secret::new(format!("pw-{token}"))), if_exists: *if_exists }
}

pub(super) fn order(order: &Order, candidate: CandidateKey, token: &str) -> NewAssignment {
    let parameters = [("token".to_owned(), token.to_owned())].into();
    NewAssignment {
        candidate,
        assessment: format!("exam-{}", order.exam),
        valid_from: None,
        valid_until: None,
        center: None,
        notify: if order.mail { Notify::VendorEmail } else { Notify::None },
        passwordless: false,
        proctoring: Proctoring { enabled: true, parameters },
        if_exists: order.if_exists,
        reference: Some(token.to_owned()),
    }
}

/// Returns the key by which a caller names the person without asking the gateway first.
pub(super) fn callers_key(profile: Profile, person: u8) -> CandidateKey {
    match profile {
        Profile::Candidates => CandidateKey::Email(email(person).into()),
        _ => CandidateKey::ExternalId(format!("e{person}").into()),
    }
}

impl Action {
    /// Resolves a wish in the current state; `None` if it has no possible target.
    pub(super) fn of(wish: Wish, world: &Sim) -> Option<Self> {
        let candidate = |person: u8| {
            world.look(async |store| {
                let identity = Identity::ExternalId(format!("e{person}").into());
                store.candidates(TENANT, Some(CONNECTION), &identity).await.unwrap().pop().map(|found| found.id)
            })
        };
        Some(match wish {
            Wish::Register(new) => Self::Register(new),
            Wish::Update { person, rename } => Self::Update { candidate: candidate(person)?, rename },
            Wish::Delete { person } => Self::Delete { candidate: candidate(person)? },
            Wish::Book(order) => {
                let id = if order.by_id { candidate(order.person).map(CandidateKey::Id) } else { None };
                let named = callers_key(world.exam.lock().unwrap().profile, order.person);
                Self::Book { candidate: id.unwrap_or(named), order }
            }
            Wish::Cancel { person, exam } => {
                let filter = AssignmentFilter {
                    candidate: candidate(person).map(|id| CandidateSelector { ids: vec![id], known_as: Vec::new() }),
                    assessment: vec![format!("exam-{exam}")],
                    ..AssignmentFilter::default()
                };
                let page = Page { limit: 1, after: None };
                let found = world.look(async |store| store.assignments(TENANT, &filter, &page).await.unwrap().pop());
                Self::Cancel { assignment: found?.id }
            }
            Wish::Enrol { program, register, unregister } => Self::Enrol { program, register, unregister },
        })
    }
}

impl Asked {
    pub(super) fn new(action: Action, number: usize, keyed: bool, world: &Sim) -> Self {
        let from = world.exam.lock().unwrap().sent.len();
        let token = format!("r{number}");
        let key = keyed.then(|| format!("k{number}"));
        Self { action, token, key, from, done: None, denied: Vec::new(), times: 0 }
    }

    /// Sends the request.
    pub(super) async fn send(&self, gateway: Gateway, patience: Option<u16>) -> Said {
        let caller = caller(self.key.as_deref().map(|key| (key, self.token.as_str())));
        let patience = patience.map(|millis| Duration::from_millis(millis.into()));
        let token = self.token.clone();
        let at = Some(CONNECTION);
        match &self.action {
            Action::Register(new) => {
                let ticket = gateway.create_candidate(&caller, at, newcomer(new, &token), false);
                said(ticket, patience, told_candidate).await
            }
            Action::Update { candidate, rename } => {
                let rename = *rename;
                let patch = Box::new(move |present: &crate::domain::candidate::Candidate| {
                    let mut person = present.person.clone();
                    let mut touched = vec!["/name/formatted".to_owned()];
                    if rename && !person.user_name.as_ref().is_some_and(|name| name.starts_with("own")) {
                        person.user_name = Some(format!("renamed-{token}").into());
                        touched.push("/userName".to_owned());
                    }
                    person.name.formatted = Some(token);
                    Ok(CandidateChanges { person, touched })
                });
                said(gateway.update_candidate(&caller, candidate, patch, false), patience, told_candidate).await
            }
            Action::Delete { candidate } => {
                said(gateway.delete_candidate(&caller, candidate), patience, told_removal).await
            }
            Action::Book { order: wanted, candidate } => {
                let order = order(wanted, candidate.clone(), &token);
                let ticket = gateway.create_assignment(&caller, at, order, false).await;
                said(ticket, patience, told_assignment).await
            }
            Action::Cancel { assignment } => {
                said(gateway.cancel_assignment(&caller, assignment), patience, told_removal).await
            }
            Action::Enrol { program, register, unregister } => {
                let members =
                    |list: &[u8]| list.iter().map(|id| EmployeeRef::ExternalId(format!("e{id}").into())).collect();
                let order = EnrolmentRequest {
                    connection: Some(CONNECTION.to_owned()),
                    assessments: Some(vec!["exam-0".to_owned(), token]),
                    register: members(register),
                    unregister: members(unregister),
                };
                said(gateway.enrol(&caller, &format!("program-{program}"), order), patience, told_enrolment).await
            }
        }
    }

    /// Checks the response against the truth.
    pub(super) fn judge(&mut self, said: Option<Said>, world: &Sim, store_failed: bool) -> Result<(), String> {
        let again = self.times > 0;
        self.times += 1;
        let sent = world.exam.lock().unwrap().sent.len();
        match said {
            None | Some(Said::Pending) => {}
            Some(Said::Done { created, replayed, record, text }) => {
                if let (Some(before), Some(_)) = (&self.done, &self.key)
                    && !store_failed
                    && (*before != text && !is_erased(world, record.as_deref()) || !replayed)
                {
                    return Err(format!("{self:?} was answered {before}, and now {text} (replayed: {replayed})"));
                }
                self.is_done(created, record.as_deref(), world)?;
                self.done.get_or_insert(text);
            }
            Some(Said::Fault(fault)) => match fault.outcome {
                Outcome::Applied => return Err(format!("{fault:?}")),
                Outcome::Unknown => {
                    if fault.resource.is_none() {
                        return Err(format!("{self:?}: an unknown outcome without a resource: {fault:?}"));
                    }
                }
                Outcome::NotApplied => {
                    // These codes concern this request only, not the earlier one under the same key.
                    let of_repeat = fault.code == Code::IdempotencyInProgress
                        || again && fault.code == Code::StoreUnavailable
                        || again && fault.code == Code::NotFound
                        // The key was free, and another request has taken it.
                        || again && fault.code == Code::IdempotencyKeyReused;
                    if self.done.is_some() && !of_repeat && self.key.is_some() && !store_failed {
                        return Err(format!("{self:?} is done, and now {fault:?}"));
                    }
                    if !of_repeat {
                        self.denied.push(sent);
                    }
                }
            },
        }
        self.check_denials(world)
    }

    /// Checks that nothing reported as not applied has happened or happens later.
    pub(super) fn check_denials(&self, world: &Sim) -> Result<(), String> {
        let exam = world.exam.lock().unwrap();
        for until in &self.denied {
            let happened = exam.sent[..*until]
                .iter()
                .enumerate()
                .find(|(row, sent)| matches!(sent.truth, RowState::Done(_)) && self.is_of(*row, sent));
            if let Some((row, sent)) = happened {
                return Err(format!("{self:?} was said not to be applied, but row {row} {sent:?}"));
            }
        }
        Ok(())
    }

    fn is_of(&self, row: usize, sent: &Sent) -> bool {
        match (&self.action, &sent.write) {
            (Action::Delete { candidate }, Write::Hide(hidden)) => row >= self.from && hidden.id == *candidate,
            (Action::Cancel { assignment }, Write::Cancel(cancelled)) => {
                row >= self.from && cancelled.id == *assignment
            }
            (_, write) => token(write).as_ref() == Some(&self.token),
        }
    }

    fn is_done(&self, created: bool, record: Option<&str>, world: &Sim) -> Result<(), String> {
        let exam = world.exam.lock().unwrap();
        let done = |found: &dyn Fn(&Write) -> bool| {
            exam.sent.iter().any(|sent| matches!(sent.truth, RowState::Done(_)) && found(&sent.write))
        };
        let mine = |write: &Write| token(write).as_ref() == Some(&self.token);
        let of_record = |write: &Write| Some(write.record_id()) == record;
        let fine = match &self.action {
            Action::Register(new) => {
                let there = done(&|write| matches!(write, Write::Register(_)) && of_record(write));
                there && (!created && new.if_exists != IfCandidateExists::Update || done(&mine))
            }
            Action::Update { .. } => done(&mine),
            Action::Delete { candidate } => {
                let hides = exam.profile == Profile::Employees;
                let of = |write: &Write| write.record_id() == candidate.as_str();
                let was_there = done(&|write| matches!(write, Write::Register(_)) && of(write));
                !hides || !was_there || done(&|write| matches!(write, Write::Hide(_)) && of(write))
            }
            Action::Book { order, .. } => {
                let there = done(&|write| matches!(write, Write::Assign(_)) && of_record(write));
                // Where a booking existed before, these still ask for one of their own.
                let own = exam.profile == Profile::Candidates
                    || exam.places.iter().any(|place| Some(place.record.as_str()) == record);
                match order.if_exists {
                    IfAssignmentExists::Reuse => there && (!created || done(&mine)),
                    IfAssignmentExists::CreateNew | IfAssignmentExists::Fail => there && own && done(&mine),
                }
            }
            Action::Cancel { assignment } => {
                !exam.places.iter().any(|place| place.live && place.record == assignment.as_str())
            }
            Action::Enrol { register, unregister, .. } => {
                let all = register.iter().chain(unregister);
                all.map(|id| format!("e{id}")).all(|id| {
                    done(&|write| match write {
                        Write::Enrol(enrolment) if mine(write) => {
                            let lists = &enrolment.call.enrolment;
                            lists.register.contains(&id) || lists.unregister.contains(&id)
                        }
                        _ => false,
                    })
                })
            }
        };
        if fine { Ok(()) } else { Err(format!("{self:?} was said to be applied ({created}, {record:?}), and is not")) }
    }
}

async fn said<T: Debug + Clone + Send + Sync + 'static>(
    ticket: Result<WriteHandle<T>, Error>,
    patience: Option<Duration>,
    told: fn(&T) -> (Option<String>, String),
) -> Said {
    let reply = match ticket {
        Ok(ticket) => ticket.result(patience).await,
        Err(fault) => Err(fault),
    };
    let (created, value, replayed) = match reply {
        Err(fault) => return Said::Fault(fault),
        Ok(WriteReply { written: WriteResult::Pending(_), .. }) => return Said::Pending,
        Ok(WriteReply { written: WriteResult::Created(value), replayed }) => (true, value, replayed),
        Ok(WriteReply { written: WriteResult::Existing(value), replayed }) => (false, value, replayed),
    };
    let (record, text) = told(&value);
    // An empty response does not distinguish whether there was anything left to do.
    let text = if text.is_empty() { text } else { format!("{created} {text}") };
    Said::Done { created, replayed, record, text }
}

fn told_candidate(answer: &CandidateWithPassword) -> (Option<String>, String) {
    let password = answer.initial_password.as_ref().map(Secret::expose);
    (Some(answer.candidate.id.to_string()), format!("{:?} {password:?}", answer.candidate))
}

fn told_assignment(assignment: &Assignment) -> (Option<String>, String) {
    (Some(assignment.id.to_string()), format!("{assignment:?}"))
}

fn told_removal<T>(_: &Removal<T>) -> (Option<String>, String) {
    (None, String::new())
}

fn told_enrolment(enrolling: &EnrolmentProgress) -> (Option<String>, String) {
    (None, format!("{enrolling:?}"))
}

/// Returns whether the record was a candidate's that has been erased: stored replies about it no longer contain the
/// person.
fn is_erased(world: &Sim, record: Option<&str>) -> bool {
    let Some(id) = record.and_then(|record| CandidateId::parse(record).ok()) else { return false };
    world.look(async |store| store.candidate(TENANT, &id).await.unwrap().is_none())
}
