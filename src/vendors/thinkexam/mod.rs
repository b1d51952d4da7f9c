//! `ThinkExam` (Ginger Webs): registers candidates by e-mail, assigns tests to them and withdraws tests, over the
//! vendor's signed calls (`ak`, `sgn`, `ts`).
//!
//! It must never send a password for a person the vendor already knows, decide by the wording of a success, or treat a
//! response without a result as one. Undocumented behaviour is either a setting or leaves the write `unknown`.
//!
//! A registration is "register or log in", so sending it again is harmless. A retry that reconciles an unfinished first
//! registration carries the same password: the first attempt may never have arrived, and without the password the
//! person would get one that no party knows. The vendor does not document whether a password sent for a known person
//! overwrites theirs; here it can only be the same one. An update never carries a password.

mod client;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod plan;
mod report_source;
pub mod results;
mod settings;
mod sign;
mod signature_provider;
mod template;
#[cfg(test)]
mod tests;
mod validate;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

pub use self::settings::{Algorithm, Encoding, Mode, PasswordEncoding, Settings, SignatureSettings, TimeStamp};
pub use self::template::Template;
use self::wire::{DeassignBody, RegistrationRow};
use super::{AdapterContext, SettingError, VendorConnection, json_length, supported};
use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, ResultCapability, ResultSource, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::results::ReportSource;
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::transport::Client;
use crate::vendors::thinkexam::report_source::WebhookSource;
use crate::vendors::thinkexam::signature_provider::{RemoteProvider, SignatureProvider};
use crate::vendors::thinkexam::validate::Signature;

const DEASSIGN: &str = "/api/v1/deassignTest";

/// Default maximum of rows in one call. The vendor publishes no limit; this is a cautious choice, and `batch_size`
/// replaces it.
const BATCH: usize = 50;

/// Capabilities of `ThinkExam`.
pub static DESCRIPTOR: VendorDescriptor = VendorDescriptor {
    kind: "thinkexam",
    name: "ThinkExam",
    documentation: "https://support.thinkexam.com/portal/en/kb",
    identities: &[IdentityKind::ExternalId, IdentityKind::Email],
    // The vendor documents neither the meaning of `ts` nor how old it may be.
    clock_tolerance: None,
    capabilities: [
        Capability {
            required: &["/name", "/email"],
            ignored: &["/userName", "/address"],
            max_batch: BATCH,
            per_item_outcome: true,
            note: "Registers or logs in. Only extra1, extra2 and extra3 of custom and only the mobile number of \
                   phoneNumbers are sent. Rows without externalId are sent one per call, because the response \
                   identifies rows only by enrolment number. The vendor publishes no batch limit; the gateway sends at \
                   most 50 rows per call unless batch_size is set.",
            ..supported(WriteKind::CandidatesCreate)
        },
        Capability {
            per_item_outcome: true,
            note: "Only group can change: the person joins the new group and stays in earlier ones.",
            ..supported(WriteKind::CandidatesUpdate)
        },
        Capability::unsupported(WriteKind::CandidatesDelete, "ThinkExam has no call that hides a person."),
        Capability {
            required: &["/candidate", "/assessment"],
            retry_safety: RetrySafety::IdempotentWithFlag,
            per_item_outcome: true,
            note: "One call per person, because the vendor's call for several people returns a single result and would \
                   leave each person's outcome uncertain. A retry is sent with mail switched off.",
            ..supported(WriteKind::AssignmentsCreate)
        },
        Capability::unsupported(
            WriteKind::AssignmentsUpdate,
            "ThinkExam documents neither windows nor proctoring of a booking, nor a way to change one.",
        ),
        Capability {
            per_item_outcome: true,
            note: "An error on a retry proves nothing, because the vendor does not document its response for a test \
                   that is not assigned.",
            ..supported(WriteKind::AssignmentsCancel)
        },
        Capability::unsupported(WriteKind::ProgramsEmployees, "ThinkExam has no programs."),
    ],
    results: ResultCapability {
        source: ResultSource::Webhook,
        in_progress: false,
        corrections: false,
        attempt_times: false,
        parts: true,
        refresh: false,
        note: "ThinkExam sends a webhook when a test is finished. It does not document whether one is repeated, corrected \
               or sent for unfinished tests, and it reports neither times nor a number of the attempt. The gateway \
               receives them if results.mode is \"webhook\".",
    },
};

/// Builds the adapter. Reads secrets but opens no connection.
///
/// # Errors
/// Every invalid setting.
pub fn connect(settings: Settings, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
    let checked = settings.checked(setup)?;
    let client = setup.client(DESCRIPTOR.kind, &checked.base_url, checked.redactor)?;
    let source = match checked.signature {
        Signature::Remote(recipe) => SignatureProvider::Remote(Box::new(RemoteProvider::new(
            client.with_separate_limits(),
            recipe,
            setup.environment.clone(),
        ))),
        Signature::Formula(formula) => SignatureProvider::Formula(Box::new(formula)),
        Signature::Fixed(triple) => SignatureProvider::Fixed(triple),
    };
    let vendor = ThinkExam {
        client: client.clone(),
        source,
        password_encoding: checked.password_encoding,
        default_group: checked.default_group,
        link: checked.link,
        batch: if setup.connection.batch_size == 0 { BATCH } else { setup.connection.batch_size },
        results: checked.results.map(WebhookSource::new),
    };
    // No account name: each customer has a base URL of their own.
    Ok(VendorConnection { vendor: Arc::new(vendor), client, account: String::new() })
}

