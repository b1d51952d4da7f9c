//! The fake vendor's adapter: plans, batches and declares capabilities like the real one of its kind, and responds by
//! the case's script.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Map;

use crate::domain::assignment::{CandidateKey, IfAssignmentExists, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, ResultCapability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::EnrolmentId;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{EnrolmentWrite, Write};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::results::{ReportChannel, ReportSource};
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::service::simulation::sim::{CrashPoint, FailurePlan, Time};
use crate::service::simulation::vendor_oracle::{Profile, Reply, RowState, VendorOracle};
use crate::service::test_reports::booking_of;

/// Maximum rows in one call.
const BATCH: usize = 5;
/// Maximum employees in one program call: few, so that changes take several calls.
const MEMBERS: usize = 3;

pub(super) struct Fake {
    pub(super) exam: Arc<Mutex<VendorOracle>>,
    pub(super) fate: Arc<FailurePlan>,
    pub(super) time: Arc<Time>,
    /// The feed of its sessions, if it has one.
    pub(super) feed: Option<ReportChannel>,
}

const fn can(operation: WriteKind, repeat: RetrySafety, max_batch: usize) -> Capability {
    let none = Capability::unsupported(operation, "");
    Capability { supported: true, max_batch, retry_safety: repeat, ..none }
}

const fn cannot(operation: WriteKind) -> Capability {
    Capability::unsupported(operation, "")
}

static EMPLOYEES: VendorDescriptor = VendorDescriptor {
    kind: "employees",
    name: "Employees",
    documentation: "",
    identities: &[IdentityKind::ExternalId],
    clock_tolerance: None,
    capabilities: [
        can(WriteKind::CandidatesCreate, RetrySafety::Idempotent, BATCH),
        can(WriteKind::CandidatesUpdate, RetrySafety::Idempotent, 1),
        can(WriteKind::CandidatesDelete, RetrySafety::Idempotent, 1),
        can(WriteKind::AssignmentsCreate, RetrySafety::IdempotentWithFlag, BATCH),
        cannot(WriteKind::AssignmentsUpdate),
        cannot(WriteKind::AssignmentsCancel),
        can(WriteKind::ProgramsEmployees, RetrySafety::Idempotent, MEMBERS),
    ],
    results: ResultCapability::unsupported(""),
};

static CANDIDATES: VendorDescriptor = VendorDescriptor {
    kind: "candidates",
    name: "Candidates",
    documentation: "",
    identities: &[IdentityKind::ExternalId, IdentityKind::Email],
    clock_tolerance: None,
    capabilities: [
        can(WriteKind::CandidatesCreate, RetrySafety::Idempotent, BATCH),
        can(WriteKind::CandidatesUpdate, RetrySafety::Idempotent, 1),
        cannot(WriteKind::CandidatesDelete),
        can(WriteKind::AssignmentsCreate, RetrySafety::IdempotentWithFlag, 1),
        cannot(WriteKind::AssignmentsUpdate),
        can(WriteKind::AssignmentsCancel, RetrySafety::Idempotent, 1),
        cannot(WriteKind::ProgramsEmployees),
    ],
    results: ResultCapability::unsupported(""),
};

static STUDENTS: VendorDescriptor = VendorDescriptor {
    kind: "students",
    name: "Students",
    documentation: "",
    identities: &[IdentityKind::ExternalId, IdentityKind::UserName],
    clock_tolerance: None,
    capabilities: [
        can(WriteKind::CandidatesCreate, RetrySafety::ConflictConfirms, 1),
        can(WriteKind::CandidatesUpdate, RetrySafety::Idempotent, 1),
        cannot(WriteKind::CandidatesDelete),
        cannot(WriteKind::AssignmentsCreate),
        cannot(WriteKind::AssignmentsUpdate),
        cannot(WriteKind::AssignmentsCancel),
        cannot(WriteKind::ProgramsEmployees),
    ],
    results: ResultCapability::unsupported(""),
};

impl Fake {
    fn profile(&self) -> Profile {
        self.exam.lock().unwrap().profile
    }

    /// Makes one call. Returns what the vendor did with each row, as far as the gateway learns it.
    async fn call(&self, writes: Vec<Write>, call: &CallContext) -> Vec<Result<RowState, VendorError>> {
        self.fate.pass(CrashPoint::BeforeCall).await;
        let settling = call.purpose == CallPurpose::Reconcile;
        let (rows, script) = self.exam.lock().unwrap().take(&writes, settling, self.time.passed());
        tokio::time::sleep(Duration::from_millis(script.latency.into())).await;
        self.fate.pass(CrashPoint::DuringCall).await;
        let mut exam = self.exam.lock().unwrap();
        exam.pass(self.time.passed());
        exam.answered(&rows);
        let truths: Vec<RowState> = rows.iter().map(|row| exam.sent[*row].truth.clone()).collect();
        let of_call = |fault: VendorError| if rows.len() > 1 { fault.for_batch() } else { fault };
        let whole = |fault: VendorError| vec![Err(of_call(fault)); rows.len()];
        let refused = |proof: bool| {
            let code = if proof { Code::InvalidReference } else { Code::VendorRejectedRequest };
            VendorError { proves_no_effect: proof, ..VendorError::new(code, "refused") }
        };
        match script.reply {
            Reply::Reset => whole(VendorError::unknown(Code::VendorTimeout, "reset")),
            Reply::TimeOut => whole(VendorError {
                may_still_complete: true,
                ..VendorError::unknown(Code::VendorTimeout, "timed out")
            }),
            Reply::Garbage => whole(VendorError::unknown(Code::VendorBadResponse, "garbage")),
            Reply::Down => whole(VendorError::unknown(Code::VendorUnavailable, "down")),
            Reply::Busy => {
                whole(VendorError::new(Code::VendorRateLimited, "busy").with_retry_after(Some(Duration::from_secs(1))))
            }
            Reply::Refused { proof, rows: None } => whole(refused(proof)),
            _ if exam.profile == Profile::Employees && truths.contains(&RowState::Bad) => whole(refused(false)),
            reply => truths
                .into_iter()
                .enumerate()
                .map(|(index, truth)| match (reply, truth) {
                    (_, RowState::Bad) => Err(refused(true)),
                    (Reply::Refused { proof, rows: Some(mask) }, _) if mask >> (index % 8) & 1 == 1 => {
                        Err(refused(proof))
                    }
                    (_, truth) => Ok(truth),
                })
                .collect(),
        }
    }

    async fn one(&self, write: Write, call: &CallContext) -> Result<RowState, VendorError> {
        self.call(vec![write], call).await.remove(0)
    }
}

#[async_trait]
impl Vendor for Fake {
    fn descriptor(&self) -> &'static VendorDescriptor {
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
        _environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>> {
        let NewCandidate { mut person, password, if_exists: _ } = new;
        let students = self.profile() == Profile::Students;
        let own_user_name = students && person.user_name.is_none();
        if own_user_name {
            person.user_name = Some(format!("own-{id}").into());
        }
        let own_password = students && password.is_none();
        let password = if own_password { Some(Secret::new(format!("made-up-{id}"))) } else { password };
        let password = password.filter(|_| self.profile() != Profile::Employees);
        let write = Registration { id: id.clone(), person, own_user_name, password, own_password };
        Ok(Plan { write, warnings: Vec::new() })
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        let key = match self.profile() {
            Profile::Employees => "/externalId",
            Profile::Candidates => "/email",
            Profile::Students => "/userName",
        };
        if touched.iter().any(|pointer| pointer == key) {
            return Err(vec![FieldError::unsupported(key, "identifies the person at the vendor")]);
        }
        Ok(Plan { write: Update { candidate, touched }, warnings: Vec::new() })
    }

    fn assessment_ref(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn program_ref(&self, text: &str) -> Option<ProgramRef> {
        Some(ProgramRef::Id(text.to_owned()))
    }

    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError> {
        let exam = self.exam.lock().unwrap();
        let text = match (person, key) {
            (Some(person), _) => exam.key(person),
            (None, CandidateKey::Email(text)) if exam.profile == Profile::Candidates => text.to_string(),
            (None, CandidateKey::ExternalId(text)) if exam.profile == Profile::Employees => text.to_string(),
            _ => return Err(FieldError::invalid("/candidate", "unknown candidate")),
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
    ) -> Result<Plan<Booking>, Vec<FieldError>> {
        Ok(Plan { write: booking_of(id, order, candidate, private, assessment), warnings: Vec::new() })
    }

    fn registration_batch(&self, _registration: &Registration) -> BatchGroup {
        match self.profile() {
            Profile::Students => BatchGroup::Single,
            _ => BatchGroup::Keyed { key: String::new(), at_most: BATCH, bytes: 1 },
        }
    }

    fn reconcile_batch(&self, registration: &Registration) -> BatchGroup {
        match self.profile() {
            Profile::Employees => self.registration_batch(registration),
            Profile::Candidates | Profile::Students => BatchGroup::Single,
        }
    }

    fn booking_batch(&self, booking: &Booking) -> BatchGroup {
        match self.profile() {
            Profile::Employees => {
                let flagged = booking.if_exists == IfAssignmentExists::Reuse;
                BatchGroup::Keyed { key: format!("{flagged} {}", booking.assessment), at_most: BATCH, bytes: 1 }
            }
            _ => BatchGroup::Single,
        }
    }

    fn registration_retry_safety(&self, _registration: &Registration) -> RetrySafety {
        self.descriptor().capability(WriteKind::CandidatesCreate).retry_safety
    }

    fn booking_retry_safety(&self, booking: &Booking) -> RetrySafety {
        let finds_it = self.profile() == Profile::Candidates || booking.if_exists == IfAssignmentExists::Reuse;
        if finds_it || booking.first_booking { RetrySafety::IdempotentWithFlag } else { RetrySafety::Unsafe }
    }

    fn rebooks_expired(&self) -> bool {
        false
    }

    async fn register(&self, rows: &[Registration], call: &CallContext) -> Vec<RowResult<Registered>> {
        let answers = self.call(rows.iter().cloned().map(Write::Register).collect(), call).await;
        let settling = call.purpose == CallPurpose::Reconcile;
        let read = |(row, answer): (&Registration, Result<RowState, VendorError>)| match answer? {
            RowState::Taken if settling && row.own_user_name => Ok(WriteSuccess::new(Registered::default())),
            RowState::Taken if settling => {
                Err(VendorError::unknown(Code::CandidateAlreadyExists, "account_exists_unverified"))
            }
            RowState::Taken => Err(VendorError::new(Code::CandidateAlreadyExists, "taken")),
            _ => {
                let id = self.exam.lock().unwrap().key(&row.person);
                let vendor_ref = Map::from_iter([("id".to_owned(), id.into())]);
                Ok(WriteSuccess::new(Registered { vendor_ref, private: BTreeMap::new() }))
            }
        };
        rows.iter().zip(answers).map(read).collect()
    }

    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered> {
        self.one(Write::Update(update.clone()), call).await.map(|_| WriteSuccess::new(Registered::default()))
    }

    async fn hide(&self, candidate: &CandidateSnapshot, call: &CallContext) -> RowResult<()> {
        self.one(Write::Hide(candidate.clone()), call).await.map(|_| WriteSuccess::new(()))
    }

    async fn assign(&self, rows: &[Booking], call: &CallContext) -> Vec<RowResult<Booked>> {
        let answers = self.call(rows.iter().cloned().map(Write::Assign).collect(), call).await;
        let tells = self.profile() == Profile::Employees;
        let read = |(row, answer): (&Booking, Result<RowState, VendorError>)| {
            let already_there = answer? == RowState::Done(false) && tells;
            let warnings =
                if already_there { vec![Warning::new(WarningCode::LaunchUnknown, "there before")] } else { Vec::new() };
            let participant = self.feed.as_ref().and_then(|_| self.exam.lock().unwrap().participant(&row.id));
            let vendor_ref = participant.map(|id| ("id".to_owned(), id.into())).into_iter().collect();
            Ok(WriteSuccess { value: Booked { vendor_ref, already_there, launch: None }, warnings })
        };
        rows.iter().zip(answers).map(read).collect()
    }

    async fn cancel(&self, cancellation: &Cancellation, call: &CallContext) -> RowResult<()> {
        let answer = self.one(Write::Cancel(cancellation.clone()), call).await;
        match (answer, call.purpose) {
            (Ok(RowState::Absent), CallPurpose::Initial) => {
                Err(VendorError::new(Code::VendorErrorUnmapped, "there is no booking"))
            }
            (Ok(RowState::Absent), CallPurpose::Reconcile) => {
                Err(VendorError::unknown(Code::VendorErrorUnmapped, "there is no booking any more"))
            }
            (answer, CallPurpose::Initial) => answer.map(|_| WriteSuccess::new(())),
            // The first attempt may be the reason why there is nothing left to withdraw.
            (answer, CallPurpose::Reconcile) => answer
                .map(|_| WriteSuccess::new(()))
                .map_err(|fault| VendorError { proves_no_effect: false, ..fault.with_unknown_outcome() }),
        }
    }

    async fn enrol(&self, enrolment: &EnrolmentBatch, call: &CallContext) -> RowResult<EnrolmentCounts> {
        // A vendor does not know the gateway's id.
        let id = EnrolmentId::parse(&format!("op_{}/0", "0".repeat(32))).unwrap();
        let write = EnrolmentWrite { id, call: enrolment.clone() };
        let registered = enrolment.enrolment.register.len() as u64;
        let counts = EnrolmentCounts { employees_registered: registered, ..EnrolmentCounts::default() };
        self.one(Write::Enrol(write), call).await.map(|_| WriteSuccess::new(counts))
    }

    fn report_source(&self) -> Option<&dyn ReportSource> {
        self.feed.is_some().then_some(self)
    }

    async fn check(&self, _call: &CallContext) -> CredentialCheck {
        CredentialCheck::Unchecked { detail: String::new() }
    }
}
