//! `ThinkExam` (Ginger Webs): registers candidates by e-mail, assigns tests to them and withdraws tests, over the vendor's
//! signed calls (`ak`, `sgn`, `ts`).
//!
//! It must never send a password for a person the vendor already knows, decide by the wording of a success, or take
//! silence for one. What the vendor leaves undocumented is a setting, or leaves the write `unknown`.
//!
//! A registration is "register or log in", so sending it again is harmless. A repeat that settles an unfinished first
//! registration carries the password the first one carried: the first one may never have arrived, and without it the
//! person would be registered with a password nobody knows. Whether a password sent for a known person overwrites theirs
//! is undocumented; here it can only be the very same password. An update never carries one.

mod client;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod plan;
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

pub use self::settings::{
    Algorithm, Encoding, KeyEncoding, Mode, PasswordEncoding, Settings, SignatureSettings, TimeStamp,
};
pub use self::template::Template;
use self::wire::{DeassignBody, RegistrationRow};
use super::{AdapterContext, SettingError, VendorConnection, json_length};
use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, ConnectionRef, Error, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::secret::Secret;
use crate::transport::Client;
use crate::vendors::thinkexam::signature_provider::{RemoteProvider, SignatureProvider};
use crate::vendors::thinkexam::validate::Signature;

const DEASSIGN: &str = "/api/v1/deassignTest";

/// Most rows in one call. The vendor publishes no limit; this is our caution, and `batch_size` replaces it.
const BATCH: usize = 50;

/// What `ThinkExam` is and can do.
pub static DESCRIPTOR: VendorDescriptor = VendorDescriptor {
    kind: "thinkexam",
    name: "ThinkExam",
    documentation: "https://support.thinkexam.com/portal/en/kb",
    identities: &[IdentityKind::ExternalId, IdentityKind::Email],
    // What `ts` is and how old it may be is undocumented.
    clock_tolerance: None,
    capabilities: [
        Capability {
            kind: WriteKind::CandidatesCreate,
            supported: true,
            required: &["/name", "/email"],
            ignored: &["/userName", "/address"],
            max_batch: BATCH,
            retry_safety: RetrySafety::Idempotent,
            per_item_outcome: true,
            read_back: false,
            note: "Registers or logs in. Of custom, extra1, extra2 and extra3 are sent; of phoneNumbers, the mobile one. \
                   Rows without externalId go one per call, since only the enrolment number tells answers apart. The \
                   vendor publishes no batch limit; 50 is the gateway's own unless batch_size says otherwise.",
        },
        Capability {
            kind: WriteKind::CandidatesUpdate,
            supported: true,
            required: &[],
            ignored: &[],
            max_batch: 1,
            retry_safety: RetrySafety::Idempotent,
            per_item_outcome: true,
            read_back: false,
            note: "Only group can change: the person joins it and stays in the earlier ones.",
        },
        Capability::unsupported(WriteKind::CandidatesDelete, "The vendor has no call that hides a person."),
        Capability {
            kind: WriteKind::AssignmentsCreate,
            supported: true,
            required: &["/candidate", "/assessment"],
            ignored: &[],
            max_batch: 1,
            retry_safety: RetrySafety::IdempotentWithFlag,
            per_item_outcome: true,
            read_back: false,
            note: "One call a person: the vendor's call for several answers once for all, and would leave nobody's outcome \
                   certain. A repeat has mail switched off.",
        },
        Capability {
            kind: WriteKind::AssignmentsCancel,
            supported: true,
            required: &[],
            ignored: &[],
            max_batch: 1,
            retry_safety: RetrySafety::Idempotent,
            per_item_outcome: true,
            read_back: false,
            note: "An error on a repeat proves nothing, since what the vendor says of a test not assigned is undocumented.",
        },
        Capability::unsupported(WriteKind::ProgramsEmployees, "The vendor has no programs."),
    ],
};

/// Builds the adapter. Reads secrets, opens no connection.
///
/// # Errors
/// Every setting that cannot work.
pub fn connect(settings: Settings, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
    let checked = settings.checked(setup)?;
    let name = ConnectionRef { connection: setup.name.to_owned(), vendor: DESCRIPTOR.kind.to_owned() };
    let client = Client::new(name, &checked.base_url, setup.connection, checked.redactor, setup.environment.clone())
        .map_err(|error| vec![SettingError { key: "base_url".to_owned(), detail: error.to_string() }])?;
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
    };
    // Each customer has an address of their own.
    Ok(VendorConnection { vendor: Arc::new(vendor), client, account: String::new() })
}

struct ThinkExam {
    client: Client,
    source: SignatureProvider,
    password_encoding: PasswordEncoding,
    default_group: Option<String>,
    link: Option<Template>,
    batch: usize,
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
        // An answer is read by enrolment number or place; alone there is no doubt which row it is about.
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
        let twice = client::twins(rows);
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
                let detail = "An earlier row of the same call has the same e-mail address or enrolment number.";
                Err(Error::new(Code::DuplicateItem, detail))
            }));
        }
        results
    }

    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered> {
        let people = [(&update.candidate.person, None)];
        let rows = self.enter(WriteKind::CandidatesUpdate.as_str(), &people, call).await;
        rows.into_iter().next().unwrap_or_else(|| Err(Error::new(Code::Internal, "There was no row to send.")))
    }

    async fn hide(&self, _candidate: &CandidateSnapshot, _call: &CallContext) -> RowResult<()> {
        Err(Error::new(Code::CapabilityUnsupported, "ThinkExam has no call that hides a person."))
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
            // The first attempt may be the very reason why there is nothing left to withdraw.
            CallPurpose::Reconcile => {
                result.map(WriteSuccess::new).map_err(|fault| Error { proof: false, ..fault.with_unknown_outcome() })
            }
        }
    }

    async fn enrol(&self, _enrolment: &EnrolmentBatch, _call: &CallContext) -> RowResult<EnrolmentCounts> {
        Err(Error::new(Code::CapabilityUnsupported, "ThinkExam has no programs."))
    }

    async fn check(&self, call: &CallContext) -> CredentialCheck {
        match &self.source {
            SignatureProvider::Remote(remote) => match remote.renew(call).await {
                Ok(()) => CredentialCheck::Ok { detail: "The signature service gave a signature.".to_owned() },
                Err(fault) => CredentialCheck::Faulty(Box::new(fault)),
            },
            SignatureProvider::Formula(_) | SignatureProvider::Fixed(_) => {
                let detail = "Every call of ThinkExam changes something, so nothing was tried.";
                CredentialCheck::Unchecked { detail: detail.to_owned() }
            }
        }
    }
}
