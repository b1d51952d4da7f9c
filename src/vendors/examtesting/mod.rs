//! `ExamTesting` (Exam Testing, Inc.): one call, `ManageCandidate.aspx`, that adds a student to a classroom.
//!
//! The vendor documents a single page (<https://www.examtesting.com/api-doc.aspx>), without the format of its
//! responses, the location of its parameters and nearly everything about `update`. Each such gap has a setting, and the
//! adapter treats a response it does not understand as "unknown", never as success or error.
//! It must never use GET: credentials and the student's password are parameters.

mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
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
use self::plan::PlanSettings;
pub use self::settings::{ResponseFormat, Settings};
use self::sign::Credentials;
pub use self::wire::ParamsIn;
use self::wire::{Action, Parameter};
use super::{AdapterContext, SettingError, VendorConnection};
use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, ConnectionRef, Error, FieldError, RejectionScope, VendorResponse};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::secret::{Redactor, Secret};
use crate::transport::{Client, NoSignature, Response, general_error};
use crate::vendors::examtesting::response_parser::{Format, ParsedResponse, Refusal};

/// Capabilities of `ExamTesting`.
pub static DESCRIPTOR: VendorDescriptor = VendorDescriptor {
    kind: "examtesting",
    name: "ExamTesting",
    documentation: "https://www.examtesting.com/api-doc.aspx",
    identities: &[IdentityKind::ExternalId, IdentityKind::UserName],
    clock_tolerance: None,
    capabilities: [
        Capability {
            kind: WriteKind::CandidatesCreate,
            supported: true,
            required: &["/email", "/group"],
            ignored: &plan::IGNORED,
            max_batch: 1,
            retry_safety: RetrySafety::ConflictConfirms,
            per_item_outcome: true,
            read_back: false,
            note: "The group must exist at the vendor (default: the connection's default_group); it decides which \
                   exams the candidate gets. A formatted name without its parts is sent whole as the last name. Values \
                   are limited to 100 characters and must not contain \"<\" or \"&#\". If the caller chose the \
                   userName, a retry rejected because the name is taken proves nothing, and the write stays unknown.",
        },
        Capability {
            kind: WriteKind::CandidatesUpdate,
            supported: true,
            required: &["/email", "/group", "/userName"],
            ignored: &plan::IGNORED,
            max_batch: 1,
            retry_safety: RetrySafety::Idempotent,
            per_item_outcome: true,
            read_back: false,
            note: "Only on connections with update_enabled: the vendor names this action and documents nothing else \
                   about it. We assume that stusID, as returned at registration, identifies the student and that an \
                   empty value clears a field. No password is sent; whether the vendor requires one is unknown.",
        },
        Capability::unsupported(
            WriteKind::CandidatesDelete,
            "ExamTesting does not document a way to remove or hide a student.",
        ),
        Capability::unsupported(WriteKind::AssignmentsCreate, NO_ASSIGNMENTS),
        Capability::unsupported(WriteKind::AssignmentsCancel, NO_ASSIGNMENTS),
        Capability::unsupported(WriteKind::ProgramsEmployees, "ExamTesting does not document programs."),
    ],
};

const NO_ASSIGNMENTS: &str = "ExamTesting does not document a way to book an exam: a student gets the group's exams.";
const CREATE: &str = WriteKind::CandidatesCreate.as_str();
const UPDATE: &str = WriteKind::CandidatesUpdate.as_str();
/// Builds the adapter. Reads secrets but opens no connection.
///
/// # Errors
/// Every invalid setting.
pub fn connect(settings: Settings, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
    let settings = settings.checked(setup)?;
    let name = ConnectionRef { connection: setup.name.to_owned(), vendor: DESCRIPTOR.kind.to_owned() };
    let secrets = Redactor::new([&settings.api_key, &settings.api_pass]);
    let client = Client::new(name.clone(), &settings.base_url, setup.connection, secrets, setup.environment.clone())
        .map_err(|error| vec![SettingError { key: "base_url".to_owned(), detail: error.to_string() }])?;
    let account = settings.institution_id.clone();
    let vendor = ExamTesting {
        client: client.clone(),
        name,
        credentials: Credentials {
            institution_id: settings.institution_id,
            api_key: settings.api_key,
            api_pass: settings.api_pass,
        },
        params_in: settings.params_in,
        format: settings.format,
        rules: PlanSettings { send_student_id: settings.send_student_id, default_group: settings.default_group },
        update_enabled: settings.update_enabled,
    };
    Ok(VendorConnection { vendor: Arc::new(vendor), client, account })
}

