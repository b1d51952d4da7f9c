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

mod calls;
mod check;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod plan;
mod settings;
mod sign;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use self::check::Signature;
pub use self::settings::{
    Algorithm, Encoding, KeyEncoding, Mode, PasswordEncoding, Settings, SignatureSettings, TimeStamp,
};
use self::source::{Remote, Source};
pub use self::template::Template;
use self::wire::{DeassignBody, RegistrationRow};
use super::{Connected, SettingFault, Setup, json_length};
use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, Descriptor, Operation, Repeat};
use crate::domain::environment::Environment;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::problem::{Code, ConnectionName, Fault, FieldFault};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::vendor::{
    Applied, Attempt, Booked, Booking, Call, Cancellation, EnrolmentCall, Health, KnownCandidate, Packing, Planned,
    Registered, Registration, Row, Update, Vendor, VendorKey,
};
use crate::secret::Secret;
use crate::transport::Client;

const DEASSIGN: &str = "/api/v1/deassignTest";

/// Most rows in one call. The vendor publishes no limit; this is our caution, and `batch_size` replaces it.
const BATCH: usize = 50;

/// What `ThinkExam` is and can do.
pub static DESCRIPTOR: Descriptor = Descriptor {
    kind: "thinkexam",
    name: "ThinkExam",
    documentation: "https://support.thinkexam.com/portal/en/kb",
    identities: &[IdentityKind::ExternalId, IdentityKind::Email],
    // What `ts` is and how old it may be is undocumented.
    clock_tolerance: None,
    capabilities: [
        Capability {
            operation: Operation::CandidatesCreate,
            supported: true,
            required: &["/name", "/email"],
            ignored: &["/userName", "/address"],
            max_batch: BATCH,
            repeat: Repeat::Harmless,
            per_item_outcome: true,
            read_back: false,
            note: "Registers or logs in. Of custom, extra1, extra2 and extra3 are sent; of phoneNumbers, the mobile one. \
                   Rows without externalId go one per call, since only the enrolment number tells answers apart. The \
                   vendor publishes no batch limit; 50 is the gateway's own unless batch_size says otherwise.",
        },
        Capability {
            operation: Operation::CandidatesUpdate,
            supported: true,
            required: &[],
            ignored: &[],
            max_batch: 1,
            repeat: Repeat::Harmless,
            per_item_outcome: true,
            read_back: false,
            note: "Only group can change: the person joins it and stays in the earlier ones.",
        },
        Capability::unsupported(Operation::CandidatesDelete, "The vendor has no call that hides a person."),
        Capability {
            operation: Operation::AssignmentsCreate,
            supported: true,
            required: &["/candidate", "/assessment"],
            ignored: &[],
            max_batch: 1,
            repeat: Repeat::HarmlessWithFlag,
            per_item_outcome: true,
            read_back: false,
            note: "One call a person: the vendor's call for several answers once for all, and would leave nobody's outcome \
                   certain. A repeat has mail switched off.",
        },
        Capability {
            operation: Operation::AssignmentsCancel,
            supported: true,
            required: &[],
            ignored: &[],
            max_batch: 1,
            repeat: Repeat::Harmless,
            per_item_outcome: true,
            read_back: false,
            note: "An error on a repeat proves nothing, since what the vendor says of a test not assigned is undocumented.",
        },
        Capability::unsupported(Operation::ProgramsEmployees, "The vendor has no programs."),
    ],
};

