//! `ExamTesting` (Exam Testing, Inc.): one call, `ManageCandidate.aspx`, that adds a student to a classroom.
//!
//! The vendor documents a single page (<https://www.examtesting.com/api-doc.aspx>), without the format of its
//! responses, the location of its parameters and nearly everything about `update`. Each such gap has a setting, and the
//! adapter treats a response it does not understand as "unknown", never as success or error.
//! It must never use GET: credentials and the student's password are parameters.

mod documented_codes;
mod error;
mod error_text;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod parsed_response;
mod plan;
mod response_fields;
mod response_parser;
mod settings;
mod sign;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::error::{Mapping, RequestKind};
use self::settings::Checked;
pub use self::settings::{ResponseFormat, Settings};
use self::sign::Credentials;
use self::wire::Action;
pub use self::wire::ParamsIn;
use super::{AdapterContext, SettingError, VendorConnection, is_touched, supported};
use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, ResultCapability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::domain::vendor_error::{RejectionScope, VendorError};
use crate::secret::{Redactor, Secret};
use crate::transport::{Client, NoSignature, Response, general_error};
use crate::vendors::examtesting::parsed_response::{ParsedResponse, Refusal};

/// Capabilities of `ExamTesting`.
pub static DESCRIPTOR: VendorDescriptor = VendorDescriptor {
    kind: "examtesting",
    name: "ExamTesting",
    documentation: "https://www.examtesting.com/api-doc.aspx",
    identities: &[IdentityKind::ExternalId, IdentityKind::UserName],
    clock_tolerance: None,
    capabilities: [
        Capability {
            required: &["/email", "/group"],
            ignored: &plan::IGNORED,
            retry_safety: RetrySafety::ConflictConfirms,
            per_item_outcome: true,
            note: "The group must exist at the vendor (default: the connection's default_group); it decides which \
                   exams the candidate gets. A formatted name without its parts is sent whole as the last name. Values \
                   are limited to 100 characters and must not contain \"<\" or \"&#\". If the caller chose the \
                   userName, a retry rejected because the name is taken proves nothing, and the write stays unknown.",
            ..supported(WriteKind::CandidatesCreate)
        },
        Capability {
            required: &["/email", "/group", "/userName"],
            ignored: &plan::IGNORED,
            per_item_outcome: true,
            note: "Only on connections with update_enabled: the vendor names this action and documents nothing else \
                   about it. We assume that stusID, as returned at registration, identifies the student and that an \
                   empty value clears a field. No password is sent; whether the vendor requires one is unknown.",
            ..supported(WriteKind::CandidatesUpdate)
        },
        Capability::unsupported(WriteKind::CandidatesDelete, NO_REMOVAL),
        Capability::unsupported(WriteKind::AssignmentsCreate, NO_ASSIGNMENTS),
        Capability::unsupported(WriteKind::AssignmentsUpdate, NO_ASSIGNMENTS),
        Capability::unsupported(WriteKind::AssignmentsCancel, NO_ASSIGNMENTS),
        Capability::unsupported(WriteKind::ProgramsEmployees, NO_PROGRAMS),
    ],
    results: ResultCapability::unsupported("ExamTesting does not document a way to read results."),
};

const NO_REMOVAL: &str = "ExamTesting does not document a way to remove or hide a student.";
const NO_PROGRAMS: &str = "ExamTesting does not document programs.";
const NO_ASSIGNMENTS: &str = "ExamTesting does not document a way to book an exam: a student gets the group's exams.";
const CREATE: &str = WriteKind::CandidatesCreate.as_str();
const UPDATE: &str = WriteKind::CandidatesUpdate.as_str();

/// Builds the adapter. Reads secrets but opens no connection.
///
/// # Errors
/// Every invalid setting.
pub fn connect(settings: Settings, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
    let settings = settings.checked(setup)?;
    let Credentials { institution_id, api_key, api_pass } = &settings.credentials;
    let client = setup.client(DESCRIPTOR.kind, &settings.base_url, Redactor::new([api_key, api_pass]))?;
    let account = institution_id.clone();
    let vendor = Arc::new(ExamTesting { client: client.clone(), settings });
    Ok(VendorConnection { vendor, client, account })
}

struct ExamTesting {
    client: Client,
    settings: Checked,
}