struct ExamTesting {
    client: Client,
    name: ConnectionRef,
    credentials: Credentials,
    params_in: ParamsIn,
    format: Format,
    rules: PlanSettings,
    update_enabled: bool,
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
        plan::registration(&self.rules, id, new, environment)
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        if !self.update_enabled {
            return Err(vec![FieldError::unsupported("", "updates are disabled for this connection (update_enabled)")]);
        }
        plan::update(&self.rules, candidate, touched)
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
        let Some(id) = plan::vendor_id(&update.candidate).filter(|_| self.update_enabled) else {
            // Since planning, updates were disabled or the id was lost.
            return Err(
                self.unsupported(UPDATE, "Updates are disabled for this connection, or the vendor's id is unknown.")
            );
        };
        let asked = RequestKind { action: Action::Update, attempt: call.purpose, own_user_name: false };
        let parameters = wire::parameters(&update.candidate.person, Some(id), None);
        let sent = parameters.iter().filter_map(|parameter| match parameter.value {
            Some(value) => Some((parameter.name, value)),
            // If omitted, a field that the caller cleared would keep its value.
            None => touches(&update.touched, parameter).then_some((parameter.name, "")),
        });
        match self.ask(asked, sent.collect(), None, call).await?.value {
            Some(answered) if answered != id => {
                let fault = Error::unknown(Code::VendorBadResponse, "The vendor's response is about another student.");
                Err(self.finished(fault, UPDATE, asked))
            }
            _ => Ok(WriteSuccess::new(registered(Some(id.to_owned())))),
        }
    }

    async fn hide(&self, _candidate: &CandidateSnapshot, _call: &CallContext) -> RowResult<()> {
        Err(self.unsupported("candidates.delete", "ExamTesting does not document a way to remove or hide a student."))
    }

    async fn assign(&self, rows: &[Booking], _call: &CallContext) -> Vec<RowResult<Booked>> {
        vec![Err(self.unsupported("assignments.create", NO_ASSIGNMENTS)); rows.len()]
    }

    async fn cancel(&self, _cancellation: &Cancellation, _call: &CallContext) -> RowResult<()> {
        Err(self.unsupported("assignments.cancel", NO_ASSIGNMENTS))
    }

    async fn enrol(&self, _enrolment: &EnrolmentBatch, _call: &CallContext) -> RowResult<EnrolmentCounts> {
        Err(self.unsupported("programs.employees", "ExamTesting does not document programs."))
    }

    async fn check(&self, _call: &CallContext) -> CredentialCheck {
        let detail = "The only documented call adds students, so nothing was checked.";
        CredentialCheck::Unchecked { detail: detail.to_owned() }
    }
}

impl ExamTesting {
    async fn add(&self, row: &Registration, call: &CallContext) -> RowResult<Registered> {
        let asked = RequestKind { action: Action::Add, attempt: call.purpose, own_user_name: row.own_user_name };
        let student_id = plan::student_id(&self.rules, &row.person);
        let parameters = wire::parameters(&row.person, student_id, row.password.as_ref());
        let sent = parameters.iter().filter_map(|parameter| Some((parameter.name, parameter.value?))).collect();
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
        let parameters = sign::signed(&self.credentials, parameters);
        let request = wire::request(operation, asked.action, &parameters, self.params_in);
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
    ) -> Result<Option<String>, Box<Error>> {
        let reading = self.format.read(&answer.body);
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
            ParsedResponse::Unclear { why, .. } => {
                Error::unknown(Code::VendorBadResponse, format!("The vendor's response cannot be interpreted: {why}."))
            }
        };
        let http_status = Some(answer.status.as_u16());
        Err(Box::new(fault.with_vendor_response(VendorResponse {
            operation: operation.to_owned(),
            http_status,
            code,
            message,
        })))
    }

    /// Completes the error of a call. A failed retry shows nothing about the attempt before it, unless its error is
    /// proof.
    fn finished(&self, mut fault: Error, operation: &'static str, asked: RequestKind) -> Error {
        fault.connection.get_or_insert_with(|| self.name.clone());
        fault
            .vendor
            .get_or_insert_with(|| VendorResponse { operation: operation.to_owned(), ..VendorResponse::default() });
        if asked.attempt == CallPurpose::Reconcile && !fault.proof { fault.with_unknown_outcome() } else { fault }
    }

    fn unsupported(&self, operation: &str, detail: &str) -> Error {
        let fault = Error::new(Code::CapabilityUnsupported, detail)
            .with_vendor_response(VendorResponse { operation: operation.to_owned(), ..VendorResponse::default() });
        Error { connection: Some(self.name.clone()), ..fault }
    }
}

/// Returns whether the error in the body decides, rather than the HTTP status. The vendor documents no status, so a
/// published error counts with any 4xx but 429; with a redirect or a 5xx, the program may have failed after it wrote
/// the text.
fn decisive(refusal: &Refusal, answer: &Response) -> bool {
    let published = error::published(refusal).is_some();
    answer.status.is_success()
        || answer.status.is_client_error() && answer.status != http::StatusCode::TOO_MANY_REQUESTS && published
}

/// Returns the error of a status that means "nothing was done" with a text that reports SUCCESS.
fn contradiction_error(fault: Error) -> Error {
    let detail = format!("The vendor's response reports SUCCESS, but its status does not. {}", fault.detail);
    Error { code: Code::VendorBadResponse, outcome: Outcome::Unknown, reach: RejectionScope::Row, detail, ..fault }
        .with_retry_after(None)
}

fn touches(touched: &[String], parameter: &Parameter<'_>) -> bool {
    let is_below = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    touched.iter().any(|pointer| {
        *pointer == parameter.pointer || is_below(&parameter.pointer, pointer) || is_below(pointer, &parameter.pointer)
    })
}

fn registered(id: Option<String>) -> Registered {
    let vendor_ref: Map<String, Value> = id.into_iter().map(|id| ("id".to_owned(), Value::String(id))).collect();
    Registered { vendor_ref, private: BTreeMap::new() }
}