/// Builds the adapter. Reads secrets, opens no connection.
///
/// # Errors
/// Every setting that cannot work.
pub fn connect(settings: Settings, setup: &Setup<'_>) -> Result<Connected, Vec<SettingFault>> {
    let checked = settings.checked(setup)?;
    let name = ConnectionName { connection: setup.name.to_owned(), vendor: DESCRIPTOR.kind.to_owned() };
    let client = Client::new(name, &checked.base_url, setup.connection, checked.redactor, setup.environment.clone())
        .map_err(|error| vec![SettingFault { key: "base_url".to_owned(), detail: error.to_string() }])?;
    let source = match checked.signature {
        Signature::Remote(recipe) => {
            Source::Remote(Box::new(Remote::new(client.sibling(), recipe, setup.environment.clone())))
        }
        Signature::Formula(formula) => Source::Formula(Box::new(formula)),
        Signature::Fixed(triple) => Source::Fixed(triple),
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
    Ok(Connected { vendor: Arc::new(vendor), client, account: String::new() })
}

struct ThinkExam {
    client: Client,
    source: Source,
    password_encoding: PasswordEncoding,
    default_group: Option<String>,
    link: Option<Template>,
    batch: usize,
}

#[async_trait]
impl Vendor for ThinkExam {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        _environment: &Environment,
    ) -> Result<Planned<Registration>, Vec<FieldFault>> {
        plan::registration(id, new, self.default_group.as_deref())
    }

    fn plan_update(&self, candidate: KnownCandidate, touched: Vec<String>) -> Result<Planned<Update>, Vec<FieldFault>> {
        plan::update(candidate, touched)
    }

    fn assessment_ref(&self, text: &str) -> Option<String> {
        plan::assessment_ref(text)
    }

    fn program_ref(&self, _text: &str) -> Option<ProgramRef> {
        None
    }

    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldFault> {
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
    ) -> Result<Planned<Booking>, Vec<FieldFault>> {
        plan::assignment(id, order, candidate, private, assessment)
    }

    fn packing_of_registration(&self, registration: &Registration) -> Packing {
        if registration.person.external_id.is_none() {
            return Packing::Alone;
        }
        let row = RegistrationRow::of(&registration.person, registration.password.as_ref(), self.password_encoding);
        Packing::Together { key: String::new(), at_most: self.batch, bytes: json_length(&row) + 1 }
    }

    fn packing_of_repeated_registration(&self, _registration: &Registration) -> Packing {
        // An answer is read by enrolment number or place; alone there is no doubt which row it is about.
        Packing::Alone
    }

    fn packing_of_booking(&self, _booking: &Booking) -> Packing {
        Packing::Alone
    }

    fn repeat_of_registration(&self, _registration: &Registration) -> Repeat {
        Repeat::Harmless
    }

    fn repeat_of_booking(&self, _booking: &Booking) -> Repeat {
        Repeat::HarmlessWithFlag
    }

    fn rebooks_expired(&self) -> bool {
        false
    }

    async fn register(&self, rows: &[Registration], call: &Call) -> Vec<Row<Registered>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let twice = calls::twins(rows);
        let (sent, people): (Vec<usize>, Vec<(&Person, Option<&Secret>)>) = rows
            .iter()
            .enumerate()
            .filter(|(index, _)| !twice.contains(index))
            .map(|(index, row)| (index, (&row.person, row.password.as_ref())))
            .unzip();
        let mut answers = self.enter(Operation::CandidatesCreate.as_str(), &people, call).await.into_iter();
        let mut results: Vec<Row<Registered>> = Vec::with_capacity(rows.len());
        for index in 0..rows.len() {
            let answered = if sent.contains(&index) { answers.next() } else { None };
            results.push(answered.unwrap_or_else(|| {
                let detail = "An earlier row of the same call has the same e-mail address or enrolment number.";
                Err(Fault::new(Code::DuplicateItem, detail))
            }));
        }
        results
    }

    async fn update(&self, update: &Update, call: &Call) -> Row<Registered> {
        let people = [(&update.candidate.person, None)];
        let rows = self.enter(Operation::CandidatesUpdate.as_str(), &people, call).await;
        rows.into_iter().next().unwrap_or_else(|| Err(Fault::new(Code::Internal, "There was no row to send.")))
    }

    async fn hide(&self, _candidate: &KnownCandidate, _call: &Call) -> Row<()> {
        Err(Fault::new(Code::CapabilityUnsupported, "ThinkExam has no call that hides a person."))
    }

    async fn assign(&self, rows: &[Booking], call: &Call) -> Vec<Row<Booked>> {
        let mut results = Vec::with_capacity(rows.len());
        for row in rows {
            results.push(self.assign_one(row, call).await);
        }
        results
    }

    async fn cancel(&self, cancellation: &Cancellation, call: &Call) -> Row<()> {
        let Cancellation { id: _, candidate: VendorKey(email), assessment } = cancellation;
        let body = wire::bytes(&DeassignBody { email, test_id: assessment })?;
        let result = self.single(Operation::AssignmentsCancel.as_str(), DEASSIGN, body, call).await;
        match call.attempt {
            Attempt::First => result.map(Applied::clean),
            // The first attempt may be the very reason why there is nothing left to withdraw.
            Attempt::Settling => result.map(Applied::clean).map_err(|fault| Fault { proof: false, ..fault.unproved() }),
        }
    }

    async fn enrol(&self, _enrolment: &EnrolmentCall, _call: &Call) -> Row<EnrolmentCounts> {
        Err(Fault::new(Code::CapabilityUnsupported, "ThinkExam has no programs."))
    }

    async fn check(&self, call: &Call) -> Health {
        match &self.source {
            Source::Remote(remote) => match remote.renew(call).await {
                Ok(()) => Health::Ok { detail: "The signature service gave a signature.".to_owned() },
                Err(fault) => Health::Faulty(Box::new(fault)),
            },
            Source::Formula(_) | Source::Fixed(_) => {
                let detail = "Every call of ThinkExam changes something, so nothing was tried.";
                Health::Unchecked { detail: detail.to_owned() }
            }
        }
    }
}
