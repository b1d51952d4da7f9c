//! The fake vendor's adapter: plans, packs and declares like the real one of its kind, and answers what the script of the
//! case says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Map;

use super::exam::{Exam, Profile, Reply, Truth};
use super::world::{Death, Fate, Time};
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, Descriptor, Operation, Repeat};
use crate::domain::environment::Environment;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::journal::{EnrolmentWrite, Write};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::vendor::{
    Applied, Attempt, Booked, Booking, Call, Cancellation, EnrolmentCall, Health, KnownCandidate, Packing, Planned,
    Registered, Registration, Row, Update, Vendor, VendorKey,
};
use crate::secret::Secret;

/// Most rows in one call.
const BATCH: usize = 5;
/// Most employees in one call about a program: few, so that changes take several.
const MEMBERS: usize = 3;

pub(super) struct Fake {
    pub(super) exam: Arc<Mutex<Exam>>,
    pub(super) fate: Arc<Fate>,
    pub(super) time: Arc<Time>,
}

const fn can(operation: Operation, repeat: Repeat, max_batch: usize) -> Capability {
    let none = Capability::unsupported(operation, "");
    Capability { supported: true, max_batch, repeat, ..none }
}

const fn cannot(operation: Operation) -> Capability {
    Capability::unsupported(operation, "")
}

static EMPLOYEES: Descriptor = Descriptor {
    kind: "employees",
    name: "Employees",
    documentation: "",
    identities: &[IdentityKind::ExternalId],
    clock_tolerance: None,
    capabilities: [
        can(Operation::CandidatesCreate, Repeat::Harmless, BATCH),
        can(Operation::CandidatesUpdate, Repeat::Harmless, 1),
        can(Operation::CandidatesDelete, Repeat::Harmless, 1),
        can(Operation::AssignmentsCreate, Repeat::HarmlessWithFlag, BATCH),
        cannot(Operation::AssignmentsCancel),
        can(Operation::ProgramsEmployees, Repeat::Harmless, MEMBERS),
    ],
};

static CANDIDATES: Descriptor = Descriptor {
    kind: "candidates",
    name: "Candidates",
    documentation: "",
    identities: &[IdentityKind::ExternalId, IdentityKind::Email],
    clock_tolerance: None,
    capabilities: [
        can(Operation::CandidatesCreate, Repeat::Harmless, BATCH),
        can(Operation::CandidatesUpdate, Repeat::Harmless, 1),
        cannot(Operation::CandidatesDelete),
        can(Operation::AssignmentsCreate, Repeat::HarmlessWithFlag, 1),
        can(Operation::AssignmentsCancel, Repeat::Harmless, 1),
        cannot(Operation::ProgramsEmployees),
    ],
};

static STUDENTS: Descriptor = Descriptor {
    kind: "students",
    name: "Students",
    documentation: "",
    identities: &[IdentityKind::ExternalId, IdentityKind::UserName],
    clock_tolerance: None,
    capabilities: [
        can(Operation::CandidatesCreate, Repeat::ConflictProves, 1),
        can(Operation::CandidatesUpdate, Repeat::Harmless, 1),
        cannot(Operation::CandidatesDelete),
        cannot(Operation::AssignmentsCreate),
        cannot(Operation::AssignmentsCancel),
        cannot(Operation::ProgramsEmployees),
    ],
};

impl Fake {
    fn profile(&self) -> Profile {
        self.exam.lock().unwrap().profile
    }

