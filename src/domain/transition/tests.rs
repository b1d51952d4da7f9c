//! Every row of the table in the module's documentation.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use rstest::rstest;
use serde_json::{Map, json};

use super::*;
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, Launch, NewAssignment, Notify, Proctoring};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, ResultCapability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId, EnrolmentId};
use crate::domain::intent::{EnrolmentWrite, WriteOrigin};
use crate::domain::program::{AssessmentScope, Enrolment, ProgramRef};
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booking, CallContext, Cancellation, CandidateSnapshot, CredentialCheck, EnrolmentBatch, Plan,
    Registration, VendorKey,
};
use crate::secret::Secret;

const NOT_ASKED: &str = "a transition calls no vendor";

static DESCRIPTOR: VendorDescriptor = VendorDescriptor {
    kind: "planner",
    name: "Planner",
    documentation: "",
    identities: &[IdentityKind::ExternalId, IdentityKind::Email],
    clock_tolerance: None,
    capabilities: [
        Capability::unsupported(WriteKind::CandidatesCreate, ""),
        Capability::unsupported(WriteKind::CandidatesUpdate, ""),
        Capability::unsupported(WriteKind::CandidatesDelete, ""),
        Capability::unsupported(WriteKind::AssignmentsCreate, ""),
        Capability::unsupported(WriteKind::AssignmentsUpdate, ""),
        Capability::unsupported(WriteKind::AssignmentsCancel, ""),
        Capability::unsupported(WriteKind::ProgramsEmployees, ""),
    ],
    results: ResultCapability::unsupported(""),
};

/// A vendor that plans updates, with a warning about each, and does nothing else.
struct Planner;

#[async_trait]
impl Vendor for Planner {
    fn descriptor(&self) -> &'static VendorDescriptor {
        &DESCRIPTOR
    }

    fn plan_registration(
        &self,
        _id: &CandidateId,
        _new: NewCandidate,
        _environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>> {
        unreachable!("{NOT_ASKED}")
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        Ok(Plan { write: Update { candidate, touched }, warnings: vec![Warning::field_ignored("/gender")] })
    }

    fn assessment_ref(&self, _text: &str) -> Option<String> {
        unreachable!("{NOT_ASKED}")
    }

    fn program_ref(&self, _text: &str) -> Option<ProgramRef> {
        unreachable!("{NOT_ASKED}")
    }

    fn candidate_key(&self, _key: &CandidateKey, _person: Option<&Person>) -> Result<VendorKey, FieldError> {
        unreachable!("{NOT_ASKED}")
    }

    fn plan_assignment(
        &self,
        _id: &AssignmentId,
        _order: &NewAssignment,
        _candidate: VendorKey,
        _private: BTreeMap<String, String>,
        _assessment: String,
        _now: Timestamp,
    ) -> Result<Plan<Booking>, Vec<FieldError>> {
        unreachable!("{NOT_ASKED}")
    }

    fn registration_batch(&self, _registration: &Registration) -> BatchGroup {
        unreachable!("{NOT_ASKED}")
    }

    fn reconcile_batch(&self, _registration: &Registration) -> BatchGroup {
        unreachable!("{NOT_ASKED}")
    }

    fn booking_batch(&self, _booking: &Booking) -> BatchGroup {
        unreachable!("{NOT_ASKED}")
    }

    fn registration_retry_safety(&self, _registration: &Registration) -> RetrySafety {
        unreachable!("{NOT_ASKED}")
    }

    fn booking_retry_safety(&self, _booking: &Booking) -> RetrySafety {
        unreachable!("{NOT_ASKED}")
    }

    fn rebooks_expired(&self) -> bool {
        unreachable!("{NOT_ASKED}")
    }

    async fn register(&self, _rows: &[Registration], _call: &CallContext) -> Vec<RowResult<Registered>> {
        unreachable!("{NOT_ASKED}")
    }

    async fn update(&self, _update: &Update, _call: &CallContext) -> RowResult<Registered> {
        unreachable!("{NOT_ASKED}")
    }

    async fn hide(&self, _candidate: &CandidateSnapshot, _call: &CallContext) -> RowResult<()> {
        unreachable!("{NOT_ASKED}")
    }

    async fn assign(&self, _rows: &[Booking], _call: &CallContext) -> Vec<RowResult<Booked>> {
        unreachable!("{NOT_ASKED}")
    }

    async fn cancel(&self, _cancellation: &Cancellation, _call: &CallContext) -> RowResult<()> {
        unreachable!("{NOT_ASKED}")
    }

    async fn enrol(&self, _enrolment: &EnrolmentBatch, _call: &CallContext) -> RowResult<EnrolmentCounts> {
        unreachable!("{NOT_ASKED}")
    }

    fn report_source(&self) -> Option<&dyn crate::domain::results::ReportSource> {
        None
    }

    async fn check(&self, _call: &CallContext) -> CredentialCheck {
        unreachable!("{NOT_ASKED}")
    }
}

