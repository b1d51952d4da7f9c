//! `StartExam` (`https://api.startexam.com`): employees by the customer's own id, bookings that return a participant
//! id, programs. Requests are signed with `SharedKey`; every body is serialised once, so that the signed length is the
//! length sent.
//!
//! Sessions are read as reports of attempts (`report_source`, `results`).
//!
//! The vendor has no idempotency keys and offers no way to read a write back, so the adapter must never read more into
//! a response than it states; see `wire::by_row` and `error::response_error`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde_json::Map;

use super::{AdapterContext, SettingError, VendorConnection, json_length, supported};
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, ResultCapability, ResultSource, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::program::{AssessmentScope, EnrolmentCounts, ProgramRef};
use crate::domain::results::ReportSource;
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::domain::vendor_error::VendorError;
use crate::transport::Client;
use crate::vendors::startexam::client::{flagged, misuse};
use crate::vendors::startexam::report_source::SessionSource;
use crate::vendors::startexam::settings::Account;

mod client;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod guid;
mod plan;
mod report_source;
pub mod results;
mod settings;
mod sign;
#[cfg(test)]
mod tests;
mod wire;

pub use settings::{ExistingRegistration, ProfileFields, Settings};

/// Maximum rows in one call: documented for bookings and for each list of a program, assumed for employees.
const MAX_ROWS: usize = 500;

/// Capabilities of `StartExam`.
pub static DESCRIPTOR: VendorDescriptor = VendorDescriptor {
    kind: "startexam",
    name: "StartExam",
    documentation: "https://api.startexam.com",
    identities: &[IdentityKind::ExternalId],
    // Vendor page `/Help/Authorization`: the vendor rejects a Date older than 15 minutes.
    clock_tolerance: Some(Duration::from_mins(15)),
    capabilities: [
        Capability {
            required: &["/externalId"],
            ignored: &["/userName", "/password", "/group", "/birthDate", "/gender", "/photo"],
            max_batch: MAX_ROWS,
            note: "Adds or updates by externalId. Name, e-mail, phone numbers and address are sent to the profile \
                   fields that the connection names, and ignored if it names none; custom fields are sent to the \
                   profile field of the same name.",
            ..supported(WriteKind::CandidatesCreate)
        },
        Capability {
            ignored: &["/userName", "/password", "/group", "/birthDate", "/gender", "/photo"],
            note: "Sends the whole person again; externalId cannot be changed.",
            ..supported(WriteKind::CandidatesUpdate)
        },
        Capability {
            note: "Hides the employee; StartExam does not support deletion.",
            ..supported(WriteKind::CandidatesDelete)
        },
        Capability {
            required: &["/candidate", "/assessment"],
            max_batch: MAX_ROWS,
            retry_safety: RetrySafety::IdempotentWithFlag,
            per_item_outcome: true,
            note: "StartExam sends no mail and has no passwords. Rows with ifExists reuse share a call only if the \
                   connection is configured with StartExam's response for existing registrations \
                   (existing_registration). An unknown write with create_new or fail is retried only if the gateway \
                   makes all bookings of the account (bookings_only_here) and knows of no earlier booking.",
            ..supported(WriteKind::AssignmentsCreate)
        },
        Capability::unsupported(
            WriteKind::AssignmentsUpdate,
            "StartExam does not document a way to change a registration; ifExists create_new makes another one.",
        ),
        Capability::unsupported(
            WriteKind::AssignmentsCancel,
            "StartExam does not document a way to withdraw a registration.",
        ),
        Capability {
            required: &["/scope"],
            max_batch: MAX_ROWS,
            note: "StartExam returns only counts. After an unknown write was retried, they are a lower bound.",
            ..supported(WriteKind::ProgramsEmployees)
        },
    ],
    results: ResultCapability {
        source: ResultSource::Feed,
        in_progress: true,
        corrections: true,
        attempt_times: true,
        parts: true,
        refresh: true,
        note: "StartExam lists sessions that were modified, and reports one on request. It reports when a session started \
               and how long it took, but not when it ended. The gateway reads them if results.mode is \"feed\".",
    },
};

/// Builds the adapter. Reads the secret but opens no connection.
///
/// # Errors
/// Every invalid setting.
pub fn connect(settings: Settings, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
    let account = settings.checked(setup)?;
    let client = setup.client(DESCRIPTOR.kind, &account.base_url, account.redactor.clone())?;
    let account = Arc::new(account);
    let results =
        account.results.clone().map(|results| SessionSource::new(client.clone(), Arc::clone(&account), results));
    let batch = match setup.connection.batch_size {
        0 => MAX_ROWS,
        size => size.min(MAX_ROWS),
    };
    let number = account.number.to_string();
    let vendor = Arc::new(StartExam { client: client.clone(), account, batch, results });
    Ok(VendorConnection { vendor, client, account: number })
}