#[async_trait]
impl Vendor for ExamTesting {
    fn descriptor(&self) -> &'static VendorDescriptor {
        &DESCRIPTOR
    }

    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>> {
        plan::registration(&self.settings.rules, id, new, environment)
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        if !self.settings.update_enabled {
            return Err(vec![FieldError::unsupported("", "updates are disabled for this connection (update_enabled)")]);
        }
        plan::update(&self.settings.rules, candidate, touched)
    }

    fn assessment_ref(&self, _text: &str) -> Option<String> {
        None
    }

    fn program_ref(&self, _text: &str) -> Option<ProgramRef> {
        None
    }

    fn candidate_key(&self, _key: &CandidateKey, _person: Option<&Person>) -> Result<VendorKey, FieldError> {
        Err(FieldError::unsupported("/candidate", NO_ASSIGNMENTS))
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
        Err(vec![FieldError::unsupported("/assessment", NO_ASSIGNMENTS)])
    }

    fn registration_batch(&self, _registration: &Registration) -> BatchGroup {
        BatchGroup::Single
    }

    fn reconcile_batch(&self, _registration: &Registration) -> BatchGroup {
        BatchGroup::Single
    }

    fn booking_batch(&self, _booking: &Booking) -> BatchGroup {
        BatchGroup::Single
    }

    fn registration_retry_safety(&self, _registration: &Registration) -> RetrySafety {
        // With a user name from the caller, only a success is proof; the retry itself is equally safe.
        RetrySafety::ConflictConfirms
    }

    fn booking_retry_safety(&self, _booking: &Booking) -> RetrySafety {
        RetrySafety::Unsafe
    }

    fn rebooks_expired(&self) -> bool {
        false
    }

    async fn register(&self, rows: &[Registration], call: &CallContext) -> Vec<RowResult<Registered>> {
        let mut results = Vec::with_capacity(rows.len());
        for row in rows {
            results.push(self.add(row, call).await);
        }
        results
    }

    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered> {
        let Some(id) = plan::vendor_id(&update.candidate).filter(|_| self.settings.update_enabled) else {
            // Since planning, updates were disabled or the id was lost.
            let detail = "Updates are disabled for this connection, or the vendor's id is unknown.";
            return Err(self.unsupported(WriteKind::CandidatesUpdate, detail));
        };
        let asked = RequestKind { action: Action::Update, attempt: call.purpose, own_user_name: false };
        let parameters = wire::parameters(&update.candidate.person, Some(id), None);
        let sent = parameters.iter().filter_map(|parameter| match &parameter.value {
            Some(value) => Some((parameter.name, &**value)),
            // If omitted, a field that the caller cleared would keep its value.
            None => is_touched(&update.touched, &parameter.pointer).then_some((parameter.name, "")),
        });
        match self.ask(asked, sent.collect(), None, call).await?.value {
            Some(answered) if answered != id => {
                let fault =
                    VendorError::unknown(Code::VendorBadResponse, "The vendor's response is about another student.");
                Err(self.finished(fault, UPDATE, asked))
            }
            _ => Ok(WriteSuccess::new(registered(Some(id.to_owned())))),
        }
    }

    async fn hide(&self, _candidate: &CandidateSnapshot, _call: &CallContext) -> RowResult<()> {
        Err(self.unsupported(WriteKind::CandidatesDelete, NO_REMOVAL))
    }

    async fn assign(&self, rows: &[Booking], _call: &CallContext) -> Vec<RowResult<Booked>> {
        vec![Err(self.unsupported(WriteKind::AssignmentsCreate, NO_ASSIGNMENTS)); rows.len()]
    }

    async fn cancel(&self, _cancellation: &Cancellation, _call: &CallContext) -> RowResult<()> {
        Err(self.unsupported(WriteKind::AssignmentsCancel, NO_ASSIGNMENTS))
    }

    async fn enrol(&self, _enrolment: &EnrolmentBatch, _call: &CallContext) -> RowResult<EnrolmentCounts> {
        Err(self.unsupported(WriteKind::ProgramsEmployees, NO_PROGRAMS))
    }

    fn report_source(&self) -> Option<&dyn crate::domain::results::ReportSource> {
        None
    }

    async fn check(&self, _call: &CallContext) -> CredentialCheck {
        let detail = "The only documented call adds students, so nothing was checked.";
        CredentialCheck::Unchecked { detail: detail.to_owned() }
    }
}

impl ExamTesting {
    async fn add(&self, row: &Registration, call: &CallContext) -> RowResult<Registered> {
        let asked = RequestKind { action: Action::Add, attempt: call.purpose, own_user_name: row.own_user_name };
        let student_id = plan::student_id(&self.settings.rules, &row.person);
        let parameters = wire::parameters(&row.person, student_id, row.password.as_ref());
        let sent =
            parameters.iter().filter_map(|parameter| Some((parameter.name, parameter.value.as_deref()?))).collect();
        let WriteSuccess { value: id, mut warnings } = self.ask(asked, sent, row.password.as_ref(), call).await?;
        if id.is_none() {
            let detail = "The vendor registered the candidate but did not return an id.";
            warnings.push(Warning::new(WarningCode::VendorIdMissing, detail));
        }
        Ok(WriteSuccess { value: registered(id), warnings })
    }