const NOW: Timestamp = Timestamp::constant(1_795_348_800, 0);
const PASSWORD: &str = "made-up-1";

fn candidate_id() -> CandidateId {
    CandidateId::parse(&format!("cand_{}", "0".repeat(32))).unwrap()
}

fn assignment_id() -> AssignmentId {
    AssignmentId::parse(&format!("asg_{}", "0".repeat(32))).unwrap()
}

fn person(email: &str) -> Person {
    Person { external_id: Some("e1".into()), email: Some(email.into()), ..Person::default() }
}

fn identities(email: &str) -> Vec<Identity> {
    vec![Identity::ExternalId("e1".into()), Identity::Email(email.into())]
}

fn registration() -> Write {
    Write::Register(Registration {
        id: candidate_id(),
        person: person("old@example.com"),
        own_user_name: false,
        password: Some(Secret::new(PASSWORD)),
        own_password: true,
    })
}

fn snapshot(email: &str) -> CandidateSnapshot {
    CandidateSnapshot { id: candidate_id(), person: person(email), vendor_ref: Map::new(), private: BTreeMap::new() }
}

fn update() -> Write {
    Write::Update(Update { candidate: snapshot("new@example.com"), touched: vec!["/email".to_owned()] })
}

fn removal() -> Write {
    Write::Hide(snapshot("old@example.com"))
}

fn booking() -> Write {
    Write::Assign(Booking {
        id: assignment_id(),
        candidate: VendorKey("e1".to_owned()),
        private: BTreeMap::new(),
        assessment: "1".to_owned(),
        center: None,
        valid_from: None,
        valid_until: None,
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists: IfAssignmentExists::Reuse,
        first_booking: true,
    })
}

fn cancellation() -> Write {
    Write::Cancel(Cancellation {
        id: assignment_id(),
        candidate: VendorKey("e1".to_owned()),
        assessment: "1".to_owned(),
    })
}

fn enrolment_id() -> EnrolmentId {
    EnrolmentId::parse(&format!("op_{}/1", "0".repeat(32))).unwrap()
}

fn enrolment() -> Write {
    let enrolment = Enrolment { scope: AssessmentScope::All, register: vec!["e1".to_owned()], unregister: Vec::new() };
    let call = EnrolmentBatch { program: ProgramRef::Id("p1".to_owned()), enrolment };
    Write::Enrol(EnrolmentWrite { id: enrolment_id(), call })
}

fn intent(write: Write, attempts: u32) -> Intent {
    Intent {
        tenant: String::new(),
        connection: String::new(),
        destination: None,
        write,
        subject: String::new().into(),
        origin: WriteOrigin::default(),
        opened: Timestamp::UNIX_EPOCH,
        started: Timestamp::UNIX_EPOCH,
        attempts,
        in_flight: true,
        may_still_complete: true,
        settle_from: Timestamp::UNIX_EPOCH,
        backed_off: Duration::ZERO,
        due: None,
        reason: None,
    }
}

/// Returns the candidate as it is while its write is open.
fn candidate() -> Candidate {
    Candidate {
        id: candidate_id(),
        tenant: String::new(),
        connection: String::new(),
        person: person("old@example.com"),
        state: CandidateState::Pending,
        outcome: Outcome::Unknown,
        vendor_ref: Map::new(),
        private: BTreeMap::new(),
        password_key: None,
        problem: Some(Box::new(Error::unknown(Code::VendorTimeout, "An earlier attempt."))),
        warnings: Vec::new(),
        created: Timestamp::UNIX_EPOCH,
        last_modified: Timestamp::UNIX_EPOCH,
    }
}

