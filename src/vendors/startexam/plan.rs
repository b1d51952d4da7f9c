//! Validation before a write is sent: required fields, decisive fields the vendor does not support, and defaults. A
//! file of its own, because nothing here concerns the wire format.

use jiff::{SignedDuration, Timestamp};

use super::guid::guid;
use super::settings::ProfileFields;
use super::wire::{duplicate_custom_fields, unsupported_fields};
use crate::domain::assignment::{CandidateKey, NewAssignment, Notify};
use crate::domain::candidate::{NewCandidate, Person};
use crate::domain::error::FieldError;
use crate::domain::identity::canonical;
use crate::domain::ids::CandidateId;
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::program::ProgramRef;
use crate::domain::validation::FieldErrors;
use crate::domain::vendor::{CandidateSnapshot, Plan, Registration, Update, VendorKey};
use crate::vendors::is_touched;

/// Validity of a booking if the order sets no end.
const DEFAULT_VALIDITY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Maximum length of a program's external id. Undocumented; we assume the limit of an employee's id.
const EXTERNAL_PROGRAM_ID: usize = 250;

pub(super) fn registration(
    fields: &ProfileFields,
    id: &CandidateId,
    new: NewCandidate,
) -> Result<Plan<Registration>, Vec<FieldError>> {
    let NewCandidate { person, password, if_exists: _ } = new;
    let mut faults = FieldErrors::new();
    if person.external_id.is_none() {
        faults.push(FieldError::missing("/externalId", "is required: StartExam identifies employees by it"));
    }
    faults.extend(duplicate_field_errors(fields, &person));
    let mut warnings: Vec<Warning> =
        unsupported_fields(fields, &person).iter().map(|p| Warning::field_ignored(p)).collect();
    if password.is_some() {
        warnings.push(password_dropped());
    }
    let write = Registration { id: id.clone(), person, own_user_name: false, password: None, own_password: false };
    faults.into_result(Plan { write, warnings })
}

pub(super) fn update(
    fields: &ProfileFields,
    candidate: CandidateSnapshot,
    touched: Vec<String>,
) -> Result<Plan<Update>, Vec<FieldError>> {
    let person = &candidate.person;
    let mut faults = FieldErrors::new();
    let known_as = candidate.vendor_ref.get("id").and_then(serde_json::Value::as_str);
    let renamed = known_as.is_some() && known_as != person.external_id.as_deref();
    if is_touched(&touched, "/externalId") && (renamed || person.external_id.is_none()) {
        let detail = "cannot be changed: StartExam identifies the employee by it";
        faults.push(FieldError::unsupported("/externalId", detail));
    }
    if touched.iter().any(|pointer| pointer == "/custom") && person.custom.is_empty() {
        let detail = "cannot be cleared as a whole; clear its fields one by one";
        faults.push(FieldError::unsupported("/custom", detail));
    }
    faults.extend(duplicate_field_errors(fields, person));
    let ignored = unsupported_fields(fields, person).into_iter().filter(|pointer| is_touched(&touched, pointer));
    let mut warnings: Vec<Warning> = ignored.map(|pointer| Warning::field_ignored(&pointer)).collect();
    if is_touched(&touched, "/password") {
        warnings.push(password_dropped());
    }
    faults.into_result(Plan { write: Update { candidate, touched }, warnings })
}

/// Returns start and end of the booking, or the errors of an order that the vendor does not support.
pub(super) fn order(order: &NewAssignment, now: Timestamp) -> Result<(Timestamp, Timestamp), Vec<FieldError>> {
    let mut faults = FieldErrors::new();
    if order.notify == Notify::VendorEmail {
        faults.push(FieldError::unsupported("/notify", "StartExam sends no mail to candidates"));
    }
    if order.passwordless {
        faults.push(FieldError::unsupported("/passwordless", "StartExam has no passwords for candidates"));
    }
    let from = whole_second(order.valid_from.unwrap_or(now));
    let until = match order.valid_until {
        Some(until) => Some(whole_second(until)),
        None => from.checked_add(DEFAULT_VALIDITY).ok(),
    };
    match until {
        None => faults.push(FieldError::invalid("/validFrom", "is too late")),
        Some(until) if until <= from => {
            let than = if order.valid_from.is_some() { "validFrom" } else { "now, when the assignment starts" };
            faults.push(FieldError::invalid("/validUntil", format!("must be later than {than} (in whole seconds)")));
        }
        Some(_) => {}
    }
    faults.into_result((from, until.unwrap_or(from)))
}

pub(super) fn candidate_key(key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError> {
    let known = person.and_then(|person| person.external_id.clone()).map(|id| VendorKey(id.into()));
    match key {
        // StartExam knows a recorded person by the spelling they were registered in, not by the request's.
        CandidateKey::ExternalId(id) => Ok(known.unwrap_or_else(|| VendorKey(id.as_str().to_owned()))),
        CandidateKey::Id(_) => known.ok_or_else(|| {
            let detail = "names a candidate without externalId, which StartExam needs";
            FieldError::new("/candidate/id", "invalid_reference", detail)
        }),
        CandidateKey::Email(_) => known.ok_or_else(|| {
            let detail = "StartExam does not identify employees by e-mail; use externalId or id";
            FieldError::invalid("/candidate/email", detail)
        }),
    }
}

/// Parses a program reference: a GUID is the vendor's own id, `ext:<id>` the account's. Rejects characters that would
/// change the meaning of a path, although the id is sent in a body: such an id is a mistake or an attack.
pub(super) fn program_ref(text: &str) -> Option<ProgramRef> {
    let Some(external) = text.strip_prefix("ext:") else {
        return guid(text).map(ProgramRef::Id);
    };
    // No person types a control character into a path, not even around the id.
    let external = canonical(external).ok().filter(|_| !external.chars().any(char::is_control))?;
    let fits = external.chars().count() <= EXTERNAL_PROGRAM_ID;
    let odd = external.contains("..") || external.contains(['/', '\\']);
    (fits && !odd).then(|| ProgramRef::External(external.into_owned()))
}

fn duplicate_field_errors(fields: &ProfileFields, person: &Person) -> Vec<FieldError> {
    let detail = "is the profile field of another field in this request";
    duplicate_custom_fields(fields, person).into_iter().map(|pointer| FieldError::invalid(pointer, detail)).collect()
}

fn password_dropped() -> Warning {
    let detail = "StartExam has no passwords for candidates; the password was discarded and is not stored.";
    Warning::with_pointer(WarningCode::FieldIgnored, "/password", detail)
}

/// Truncates to whole seconds, because the vendor's times have no fractions.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