struct StartExam {
    client: Client,
    account: Arc<Account>,
    batch: usize,
    results: Option<SessionSource>,
}

#[async_trait]
impl Vendor for StartExam {
    fn descriptor(&self) -> &'static VendorDescriptor {
        &DESCRIPTOR
    }

    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        _environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>> {
        plan::registration(&self.account.fields, id, new)
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        plan::update(&self.account.fields, candidate, touched)
    }

    fn assessment_ref(&self, text: &str) -> Option<String> {
        guid::guid(text)
    }

    fn program_ref(&self, text: &str) -> Option<ProgramRef> {
        plan::program_ref(text)
    }

    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError> {
        plan::candidate_key(key, person)
    }

    fn plan_assignment(
        &self,
        id: &AssignmentId,
        order: &NewAssignment,
        candidate: VendorKey,
        private: BTreeMap<String, String>,
        assessment: String,
        now: Timestamp,
    ) -> Result<Plan<Booking>, Vec<FieldError>> {
        let (from, until) = plan::order(order, now)?;
        let write = Booking {
            id: id.clone(),
            candidate,
            private,
            assessment,
            center: Some(order.center.clone().unwrap_or_else(|| self.account.center.clone())),
            valid_from: Some(from),
            valid_until: Some(until),
            notify: order.notify,
            passwordless: order.passwordless,
            proctoring: order.proctoring.clone(),
            if_exists: order.if_exists,
            // Only the store knows; the service sets this before it sends the booking.
            first_booking: false,
        };
        Ok(Plan { write, warnings: Vec::new() })
    }

    fn registration_batch(&self, registration: &Registration) -> BatchGroup {
        let person = &registration.person;
        let id = person.external_id.as_deref().unwrap_or_default();
        let bytes = json_length(&self.employee(id, person, person.is_active(), &[])) + 1;
        // Employees of one call share only the profile, which belongs to the connection.
        BatchGroup::Keyed { key: "employees".to_owned(), at_most: self.batch, bytes }
    }

    fn reconcile_batch(&self, registration: &Registration) -> BatchGroup {
        // Employees are upserted by id, so a retry is the same call.
        self.registration_batch(registration)
    }

    fn booking_batch(&self, booking: &Booking) -> BatchGroup {
        let flagged = flagged(booking, CallPurpose::Initial);
        match self.at_most(flagged, CallPurpose::Initial) {
            1 => BatchGroup::Single,
            at_most => {
                let bytes = json_length(&wire::EmployeeId { id: &booking.candidate.0 }) + 1;
                BatchGroup::Keyed { key: self.shared(booking, flagged), at_most, bytes }
            }
        }
    }

    fn registration_retry_safety(&self, _registration: &Registration) -> RetrySafety {
        RetrySafety::Idempotent
    }

    fn booking_retry_safety(&self, booking: &Booking) -> RetrySafety {
        // With the flag, a retry finds any earlier registration for the same centre and test, not only ours. The
        // gateway's store can rule out other bookings only if no other system books at this account.
        let only_ours = booking.first_booking && self.account.bookings_only_here;
        if booking.if_exists == IfAssignmentExists::Reuse || only_ours {
            RetrySafety::IdempotentWithFlag
        } else {
            RetrySafety::Unsafe
        }
    }

    fn rebooks_expired(&self) -> bool {
        self.account.rebook_expired
    }

    async fn register(&self, rows: &[Registration], call: &CallContext) -> Vec<RowResult<Registered>> {
        let employees: Option<Vec<_>> = rows
            .iter()
            .map(|row| {
                let id = row.person.external_id.as_deref()?;
                Some(self.employee(id, &row.person, row.person.is_active(), &[]))
            })
            .collect();
        let done = match employees {
            Some(employees) => self.sync(WriteKind::CandidatesCreate, employees, call).await,
            None => Err(missing_id_error()),
        };
        let value = |row: &Registration| registered(row.person.external_id.as_deref().unwrap_or_default());
        match done {
            Ok(()) => rows.iter().map(value).map(WriteSuccess::new).map(Ok).collect(),
            Err(fault) => vec![Err(fault); rows.len()],
        }
    }

    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered> {
        let Update { candidate, touched } = update;
        let id = employee_id(candidate).ok_or_else(missing_id_error)?;
        let employee = self.employee(id, &candidate.person, candidate.person.is_active(), touched);
        self.sync(WriteKind::CandidatesUpdate, vec![employee], call).await?;
        Ok(WriteSuccess::new(registered(id)))
    }

    async fn hide(&self, candidate: &CandidateSnapshot, call: &CallContext) -> RowResult<()> {
        let id = employee_id(candidate).ok_or_else(missing_id_error)?;
        let employee = self.employee(id, &candidate.person, false, &[]);
        self.sync(WriteKind::CandidatesDelete, vec![employee], call).await?;
        Ok(WriteSuccess::new(()))
    }

    async fn assign(&self, rows: &[Booking], call: &CallContext) -> Vec<RowResult<Booked>> {
        let Some(first) = rows.first() else { return Vec::new() };
        let flagged = flagged(first, call.purpose);
        match self.book(first, rows, flagged, call).await {
            Ok(ids) => rows.iter().zip(ids).map(|(row, id)| self.booked(row, id.as_deref())).map(Ok).collect(),
            Err(fault) => vec![Err(fault); rows.len()],
        }
    }

    async fn cancel(&self, _cancellation: &Cancellation, _call: &CallContext) -> RowResult<()> {
        Err(VendorError::new(
            Code::CapabilityUnsupported,
            "StartExam does not document a way to withdraw a registration.",
        ))
    }

    async fn enrol(&self, enrolment: &EnrolmentBatch, call: &CallContext) -> RowResult<EnrolmentCounts> {
        const OPERATION: &str = WriteKind::ProgramsEmployees.as_str();
        let EnrolmentBatch { program, enrolment } = enrolment;
        if enrolment.register.len().max(enrolment.unregister.len()) > MAX_ROWS {
            return Err(misuse("more employees than StartExam accepts"));
        }
        let (program_id, program_external_id) = match program {
            ProgramRef::Id(id) => (Some(id.as_str()), None),
            ProgramRef::External(id) => (None, Some(id.as_str())),
        };
        let (module_tests_scope, module_tests) = match &enrolment.scope {
            AssessmentScope::All => ("all", None),
            AssessmentScope::Selected(assessments) => ("selected", Some(assessments.as_slice())),
        };
        let body = wire::ProgramEmployees {
            program_id,
            program_external_id,
            module_tests_scope,
            module_tests,
            register_employees: &enrolment.register,
            unregister_employees: &enrolment.unregister,
        };
        let answer = self.post(OPERATION, "/v1/program/employees", &body, 1, call).await?;
        let unreadable = || error::unreadable(&self.client, OPERATION, &answer, "StartExam returned no counts.", 1);
        let counts = wire::counts(&answer.body).ok_or_else(unreadable)?;
        let lower_bound = (call.purpose == CallPurpose::Reconcile).then(|| {
            let detail = "The call was retried; changes that an earlier attempt had already made are not counted.";
            Warning::new(WarningCode::CountsLowerBound, detail)
        });
        Ok(WriteSuccess { value: counts, warnings: lower_bound.into_iter().collect() })
    }

    fn report_source(&self) -> Option<&dyn ReportSource> {
        self.results.as_ref().map(|source| source as &dyn ReportSource)
    }

    async fn check(&self, call: &CallContext) -> CredentialCheck {
        const OPERATION: &str = "connections.check";
        let path = "/v1/tests?type=test&status=active";
        match self.send(OPERATION, Method::GET, path, Bytes::new(), 1, call).await {
            Ok(answer) if wire::is_test_list(&answer.body) => {
                CredentialCheck::Ok { detail: "StartExam listed the account's tests.".to_owned() }
            }
            Ok(answer) => {
                let detail = "StartExam's response is not a list of tests; check base_url.";
                CredentialCheck::Faulty(error::unreadable(&self.client, OPERATION, &answer, detail, 1))
            }
            Err(fault) => CredentialCheck::Faulty(fault),
        }
    }
}

fn employee_id(candidate: &CandidateSnapshot) -> Option<&str> {
    let known_as = candidate.vendor_ref.get("id").and_then(serde_json::Value::as_str);
    known_as.or(candidate.person.external_id.as_deref())
}

fn missing_id_error() -> VendorError {
    misuse("a person without an externalId")
}

fn registered(id: &str) -> Registered {
    Registered { vendor_ref: Map::from_iter([("id".to_owned(), id.into())]), private: BTreeMap::new() }
}