/// Returns the assignment as it is while its write is open.
fn assignment() -> Assignment {
    Assignment {
        id: assignment_id(),
        tenant: String::new(),
        connection: String::new(),
        candidate_id: None,
        order: NewAssignment {
            candidate: CandidateKey::ExternalId("e1".into()),
            assessment: "1".to_owned(),
            valid_from: None,
            valid_until: None,
            center: None,
            notify: Notify::None,
            passwordless: false,
            proctoring: Proctoring::default(),
            if_exists: IfAssignmentExists::Reuse,
            reference: None,
        },
        vendor_key: "e1".to_owned(),
        identity: None,
        assessment_ref: "1".to_owned(),
        subject: "e1\n1".to_owned(),
        state: AssignmentState::Pending,
        outcome: Outcome::Unknown,
        vendor_ref: Map::new(),
        launch: Some(launch("https://go.example.com/old")),
        problem: Some(Box::new(Error::unknown(Code::VendorTimeout, "An earlier attempt."))),
        warnings: Vec::new(),
        created: Timestamp::UNIX_EPOCH,
        last_modified: Timestamp::UNIX_EPOCH,
        expiry_reported: false,
    }
}

fn launch(url: &str) -> Launch {
    Launch { url: url.to_owned(), expires_at: None }
}

fn vendor_ref() -> Map<String, serde_json::Value> {
    Map::from_iter([("id".to_owned(), json!("17"))])
}

fn applied(value: VendorReply) -> WriteSuccess<VendorReply> {
    WriteSuccess { value, warnings: vec![Warning::new(WarningCode::MailUncertain, "")] }
}

fn registered() -> WriteSuccess<VendorReply> {
    applied(VendorReply::Registered(Registered { vendor_ref: vendor_ref(), private: BTreeMap::new() }))
}

fn booked(already_there: bool) -> WriteSuccess<VendorReply> {
    let launch = Some(launch("https://go.example.com/new"));
    applied(VendorReply::Booked(Booked { vendor_ref: vendor_ref(), launch, already_there }))
}

fn unknown() -> RowResult<VendorReply> {
    Err(VendorError::unknown(Code::VendorTimeout, "No response."))
}

fn rejected() -> RowResult<VendorReply> {
    Err(VendorError::new(Code::VendorRejectedRequest, "No."))
}

fn conclude(record: impl Into<Record>, intent: &Intent, result: RowResult<VendorReply>) -> Transition {
    record.into().conclude(intent, result, &Planner, NOW)
}

/// Returns the codes of these warnings.
fn codes(warnings: &[Warning]) -> Vec<WarningCode> {
    warnings.iter().map(|warning| warning.code).collect()
}

#[rstest]
#[case::registration(registration(), registered(), true, None)]
#[case::update(update(), registered(), false, Some(identities("new@example.com")))]
#[case::update_without_data(update(), applied(VendorReply::Nothing), false, Some(identities("new@example.com")))]
#[case::removal(removal(), applied(VendorReply::Nothing), true, None)]
fn an_applied_write_leaves_a_registered_candidate(
    #[case] write: Write,
    #[case] success: WriteSuccess<VendorReply>,
    #[case] created: bool,
    #[case] identities: Option<Vec<Identity>>,
) {
    let transition = conclude(candidate(), &intent(write.clone(), 1), Ok(success.clone()));
    assert_eq!(transition.identities, identities);
    assert_eq!(transition.erased, matches!(write, Write::Hide(_)));
    let applied = transition.result.unwrap();
    assert_eq!(applied.created, created);
    assert_eq!(applied.row.result, if created { ItemStatus::Created } else { ItemStatus::Existing });

    let candidate = Candidate::try_from(transition.record).unwrap();
    assert_eq!((candidate.state, candidate.outcome), (CandidateState::Registered, Outcome::Applied));
    assert_eq!((candidate.problem.is_none(), candidate.last_modified), (true, NOW));
    let has_data = matches!(success.value, VendorReply::Registered(_));
    assert_eq!(candidate.vendor_ref, if has_data { vendor_ref() } else { Map::new() });
}