    /// One call: what the vendor truly made of each row, as far as the gateway gets to know.
    async fn call(&self, writes: Vec<Write>, call: &Call) -> Vec<Result<Truth, Fault>> {
        self.fate.pass(Death::BeforeCall).await;
        let settling = call.attempt == Attempt::Settling;
        let (rows, script) = self.exam.lock().unwrap().take(&writes, settling, self.time.passed());
        tokio::time::sleep(Duration::from_millis(script.latency.into())).await;
        self.fate.pass(Death::DuringCall).await;
        let mut exam = self.exam.lock().unwrap();
        exam.pass(self.time.passed());
        exam.answered(&rows);
        let truths: Vec<Truth> = rows.iter().map(|row| exam.sent[*row].truth.clone()).collect();
        let of_call = |fault: Fault| if rows.len() > 1 { fault.of_call() } else { fault };
        let whole = |fault: Fault| vec![Err(of_call(fault)); rows.len()];
        let refused = |proof: bool| {
            let code = if proof { Code::InvalidReference } else { Code::VendorRejectedRequest };
            Fault { proof, ..Fault::new(code, "refused") }
        };
        match script.reply {
            Reply::Reset => whole(Fault::unknown(Code::VendorTimeout, "reset")),
            Reply::TimeOut => whole(Fault { lingering: true, ..Fault::unknown(Code::VendorTimeout, "timed out") }),
            Reply::Garbage => whole(Fault::unknown(Code::VendorBadResponse, "garbage")),
            Reply::Down => whole(Fault::unknown(Code::VendorUnavailable, "down")),
            Reply::Busy => whole(Fault::new(Code::VendorRateLimited, "busy").after(Some(Duration::from_secs(1)))),
            Reply::Refused { proof, rows: None } => whole(refused(proof)),
            _ if exam.profile == Profile::Employees && truths.contains(&Truth::Bad) => whole(refused(false)),
            reply => truths
                .into_iter()
                .enumerate()
                .map(|(index, truth)| match (reply, truth) {
                    (_, Truth::Bad) => Err(refused(true)),
                    (Reply::Refused { proof, rows: Some(mask) }, _) if mask >> (index % 8) & 1 == 1 => {
                        Err(refused(proof))
                    }
                    (_, truth) => Ok(truth),
                })
                .collect(),
        }
    }

    async fn one(&self, write: Write, call: &Call) -> Result<Truth, Fault> {
        self.call(vec![write], call).await.remove(0)
    }
}

