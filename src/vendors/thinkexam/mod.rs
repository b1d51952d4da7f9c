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

mod error;
mod plan;
mod settings;
mod sign;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use self::error::{Reading, Suspicion};
use self::settings::Signature;
pub use self::settings::{Algorithm, Encoding, KeyEncoding, Mode, PasswordEncoding, Settings, SignatureSettings};
use self::source::{Remote, Source};
pub use self::template::Template;
use self::wire::{AssignBody, DeassignBody, Item, RegistrationRow, Reply, Said};
use super::{Connected, SettingFault, Setup};
use crate::domain::assignment::{CandidateKey, Launch, NewAssignment, Notify};
use crate::domain::candidate::{NewCandidate, Person};
use crate::domain::capability::{Capability, Descriptor, Operation, Repeat};
use crate::domain::environment::Environment;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::Warning;
use crate::domain::problem::{Code, ConnectionName, Fault, FieldFault};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::text::folded;
use crate::domain::vendor::{
    Applied, Attempt, Booked, Booking, Call, Cancellation, EnrolmentCall, Health, KnownCandidate, Packing, Planned,
    Registered, Registration, Row, Update, Vendor, VendorKey,
};
use crate::secret::Secret;
use crate::transport::{Answer, Client, Request, Target};

const REGISTER: &str = "/api/v1/bulkCandidateRegister";
const ASSIGN: &str = "/api/v1/assignTest";
const DEASSIGN: &str = "/api/v1/deassignTest";

/// Most rows in one call. The vendor publishes no limit; this is our caution, and `batch_size` replaces it.
const BATCH: usize = 50;
/// Under which name a sign-in token is kept with a candidate.
const TOKEN: &str = "token";
/// RFC 3986 §2.3: what needs no escape anywhere in an address.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What `ThinkExam` is and can do.
pub static DESCRIPTOR: Descriptor = Descriptor {
    kind: "thinkexam",
    name: "ThinkExam",
    documentation: "https://support.thinkexam.com/portal/en/kb",
    by_email: true,
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
    Ok(Connected { vendor: std::sync::Arc::new(vendor), client })
}

struct ThinkExam {
    client: Client,
    source: Source,
    password_encoding: PasswordEncoding,
    default_group: Option<String>,
    link: Option<Template>,
    batch: usize,
}

/// An answer with what has to be masked in it.
struct Exchanged {
    answer: Answer,
    reply: Reply,
    masks: Vec<Secret>,
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
        Packing::Together { key: String::new(), at_most: self.batch }
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