#[test]
fn an_applied_registration_replies_with_its_generated_password() {
    let success = conclude(candidate(), &intent(registration(), 1), Ok(registered())).result.unwrap();
    let shown = |password: Option<Secret>| password.map(|password| password.expose().to_owned());
    assert_eq!(shown(success.row.initial_password).as_deref(), Some(PASSWORD));
    let Some(StoredReply::Candidate { created: true, initial_password, candidate }) = success.reply else {
        panic!("no reply with a new candidate: {:?}", success.reply)
    };
    assert_eq!(shown(initial_password).as_deref(), Some(PASSWORD));
    assert_eq!((candidate.state, candidate.vendor_ref), (CandidateState::Registered, vendor_ref()));
}

#[test]
fn an_applied_update_replaces_person_and_warnings() {
    let earlier = [WarningCode::PasswordIgnored, WarningCode::NameUnsplit].map(|code| Warning::new(code, "")).to_vec();
    let transition = conclude(Candidate { warnings: earlier, ..candidate() }, &intent(update(), 1), Ok(registered()));
    let success = transition.result.unwrap();
    assert!(matches!(success.reply, Some(StoredReply::Candidate { created: false, initial_password: None, .. })));
    let candidate = Candidate::try_from(transition.record).unwrap();
    assert_eq!(candidate.person, person("new@example.com"));
    // What is known of the password remains, what the update planned is new, the vendor's own warning is last.
    let expected = [WarningCode::PasswordIgnored, WarningCode::FieldIgnored, WarningCode::MailUncertain];
    assert_eq!(codes(&candidate.warnings), expected);
}

#[test]
fn an_applied_removal_erases_the_candidate() {
    let transition = conclude(candidate(), &intent(removal(), 1), Ok(applied(VendorReply::Nothing)));
    assert!(transition.erased);
    let success = transition.result.unwrap();
    assert!(matches!(success.reply, Some(StoredReply::Gone)), "{:?}", success.reply);
    assert!(success.row.initial_password.is_none());
}

#[rstest]
#[case::unknown_registration(registration(), unknown(), CandidateState::Unknown, Outcome::Unknown, None)]
#[case::unknown_update(update(), unknown(), CandidateState::Unknown, Outcome::Unknown, None)]
#[case::unknown_removal(removal(), unknown(), CandidateState::Unknown, Outcome::Unknown, None)]
#[case::rejected_registration(
    registration(),
    rejected(),
    CandidateState::Failed,
    Outcome::NotApplied,
    Some(Vec::new())
)]
#[case::rejected_update(
    update(),
    rejected(),
    CandidateState::Registered,
    Outcome::Applied,
    Some(identities("old@example.com"))
)]
#[case::rejected_removal(
    removal(),
    rejected(),
    CandidateState::Registered,
    Outcome::Applied,
    Some(identities("old@example.com"))
)]
fn a_failed_write_of_a_candidate_shows_what_is_known(
    #[case] write: Write,
    #[case] result: RowResult<VendorReply>,
    #[case] state: CandidateState,
    #[case] outcome: Outcome,
    #[case] identities: Option<Vec<Identity>>,
) {
    let transition = conclude(candidate(), &intent(write, 1), result.clone());
    assert_eq!((transition.identities, transition.erased), (identities, false));
    let error = transition.result.unwrap_err();
    assert_eq!(error, *result.unwrap_err().error);
    let expected = Candidate { state, outcome, problem: Some(Box::new(error)), last_modified: NOW, ..candidate() };
    assert_eq!(Candidate::try_from(transition.record).unwrap(), expected);
}

#[rstest]
#[case::new(1, false, true)]
#[case::existing(1, true, false)]
// Whatever a resend finds was made by an earlier attempt of this write.
#[case::new_by_a_resend(2, false, true)]
#[case::found_by_a_resend(2, true, true)]
fn an_applied_booking_is_assigned(#[case] attempts: u32, #[case] already_there: bool, #[case] created: bool) {
    let transition = conclude(assignment(), &intent(booking(), attempts), Ok(booked(already_there)));
    assert_eq!((transition.identities, transition.erased), (None, false));
    let success = transition.result.unwrap();
    assert_eq!(success.created, created);
    assert_eq!(success.row.result, if created { ItemStatus::Created } else { ItemStatus::Existing });
    let expected = Assignment {
        state: AssignmentState::Assigned,
        outcome: Outcome::Applied,
        problem: None,
        vendor_ref: vendor_ref(),
        launch: Some(launch("https://go.example.com/new")),
        warnings: vec![Warning::new(WarningCode::MailUncertain, "")],
        last_modified: NOW,
        ..assignment()
    };
    let Some(StoredReply::Assignment { created: replied, assignment }) = success.reply else {
        panic!("no reply with an assignment: {:?}", success.reply)
    };
    assert_eq!((replied, *assignment), (created, expected.clone()));
    assert_eq!(Assignment::try_from(transition.record).unwrap(), expected);
}