#[async_trait]
impl Vendor for Fake {
    fn descriptor(&self) -> &'static Descriptor {
        match self.profile() {
            Profile::Employees => &EMPLOYEES,
            Profile::Candidates => &CANDIDATES,
            Profile::Students => &STUDENTS,
        }
    }

    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        _environment: &Environment,
    ) -> Result<Planned<Registration>, Vec<FieldFault>> {
        let NewCandidate { mut person, password, if_exists: _ } = new;
        let students = self.profile() == Profile::Students;
        let own_user_name = students && person.user_name.is_none();
        if own_user_name {
            person.user_name = Some(format!("own-{id}"));
        }
        let own_password = students && password.is_none();
        let password = if own_password { Some(Secret::new(format!("made-up-{id}"))) } else { password };
        let password = password.filter(|_| self.profile() != Profile::Employees);
        let write = Registration { id: id.clone(), person, own_user_name, password, own_password };
        Ok(Planned { write, warnings: Vec::new() })
    }

    fn plan_update(&self, candidate: KnownCandidate, touched: Vec<String>) -> Result<Planned<Update>, Vec<FieldFault>> {
        let key = match self.profile() {
            Profile::Employees => "/externalId",
            Profile::Candidates => "/email",
            Profile::Students => "/userName",
        };
        if touched.iter().any(|pointer| pointer == key) {
            return Err(vec![FieldFault::unsupported(key, "is how the vendor knows the person")]);
        }
        Ok(Planned { write: Update { candidate, touched }, warnings: Vec::new() })
    }

    fn assessment_ref(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn program_ref(&self, text: &str) -> Option<ProgramRef> {
        Some(ProgramRef::Id(text.to_owned()))
    }

    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldFault> {
        let exam = self.exam.lock().unwrap();
        let text = match (person, key) {
            (Some(person), _) => exam.key(person),
            (None, CandidateKey::Email(text)) if exam.profile == Profile::Candidates => text.clone(),
            (None, CandidateKey::ExternalId(text)) if exam.profile == Profile::Employees => text.clone(),
            _ => return Err(FieldFault::invalid("/candidate", "nobody knows them")),
        };
        Ok(VendorKey(text))
    }

    fn plan_assignment(
        &self,
        id: &AssignmentId,
        order: &NewAssignment,
        candidate: VendorKey,
        private: BTreeMap<String, String>,
        assessment: String,
        _now: Timestamp,
    ) -> Result<Planned<Booking>, Vec<FieldFault>> {
        let write = Booking {
            id: id.clone(),
            candidate,
            private,
            assessment,
            center: order.center.clone(),
            valid_from: order.valid_from,
            valid_until: order.valid_until,
            notify: order.notify,
            passwordless: order.passwordless,
            proctoring: order.proctoring.clone(),
            if_exists: order.if_exists,
            first_booking: false,
        };
        Ok(Planned { write, warnings: Vec::new() })
    }

    fn packing_of_registration(&self, _registration: &Registration) -> Packing {
        match self.profile() {
            Profile::Students => Packing::Alone,
            _ => Packing::Together { key: String::new(), at_most: BATCH, bytes: 1 },
        }
    }

    fn packing_of_repeated_registration(&self, registration: &Registration) -> Packing {
        match self.profile() {
            Profile::Employees => self.packing_of_registration(registration),
            Profile::Candidates | Profile::Students => Packing::Alone,
        }
    }

    fn packing_of_booking(&self, booking: &Booking) -> Packing {
        match self.profile() {
            Profile::Employees => {
                let flagged = booking.if_exists == IfAssignmentExists::Reuse;
                Packing::Together { key: format!("{flagged} {}", booking.assessment), at_most: BATCH, bytes: 1 }
            }
            _ => Packing::Alone,
        }
    }

    fn repeat_of_registration(&self, _registration: &Registration) -> Repeat {
        self.descriptor().capability(Operation::CandidatesCreate).repeat
    }

    fn repeat_of_booking(&self, booking: &Booking) -> Repeat {
        let finds_it = self.profile() == Profile::Candidates || booking.if_exists == IfAssignmentExists::Reuse;
        if finds_it || booking.first_booking { Repeat::HarmlessWithFlag } else { Repeat::Never }
    }

    fn rebooks_expired(&self) -> bool {
        false
    }

    async fn register(&self, rows: &[Registration], call: &Call) -> Vec<Row<Registered>> {
        let answers = self.call(rows.iter().cloned().map(Write::Register).collect(), call).await;
        let settling = call.attempt == Attempt::Settling;
        let read = |(row, answer): (&Registration, Result<Truth, Fault>)| match answer? {
            Truth::Taken if settling && row.own_user_name => Ok(Applied::clean(Registered::default())),
            Truth::Taken if settling => Err(Fault::unknown(Code::CandidateAlreadyExists, "account_exists_unverified")),
            Truth::Taken => Err(Fault::new(Code::CandidateAlreadyExists, "taken")),
            _ => {
                let id = self.exam.lock().unwrap().key(&row.person);
                let vendor_ref = Map::from_iter([("id".to_owned(), id.into())]);
                Ok(Applied::clean(Registered { vendor_ref, private: BTreeMap::new() }))
            }
        };
        rows.iter().zip(answers).map(read).collect()
    }

    async fn update(&self, update: &Update, call: &Call) -> Row<Registered> {
        self.one(Write::Update(update.clone()), call).await.map(|_| Applied::clean(Registered::default()))
    }

    async fn hide(&self, candidate: &KnownCandidate, call: &Call) -> Row<()> {
        self.one(Write::Hide(candidate.clone()), call).await.map(|_| Applied::clean(()))
    }

    async fn assign(&self, rows: &[Booking], call: &Call) -> Vec<Row<Booked>> {
        let answers = self.call(rows.iter().cloned().map(Write::Assign).collect(), call).await;
        let tells = self.profile() == Profile::Employees;
        let read = |answer: Result<Truth, Fault>| {
            let already_there = answer? == Truth::Done(false) && tells;
            let warnings =
                if already_there { vec![Warning::new(WarningCode::LaunchUnknown, "there before")] } else { Vec::new() };
            Ok(Applied { value: Booked { already_there, ..Booked::default() }, warnings })
        };
        answers.into_iter().map(read).collect()
    }

    async fn cancel(&self, cancellation: &Cancellation, call: &Call) -> Row<()> {
        let answer = self.one(Write::Cancel(cancellation.clone()), call).await;
        match (answer, call.attempt) {
            (Ok(Truth::Absent), Attempt::First) => Err(Fault::new(Code::VendorErrorUnmapped, "there is no booking")),
            (Ok(Truth::Absent), Attempt::Settling) => {
                Err(Fault::unknown(Code::VendorErrorUnmapped, "there is no booking (any more)"))
            }
            (answer, Attempt::First) => answer.map(|_| Applied::clean(())),
            // The first attempt may be the very reason why there is nothing left to withdraw.
            (answer, Attempt::Settling) => {
                answer.map(|_| Applied::clean(())).map_err(|fault| Fault { proof: false, ..fault.unproved() })
            }
        }
    }

    async fn enrol(&self, enrolment: &EnrolmentCall, call: &Call) -> Row<EnrolmentCounts> {
        let write = EnrolmentWrite { id: String::new(), call: enrolment.clone() };
        let registered = enrolment.enrolment.register.len() as u64;
        let counts = EnrolmentCounts { employees_registered: registered, ..EnrolmentCounts::default() };
        self.one(Write::Enrol(write), call).await.map(|_| Applied::clean(counts))
    }

    async fn check(&self, _call: &Call) -> Health {
        Health::Unchecked { detail: String::new() }
    }
}