    async fn register(&self, rows: &[Registration], call: &Call) -> Vec<Row<Registered>> {
        let twice = twins(rows);
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

impl ThinkExam {
    /// Registers people, or enters known ones in another group.
    async fn enter(
        &self,
        operation: &'static str,
        people: &[(&Person, Option<&Secret>)],
        call: &Call,
    ) -> Vec<Row<Registered>> {
        let rows: Vec<RegistrationRow<'_>> = people
            .iter()
            .map(|(person, password)| RegistrationRow::of(person, *password, self.password_encoding))
            .collect();
        let passwords = people.iter().filter_map(|(_, password)| password.cloned()).collect();
        let exchanged = match wire::bytes(&rows) {
            Ok(body) => self.exchange(operation, REGISTER, body, passwords, call).await,
            Err(fault) => Err(fault),
        };
        match exchanged {
            Ok(exchanged) => {
                let numbers: Vec<Option<&str>> =
                    people.iter().map(|(person, _)| person.external_id.as_deref()).collect();
                self.rows_of(operation, &numbers, &exchanged)
            }
            Err(fault) => people.iter().map(|_| Err(fault.clone())).collect(),
        }
    }

    fn rows_of(
        &self,
        operation: &'static str,
        numbers: &[Option<&str>],
        exchanged: &Exchanged,
    ) -> Vec<Row<Registered>> {
        let Exchanged { answer, reply, masks } = exchanged;
        let reading = Reading { client: &self.client, operation, answer, masks: masks.clone() };
        let all = |fault: Fault| numbers.iter().map(|_| Err(fault.clone())).collect();
        let several = numbers.len() > 1;
        let items = match (&reply.items, &reply.single) {
            (Some(items), _) => items.as_slice(),
            (None, Some(single)) if !several => std::slice::from_ref(single),
            (None, _) => &[],
        };
        if let Some(fault) = reading.fault(&reply.said) {
            if reply.items.is_some() && !items.is_empty() {
                return all(reading.bad_response("ThinkExam's answer is an error and has items of its own."));
            }
            return all(if several { fault.of_call() } else { fault });
        }
        wire::places(numbers, items)
            .into_iter()
            .map(|place| match place.and_then(|index| items.get(index)) {
                Some(item) => self.row_of(&reading, item),
                None => {
                    Err(reading.bad_response("ThinkExam's answer does not tell which item is about this candidate."))
                }
            })
            .collect()
    }

    fn row_of(&self, reading: &Reading<'_>, item: &Item) -> Row<Registered> {
        if let Some(fault) = reading.fault(&item.said) {
            return Err(fault);
        }
        let Item { said: _, enrollment_no, student_id, profile_pic, token } = item;
        let told = [("id", student_id), ("enrollmentNumber", enrollment_no), ("profilePic", profile_pic)];
        let vendor_ref: Map<String, Value> = told
            .into_iter()
            .filter_map(|(name, value)| value.clone().map(|value| (name.to_owned(), Value::from(value))))
            .collect();
        let token = token.as_ref().filter(|_| self.link.as_ref().is_some_and(|link| link.uses(TOKEN)));
        let private = token.map(|token| (TOKEN.to_owned(), token.expose().to_owned())).into_iter().collect();
        let detail = "ThinkExam reported success without an id.";
        let warnings = if student_id.is_some() { Vec::new() } else { vec![Warning::new("vendor_id_missing", detail)] };
        Ok(Applied { value: Registered { vendor_ref, private }, warnings })
    }

    async fn assign_one(&self, booking: &Booking, call: &Call) -> Row<Booked> {
        let VendorKey(email) = &booking.candidate;
        let mail = booking.notify == Notify::VendorEmail;
        let settling = call.attempt == Attempt::Settling;
        let body = wire::bytes(&AssignBody {
            email,
            test_id: &booking.assessment,
            // A repeat must not mail the candidate twice.
            is_mail_enable: wire::flag(mail && !settling),
            is_password_skip: wire::flag(booking.passwordless),
        })?;
        self.single(Operation::AssignmentsCreate.as_str(), ASSIGN, body, call).await?;
        let mut warnings = Vec::new();
        if mail && settling {
            let detail = "An attempt whose outcome was unclear asked for the mail; whether it was sent is not known.";
            warnings.push(Warning::at("mail_uncertain", "/notify", detail));
        }
        let launch = self.launch(booking, &mut warnings);
        Ok(Applied { value: Booked { vendor_ref: Map::new(), launch, already_there: false }, warnings })
    }

    fn launch(&self, booking: &Booking, warnings: &mut Vec<Warning>) -> Option<Launch> {
        let link = self.link.as_ref()?;
        let token = booking.private.get(TOKEN);
        if token.is_none() && link.uses(TOKEN) {
            let detail = "The launch link needs a sign-in token, and ThinkExam gave none for this candidate.";
            warnings.push(Warning::new("launch_unknown", detail));
            return None;
        }
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let url = link.filled(|name| match name {
            "email" => Some(escaped(&booking.candidate.0)),
            TOKEN => token.map(|token| escaped(token)),
            _ => None,
        });
        Some(Launch { url, expires_at: None })
    }

    /// A call with one answer.
    async fn single(&self, operation: &'static str, path: &str, body: Bytes, call: &Call) -> Result<(), Fault> {
        let Exchanged { answer, reply, masks } = self.exchange(operation, path, body, Vec::new(), call).await?;
        let reading = Reading { client: &self.client, operation, answer: &answer, masks };
        reading.fault(&reply.said).map_or(Ok(()), Err)
    }

    /// Sends a signed call; once more with a fresh signature when the first one seems to have been refused for it.
    async fn exchange(
        &self,
        operation: &'static str,
        path: &str,
        body: Bytes,
        secrets: Vec<Secret>,
        call: &Call,
    ) -> Result<Exchanged, Fault> {
        let mut renewed = false;
        loop {
            let ticket = self.source.ticket(call);
            let answer = self.client.send(request(operation, path, body.clone()), &ticket, call).await?;
            let used = ticket.used();
            let signature = used.as_ref().map(sign::Triple::secrets).into_iter().flatten().cloned();
            let masks: Vec<Secret> = secrets.iter().cloned().chain(signature).collect();
            let reading = Reading { client: &self.client, operation, answer: &answer, masks: masks.clone() };
            // A redirect is never followed, and what its body says is no answer to this call.
            let redirect = answer.status.is_redirection();
            let reply = if redirect { Reply::silent() } else { Reply::read(&answer.body) };
            match reading.suspicion(&reply.said) {
                Some(_) if !renewed && self.source.renews() => {
                    self.source.refused(used.as_ref()).await;
                    renewed = true;
                }
                Some(Suspicion::Signature) => return Err(reading.credentials(&reply.said)),
                Some(Suspicion::Expiry) | None => return Ok(Exchanged { answer, reply, masks }),
            }
        }
    }
}

fn request(operation: &'static str, path: &str, body: Bytes) -> Request {
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, json.clone()), (ACCEPT, json)]);
    Request { operation, method: Method::POST, target: Target::Path(path.to_owned()), headers, body }
}

/// Rows that would be taken for an earlier one of the same call. The gateway sends no such call; if it ever did, the
/// vendor's answer could not be told apart.
fn twins(rows: &[Registration]) -> HashSet<usize> {
    let mut emails = HashSet::new();
    let mut numbers = HashSet::new();
    rows.iter()
        .enumerate()
        .filter(|(_, row)| {
            let email = row.person.email.as_deref().is_none_or(|email| emails.insert(folded(email)));
            let number =
                row.person.external_id.as_deref().is_none_or(|number| numbers.insert(number.trim().to_owned()));
            !(email && number)
        })
        .map(|(index, _)| index)
        .collect()
}