    /// Sends one call and returns the vendor's id, if the response contains one.
    async fn ask(
        &self,
        asked: RequestKind,
        parameters: Vec<(&'static str, &str)>,
        password: Option<&Secret>,
        call: &CallContext,
    ) -> RowResult<Option<String>> {
        let operation = if asked.action == Action::Add { CREATE } else { UPDATE };
        let parameters = sign::signed(&self.settings.credentials, parameters);
        let request = wire::request(operation, asked.action, &parameters, self.settings.params_in);
        let ended = match self.client.send(request, &NoSignature, call).await {
            Ok(answer) => self.read(&answer, asked, operation, password),
            Err(fault) => Err(Box::new(fault)),
        };
        ended.map(WriteSuccess::new).map_err(|fault| self.finished(*fault, operation, asked))
    }

    fn read(
        &self,
        answer: &Response,
        asked: RequestKind,
        operation: &'static str,
        password: Option<&Secret>,
    ) -> Result<Option<String>, Box<VendorError>> {
        let reading = self.settings.format.read(&answer.body);
        let (code, text) = match &reading {
            ParsedResponse::Success { .. } => (None, ""),
            ParsedResponse::Refused(Refusal { code, message }) => (code.as_deref(), message.as_str()),
            ParsedResponse::Unclear { text, .. } => (None, text.as_str()),
        };
        let clean = |text: &str| Some(self.client.clean(text, password)).filter(|text| !text.is_empty());
        let (code, message) = (code.and_then(clean), clean(text));
        let refused = matches!(&reading, ParsedResponse::Refused(refusal) if decisive(refusal, answer));
        if !refused
            && let Some(fault) = general_error(&self.client, operation, answer, code.as_deref(), message.as_deref())
        {
            let contradiction =
                matches!(reading, ParsedResponse::Success { .. }) && fault.outcome == Outcome::NotApplied;
            return Err(Box::new(if contradiction { contradiction_error(fault) } else { fault }));
        }
        let fault = match reading {
            ParsedResponse::Success { id } => return Ok(id),
            ParsedResponse::Refused(refusal) => match error::meaning(&refusal, asked) {
                Mapping::DoneBefore => return Ok(None),
                Mapping::Fault(fault) => *fault,
            },
            ParsedResponse::Unclear { why, .. } => VendorError::unknown(
                Code::VendorBadResponse,
                format!("The vendor's response cannot be interpreted: {why}."),
            ),
        };
        Err(Box::new(fault.with_vendor_response(answer.describe(operation, code, message))))
    }

    /// Completes the error of a call. A failed retry shows nothing about the attempt before it, unless its error is
    /// proof.
    fn finished(&self, error: VendorError, operation: &'static str, asked: RequestKind) -> VendorError {
        let error = self.client.error(operation, error);
        if asked.attempt == CallPurpose::Reconcile && !error.proves_no_effect {
            error.with_unknown_outcome()
        } else {
            error
        }
    }

    fn unsupported(&self, kind: WriteKind, detail: &str) -> VendorError {
        self.client.error(kind.as_str(), VendorError::new(Code::CapabilityUnsupported, detail))
    }
}

/// Returns whether the error in the body decides, rather than the HTTP status. The vendor documents no status, so a
/// published error counts with any 4xx but 429; with a redirect or a 5xx, the program may have failed after it wrote
/// the text.
fn decisive(refusal: &Refusal, answer: &Response) -> bool {
    let published = documented_codes::published(refusal).is_some();
    answer.status.is_success()
        || answer.status.is_client_error() && answer.status != http::StatusCode::TOO_MANY_REQUESTS && published
}

/// Returns the error of a status that means "nothing was done" with a text that reports SUCCESS.
fn contradiction_error(fault: VendorError) -> VendorError {
    let detail = format!("The vendor's response reports SUCCESS, but its status does not. {}", fault.detail);
    let fault = fault.map(|error| Error { code: Code::VendorBadResponse, outcome: Outcome::Unknown, detail, ..error });
    VendorError { scope: RejectionScope::Row, ..fault }.with_retry_after(None)
}

fn registered(id: Option<String>) -> Registered {
    let vendor_ref: Map<String, Value> = id.into_iter().map(|id| ("id".to_owned(), Value::String(id))).collect();
    Registered { vendor_ref, private: BTreeMap::new() }
}