struct ThinkExam {
    client: Client,
    source: SignatureProvider,
    password_encoding: PasswordEncoding,
    default_group: Option<String>,
    link: Option<Template>,
    batch: usize,
    results: Option<WebhookSource>,
}

#[async_trait]
impl Vendor for ThinkExam {
    fn descriptor(&self) -> &'static VendorDescriptor {
        &DESCRIPTOR
    }

    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        _environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>> {
        plan::registration(id, new, self.default_group.as_deref())
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        plan::update(candidate, touched)
    }

    fn assessment_ref(&self, text: &str) -> Option<String> {
        plan::assessment_ref(text)
    }

    fn program_ref(&self, _text: &str) -> Option<ProgramRef> {
        None
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
        _now: Timestamp,
    ) -> Result<Plan<Booking>, Vec<FieldError>> {
        plan::assignment(id, order, candidate, private, assessment)
    }

    fn registration_batch(&self, registration: &Registration) -> BatchGroup {
        if registration.person.external_id.is_none() {
            return BatchGroup::Single;
        }
        let row = RegistrationRow::of(&registration.person, registration.password.as_ref(), self.password_encoding);
        BatchGroup::Keyed { key: String::new(), at_most: self.batch, bytes: json_length(&row) + 1 }
    }

    fn reconcile_batch(&self, _registration: &Registration) -> BatchGroup {
        // Items are matched by enrolment number or position; with a single row the match is certain.
        BatchGroup::Single
    }

    fn booking_batch(&self, _booking: &Booking) -> BatchGroup {
        BatchGroup::Single
    }

    fn registration_retry_safety(&self, _registration: &Registration) -> RetrySafety {
        RetrySafety::Idempotent
    }

    fn booking_retry_safety(&self, _booking: &Booking) -> RetrySafety {
        RetrySafety::IdempotentWithFlag
    }

    fn rebooks_expired(&self) -> bool {
        false
    }

    async fn register(&self, rows: &[Registration], call: &CallContext) -> Vec<RowResult<Registered>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let twice = client::duplicate_rows(rows);
        let (sent, people): (Vec<usize>, Vec<(&Person, Option<&Secret>)>) = rows
            .iter()
            .enumerate()
            .filter(|(index, _)| !twice.contains(index))
            .map(|(index, row)| (index, (&row.person, row.password.as_ref())))
            .unzip();
        let mut answers = self.enter(WriteKind::CandidatesCreate.as_str(), &people, call).await.into_iter();
        let mut results: Vec<RowResult<Registered>> = Vec::with_capacity(rows.len());
        for index in 0..rows.len() {
            let answered = if sent.contains(&index) { answers.next() } else { None };
            results.push(answered.unwrap_or_else(|| {
                let detail = "An earlier row in the same call has the same e-mail address or enrolment number.";
                Err(VendorError::new(Code::DuplicateItem, detail))
            }));
        }
        results
    }

    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered> {
        let people = [(&update.candidate.person, None)];
        let rows = self.enter(WriteKind::CandidatesUpdate.as_str(), &people, call).await;
        rows.into_iter().next().unwrap_or_else(|| Err(VendorError::new(Code::Internal, "There was no row to send.")))
    }

    async fn hide(&self, _candidate: &CandidateSnapshot, _call: &CallContext) -> RowResult<()> {
        Err(VendorError::new(Code::CapabilityUnsupported, "ThinkExam has no call that hides a person."))
    }

    async fn assign(&self, rows: &[Booking], call: &CallContext) -> Vec<RowResult<Booked>> {
        let mut results = Vec::with_capacity(rows.len());
        for row in rows {
            results.push(self.assign_one(row, call).await);
        }
        results
    }

    async fn cancel(&self, cancellation: &Cancellation, call: &CallContext) -> RowResult<()> {
        let Cancellation { id: _, candidate: VendorKey(email), assessment } = cancellation;
        let body = wire::bytes(&DeassignBody { email, test_id: assessment })?;
        let result = self.single(WriteKind::AssignmentsCancel.as_str(), DEASSIGN, body, call).await;
        match call.purpose {
            CallPurpose::Initial => result.map(WriteSuccess::new),
            // The error may be due to the first attempt, which left nothing to withdraw.
            CallPurpose::Reconcile => result
                .map(WriteSuccess::new)
                .map_err(|fault| VendorError { proves_no_effect: false, ..fault.with_unknown_outcome() }),
        }
    }

    async fn enrol(&self, _enrolment: &EnrolmentBatch, _call: &CallContext) -> RowResult<EnrolmentCounts> {
        Err(VendorError::new(Code::CapabilityUnsupported, "ThinkExam has no programs."))
    }

    fn report_source(&self) -> Option<&dyn ReportSource> {
        self.results.as_ref().map(|source| source as &dyn ReportSource)
    }

    async fn check(&self, call: &CallContext) -> CredentialCheck {
        match &self.source {
            SignatureProvider::Remote(remote) => match remote.renew(call).await {
                Ok(()) => CredentialCheck::Ok { detail: "The signature service returned a signature.".to_owned() },
                Err(fault) => CredentialCheck::Faulty(fault),
            },
            SignatureProvider::Formula(_) | SignatureProvider::Fixed(_) => {
                let detail = "Every ThinkExam call changes data, so nothing was checked.";
                CredentialCheck::Unchecked { detail: detail.to_owned() }
            }
        }
    }
}