#[test]
fn an_applied_withdrawal_cancels_the_assignment() {
    let transition = conclude(assignment(), &intent(cancellation(), 1), Ok(WriteSuccess::new(VendorReply::Nothing)));
    assert_eq!((transition.identities, transition.erased), (None, false));
    let success = transition.result.unwrap();
    assert!(matches!(success.reply, Some(StoredReply::Gone)), "{:?}", success.reply);
    let expected = Assignment {
        state: AssignmentState::Cancelled,
        outcome: Outcome::Applied,
        problem: None,
        launch: None,
        last_modified: NOW,
        ..assignment()
    };
    assert_eq!(Assignment::try_from(transition.record).unwrap(), expected);
}

#[rstest]
#[case::unknown_booking(booking(), unknown(), AssignmentState::Unknown, Outcome::Unknown)]
#[case::unknown_withdrawal(cancellation(), unknown(), AssignmentState::Unknown, Outcome::Unknown)]
#[case::rejected_booking(booking(), rejected(), AssignmentState::Failed, Outcome::NotApplied)]
#[case::rejected_withdrawal(cancellation(), rejected(), AssignmentState::Assigned, Outcome::Applied)]
fn a_failed_write_of_an_assignment_shows_what_is_known(
    #[case] write: Write,
    #[case] result: RowResult<VendorReply>,
    #[case] state: AssignmentState,
    #[case] outcome: Outcome,
) {
    let transition = conclude(assignment(), &intent(write, 1), result.clone());
    assert_eq!((transition.identities, transition.erased), (None, false));
    let error = transition.result.unwrap_err();
    assert_eq!(error, *result.unwrap_err().error);
    let expected = Assignment { state, outcome, problem: Some(Box::new(error)), last_modified: NOW, ..assignment() };
    assert_eq!(Assignment::try_from(transition.record).unwrap(), expected);
}

const COUNTS: EnrolmentCounts = EnrolmentCounts {
    employees_registered: 1,
    attempts_registered: 2,
    employees_unregistered: 3,
    attempts_unregistered: 4,
    total_employees_in_program: 5,
};

#[rstest]
#[case::counted(VendorReply::Enrolled(COUNTS), COUNTS, &[WarningCode::MailUncertain])]
// A person said that it was applied; how many it changed is not known.
#[case::settled_by_hand(
    VendorReply::Nothing,
    EnrolmentCounts::default(),
    &[WarningCode::MailUncertain, WarningCode::CountsLowerBound]
)]
fn an_applied_enrolment_is_counted(
    #[case] reply: VendorReply,
    #[case] counts: EnrolmentCounts,
    #[case] warnings: &[WarningCode],
) {
    let transition = conclude(Record::Enrolment(enrolment_id()), &intent(enrolment(), 1), Ok(applied(reply)));
    assert_eq!((transition.identities, transition.erased), (None, false));
    let success = transition.result.unwrap();
    assert!(success.created && success.reply.is_none());
    assert_eq!((success.row.result, success.row.counts), (ItemStatus::Created, Some(counts)));
    assert_eq!(codes(&success.row.warnings), warnings);
}

#[rstest]
#[case::unknown(unknown())]
#[case::rejected(rejected())]
fn a_failed_enrolment_has_only_its_error(#[case] result: RowResult<VendorReply>) {
    let transition = conclude(Record::Enrolment(enrolment_id()), &intent(enrolment(), 1), result.clone());
    assert!(matches!(transition.record, Record::Enrolment(_)));
    assert_eq!(transition.result.unwrap_err(), *result.unwrap_err().error);
}
